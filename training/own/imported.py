"""A Keras model that was trained elsewhere becomes a bundle: loaded safely, wrapped, exported where it can be."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from models.bundle import CARD, GOLDEN, ONNX, REFERENCE, Bundle
from models.engines import check_golden, open_engine
from models.manifest import Lineage
from models.task import Classes, ImageClassification, Task
from training.export import LIMIT, compare, save, write_onnx
from training.golden import example, golden_rows
from training.own.described import ImportRefusedError, Kind, task_of
from training.publish import code_version
from training.split import Part

if TYPE_CHECKING:
    import keras

__all__ = ["Form", "ImportRefusedError", "import_model"]

Pixels = Literal["0..255", "0..1", "-1..1"]
_SCALES: dict[Pixels, tuple[float, float]] = {"0..255": (1.0, 0.0), "0..1": (1 / 255, 0.0), "-1..1": (2 / 255, -1.0)}


@dataclass(frozen=True)
class Form:
    """What the user says of the model.

    Attributes:
        labels: Class names, in the order of the outputs.
        task: Kind of the task; the rest of it is of the model's shapes and the words below.
        schema: Whole task document, as in a manifest, in place of those words.
        columns: Of a table or series: a name for each input, in their order.
        range: Of a table or series: smallest and largest accepted value of every column.
        target: Of a table or forecast: name of what is predicted.
        unit: Of it, where it is a value.
        step: Of a series: time between two steps, an ISO 8601 duration.
        preparation: Of pictures; a name in `models.pictures`.
        pixels: The range that the model was trained on.
        logits: The model's outputs are logits: a softmax (sigmoid for one output) is added.
        command: What does the same again.
    """

    labels: tuple[str, ...] = ()
    task: Kind = "image_classification"
    schema: Path | None = None
    columns: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    target: str = ""
    unit: str = ""
    step: str = "step"
    preparation: str = "stretch_v1"
    pixels: Pixels = "0..255"
    logits: bool = False
    command: str = ""


def import_model(path: Path, name: str, form: Form, destination: Path) -> tuple[Bundle, str]:
    """Make a bundle of a `.keras` file.

    Args:
        path: The file.
        name: Of the model.
        form: What its numbers mean.
        destination: A folder that does not exist yet.

    Returns:
        The bundle, and why it has no ONNX graph (empty where it has one).

    Raises:
        ImportRefusedError: It does not load safely, shapes do not fit the task, or outputs are no probabilities.
    """
    started = datetime.now(UTC)
    inner = load_safely(path)
    task = task_of(inner, form)
    model = wrap(inner, task, form)
    destination.mkdir(parents=True)
    golden = golden_rows(task, Part(np.empty((0, *task.input_shape), task.dtype), np.empty(0)), synthetic=True, seed=1)
    loaded, outputs = save(model, destination, golden)
    if isinstance(task, Classes) and not (outputs.min() >= 0 and np.allclose(outputs.sum(axis=1), 1, atol=1e-3)):
        raise ImportRefusedError(
            f"outputs must be probabilities that sum to 1. Received: {outputs[0]}. Say --logits if they are logits."
        )
    reason = _export(loaded, destination / ONNX, golden, outputs)
    np.savez_compressed(destination / GOLDEN, rows=golden, outputs=outputs)
    # Nothing is known of the data that it will be compared with.
    (destination / REFERENCE).write_text('{"version": 1, "rows": 0, "inputs": [], "outputs": []}\n', encoding="utf-8")
    (destination / CARD).write_text(
        f"# {name}\n\nImported from `{path.name}`; its data and its quality are not known here.\n", encoding="utf-8"
    )
    nothing = Part(np.empty((0, *task.input_shape), np.float32), np.empty(0))
    bundle = Bundle.seal(
        destination,
        name=name,
        architecture="imported",
        task=task,
        figures=(),
        parameters=loaded.count_params(),
        lineage=_lineage(path, form, started),
        example=example(task, nothing, synthetic=True),
        golden_tolerance=LIMIT,
    )
    engine = open_engine(bundle)
    check_golden(engine, bundle)
    engine.close()
    return bundle, reason


def load_safely(path: Path) -> keras.Model:
    """The model of a file, without any code of the file's own.

    Raises:
        ImportRefusedError: No `.keras` file, a Lambda layer, or a layer that Keras does not have.
    """
    import keras

    try:
        with zipfile.ZipFile(path) as archive:
            document = json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ImportRefusedError(
            f"{path.name} is no .keras file ({error}). Save the model with model.save('model.keras') of Keras 3."
        ) from None
    names = list(_lambdas(document))
    if names:
        raise ImportRefusedError(
            f"{path.name} has Lambda layers ({', '.join(names)}), which hold code of their own and are not run. "
            "Replace each by a built-in layer such as Rescaling, or by keras.ops in a functional model; save it anew."
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ImportRefusedError(
            f"Keras refuses {path.name}: {reason} Use built-in layers only, and save it with this Keras's version."
        ) from None


def _lambdas(value: Any) -> Any:
    """Names of the Lambda layers in a model's configuration, at any depth."""
    if isinstance(value, dict):
        if value.get("class_name") == "Lambda":
            config = value.get("config")
            yield str(config.get("name", "lambda") if isinstance(config, dict) else "lambda")
        for child in value.values():
            yield from _lambdas(child)
    elif isinstance(value, list):
        for child in value:
            yield from _lambdas(child)


