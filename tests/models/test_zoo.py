"""The zoo: one file an architecture, found by name; graphs take raw values and load without custom code."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models import HEAD, UnknownArchitectureError, architecture, architectures
from models.errors import ConfigError
from models.zoo.lstm import LstmConfig
from tests.bundles import SERIES, STATE, rows_of
from tests.training.made_up import MADE_UP, tiny
from training.config import config_path, load_config
from training.datasets import data_set


def test_the_zoo_is_the_files_of_its_folder() -> None:
    folder = Path(__file__).parents[2] / "models" / "zoo"
    assert set(architectures()) == {path.stem for path in folder.glob("[!_]*.py")}


def test_an_unknown_architecture_lists_the_known_ones() -> None:
    with pytest.raises(UnknownArchitectureError, match="known: cnn, dnn, lstm, regressor"):
        architecture("transformer")


def test_the_zoo_imports_without_tensorflow() -> None:
    code = "import sys, models; [models.architecture(n) for n in models.architectures()]; print('keras' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize("name", architectures())
def test_a_graph_has_the_rows_that_its_task_says_and_loads_safely(name: str, tmp_path: Path) -> None:
    import keras

    definition, config = architecture(name), tiny(name)
    known = data_set(definition.dataset)
    assert known.task.kind == definition.task_kind
    part = known.split(known.engineer(MADE_UP[known.name]()), config).train
    facts = definition.facts(config.model, known.task, part.rows, part.values)
    model = definition.build(config.model, known.task, facts)
    assert model.input.name == "rows"
    assert model.input.dtype == known.task.dtype
    assert model.output.shape == (None, *known.task.output_shape)
    assert model.get_layer(HEAD) is not None

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    outputs = model.predict(part.rows[:8], verbose=0)
    np.testing.assert_array_equal(loaded.predict(part.rows[:8], verbose=0), outputs)
    assert np.isfinite(outputs).all()


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        ("textbook-dnn", 784 * 100 + 100 + 1010),
        ("textbook-cnn", 320 + 18_496 + 7 * 7 * 64 * 128 + 128 + 1290),
    ],
)
def test_the_textbook_networks_have_the_textbooks_parameters(config: str, parameters: int) -> None:
    chosen = load_config(config_path(config))
    model = architecture(chosen.architecture).build(chosen.model, data_set(chosen.dataset).task, {})
    assert model.count_params() == parameters


@pytest.mark.parametrize(("name", "most"), [("cnn", 400_000), ("dnn", 600_000)])
def test_the_shipped_networks_are_small(name: str, most: int) -> None:
    chosen = load_config(config_path(name))
    assert architecture(name).build(chosen.model, data_set(chosen.dataset).task, {}).count_params() <= most


@pytest.mark.parametrize("name", ["regressor", "lstm"])
def test_intervals_stay_ordered_however_far_they_are_moved_in(name: str) -> None:
    definition, config = architecture(name), tiny(name)
    known = data_set(definition.dataset)
    part = known.split(known.engineer(MADE_UP[known.name]()), config).train
    facts = definition.facts(config.model, known.task, part.rows, part.values)
    distance = -9.0 if name == "regressor" else [-9.0] * 24
    model = definition.build(config.model, known.task, {**facts, "widen": distance})
    value, low, high = np.moveaxis(model.predict(part.rows[:16], verbose=0), -1, 0)
    np.testing.assert_array_equal(low, value)
    np.testing.assert_array_equal(high, value)


CHOICES = [
    *(("dnn", {"units": [8], "activation": name}) for name in ("sigmoid", "tanh", "leaky_relu", "gelu", "maxout")),
    ("dnn", {"units": [8, 8], "batch_norm": False, "activation": "maxout"}),
    ("cnn", {"filters": [4], "convolutions": 1, "stride": 2, "padding": "valid", "pooling": "average", "kernel": 5}),
    ("cnn", {"filters": [4, 4], "activation": "maxout", "head": "flatten", "dense": [8]}),
    ("cnn", {"filters": [4, 4], "activation": "gelu", "stride": 2}),
    *(("regressor", {"members": 2, "units": [8], "activation": name}) for name in ("sigmoid", "gelu", "maxout")),
    ("lstm", {"members": 1, "units": 4, "cell": "simple"}),
    ("lstm", {"members": 1, "units": 4, "cell": "gru"}),
    ("lstm", {"members": 1, "units": 4, "layers": 2, "bidirectional": True}),
    ("lstm", {"members": 1, "units": 4, "dense": [6], "activation": "maxout"}),
    ("lstm", {"members": 2, "units": 4, "arrangement": "many_to_many", "layers": 2, "bidirectional": True}),
    ("lstm", {"members": 1, "units": 4, "arrangement": "many_to_many", "dense": [6], "activation": "maxout"}),
    ("lstm", {"members": 1, "units": 4, "arrangement": "many_to_many", "cell": "gru"}),
    ("lstm", {"members": 2, "units": 4, "arrangement": "one_to_many", "layers": 2}),
    ("lstm", {"members": 1, "units": 4, "arrangement": "one_to_many", "cell": "simple"}),
]


@pytest.mark.parametrize(("name", "choice"), CHOICES, ids=str)
def test_every_choice_exports_to_onnx_and_loads_safely(name: str, choice: dict[str, Any], tmp_path: Path) -> None:
    """`export` refuses a file that does not load in safe mode, and graphs that differ by more than 1e-4."""
    import keras

    from training.export import export

    definition, config = architecture(name), tiny(name, model=choice)
    known = data_set(definition.dataset)
    part = known.split(known.engineer(MADE_UP[known.name]()), config).train
    facts = definition.facts(config.model, known.task, part.rows, part.values)
    # The same weights each time: some saturate, and answer 0 or 1 only.
    keras.utils.set_random_seed(1)
    model = definition.build(config.model, known.task, facts)
    # Weights that say something: some start at 0.
    rng = np.random.default_rng(0)
    model.set_weights([w + 0.05 * rng.normal(size=w.shape).astype(w.dtype) ** 2 for w in model.get_weights()])
    outputs = export(model, tmp_path, part.rows[:16])
    assert len(np.unique(outputs)) > 16


@pytest.mark.parametrize("labels", [("worn", "sound"), ("a", "b", "c")])
@pytest.mark.parametrize("choice", [{}, {"members": 2, "dense": [6], "activation": "maxout"}, {"bidirectional": True}])
def test_a_class_of_a_stretch_exports_and_two_classes_are_one_sigmoid_unit(
    labels: tuple[str, ...], choice: dict[str, Any], tmp_path: Path
) -> None:
    from training.export import export

    task = STATE.model_copy(update={"labels": labels})
    rows = rows_of(task, 64)
    definition, config = architecture("lstm"), LstmConfig.model_validate({"members": 1, "units": 4, **choice})
    model = definition.build(config, task, definition.facts(config, task, rows, np.zeros(64)))
    outputs = export(model, tmp_path, rows)
    assert outputs.shape == (64, len(labels))
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-6)
    assert len(np.unique(outputs)) > 64
    assert ("unit" in {layer.name for layer in model.layers}) == (len(labels) == 2)


def forecast(rows: np.ndarray, **choice: Any) -> np.ndarray:
    """Of a network on SERIES whose weights are always the same, and say something."""
    definition, config = architecture("lstm"), LstmConfig.model_validate({"members": 1, "units": 4, **choice})
    known = rows_of(SERIES, 64)
    facts = definition.facts(config, SERIES, known, known[:, :2, 0])
    model = definition.build(config, SERIES, facts)
    rng = np.random.default_rng(0)
    model.set_weights([0.3 * rng.normal(size=w.shape).astype(w.dtype) for w in model.get_weights()])
    found: np.ndarray = model.predict(rows, verbose=0)
    return found


@pytest.mark.parametrize(
    ("arrangement", "same"), [("many_to_one", False), ("many_to_many", False), ("one_to_many", True)]
)
def test_one_to_many_alone_sees_nothing_but_the_last_step(arrangement: str, same: bool) -> None:
    rows = rows_of(SERIES, 8)
    others = rows.copy()
    others[:, :-1] = rows_of(SERIES, 8, seed=1)[:, :-1]
    first, second = (forecast(given, arrangement=arrangement) for given in (rows, others))
    assert np.array_equal(first, second) is same
    assert len(np.unique(first)) == first.size


@pytest.mark.parametrize(
    ("task", "choice", "says"),
    [
        (STATE, {"arrangement": "many_to_many"}, "a window has one class"),
        (STATE, {"arrangement": "one_to_many"}, "a window has one class"),
        (SERIES.model_copy(update={"horizon": 1}), {"arrangement": "many_to_many"}, "the horizon is one step"),
    ],
)
def test_an_arrangement_that_does_not_suit_the_task_is_refused(task: Any, choice: dict[str, str], says: str) -> None:
    config = LstmConfig.model_validate(choice)
    with pytest.raises(ConfigError, match=f'{says}.*set arrangement = "many_to_one"'):
        architecture("lstm").build(config, task, {})


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"activation": "maxout"}, r"there are none: set dense, such as \[32\]; a recurrent cell keeps tanh"),
        ({"arrangement": "one_to_many", "bidirectional": True}, "sees one step, which has no order to read backwards"),
    ],
)
def test_choices_that_a_recurrent_network_cannot_follow_are_refused(choice: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        LstmConfig.model_validate(choice)
