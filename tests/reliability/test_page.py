"""The page on reliability is what the tests say."""

import ast
import json
import re
from pathlib import Path

from tests.reliability.page import PROMISES, Row, page, read_figures, read_results, write_results
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


def test_a_row_says_what_was_measured_that_it_failed_or_that_it_was_not_run() -> None:
    measured = Row(2, "a | b", "tests/x.py::test_x", outcomes=["passed", "passed"], figures=["1 ms", "2 ms"])
    rows = [
        Row(26, "a full disk", "tests/x.py::test_w", outcomes=["skipped"]),
        measured,
        Row(1, "one", "tests/x.py::test_y", slow=True),
        Row(3, "three", "tests/x.py::test_z", outcomes=["passed", "failed"], figures=["3 ms"]),
        Row(4, "four", "tests/x.py::test_v", outcomes=["passed"]),
    ]
    lines = [line for line in page(rows, "2 cores").splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert lines == [
        "| 1 | One | not run this time | `tests/x.py::test_y` (slow) |",
        "| 2 | A \\| b | 1 ms; 2 ms | `tests/x.py::test_x` |",
        "| 3 | Three | **failed** | `tests/x.py::test_z` |",
        "| 4 | Four | holds | `tests/x.py::test_v` |",
        "| 26 | A full disk | skipped: it lacks something here | `tests/x.py::test_w` |",
    ]


def test_a_report_of_figures_finds_its_rows(tmp_path: Path) -> None:
    row = Row(1, "one", "tests/x.py::test_y")
    report = tmp_path / "figures.jsonl"
    lines = [{"test": f"tests/x.py::test_y[{case}]", "figure": case} for case in "12"]
    report.write_text("\n".join(map(json.dumps, lines)))
    read_figures([row], report)
    read_figures([row], tmp_path / "nothing")
    assert row.figures == ["1", "2"]


def test_results_that_were_kept_are_read_again_but_for_those_of_tests_that_did_not_run(tmp_path: Path) -> None:
    ran, left_out = Row(1, "one", "a::b", outcomes=["passed"], figures=["1 ms"]), Row(2, "two", "a::c")
    write_results([ran, left_out], tmp_path / "kept" / "results.json")
    assert read_results(tmp_path / "kept" / "results.json") == {"a::b": ran}
    assert read_results(tmp_path / "nothing.json") == {}
