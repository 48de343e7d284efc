"""ModelInfer's messages: what they mean as rows, and what is wrong with those that mean nothing."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from models.errors import InputError, ServingError
from models.task import Task
from service.decode.picture_decoder import PictureDecoder
from service.protocols import grpc as protocol
from service.protocols.base import Decoded, Question
from service.protocols.tensors import Tensor
from service.settings import Settings
from tests.bundles import CARS, CHURN, IMAGE, SERIES, STATE, make_bundle, rows_of
from tests.conftest import MakeBundle

SETTINGS = Settings()
MEMBER = {
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
NUMPY = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"} | {name: name.lower() for name in MEMBER if "INT" in name}


def typed(array: NDArray[Any], datatype: str, name: str = "input") -> Any:
    """A message with one input in typed contents."""
    message = pb.ModelInferRequest(model_name="m")
    tensor = message.inputs.add(name=name, datatype=datatype, shape=array.shape)
    getattr(tensor.contents, MEMBER[datatype]).extend(array.ravel().tolist())
    return message


def raw(array: NDArray[Any], datatype: str, name: str = "input") -> Any:
    """A message with one input in raw contents."""
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name=name, datatype=datatype, shape=array.shape)
    message.raw_input_contents.append(array.astype(NUMPY[datatype]).tobytes())
    return message


def question(message: Any, **options: Any) -> Question:
    picture_decoder = PictureDecoder(SETTINGS.max_picture_pixels)
    return Question(protocol, "an-id", b"", message, picture_decoder=picture_decoder, **options)


class Models:
    """Manifests without a service."""

    def __init__(self, folder: Any) -> None:
        self.manifests = {
            id(task): make_bundle(folder, name, task).manifest
            for name, task in (("clothes", IMAGE), ("cars", CARS), ("heat", SERIES), ("state", STATE), ("churn", CHURN))
        }

    def decode(self, task: Task, message: Any) -> Decoded:
        return asyncio.run(protocol.decode(self.manifests[id(task)], question(message), SETTINGS))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from(["UINT8", "UINT16", "INT32", "INT64", "FP32", "FP64"]))
@examples(max_examples=30, deadline=None)
def test_pixels_of_any_datatype_are_the_same_rows_raw_or_typed(
    models: Models, seed: int, count: int, datatype: str
) -> None:
    rows = rows_of(IMAGE, count, seed)
    for message in (typed(rows, datatype), raw(rows, datatype)):
        decoded = models.decode(IMAGE, message)
        assert decoded.rows.dtype == np.uint8
        assert np.array_equal(decoded.rows, rows)


@given(st.integers(0, 2**32), st.integers(1, 4))
@examples(max_examples=30, deadline=None)
def test_columns_are_the_same_rows_as_whole_rows_raw_or_typed(models: Models, seed: int, count: int) -> None:
    rows = rows_of(CARS, count, seed)
    columns = pb.ModelInferRequest(model_name="cars")
    for i, field in enumerate(CARS.fields):
        text = field.name == "origin"
        tensor = columns.inputs.add(name=field.name, datatype="BYTES" if text else "FP32", shape=[count, 1])
        values = [CARS.fields[2].values[int(code)].encode() for code in rows[:, 2]] if text else rows[:, i].tolist()
        getattr(tensor.contents, "bytes_contents" if text else "fp32_contents").extend(values)
    for message in (columns, typed(rows, "FP32"), raw(rows, "FP32")):
        assert np.array_equal(models.decode(CARS, message).rows, rows)


def columns(count: int) -> Any:
    message = pb.ModelInferRequest()
    for i in range(count):
        message.inputs.add(name=f"x{i}", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    return message


def texts(size: int) -> Any:
    message = pb.ModelInferRequest(raw_input_contents=[bytes(size)])
    message.inputs.add(name="input", datatype="BYTES", shape=[size // 4])
    return message


@pytest.mark.parametrize(
    ("message", "inline"),
    [
        (typed(np.ones((3, 784)), "FP32"), True),
        (typed(np.ones((20, 784)), "FP32"), False),
        (raw(np.ones((300, 784)), "FP32"), True),
        (raw(np.ones((400, 784)), "FP32"), False),
        (texts(40_000), True),
        (texts(60_000), False),
        (columns(256), True),
        (columns(257), False),
    ],
    ids=["typed", "much typed", "raw", "much raw", "texts", "many texts", "columns", "many columns"],
)
def test_the_loop_reads_only_what_takes_no_time(
    models: Models, message: Any, inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def spy(_: Any) -> list[Tensor]:
        threads.append(threading.current_thread())
        return [Tensor("input", "FP32", (1, 3), rows_of(CARS, 1))]

    monkeypatch.setattr(protocol, "tensors_from", spy)
    asyncio.run(protocol.decode(models.manifests[id(CARS)], question(message, size=message.ByteSize()), SETTINGS))
    assert (threads == [threading.current_thread()]) is inline


@pytest.mark.parametrize("members", ["inputs", "outputs"])
def test_more_tensors_than_any_model_has_are_refused_by_their_number(models: Models, members: str) -> None:
    message = pb.ModelInferRequest.FromString({"inputs": b"\x2a\0", "outputs": b"\x32\0"}[members] * 4097)
    with pytest.raises(InputError, match=f"{members}: at most 4096. Received: 4097"):
        models.decode(CARS, message)


def test_half_precision_comes_raw_alone(models: Models) -> None:
    rows = rows_of(SERIES, 2).astype(np.float16)
    assert np.array_equal(models.decode(SERIES, raw(rows, "FP16")).rows, rows.astype(np.float32))
    message = raw(rows, "FP16")
    del message.raw_input_contents[:]
    with pytest.raises(InputError, match="FP16 has no typed contents"):
        models.decode(SERIES, message)


def test_the_answer_has_raw_outputs_in_the_order_asked_for(bundle_of: MakeBundle) -> None:
    manifest = bundle_of(SERIES, name="heat").manifest
    message = raw(rows_of(SERIES, 2), "FP32")
    message.id = "mine"
    for name in ("high", "forecast"):
        message.outputs.add(name=name)
    asked = question(message)
    decoded = asyncio.run(protocol.decode(manifest, asked, SETTINGS))
    outputs = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    response = protocol.encode(manifest, asked, decoded, outputs).body
    assert (response.model_name, response.model_version, response.id) == ("heat", manifest.version, "mine")
    assert [(output.name, output.datatype, list(output.shape)) for output in response.outputs] == [
        ("high", "FP32", [2, 2]),
        ("forecast", "FP32", [2, 2]),
    ]
    assert np.frombuffer(response.raw_output_contents[0], "<f4").tolist() == [2, 5, 8, 11]
    assert np.frombuffer(response.raw_output_contents[1], "<f4").tolist() == [0, 3, 6, 9]


def test_an_earlier_timeout_than_the_callers_deadline_counts(bundle_of: MakeBundle) -> None:
    manifest = bundle_of(CARS).manifest
    message = raw(rows_of(CARS, 1), "FP32")
    for timeout, given_, expected in (
        (2_000_000, 11.0, 11.0),
        (500_000, 11.0, 10.5),
        (500_000, None, 10.5),
        (0, None, None),
    ):
        message.parameters["timeout"].int64_param = timeout
        asked = question(message, started=10.0, deadline=given_)
        asyncio.run(protocol.decode(manifest, asked, SETTINGS))
        assert asked.deadline == expected


def broken(change: Any, rows: NDArray[Any] | None = None) -> Any:
    """A raw message of two pictures, changed."""
    message = raw(rows_of(IMAGE, 2) if rows is None else rows, "UINT8")
    change(message)
    return message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.raw_input_contents.append(b""), "raw_input_contents: as many as inputs: 1. Received: 2"),
        (lambda m: m.inputs[0].contents.uint_contents.append(1), "either raw or typed"),
        (lambda m: m.inputs[0].parameters["shared_memory_region"].SetInParent(), "a shared memory region"),
        (lambda m: m.parameters["timeout"].CopyFrom(pb.InferParameter(string_param="1")), "parameters.timeout"),
        (lambda m: m.parameters["timeout"].CopyFrom(pb.InferParameter(int64_param=-1)), "at least 0. Received: -1"),
        (
            lambda m: m.outputs.add(name="probabilities").parameters["classification"].SetInParent(),
            "outputs[0].parameters.classification",
        ),
        (lambda m: m.outputs.add(name="nope"), "outputs[0]"),
        (lambda m: m.raw_input_contents.__setitem__(0, b"short"), "takes 1568 bytes. Received: 5 bytes"),
        (lambda m: setattr(m.inputs[0], "datatype", "BF16"), "datatype must be one of"),
        (lambda m: m.inputs[0].shape.__setitem__(0, -1), "each at least 1"),
        (lambda m: m.inputs[0].shape.__setitem__(0, 2**62), "bytes. Received: 1568"),
        (lambda m: m.inputs[0].shape.__delitem__(slice(None)), "shape must be"),
        (lambda m: setattr(m.inputs[0], "name", "x" * 1000), "a name has at most 200 characters"),
        (lambda m: (m.inputs.__delitem__(0), m.raw_input_contents.__delitem__(0)), "inputs"),
    ],
)
def test_what_means_nothing_is_refused_with_what_is_wrong(models: Models, change: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        models.decode(IMAGE, broken(change))
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_values_that_the_datatype_does_not_hold_are_refused(models: Models) -> None:
    message = pb.ModelInferRequest()
    tensor = message.inputs.add(name="input", datatype="UINT8", shape=[1, 28, 28])
    tensor.contents.uint_contents.extend([0] * 783 + [256])
    with pytest.raises(InputError, match=r"input\[783\]: must be a value of UINT8. Received: 256"):
        models.decode(IMAGE, message)


TENSORS = st.builds(
    dict,
    name=st.sampled_from(["input", "weight", "origin", ""]),
    datatype=st.sampled_from([*NUMPY, "BYTES", "BOOL", "BF16", ""]),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 30), max_size=10),
)


@given(
    st.lists(TENSORS, max_size=4),
    st.lists(st.binary(max_size=100), max_size=4),
    st.lists(st.binary(max_size=8), max_size=4),
    st.sampled_from([IMAGE, CARS, SERIES, CHURN, STATE]),
)
@examples(max_examples=100, deadline=None)
def test_hostile_messages_get_an_error_of_ours(
    models: Models, tensors: list[Any], contents: list[bytes], typed_: list[bytes], task: Task
) -> None:
    message = pb.ModelInferRequest(inputs=tensors, raw_input_contents=contents)
    for tensor, value in zip(message.inputs, typed_, strict=False):
        tensor.contents.bytes_contents.append(value)
    with pytest.raises(ServingError) as caught:
        models.decode(task, message)
    assert len(str(caught.value)) < 2000
