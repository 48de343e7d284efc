"""Measure what a request costs and how much one worker carries, and write the page on scaling.

Only loopback addresses are used. With ``--render`` the page of a record is made again and nothing is measured.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.scaling.measure import run
from benchmarks.scaling.page import RECORD, publish
from benchmarks.servers import BenchmarkError, end_on_sigterm

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Exit status 1 when something could not be measured."""
    parser = argparse.ArgumentParser(
        "scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="about a minute, and figures to match")
    parser.add_argument("--render", action="store_true", help="measure nothing: make the page of the record again")
    parser.add_argument("--bundles", type=Path, default=ROOT / "models" / "pretrained", help="that are served")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of scaling.md and scaling/ [docs]")
    options = parser.parse_args()
    end_on_sigterm()
    try:
        if options.render:
            document = json.loads((options.out / RECORD).read_text())
        else:
            preset = "quick" if options.quick else "full"
            document = run(options.bundles, preset, ROOT, lambda line: print(line, flush=True))
    except (BenchmarkError, LookupError, OSError, ValueError) as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 1
    print(publish(document, options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
