"""Pictures take turns: bounded memory, no request in the way of others, and no work for who has left."""

import asyncio
import threading
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from models.errors import DecodeError, InputError
from service.decode import picture
from service.decode.picture import File, Pictures
from service.decode.picture_decoder import PictureDecoder
from service.errors import QueueFullError, TooLargeError
from tests.bundles import IMAGE
from tests.reliability.payloads import png
from tests.service.conftest import until

SMALL = png(Image.new("L", (28, 28), 7))
MEGAPIXELS = png(Image.new("1", (2000, 1000)))  # two of them
LIMIT = 4_000_000


def pictures(*files: bytes, most: int = LIMIT, together: int = 10 * LIMIT) -> Pictures:
    return Pictures(IMAGE, [File(f"files[{i}]", data) for i, data in enumerate(files)], most, together)


@pytest.fixture
def picture_decoder() -> Iterator[PictureDecoder]:
    made = PictureDecoder(LIMIT)
    yield made
    made.close()


class Held:
    """Stands in for reading a picture's pixels; each waits until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[str] = []
        self.go = threading.Semaphore(0)
        self.load = picture.load_picture
        monkeypatch.setattr(picture, "load_picture", self)

    def __call__(self, image: picture.ImageFile, *, field: str) -> Image.Image:
        self.begun.append(field)
        assert self.go.acquire(timeout=20)
        return self.load(image, field=field)

    def let(self, count: int) -> None:
        self.go.release(count)


def named(name: str, count: int = 1, data: bytes = MEGAPIXELS) -> Pictures:
    return Pictures(IMAGE, [File(f"{name}{i}", data) for i in range(count)], LIMIT, 10 * LIMIT)


async def test_pictures_of_any_size_keep_their_places(picture_decoder: PictureDecoder) -> None:
    levels = [png(Image.new("L", (28, 28), level)) for level in range(4)]
    row = np.full((28, 28, 1), 9, np.uint8)
    parts = [File("a", levels[0]), File("b", MEGAPIXELS), (row, ()), File("c", levels[2]), File("d", MEGAPIXELS)]
    rows = await picture_decoder.decode(Pictures(IMAGE, parts, LIMIT, 10 * LIMIT))
    assert [int(row[0, 0, 0]) for row, _ in rows] == [0, 0, 9, 2, 0]
    assert [bool(steps) for _, steps in rows] == [False, True, False, False, True]


async def test_no_more_pixels_are_decoded_at_once_than_one_picture_may_have(
    picture_decoder: PictureDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    asked = [asyncio.create_task(picture_decoder.decode(named(f"request {i} "))) for i in range(6)]
    await until(lambda: len(held.begun) == 2)
    for done in range(1, 5):
        held.let(1)
        await until(lambda done=done: len(held.begun) == 2 + done)  # type: ignore[misc]
        assert sum(task.done() for task in asked) <= done
    held.let(2)
    await asyncio.gather(*asked)


async def test_requests_take_turns_picture_by_picture(
    picture_decoder: PictureDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    held.let(20)
    whole = png(Image.new("1", (2000, 2000)))
    await asyncio.gather(*(picture_decoder.decode(named(name, 4, whole)) for name in "abc"))
    assert len(held.begun) == 12
    # Once all three are there, none has two turns in a row.
    names = [name[0] for name in held.begun]
    start = max(names.index(name) for name in "abc")
    end = min(len(names) - names[::-1].index(name) for name in "abc")
    assert all(one != next_one for one, next_one in pairwise(names[start:end]))


async def test_small_pictures_do_not_wait_for_large_ones(
    picture_decoder: PictureDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    large = [asyncio.create_task(picture_decoder.decode(named(f"large {i} "))) for i in range(8)]
    await until(lambda: len(held.begun) == 2)
    small = asyncio.create_task(picture_decoder.decode(named("small ", 2, SMALL)))
    await until(lambda: "small 0" in held.begun)
    held.let(20)
    assert len(await small) == 2
    await asyncio.gather(*large)


async def test_who_has_left_gets_no_further_turn_and_its_room_is_free_when_the_turn_ends(
    picture_decoder: PictureDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    whole = png(Image.new("1", (2000, 2000)))
    leaving, waiting = (
        asyncio.create_task(picture_decoder.decode(named(name, 3, whole))) for name in ("leaving ", "b")
    )
    await until(lambda: held.begun == ["leaving 0"])
    other = asyncio.create_task(picture_decoder.decode(named("other ", 1, whole)))
    await asyncio.sleep(0)
    for task in (leaving, waiting):
        task.cancel()
    await asyncio.wait({leaving, waiting})
    assert held.begun == ["leaving 0"], "the memory of what has begun is still taken"
    held.let(2)
    assert len(await other) == 1
    assert held.begun == ["leaving 0", "other 0"]


async def test_who_would_wait_too_long_for_the_first_turn_is_told_when_to_come_back_and_who_has_had_one_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture_decoder = PictureDecoder(LIMIT, max_wait_s=1e-9)
    whole = png(Image.new("1", (2000, 2000)))
    await picture_decoder.decode(named("measured ", 1, whole))
    held = Held(monkeypatch)
    runs, waits = (asyncio.create_task(picture_decoder.decode(named(name, 2, whole))) for name in ("runs ", "waits "))
    await until(lambda: held.begun == ["runs 0"] and len(picture_decoder._waiting) == 1)
    for large in (MEGAPIXELS, whole + bytes(1_000_001)):
        with pytest.raises(QueueFullError, match="queue of pictures") as caught:
            await picture_decoder.decode(pictures(large))
        assert caught.value.retry_after > 1e-9
    held.let(20)
    assert len(await picture_decoder.decode(pictures(SMALL))) == 1
    assert [len(rows) for rows in await asyncio.gather(runs, waits)] == [2, 2]
    assert len(await picture_decoder.decode(pictures(MEGAPIXELS))) == 1
    picture_decoder.close()


async def test_a_broken_picture_gives_its_room_back(picture_decoder: PictureDecoder) -> None:
    for _ in range(3):
        with pytest.raises(DecodeError, match=r"files\[1\]: broken PNG"):
            await picture_decoder.decode(pictures(MEGAPIXELS, MEGAPIXELS[:-100]))
    assert len(await picture_decoder.decode(pictures(MEGAPIXELS, MEGAPIXELS))) == 2


async def test_the_pixels_of_a_request_are_counted_before_any_is_decoded(
    picture_decoder: PictureDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    with pytest.raises(TooLargeError) as caught:
        await picture_decoder.decode(pictures(SMALL, MEGAPIXELS, MEGAPIXELS, together=4_000_000))
    assert str(caught.value) == (
        "files[2]: the pictures of a request have at most 4000000 pixels together. Received: 4000784 up to this one. "
        "Scale them down, or split the request."
    )
    with pytest.raises(InputError, match="at most 1999999 pixels"):
        await picture_decoder.decode(pictures(SMALL, MEGAPIXELS, most=1_999_999))
    assert not held.begun
    held.let(3)
    assert len(await picture_decoder.decode(pictures(SMALL, MEGAPIXELS, MEGAPIXELS, together=4_000_784))) == 3
