"""The page's files and figures as they go over HTTP."""

import asyncio
import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.aliases import Canary, Traffic
from models.pictures import prepare
from models.store import Store
from service.decode.picture import Pictures, Row
from service.pages import FOLDER, read_files
from service.runtime import Runtime
from service.settings import Settings
from tests.bundles import CARS, IMAGE
from tests.conftest import MakeBundle
from tests.service.asgi import Client
from tests.service.conftest import StartRuntime, client_of

FILES = sorted(path.name for path in FOLDER.iterdir())
KEY = "a-key-of-sixteen-characters"


def png_of(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def drawing() -> Image.Image:
    """Dark on light, of another size and in colour: everything that a preparation has to do."""
    pixels = np.full((90, 60, 3), 250, np.uint8)
    pixels[20:70, 10:50] = (30, 60, 90)
    return Image.fromarray(pixels)


async def test_the_root_is_the_page_and_may_load_nothing_from_elsewhere(client: Client) -> None:
    answer = await client("GET", "/")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"unsafe|\*|http", policy)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


@pytest.mark.parametrize("name", FILES)
async def test_each_file_has_its_type_and_is_asked_for_again_only_when_it_changed(client: Client, name: str) -> None:
    answer = await client("GET", f"/web/{name}")
    kinds = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    assert (answer.status, answer.headers["content-type"]) == (200, kinds[Path(name).suffix])
    assert answer.body == (FOLDER / name).read_bytes()
    assert answer.headers["cache-control"] == "no-cache"
    again = await client("GET", f"/web/{name}", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path", ["../pages.py", "%2e%2e/pages.py", "..%2fpages.py", "/etc/passwd", "page", "", "page.js/", "page.js%00"]
)
async def test_a_path_that_is_no_file_of_the_page_leads_nowhere(client: Client, path: str) -> None:
    answer = await client("GET", f"/web/{path}")
    assert answer.status == 404
    assert b"def " not in answer.body


def test_only_kinds_that_the_page_consists_of_are_read(tmp_path: Path) -> None:
    for name in ("page.js", "secret.env", "notes.txt"):
        (tmp_path / name).write_text("x")
    assert list(read_files(tmp_path)) == ["page.js"]


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host_or_needs_what_the_policy_forbids(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert "//" not in re.sub(r"(?m)^\s*//.*| // .*", "", text)
    assert not re.search(r"innerHTML|\beval\(|<style|\bstyle=|\bon[a-z]+=\"", text)


async def test_live_figures_name_who_answers_and_whether_a_key_is_needed(client: Client, runtime: Runtime) -> None:
    answer = await client("GET", "/live.json?since=junk")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    found = answer.json
    assert found["models"]["cars"]["version"] == runtime.loader.served["cars"].manifest.version
    assert "candidate" not in found["models"]["cars"]
    assert found["needs_key"] is False


async def test_live_figures_name_the_candidate_and_its_share(
    settings: Settings, store: Store, bundle_of: MakeBundle, start_runtime: StartRuntime
) -> None:
    version = store.add(bundle_of(CARS, "cars", seed=3).path).manifest.version
    store.set_alias("cars", version, "candidate")
    store.set_traffic("cars", Traffic(canary=Canary(percent=10)))
    runtime = await start_runtime(settings)
    async with asyncio.timeout(20):
        while "candidate" not in runtime.loader.named("cars"):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    client = client_of(runtime)
    cars = (await client("GET", "/live.json")).json["models"]["cars"]
    assert (cars["candidate"], cars["traffic"]["canary"]["percent"]) == (version, 10)


async def test_a_prepared_picture_is_what_a_prediction_is_made_from(client: Client) -> None:
    picture = drawing()
    answer = await client("POST", "/models/clothes/prepared", png_of(picture), headers={"content-type": "image/png"})
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    row, applied = prepare(IMAGE.preparation, picture, IMAGE.height, IMAGE.width, IMAGE.channels)
    assert applied
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.body))), row[:, :, 0])


async def test_a_picture_is_prepared_for_the_version_that_is_pinned(client: Client, runtime: Runtime) -> None:
    version = runtime.loader.served["clothes"].manifest.version
    for query, status in ((f"version={version}", 200), ("label=production", 200), ("label=nobody", 404)):
        answer = await client(
            "POST", f"/models/clothes/prepared?{query}", png_of(drawing()), headers={"content-type": "image/png"}
        )
        assert answer.status == status, query


@pytest.mark.parametrize(
    ("model", "body", "status", "said"),
    [
        ("clothes", b"no picture", 400, "must be a PNG or JPEG picture"),
        ("clothes", b"\x89PNG" + bytes(20_000_000), 413, "at most"),
        ("cars", b"", 422, "must take pictures"),
        ("clothes", png_of(drawing())[:33] + bytes(12) * 2000, 422, "at most 193 parts"),
        ("nobody", b"", 404, "Unknown model"),
    ],
)
async def test_what_cannot_be_prepared_is_refused_with_the_reason(
    client: Client, model: str, body: bytes, status: int, said: str
) -> None:
    answer = await client("POST", f"/models/{model}/prepared", body, headers={"content-type": "image/png"})
    assert answer.status == status
    assert said in answer.body.decode()


async def test_one_picture_is_prepared_and_not_several(client: Client) -> None:
    body = json.dumps({"instances": [{"b64": base64.b64encode(png_of(drawing())).decode()}] * 2})
    headers = {"content-type": "application/json"}
    answer = await client("POST", "/models/clothes/prepared", body.encode(), headers=headers)
    assert (answer.status, "at most 1 rows" in answer.json["detail"]) == (413, True)


async def test_a_large_picture_is_not_prepared_for_who_has_left(client: Client, runtime: Runtime) -> None:
    async def never(pictures: Pictures) -> list[Row]:
        await asyncio.Event().wait()
        return []

    runtime.picture_decoder.decode = never  # type: ignore[method-assign]
    client.leave.set()
    body = png_of(Image.new("1", (2000, 2000)))
    answer = await client("POST", "/models/clothes/prepared", body, headers={"content-type": "image/png"})
    assert answer.status == 499


async def test_with_api_keys_the_page_is_open_and_preparing_a_picture_is_not(
    settings: Settings, start_runtime: StartRuntime
) -> None:
    client = client_of(await start_runtime(Settings.load(**(settings.model_dump() | {"api_keys": (KEY,)}))))
    assert (await client("GET", "/")).status == 200
    assert (await client("GET", "/live.json")).json["needs_key"] is True
    headers = {"content-type": "image/png"}
    body = png_of(drawing())
    assert (await client("POST", "/models/clothes/prepared", body, headers=headers)).status == 401
    answer = await client("POST", "/models/clothes/prepared", body, headers=headers | {"x-api-key": KEY})
    assert answer.status == 200
