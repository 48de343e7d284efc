"""Us beside other servers with the same ONNX graph, in one run.

Every server runs alone, is started anew in each round, and has every answer checked; the fastest take short turns at
the end, all up at once. The results lie in the record after each step: --resume goes on with a run that was stopped,
--render makes the page of a record again. Only loopback addresses are used.
"""

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from benchmarks.peers import contenders as who
from benchmarks.peers.about import about
from benchmarks.peers.measure import Bench
from benchmarks.peers.page import publish
from benchmarks.peers.plans import PRESETS, Preset, steps
from benchmarks.peers.record import Record
from benchmarks.servers import end_on_sigterm


def measure(preset: Preset, record: Record) -> None:
    """Carry out what the record does not have yet, within the preset's time."""
    started = monotonic()
    everything = steps(preset)
    with tempfile.TemporaryDirectory(prefix="bundles-") as folder:
        who.gather(Path(folder))
        bench = Bench(Path(folder), preset, record)
        for number, step in enumerate(everything, 1):
            minutes = (monotonic() - started) / 60
            if step.key in record.results:
                continue
            if minutes > preset.minutes:
                print(f"{preset.minutes:g} minutes are over: {len(everything) - number + 1} steps are left out.")
                break
            what = f"{step.kind} {step.model} {step.contender}, round {step.number}"
            print(f"[{number}/{len(everything)}, {minutes:.1f} min] {what}", flush=True)
            bench.do(step)
    record.about["finished"] = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    record.write()


def main() -> int:
    """Measure and write; exit 2 when an environment is missing, 1 when a step failed."""
    parser = argparse.ArgumentParser(
        "bench-peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="about 6 minutes and fewer figures, not about 50")
    parser.add_argument("--record", type=Path, default=Path("reports/peers.json"), help="results [%(default)s]")
    parser.add_argument("--resume", action="store_true", help="go on with the record, with its preset")
    parser.add_argument("--render", action="store_true", help="measure nothing: make the page of the record again")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder of the page, its plots and record")
    options = parser.parse_args()
    end_on_sigterm()
    try:
        if options.render or options.resume:
            record = Record.read(options.record)
        else:
            record = Record(options.record, about(who.ROOT, "quick" if options.quick else "full"))
    except ValueError as error:
        print(f"bench-peers: {error}", file=sys.stderr)
        return 2
    if not options.render:
        if missing := who.missing_environments():
            print(f"bench-peers: not installed: {', '.join(missing)}. Run make bench-peers.", file=sys.stderr)
            return 2
        measure(PRESETS[record.about["preset"]], record)
    page = publish(record, options.out)
    print(f"{page}, from {options.record}")
    for key, why in record.errors().items():
        print(f"failed: {key}: {why}", file=sys.stderr)
    return int(bool(record.errors()))


if __name__ == "__main__":
    sys.exit(main())
