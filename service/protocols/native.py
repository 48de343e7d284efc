"""Our own wire format: pictures, forms, arrays and JSON in; answers that read like answers out."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import orjson
from numpy.typing import NDArray

from models.errors import InputError, shorten
from models.manifest import Manifest
from models.task import Classes, ImageClassification, Task
from service import errors
from service.decode.json import decode_instances
from service.decode.json_cost import check_json
from service.decode.multipart import decode_files
from service.decode.npy import decode_npy
from service.decode.picture import File, Pictures, Row, picture_of_base64
from service.errors import MediaTypeError
from service.protocols.base import Answer, Decoded, Parameters, Pin, Question, Response, beside, limit_rows
from service.settings import Settings

_PREFIX = "/predict/"
ROUTE = "/predict/{model}"
JSON, NPY, FORM = "application/json", "application/x-npy", "multipart/form-data"
PICTURES = ("image/png", "image/jpeg")

# A larger body takes over a millisecond to decode: long enough to be worth a thread.
_INLINE_BYTES = 48 * 1024


def media_types(task: Task) -> tuple[str, ...]:
    """What a model of this kind takes."""
    return (JSON, NPY, *PICTURES, FORM) if isinstance(task, ImageClassification) else (JSON, NPY)


def decode_at_once(manifest: Manifest, question: Question, settings: Settings) -> Decoded | None:
    """`decode` where that takes less than beginning a thread, else None.

    Raises:
        ServingError: As `decode_body` and `parameters_of`.
    """
    decoded = _decode_small(manifest.task, question, settings)
    return decoded if decoded is not None and decoded.decode_pictures_if_small() else None


async def decode(manifest: Manifest, question: Question, settings: Settings) -> Decoded:
    """`decode_body`, beside the event loop when that may take long; `Decoded.wanted` is the number of classes.

    Raises:
        ServingError: As `decode_body` and `parameters_of`.
    """
    task, content_type, body = manifest.task, question.content_type, question.body
    decoded = _decode_small(task, question, settings)
    if decoded is None:
        top_k, trial = parameters_of(question.parameters, task)
        if media_type_of(content_type) == JSON:
            decoded = await beside(question, decode_body, task, content_type, body, settings)
        else:
            decoded = await asyncio.to_thread(decode_body, task, content_type, body, settings)
        decoded.wanted, decoded.trial = top_k, trial
    await decoded.decode_pictures(question)
    return decoded


def _decode_small(task: Task, question: Question, settings: Settings) -> Decoded | None:
    """`decode_body` of what does not take long, but for pictures that are still to be decoded; else None."""
    content_type, body = question.content_type, question.body
    if len(body) > _INLINE_BYTES and media_type_of(content_type) not in PICTURES:
        return None
    top_k, trial = parameters_of(question.parameters, task) if question.parameters else (None, False)
    decoded = decode_body(task, content_type, body, settings)
    decoded.wanted, decoded.trial = top_k, trial
    return decoded


def media_type_of(content_type: bytes) -> str:
    """``image/png`` of ``image/PNG; charset=x``; empty for none."""
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


def decode_body(task: Task, content_type: bytes, body: bytes, settings: Settings) -> Decoded:
    """Rows from a body, or pictures to decode.

    Raises:
        MediaTypeError: A content type that the task does not take.
        DecodeError: The body is not what its content type says, as far as it is no picture.
        InputError: A value breaks the schema.
        TooLargeError: More rows than a request may hold.
    """
    media_type = media_type_of(content_type)
    if media_type == JSON:
        check_json(body, task, settings.max_request_rows)
        return decode_values(task, decode_instances(body), settings)
    if media_type == NPY:
        rows = task.accept(decode_npy(body))
        limit_rows(len(rows), settings)
        return Decoded(rows)
    if isinstance(task, ImageClassification):
        if media_type in PICTURES:
            return _pictures(task, [File("body", body)], settings)
        if media_type == FORM:
            files = decode_files(body, content_type, max_files=settings.max_request_rows)
            return _pictures(task, [File(f"files[{i}]", data) for i, data in enumerate(files)], settings)
    received = shorten(media_type) if media_type else "none"
    raise MediaTypeError(f"Content-Type must be one of {', '.join(media_types(task))}. Received: {received}.")


def decode_values(task: Task, instances: list[Any], settings: Settings) -> Decoded:
    """Rows from parsed JSON instances, or pictures to decode.

    Raises:
        ServingError: As `decode_body`.
    """
    limit_rows(len(instances), settings)
    if not isinstance(task, ImageClassification) or not any(isinstance(value, dict) for value in instances):
        return Decoded(task.parse(instances))
    # At least one is a picture in base64; the others are pixel arrays.
    parts: list[File | Row] = []
    for i, value in enumerate(instances):
        field = f"instances[{i}]"
        if isinstance(value, dict):
            parts.append(File(f"{field}.b64", _picture_bytes(value, field)))
            continue
        try:
            parts.append((task.parse([value])[0], ()))
        except InputError as error:
            path = error.field.replace("instances[0]", field, 1)
            raise InputError(path, error.rule, error.received, error.remedy) from None
    return _pictures(task, parts, settings)


def _pictures(task: ImageClassification, parts: Sequence[File | Row], settings: Settings) -> Decoded:
    return Decoded.of(Pictures(task, parts, settings.max_picture_pixels, settings.max_request_pixels))


def _picture_bytes(value: dict[str, Any], field: str) -> bytes:
    if set(value) != {"b64"} or not isinstance(value["b64"], str):
        raise InputError(
            field, 'a picture is an object {"b64": "<PNG or JPEG in base64>"}', shorten(value), "Send that."
        )
    return picture_of_base64(value["b64"], f"{field}.b64")


def matches(path: str) -> bool:
    """Whether ``path`` is that of a prediction in this format."""
    return path.startswith(_PREFIX) and len(path) > len(_PREFIX)


def address(path: str, query: bytes) -> tuple[str, Pin | None, Parameters]:
    """The model's name, the version that the query string pins, if any, and its other parameters.

    Raises:
        InputError: More than one version or label, or an empty one.
    """
    pin, others = split_query(query) if query else (None, ())
    return path[len(_PREFIX) :], pin, others


def split_query(query: bytes) -> tuple[Pin | None, Parameters]:
    """The version that a query string pins, if any, and its other parameters.

    Raises:
        InputError: More than one version or label, or an empty one.
    """
    pin, others = None, []
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in ("version", "label"):
            others.append((name, value))
            continue
        if pin is not None or not value:
            rule = "a request pins one version or one label"
            raise InputError(f"query.{name}", rule, shorten(value), "Leave all but one out, or all for production.")
        pin = Pin(**{name: value})
    return pin, others


def parameters_of(parameters: Parameters, task: Task) -> tuple[int | None, bool]:
    """``top_k`` of a query string's parameters, if given, and whether it is a ``trial``.

    Raises:
        InputError: An unknown parameter, a ``top_k`` that is no number from 1 to the number of classes, or a ``trial``
            other than 1.
    """
    top_k, trial = None, False
    for name, value in parameters:
        if name == "trial":
            if value != "1":
                raise InputError("query.trial", "must be 1", shorten(value), "Leave it out unless you only try it.")
            trial = True
            continue
        if name != "top_k" or not isinstance(task, Classes):
            known = "version, label, trial, top_k" if isinstance(task, Classes) else "version, label, trial"
            raise InputError(f"query.{name[:40]}", f"known parameters: {known}", shorten(value), "Leave it out.")
        top_k = int(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0
        if not 1 <= top_k <= len(task.labels):
            rule = f"must be a number from 1 to {len(task.labels)}"
            raise InputError("query.top_k", rule, shorten(value), "Leave it out for all classes.")
    return top_k, trial


def predictions(
    task: Task, outputs: NDArray[np.float32], applied: list[tuple[str, ...]], top_k: int | None = None
) -> list[dict[str, Any]]:
    """One answer a row, in JSON types and numpy scalars."""
    answers = [task.answer(output) for output in outputs]
    if top_k is not None:
        for answer in answers:
            ranked = sorted(answer["probabilities"].items(), key=lambda item: item[1], reverse=True)
            answer["probabilities"] = dict(ranked[:top_k])
    for answer, steps in zip(answers, applied, strict=False):
        if steps:
            answer["applied"] = steps
    return answers


def encode(manifest: Manifest, question: Question, decoded: Decoded, outputs: NDArray[np.float32]) -> Answer:
    """Each row's prediction, beside which version made it."""
    answers = predictions(manifest.task, outputs, decoded.applied, decoded.wanted)
    document = {
        "model": manifest.name,
        "version": manifest.version,
        "request_id": question.request_id,
        "predictions": answers,
    }
    return Answer(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


def problem(error: Exception, request_id: str) -> Response:
    """Problem details, as on every route of our own."""
    return errors.problem(error, request_id)
