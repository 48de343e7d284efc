"""The Open Inference Protocol's tensors: in JSON, as bytes after it, and as a message of gRPC."""

import math
import struct
from array import array
from dataclasses import dataclass
from json import JSONDecoder
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.task import Category, Records

# What of a message's typed contents holds a datatype.
_CONTENTS = {"UINT8": "uint_contents", "FP32": "fp32_contents", "BYTES": "bytes_contents"}


@dataclass(frozen=True)
class Input:
    """One tensor of a request.

    Attributes:
        name: As the model's metadata have it.
        datatype: UINT8, FP32 or BYTES.
        values: ``(n, ...)``; of BYTES an object array of texts.
    """

    name: str
    datatype: str
    values: NDArray[Any]

    def raw(self) -> bytes:
        """Little-endian, row-major; each text after its length."""
        if self.datatype != "BYTES":
            return self.values.tobytes()
        texts = [text.encode() for text in self.values.ravel()]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)

    def to_head(self) -> dict[str, Any]:
        """Its description, for data that follow the JSON part."""
        return self._about() | {"parameters": {"binary_data_size": len(self.raw())}}

    def to_json(self) -> dict[str, Any]:
        """With its data, a missing number as null."""
        numbers = self.values.ravel().tolist()
        return self._about() | {"data": [None if isinstance(n, float) and math.isnan(n) else n for n in numbers]}

    def _about(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.values.shape)}


def of_records(task: Records, rows: NDArray[np.float32]) -> list[Input]:
    """One tensor ``(n, 1)`` a column; a missing category is an empty text."""
    found = []
    for place, field in enumerate(task.fields):
        column = rows[:, place : place + 1]
        if isinstance(field, Category):
            texts = ["" if math.isnan(code) else field.values[int(code)] for code in column[:, 0].tolist()]
            found.append(Input(field.name, "BYTES", np.array(texts, object)[:, np.newaxis]))
        else:
            found.append(Input(field.name, "FP32", column))
    return found


def message(inputs: list[Input], *, raw: bool) -> bytes:
    """A ``ModelInferRequest`` without the name of its model, with which it may begin: messages may be joined."""
    from tritonclient.grpc import service_pb2 as pb

    request = pb.ModelInferRequest()
    for given in inputs:
        tensor = request.inputs.add(name=given.name, datatype=given.datatype, shape=given.values.shape)
        if raw:
            request.raw_input_contents.append(given.raw())
            continue
        values = given.values.ravel().tolist()
        if given.datatype == "BYTES":
            values = [text.encode() for text in values]
        getattr(tensor.contents, _CONTENTS[given.datatype]).extend(values)
    return bytes(request.SerializeToString())


def addressed(body: bytes, model: str) -> bytes:
    """The message of `message` with the name of its model."""
    from tritonclient.grpc import service_pb2 as pb

    return bytes(pb.ModelInferRequest(model_name=model).SerializeToString()) + body


def read_message(body: bytes) -> tuple[str, Any]:
    """The version and the tensors of a ``ModelInferResponse``.

    Raises:
        ValueError: It is none, or not every tensor has data.
    """
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2 as pb

    try:
        response = pb.ModelInferResponse.FromString(body)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return response.model_version, {
        tensor.name: _tensor(tensor.datatype, list(tensor.shape), array("f", data).tolist()) for tensor, data in pairs
    }


def read_http(body: bytes) -> tuple[str, Any]:
    """The version and the tensors of an answer, whether in JSON or after it."""
    # Latin-1 keeps each byte one character; what follows the JSON are the tensors.
    document, place = JSONDecoder().raw_decode(body.decode("latin-1"))
    found = {}
    for tensor in document["outputs"]:
        numbers = tensor.get("data")
        if numbers is None:
            size = tensor["parameters"]["binary_data_size"]
            numbers = array("f", body[place : place + size]).tolist()
            place += size
        found[tensor["name"]] = _tensor(tensor["datatype"], tensor["shape"], numbers)
    if place != len(body):
        raise ValueError(f"{len(body) - place} bytes too many")
    return document["model_version"], found


def _tensor(datatype: str, shape: list[int], data: list[float]) -> dict[str, Any]:
    return {"shape": shape, "datatype": datatype, "data": data}
