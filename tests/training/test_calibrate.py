"""Constants that make probabilities and intervals mean what they say."""

import numpy as np
import pytest

from models import architecture
from tests.training.made_up import tiny
from training.calibrate import calibrate, conformal, cooled, temperature
from training.datasets import data_set
from training.export import predict
from training.metrics import coverage
from training.sets.etth1 import windows


def sure(factor: float, rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose logits are `factor` times the right ones, and classes drawn by the right ones."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (rows, 3))
    right = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = (right.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return cooled(right, 1 / factor), classes


def test_an_overconfident_model_is_cooled() -> None:
    assert temperature(*sure(2.0)) == pytest.approx(2.0, rel=0.1)


def test_a_temperature_that_helps_nobody_is_left_out() -> None:
    rng = np.random.default_rng(1)
    flat = np.full((1000, 4), 0.25)
    assert temperature(flat, rng.integers(0, 4, 1000)) == 1.0


def test_cooling_keeps_the_order_and_the_sum() -> None:
    probabilities, _ = sure(1.0, 50)
    cool = cooled(probabilities, 3.0)
    np.testing.assert_allclose(cool.sum(axis=1), 1)
    np.testing.assert_array_equal(cool.argsort(axis=1), probabilities.argsort(axis=1))


@pytest.mark.parametrize("width", [0.1, 5.0])
def test_conformal_intervals_hold_their_share_of_the_held_out_rows(width: float) -> None:
    """Narrow ones move out, wide ones in."""
    truth = np.random.default_rng(0).normal(size=500)
    widen = conformal(truth, truth * 0 - width, truth * 0 + width, 0.8)
    assert isinstance(widen, float)
    assert (widen > 0) == (width < 1)
    assert coverage(truth * 0 - width - widen, truth * 0 + width + widen, truth) == pytest.approx(0.8, abs=0.01)


def test_each_step_of_a_forecast_gets_its_own_distance() -> None:
    truth = np.random.default_rng(0).normal(size=(500, 3)) * [1, 2, 4]
    widen = conformal(truth, truth * 0, truth * 0, 0.8)
    assert isinstance(widen, list)
    assert widen == sorted(widen)


def test_an_interval_follows_the_windows_moves_and_holds_its_share_in_calm_and_in_wild_times() -> None:
    data, config = data_set("etth1"), tiny("lstm")
    definition = architecture("lstm")
    rng = np.random.default_rng(0)
    wild = np.repeat([1.0, 3.0, 1.0, 3.0], 300)
    series = (20 + np.cumsum(rng.normal(0, 0.1, 1200)) + wild * rng.normal(0, 1, 1200)).astype(np.float32)
    part = windows(series)
    calm = np.array([wild[i : i + 120].max() == 1 for i in range(len(part))])
    rough = np.array([wild[i : i + 120].min() == 3 for i in range(len(part))])
    facts = definition.facts(config.model, data.task, part.rows, part.values)
    model = definition.build(config.model, data.task, facts)
    constants = calibrate(definition, data.task, facts, part, predict(model, part.rows))
    outputs = predict(definition.build(config.model, data.task, {**facts, **constants}), part.rows)
    value, low, high = np.moveaxis(outputs, -1, 0)
    assert (low <= value).all()
    assert (value <= high).all()
    assert coverage(low, high, part.values) == pytest.approx(0.8, abs=0.02)
    for times in (calm, rough):
        assert coverage(low[times], high[times], part.values[times]) == pytest.approx(0.8, abs=0.12)
    assert (high - low)[rough].mean() > 2 * (high - low)[calm].mean()
