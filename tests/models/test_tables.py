"""Tables in a graph: what is missing is filled in there, and two classes are one unit."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from models import architecture, tables
from models.task import Records, TabularClassification
from tests.bundles import CARS, CHURN, rows_of
from training.export import export

NAN = np.nan


def built(task: Records, name: str = "dnn", **model: Any) -> tuple[Any, dict[str, Any]]:
    """A network with weights as they begin, on made-up rows."""
    definition = architecture(name)
    config = definition.config_class(**model)
    rows = rows_of(task, 200)
    values = np.arange(200) % 2 if isinstance(task, TabularClassification) else np.linspace(1, 50, 200)
    facts = definition.facts(config, task, rows, values)
    return definition.build(config, task, facts), facts


def features(task: Records, rows: list[list[float]], facts: dict[str, Any]) -> np.ndarray:
    import keras

    table = keras.Input(task.input_shape)
    model = keras.Model(table, tables.features(task, facts, table))
    found: np.ndarray = model.predict(np.array(rows, np.float32), verbose=0)
    return found


FACTS = {"mean": [64.0, 256.0], "deviation": [32.0, 128.0]}


def test_a_missing_value_stands_at_the_mean_and_is_marked() -> None:
    # months, charges missing, charges, contract missing, monthly, yearly
    assert features(CHURN, [[96, 384, 1]], FACTS).tolist() == [[1, 0, 1, 0, 0, 1]]
    assert features(CHURN, [[96, NAN, NAN]], FACTS).tolist() == [[1, 1, 0, 1, 0, 0]]


def test_what_may_not_be_missing_has_no_mark() -> None:
    assert features(CARS, [[3000, 100, 2]], {"mean": [3000, 50], "deviation": [1, 50]}).tolist() == [[0, 1, 0, 0, 1]]


def test_inputs_saturate_beyond_the_training_data() -> None:
    near, far = features(CHURN, [[64, 256 + 512, 0], [64, 256 + 5120, 0]], FACTS)
    assert near.tolist() == far.tolist()


def test_statistics_leave_missing_values_out() -> None:
    rows = np.array([[1, 10, 0], [3, NAN, 1], [5, 30, NAN]], np.float32)
    assert tables.statistics(CHURN, rows)["mean"] == [3, 20]


@pytest.mark.parametrize("name", ["dnn", "regressor"])
def test_a_target_without_a_logarithm_or_with_one_comes_out_in_its_own_unit(name: str) -> None:
    values = np.linspace(-5, 5, 200)
    for target, logarithm in ((values, False), (np.exp(values), True)):
        facts = tables.target_statistics(target)
        assert facts["logarithm"] is logarithm
        definition = architecture(name)
        rows = rows_of(CARS, 200)
        assert abs(definition.targets(CARS, facts, rows, target).mean()) < 1e-5


@pytest.mark.parametrize("labels", [("no", "yes"), ("a", "b", "c")])
def test_any_record_gets_probabilities_that_onnxruntime_agrees_with(tmp_path: Path, labels: tuple[str, ...]) -> None:
    task = CHURN.model_copy(update={"labels": labels})
    model, _ = built(task)
    rows = np.array([[3, 70, 1], [3, NAN, 1], [3, 70, NAN], [120, NAN, NAN]], np.float32)
    outputs = export(model, tmp_path, rows)
    received = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"rows": rows})[0]
    np.testing.assert_allclose(received, outputs, atol=1e-6)
    np.testing.assert_allclose(received.sum(axis=1), 1, atol=1e-6)
    assert np.ptp(received, axis=0).min() > 0


def test_two_classes_are_one_sigmoid_unit() -> None:
    model, _ = built(CHURN, units=(4,), batch_norm=False)
    assert model.get_layer("unit").units == 1
    rows = rows_of(CHURN, 20)
    import keras

    logit = keras.Model(model.input, model.get_layer("unit").output).predict(rows, verbose=0)[:, 0]
    np.testing.assert_allclose(model.predict(rows, verbose=0)[:, 1], 1 / (1 + np.exp(-logit)), atol=1e-6)


def test_the_ends_of_a_dense_networks_interval_hold_its_value() -> None:
    model, _ = built(CARS)
    value, low, high = model.predict(rows_of(CARS, 50), verbose=0).T
    assert (low <= value).all()
    assert (value <= high).all()
