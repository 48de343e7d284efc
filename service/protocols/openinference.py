"""The Open Inference Protocol (v2) over HTTP: JSON tensors, and the binary tensor extension both ways.

A binary body is the JSON part, of the length that the header ``Inference-Header-Content-Length`` says, then the data
of the tensors that have ``binary_data_size``, in their order, little-endian. Those are looked at where they lie.
"""

import asyncio
import re
from time import perf_counter
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.errors import DecodeError, shorten
from models.manifest import Manifest
from models.task import Task
from service import errors
from service.errors import NoRouteError
from service.protocols.base import Answer, Decoded, Headers, Parameters, Pin, Question, Response, beside
from service.protocols.openinference_body import Request, read
from service.protocols.signature import check_wanted, rows_of, tensors_of
from service.protocols.tensors import BYTES, raw_of
from service.settings import Settings

_PREFIX, _SUFFIX = "/v2/models/", "/infer"
ROUTE = "/v2/models/{model}/infer"
BINARY = b"application/octet-stream"
# More JSON, or more binary data, takes over a millisecond to decode: long enough to be worth a thread. Bytes.
_INLINE_JSON, _INLINE_BINARY = 48 * 1024, 1024 * 1024
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


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
    return decoded if decoded.decode_pictures_if_small() else None


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
    await decoded.decode_pictures(question)
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
