"""docs/reliability.md: a row for each promise, the test that proves it, and what it measured when it last ran."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

PROMISES = range(1, 26)
"""Those from the floors that trusted servers set; what comes after them are faults of the machine around the server."""

_BEGINNING = """\
# Reliability, measured

Each promise below is proven by a test against a real server process, started as `keras-serving serve` starts one. The
page is written by the tests themselves: `make test-reliability ARGS="--out docs"` runs all of them, with a soak of half
an hour (`SOAK_MINUTES`), and says here what each measured. Those that take no longer than seconds are part of `make
test`; `ARGS=--quick` runs only these. One alone: `.venv/bin/python -m pytest -s PATH::NAME`, with `-m slow` where it
says so.

Some promises have a short case for `make test` and a long one. The long one judges the promise; only its figures stand
here. **Short run** marks a row of which only the short case ran: with fewer clients or paths, or for a shorter time,
and its figures of time and speed are not judged. **In part** marks one that has a case for each of several
circumstances, not all of which ran.

Figures of latency are from a machine whose cores server and clients share: compare them with their controls, which were
measured in the same run. What is trusted and what is not says [security.md](security.md); retraining and redeploying
under load has a page [of its own](redeploy.md).
"""

_FAULTS = """
## Faults around the server

Full and read-only disks, a store or a document that is gone or damaged, too little memory, a clock that jumps, a stop
under load.
"""

_HEAD = "\n|  | promise | measured | test |\n|---|---|---|---|\n"


@dataclass
class Case:
    """A test with one set of parameters.

    Attributes:
        slow: Whether it is left out of `make test`.
        outcome: Passed, failed or skipped; empty where it did not run.
        figures: What it measured.
    """

    slow: bool = False
    outcome: str = ""
    figures: list[str] = field(default_factory=list)


@dataclass
class Row:
    """One promise's test.

    Attributes:
        number: Of the promise.
        promise: What is promised.
        test: ``tests/.../test_x.py::test_y``.
        cases: By ``tests/.../test_x.py::test_y[parameters]``.
        alike: Whether they do the same for a short and a long time, so that the long one speaks for all.
    """

    number: int
    promise: str
    test: str
    cases: dict[str, Case] = field(default_factory=dict)
    alike: bool = True

    @property
    def slow(self) -> bool:
        """Whether all of it is left out of `make test`."""
        return all(case.slow for case in self.cases.values())

    @property
    def ran(self) -> bool:
        """Whether any of its cases did."""
        return any(case.outcome for case in self.cases.values())

    @property
    def result(self) -> str:
        """What the page says of it."""
        outcomes = {case.outcome for case in self.cases.values()} - {""}
        if "failed" in outcomes:
            return "**failed**"
        passed = [case for case in self.cases.values() if case.outcome == "passed"]
        if not passed:
            return "skipped: it lacks something here" if outcomes else "not run this time"
        judged = [case for case in passed if case.slow and self.alike]
        text = "; ".join(figure for case in judged or passed for figure in case.figures) or "holds"
        if not judged and any(case.slow for case in self.cases.values() if case.outcome != "passed"):
            return f"**{'short run' if self.alike else 'in part'}**: {text}"
        return text


def test_of(case: str) -> str:
    """A case's test: its id without the parameters."""
    return case.partition("[")[0]


def read_figures(rows: Iterable[Row], report: Path) -> None:
    """Give the rows' cases the figures that `tests.figures` wrote."""
    cases = {name: case for row in rows for name, case in row.cases.items()}
    lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    for line in map(json.loads, lines):
        cases[line["test"]].figures.append(line["figure"])


def write_results(rows: Iterable[Row], path: Path) -> None:
    """Keep what became of them for a run that only adds to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows if row.ran], indent=1), encoding="utf-8")


def read_results(path: Path) -> dict[str, Row]:
    """What `write_results` kept, by test; nothing where there is no such file."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {
        row["test"]: Row(**row | {"cases": {name: Case(**case) for name, case in row["cases"].items()}}) for row in rows
    }


def machine() -> str:
    """What they were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("bentoml", "uvicorn", "onnxruntime"))
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {packages}"


def page(rows: Iterable[Row], where: str) -> str:
    """The document.

    Args:
        rows: In any order.
        where: See `machine`.
    """
    ordered = sorted(rows, key=lambda row: (row.number, row.slow, row.test))
    known = [row for row in ordered if row.number in PROMISES]
    faults = [row for row in ordered if row.number not in PROMISES]
    text = f"{_BEGINNING}\nMeasured on: {where}.\n{_HEAD}" + "".join(map(_line, known))
    return text + (f"{_FAULTS}{_HEAD}" + "".join(map(_line, faults)) if faults else "")


def _line(row: Row) -> str:
    promise = row.promise[:1].upper() + row.promise[1:]
    cells = (f"{row.number}", promise, row.result, f"`{row.test}`" + (" (slow)" if row.slow else ""))
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"
