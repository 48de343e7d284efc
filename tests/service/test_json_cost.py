"""What a large JSON body may become is found out before it is parsed."""

import json
from typing import Any

import pytest

from models.task import Task
from service.decode.json_cost import CHEAP_BYTES, check_few, check_json
from service.errors import TooLargeError
from service.protocols import native, openinference_body, tfserving
from service.settings import Settings
from tests.bundles import CARS, IMAGE, SERIES, rows_of
from tests.reliability import payloads

SETTINGS = Settings()
BODY = 16 * 1024 * 1024


def filled(start: bytes, piece: bytes, end: bytes, size: int = BODY) -> bytes:
    return payloads.filled(start, piece, end, size)


@pytest.mark.parametrize("task", [CARS, IMAGE], ids=lambda task: task.kind)
@pytest.mark.parametrize(
    "body",
    [
        filled(b'{"instances":[', b"[],", b"]}"),
        filled(b'{"instances":[', b"{},", b"]}"),
        filled(b'{"instances":[[', b"1,", b"]]}"),
        filled(b'{"instances":[', b'"",', b"]}"),
        filled(b'{"instances":[', b'{"a":{"a":{}}},', b"]}"),
        b'{"instances":[{' + b",".join(b'"%x":1' % i for i in range(1_400_000)) + b"}]}",
        filled(b'{"inputs":{"a":[', b"[],", b"]}}"),
        filled(b'{"inputs":[{"name":"x","shape":[1],"datatype":"UINT8","data":[', b"[],", b"]}]}"),
    ],
    ids=["lists", "objects", "numbers", "texts", "nested", "members", "columns", "tensors"],
)
def test_what_no_model_needs_is_refused_before_it_is_parsed(body: bytes, task: Task) -> None:
    with pytest.raises(TooLargeError, match=r"body: JSON .* at most \d+ (values|texts)\. Received: \d+ or more"):
        check_json(body, task, SETTINGS.max_request_rows)


def test_every_protocol_looks_before_it_parses() -> None:
    bomb = filled(b'{"instances":[', b"[],", b"]}", 1_000_000)
    with pytest.raises(TooLargeError, match="body: JSON"):
        native.decode_body(CARS, b"application/json", bomb, SETTINGS)
    with pytest.raises(TooLargeError, match="body: JSON"):
        tfserving.decode_body(CARS, bomb, SETTINGS)
    with pytest.raises(TooLargeError, match="body: JSON"):
        openinference_body.read(CARS, bomb, None, SETTINGS.max_request_rows)
    with pytest.raises(TooLargeError, match="body: JSON"):
        openinference_body.read(CARS, bomb + bytes(100), len(bomb), SETTINGS.max_request_rows)


def pixel_by_pixel(count: int) -> list[Any]:
    found: list[Any] = rows_of(IMAGE, count).tolist()
    return found


def columns(count: int) -> dict[str, Any]:
    records = [CARS.record(row) for row in rows_of(CARS, count)]
    return {name: [[record[name]] for record in records] for name in records[0]}


@pytest.mark.parametrize(
    ("task", "document"),
    [
        (IMAGE, {"instances": pixel_by_pixel(SETTINGS.max_request_rows)}),
        (IMAGE, {"instances": [{"input": {"b64": "A" * 100}}] * SETTINGS.max_request_rows}),
        (CARS, {"instances": [CARS.record(row) for row in rows_of(CARS, SETTINGS.max_request_rows)]}),
        (CARS, {"inputs": columns(SETTINGS.max_request_rows)}),
        (SERIES, {"instances": rows_of(SERIES, SETTINGS.max_request_rows).tolist()}),
    ],
    ids=["pixels", "pictures", "records", "columns", "stretches"],
)
def test_as_many_rows_as_a_request_may_have_pass_in_their_longest_form(task: Task, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    check_json(body + b" " * CHEAP_BYTES, task, SETTINGS.max_request_rows)


def test_small_bodies_are_not_looked_at() -> None:
    check_json(filled(b"[", b"{},", b"]", CHEAP_BYTES), CARS, 1)


def test_the_count_ends_where_too_much_is_found() -> None:
    with pytest.raises(TooLargeError) as caught:
        check_few(b"," * BODY)
    received = int(str(caught.value).partition("Received: ")[2].split()[0])
    assert received < BODY // 10
