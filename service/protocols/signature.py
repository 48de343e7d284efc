"""What a model takes and gives as named tensors; from these to rows, and from output rows to these.

| task | inputs; n is the batch axis |
|---|---|
| pictures | ``input`` (n, height, width, channels): pixels; or BYTES (n): PNG or JPEG files |
| records | one a column, (n, 1): numbers, or BYTES for a category; or ``input`` (n, fields): coded |
| sequences | ``input`` (n, steps, channels) |

| answer | outputs, all FP32 |
|---|---|
| a class | ``probabilities`` (n, classes) |
| a value | ``value``, ``low``, ``high`` (n, 1) |
| a forecast | ``forecast``, ``low``, ``high`` (n, horizon) |

A missing number is NaN, a missing category empty. Knows no transport.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError, shorten
from models.task import Category, Classes, ImageClassification, Number, Records, SequenceForecast, Task
from service.decode.picture import File, Pictures
from service.protocols.base import Decoded, limit_rows
from service.protocols.tensors import BYTES, Spec, Tensor
from service.settings import Settings

INPUT = "input"
"""The tensor that holds whole rows."""
PROBABILITIES = "probabilities"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that a request asks for.

    Attributes:
        name: Of the tensor.
        classes: The most probable ones, as texts ``probability:index:label``, instead of the tensor; 0 for the tensor.
    """

    name: str
    classes: int = 0


def inputs_of(task: Task) -> tuple[Spec, ...]:
    """The tensors of a request, as the model's metadata show them."""
    if isinstance(task, Records):
        return tuple(Spec(f.name, BYTES if isinstance(f, Category) else "FP32", (-1, 1)) for f in task.fields)
    return (Spec(INPUT, "UINT8" if task.dtype == "uint8" else "FP32", (-1, *task.input_shape)),)


def outputs_of(task: Task) -> tuple[Spec, ...]:
    """The tensors of an answer, in their order."""
    if isinstance(task, Classes):
        return (Spec(PROBABILITIES, "FP32", (-1, len(task.labels))),)
    length = task.horizon if isinstance(task, SequenceForecast) else 1
    return tuple(Spec(name, "FP32", (-1, length)) for name in _columns(task))


def _columns(task: Task) -> tuple[str, str, str]:
    """What the last axis of an output row that is no class holds."""
    return ("forecast" if isinstance(task, SequenceForecast) else "value", "low", "high")


def rows_of(task: Task, tensors: Sequence[Tensor], settings: Settings) -> Decoded:
    """Rows from a request's tensors, checked as strictly as those of any other protocol; or pictures to decode.

    Raises:
        InputError: A tensor that the model does not take or that is missing, or a value that breaks the schema.
        TooLargeError: More rows than a request may hold.
    """
    names = [tensor.name for tensor in tensors]
    columns = task.names if isinstance(task, Records) else ()
    if names == [INPUT] and INPUT not in columns:
        return _whole_rows(task, tensors[0], settings)
    if isinstance(task, Records):
        return _from_columns(task, tensors, settings)
    wrong = next((name for name in names if name != INPUT), "inputs")
    raise InputError(shorten(wrong)[1:-1], f"the only input is {INPUT!r}", shorten(names), "See the model's metadata.")


def _whole_rows(task: Task, tensor: Tensor, settings: Settings) -> Decoded:
    if isinstance(tensor.data, list):
        if not isinstance(task, ImageClassification):
            raise InputError(INPUT, "must be numeric, best FP32", BYTES, "See the model's metadata.")
        files = _one_a_row(tensor, settings)
        parts = [File(f"{INPUT}[{i}]", data) for i, data in enumerate(files)]
        return Decoded.of(Pictures(task, parts, settings.max_picture_pixels, settings.max_request_pixels))
    try:
        rows = task.accept(tensor.data)
    except InputError as error:
        field = error.field.replace("array", INPUT, 1)
        raise InputError(field, error.rule, error.received, error.remedy) from None
    limit_rows(len(rows), settings)
    return Decoded(rows)


def _from_columns(task: Records, tensors: Sequence[Tensor], settings: Settings) -> Decoded:
    """Rows from one tensor a column."""
    given = {tensor.name: tensor for tensor in tensors}
    _check_names(task, tensors, given)
    count = tensors[0].shape[0]
    rows = np.full((min(count, settings.max_request_rows), len(task.fields)), np.nan, np.float32)
    for i, field in enumerate(task.fields):
        if field.name not in given:
            continue
        values = _one_a_row(given[field.name], settings)
        if len(values) != count:
            rule = f"every input has as many rows as {tensors[0].name!r}: {count}"
            raise InputError(field.name, rule, str(len(values)), "Send one value a row.")
        rows[:, i] = _category(field, values) if isinstance(field, Category) else _number(field, values)
    return Decoded(rows)


