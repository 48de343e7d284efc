"""The task of a model that was trained elsewhere, from its shapes and what a user says of its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from models.task import Task
from training.export import ExportError

if TYPE_CHECKING:
    import keras

    from training.own.imported import Form

Kind = Literal[
    "image_classification",
    "tabular_classification",
    "tabular_regression",
    "sequence_classification",
    "sequence_forecast",
]
KINDS: tuple[str, ...] = get_args(Kind)


class ImportRefusedError(ExportError):
    """A file that cannot be served. The message says the remedy."""


def task_of(model: keras.Model, form: Form) -> Task:
    """The task that the user describes, whole or by a few words beside the model's shapes.

    Raises:
        ImportRefusedError: The words do not suit the shapes, or one is missing.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ImportRefusedError(
            f"a model has one input and one output. Received: {len(model.inputs)} and {len(model.outputs)}. "
            "Build a functional model around the part to serve."
        )
    if form.schema is not None:
        return _read(form.schema, form)
    shape, outputs = tuple(model.inputs[0].shape[1:]), tuple(model.outputs[0].shape[1:])
    kind = form.task
    document: dict[str, Any] = {
        "kind": kind,
        **({"labels": form.labels} if kind.endswith("classification") else {"unit": form.unit}),
    }
    if kind == "image_classification":
        return _made(document | _picture(shape, form))
    _require_shape(kind, shape, 1 if kind.startswith("tabular") else 2)
    columns = _columns(shape[-1], form)
    if kind.startswith("tabular"):
        document |= {"fields": [{"kind": "number", **column} for column in columns]}
    else:
        document |= {"channels": columns, "lookback": shape[0], "step": form.step}
    if kind == "tabular_classification":
        document["target"] = form.target or "class"
    if kind == "tabular_regression":
        _require_outputs(kind, outputs, (3,))
        document["target"] = form.target or "value"
    if kind == "sequence_forecast":
        _require_outputs(kind, outputs, (outputs[0] if outputs else 1, 3))
        document |= {"target": form.target or form.columns[0], "horizon": outputs[0]}
    return _made(document)


def _read(schema: Path, form: Form) -> Task:
    try:
        document = json.loads(schema.read_text(encoding="utf-8"))
        if form.labels:
            document["labels"] = form.labels
        task: Task = TypeAdapter(Task).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise ImportRefusedError(f"{schema.name}: {where}: {first['msg']}. See a manifest's task.") from None
    except (OSError, ValueError, TypeError) as error:
        raise ImportRefusedError(f"{schema.name} is no JSON document of a task: {error}.") from None
    return task


def _picture(shape: tuple[int | None, ...], form: Form) -> dict[str, Any]:
    if len(shape) not in (2, 3) or None in shape:
        raise ImportRefusedError(
            f"pictures enter as (height, width) or (height, width, channels). Received: {shape}. "
            f"Say --task {', '.join(KINDS[1:])}, or describe another input with --schema."
        )
    channels = shape[2] if len(shape) == 3 else 1
    return {"height": shape[0], "width": shape[1], "channels": channels, "preparation": form.preparation}


def _require_shape(kind: str, shape: tuple[int | None, ...], axes: int) -> None:
    if len(shape) != axes or None in shape:
        wanted = "(columns,)" if axes == 1 else "(steps, channels), both fixed"
        raise ImportRefusedError(
            f"{kind} takes rows of the shape {wanted}. Received: {shape}. "
            "Say another --task, or describe it with --schema."
        )


def _require_outputs(kind: str, outputs: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> None:
    if outputs != wanted or None in outputs:
        form = "(3,)" if len(wanted) == 1 else "(horizon, 3)"
        raise ImportRefusedError(
            f"{kind} answers with a value and its interval: outputs must be of the shape {form}: value, low, high. "
            f"Received: {outputs}. An interval cannot be made up: concatenate the three in the model, or train one "
            "here with keras-serving train."
        )


def _columns(count: int | None, form: Form) -> list[dict[str, Any]]:
    """A number a column, all within the one range that was said."""
    if len(form.columns) != count:
        raise ImportRefusedError(
            f"the model takes {count} columns. Received: {', '.join(form.columns) or 'no names'}. "
            "Name each, in the order of its inputs: --column NAME,..."
        )
    if form.range is None:
        raise ImportRefusedError(
            "nothing says which values are plausible: give the range that the model was trained on, --range LOW..HIGH, "
            "or each column's own, its unit and vocabulary with --schema."
        )
    low, high = form.range
    return [{"name": name, "low": low, "high": high} for name in form.columns]


def _made(document: dict[str, Any]) -> Task:
    try:
        task: Task = TypeAdapter(Task).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "task"
        raise ImportRefusedError(f"{where}: {first['msg']}. Received: {first['input']!r}.") from None
    return task
