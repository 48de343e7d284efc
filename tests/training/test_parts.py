"""Parts are taken away on held-out rows, and given back."""

import numpy as np

from models import architecture
from tests.training.made_up import temperatures, tiny
from training.datasets import data_set
from training.export import predict
from training.parts import parts, without_recurrence


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
