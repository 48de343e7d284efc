"""The page on reliability is what the tests say."""

import ast
import json
import re
from pathlib import Path

import pytest

from tests.reliability.page import PROMISES, Case, Row, page, read_figures, read_results, write_results
from tests.test_documents import ROOT

PAGE = ROOT / "docs" / "reliability.md"


def marked() -> dict[str, int]:
    """``tests/.../test_x.py::test_y`` -> the number of the promise that it is marked with."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.reliability":
                    found[f"{path.relative_to(ROOT)}::{node.name}"] = int(ast.literal_eval(mark.args[0]))
    return found


def test_each_promise_has_its_test() -> None:
    assert sorted(set(PROMISES) - set(marked().values())) == []


def test_every_test_that_the_page_names_exists_and_is_marked_with_its_number() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = re.findall(r"^\| (\d+) \|.*\| `(tests/[\w/]+\.py::\w+)`(?: \(slow\))? \|$", text, re.MULTILINE)
    assert len(named) == text.count(".py::")
    tests = marked()
    assert {test: int(number) for number, test in named} == {test: tests.get(test) for _, test in named}
    assert set(PROMISES) <= {int(number) for number, _ in named}


def row(number: int, promise: str, *cases: Case) -> Row:
    """A row whose test is named after its promise."""
    test = f"tests/x.py::test_{promise.partition(' ')[0]}"
    return Row(number, promise, test, {f"{test}[{place}]": case for place, case in enumerate(cases)})


def lines_of(*rows: Row) -> list[str]:
    return [line for line in page(rows, "2 cores").splitlines() if line.startswith("| ") and line[2].isdigit()]


def test_a_row_says_what_was_measured_that_it_failed_or_that_it_was_not_run() -> None:
    assert lines_of(
        row(26, "full", Case(outcome="skipped")),
        row(2, "a | b", Case(outcome="passed", figures=["1 ms"]), Case(outcome="passed", figures=["2 ms"])),
        row(1, "one", Case(slow=True)),
        row(3, "three", Case(outcome="passed", figures=["3 ms"]), Case(outcome="failed")),
        row(4, "four", Case(outcome="passed")),
    ) == [
        "| 1 | One | not run this time | `tests/x.py::test_one` (slow) |",
        "| 2 | A \\| b | 1 ms; 2 ms | `tests/x.py::test_a` |",
        "| 3 | Three | **failed** | `tests/x.py::test_three` |",
        "| 4 | Four | holds | `tests/x.py::test_four` |",
        "| 26 | Full | skipped: it lacks something here | `tests/x.py::test_full` |",
    ]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [("passed", "500 clients"), ("", "**short run**: 100 clients"), ("skipped", "**short run**: 100 clients")],
)
def test_the_long_case_speaks_for_a_promise_and_figures_of_the_short_one_alone_are_marked(
    outcome: str, said: str
) -> None:
    long = Case(slow=True, outcome=outcome, figures=["500 clients"] if outcome == "passed" else [])
    (line,) = lines_of(row(12, "left", Case(outcome="passed", figures=["100 clients"]), long))
    assert line == f"| 12 | Left | {said} | `tests/x.py::test_left` |"


def test_of_cases_that_differ_each_one_counts() -> None:
    both = [Case(outcome="passed", figures=["a load"]), Case(slow=True, outcome="passed", figures=["a store"])]
    test = "tests/x.py::test_hang"
    rows = [
        Row(9, "hang", test, dict(zip("ab", cases, strict=True)), alike=False)
        for cases in (both, [both[0], Case(slow=True)])
    ]
    assert [row.result for row in rows] == ["a load; a store", "**in part**: a load"]


def test_a_report_of_figures_finds_its_cases(tmp_path: Path) -> None:
    found = row(1, "one", Case(), Case(slow=True))
    report = tmp_path / "figures.jsonl"
    lines = [{"test": f"tests/x.py::test_one[{case}]", "figure": case} for case in "01"]
    report.write_text("\n".join(map(json.dumps, lines)))
    read_figures([found], report)
    read_figures([found], tmp_path / "nothing")
    assert [case.figures for case in found.cases.values()] == [["0"], ["1"]]


def test_results_that_were_kept_are_read_again_but_for_those_of_tests_that_did_not_run(tmp_path: Path) -> None:
    ran, left_out = row(1, "one", Case(outcome="passed", figures=["1 ms"]), Case(slow=True)), row(2, "two", Case())
    write_results([ran, left_out], tmp_path / "kept" / "results.json")
    assert read_results(tmp_path / "kept" / "results.json") == {ran.test: ran}
    assert read_results(tmp_path / "nothing.json") == {}
