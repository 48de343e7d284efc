"""Large bodies are decoded beside the event loop, JSON one body at a time and nothing else behind it."""

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import orjson

from models.manifest import Manifest
from service.protocols import native
from service.protocols.base import Decoded, Question
from service.settings import Settings
from tests.bundles import IMAGE
from tests.conftest import MakeBundle

ROWS = np.random.default_rng(0).integers(0, 256, (400, *IMAGE.input_shape), dtype=np.uint8)


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, ROWS)
    return file.getvalue()


async def test_large_json_waits_for_other_large_json_and_an_array_does_not(bundle_of: MakeBundle) -> None:
    manifest, free = bundle_of(IMAGE).manifest, threading.Event()
    with ThreadPoolExecutor(1) as one_thread:
        one_thread.submit(free.wait, 60)
        json = asyncio.create_task(
            decode(manifest, native.JSON, orjson.dumps({"instances": ROWS.tolist()}), one_thread)
        )
        array = await decode(manifest, native.NPY, npy(), one_thread)
        waited = not json.done()
        free.set()
        np.testing.assert_array_equal((await json).rows, ROWS)
    assert waited
    np.testing.assert_array_equal(array.rows, ROWS)


async def decode(manifest: Manifest, content_type: str, body: bytes, one_thread: ThreadPoolExecutor) -> Decoded:
    question = Question(native, "an-id", content_type.encode(), body, one_thread=one_thread)
    return await native.decode(manifest, question, Settings())
