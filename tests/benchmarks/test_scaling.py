"""The page on scaling: what follows from what was measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.scaling import figures
from benchmarks.scaling.figures import check, checks, model_of, replicas
from benchmarks.scaling.page import RECORD, publish, render
from benchmarks.scaling.simulate import Model, arrivals, latencies, p50_ms, p99_ms

DOCS = Path(__file__).resolve().parents[2] / "docs"
TRUE = Model({1: 50e-6, 8: 100e-6, 64: 500e-6}, 64, 64, request_s=80e-6, batch_s=40e-6, floor_s=300e-6)


def result(model: str = "dnn", workers: int = 1, **changes: Any) -> dict[str, Any]:
    """What a server that is just as `TRUE` would have been measured to be."""
    curve = []
    for rate in (500.0, 2000.0, 5000.0):
        found = latencies(TRUE, arrivals(rate, 4, seed=5))
        alone_s = TRUE.request_s + TRUE.batch_s + TRUE.engine_s(1) + 0.01 / rate
        curve.append({"rate": rate, "p50_ms": p50_ms(found), "p99_ms": p99_ms(found), "cpu_us": 1e6 * alone_s})
    many_s = TRUE.request_s + (TRUE.batch_s + TRUE.engine_s(32)) / 32 + 0.01 / 9000
    usual = {
        "model": model,
        "workers": workers,
        "body_bytes": 2600,
        "idle_cpu": 0.01,
        "objective_ms": 10.0,
        "running": {
            "batch_latency_ms": {str(rows): 1000 * s for rows, s in TRUE.curve.items()},
            "batch_rows": TRUE.batch_rows,
            "inline_rows": TRUE.inline_rows,
        },
        "closed": {"connections": 32, "requests_per_s": 9000.0, "cpu_us": 1e6 * many_s},
        "capacity": {"rate": TRUE.peak(), "step": 400.0},
        "curve": curve,
    }
    return usual | changes


def document() -> dict[str, Any]:
    machine = {"cores": 2, "cpu": "a processor", "load_before": 0.1}
    about = {"preset": "full", "started": "2026-01-01 00:00 UTC", "commit": "abc", "seconds": 2.0, "machine": machine}
    short = result("lstm")
    short["curve"] = short["curve"][:1]
    return {"about": about, "results": {"dnn": result(), "cnn, 2 workers": result("cnn", 2), "lstm": short}}


@pytest.fixture(autouse=True)
def short_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_SIMULATED_S", 2.0)
    monkeypatch.setattr(figures, "_SEARCHED_S", 1.0)
    monkeypatch.setattr(figures, "_QUEUED_S", 0.2)


def test_the_costs_of_the_loop_follow_from_the_cpu_of_lone_and_of_many_requests() -> None:
    model = model_of(result())
    assert model.request_s == pytest.approx(TRUE.request_s, rel=0.01)
    assert model.batch_s == pytest.approx(TRUE.batch_s, rel=0.01)
    assert model.floor_s == pytest.approx(TRUE.floor_s, abs=20e-6)


def test_another_model_takes_the_costs_of_the_loop_and_keeps_its_engine() -> None:
    costs = Model({1: 1.0}, 1, 1, request_s=1e-6, batch_s=2e-6, floor_s=3e-6)
    model = model_of(result(), costs)
    assert (model.request_s, model.batch_s, model.floor_s) == (1e-6, 2e-6, 3e-6)
    assert model.curve == TRUE.curve


def test_a_server_that_is_as_simulated_shows_next_to_no_error() -> None:
    found = check(result(), TRUE)
    assert abs(found.error) < 0.1
    for point in found.points:
        assert point.simulated_p50 == pytest.approx(point.measured_p50, rel=0.15)


def test_without_a_rate_that_held_the_costs_are_not_known() -> None:
    with pytest.raises(LookupError, match="dnn held no rate"):
        model_of(result(curve=[]))


def test_a_batch_that_was_held_up_while_the_server_started_is_taken_to_last_as_long_as_smaller_ones_do() -> None:
    disturbed = result()
    disturbed["running"]["batch_latency_ms"] = {"1": 0.4, "2": 0.8, "4": 9.7}
    assert model_of(disturbed, model_of(result())).engine_s(4) == pytest.approx(0.0016)


@pytest.mark.parametrize(
    ("rate", "capacity", "expected"), [(1000, 5000, 2), (1000, 1000, 3), (100_000, 5000, 35), (100_000, 500, 335)]
)
def test_replicas_are_planned_for_a_share_of_their_capacity_and_one_is_spare(
    rate: float, capacity: float, expected: int
) -> None:
    assert replicas(rate, capacity) == expected
    assert rate / (expected - 1) <= 0.6 * capacity + 1e-9


def test_the_page_has_costs_replicas_and_the_errors_of_the_simulation(tmp_path: Path) -> None:
    page = publish(document(), tmp_path).read_text()
    assert "replicas = ceil(rate / (0.6 x capacity of one)) + 1" in page
    assert "| dnn | 2,600 |" in page
    assert "| lstm |" in page
    assert "The simulated capacity is off by up to" in page
    assert "Not to be planned with" not in page
    assert json.loads((tmp_path / RECORD).read_text()) == document()
    assert (tmp_path / "scaling" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_quick_runs_and_a_busy_machine_are_said_to_be_so() -> None:
    doubtful = document()
    doubtful["about"]["preset"] = "quick"
    doubtful["about"]["machine"]["load_before"] = 6.5
    page = render(doubtful, checks(doubtful["results"]))
    assert "Not to be planned with: quick trial runs and a busy machine, load average 6.5 before." in page


def test_two_workers_carry_more_than_one() -> None:
    one, two = (check(result("cnn", workers), TRUE).simulated for workers in (1, 2))
    assert 1.5 < two / one < 2.5
    assert np.isfinite(two)


def test_the_published_page_says_what_its_record_says() -> None:
    record = json.loads((DOCS / RECORD).read_text())
    published = (DOCS / "scaling.md").read_text()
    for one in record["results"].values():
        assert f"{one['closed']['cpu_us']:.0f} us" in published
        assert f"{one['capacity']['rate']:,.0f}/s" in published
    assert record["about"]["started"] in published
