"""A graph is refused when it cannot be served as it was trained."""

from pathlib import Path

import keras
import numpy as np
import pytest

from training.export import ExportError, compare, export, predict, write_onnx

ROWS = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)


def model(*, weight: float = 1.0, activation: str | None = None) -> keras.Model:
    rows = keras.Input((3,), name="rows")
    dense = keras.layers.Dense(2, activation=activation, kernel_initializer=keras.initializers.Constant(weight))
    return keras.Model(rows, dense(rows))


def test_both_graphs_are_written_and_agree(tmp_path: Path) -> None:
    outputs = export(model(), tmp_path, ROWS)
    assert compare(tmp_path / "model.onnx", ROWS, outputs) <= 1e-4
    # A batch size that the export never saw.
    assert compare(tmp_path / "model.onnx", ROWS[:1], outputs[:1]) <= 1e-4


def test_an_onnx_graph_that_differs_is_refused(tmp_path: Path) -> None:
    other = model(weight=1.001)
    other.predict(ROWS, verbose=0)
    write_onnx(other, tmp_path / "other.onnx")
    with pytest.raises(ExportError, match=r"must agree to 0\.0001 on golden rows\. Received: 0\.00"):
        compare(tmp_path / "other.onnx", ROWS, predict(model(), ROWS))


def test_an_operator_that_onnxruntime_does_not_know_is_refused(tmp_path: Path) -> None:
    """The export only logs it: exact GELU is Erfc in TensorFlow."""
    with pytest.raises(ExportError, match="onnxruntime refuses the exported graph"):
        export(model(activation="gelu"), tmp_path, ROWS)


def test_constants_that_became_inputs_are_refused(tmp_path: Path) -> None:
    rows = keras.Input((3,), name="rows")
    normal = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 1.0, 1.0])
    with pytest.raises(ExportError, match="must have the one input 'rows'"):
        export(keras.Model(rows, normal(rows)), tmp_path, ROWS)


def test_an_output_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="outputs must be finite"):
        export(model(weight=float("inf")), tmp_path, ROWS[1:])


def test_a_graph_that_does_not_open_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(ExportError, match="onnxruntime refuses"):
        compare(tmp_path / "model.onnx", ROWS, ROWS)
