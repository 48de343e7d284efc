"""The same pictures in every format, and the answers in every form."""

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from benchmarks.checker import Checker
from benchmarks.payloads import PAYLOADS, longest, requests
from tests.benchmarks.test_load import plan

PICTURES = np.random.default_rng(1).integers(0, 256, (5, 4, 3, 1), dtype=np.uint8)
OUTPUTS = np.arange(10, dtype=np.float32).reshape(5, 2)


def test_json_holds_the_pixels_without_a_channel_axis() -> None:
    for name, member in (("instances", "instances"), ("rows", "rows")):
        document = json.loads(PAYLOADS[name](PICTURES[:2]).data)
        assert document == {member: PICTURES[:2, :, :, 0].tolist()}


def test_npy_holds_the_array() -> None:
    assert np.array_equal(np.load(io.BytesIO(PAYLOADS["npy"](PICTURES).data)), PICTURES)


def test_png_is_a_file_and_several_are_a_form() -> None:
    one = PAYLOADS["png"](PICTURES[:1])
    assert dict(one.headers) == {"Content-Type": "image/png"}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(one.data))), PICTURES[0, :, :, 0])
    several = PAYLOADS["png"](PICTURES)
    assert dict(several.headers)["Content-Type"].startswith("multipart/form-data; boundary=")
    assert several.data.count(b"\x89PNG") == 5


def test_a_binary_tensor_follows_its_description() -> None:
    body = PAYLOADS["v2 binary"](PICTURES[:2])
    length = int(dict(body.headers)["Inference-Header-Content-Length"])
    (tensor,) = json.loads(body.data[:length])["inputs"]
    assert (tensor["shape"], tensor["datatype"]) == ([2, 4, 3, 1], "UINT8")
    assert body.data[length:] == PICTURES[:2].tobytes()
    assert tensor["parameters"]["binary_data_size"] == len(body.data) - length


def test_requests_hold_so_many_rows_each_and_what_must_come_back() -> None:
    _, bodies, expected = requests("rows", PICTURES, OUTPUTS, rows=2)
    assert len(bodies) == 2, "the fifth picture fills no request"
    assert expected == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(ValueError, match=r"6 rows needs as many pictures\. Received: 5"):
        requests("rows", PICTURES, OUTPUTS, rows=6)


def test_the_longest_pictures_are_those_with_most_digits() -> None:
    pictures = np.stack([np.full((2, 2, 1), value, np.uint8) for value in (5, 255, 55)])
    assert longest(pictures, 2) == [1, 2]


def v2(outputs: object, raw: bytes = b"") -> bytes:
    return json.dumps({"model_name": "m", "outputs": [outputs]}).replace(": [", ":[").encode() + raw


def test_v2_answers_are_read_as_json_and_as_bytes() -> None:
    checker = Checker(plan(reader="v2"))
    tensor = {"name": "p", "datatype": "FP32", "shape": [1, 2]}
    assert checker.wrong(0, v2(tensor | {"data": [0.25, 0.75]})) == ""
    assert "0.5 instead of 0.25" in checker.wrong(0, v2(tensor | {"data": [0.5, 0.5]}))
    raw = struct.pack("<2f", 0.25, 0.75)
    binary = tensor | {"parameters": {"binary_data_size": 8}}
    assert checker.wrong(0, v2(binary, raw)) == ""
    assert "4 bytes after the JSON instead of 8" in checker.wrong(0, v2(binary, raw[:4]))
    assert "FP64 instead of FP32" in checker.wrong(0, v2(tensor | {"datatype": "FP64", "data": [0.25, 0.75]}))
