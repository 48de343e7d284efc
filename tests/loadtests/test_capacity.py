"""The search for the highest rate: what is asked, what counts, and what is written."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.checker import Checker
from benchmarks.peers.capacity import search
from benchmarks.plan import OpenSummary
from loadtests.capacity import draw, objective_ms, parsed, plan_for, problems_of, summary, without_nan
from loadtests.expected import cases
from models.task import Task
from tests.bundles import CARS, CHURN, IMAGE, SERIES, STATE
from tests.conftest import MakeBundle

ROOT = Path(__file__).resolve().parents[2]


def run(rate: float, p99_ms: float = 5.0, **changes: Any) -> dict[str, Any]:
    usual = {"rate": rate, "p50_ms": 1.0, "p99_ms": p99_ms, "wrong": 0, "first_problem": "", "share": 1.0}
    return usual | {"cpu_us": 100.0} | changes


def result(**changes: Any) -> dict[str, Any]:
    closed = {"requests_per_s": 2000.0, "wrong": 0, "first_problem": "", "cpu_us": 120.0}
    capacity = {"rate": 1500.0, "step": 100.0, "probes": [run(1500), run(1600, 60.0)]}
    return {"objective_ms": 50.0, "closed": closed, "capacity": capacity, "curve": [run(150), run(1500)]} | changes


@pytest.mark.parametrize("task", [IMAGE, CARS, CHURN, SERIES, STATE], ids=lambda task: task.kind)
@pytest.mark.parametrize("payload", ["json", "npy"])
def test_every_task_is_asked_and_its_answers_are_all_checked(bundle_of: MakeBundle, task: Task, payload: str) -> None:
    bundles = bundle_of(task, "mine").path.parent
    plan = plan_for(bundles, "mine", payload, 1, seconds=1)
    checker = Checker(plan)
    right = [case for case in cases(bundles, "native") if case.payload == payload and case.rows == 1]
    assert len(plan.bodies) == len(right) > 1
    for index, case in enumerate(right):
        ((version, answers),) = case.answers.items()
        body = json.dumps({"version": version, "predictions": answers}).encode()
        assert checker.wrong(index, body) == ""
        number = next(value for value in plan.expected[index] if value)
        assert checker.wrong(index, body.replace(str(number).encode(), b"12345.5")) != ""


def test_a_payload_that_the_model_does_not_take_is_named(bundle_of: MakeBundle) -> None:
    with pytest.raises(LookupError, match="cars takes no png"):
        plan_for(bundle_of().path.parent, "cars", "png", 1, seconds=1)


def test_the_objective_is_that_of_the_servers_metrics() -> None:
    text = "# HELP x\n" + "".join(
        f'serving_objective_latency_seconds{{le="{le}",model="{model}"}} {le}\n'
        for model, le in (("a", 0.05), ("b", 0.1))
    )
    assert objective_ms(text, "b") == 100
    with pytest.raises(LookupError, match="--p99-ms"):
        objective_ms(text, "c")


@pytest.mark.parametrize(("bound_ms", "rate"), [(10.0, 500.0), (50.0, 800.0)])
def test_a_higher_objective_allows_a_higher_rate(bound_ms: float, rate: float) -> None:
    def attempt(offered: float, seed: int) -> OpenSummary:
        p99_ms = 5.0 if offered <= 500 else 30.0 if offered <= 800 else 90.0
        late = p99_ms > bound_ms
        return OpenSummary(offered, seed, 10, 10, 0, 0, 0, "", late, 1.0, p99_ms, 99.0, 0.1, 0.1, 0, 0.5)

    assert search(attempt, 1000, (1, 2), bound_ms).rate == rate


def test_the_summary_is_one_line_with_the_objective_and_the_cost() -> None:
    line = summary("dnn", result())
    assert line.startswith(
        "dnn: 1,500 requests/s with p99 below 50 ms and no error (the next step, 1,600, did not hold)"
    )
    assert "120 us of CPU a request" in line
    unknown = result()
    unknown["closed"]["cpu_us"] = float("nan")
    assert "CPU" not in summary("dnn", unknown)


def test_a_wrong_answer_anywhere_is_a_problem() -> None:
    assert problems_of(result()) == ""
    assert problems_of(result(curve=[run(1, wrong=1, first_problem="wrong answer: 3")])) == "wrong answer: 3"


def test_the_record_is_strict_json_and_the_plot_a_picture(tmp_path: Path) -> None:
    assert without_nan({"a": [1.0, float("nan")], "b": (2, "x")}) == {"a": [1.0, None], "b": [2, "x"]}
    draw("dnn", result(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "http://example.org"], "Load your own machine only"),
        (["--seconds", "0"], "--seconds must be 0.2 to 600"),
        (["--payload", "xml"], "invalid choice"),
    ],
)
def test_wrong_arguments_exit_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.slow
def test_it_finds_the_capacity_of_a_server_that_it_starts(bundle_of: MakeBundle, tmp_path: Path) -> None:
    bundles = bundle_of(CARS, "cars").path.parent
    done = subprocess.run(
        [
            *(sys.executable, "-m", "loadtests.capacity", "--bundles", str(bundles), "--model", "cars"),
            *("--seconds", "0.5", "--out", str(tmp_path / "out"), "--p99-ms", "1000"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("cars: ")
    document = json.loads((tmp_path / "out" / "capacity.json").read_text())
    assert document["capacity"]["rate"] > 0
    assert (tmp_path / "out" / "capacity.png").exists()
