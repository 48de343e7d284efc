"""What the body of an Open Inference request says: JSON tensors, and binary ones behind them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from models.errors import DecodeError, InputError, shorten
from models.task import ImageClassification, Task
from service.decode.json import decode_json
from service.decode.json_cost import check_json
from service.decode.picture import picture_of_base64
from service.protocols.signature import Wanted
from service.protocols.tensors import BYTES, Tensor, tensor_from_raw, tensor_from_values

_JSON_NAMES: Mapping[type, str] = MappingProxyType(
    {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
)
_REQUIRED: Any = object()
_NOTHING: Mapping[str, Any] = MappingProxyType({})


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
    if json_bytes is not None and json_bytes <= _MAX_LAYOUT_BYTES:
        layout = _LAYOUTS.get(head)
        if layout is not None and layout.raw_bytes == len(body) - json_bytes:
            return layout.request(view[json_bytes:])
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
    request = Request(
        _member(document, "id", str, "body", default=None),
        tensors,
        wanted,
        binary,
        _member(parameters, "binary_data_output", bool, "parameters", default=False),
        _whole(parameters, "timeout", "parameters") / 1e6,
    )
    _keep_layout(head, request, len(raw))
    return request


class _Layout:
    """What a JSON part says whose inputs are all numbers in the binary data; a client's requests differ in these."""

    __slots__ = ("_request", "_tensors", "raw_bytes")

    def __init__(self, request: Request, raw_bytes: int) -> None:
        # Without the data of the one that was read.
        self._request, self.raw_bytes = replace(request, tensors=[]), raw_bytes
        self._tensors = [(one.name, one.datatype, one.shape, one.data.dtype) for one in request.tensors]  # type: ignore[union-attr]

    def request(self, raw: memoryview) -> Request:
        """The request with these binary data."""
        tensors, place = [], 0
        for name, datatype, shape, dtype in self._tensors:
            data = np.frombuffer(raw, dtype, math.prod(shape), place).reshape(shape)
            tensors.append(Tensor(name, datatype, shape, data))
            place += data.nbytes
        like = self._request
        return Request(None, tensors, like.wanted, like.binary, like.binary_by_default, like.timeout_s)


# JSON part -> what it says. Of the few layouts that clients have; one with an id is as good as never seen again.
_LAYOUTS: dict[bytes, _Layout] = {}
_MOST_LAYOUTS, _MAX_LAYOUT_BYTES = 64, 1024


def _keep_layout(head: bytes, request: Request, raw_bytes: int) -> None:
    """Spare the next request of the same layout the reading of its JSON."""
    tensors = request.tensors
    in_raw = sum(0 if isinstance(one.data, list) else one.data.nbytes for one in tensors) == raw_bytes > 0
    if in_raw and request.id is None and len(head) <= _MAX_LAYOUT_BYTES:
        if len(_LAYOUTS) >= _MOST_LAYOUTS:
            _LAYOUTS.clear()
        _LAYOUTS[head] = _Layout(request, raw_bytes)


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
