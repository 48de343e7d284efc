"""Every protocol before every kind of model: whatever is sent is rows, or an error that says what is wrong.

Bodies that are nearly right, as rubbish is refused by the first byte. More of them: FUZZ_EXAMPLES=2000 pytest -m slow.
"""

import asyncio
import base64
import io
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image
from tritonclient.grpc import service_pb2 as pb

from models.errors import ServingError
from models.manifest import Manifest
from models.task import ImageClassification, Records, Task
from service.decode.picture_decoder import PictureDecoder
from service.errors import status_of
from service.grpc_calls import read
from service.protocols import grpc, native, openinference, tfserving
from service.protocols.base import Question
from service.protocols.grpc_cost import check_cost
from service.settings import Settings
from tests.bundles import CARS, CHURN, IMAGE, SERIES, STATE, example_of, make_bundle, rows_of

TASKS: dict[str, Task] = {"cars": CARS, "churn": CHURN, "clothes": IMAGE, "heat": SERIES, "state": STATE}
SETTINGS = Settings.load(max_request_rows=16, max_queue_rows=16, max_picture_pixels=10_000)
PICTURE_DECODER = PictureDecoder(SETTINGS.max_picture_pixels)
# What a body of a few kilobytes may make of itself: rows, values, and what the parsers keep. Bytes.
MOST_MEMORY = 8 * 2**20
MORE = int(os.environ.get("FUZZ_EXAMPLES", "100"))


@dataclass(frozen=True)
class Sent:
    """A request to one protocol: its body, and what of the headers matters."""

    protocol: Any
    body: bytes
    content_type: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def tensors_of(task: Task) -> list[dict[str, Any]]:
    """The inputs of the Open Inference Protocol for one row."""
    row = rows_of(task, 1)
    if not isinstance(task, Records):
        return [{"name": "input", "datatype": "FP32", "shape": list(row.shape), "data": row.ravel().tolist()}]
    record = task.record(row[0])
    return [
        {"name": name, "datatype": "BYTES" if isinstance(value, str) else "FP32", "shape": [1], "data": [value]}
        for name, value in record.items()
    ]


def _picture(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rows_of(IMAGE, 1)[0, :, :, 0]).save(file, kind, **options)
    return file.getvalue()


def rights(task: Task) -> Iterator[Sent]:
    """A right request of every format that there is for ``task``."""
    instance = example_of(task)
    rows = rows_of(task, 2)
    npy = io.BytesIO()
    np.save(npy, rows)
    yield Sent(native, _json({"instances": [instance, instance]}), b"application/json")
    yield Sent(native, npy.getvalue(), b"application/x-npy")
    yield Sent(tfserving, _json({"instances": [instance], "signature_name": "serving_default"}))
    if isinstance(task, Records):
        yield Sent(tfserving, _json({"inputs": {name: [value] for name, value in instance.items()}}))
    inputs = tensors_of(task)
    yield Sent(openinference, _json({"id": "1", "inputs": inputs, "parameters": {"timeout": 5_000_000}}))
    message = pb.ModelInferRequest(model_name="m")
    typed = message.inputs.add(name="input", datatype="FP32", shape=rows.shape)
    typed.contents.fp32_contents.extend(rows.ravel().tolist())
    yield Sent(grpc, message.SerializeToString())
    raw = rows.astype("<f4").tobytes()
    lying = pb.ModelInferRequest(model_name="m", raw_input_contents=[raw])
    lying.inputs.add(name="input", datatype="FP32", shape=rows.shape)
    yield Sent(grpc, lying.SerializeToString())
    tensor = {"name": "input", "datatype": "FP32", "shape": rows.shape, "parameters": {"binary_data_size": len(raw)}}
    head = _json({"inputs": [tensor]})
    length = (b"inference-header-content-length", str(len(head)).encode())
    yield Sent(openinference, head + raw, headers=(length,))
    if isinstance(task, ImageClassification):
        picture = _picture("PNG")
        yield Sent(native, picture, b"image/png")
        yield Sent(native, _picture("JPEG", quality=20), b"image/jpeg")
        boundary = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        yield Sent(native, boundary + picture + b"\r\n--x--\r\n", b"multipart/form-data; boundary=x")
        text = base64.b64encode(picture).decode()
        encoded = {"name": "input", "datatype": "BYTES", "shape": [1], "data": [text]}
        yield Sent(openinference, _json({"inputs": [encoded]}))
        yield Sent(tfserving, _json({"instances": [{"b64": text}]}))


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    folder: Path = tmp_path_factory.mktemp("any")
    return {name: make_bundle(folder, name, task).manifest for name, task in TASKS.items()}