def wrap(inner: keras.Model, task: Task, form: Form) -> keras.Model:
    """From the task's rows to its output rows, with the model in between.

    Raises:
        ImportRefusedError: The shapes do not fit.
    """
    import keras
    from keras import layers

    rows = keras.Input(task.input_shape, dtype=task.dtype, name="rows")
    x: Any = rows
    if isinstance(task, ImageClassification):
        x = layers.Rescaling(*_SCALES[form.pixels], name="pixels")(x)
    wanted = tuple(inner.inputs[0].shape[1:])
    if wanted != task.input_shape:
        if int(np.prod(task.input_shape)) != (int(np.prod(wanted)) if None not in wanted else -1):
            raise ImportRefusedError(
                f"the task's rows have the shape {task.input_shape}, the model's input {wanted}. Correct the task."
            )
        x = layers.Reshape(wanted, name="form")(x)
    x = inner(x)
    if isinstance(task, Classes):
        x = _probabilities(x, len(task.labels), form)
    if tuple(x.shape[1:]) != task.output_shape:
        what = f"{len(task.labels)} labels need" if isinstance(task, Classes) else f"{task.kind} needs"
        raise ImportRefusedError(
            f"{what} outputs of the shape {task.output_shape}. Received: {tuple(x.shape[1:])}. "
            f"Correct {'--labels' if isinstance(task, Classes) else 'the model'}."
        )
    return keras.Model(rows, x, name="imported")


def _probabilities(x: Any, count: int, form: Form) -> Any:
    from keras import layers

    if count == 2 and x.shape[-1] == 1:
        second = layers.Activation("sigmoid", name="sigmoid")(x) if form.logits else x
        return layers.Concatenate(name="probabilities")([1 - second, second])
    return layers.Softmax(name="probabilities")(x) if form.logits else x


def _export(model: keras.Model, path: Path, golden: Any, outputs: Any) -> str:
    """Write the ONNX graph, or say why there is none."""
    try:
        write_onnx(model, path)
        compare(path, golden, outputs)
    except Exception as error:
        path.unlink(missing_ok=True)
        return " ".join(str(error).split())[:200] or type(error).__name__
    return ""


def _lineage(path: Path, form: Form, started: datetime) -> Lineage:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Lineage(
        dataset="unknown: trained elsewhere",
        data_sha256=digest,
        data_location=path.name,
        rows={},
        config={"imported": path.name, "pixels": form.pixels, "logits": form.logits},
        config_sha256=hashlib.sha256(f"{form.pixels} {form.logits}".encode()).hexdigest(),
        seed=0,
        code_version=code_version(),
        command=form.command,
        started=started,
        finished=datetime.now(UTC),
    )
