"""Each criterion of the gate on answers whose verdict is known."""

from collections.abc import Iterator
from itertools import count, repeat
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.task import SequenceClassification
from tests.bundles import CARS, IMAGE, SERIES
from training.gate_criteria import (
    COVERAGE_MARGIN,
    SLOWER_MS,
    Answers,
    alternately,
    calibration,
    dependent,
    latency,
    parity,
    quality,
    rows_needed,
)
from training.split import Part

LABELLED = SequenceClassification(labels=("a", "b", "c"), channels=SERIES.channels, lookback=30, step="PT1H")
RNG = np.random.default_rng(0)


def classes(right: NDArray[np.bool_], confidence: float = 0.8) -> NDArray[np.float32]:
    """Probabilities of three labels: the true one is the first."""
    sure, rest = confidence, (1 - confidence) / 2
    return np.where(right[:, None], [sure, rest, rest], [rest, sure, rest]).astype(np.float32)


def values(truth: NDArray[Any], error: NDArray[Any], half: float = 1.0) -> NDArray[np.float32]:
    value = truth + error
    return np.stack([value, value - half, value + half], axis=-1).astype(np.float32)


def pictures(production: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> Answers:
    return Answers(IMAGE, np.zeros(len(production), int), classes(production), classes(candidate))


def test_equal_classifiers_pass_and_a_worse_one_does_not() -> None:
    right = RNG.random(2000) < 0.8
    same = quality(pictures(right, right.copy()), 0.02)
    assert same.passed
    assert (same.production, same.candidate) == (right.mean(), right.mean())
    worse = quality(pictures(right, right & (RNG.random(2000) < 0.95)), 0.02)
    assert not worse.passed
    assert worse.value > 0.02 == worse.limit


def test_a_classifier_may_be_worse_within_the_margin_where_the_rows_show_it() -> None:
    # 20 lost of 4,000 rows are 0.5 points: certainly less than 1.
    production = np.arange(4000) < 3200
    candidate = production & (np.arange(4000) >= 20)
    assert quality(pictures(production, candidate), 0.01).passed
    few = quality(pictures(production[:400], candidate[:400] | (np.arange(400) >= 2)), 0.01)
    assert not few.passed
    assert "rows would be enough" in few.sentence


def test_a_clearly_worse_classifier_is_not_told_to_bring_more_rows() -> None:
    right = np.ones(500, bool)
    found = quality(pictures(right, np.arange(500) >= 50), 0.02)
    assert not found.passed
    assert "would be enough" not in found.sentence
    assert "50 were answered rightly only by production and 0 only by the new version" in found.sentence


def test_the_error_of_values_may_grow_by_the_margin() -> None:
    truth, error = RNG.normal(20, 5, 2000), RNG.normal(0, 1, 2000)
    before = values(truth, error)
    grown = quality(Answers(CARS, truth, before, values(truth, error * 1.03)), 0.05)
    assert grown.passed
    assert grown.name == "mae"
    assert grown.unit == "mpg"
    assert grown.value == pytest.approx(0.03, abs=0.001)
    assert not quality(Answers(CARS, truth, before, values(truth, error * 1.06)), 0.05).passed
    other = quality(Answers(CARS, truth[:60], before[:60], values(truth, RNG.normal(0, 1, 2000))[:60]), 0.05)
    assert not other.passed


def test_a_forecasts_error_is_squared_and_its_windows_are_drawn_in_blocks() -> None:
    task = SERIES.model_copy(update={"horizon": 8})
    truth = np.zeros((600, 8))
    # Whole days are bad for one model: 600 windows, but few independent ones.
    bad = np.repeat(RNG.random(12) < 0.5, 50)[:, None]
    before, after = np.where(bad, 1.5, 1.0), np.where(bad, 1.0, 1.5)
    answers = Answers(task, truth, values(truth, before), values(truth, after), block=16)
    found = quality(answers, 0.05)
    assert found.name == "mse"
    assert found.unit == "°C²"
    alone = Answers(CARS, truth[:, 0], values(truth, before)[:, 0], values(truth, after)[:, 0])
    assert found.value > quality(alone, 0.05).value
    assert "blocks of 16" in found.sentence


def test_labels_of_a_series_are_compared_in_blocks_too() -> None:
    task = LABELLED
    production = np.ones(1200, bool)
    candidate = np.repeat(RNG.random(20) < 0.7, 60) | (RNG.random(1200) < 0.97)
    truth = np.zeros(1200, int)
    blocks = quality(Answers(task, truth, classes(production), classes(candidate), block=60), 0.02)
    assert blocks.value > quality(pictures(production, candidate), 0.02).value


@pytest.mark.parametrize(("task", "block", "needed"), [(IMAGE, 1, 133), (CARS, 1, 30), (SERIES, 4, 40)])
def test_too_few_rows_are_known_before_anything_is_run(task: Any, block: int, needed: int) -> None:
    assert rows_needed(task, block, margin=0.02) == needed


def test_a_wide_margin_needs_some_rows_all_the_same() -> None:
    assert rows_needed(IMAGE, 1, margin=1) == 30


def test_what_is_served_may_differ_from_keras_by_a_hundred_thousandth() -> None:
    outputs = np.array([[0.5, 2000.0]], np.float32)
    assert parity(outputs + np.float32([[5e-6, 0.01]]), outputs, golden=0).passed
    assert not parity(outputs + np.float32([[2e-5, 0]]), outputs, golden=0).passed
    assert not parity(outputs, outputs, golden=2e-5).passed
    nan = parity(np.full_like(outputs, np.nan), outputs, golden=0)
    assert not nan.passed
    assert np.isfinite(nan.value)


def test_probabilities_that_mean_less_than_before_are_refused() -> None:
    right = RNG.random(3000) < 0.8
    truth = np.zeros(3000, int)
    same = calibration(Answers(IMAGE, truth, classes(right), classes(right)))
    assert same.passed
    assert same.value == pytest.approx(0)
    surer = calibration(Answers(IMAGE, truth, classes(right), classes(right, confidence=0.9)))
    assert not surer.passed
    assert surer.candidate == pytest.approx(0.1, abs=0.02)
    repaired = calibration(Answers(IMAGE, truth, classes(right, confidence=0.9), classes(right)))
    assert repaired.passed


def test_intervals_that_hold_less_than_they_are_meant_to_are_refused_where_it_is_certain() -> None:
    truth, error = np.zeros(2000), RNG.normal(0, 1, 2000)
    before, narrow = values(truth, error, half=1.28), values(truth, error, half=0.8)
    found = calibration(Answers(CARS, truth, before, narrow))
    assert not found.passed
    assert found.production == pytest.approx(0.8, abs=0.03)
    assert found.value > COVERAGE_MARGIN == found.limit
    assert calibration(Answers(CARS, truth[:8], before[:8], narrow[:8])).passed
    assert calibration(Answers(CARS, truth, narrow, before)).passed


class Timed:
    """Stands for an engine: each call takes so long by a clock that only it moves."""

    name, device, in_flight, padded, split_rows = "timed", "cpu", 1, "", 0

    def __init__(self, now: list[float], seconds: Iterator[float]) -> None:
        self.now, self.seconds, self.calls = now, seconds, 0

    def run(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        self.calls += 1
        self.now[0] += next(self.seconds)
        return np.zeros((len(rows), 3), np.float32)

    def close(self) -> None:
        raise AssertionError("the gate closes engines, its criteria do not")


def engines(*each: float) -> tuple[list[float], tuple[Timed, Timed]]:
    now = [0.0]
    first, second = (Timed(now, repeat(seconds)) for seconds in each)
    return now, (first, second)


@pytest.mark.parametrize(
    ("before", "after", "passed"),
    [(1.0, 1.4, True), (1.0, 1.6, False), (0.02, 0.035, True), (0.02, 0.069, True), (0.02, 0.08, False)],
)
def test_a_new_version_may_take_half_as_long_again_and_a_little_longer_in_any_case(
    before: float, after: float, passed: bool
) -> None:
    now, both = engines(before / 1000, after / 1000)
    found = latency(both, np.zeros((1, 3)), clock=lambda: now[0])
    assert found.passed is passed
    assert found.value == pytest.approx(after / before)
    assert found.limit == pytest.approx(max(1.5, 1 + SLOWER_MS / before))


def test_versions_are_timed_in_turn_and_a_hiccup_decides_nothing() -> None:
    now = [0.0]
    steady = Timed(now, repeat(0.001))
    hiccups = Timed(now, (1.0 if call % 3 == 0 else 0.001 for call in count()))
    assert alternately([steady, hiccups], np.zeros((1, 3)), clock=lambda: now[0], seconds=1e9) == pytest.approx(
        [0.001, 0.001]
    )
    assert steady.calls == hiccups.calls == 303


def test_slow_versions_are_called_a_few_times_only() -> None:
    now, both = engines(5.0, 6.0)
    assert alternately(both, np.zeros((1, 3)), clock=lambda: now[0]) == pytest.approx([5, 6])
    assert both[0].calls == both[1].calls == 8


def test_rows_are_independent_but_those_of_a_series() -> None:
    series = RNG.normal(size=(130, 1)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(series[:, 0], 30)[..., None]
    labels = np.zeros(len(windows), int)
    assert dependent(CARS, Part(np.zeros((50, 3)), np.zeros(50))) == 1
    assert dependent(SERIES, Part(windows[:, :6], np.zeros((101, 2)))) == 2 * SERIES.horizon
    assert dependent(LABELLED, Part(windows, labels)) == 60
    # Four series of five windows each, that do not overlap.
    alone = RNG.normal(size=(20, 30, 1)).astype(np.float32)
    assert dependent(LABELLED, Part(alone, np.repeat([0, 1, 0, 2], 5))) == 5
    assert dependent(LABELLED, Part(alone[:0], labels[:0])) == 1