def _check_names(task: Records, tensors: Sequence[Tensor], given: dict[str, Tensor]) -> None:
    known = ", ".join(task.names)
    for tensor in tensors:
        if tensor.name not in task.names:
            close = get_close_matches(tensor.name, task.names, n=1)
            remedy = f'Did you mean "{close[0]}"?' if close else f"Or send whole rows, coded, as {INPUT!r} alone."
            raise InputError(shorten(tensor.name)[1:-1], f"inputs are {known}", "an unknown input", remedy)
    if len(given) != len(tensors):
        raise InputError("inputs", "each is sent once", "the same name twice", "Leave one of the two out.")
    for field in task.fields:
        if not field.missing and field.name not in given:
            remedy = f"Send {known}; or whole rows, coded, as {INPUT!r} alone."
            raise InputError(field.name, "is required", "nothing", remedy)


def _one_a_row(tensor: Tensor, settings: Settings) -> Any:
    """The values of a tensor with one a row: ``(n,)`` or ``(n, 1)``."""
    if tensor.shape[1:] not in ((), (1,)):
        raise InputError(
            tensor.name, "shape must be [n, 1] or [n]", f"shape {list(tensor.shape)}", "Send one value a row."
        )
    limit_rows(tensor.shape[0], settings)
    return tensor.data if isinstance(tensor.data, list) else tensor.data.reshape(-1)


def _category(field: Category, values: list[bytes] | NDArray[Any]) -> list[float]:
    if not isinstance(values, list):
        raise InputError(field.name, "is a category, so its datatype is BYTES", str(values.dtype), "Send its text.")
    texts = [value.decode(errors="replace") for value in values]
    return [field.code(text or None, f"{field.name}[{i}]") for i, text in enumerate(texts)]


def _number(field: Number, values: list[bytes] | NDArray[Any]) -> NDArray[Any]:
    if isinstance(values, list) or values.dtype.kind not in "uif":
        received = BYTES if isinstance(values, list) else str(values.dtype)
        raise InputError(field.name, "is a number, best FP32", received, "Convert the tensor.")
    good = (values >= field.low) & (values <= field.high)
    if field.missing:
        good |= np.isnan(values)
    if not good.all():
        row = int(np.argmin(good))
        field.code(values[row].item(), f"{field.name}[{row}]")
    return values


def check_wanted(task: Task, wanted: Sequence[Wanted]) -> None:
    """Refuse what the answer cannot hold, before anything is computed for it.

    Raises:
        InputError: An unknown output, one that is asked for twice, or classes of what has none.
    """
    known = [spec.name for spec in outputs_of(task)]
    for i, one in enumerate(wanted):
        field = f"outputs[{i}]"
        if one.name not in known:
            raise InputError(field, f"outputs are {', '.join(known)}", shorten(one.name), "See the model's metadata.")
        if one.name in {other.name for other in wanted[:i]}:
            raise InputError(field, "each output is asked for once", f"{one.name} again", "Leave it out.")
        if one.classes and not isinstance(task, Classes):
            raise InputError(f"{field}.classification", "this model has no classes", str(one.classes), "Leave it out.")
        if one.classes < 0:
            rule = "must be a number of classes, at least 1"
            raise InputError(f"{field}.classification", rule, str(one.classes), "Leave it out for all as numbers.")


def tensors_of(task: Task, outputs: NDArray[np.float32], wanted: Sequence[Wanted] = ()) -> list[Tensor]:
    """The tensors of an answer.

    Args:
        task: What the outputs mean.
        outputs: ``(n, *output_shape)``.
        wanted: As `check_wanted` let it pass; all outputs where it is empty.
    """
    if isinstance(task, Classes):
        classes = wanted[0].classes if wanted else 0
        if classes:
            return [_most_probable(task, outputs, classes)]
        return [Tensor(PROBABILITIES, "FP32", outputs.shape, outputs)]
    found = {}
    for i, name in enumerate(_columns(task)):
        # A record's value has no axis of its own, one of a forecast has its steps.
        data = outputs[..., i] if outputs.ndim == 3 else outputs[:, i : i + 1]
        found[name] = Tensor(name, "FP32", data.shape, data)
    return [found[one.name] for one in wanted] if wanted else list(found.values())


def _most_probable(task: Classes, outputs: NDArray[np.float32], count: int) -> Tensor:
    """BYTES ``(n, count)``, as the classification extension writes them, the most probable first."""
    count = min(count, len(task.labels))
    best = np.argsort(-outputs, axis=1, kind="stable")[:, :count]
    texts = [
        f"{row[i]:f}:{i}:{task.labels[i]}".encode()
        for row, order in zip(outputs.tolist(), best.tolist(), strict=True)
        for i in order
    ]
    return Tensor(PROBABILITIES, BYTES, best.shape, texts)
