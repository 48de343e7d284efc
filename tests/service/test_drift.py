"""Drift: what the traffic of a version looks like beside its training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle import Bundle
from models.task import Task
from service.drift import Monitor, monitor_of
from service.drift_counts import MAJOR, MODERATE, NONE, Counts, next_state
from service.drift_words import summary
from service.settings import Settings
from tests.bundles import CARS, CHURN, IMAGE, SERIES, make_bundle, rows_of, run_offline

ROWS = 2000


def referring(folder: Path, task: Task, rows: NDArray[Any], **options: Any) -> Bundle:
    return make_bundle(folder, "some", task, reference_rows=rows, **options)


def watched(bundle: Bundle, rows: NDArray[Any], *, monitor: Monitor | None = None, **settings: Any) -> Monitor:
    """A monitor that has seen the rows, twenty at a time."""
    monitor = monitor or Monitor(bundle, Settings(**settings))
    # What a real model answers where a value is missing is finite.
    outputs = np.nan_to_num(run_offline(bundle, rows))
    for start in range(0, len(rows), 20):
        monitor.offer(rows[start : start + 20], outputs[start : start + 20], 0.0)
        monitor.turn()
    return monitor


@pytest.fixture
def cars(tmp_path: Path) -> Bundle:
    return referring(tmp_path, CARS, rows_of(CARS, ROWS))


def heavier(count: int, by: float = 3000) -> NDArray[Any]:
    rows = rows_of(CARS, count, seed=3)
    rows[:, 0] = np.minimum(rows[:, 0] + by, 9000)
    return rows


def test_traffic_as_in_training_raises_nothing(cars: Bundle) -> None:
    report = watched(cars, rows_of(CARS, 1000, seed=1)).report
    assert report.state == NONE
    assert max(shift.psi for shift in report.shifts) < 0.05
    assert summary(report) == "Requests and answers are spread as in training."


def test_a_column_that_moved_is_named_with_how_far_and_in_which_unit(cars: Bundle) -> None:
    report = watched(cars, heavier(1000)).report
    assert report.state == MAJOR
    weight = next(shift for shift in report.inputs if shift.name == "weight")
    assert weight.psi == max(shift.psi for shift in report.inputs)
    assert weight.means is not None
    assert weight.means[1] - weight.means[0] == pytest.approx(2470, rel=0.1)
    assert summary(report).startswith("weight: values are 2,")
    assert "lb higher than in training (mean" in summary(report)
    assert "horsepower" not in summary(report)


def test_a_category_that_became_frequent_is_named_with_its_share(cars: Bundle) -> None:
    rows = rows_of(CARS, 1000, seed=1)
    rows[np.arange(1000) % 4 > 0, 2] = 2
    report = watched(cars, rows).report
    assert "origin: japan is 8" in summary(report)
    assert "in training 3" in summary(report)


def test_missing_values_are_a_bin_and_are_named(tmp_path: Path) -> None:
    bundle = referring(tmp_path, CHURN, rows_of(CHURN, ROWS))
    rows = rows_of(CHURN, 1000, seed=1)
    rows[np.arange(1000) % 3 > 0, 1] = np.nan
    report = watched(bundle, rows).report
    assert "charges: 6" in summary(report)
    assert "% are missing, in training 0%" in summary(report)


def test_turned_and_inverted_pictures_are_noticed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = np.zeros((1500, 28, 28, 1), np.uint8)
    for picture, left in zip(pictures, rng.integers(4, 10, len(pictures)), strict=True):
        picture[2:26, left : left + rng.integers(6, 12)] = rng.integers(60, 255)
    bundle = referring(tmp_path, IMAGE, pictures[:1000])
    assert watched(bundle, pictures[1000:]).report.state == NONE
    turned = watched(bundle, np.rot90(pictures[1000:], axes=(1, 2))).report
    moved = {shift.name for shift in turned.inputs if shift.state == MAJOR}
    assert {"picture_width", "picture_height"} <= moved
    assert not moved & {"pixel_intensity", "picture_mean", "picture_spread"}
    assert "pixel_intensity" in {
        s.name for s in watched(bundle, 255 - pictures[1000:]).report.inputs if s.state == MAJOR
    }


def test_a_series_is_watched_by_its_level_and_what_is_forecast_by_its_value(tmp_path: Path) -> None:
    bundle = referring(tmp_path, SERIES, rows_of(SERIES, ROWS))
    report = watched(bundle, rows_of(SERIES, 1000, seed=1) + 20).report
    assert {"OT_level", "OT_last"} <= {shift.name for shift in report.inputs if shift.state == MAJOR}
    assert "value" in {shift.name for shift in report.outputs}


def test_nothing_is_said_before_there_are_enough_rows(cars: Bundle) -> None:
    monitor = watched(cars, heavier(100))
    assert not monitor.report.enough
    assert monitor.report.state == NONE
    assert "200 are needed" in summary(monitor.report)
    assert watched(cars, heavier(200), monitor=monitor).report.state == MAJOR


def test_older_rows_count_less_so_that_an_alarm_ends_when_the_traffic_is_itself_again(cars: Bundle) -> None:
    monitor = watched(cars, heavier(500), drift_half_life_rows=200)
    assert monitor.report.state == MAJOR
    assert watched(cars, rows_of(CARS, 2000, seed=1), monitor=monitor).report.state == NONE


def test_equal_rows_in_a_row_count_as_few_but_a_single_value_is_a_shift(cars: Bundle) -> None:
    rows = rows_of(CARS, 1000, seed=1)
    in_order = watched(cars, rows[np.argsort(rows[:, 0])]).report
    independent = {shift.name: shift.independent_rows for shift in in_order.inputs}
    assert independent["weight"] < 0.2 * independent["horsepower"]
    assert watched(cars, np.repeat(rows[:1], 1000, axis=0)).report.state == MAJOR


@pytest.mark.parametrize(
    ("before", "psi", "beyond_chance", "after"),
    [
        (NONE, 0.09, True, NONE),
        (NONE, 0.1, True, MODERATE),
        (NONE, 0.1, False, NONE),
        (MODERATE, 0.085, True, MODERATE),
        (MODERATE, 0.079, True, NONE),
        (MODERATE, 0.25, True, MAJOR),
        (MAJOR, 0.21, False, MAJOR),
        (MAJOR, 0.19, False, MODERATE),
        (MAJOR, 0.07, True, NONE),
    ],
)
def test_an_alarm_begins_beyond_limit_and_chance_and_ends_clearly_below(
    before: str, psi: float, beyond_chance: bool, after: str
) -> None:
    assert next_state(before, psi, beyond_chance=beyond_chance) == after


def test_values_that_no_row_of_the_training_had_are_counted(tmp_path: Path) -> None:
    known = rows_of(CARS, ROWS)
    known[:, 0] = np.clip(known[:, 0], 2000, 4000)
    known[:, 2] = np.minimum(known[:, 2], 1)
    bundle = referring(tmp_path, CARS, known)
    rows = known[:40].copy()
    rows[:5, 0], rows[:3, 2] = 8000, 2
    monitor = watched(bundle, rows)
    assert {s.name: s.outside for s in monitor.report.inputs} == {"weight": 5, "horsepower": 0, "origin": 3}
    assert monitor.news() == (40, {("weight", False): 5, ("horsepower", False): 0, ("origin", True): 3})
    assert monitor.news() == (0, {})


def test_what_comes_too_fast_is_shed_and_counted_and_never_waits(cars: Bundle) -> None:
    monitor = Monitor(cars, Settings())
    rows = rows_of(CARS, 200)
    outputs = run_offline(cars, rows)
    for _ in range(5):
        monitor.offer(rows, outputs, 0.0)
    monitor.turn()
    assert (monitor.report.rows, monitor.report.shed) == (256, 744)


def test_rows_counted_in_parts_say_the_same_as_rows_counted_at_once(tmp_path: Path) -> None:
    rows = rows_of(IMAGE, 250)
    bundle = referring(tmp_path, IMAGE, rows)
    at_once, in_parts = Monitor(bundle, Settings()), watched(bundle, rows)
    at_once.offer(rows, run_offline(bundle, rows), 0.0)
    at_once.turn()
    assert at_once.report.window == pytest.approx(in_parts.report.window)
    for one, other in zip(at_once.report.shifts, in_parts.report.shifts, strict=True):
        assert (one.name, one.psi, one.now) == (other.name, pytest.approx(other.psi), pytest.approx(other.now))


def test_a_bundle_without_reference_statistics_is_not_watched_and_neither_is_one_that_nobody_wants_to(
    tmp_path: Path, cars: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    assert monitor_of(make_bundle(tmp_path, "bare", CARS), Settings()) is None
    assert "drift is not watched" in caplog.text
    assert monitor_of(cars, Settings(drift=False)) is None
    assert monitor_of(cars, Settings()) is not None


def test_state_rises_at_the_limits_beyond_chance() -> None:
    entry = {"name": "x", "unit": None, "edges": [0, 1, 2], "counts": [500, 500], "mean": 1, "deviation": 0.5}

    def state(share: float, rows: int) -> str:
        counts = Counts(entry, 1000)
        values = np.where(np.arange(rows) < rows * share, 0.5, 1.5)
        counts.add(np.random.default_rng(0).permutation(values), np.ones(rows), 1.0)
        return counts.shift(rows, enough=True).state

    assert [state(share, 2000) for share in (0.5, 0.6, 0.68, 0.8)] == [NONE, NONE, MODERATE, MAJOR]
    assert state(0.68, 20) == NONE
