"""Small real bundles for tests: an ONNX graph each, no TensorFlow needed to make or run them."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.bundle import CARD, GOLDEN, KERAS, ONNX, REFERENCE, TRAINED_ROWS, Bundle
from models.manifest import Figure, Lineage
from models.pictures import png
from models.task import (
    Category,
    Classes,
    ImageClassification,
    Number,
    Records,
    SequenceClassification,
    SequenceForecast,
    TabularClassification,
    TabularRegression,
    Task,
)
from training.reference import reference

LABELS = ("bag", "boot", "coat")
IMAGE = ImageClassification(height=28, width=28, channels=1, preparation="fashion_mnist_v1", labels=LABELS)
CARS = TabularRegression(
    fields=(
        Number(name="weight", unit="lb", low=500, high=9000),
        Number(name="horsepower", unit="hp", low=10, high=1000),
        Category(name="origin", values=("usa", "europe", "japan")),
    ),
    target="mpg",
    unit="mpg",
)
CHURN = TabularClassification(
    fields=(
        Number(name="months", low=0, high=120),
        Number(name="charges", unit="USD", low=0, high=500, missing=True),
        Category(name="contract", values=("monthly", "yearly"), missing=True),
    ),
    target="churn",
    labels=("no", "yes"),
)
SERIES = SequenceForecast(
    channels=(Number(name="OT", unit="°C", low=-60, high=120),),
    target="OT",
    lookback=6,
    horizon=2,
    unit="°C",
    step="PT1H",
)
STATE = SequenceClassification(
    channels=(Number(name="shaking", unit="mm/s", low=0, high=50),), lookback=6, step="PT1M", labels=("worn", "sound")
)
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SHIPPED_CAR = {
    "cylinders": 4,
    "displacement": 120,
    "horsepower": 90,
    "weight": 2400,
    "acceleration": 15.5,
    "model_year": 80,
    "origin": "japan",
}
"""A record as the shipped regressor takes it."""


def rows_of(task: Task, count: int, seed: int = 0) -> NDArray[Any]:
    """Plausible rows of ``task``."""
    rng = np.random.default_rng(seed)
    if isinstance(task, ImageClassification):
        return rng.integers(0, 256, (count, *task.input_shape), dtype=np.uint8)
    if isinstance(task, Records):
        columns = [
            rng.integers(0, len(f.values), count) if isinstance(f, Category) else rng.uniform(f.low, f.high, count)
            for f in task.fields
        ]
        return np.stack(columns, axis=1).astype(np.float32)
    return rng.uniform(0, 40, (count, *task.input_shape)).astype(np.float32)


def graph_of(task: Task, seed: int, *, imputes: bool = False) -> bytes:
    """A linear ONNX model of the task's shapes; another ``seed`` gives other answers, ``imputes`` takes NaN for 0."""
    rng = np.random.default_rng(seed)
    size_in, size_out = int(np.prod(task.input_shape)), int(np.prod(task.output_shape))
    scale = 1 / 255 if isinstance(task, ImageClassification) else 1e-3
    weights = rng.normal(0, scale, (size_in, size_out)).astype(np.float32)
    elem = TensorProto.UINT8 if task.dtype == "uint8" else TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["rows"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["imputed" if imputes else "cast", "flat_shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    if imputes:
        nodes.insert(1, helper.make_node("IsNaN", ["cast"], ["missing"]))
        nodes.insert(2, helper.make_node("Where", ["missing", "zero", "cast"], ["imputed"]))
    if isinstance(task, Classes):
        nodes.append(helper.make_node("Softmax", ["logits"], ["outputs"], axis=-1))
    else:
        nodes.append(helper.make_node("Reshape", ["logits", "out_shape"], ["outputs"]))
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("rows", elem, ["n", *task.input_shape])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["n", *task.output_shape])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([-1, size_in]), "flat_shape"),
            numpy_helper.from_array(np.array([-1, *task.output_shape]), "out_shape"),
            *([numpy_helper.from_array(np.float32(0), "zero")] if imputes else []),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def example_of(task: Task) -> Any:
    """One instance as a client sends it."""
    row = rows_of(task, 1, seed=7)[0]
    if isinstance(task, ImageClassification):
        return {"b64": base64.b64encode(png(row)).decode()}
    if isinstance(task, Records):
        return task.record(row)
    steps = [[round(float(value), 2) for value in step] for step in row]
    return [step[0] for step in steps] if len(task.channels) == 1 else steps


def make_bundle(
    directory: Path,
    name: str,
    task: Task,
    *,
    seed: int = 0,
    created: datetime = CREATED,
    onnx_graph: bool = True,
    imputes: bool = False,
    trained_rows: NDArray[np.uint32] | None = None,
    reference_rows: NDArray[Any] | None = None,
) -> Bundle:
    """A sealed bundle in ``directory/name-seed``."""
    folder = directory / f"{name}-{seed}"
    folder.mkdir(parents=True)
    graph = graph_of(task, seed, imputes=imputes)
    if onnx_graph:
        (folder / ONNX).write_bytes(graph)
    (folder / KERAS).write_bytes(f"stands for a Keras file, {seed}".encode())
    rows = rows_of(task, 8, seed=1)
    outputs = onnxruntime.InferenceSession(graph).run(None, {"rows": rows})[0]
    np.savez(folder / GOLDEN, rows=rows, outputs=outputs)
    if trained_rows is not None:
        np.save(folder / TRAINED_ROWS, trained_rows)
    statistics: dict[str, Any] = {}
    if reference_rows is not None:
        answers = onnxruntime.InferenceSession(graph).run(None, {"rows": reference_rows})[0]
        statistics = reference(task, reference_rows, answers)
    (folder / REFERENCE).write_text(json.dumps(statistics))
    (folder / CARD).write_text(f"# {name}\n")
    return Bundle.seal(
        folder,
        name=name,
        architecture="linear",
        task=task,
        figures=(Figure(name="accuracy", value=0.9, higher_is_better=True, rows=100, baselines={"majority": 0.3}),),
        parameters=10,
        lineage=Lineage(
            dataset="made up",
            data_sha256="0" * 64,
            data_location="tests",
            rows={"train": 1},
            config={},
            config_sha256="0" * 64,
            seed=seed,
            code_version="0",
            command="pytest",
            started=created,
            finished=created,
        ),
        example=example_of(task),
        created=created,
    )


def run_offline(bundle: Bundle, rows: NDArray[Any]) -> NDArray[np.float32]:
    """What the bundle's graph answers, outside of any service."""
    return onnxruntime.InferenceSession(bundle.read(ONNX)).run(None, {"rows": rows})[0]  # type: ignore[no-any-return]
