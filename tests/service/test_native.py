"""Our own wire format: every body that it takes, and the answers."""

import asyncio
import base64
import contextlib
import io
import json
import struct
import threading
import zlib
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.ImageFile import ImageFile

from models.errors import DecodeError, InputError
from models.manifest import Manifest
from models.task import Task
from service.decode import picture
from service.decode.picture_decoder import PictureDecoder
from service.errors import MediaTypeError, TooLargeError
from service.protocols import native
from service.protocols.base import Decoded, Pin, Question
from service.protocols.native import FORM, JSON, NPY, media_types, predictions
from service.settings import Settings
from tests.bundles import CARS, IMAGE, LABELS, SERIES, example_of, rows_of
from tests.conftest import MakeBundle

SETTINGS = Settings.load(max_request_rows=4, max_queue_rows=8, max_picture_pixels=10_000)
PIXELS = rows_of(IMAGE, 1, seed=3)[0, :, :, 0]


async def decode(task: Task, content_type: bytes, body: bytes, settings: Settings) -> Decoded:
    question = Question(native, "id", content_type, body, picture_decoder=PictureDecoder(settings.max_picture_pixels))
    # Of the manifest, only the task is looked at.
    return await native.decode(cast(Manifest, SimpleNamespace(task=task)), question, settings)


def encode(manifest: Manifest, request_id: str, outputs: np.ndarray) -> bytes:
    question = Question(native, request_id, b"", b"")
    return native.encode(manifest, question, Decoded(outputs), outputs).body


def top_k(query: bytes, task: Task) -> int | None:
    pin, parameters = native.split_query(query)
    assert pin is None
    return native.parameters_of(parameters, task)[0]


def png(pixels: np.ndarray = PIXELS, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def body_of(*instances: Any) -> bytes:
    return json.dumps({"instances": instances}).encode()


async def rows_from(task: Task, content_type: str, body: bytes) -> np.ndarray:
    return (await decode(task, content_type.encode(), body, SETTINGS)).rows


@pytest.mark.parametrize("task", [IMAGE, CARS, SERIES], ids=lambda task: task.kind)
async def test_an_example_is_one_row_of_the_tasks_form(task: Task) -> None:
    rows = await rows_from(task, JSON, body_of(example_of(task)))
    assert rows.shape == (1, *task.input_shape)
    assert rows.dtype == task.dtype


async def test_every_way_to_send_a_picture_gives_the_same_row() -> None:
    form = httpx.Request("POST", "http://localhost/", files=[("file", ("a.png", png(), "image/png"))])
    bodies = {
        "image/png": png(),
        "Image/PNG; charset=binary": png(),
        JSON: body_of(PIXELS.tolist()),
        "application/json; charset=utf-8": body_of(b64(png())),
        NPY: npy(PIXELS),
        form.headers["content-type"]: form.read(),
    }
    for content_type, body in bodies.items():
        rows = await rows_from(IMAGE, content_type, body)
        np.testing.assert_array_equal(rows, PIXELS[np.newaxis, :, :, np.newaxis], err_msg=content_type)


async def test_the_bytes_decide_and_not_whether_they_are_called_png_or_jpeg() -> None:
    np.testing.assert_array_equal(
        await rows_from(IMAGE, "image/jpeg", png()), await rows_from(IMAGE, "image/png", png())
    )


async def test_several_files_are_several_rows_in_order() -> None:
    pictures = [png(np.full((28, 28), value, np.uint8)) for value in (1, 2, 3)]
    form = httpx.Request("POST", "http://localhost/", files=[("f", (f"{i}", data)) for i, data in enumerate(pictures)])
    rows = await rows_from(IMAGE, form.headers["content-type"], form.read())
    assert rows[:, 0, 0, 0].tolist() == [1, 2, 3]


async def test_pictures_and_pixel_lists_may_share_a_request_and_keep_their_places() -> None:
    values = [np.full((28, 28), value, np.uint8) for value in (1, 2, 3)]
    large = np.zeros((56, 56), np.uint8)
    large[10:40, 10:40] = 200
    decoded = await decode(
        IMAGE,
        JSON.encode(),
        body_of(values[0].tolist(), b64(png(large)), values[1].tolist(), b64(png(values[2]))),
        SETTINGS,
    )
    assert decoded.rows[[0, 2, 3], 0, 0, 0].tolist() == [1, 2, 3]
    assert [bool(steps) for steps in decoded.applied] == [False, True, False, False]


async def test_what_was_applied_to_a_picture_is_told() -> None:
    decoded = await decode(IMAGE, b"image/png", png(np.full((10, 10), 255, np.uint8)), SETTINGS)
    assert decoded.applied == [("longest edge to 28", "negated")]


async def test_a_large_body_is_decoded_beside_the_loop_to_the_same_rows() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    settings = Settings.load(max_picture_pixels=90_000)
    assert len(png(pixels)) > 48 * 1024
    assert (await decode(IMAGE, b"image/png", png(pixels), settings)).rows.shape == (1, 28, 28, 1)


def form_of(*files: bytes) -> tuple[str, bytes]:
    request = httpx.Request("POST", "http://localhost/", files=[("f", (f"{i}", data)) for i, data in enumerate(files)])
    return request.headers["content-type"], request.read()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_text(kind: bytes, begins: bytes) -> bytes:
    """A small PNG with a megabyte of text in a kilobyte."""
    return png()[:33] + chunk(kind, begins + zlib.compress(b"a" * 1_000_000)) + png()[33:]


def twice_declared(first: tuple[int, int], second: tuple[int, int]) -> bytes:
    """A PNG with two headers."""
    headers = b"".join(chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)) for size in (first, second))
    return b"\x89PNG\r\n\x1a\n" + headers + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


