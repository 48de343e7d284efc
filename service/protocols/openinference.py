"""The Open Inference Protocol (v2) over HTTP: JSON tensors, and the binary tensor extension both ways.

A binary body is the JSON part, of the length that the header ``Inference-Header-Content-Length`` says, then the data
of the tensors that have ``binary_data_size``, in their order, little-endian. Those are looked at where they lie.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.errors import DecodeError, InputError, shorten
from models.manifest import Manifest
from models.task import ImageClassification, Task
from service import errors
from service.decode.json import decode_json
from service.decode.json_cost import check_json
from service.decode.picture import picture_of_base64
from service.errors import NoRouteError
from service.protocols.base import Answer, Decoded, Headers, Parameters, Pin, Question, Response, beside
from service.protocols.signature import Wanted, check_wanted, rows_of, tensors_of
from service.protocols.tensors import BYTES, Tensor, raw_of, tensor_from_raw, tensor_from_values
from service.settings import Settings

_PREFIX, _SUFFIX = "/v2/models/", "/infer"
ROUTE = "/v2/models/{model}/infer"
BINARY = b"application/octet-stream"
# More JSON, or more binary data, takes over a millisecond to decode: long enough to be worth a thread. Bytes.
_INLINE_JSON, _INLINE_BINARY = 48 * 1024, 1024 * 1024
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Request:
    """What the body of a request says.

    Attributes:
        id: As the client gave it; None for none.
        tensors: The inputs.
        wanted: Outputs, in their order; empty for all.
        binary: Name of an output -> whether its data are to be binary.
        binary_by_default: The same for the others.
        timeout_s: Seconds after which the answer is of no use; 0 for none.
    """

    id: str | None
    tensors: list[Tensor]
    wanted: list[Wanted]
    binary: dict[str, bool]
    binary_by_default: bool
    timeout_s: float


def matches(path: str) -> bool:
    """Whether ``path`` is that of a prediction in this format."""
    return path.startswith(_PREFIX) and path.endswith(_SUFFIX)


def address(path: str, query: bytes) -> tuple[str, Pin | None, Parameters]:
    """The model's name, and the version that the path pins, if any. The query string says nothing.

    Raises:
        NoRouteError: The path has too many parts, or an empty one.
    """
    name, *pinned = path[len(_PREFIX) : -len(_SUFFIX)].split("/")
    if not pinned and name:
        return name, None, ()
    if len(pinned) != 2 or pinned[0] != "versions" or not name or not pinned[1]:
        raise NoRouteError(path)
    return name, Pin.named(pinned[1]), ()


def decode_at_once(manifest: Manifest, question: Question, settings: Settings) -> Decoded | None:
    """`decode` where that takes less than beginning a thread, else None.

    Raises:
        ServingError: As `decode`.
    """
    json_bytes = _json_bytes(question.headers)
    if not _is_small(question.body, json_bytes):
        return None
    request = read(manifest.task, question.body, json_bytes, settings.max_request_rows)
    _take_in(request, manifest.task, question)
    decoded = rows_of(manifest.task, request.tensors, settings)
    decoded.wanted = request
    return decoded if decoded.develop_if_small() else None


async def decode(manifest: Manifest, question: Question, settings: Settings) -> Decoded:
    """Rows from a request, beside the event loop when that may take long; `Decoded.wanted` is what its answer is to be.

    Raises:
        InputError: Something breaks the protocol, or the model's schema.
        DecodeError: The body, or a picture in it, cannot be read.
        TooLargeError: Too many rows.
    """
    json_bytes = _json_bytes(question.headers)
    body, task = question.body, manifest.task
    small = _is_small(body, json_bytes)
    reading = (task, body, json_bytes, settings.max_request_rows)
    request = read(*reading) if small else await beside(question, read, *reading)
    _take_in(request, task, question)
    found = (task, request.tensors, settings)
    decoded = rows_of(*found) if small else await asyncio.to_thread(rows_of, *found)
    decoded.wanted = request
    await decoded.develop(question)
    return decoded


def _take_in(request: Request, task: Task, question: Question) -> None:
    """What a request says besides its rows.

    Raises:
        InputError: It wants an output that does not exist.
    """
    if request.id is not None and _ID.fullmatch(request.id):
        question.request_id = request.id
    if request.timeout_s:
        late = (question.started or perf_counter()) + request.timeout_s
        question.deadline = late if question.deadline is None else min(late, question.deadline)
    if request.wanted:
        check_wanted(task, request.wanted)


def _is_small(body: bytes, json_bytes: int | None) -> bool:
    """Whether a body is read before a thread would have begun."""
    if len(body) <= _INLINE_JSON:
        return True
    if json_bytes is None or json_bytes > _INLINE_JSON or len(body) > _INLINE_BINARY:
        return False
    # Of texts each one counts, and an escape may hide the datatype's name.
    head = body[:json_bytes]
    return BYTES.encode() not in head and b"\\" not in head


def _json_bytes(headers: Headers) -> int | None:
    """Length of the JSON part in a binary body; None where all is JSON.

    Raises:
        DecodeError: That length is no number.
    """
    length = None
    for key, value in headers:
        if key == b"inference-header-content-length":
            if not value.isdigit() or len(value) > 12:
                received = shorten(value.decode("latin-1"))
                raise DecodeError(f"Inference-Header-Content-Length: must be a number of bytes. Received: {received}.")
            length = int(value)
    return length


def read(task: Task, body: bytes, json_bytes: int | None, max_rows: int) -> Request:
    """What ``body`` says.

    Args:
        task: Of the model.
        body: The whole of it.
        json_bytes: Length of the JSON part; None where all is JSON.
        max_rows: That a request may have.

    Raises:
        TooLargeError: More JSON than so many rows need.
        DecodeError: Not JSON, or another length than the parts have.
        InputError: A member breaks the protocol.
    """
    if json_bytes is not None and json_bytes > len(body):
        raise DecodeError(
            f"Inference-Header-Content-Length: {json_bytes} bytes of JSON do not fit into a body of {len(body)}. "
            "Count the bytes of the JSON part."
        )
    view = memoryview(body)
    head = body if json_bytes is None else body[:json_bytes]
    check_json(head, task, max_rows)
    document = _require(decode_json(head), "body", dict)
    parameters = _member(document, "parameters", dict, "body", default=_NOTHING)
    inputs = _member(document, "inputs", list, "body")
    if not inputs:
        raise InputError("inputs", "a request has at least one input", "none", "See the model's metadata.")
    raw = view[len(head) :]
    # To Python true is 1, to the sender it is none. Rare, and it needs an "e" after the first data: one memchr spares
    # a look at each number.
    booleans = head.find(b"e", max(head.find(b'"data"'), 0)) != -1
    tensors, place = [], 0
    for i, found in enumerate(inputs):
        tensor, size = _input(task, _require(found, f"inputs[{i}]", dict), f"inputs[{i}]", raw[place:], booleans)
        tensors.append(tensor)
        place += size
    if place != len(raw):
        raise DecodeError(
            f"body: binary_data_size of the inputs add up to {place}, but {len(raw)} bytes follow the JSON part. "
            "Check the sizes and Inference-Header-Content-Length."
        )
    wanted, binary = _outputs(_member(document, "outputs", list, "body", default=()))
    return Request(
        _member(document, "id", str, "body", default=None),
        tensors,
        wanted,
        binary,
        _member(parameters, "binary_data_output", bool, "parameters", default=False),
        _whole(parameters, "timeout", "parameters") / 1e6,
    )


def _input(task: Task, found: dict[str, Any], field: str, raw: memoryview, booleans: bool) -> tuple[Tensor, int]:
    """One input, and how many bytes of the binary data it has; ``raw`` begins with them."""
    name = _member(found, "name", str, field)
    datatype = _member(found, "datatype", str, field)
    shape = _member(found, "shape", list, field)
    parameters = _member(found, "parameters", dict, field, default=_NOTHING)
    if "shared_memory_region" in parameters:
        raise InputError(f"{field}.parameters", "there is no shared memory", "a region", "Send the data in the body.")
    if "binary_data_size" in parameters:
        size = _whole(parameters, "binary_data_size", f"{field}.parameters")
        if "data" in found:
            raise InputError(field, "has data or binary_data_size", "both", "Leave one of the two out.")
        if size > len(raw):
            raise DecodeError(f"{field}: binary_data_size is {size}, but only {len(raw)} bytes of the body are left.")
        return tensor_from_raw(name, datatype, shape, raw[:size]), size
    values = _member(found, "data", list, field)
    tensor = tensor_from_values(name, datatype, shape, values, booleans=booleans)
    if datatype == BYTES and isinstance(task, ImageClassification):
        # JSON is text, and a picture is none.
        tensor.data = [picture_of_base64(data.decode(), f"{name}[{i}]") for i, data in enumerate(tensor.data)]
    return tensor, 0


def _outputs(found: Sequence[Any]) -> tuple[list[Wanted], dict[str, bool]]:
    """The outputs that a request wants, and which of them binary or not."""
    wanted, binary = [], {}
    for i, one in enumerate(found):
        field = f"outputs[{i}]"
        name = _member(_require(one, field, dict), "name", str, field)
        parameters = _member(one, "parameters", dict, field, default=_NOTHING)
        wanted.append(Wanted(name, _whole(parameters, "classification", f"{field}.parameters")))
        if "binary_data" in parameters:
            binary[name] = _member(parameters, "binary_data", bool, f"{field}.parameters")
    return wanted, binary


_JSON_NAMES: Mapping[type, str] = MappingProxyType(
    {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
)
_REQUIRED: Any = object()
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _member(document: Mapping[str, Any], name: str, kind: type, where: str, default: Any = _REQUIRED) -> Any:
    """A member of an object, checked to be of its type."""
    value = document.get(name, default)
    if type(value) is kind or (value is default and default is not _REQUIRED):
        return value
    field = name if where == "body" else f"{where}.{name}"
    if value is _REQUIRED:
        raise InputError(field, "is required", "nothing", f"Send {_JSON_NAMES[kind]}.")
    return _require(value, field, kind)


def _require(value: Any, field: str, kind: type) -> Any:
    if not isinstance(value, kind):
        raise InputError(field, f"must be {_JSON_NAMES[kind]}", shorten(value), f"Send {_JSON_NAMES[kind]}.")
    return value


def _whole(parameters: Mapping[str, Any], name: str, where: str) -> int:
    """A parameter that is a whole number, 0 where it is left out."""
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value < 2**53:
        raise InputError(f"{where}.{name}", "must be a whole number, at least 0", shorten(value), "Leave it out.")
    return value


def encode(manifest: Manifest, question: Question, decoded: Decoded, outputs: NDArray[np.float32]) -> Answer:
    """The output tensors, in JSON or after it, as the request wants."""
    request: Request = decoded.wanted
    raw, found = [], []
    for tensor in tensors_of(manifest.task, outputs, request.wanted):
        document: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if request.binary.get(tensor.name, request.binary_by_default):
            raw.append(raw_of(tensor))
            document["parameters"] = {"binary_data_size": len(raw[-1])}
        elif isinstance(tensor.data, list):
            document["data"] = [item.decode() for item in tensor.data]
        else:
            document["data"] = tensor.data.ravel()
        found.append(document)
    answer: dict[str, Any] = {"model_name": manifest.name, "model_version": manifest.version, "outputs": found}
    if request.id is not None:
        answer["id"] = request.id
    body = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raw:
        return Answer(body)
    headers = ((b"inference-header-content-length", str(len(body)).encode()),)
    return Answer(b"".join((body, *raw)), BINARY, headers)


def problem(error: Exception, request_id: str) -> Response:
    """The message alone, as the protocol has it."""
    return errors.plain(error, request_id)
