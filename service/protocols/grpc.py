"""The Open Inference Protocol's ModelInfer over gRPC: its messages, and what they mean.

Imports gRPC's and Triton's message classes, a twentieth of a second: the server imports it once models are loading.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from models.errors import InputError, shorten
from models.manifest import Manifest
from service.protocols.base import Answer, Decoded, Question
from service.protocols.signature import Wanted, check_wanted, rows_of, tensors_of
from service.protocols.tensors import BYTES, Tensor, raw_of, tensor_from_raw, tensor_from_values
from service.settings import Settings

ROUTE = "grpc/ModelInfer"

# Larger messages take over a millisecond to decode, as do many inputs: long enough to be worth a thread. Bytes.
_INLINE_TYPED, _INLINE_RAW = 48 * 1024, 1024 * 1024
_INLINE_INPUTS = 256
# No model has as many; reading millions would take seconds.
_MOST_TENSORS = 4096

# Which member of a tensor's typed contents holds a datatype. FP16 has none: it comes raw.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


async def decode(manifest: Manifest, question: Question, settings: Settings) -> Decoded:
    """Rows from the tensors of a ``ModelInferRequest``, beside the event loop when that may take long.

    Raises:
        ServingError: A tensor or an output that the model does not have, or a value that breaks its schema.
    """
    task, message = manifest.task, question.body
    _set_deadline(question)
    for name, found in (("inputs", message.inputs), ("outputs", message.outputs)):
        if len(found) > _MOST_TENSORS:
            raise InputError(name, f"at most {_MOST_TENSORS}", str(len(found)), "See the model's metadata.")
    wanted = [
        Wanted(output.name, _whole(output.parameters, "classification", f"outputs[{i}].parameters"))
        for i, output in enumerate(message.outputs)
    ]
    check_wanted(task, wanted)
    small = _is_small(message, question.size)
    tensors = tensors_from(message) if small else await asyncio.to_thread(tensors_from, message)
    found = (task, tensors, settings)
    decoded = rows_of(*found) if small else await asyncio.to_thread(rows_of, *found)
    await decoded.decode_pictures(question)
    decoded.wanted = wanted
    return decoded


def _is_small(message: Any, size: int) -> bool:
    """Whether the tensors of a message of ``size`` bytes are read before a thread would have begun."""
    if len(message.inputs) > _INLINE_INPUTS or size > _INLINE_RAW:
        return False
    # Of values that are listed, and of texts, each one counts.
    return size <= _INLINE_TYPED or (
        bool(message.raw_input_contents) and all(tensor.datatype != BYTES for tensor in message.inputs)
    )


def encode(manifest: Manifest, question: Question, decoded: Decoded, outputs: NDArray[np.float32]) -> Answer:
    """A ``ModelInferResponse`` with raw contents, as Triton's server answers."""
    response = pb.ModelInferResponse(model_name=manifest.name, model_version=manifest.version, id=question.body.id)
    for tensor in tensors_of(manifest.task, outputs, decoded.wanted):
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        response.raw_output_contents.append(raw_of(tensor))
    return Answer(response, content_type=b"application/grpc")


def tensors_from(message: Any) -> list[Tensor]:
    """The input tensors of a ``ModelInferRequest``.

    Raises:
        ServingError: Raw and typed contents at once, another number of raw contents than of inputs, or as
            `tensor_from_raw` and `tensor_from_values`.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        rule = f"as many as inputs: {len(message.inputs)}"
        raise InputError("raw_input_contents", rule, str(len(raw)), "Send all inputs raw, or none.")
    return [_tensor(tensor, raw[i] if raw else None) for i, tensor in enumerate(message.inputs)]


def _tensor(tensor: Any, raw: bytes | None) -> Tensor:
    name, datatype = tensor.name, tensor.datatype
    if "shared_memory_region" in tensor.parameters:
        raise InputError(
            shorten(name)[1:-1], "comes in the request", "a shared memory region", "Send the data, best raw."
        )
    typed = tensor.HasField("contents")
    if raw is not None:
        if typed:
            rule = "an input is either raw or typed"
            raise InputError(shorten(name)[1:-1], rule, "contents beside raw_input_contents", "Leave one out.")
        return tensor_from_raw(name, datatype, tensor.shape, raw)
    member = _CONTENTS.get(datatype)
    if member is None and datatype == "FP16":
        raise InputError(shorten(name)[1:-1], "FP16 has no typed contents", "FP16 without raw contents", "Send it raw.")
    # An unknown datatype is refused by what reads the values.
    values = getattr(tensor.contents, member)[:] if typed and member else []
    return tensor_from_values(name, datatype, tensor.shape, values, booleans=datatype == "BOOL")


def _set_deadline(question: Question) -> None:
    """Let ``timeout``, microseconds as Triton has it, bring the deadline forward; 0 is none."""
    seconds = _whole(question.body.parameters, "timeout", "parameters") / 1e6
    if seconds and question.started is not None:
        late = question.started + seconds
        question.deadline = late if question.deadline is None else min(late, question.deadline)


def _whole(parameters: Mapping[str, Any], name: str, where: str) -> int:
    """A parameter that is a whole number, 0 where it is left out."""
    if name not in parameters:
        return 0
    kind = parameters[name].WhichOneof("parameter_choice")
    value: Any = getattr(parameters[name], kind) if kind else None
    if kind not in ("int64_param", "uint64_param") or value < 0:
        raise InputError(f"{where}.{name}", "must be a whole number, at least 0", shorten(value), "Leave it out.")
    return int(value)