LARGE = np.zeros((2000, 2000), np.uint8)  # 4 million pixels in 5 kB


@pytest.mark.parametrize(
    ("content_type", "body", "inline"),
    [
        ("image/png", png(), True),
        (JSON, body_of(PIXELS.tolist()), True),
        (NPY, npy(PIXELS), True),
        ("image/png", png(LARGE), False),
        ("image/png", twice_declared((9, 9), (2000, 2000)), False),
        (JSON, body_of(b64(png())), True),
        (JSON, body_of(b64(png(LARGE))), False),
        (JSON, body_of(b64(png(LARGE))).replace(b"b64", b"\\u0062\\u0036\\u0034"), False),
        (*form_of(png(LARGE)), False),
        ("image/png", b"\x89PNG", False),
        ("image/jpeg", b"\xff\xd8\xff", False),
        ("image/png", with_text(b"zTXt", b"key\0\0"), False),
        ("image/png", with_text(b"iTXt", b"key\0\1\0\0\0"), False),
        ("image/png", with_text(b"iCCP", b"key\0\0"), False),
        ("image/png", png()[:33] + chunk(b"prVt", b"") * 60 + png()[33:], True),
        ("image/png", png()[:33] + chunk(b"prVt", b"") * 70 + png()[33:], False),
    ],
    ids=[
        *(
            "png",
            "lists",
            "npy",
            "large png",
            "png with two headers",
            "small base64",
            "base64",
            "escaped base64",
            "form",
        ),
        *("cut png", "jpeg", "zTXt", "iTXt", "iCCP", "60 parts", "70 parts"),
    ],
)
async def test_the_loop_decodes_only_what_cannot_hold_many_pixels(
    content_type: str, body: bytes, inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(body) < 20_000
    threads: list[threading.Thread] = []

    def spy(*_: object, **options: Any) -> ImageFile:
        threads.append(threading.current_thread())
        raise DecodeError("seen")

    monkeypatch.setattr(picture, "look_at_picture", spy)
    with contextlib.suppress(DecodeError):
        await decode(IMAGE, content_type.encode(), body, SETTINGS)
    # What is no picture is not looked at.
    assert (threading.current_thread() in threads or not threads) is inline


async def test_records_are_decoded_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "to_thread", lambda *_: pytest.fail("in a thread"))
    await rows_from(CARS, JSON, body_of(*[example_of(CARS)] * 4))


