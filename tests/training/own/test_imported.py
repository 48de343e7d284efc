"""A Keras file that was trained elsewhere becomes a verified bundle, or is refused with the remedy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.engines import check_golden, open_engine
from models.task import ImageClassification
from tests.bundles import CARS, CHURN
from training.own.imported import Form, ImportRefusedError, import_model

LABELS = ("bag", "boot", "coat")


def saved(tmp_path: Path, *layers: Any, shape: tuple[int | None, ...] = (8, 8)) -> Path:
    import keras

    keras.utils.set_random_seed(1)
    path = tmp_path / "theirs.keras"
    keras.Sequential([keras.Input(shape), *layers]).save(path)
    return path


def dense(units: int, activation: str | None = "softmax") -> list[Any]:
    import keras

    return [keras.layers.Flatten(), keras.layers.Dense(units, activation=activation)]


@pytest.mark.parametrize(("pixels", "scale", "shift"), [("0..1", 1 / 255, 0), ("-1..1", 2 / 255, -1)])
def test_pictures_reach_the_model_in_the_range_it_was_trained_on(
    tmp_path: Path, pixels: Any, scale: float, shift: float
) -> None:
    import keras

    path = saved(tmp_path, *dense(3))
    bundle, reason = import_model(path, "theirs", Form(LABELS, pixels=pixels), tmp_path / "bundle")
    assert reason == ""
    assert bundle.manifest.task == ImageClassification(
        height=8, width=8, channels=1, preparation="stretch_v1", labels=LABELS
    )
    rows, outputs = bundle.golden()
    expected = keras.saving.load_model(path).predict(rows[..., 0] * np.float32(scale) + shift, verbose=0)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_the_bundle_verifies_and_both_engines_answer_its_golden_rows(tmp_path: Path) -> None:
    bundle, _ = import_model(
        saved(tmp_path, *dense(3), shape=(8, 8, 3)), "theirs", Form(LABELS, pixels="0..1"), tmp_path / "bundle"
    )
    bundle.verify()
    for kind in ("onnx", "tensorflow"):
        assert check_golden(open_engine(bundle, kind=kind), bundle) <= 1e-4  # type: ignore[arg-type]


@pytest.mark.parametrize(("units", "labels"), [(1, ("no", "yes")), (3, LABELS)])
def test_logits_become_probabilities_when_the_user_says_what_they_are(
    tmp_path: Path, units: int, labels: tuple[str, ...]
) -> None:
    path = saved(tmp_path, *dense(units, activation=None))
    form = {"labels": labels, "pixels": "0..1"}
    with pytest.raises(ImportRefusedError, match="Say --logits"):
        import_model(path, "theirs", Form(**form), tmp_path / "refused")
    outputs = import_model(path, "theirs", Form(**form, logits=True), tmp_path / "bundle")[0].golden()[1]
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-5)
    assert outputs.min() >= 0


def test_a_schema_describes_any_other_task(tmp_path: Path) -> None:
    schema = tmp_path / "task.json"
    schema.write_text(json.dumps(CARS.model_dump(mode="json")))
    bundle, _ = import_model(
        saved(tmp_path, *dense(3, activation=None), shape=(3,)), "theirs", Form(schema=schema), tmp_path / "bundle"
    )
    assert bundle.manifest.task == CARS
    assert CARS.parse([bundle.manifest.example]).shape == (1, 3)


TABLE = {"columns": ("age", "income"), "range": (0.0, 100.0)}


@pytest.mark.parametrize(
    ("shape", "units", "form", "expected"),
    [
        (
            (2,),
            3,
            Form(LABELS, "tabular_classification", **TABLE),
            {"kind": "tabular_classification", "target": "class", "labels": list(LABELS)},
        ),
        (
            (2,),
            1,
            Form(("no", "yes"), "tabular_classification", target="churn", **TABLE),
            {"target": "churn", "labels": ["no", "yes"]},
        ),
        ((2,), 3, Form(task="tabular_regression", unit="mpg", **TABLE), {"kind": "tabular_regression", "unit": "mpg"}),
        (
            (12, 2),
            3,
            Form(LABELS, "sequence_classification", step="PT1M", **TABLE),
            {"kind": "sequence_classification", "lookback": 12, "step": "PT1M"},
        ),
        (
            (12, 2),
            (4, 3),
            Form(task="sequence_forecast", unit="MW", **TABLE),
            {"kind": "sequence_forecast", "horizon": 4, "target": "age", "lookback": 12},
        ),
    ],
)
def test_shapes_and_a_few_words_make_the_task_of_a_table_or_a_series(
    tmp_path: Path, shape: tuple[int, ...], units: Any, form: Form, expected: dict[str, Any]
) -> None:
    import keras

    activation = {1: "sigmoid", 3: "softmax"}.get(units) if form.labels else None
    size = units if isinstance(units, int) else units[0] * units[1]
    layers = [*dense(size, activation), *([] if isinstance(units, int) else [keras.layers.Reshape(units)])]
    # A mild kernel: values up to 100 would saturate any other.
    for layer in layers:
        if isinstance(layer, keras.layers.Dense):
            layer.kernel_initializer = keras.initializers.RandomNormal(stddev=1e-3, seed=1)
    bundle, reason = import_model(saved(tmp_path, *layers, shape=shape), "theirs", form, tmp_path / "bundle")
    assert reason == ""
    task = bundle.manifest.task.model_dump(mode="json")
    assert expected.items() <= task.items()
    columns = task.get("fields") or task["channels"]
    assert [(c["name"], c["low"], c["high"]) for c in columns] == [("age", 0, 100), ("income", 0, 100)]
    assert bundle.manifest.task.parse([bundle.manifest.example]).shape == (1, *shape)


@pytest.mark.parametrize(
    ("shape", "form", "says"),
    [
        ((2,), Form(LABELS), r"pictures enter as .*Received: \(2,\). Say --task tabular_classification"),
        ((8, 8), Form(LABELS, "tabular_classification", **TABLE), r"shape \(columns,\). Received: \(8, 8\)"),
        ((3,), Form(LABELS, "tabular_classification", **TABLE), "takes 3 columns. Received: age, income. Name each"),
        ((2,), Form(LABELS, "tabular_classification", columns=("a", "b")), "--range LOW..HIGH"),
        ((None, 2), Form(LABELS, "sequence_classification", **TABLE), "both fixed. Received:"),
        ((4, 2), Form(task="sequence_forecast", **TABLE), r"shape \(horizon, 3\).*An interval cannot be made up"),
        ((2,), Form(("one",), "tabular_classification", **TABLE), "labels: Tuple should have at least 2 items"),
    ],
)
def test_words_that_do_not_suit_the_shapes_are_refused(
    tmp_path: Path, shape: tuple[int | None, ...], form: Form, says: str
) -> None:
    import keras

    layers = [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3)] if None in shape else dense(3)
    with pytest.raises(ImportRefusedError, match=says):
        import_model(saved(tmp_path, *layers, shape=shape), "theirs", form, tmp_path / "bundle")


def test_a_model_that_answers_nan_for_a_missing_value_is_refused(tmp_path: Path) -> None:
    schema = tmp_path / "task.json"
    schema.write_text(json.dumps(CHURN.model_dump(mode="json")))
    with pytest.raises(Exception, match="outputs must be finite"):
        import_model(saved(tmp_path, *dense(2), shape=(3,)), "theirs", Form(schema=schema), tmp_path / "bundle")


def test_a_lambda_layer_is_refused_by_name_with_the_remedy_and_never_run(tmp_path: Path) -> None:
    import keras

    path = saved(tmp_path, keras.layers.Lambda(lambda x: x / 255, name="scale_it"), *dense(3))
    with pytest.raises(ImportRefusedError, match=r"Lambda layers \(scale_it\).*Rescaling"):
        import_model(path, "theirs", Form(LABELS), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (Form(("one", "two")), r"2 labels need outputs of the shape \(2,\). Received: \(3,\)"),
        (Form(("one",)), "labels"),
        (Form(schema=Path("missing.json")), "no JSON document"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, form: Form, says: str) -> None:
    with pytest.raises(ImportRefusedError, match=says):
        import_model(saved(tmp_path, *dense(3)), "theirs", form, tmp_path / "bundle")


def test_a_file_that_is_no_keras_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs.keras").write_bytes(b"PK nothing")
    with pytest.raises(ImportRefusedError, match=r"no \.keras file"):
        import_model(tmp_path / "theirs.keras", "theirs", Form(LABELS), tmp_path / "bundle")


def test_what_cannot_be_exported_is_served_by_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.own import imported

    def fails(model: Any, path: Path) -> None:
        path.write_bytes(b"half a graph")
        raise ValueError("no such operator")

    monkeypatch.setattr(imported, "write_onnx", fails)
    bundle, reason = import_model(
        saved(tmp_path, *dense(3)), "theirs", Form(LABELS, pixels="0..1"), tmp_path / "bundle"
    )
    assert reason == "no such operator"
    assert not bundle.has_onnx
    assert open_engine(bundle).name == "tensorflow"
