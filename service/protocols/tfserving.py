"""TensorFlow Serving's REST interface: ``instances`` a row each, or ``inputs`` a column each.

As its REST document has it: a model with one input takes bare values, one with several takes objects; an answer with
one output is bare values, with several it is objects; bytes are ``{"b64": "..."}``; an error is ``{"error": "..."}``.
"""

import re
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.errors import InputError, shorten
from models.manifest import Manifest
from models.task import Records, Task
from service import errors
from service.decode.json import decode_json, refuse_booleans
from service.decode.json_cost import check_json
from service.errors import NoRouteError
from service.protocols.base import Answer, Decoded, Parameters, Pin, Question, Response, beside, limit_rows
from service.protocols.native import decode_values
from service.protocols.signature import INPUT, tensors_of
from service.settings import Settings

_PREFIX = "/v1/models/"
ROUTE = "/v1/models/{model}:predict"
SIGNATURE = "serving_default"
# A larger body takes over a millisecond to decode: long enough to be worth a thread. Bytes.
_INLINE_BYTES = 48 * 1024
_INSTANCE = re.compile(r"instances\[(\d+)\]\.?(.*)")


def matches(path: str) -> bool:
    """Whether ``path`` is that of a prediction in this format."""
    # Another method than predict is a prediction's too: `address` says which there is.
    return path.startswith(_PREFIX) and ":" in path[path.rfind("/") :]


def address(path: str, query: bytes) -> tuple[str, Pin | None, Parameters]:
    """The model's name, and the version or label that the path pins, if any. The query string says nothing.

    Raises:
        InputError: Another method than predict.
        NoRouteError: The path has too many parts, or an empty one.
    """
    place, _, method = path[len(_PREFIX) :].rpartition(":")
    if method != "predict":
        remedy = f"Send instances or inputs to {path[: len(path) - len(method)][:120]}predict."
        raise InputError("path", "the only method is predict", shorten(method), remedy)
    name, *pinned = place.split("/")
    if not pinned and name:
        return name, None, ()
    if len(pinned) != 2 or pinned[0] not in ("versions", "labels") or not name or not pinned[1]:
        raise NoRouteError(path)
    return name, Pin(**{pinned[0][:-1]: pinned[1]}), ()


def decode_at_once(manifest: Manifest, question: Question, settings: Settings) -> Decoded | None:
    """`decode` where that takes less than beginning a thread, else None.

    Raises:
        ServingError: As `decode_body`.
    """
    if len(question.body) > _INLINE_BYTES:
        return None
    decoded = decode_body(manifest.task, question.body, settings)
    return decoded if decoded.decode_pictures_if_small() else None


async def decode(manifest: Manifest, question: Question, settings: Settings) -> Decoded:
    """Rows from a request, beside the event loop when that may take long; `Decoded.wanted` is whether it has columns.

    Raises:
        ServingError: As `decode_body`.
    """
    body, task = question.body, manifest.task
    small = len(body) <= _INLINE_BYTES
    decoded = decode_body(task, body, settings) if small else await beside(question, decode_body, task, body, settings)
    await decoded.decode_pictures(question)
    return decoded


def decode_body(task: Task, body: bytes, settings: Settings) -> Decoded:
    """Rows from a body, or pictures to decode.

    Raises:
        DecodeError: Not JSON, or a picture that is not base64.
        InputError: A member breaks the protocol, or a value the schema.
        TooLargeError: More rows than a request may hold.
    """
    check_json(body, task, settings.max_request_rows)
    document = decode_json(body)
    form = 'Send {"instances": [...]} or {"inputs": ...}.'
    if not isinstance(document, dict):
        raise InputError("body", "must be an object", shorten(document), form)
    if ("instances" in document) == ("inputs" in document):
        received = "both" if "inputs" in document else "neither"
        raise InputError("body", 'must have either "instances" or "inputs"', received, form)
    signature = document.get("signature_name", SIGNATURE)
    if signature not in (SIGNATURE, ""):
        raise InputError("signature_name", f"the only signature is {SIGNATURE}", shorten(signature), "Leave it out.")
    columnar = "inputs" in document
    instances = _from_columns(task, document["inputs"], settings) if columnar else document["instances"]
    if not isinstance(instances, list) or not instances:
        field = "inputs" if columnar else "instances"
        raise InputError(field, "must be a list of at least one value", shorten(instances), "Send one a row.")
    limit_rows(len(instances), settings)
    try:
        # A boolean needs an "e" after the first bracket: one memchr spares the usual body the walk.
        if body.find(b"e", body.find(b"[")) != -1:
            refuse_booleans(instances, "instances", depth=4)
        decoded = decode_values(task, [_bare(task, value) for value in instances], settings)
    except InputError as error:
        if not columnar:
            raise
        raise InputError(_column_of(error.field), error.rule, error.received, error.remedy) from None
    decoded.wanted = columnar
    return decoded


def _bare(task: Task, instance: Any) -> Any:
    """An instance without the name of the only input, and values without an axis of their own."""
    if not isinstance(instance, dict):
        return instance
    if isinstance(task, Records) and INPUT in task.names:
        pass
    elif len(instance) == 1 and INPUT in instance:
        return instance[INPUT]
    if isinstance(task, Records):
        return {name: v[0] if isinstance(v, list) and len(v) == 1 else v for name, v in instance.items()}
    return instance


def _from_columns(task: Task, inputs: Any, settings: Settings) -> Any:
    """The instances that ``inputs`` hold, one a row."""
    if not isinstance(inputs, dict):
        return inputs
    if not isinstance(task, Records) or (len(inputs) == 1 and INPUT in inputs and INPUT not in task.names):
        if set(inputs) != {INPUT}:
            raise InputError("inputs", f"the only input is {INPUT!r}", shorten(list(inputs)), "See the metadata.")
        return inputs[INPUT]
    count = None
    for name, values in inputs.items():
        field = f"inputs.{shorten(name)[1:-1]}"
        if not isinstance(values, list) or not values:
            raise InputError(field, "must be a list of at least one value", shorten(values), "Send one a row.")
        count = count or len(values)
        if len(values) != count:
            rule = f"every input has as many values as the first: {count}"
            raise InputError(field, rule, str(len(values)), "Send one a row.")
    limit_rows(count or 0, settings)
    return [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]


def _column_of(field: str) -> str:
    """What is called ``instances[3].weight``, where it came in a column."""
    found = _INSTANCE.fullmatch(field)
    if found is None:
        return field.replace("instances", "inputs", 1)
    row, rest = found.groups()
    return f"inputs.{rest}[{row}]" if rest and rest[0] != "[" else f"inputs[{row}]{rest}"


def encode(manifest: Manifest, question: Question, decoded: Decoded, outputs: NDArray[np.float32]) -> Answer:
    """The output tensors: ``predictions``, one a row, or ``outputs``."""
    tensors = tensors_of(manifest.task, outputs)
    columns: dict[str, Any] = {tensor.name: np.ascontiguousarray(tensor.data) for tensor in tensors}
    document: dict[str, Any]
    if len(columns) == 1:
        (values,) = columns.values()
        document = {"outputs" if decoded.wanted else "predictions": values}
    elif decoded.wanted:
        document = {"outputs": columns}
    else:
        rows = zip(*columns.values(), strict=True)
        document = {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}
    return Answer(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


def problem(error: Exception, request_id: str) -> Response:
    """The message alone, as TensorFlow Serving has it."""
    return errors.plain(error, request_id)