@pytest.mark.parametrize("place", [0, 2])
async def test_an_error_names_the_place_of_its_instance(place: int) -> None:
    instances: list[Any] = [b64(png()), PIXELS.tolist(), b64(png())]
    bad = PIXELS.tolist()
    bad[2][5] = 300
    instances[place] = bad
    with pytest.raises(InputError) as caught:
        await rows_from(IMAGE, JSON, body_of(*instances))
    assert caught.value.field == f"instances[{place}][2][5]"


@pytest.mark.parametrize(
    "value", [{}, {"b64": 1}, {"b64": None}, {"b65": "aa"}, {"b64": "aa", "name": "x"}, {"url": "http://localhost/"}]
)
async def test_an_object_that_is_no_picture_is_refused_with_its_place(value: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        await rows_from(IMAGE, JSON, body_of(b64(png()), value))
    assert caught.value.field == "instances[1]"


@pytest.mark.parametrize("text", ["%%%", "aGk", "aGk=\n", "é", "a b c d"])
async def test_what_is_no_base64_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(DecodeError, match=r"^instances\[1\]\.b64: not base64"):
        await rows_from(IMAGE, JSON, body_of(b64(png()), {"b64": text}))


async def test_a_broken_picture_is_named_by_instance_file_or_body() -> None:
    cut = png()[:60]
    with pytest.raises(DecodeError, match=r"^instances\[1\]\.b64: "):
        await rows_from(IMAGE, JSON, body_of(b64(png()), b64(cut)))
    with pytest.raises(DecodeError, match=r"^body: "):
        await rows_from(IMAGE, "image/png", cut)
    form = httpx.Request("POST", "http://localhost/", files=[("f", ("a", png())), ("f", ("b", cut))])
    with pytest.raises(DecodeError, match=r"^files\[1\]: "):
        await rows_from(IMAGE, form.headers["content-type"], form.read())


async def test_a_picture_above_the_limit_of_pixels_is_refused() -> None:
    with pytest.raises(InputError, match="at most 10000 pixels"):
        await rows_from(IMAGE, "image/png", png(np.zeros((101, 100), np.uint8)))


@pytest.mark.parametrize("task", [IMAGE, CARS, SERIES], ids=lambda task: task.kind)
@pytest.mark.parametrize("form", [JSON, NPY])
async def test_as_many_rows_as_allowed_are_taken_and_one_more_is_not(task: Task, form: str) -> None:
    def body(count: int) -> bytes:
        return body_of(*[example_of(task)] * count) if form == JSON else npy(rows_of(task, count))

    assert len(await rows_from(task, form, body(4))) == 4
    with pytest.raises(TooLargeError, match=r"at most 4 rows\. Received: 5"):
        await rows_from(task, form, body(5))


async def test_more_files_than_rows_allowed_are_refused() -> None:
    form = httpx.Request("POST", "http://localhost/", files=[("f", (f"{i}", png())) for i in range(5)])
    with pytest.raises(TooLargeError, match="at most 4 files"):
        await rows_from(IMAGE, form.headers["content-type"], form.read())


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-pickle",
        "application/octet-stream",
        "application/python-pickle",
        "image/gif",
        "é",
    ],
)
@pytest.mark.parametrize("task", [IMAGE, CARS], ids=lambda task: task.kind)
async def test_other_media_types_are_refused_with_those_that_are_taken(task: Task, content_type: str) -> None:
    with pytest.raises(MediaTypeError) as caught:
        await decode(task, content_type.encode("latin-1"), b"x", SETTINGS)
    assert all(known in str(caught.value) for known in media_types(task))


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", f"{FORM}; boundary=x"])
async def test_a_model_of_numbers_takes_no_pictures(content_type: str) -> None:
    with pytest.raises(MediaTypeError):
        await rows_from(CARS, content_type, png())


