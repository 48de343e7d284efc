"""Pictures of the page for the documents: ``python -m tests.web.screenshots [SECONDS]``.

The shipped models on two workers, SECONDS (150) of traffic with a switch of version in the middle, then one picture a
view in docs/images/. Look at them before they go anywhere.
"""

import gzip
import io
import itertools
import math
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from models.store import Store
from service.settings import PRETRAINED
from tests.e2e.server import Server, running
from tests.redeploy.offered import resealed
from tests.web.conftest import CHROMIUM, FLAGS, visit

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
OUT = Path(__file__).resolve().parents[2] / "docs" / "images"
# Ankle and foot of a boot, in parts of the paper, as strokes of a broad pen.
BOOT = (((0.68, 0.2), (0.66, 0.72)), ((0.66, 0.7), (0.45, 0.72), (0.25, 0.8)), ((0.25, 0.82), (0.7, 0.82)))


def clothes() -> list[bytes]:
    """Some of the pictures that the shipped models were trained on, as npy files."""
    pixels = np.frombuffer(gzip.decompress(FASHION_MNIST.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    files = []
    for picture in pixels[:2000]:
        file = io.BytesIO()
        np.save(file, picture)
        files.append(file.getvalue())
    return files


def traffic(server: Server, seconds: float) -> None:
    """Asks about clothes, faster and slower."""
    bodies = itertools.cycle(clothes())
    end = time.monotonic() + seconds
    with httpx.Client(headers={"content-type": "application/x-npy"}) as client:
        for turn in itertools.count():
            if time.monotonic() > end:
                return
            name = ("cnn", "cnn", "dnn")[turn % 3]
            client.post(f"{server.url}/predict/{name}", content=next(bodies)).raise_for_status()
            time.sleep(0.012 * (1.3 + math.sin(turn / 150)))


def draw(page: Page) -> None:
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Pen").fill("62")
    page.locator(".paper").scroll_into_view_if_needed()
    box = page.locator(".paper").bounding_box()
    assert box is not None
    for stroke in BOOT:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=6)
        page.mouse.up()


def keep(page: Page, name: str) -> None:
    page.wait_for_timeout(2500)  # Two polls, and no movement any more.
    OUT.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").quantize(192).save(OUT / f"{name}.png", optimize=True)


def views(page: Page, server: Server) -> None:
    visit(page, server, "cnn")
    draw(page)
    keep(page, "page-picture")
    page.get_by_role("region", name="Live").scroll_into_view_if_needed()
    keep(page, "page-live")
    visit(page, server, "lstm")
    chart = page.get_by_role("slider")
    for _ in range(6):
        chart.press("ArrowUp")
    keep(page, "page-series")
    page.emulate_media(color_scheme="dark")
    visit(page, server, "regressor")
    page.get_by_text("What if").click()
    page.get_by_label("The answer over").select_option("weight")
    keep(page, "page-record-dark")
    page.emulate_media(color_scheme="light")
    page.get_by_label("weight", exact=True).fill("99999")
    keep(page, "page-error")
    page.set_viewport_size({"width": 360, "height": 780})
    visit(page, server, "cnn")
    draw(page)
    page.get_by_role("region", name="Answer").scroll_into_view_if_needed()
    keep(page, "page-phone")


def main(seconds: float) -> None:
    """Takes all pictures."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder) / "home", pretrained=PRETRAINED, SERVING_WORKERS="2") as server,
    ):
        askers = [threading.Thread(target=traffic, args=(server, seconds)) for _ in range(2)]
        for asker in askers:
            asker.start()
        time.sleep(seconds / 2)
        switch(server)
        for asker in askers:
            asker.join()
        with sync_playwright() as playwright:
            options: Any = {"executable_path": CHROMIUM, "args": FLAGS}
            browser = playwright.chromium.launch(**options)
            views(browser.new_page(viewport={"width": 1280, "height": 860}), server)
            browser.close()


def switch(server: Server) -> None:
    """Production of `cnn` becomes the same network under a later version."""
    store = Store(server.home)
    bundle = store.open("cnn", store.aliases().models["cnn"]["production"].version)
    with tempfile.TemporaryDirectory() as folder:
        later = resealed(bundle, Path(folder) / "cnn", datetime.now(UTC))
        store.set_alias("cnn", store.add(later.path).manifest.version)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 150.0)
