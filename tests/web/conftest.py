"""A real Chromium before a real server with two workers."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from models.task import Number, SequenceClassification
from tests.bundles import CARS, CHURN, IMAGE, SERIES, make_bundle
from tests.e2e.server import Server, running

CHROMIUM = "/usr/bin/chromium"
_PATIENCE_MS = 45_000
# No word to anybody but the page's own server.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MACHINE = SequenceClassification(
    channels=(Number(name="shaking", unit="mm/s", low=0, high=50), Number(name="heat", unit="degC", low=0, high=200)),
    lookback=6,
    step="PT1M",
    labels=("worn", "sound"),
)
TASKS = {"clothes": IMAGE, "cars": CARS, "churn": CHURN, "heat": SERIES, "machine": MACHINE}
KEY = "a-key-of-sixteen-characters"


@dataclass
class Watch:
    """What a page did that it should not: errors in its console, and words to others than its server."""

    server: str
    expected: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def error(self, text: str) -> None:
        if not any(re.search(pattern, text) for pattern in self.expected):
            self.wrong.append(text)

    def request(self, request: Request) -> None:
        if not request.url.startswith((self.server + "/", "blob:", "data:")):
            self.wrong.append(f"request to {request.url}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    # Not for the session: as long as it lives, its event loop runs in this thread, and no other one can.
    if not shutil.which(CHROMIUM):
        pytest.skip(f"{CHROMIUM} is not installed (Debian's package chromium)")
    # Five seconds, as it is without, are short where two workers of the tests share two cores.
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one bundle a kind of task, two of them made as a user's own data make them."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, task in TASKS.items():
        make_bundle(folder, name, task, imputes=True)
    return folder


@pytest.fixture(scope="module")
def server(chromium: Browser, bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("web") / "home", pretrained=bundles, SERVING_WORKERS="2") as found:
        found.wait_for_workers(2)
        yield found


@pytest.fixture(scope="module")
def locked_server(chromium: Browser, bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("locked") / "home"
    with running(home, pretrained=bundles, SERVING_MODELS="cars", SERVING_API_KEYS=KEY) as found:
        yield found


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser that knows nothing yet."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(_PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def watch(context: BrowserContext, server: Server) -> Iterator[Watch]:
    """Watches every page of the test; a test that provokes an error says so in `expected`."""
    watch = Watch(server.url)
    watch_pages(context, watch)
    yield watch
    assert watch.wrong == []


def watch_pages(context: BrowserContext, watch: Watch) -> None:
    context.on("console", lambda message: watch.error(message.text) if message.type in ("error", "warning") else None)
    context.on("weberror", lambda error: watch.error(str(error.error)))
    context.on("request", watch.request)


@pytest.fixture
def page(context: BrowserContext, watch: Watch) -> Page:
    return context.new_page()


def visit(page: Page, server: Server, model: str) -> None:
    """Opens the page at a model and waits for its first answer."""
    page.goto(f"{server.url}/#/{model}")
    # From one model to another nothing is loaded anew: the answer of the one before may still be there.
    page.locator("#model-name", has_text=model).wait_for()
    page.locator(".summary strong").wait_for()
