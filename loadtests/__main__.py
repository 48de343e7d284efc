"""Start a server of the shipped models, run the load test against it, stop it: ``python -m loadtests``.

Everything after ``--`` goes to locust. With ``--host`` a server that runs already is loaded instead.
Exit status: 0 within all thresholds, 1 one of them missed, 2 wrong arguments, 3 the test could not be carried out.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.servers import BenchmarkError, end_on_sigterm
from loadtests.formats import FORMATS, PAYLOADS, PROTOCOLS
from loadtests.redeploy import RedeployError, both, switching
from loadtests.served import Served, serving
from loadtests.shapes import SECONDS, SHAPES
from loadtests.verdict import IMPOSSIBLE, MET
from models.bundle import Bundle

CLASSES = {
    "native": "NativeUser",
    "tfserving": "TensorFlowServingUser",
    "openinference": "OpenInferenceUser",
    "grpc": "GrpcUser",
}
_SIZES = {"1": "many", "32": "single"}
"""Rows, if they alone are chosen -> the tag of the requests that are left out."""
_OVERLOAD_USERS, _OVERLOAD_P99_MS = 200, 10_000


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The arguments, with the defaults that depend on the shape."""
    parser = argparse.ArgumentParser(
        "loadtests", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--shape", choices=tuple(SHAPES), default="steady", help="[%(default)s]")
    add("--users", type=int, help=f"the most there will be [20; overload {_OVERLOAD_USERS}]")
    add("--seconds", type=float, help=f"[20; {', '.join(f'{name} {value}' for name, value in SECONDS.items())}]")
    add("--protocols", type=_chosen(PROTOCOLS), default=PROTOCOLS, help=f"of {','.join(PROTOCOLS)} [all]")
    add("--payloads", type=_chosen(PAYLOADS), default=PAYLOADS, help=f"of {','.join(PAYLOADS)} [all]")
    add("--rows", type=_chosen(tuple(_SIZES)), help="of a request: 1, 32 or both [1,32; overload 32]")
    add("--models", default="", help="comma-separated names [all]")
    add("--host", help="URL of a running server [start one on free ports]")
    add("--grpc", default="", help="HOST:PORT of gRPC of --host [its port 3001]")
    add("--home", type=Path, help="SERVING_HOME of --host, for --shape redeploy")
    add("--redeploy", default="", metavar="MODEL", help="what is switched [the first that gives values]")
    add("--workers", type=int, default=1, help="processes of the server that is started [%(default)s]")
    add("--processes", type=int, default=1, help="locust processes [%(default)s]")
    add("--bundles", type=Path, default=Path("models/pretrained"), help="that are served [%(default)s]")
    add("--html", type=Path, default=Path("reports/loadtest.html"), help="[%(default)s]")
    add("--csv", type=Path, default=Path("reports/loadtest"), help="prefix of the files [%(default)s]")
    add("locust", nargs="*", help="further arguments of locust, such as thresholds, after --")
    options = parser.parse_args(arguments)
    overload = options.shape == "overload"
    options.users = options.users or (_OVERLOAD_USERS if overload else 20)
    options.seconds = options.seconds or SECONDS.get(options.shape, 20)
    options.rows = options.rows or (("32",) if overload else tuple(_SIZES))
    if not classes(options):
        parser.error("none of --protocols has any of --payloads")
    if options.shape == "redeploy" and options.host and not options.home:
        parser.error("--shape redeploy changes the store of the server: with --host give its --home too")
    return options


def _chosen(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def chosen(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"any of {', '.join(known)}, comma-separated. Received: {unknown[0]!r}")
        return names

    return chosen


def classes(options: argparse.Namespace) -> list[str]:
    """The users of the chosen protocols that can send a chosen payload."""
    pairs = {protocol for protocol, payload in FORMATS if payload in options.payloads}
    return [CLASSES[protocol] for protocol in options.protocols if protocol in pairs]


def command_line(options: argparse.Namespace, served: Served, bundles: Path) -> list[str]:
    """That of locust."""
    left_out = [_SIZES[rows] for rows in options.rows] if len(options.rows) == 1 else []
    # The names of users are the only arguments without a flag, so they come before those that take several values.
    return [
        *(sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py"))),
        *classes(options),
        *("--headless", "--only-summary", "--host", served.url, "--grpc", served.grpc, "--bundles", str(bundles)),
        *("--models", options.models, "--shape", options.shape, "--seconds", f"{options.seconds:g}"),
        *("--users", str(options.users), "--stop-timeout", "5"),
        *("--html", str(options.html), "--csv", str(options.csv)),
        *(("--processes", str(options.processes)) if options.processes > 1 else ()),
        *(("--max-p99-ms", str(_OVERLOAD_P99_MS)) if options.shape == "overload" else ()),
        *options.locust,
        *(("--exclude-tags", *left_out) if left_out else ()),
        *(("--tags", *options.payloads) if options.payloads != PAYLOADS else ()),
    ]


def main() -> int:
    """The exit status."""
    options = parsed()
    end_on_sigterm()
    with ExitStack() as stack:
        try:
            return _run(options, stack)
        except (BenchmarkError, RedeployError) as error:
            print(f"loadtests: {error}", file=sys.stderr)
            return IMPOSSIBLE


def _run(options: argparse.Namespace, stack: ExitStack) -> int:
    bundles: Path = options.bundles
    if options.host:
        served = Served(options.host.rstrip("/"), options.grpc, options.home)
    else:
        served = stack.enter_context(serving(bundles, options.workers))
    change: Bundle | None = None
    if options.shape == "redeploy":
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="versions-")))
        bundles, change = both(bundles, options.redeploy, folder)
    for path in (options.html, options.csv):
        path.parent.mkdir(parents=True, exist_ok=True)
    if change is None or served.home is None:
        return _locust(options, served, bundles)
    with switching(served.home, change, options.seconds / 8, lambda line: print(line, flush=True)) as switches:
        status = _locust(options, served, bundles)
    if switches.problem:
        raise RedeployError(switches.problem)
    lost = "no answer was lost or wrong" if status == MET else "see above"
    print(f"{change.manifest.name}: {switches.switches} switches of version under load: {lost}", flush=True)
    return status


def _locust(options: argparse.Namespace, served: Served, bundles: Path) -> int:
    return subprocess.run(command_line(options, served, bundles), check=False).returncode  # noqa: S603 - no shell


if __name__ == "__main__":
    sys.exit(main())