HOSTILE = st.sampled_from(
    [
        *(None, True, -1, 0, 0.5, 10**6, 2**63, 2**70, 1e308, float("nan"), "", "x" * 300, "\ud800", "é"),
        *([], {}, [[]], [0], [None], {"": 1}, {"b64": ""}, {"b64": "AAAA"}),
        *("INT8", "UINT64", "BYTES", "FP16", "input", "production"),
    ]
)


PIECES = st.sampled_from([b"", b"\0", b"\xff" * 4, b"\x7f" * 8, b"-9", b'"', b"[", b"\r\n"]) | st.binary(max_size=6)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in a JSON value, of a long list only the first members."""
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, inner in members:
        yield from _places(inner, (*path, key))


def _changed(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(value)
    key, *rest = path
    inner = _changed(value[key], tuple(rest), change)
    if isinstance(value, dict):
        return {**value, key: inner}
    return [*value[:key], inner, *value[key + 1 :]]


def _nest(value: Any) -> Any:
    for _ in range(40):
        value = [value]
    return value


CHANGES: list[Callable[[Any], Any]] = [
    lambda value: [value],
    lambda value: [value, value],
    lambda value: [value] * 40,
    lambda value: value[:-1] if isinstance(value, list | str) else None,
    lambda value: dict(list(value.items())[1:]) if isinstance(value, dict) else {"value": value},
    lambda value: {**value, "more": 1} if isinstance(value, dict) else value,
    lambda value: str(value)[:50],
    _nest,
]


@st.composite
def nearly_right(draw: Any, right: Sent) -> Sent:
    """``right`` with a few members or bytes changed."""
    body, headers = right.body, right.headers
    if body[:1] == b"{" and draw(st.booleans()):
        head_bytes = int(headers[0][1]) if headers else len(body)
        document = json.loads(body[:head_bytes])
        for _ in range(draw(st.integers(1, 2))):
            path = draw(st.sampled_from(list(_places(document))))
            other = draw(HOSTILE)
            document = _changed(document, path, draw(st.sampled_from([*CHANGES, lambda _, other=other: other])))
        head = _json(document)
        body = head + body[head_bytes:]
        headers = ((headers[0][0], str(len(head)).encode()),) if headers else ()
    for _ in range(draw(st.integers(0 if body != right.body else 1, 3))):
        at = draw(st.integers(0, len(body)))
        kept = at + draw(st.sampled_from([0, 1, 4, len(body)]))
        more = draw(PIECES)
        body = body[:at] + more + body[kept:]
    return replace(right, body=body, headers=headers)


def outcome(manifest: Manifest, sent: Sent) -> str:
    """What the sender is told; empty for an answer."""
    question = Question(
        sent.protocol, "an-id", sent.content_type, sent.body, headers=sent.headers, picture_decoder=PICTURE_DECODER
    )
    try:
        if sent.protocol is grpc:
            check_cost(sent.body)
            question.body, question.size = read(pb.ModelInferRequest, sent.body), len(sent.body)
        decoded = asyncio.run(sent.protocol.decode(manifest, question, SETTINGS))
    except ServingError as error:
        if status_of(error) >= 500:
            raise
        return str(error)
    task, rows = manifest.task, decoded.rows
    assert rows.shape[1:] == task.input_shape
    assert 1 <= len(rows) <= SETTINGS.max_request_rows
    assert rows.dtype == task.dtype
    return ""


CASES = [(name, number) for name, task in TASKS.items() for number, _ in enumerate(rights(task))]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_a_right_request_of_every_format_is_rows(manifests: dict[str, Manifest], name: str, number: int) -> None:
    """So that what follows starts from something."""
    assert outcome(manifests[name], list(rights(TASKS[name]))[number]) == ""


def check(manifest: Manifest, sent: Sent) -> None:
    tracemalloc.start()
    try:
        told = outcome(manifest, sent)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(told) < 2000
    assert most < MOST_MEMORY


@given(st.data())
@examples(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_nearly_right_is_rows_or_an_error_that_says_what_is_wrong(
    manifests: dict[str, Manifest], data: st.DataObject
) -> None:
    name, number = data.draw(st.sampled_from(CASES))
    check(manifests[name], data.draw(nearly_right(list(rights(TASKS[name]))[number])))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), CASES)
def test_the_same_with_many_more_of_each_format(manifests: dict[str, Manifest], name: str, number: int) -> None:
    right = list(rights(TASKS[name]))[number]

    @given(nearly_right(right))
    @examples(max_examples=MORE, deadline=None, suppress_health_check=list(HealthCheck))
    def fuzz(sent: Sent) -> None:
        check(manifests[name], sent)

    fuzz()
