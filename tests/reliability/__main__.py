"""``python -m tests.reliability``: every promise of docs/reliability.md against a real server, with what was measured.

Exit status 1 when one does not hold. ``SOAK_MINUTES`` (30) says how long the soak takes; the rest takes some 20 minutes
on two cores.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.reliability.page import Case, Row, machine, page, read_figures, read_results, test_of, write_results

_FOLDERS = ("tests/reliability", "tests/redeploy", "tests/e2e")
_RESULTS = Path("reports/reliability.json")


class Collector:
    """A plugin of pytest that notes which tests there are, and what became of them.

    Attributes:
        rows: By test, without its parameters.
        status: Of the whole, 0 where nothing failed.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.status = 0

    # Before those that are not wanted this time are taken out.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            mark = item.get_closest_marker("reliability")
            if mark is not None:
                test = test_of(item.nodeid)
                slow = item.get_closest_marker("slow") is not None
                self.rows.setdefault(test, Row(*mark.args, test, **mark.kwargs)).cases[item.nodeid] = Case(slow)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        row = self.rows.get(test_of(report.nodeid))
        if row is not None and (report.when == "call" or report.outcome != "passed"):
            row.cases[report.nodeid].outcome = report.outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", default=_FOLDERS, help="tests to run, as for pytest [all]")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder of reliability.md [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="only what `make test` runs too")
    parser.add_argument(
        "--more", action="store_true", help="keep what earlier runs said of tests that this one leaves out"
    )
    options = parser.parse_args()
    every = Collector()
    if status := pytest.main(["-m", "reliability", "-q", "-q", "--collect-only", *_FOLDERS], plugins=[every]):
        return int(status)
    ran = run(options.paths, "reliability and not slow" if options.quick else "reliability")
    before = read_results(_RESULTS) if options.more else {}
    told = before | {test: row for test, row in ran.rows.items() if row.ran}
    # Those of this run, as they are called and promised now.
    rows = {test: replace(row, cases=told[test].cases) if test in told else row for test, row in every.rows.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    document = options.out / "reliability.md"
    document.write_text(page(rows.values(), machine()), encoding="utf-8")
    write_results(rows.values(), _RESULTS)
    print(f"written: {document}")
    return ran.status


def run(paths: Sequence[str], chosen: str) -> Collector:
    """Run the tests; what became of them, and what they measured."""
    found = Collector()
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        report = Path(folder, "figures.jsonl")
        os.environ["RELIABILITY_REPORT"] = str(report)
        found.status = int(pytest.main(["-m", chosen, "-v", *paths], plugins=[found]))
        read_figures(found.rows.values(), report)
    return found


if __name__ == "__main__":
    sys.exit(main())
