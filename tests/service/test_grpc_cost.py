"""What a message would cost is found out without reading it: no honest one is refused, no dear one is let through."""

import itertools
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError as MessageError
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from service.errors import TooLargeError
from service.protocols import grpc_cost
from service.protocols.grpc_cost import check_cost


def number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes(found) + bytes([value])


def member(field: int, content: bytes) -> bytes:
    return number(field << 3 | 2) + number(len(content)) + content


def contents(content: bytes) -> bytes:
    return member(5, member(5, content))


MANY = grpc_cost.MOST_FIELDS
DEAR = {
    "parameters of an input": member(5, b"\x22\x00" * MANY),
    "contents of an input, again and again": member(5, b"\x2a\x00" * MANY),
    "numbers one by one": contents(b"\x10\x01" * MANY),
    "texts": contents(b"\x42\x00" * MANY),
    "fixed numbers": b"\xf5\x01" + b"\x00" * 4 + b"\xf1\x01" + b"\x00" * 8 + b"\xf8\x01\x00" * MANY,
    "groups": b"\xfb\x01\xfc\x01" * MANY,
    "a choice, again and again": member(4, member(2, b"\x08\x01" * MANY)),
    "what breaks off in the end": b"\x2a\x00" * (MANY + 1) + b"\x2a",
    "listed numbers": contents(member(2, b"\x01" * (grpc_cost.MOST_LISTED_BYTES + 1))),
    "a shape": member(5, member(3, b"\x01" * (grpc_cost.MOST_LISTED_BYTES + 1))),
    "listed numbers in parts": contents(member(2, b"\x01" * 2**16)) * 9,
}


@pytest.mark.parametrize("name", DEAR)
def test_what_is_dear_to_read_is_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(TooLargeError, match=r"A message has at most .* Send inputs raw"):
        check_cost(DEAR[name])


def test_what_is_large_and_cheap_passes() -> None:
    message = pb.ModelInferRequest(model_name="cnn", raw_input_contents=[bytes(10**6), b"", bytes(10**6)])
    message.inputs.add(name="input", datatype="UINT8", shape=[1024, 28, 28, 1])
    texts = message.inputs.add(name="texts", datatype="BYTES", shape=[20_000])
    texts.contents.bytes_contents.extend([b"some text"] * 20_000)
    pictures = message.inputs.add(name="pictures", datatype="BYTES", shape=[2])
    pictures.contents.bytes_contents.extend([bytes(10**6)] * 2)
    listed = message.inputs.add(name="listed", datatype="FP32", shape=[100_000])
    listed.contents.fp32_contents.extend(np.zeros(100_000).tolist())
    check_cost(message.SerializeToString())


_TEXT = st.text(max_size=4)
_PARAMETER = st.builds(pb.InferParameter, int64_param=st.integers(-5, 5)) | st.builds(
    pb.InferParameter, string_param=_TEXT
)
_CONTENTS = st.builds(
    pb.InferTensorContents,
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
    fp64_contents=st.lists(st.floats(), max_size=4),
    bytes_contents=st.lists(st.binary(max_size=4), max_size=4),
)
_INPUT = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=_TEXT,
    datatype=_TEXT,
    shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    parameters=st.dictionaries(_TEXT, _PARAMETER, max_size=3),
    contents=_CONTENTS | st.none(),
)
MESSAGE = st.builds(
    pb.ModelInferRequest,
    model_name=_TEXT,
    id=_TEXT,
    parameters=st.dictionaries(_TEXT, _PARAMETER, max_size=3),
    inputs=st.lists(_INPUT, max_size=3),
    raw_input_contents=st.lists(st.binary(max_size=9), max_size=3),
)


def fields_of(message: Any) -> int:
    """Fields of a message and of those within, as they lie on the wire: lists of numbers are one."""
    total = 0
    for field, value in message.ListFields():
        entries = field.message_type and field.message_type.GetOptions().map_entry
        if entries:
            total += sum(1 + 2 + fields_of(one) for one in value.values())
        elif field.message_type:
            each = value if field.is_repeated else [value]
            total += sum(1 + fields_of(one) for one in each)
        elif field.is_repeated and field.type in (field.TYPE_BYTES, field.TYPE_STRING):
            total += len(value)
        else:
            total += 1
    return total


@given(MESSAGE)
@examples(max_examples=40, deadline=None)
def test_fields_are_counted_as_they_lie_on_the_wire(message: Any) -> None:
    cost = grpc_cost._Cost()
    data = message.SerializeToString()
    grpc_cost._walk(data, 0, len(data), grpc_cost._REQUEST, cost)
    assert cost.fields == fields_of(message)


_BROKEN = st.builds(
    lambda message, at, more: message.SerializeToString()[:at] + more,
    MESSAGE,
    st.integers(0, 60),
    st.binary(max_size=9),
)


@given(st.binary(max_size=40) | _BROKEN)
@examples(max_examples=60, deadline=None)
def test_any_bytes_are_counted_and_no_message_has_more_fields_than_were_counted(data: bytes) -> None:
    cost = grpc_cost._Cost()
    grpc_cost._walk(data, 0, len(data), grpc_cost._REQUEST, cost)
    assert cost.fields <= len(data)
    try:
        message = pb.ModelInferRequest.FromString(data)
    except MessageError:
        return
    assert sum(1 for _ in itertools.chain(message.inputs, message.outputs, message.raw_input_contents)) <= cost.fields
