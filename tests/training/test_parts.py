"""Parts are taken away on held-out rows, and given back."""

import numpy as np
import pytest

from models import architecture
from tests.training.made_up import cars, temperatures, tiny
from training.datasets import data_set
from training.export import predict
from training.parts import parts, recurrence, without_recurrence
from training.sets.etth1 import windows
from training.split import Part


def test_without_its_recurrent_branch_a_forecaster_is_its_ridge_regression_and_is_whole_again() -> None:
    data, config = data_set("etth1"), tiny("lstm")
    split = data.split(data.engineer(temperatures()), config)
    definition = architecture("lstm")
    facts = definition.facts(config.model, data.task, split.train.rows, split.train.values)
    model = definition.build(config.model, data.task, facts)
    for layer in model.layers:
        if layer.name.startswith("dense"):
            layer.set_weights([weight + 0.1 for weight in layer.get_weights()])
    rows = split.validation.rows
    before = predict(model, rows)
    changes = (rows - rows[:, -1:])[..., 0] @ np.array(facts["ridge"])
    np.testing.assert_allclose(without_recurrence(model, rows)[..., 0], rows[:, -1] + changes, atol=1e-3)
    np.testing.assert_array_equal(predict(model, rows), before)
    figure, found = parts(data.task, model, facts, split.validation)
    assert "validation rows" in figure
    assert len(set(found.values())) == 3


@pytest.mark.parametrize(
    ("share", "hours", "says"),
    [
        (0.0, 3000, "**Its forecasts are those of a ridge regression.**"),
        (1.0, 3000, "which improve it"),
        (1.0, 900, "too few to tell"),
    ],
)
def test_a_card_says_whether_the_recurrent_branch_adds_anything(share: float, hours: int, says: str) -> None:
    """The truth is moved by a share of what the branch says."""
    data, config = data_set("etth1"), tiny("lstm")
    definition = architecture("lstm")
    part = windows(temperatures(hours).table["OT"].to_numpy(np.float32))
    facts = definition.facts(config.model, data.task, part.rows, part.values)
    model = definition.build(config.model, data.task, facts)
    linear = predict(model, part.rows)[..., 0]
    for layer in model.layers:
        if layer.name.startswith("dense"):
            layer.set_weights([weight + 0.1 for weight in layer.get_weights()])
    added = predict(model, part.rows)[..., 0] - linear
    noise = np.random.default_rng(0).normal(0, np.abs(added).mean(), linear.shape)
    text = recurrence(data.task, model, Part(part.rows, (linear + share * added + noise).astype(np.float32)))
    assert says in text
    assert f"On {len(part):,} validation windows" in text


def test_only_a_forecaster_with_a_ridge_regression_has_such_a_branch() -> None:
    data, config = data_set("auto-mpg"), tiny("regressor")
    split = data.split(data.engineer(cars()), config)
    definition = architecture("regressor")
    facts = definition.facts(config.model, data.task, split.train.rows, split.train.values)
    assert recurrence(data.task, definition.build(config.model, data.task, facts), split.validation) == ""