def test_top_k_is_read_from_the_query() -> None:
    assert top_k(b"top_k=2", IMAGE) == 2
    assert top_k(b"top_k=3", IMAGE) == len(LABELS)
    assert top_k(b"", IMAGE) is None


@pytest.mark.parametrize("value", ["0", "4", "-1", "1.0", "all", "", "%C2%B2", "9" * 100, "1_0", "%00"])
def test_a_top_k_that_makes_no_sense_is_refused(value: str) -> None:
    with pytest.raises(InputError) as caught:
        top_k(f"top_k={value}".encode(), IMAGE)
    assert caught.value.field == "query.top_k"
    assert caught.value.rule == "must be a number from 1 to 3"


def test_an_unknown_parameter_is_refused_by_name() -> None:
    with pytest.raises(InputError) as caught:
        top_k(b"topk=2", IMAGE)
    assert caught.value.field == "query.topk"
    with pytest.raises(InputError, match=r"known parameters: version, label, trial\. Received"):
        top_k(b"top_k=2", CARS)


def test_who_only_tries_a_model_says_so_with_a_one() -> None:
    assert native.parameters_of([("trial", "1"), ("top_k", "2")], IMAGE) == (2, True)
    assert native.parameters_of([("trial", "1")], CARS) == (None, True)
    with pytest.raises(InputError, match=r"query\.trial: must be 1\. Received: 'yes'"):
        native.parameters_of([("trial", "yes")], CARS)


@pytest.mark.parametrize(("query", "pin"), [(b"version=1", Pin(version="1")), (b"label=blue", Pin(label="blue"))])
def test_a_request_may_pin_a_version_or_a_label_beside_other_parameters(query: bytes, pin: Pin) -> None:
    assert native.split_query(query) == (pin, [])
    assert native.split_query(query + b"&top_k=2") == (pin, [("top_k", "2")])


@pytest.mark.parametrize("query", [b"version=1&label=a", b"version=1&version=1", b"label=", b"version"])
def test_a_request_that_pins_more_than_one_version_or_none_is_refused(query: bytes) -> None:
    with pytest.raises(InputError, match=r"query\.(version|label): a request pins one version or one label"):
        native.split_query(query)


def test_top_k_keeps_the_most_probable_classes_most_probable_first() -> None:
    outputs = np.array([[0.2, 0.5, 0.3]], np.float32)
    whole, short = predictions(IMAGE, outputs, []), predictions(IMAGE, outputs, [], top_k=2)
    assert list(whole[0]["probabilities"]) == list(LABELS)
    assert list(short[0]["probabilities"]) == ["boot", "coat"]
    assert short[0]["label"] == whole[0]["label"] == "boot"


def test_steps_are_told_only_where_there_were_some() -> None:
    outputs = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    first, second = predictions(IMAGE, outputs, [(), ("negated",)])
    assert "applied" not in first
    assert second["applied"] == ("negated",)


@pytest.mark.parametrize("task", [IMAGE, CARS, SERIES], ids=lambda task: task.kind)
def test_an_answer_is_json_with_model_version_and_one_prediction_a_row(task: Task, bundle_of: MakeBundle) -> None:
    manifest = bundle_of(task, "some").manifest
    outputs = np.random.default_rng(0).random((3, *task.output_shape), dtype=np.float32)
    document = json.loads(encode(manifest, "id-1", outputs))
    assert list(document) == ["model", "version", "request_id", "predictions"]
    assert (document["model"], document["version"], document["request_id"]) == ("some", manifest.version, "id-1")
    assert len(document["predictions"]) == 3


def test_numbers_come_out_as_the_float32_that_they_are(bundle_of: MakeBundle) -> None:
    value = np.float32(20.123457)
    outputs = np.array([[value, value - 1, value + 1]], np.float32)
    document = json.loads(encode(bundle_of().manifest, "-", outputs))
    assert np.float32(document["predictions"][0]["value"]) == value
