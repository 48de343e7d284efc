r"""Servers in short turns, all of them up at once: ``python -m benchmarks.pairs small --closed 8 64 --open 4000``.

The same servers, requests and checks as in `benchmarks.peers`, in turns as `benchmarks.turns` says.

Where should a batch run? Split over the CPUs inside ONNX Runtime (the default), on the event loop with one CPU, or in a
thread, so that the loop goes on for as long as it has Python's lock::

    python -m benchmarks.pairs --servers keras-serving \
        --settings SERVING_THREADS=1,SERVING_INLINE_MS=1000 SERVING_THREADS=1,SERVING_INLINE_MS=0
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.bench import pictures
from benchmarks.peers.capacity import BOUND_MS
from benchmarks.peers.contenders import OURS, WIDE_MOSEC, gather, missing_environments, peers_of, two_processes
from benchmarks.peers.measure import open_load
from benchmarks.servers import BenchmarkError, Contender, end_on_sigterm
from benchmarks.turns import Spans, Turns, measure, middle, ratio
from models.bundle import Bundle


def table(spans: Spans, first: str) -> str:
    """A line for each load and server: medians, and those of the rounds' ratios to ``first``."""
    wide = max(len(name) for _, name in spans)
    lines = [f"{'':16} {'':{wide}} {'requests/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'CPU us':>7}  beside {first}"]
    for (how, name), found in spans.items():
        kind, size = how
        of, others = middle(found), spans[how, first]
        if kind == "closed":
            beside = f"{ratio(found, others):.1%} of its requests/s"
        else:
            held = sum(span.p99_ms < BOUND_MS for span in found)
            share = ratio(found, others, "p99_ms")
            beside = f"{share:.1%} of its p99; below {BOUND_MS:g} ms in {held} of {len(found)} turns"
        load_of = f"{size:,.0f} connections" if kind == "closed" else f"{size:,.0f}/s offered"
        figures = f"{of.requests_per_s:10,.0f} {of.p50_ms:8.2f} {of.p99_ms:8.2f} {of.cpu_us:7.0f}"
        lines.append(f"{load_of:16} {name:{wide}} {figures}  {beside}")
    return "\n".join(lines)


def chosen(options: argparse.Namespace, bundles: Path) -> list[Contender]:
    """The servers that are asked for.

    Raises:
        BenchmarkError: There is no such server.
    """
    found = peers_of(Bundle.open(bundles / options.model), bundles)
    if options.two_workers:
        return two_processes(found, options.model, bundles)
    unknown = set(options.servers) - set(found)
    if unknown:
        raise BenchmarkError(f"no server {', '.join(sorted(unknown))}; there are: {', '.join(found)}")
    others = [_at(found[OURS], folder.resolve()) for folder in options.checkout]
    others += [_with(found[OURS], settings) for settings in options.settings]
    return [*(found[name] for name in options.servers), *others]


def _at(ours: Contender, checkout: Path) -> Contender:
    """Our server with the code of another checkout, in the same environment."""
    environment = {**ours.environment, "PYTHONPATH": str(checkout)}
    return replace(ours, name=f"{ours.name} of {checkout.name}", environment=environment)


def _settings(text: str) -> dict[str, str]:
    named = [one.partition("=") for one in text.split(",")]
    if not all(name.startswith("SERVING_") and equals for name, equals, _ in named):
        raise argparse.ArgumentTypeError(f"must be SERVING_...=VALUE[,SERVING_...=VALUE...], not {text!r}")
    return {name: value for name, _, value in named}


def _with(ours: Contender, settings: Mapping[str, str]) -> Contender:
    """Our server with other settings, which are its name."""
    name = ",".join(f"{name}={value}" for name, value in settings.items())
    return replace(ours, name=name, environment={**ours.environment, **settings})


def compare(options: argparse.Namespace, bundles: Path) -> str:
    """Measure; the table.

    Raises:
        BenchmarkError: A server or the load generator failed.
    """
    contenders = chosen(options, bundles)
    loads = (*(("closed", size) for size in options.closed), *(("open", rate) for rate in options.open))
    turns = Turns(loads, options.rounds, options.seconds, options.starts)
    asked = pictures(Bundle.open(bundles / options.model))
    return table(measure(contenders, asked, turns, open_load), contenders[0].name)


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="small", help="of models/pretrained, or small [%(default)s]")
    parser.add_argument("--servers", nargs="+", default=[OURS, WIDE_MOSEC], help="names as in docs/performance.md")
    parser.add_argument("--checkout", type=Path, nargs="*", default=[], help="ours with other code, from such folders")
    others = "ours with other settings, each SERVING_...=VALUE[,SERVING_...=VALUE...]"
    parser.add_argument("--settings", type=_settings, nargs="*", default=[], help=others)
    parser.add_argument("--two-workers", action="store_true", help="ours and mosec, two processes each, instead")
    parser.add_argument("--closed", type=int, nargs="*", default=[1, 8, 32, 64, 256], help="connections")
    parser.add_argument("--open", type=float, nargs="*", default=[], help="rates of random arrivals, requests/s")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn [%(default)s]")
    parser.add_argument("--rounds", type=int, default=10, help="of each start [%(default)s]")
    parser.add_argument("--starts", type=int, default=1, help="how often all are started anew [%(default)s]")
    return parser.parse_args(arguments)


def main() -> int:
    """Exit status 1 where something could not be measured."""
    options = options_of()
    end_on_sigterm()
    peers = options.two_workers or set(options.servers) != {OURS}
    if peers and (missing := missing_environments()):
        print(f"pairs: make bench-peers installs {', '.join(missing)}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        gather(Path(folder))
        try:
            print(compare(options, Path(folder)))
        except BenchmarkError as error:
            print(f"pairs: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
