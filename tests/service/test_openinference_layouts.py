"""The JSON part of a binary request is read once: the same words with other data give that data, and nothing else."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import DecodeError
from service.protocols import openinference_body
from service.protocols.openinference_body import Request, read
from service.protocols.tensors import DTYPES
from tests.bundles import CARS

NUMBERS = st.sampled_from(sorted(set(DTYPES) - {"BOOL"}))
SHAPES = st.lists(st.integers(1, 3), min_size=1, max_size=3)


@pytest.fixture(autouse=True)
def layouts() -> Iterator[dict[bytes, Any]]:
    """Those that were seen."""
    openinference_body._LAYOUTS.clear()
    yield openinference_body._LAYOUTS
    openinference_body._LAYOUTS.clear()


def head_of(inputs: list[tuple[str, list[int]]], **others: Any) -> tuple[bytes, int]:
    """The JSON part, and how many bytes follow it."""
    sizes = [int(np.prod(shape)) * DTYPES[datatype].itemsize for datatype, shape in inputs]
    tensors = [
        {"name": f"t{i}", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
        for i, ((datatype, shape), size) in enumerate(zip(inputs, sizes, strict=True))
    ]
    return json.dumps({"inputs": tensors, **others}).encode(), sum(sizes)


def told(request: Request) -> tuple[Any, ...]:
    """All of a request, so that two can be compared."""
    tensors = [(t.name, t.datatype, t.shape, np.asarray(t.data).tobytes()) for t in request.tensors]
    return request.id, tensors, request.wanted, request.binary, request.binary_by_default, request.timeout_s


OTHERS: list[dict[str, Any]] = [
    {},
    {"parameters": {"binary_data_output": True, "timeout": 5000}},
    {"outputs": [{"name": "value", "parameters": {"binary_data": True}}]},
]


@given(st.lists(st.tuples(NUMBERS, SHAPES), min_size=1, max_size=3), st.sampled_from(OTHERS), st.randoms())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_a_layout_that_was_seen_gives_what_reading_gives(
    layouts: dict[bytes, Any], inputs: list[tuple[str, list[int]]], others: dict[str, Any], random: Any
) -> None:
    head, size = head_of(inputs, **others)
    bodies = [head + random.randbytes(size) for _ in range(3)]
    layouts.clear()
    first, second, third = (told(read(CARS, body, len(head), 8)) for body in bodies)
    assert len(layouts) == 1
    for seen, body in ((first, bodies[0]), (second, bodies[1]), (third, bodies[2])):
        layouts.clear()
        assert seen == told(read(CARS, body, len(head), 8))


def test_a_seen_layout_is_not_read_again(layouts: dict[bytes, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    head, size = head_of([("FP32", [2, 2])])
    read(CARS, head + bytes(size), len(head), 8)
    monkeypatch.setattr(openinference_body, "decode_json", lambda _: pytest.fail("it was read"))
    (tensor,) = read(CARS, head + np.ones((2, 2), np.float32).tobytes(), len(head), 8).tensors
    np.testing.assert_array_equal(tensor.data, np.ones((2, 2), np.float32))


def test_other_data_than_the_layout_has_are_refused_as_ever(layouts: dict[bytes, Any]) -> None:
    head, size = head_of([("FP32", [2, 2])])
    read(CARS, head + bytes(size), len(head), 8)
    for wrong in (size - 1, size + 1, 0):
        with pytest.raises(DecodeError, match="binary_data_size"):
            read(CARS, head + bytes(wrong), len(head), 8)


def test_what_differs_each_time_or_is_long_is_not_kept_and_what_is_kept_has_a_bound(layouts: dict[bytes, Any]) -> None:
    one = [("UINT8", [1, 4])]
    for head, size in (head_of(one, id="a"), head_of(one, parameters={"x": "y" * 1024})):
        read(CARS, head + bytes(size), len(head), 8)
    text = json.dumps({"inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["abc"]}]}).encode()
    read(CARS, text, len(text), 8)
    texts, size = head_of([("UINT8", [8])])
    texts = texts.replace(b"UINT8", b"BYTES").replace(b"[8]", b"[1]")
    read(CARS, texts + b"\4\0\0\0abcd", len(texts), 8)
    assert layouts == {}
    for n in range(1, 200):
        head, size = head_of([("UINT8", [1, n])])
        read(CARS, head + bytes(size), len(head), 8)
    assert 0 < len(layouts) <= 64
