"""Requests of the load test as the service reads them, and its answers as the load test does: both written apart."""

import io
import json
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tritonclient.grpc import service_pb2 as pb

from loadtests.expected import MANY, Case, cases
from loadtests.formats import FORMATS, GRPC, PROTOCOLS
from models.bundle import Bundle
from models.task import Records, Task
from service.decode.picture_decoder import PictureDecoder
from service.protocols import grpc, native, openinference, tfserving
from service.protocols.base import Answer, Decoded, Question
from service.settings import Settings
from tests.bundles import CARS, CHURN, IMAGE, SERIES, STATE
from tests.conftest import MakeBundle

TASKS: dict[str, Task] = {"pictures": IMAGE, "cars": CARS, "churn": CHURN, "series": SERIES, "state": STATE}
SERVED: dict[str, ModuleType] = dict(zip(PROTOCOLS, (native, tfserving, openinference, grpc), strict=True))


async def read(case: Case, bundle: Bundle, protocol: str) -> tuple[Question, Decoded]:
    """As the service reads it."""
    headers = [(name.lower().encode(), value.encode()) for name, value in case.headers]
    content_type = dict(headers).get(b"content-type", b"")
    body: Any = pb.ModelInferRequest.FromString(case.body) if protocol == GRPC else case.body
    question = Question(SERVED[protocol], "1", content_type, body, size=len(case.body), headers=headers)  # type: ignore[arg-type]
    question.picture_decoder = PictureDecoder(Settings().max_picture_pixels)
    return question, await SERVED[protocol].decode(bundle.manifest, question, Settings())


def sent(answer: Answer, protocol: str) -> bytes:
    return bytes(answer.body.SerializeToString() if protocol == GRPC else answer.body)


def answered(
    case: Case, bundle: Bundle, protocol: str, question: Question, decoded: Decoded, outputs: NDArray[Any]
) -> tuple[str, str]:
    answer = SERVED[protocol].encode(bundle.manifest, question, decoded, outputs)
    return case.judge(sent(answer, protocol))


def outputs_for(bundle: Bundle, rows: NDArray[Any]) -> NDArray[np.float32]:
    """The golden outputs of golden rows, in whatever order."""
    golden, outputs = bundle.golden()
    found = [next(i for i, one in enumerate(golden) if np.array_equal(one, row, equal_nan=True)) for row in rows]
    return outputs[found]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", TASKS)
async def test_every_request_is_read_as_its_golden_rows_and_the_golden_answer_is_right(
    bundle_of: MakeBundle, name: str, protocol: str
) -> None:
    bundle = bundle_of(TASKS[name], name)
    found = cases(bundle.path.parent, protocol)
    assert {case.rows for case in found} == {1, MANY}
    for case in found:
        question, decoded = await read(case, bundle, protocol)
        assert len(decoded.rows) == case.rows
        assert not any(decoded.applied)
        outputs = outputs_for(bundle, decoded.rows)
        version, problem = answered(case, bundle, protocol, question, decoded, outputs)
        assert problem == ""
        assert version in ("", bundle.manifest.version)
        # One other number, in the last row.
        outputs = outputs.copy()
        outputs[-1].flat[-1] += 1
        assert answered(case, bundle, protocol, question, decoded, outputs)[1] != ""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_payload_of_a_protocol_is_sent(bundle_of: MakeBundle, protocol: str) -> None:
    bundle = bundle_of(IMAGE, "pictures")
    sent_payloads = {case.payload for case in cases(bundle.path.parent, protocol)}
    assert sent_payloads == {payload for spoken, payload in FORMATS if spoken == protocol}


def test_a_picture_is_sent_as_a_file_and_as_pixels(bundle_of: MakeBundle) -> None:
    found = cases(bundle_of(IMAGE, "pictures").path.parent, "native")
    file = next(case for case in found if case.payload == "png")
    pixels = next(case for case in found if case.payload == "json")
    with Image.open(io.BytesIO(file.body)) as image:
        np.testing.assert_array_equal(np.asarray(image), json.loads(pixels.body)["instances"][0])


@pytest.mark.parametrize(("protocol", "payload"), list(FORMATS))
async def test_missing_values_of_a_record_arrive_as_missing(protocol: str, payload: str, bundle_of: MakeBundle) -> None:
    bundle = bundle_of(CHURN, "churn", imputes=True)
    assert isinstance(bundle.manifest.task, Records)
    rows = np.array([[3, np.nan, 1], [5, 20.5, np.nan]], np.float32)
    form = FORMATS[protocol, payload]
    request = form.request(bundle.manifest.task, rows)
    if payload in ("png", "form"):
        assert request is None
        return
    assert request is not None
    case = replace(cases(bundle.path.parent, protocol)[0], headers=request.headers, body=request.body)
    _, decoded = await read(case, bundle, protocol)
    np.testing.assert_array_equal(decoded.rows, rows)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("body", [b"", b"oops", b"[]", b'{"version": "x"}', b'{"model_version": "x", "outputs": 1}'])
def test_an_unexpected_form_is_a_wrong_answer(bundle_of: MakeBundle, protocol: str, body: bytes) -> None:
    case = cases(bundle_of().path.parent, protocol)[0]
    assert case.judge(body)[1] != ""
