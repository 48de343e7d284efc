"""Every protocol and payload: rows to a request, output rows to the answer that it must get, an answer to its values.

Written from the protocols' own documents and not with the service's code, so that the two check each other.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from loadtests import tensors
from models.pictures import png
from models.task import Classes, ImageClassification, Records, SequenceForecast, Sequences, Task

JSON, PNG, NPY = "application/json", "image/png", "application/x-npy"
NATIVE, TFSERVING, OPENINFERENCE, GRPC = PROTOCOLS = ("native", "tfserving", "openinference", "grpc")
_BOUNDARY = "a-boundary-of-the-load-test"

Rows = NDArray[Any]
Headers = tuple[tuple[str, str], ...]
Read = Callable[[bytes], tuple[str, Any]]
"""Of a body: the version that answered, empty where the format does not say, and what it says."""


@dataclass(frozen=True)
class Request:
    """What is sent.

    Attributes:
        headers: But for the length.
        body: Of gRPC the message.
    """

    headers: Headers
    body: bytes


@dataclass(frozen=True)
class Format:
    """One payload of one protocol.

    Attributes:
        path: Where it is sent; ``{model}`` is filled in.
        request: Of a task and rows ``(n, *input_shape)``; None where the payload cannot carry them.
        answer: Of a task and output rows ``(n, *output_shape)``.
        read: Finds the same in a body.
        where: What it is called in a message.
    """

    path: str
    request: Callable[[Task, Rows], Request | None]
    answer: Callable[[Task, NDArray[np.float32]], Any]
    read: Read
    where: str


def _send(document: Any) -> Request:
    return Request((("Content-Type", JSON),), orjson.dumps(document))


def _instances(task: Task, rows: Rows) -> list[Any]:
    """As people write them: grey pictures and single series without their last axis, records as objects."""
    if isinstance(task, Records):
        return [task.record(row) for row in rows]
    one = isinstance(task, ImageClassification | Sequences) and rows.shape[-1] == 1
    return (rows[..., 0] if one else rows).tolist()  # type: ignore[no-any-return]


def _json(task: Task, rows: Rows) -> Request:
    return _send({"instances": _instances(task, rows)})


def _npy(_: Task, rows: Rows) -> Request:
    stream = io.BytesIO()
    np.save(stream, rows)
    return Request((("Content-Type", NPY),), stream.getvalue())


def _png(task: Task, rows: Rows) -> Request | None:
    if not isinstance(task, ImageClassification) or len(rows) != 1:
        return None
    return Request((("Content-Type", PNG),), png(rows[0]))


def _form(task: Task, rows: Rows) -> Request | None:
    if not isinstance(task, ImageClassification):
        return None
    head = 'Content-Disposition: form-data; name="file"; filename="{}.png"\r\nContent-Type: image/png\r\n\r\n'
    parts = [f"--{_BOUNDARY}\r\n{head.format(number)}".encode() + png(row) + b"\r\n" for number, row in enumerate(rows)]
    body = b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()
    return Request((("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}"),), body)


def _answers(task: Task, outputs: NDArray[np.float32]) -> Any:
    # orjson turns numpy's numbers into those that the service would send.
    answers = [task.answer(output) for output in outputs]
    return orjson.loads(orjson.dumps(answers, option=orjson.OPT_SERIALIZE_NUMPY))


def _read_native(body: bytes) -> tuple[str, Any]:
    document = orjson.loads(body)
    return document["version"], document["predictions"]


def _row(task: Task, rows: Rows) -> Request:
    return _send({"instances": _instances(task, rows) if isinstance(task, Records) else rows.tolist()})


def _column(task: Task, rows: Rows) -> Request:
    if not isinstance(task, Records):
        return _send({"inputs": rows.tolist()})
    records = [task.record(row) for row in rows]
    return _send({"inputs": {name: [record[name] for record in records] for name in task.names}})


def outputs_by_name(task: Task, outputs: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The output tensors of both other protocols: one for classes, three for values and forecasts."""
    if isinstance(task, Classes):
        return {"probabilities": outputs}
    value = "forecast" if isinstance(task, SequenceForecast) else "value"
    values = outputs if outputs.ndim == 3 else outputs[:, np.newaxis]
    return {name: values[..., place] for place, name in enumerate((value, "low", "high"))}


def _predictions(task: Task, outputs: NDArray[np.float32]) -> Any:
    named = {name: tensor.tolist() for name, tensor in outputs_by_name(task, outputs).items()}
    if len(named) == 1:
        return next(iter(named.values()))
    return [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]


def _columns(task: Task, outputs: NDArray[np.float32]) -> Any:
    named = {name: tensor.tolist() for name, tensor in outputs_by_name(task, outputs).items()}
    return next(iter(named.values())) if len(named) == 1 else named


def _reader(member: str) -> Read:
    return lambda body: ("", orjson.loads(body)[member])


def _inputs(task: Task, rows: Rows) -> list[tensors.Input]:
    if isinstance(task, Records):
        return tensors.of_records(task, rows)
    return [tensors.Input("input", "UINT8" if task.dtype == "uint8" else "FP32", rows)]


def _v2_json(task: Task, rows: Rows) -> Request:
    return _send({"inputs": [given.to_json() for given in _inputs(task, rows)]})


def _v2_binary(task: Task, rows: Rows) -> Request:
    given = _inputs(task, rows)
    document = {"inputs": [one.to_head() for one in given], "parameters": {"binary_data_output": True}}
    head = json.dumps(document).encode()
    headers = (("Content-Type", "application/octet-stream"), ("Inference-Header-Content-Length", str(len(head))))
    return Request(headers, head + b"".join(one.raw() for one in given))


def _raw(task: Task, rows: Rows) -> Request:
    return Request((), tensors.message(_inputs(task, rows), raw=True))


def _typed(task: Task, rows: Rows) -> Request:
    return Request((), tensors.message(_inputs(task, rows), raw=False))


def _tensors(task: Task, outputs: NDArray[np.float32]) -> Any:
    named = outputs_by_name(task, outputs)
    return {
        name: {"shape": list(values.shape), "datatype": "FP32", "data": values.ravel().tolist()}
        for name, values in named.items()
    }


_PREDICT, _V1, _V2 = "/predict/{model}", "/v1/models/{model}:predict", "/v2/models/{model}/infer"
FORMATS = MappingProxyType(
    {
        (NATIVE, "json"): Format(_PREDICT, _json, _answers, _read_native, "predictions"),
        (NATIVE, "png"): Format(_PREDICT, _png, _answers, _read_native, "predictions"),
        (NATIVE, "form"): Format(_PREDICT, _form, _answers, _read_native, "predictions"),
        (NATIVE, "npy"): Format(_PREDICT, _npy, _answers, _read_native, "predictions"),
        (TFSERVING, "row"): Format(_V1, _row, _predictions, _reader("predictions"), "predictions"),
        (TFSERVING, "column"): Format(_V1, _column, _columns, _reader("outputs"), "outputs"),
        (OPENINFERENCE, "json"): Format(_V2, _v2_json, _tensors, tensors.read_http, "outputs"),
        (OPENINFERENCE, "binary"): Format(_V2, _v2_binary, _tensors, tensors.read_http, "outputs"),
        (GRPC, "raw"): Format("{model}", _raw, _tensors, tensors.read_message, "outputs"),
        (GRPC, "typed"): Format("{model}", _typed, _tensors, tensors.read_message, "outputs"),
    }
)
"""(protocol, payload) -> format."""
PAYLOADS: Sequence[str] = tuple(dict.fromkeys(payload for _, payload in FORMATS))
