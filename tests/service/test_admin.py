"""Administration over HTTP: off unless a token is set; each change is verified, logged, and followed here."""

import asyncio
import json
import logging
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import prometheus_client  # noqa: F401 - before a test names the workers' folder: it decides at its import
import pytest
from starlette.requests import Request

from models.bundle import GOLDEN, ONNX, Bundle
from models.store import Store
from service import pool
from service.admin import ORDERS, _address
from service.number_files import replace_file
from service.runtime import Runtime
from service.served import Served
from service.settings import Settings
from tests.bundles import CARS, CREATED
from tests.conftest import MakeBundle
from tests.service.asgi import Answer, Client
from tests.service.conftest import StartRuntime, client_of, until
from tests.service.test_gateway import check_problem
from tests.service.test_loader_damage import damage

TOKEN = "correct-horse-battery-staple"  # noqa: S105 - made up
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def runtime(start_runtime: StartRuntime, settings: Settings) -> Runtime:
    return await start_runtime(Settings.load(**settings.model_dump() | {"admin_token": TOKEN}))


@pytest.fixture
def newer(store: Store, bundle_of: MakeBundle) -> Bundle:
    return store.add(bundle_of(CARS, "cars", seed=1, created=CREATED + timedelta(days=1)).path)


async def order(
    client: Client, action: str, *, headers: dict[str, str] = BEARER, model: str = "cars", **body: Any
) -> Answer:
    return await client("POST", f"/admin/models/{model}/{action}", json.dumps(body).encode(), headers=headers)


async def test_without_a_token_there_is_no_administration(start_runtime: StartRuntime, settings: Settings) -> None:
    client = client_of(await start_runtime(settings))
    for action in ORDERS:
        problem = check_problem(await order(client, action, version="x"), 404)
        assert problem["title"] == "No such route"


@pytest.mark.parametrize("action", list(ORDERS))
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong-wrong-wrong"},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"x-api-key": TOKEN},
        {"authorization": "Bearer "},
    ],
)
async def test_without_the_right_token_nothing_is_done(
    client: Client, store: Store, newer: Bundle, action: str, headers: dict[str, str]
) -> None:
    before = store.aliases()
    answer = await order(client, action, headers=headers, version=newer.manifest.version)
    check_problem(answer, 401, www_authenticate='Bearer realm="keras-serving"')
    assert store.aliases() == before


async def test_promote_answers_once_this_worker_serves_the_version(
    client: Client, runtime: Runtime, store: Store, newer: Bundle
) -> None:
    version = newer.manifest.version
    answer = await order(client, "promote", version=version, reason="better on rainy days")
    assert answer.status == 200, answer.body
    assert runtime.loader.find("cars").manifest.version == version
    assert answer.json == {
        "model": "cars",
        "action": "promote",
        "alias": "production",
        "version": version,
        "revision": store.aliases().revision,
        "serving": True,
    }
    last = store.changes("cars")[-1]
    assert (last.who, last.action, last.after, last.reason) == (
        "admin@127.0.0.1",
        "promote",
        version,
        "better on rainy days",
    )


async def test_rollback_goes_back_to_what_was_before(
    client: Client, runtime: Runtime, store: Store, newer: Bundle
) -> None:
    first = runtime.loader.find("cars").manifest.version
    await order(client, "promote", version=newer.manifest.version)
    answer = await order(client, "rollback")
    assert (answer.status, answer.json["version"], answer.json["serving"]) == (200, first, True)
    assert runtime.loader.find("cars").manifest.version == first
    check_problem(await order(client, "rollback"), 409)


async def test_load_and_unload_keep_a_version_at_hand_for_pinned_requests(
    client: Client, runtime: Runtime, newer: Bundle
) -> None:
    version = newer.manifest.version
    for label in ({}, {"label": "blue"}):
        alias = label.get("label", "candidate")
        answer = await order(client, "load", version=version, **label)
        assert (answer.json["alias"], answer.json["serving"]) == (alias, True)
        assert runtime.loader.named("cars")[alias].manifest.version == version
        answer = await order(client, "unload", **label)
        assert (answer.status, answer.json["version"], answer.json["serving"]) == (200, "", True)
        assert alias not in runtime.loader.named("cars")
    check_problem(await order(client, "unload", label="blue"), 404)


async def test_production_is_unloaded_only_when_it_is_named(client: Client, runtime: Runtime) -> None:
    check_problem(await order(client, "unload"), 404)
    assert "cars" in runtime.loader.served
    assert (await order(client, "unload", label="production")).json["serving"] is True
    assert "cars" not in runtime.loader.served


async def test_canary_and_shadow_are_set_one_beside_the_other(
    client: Client, runtime: Runtime, store: Store, newer: Bundle
) -> None:
    check_problem(await order(client, "canary", percent=10), 409)
    await order(client, "load", version=newer.manifest.version)
    answer = await order(client, "canary", percent=10, requests=100)
    assert answer.json["traffic"]["canary"]["percent"] == 10
    assert (await order(client, "shadow")).json["traffic"]["shadow"] is True
    assert store.aliases().traffic["cars"].canary is not None
    assert runtime.loader.find("cars").split is not None
    await order(client, "canary", percent=0)
    traffic = store.aliases().traffic["cars"]
    assert (traffic.canary, traffic.shadow) == (None, True)
    await order(client, "shadow", on=False)
    assert "cars" not in store.aliases().traffic


async def test_a_promotion_that_expects_another_version_is_a_conflict(
    client: Client, runtime: Runtime, newer: Bundle
) -> None:
    first = runtime.loader.find("cars").manifest.version
    answer = await order(client, "promote", version=newer.manifest.version, expect=newer.manifest.version)
    problem = check_problem(answer, 409)
    assert f"production of cars points to {first}" in problem["detail"]
    assert runtime.loader.find("cars").manifest.version == first


async def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(
    runtime: Runtime, store: Store, newer: Bundle, bundle_of: MakeBundle
) -> None:
    other = store.add(bundle_of(CARS, "cars", seed=2, created=CREATED + timedelta(days=2)).path)
    versions = [bundle.manifest.version for bundle in (newer, other)]
    answers = await asyncio.gather(*(order(client_of(runtime), "promote", version=v) for v in versions))
    assert sorted(answer.status for answer in answers) == [200, 409]
    won = next(answer.json["version"] for answer in answers if answer.status == 200)
    target = store.aliases().target("cars")
    assert target is not None
    assert target.version == won


@pytest.mark.parametrize("how", ["altered graph", "missing golden rows", "half-copied", "no graph at all"])
async def test_a_bad_version_is_refused_before_anything_changes(
    client: Client, runtime: Runtime, store: Store, newer: Bundle, how: str
) -> None:
    spoil(newer, how)
    before = store.aliases()
    for action in ("promote", "load"):
        answer = await order(client, action, version=newer.manifest.version)
        assert check_problem(answer, 422)["title"] == "The version cannot be served"
    assert store.aliases() == before


def spoil(bundle: Bundle, how: str) -> None:
    if how == "altered graph":
        (bundle.path / ONNX).write_bytes(b"x" * bundle.manifest.files[ONNX].bytes)
    elif how == "missing golden rows":
        (bundle.path / GOLDEN).unlink()
    elif how == "half-copied":
        (bundle.path / "manifest.json").unlink()
    elif how == "no graph at all":
        (bundle.path / ONNX).unlink()


async def test_a_version_that_answers_otherwise_than_in_training_is_refused(
    client: Client, store: Store, newer: Bundle
) -> None:
    before = store.aliases()
    damage(store, newer, "wrong golden rows")
    point_back = before.models["cars"]["production"]
    store.set_alias("cars", point_back.version)
    answer = await order(client, "promote", version=newer.manifest.version)
    assert "differs from training by 1" in check_problem(answer, 422)["detail"]


async def test_unknown_versions_and_models_are_404(client: Client) -> None:
    problem = check_problem(await order(client, "promote", version="20990101-000000-00000000"), 404)
    assert "Known versions" in problem["detail"]
    check_problem(await order(client, "promote", version="../../etc/passwd"), 404)
    check_problem(await order(client, "promote", model="trains", version="20990101-000000-00000000"), 404)
    check_problem(await order(client, "canary", model="trains", percent=0), 404)
    check_problem(await order(client, "load", version="20990101-000000-00000000", label="../up"), 404)


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        ("promote", b"{}", "version"),
        ("promote", b"", "version"),
        ("promote", b"{", "body"),
        ("promote", b"[]", "body"),
        ("promote", b'{"version": 1}', "version"),
        ("promote", b'{"version": "a", "force": true}', "force"),
        ("canary", b'{"percent": 51}', "percent"),
        ("canary", b'{"percent": NaN}', "percent"),
        ("canary", b'{"percent": 5, "requests": 1}', "requests"),
        ("shadow", b'{"on": "maybe"}', "on"),
    ],
)
async def test_a_body_that_says_something_else_is_refused_by_field(
    client: Client, action: str, body: bytes, field: str
) -> None:
    answer = await client("POST", f"/admin/models/cars/{action}", body, headers=BEARER)
    assert check_problem(answer, 422)["errors"][0]["field"] == field


async def test_a_large_body_is_refused_as_it_comes_in(client: Client) -> None:
    chunks = [b'{"version": "'] + [b"x" * 1000] * 100
    check_problem(await client("POST", "/admin/models/cars/promote", chunks, headers=BEARER), 413)
    assert client.chunks_read < 25


@pytest.mark.parametrize(
    "path", ["/admin", "/admin/", "/admin/models/cars", "/admin/models/cars/drop", "/admin/models/a/b/promote"]
)
async def test_there_is_nothing_else_under_admin(client: Client, path: str) -> None:
    check_problem(await client("POST", path, b"{}", headers=BEARER), 404)


async def test_orders_are_posted(client: Client) -> None:
    check_problem(await client("GET", "/admin/models/cars/promote", headers=BEARER), 405, allow="POST")


async def test_the_token_is_nowhere_to_be_read(
    client: Client, runtime: Runtime, newer: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = [(await order(client, "promote", version=newer.manifest.version)).body]
    texts += [(await order(client, "promote", version="x")).body]
    texts += [(await client("GET", path)).body for path in ("/models", "/models/cars", "/metrics", "/openapi.json")]
    shown = b"".join(texts) + (caplog.text + repr(runtime.settings) + repr(runtime)).encode()
    assert TOKEN.encode() not in shown
    assert "admin@127.0.0.1: promote of cars at revision" in caplog.text


async def test_where_this_worker_cannot_follow_the_answer_says_why(
    client: Client, runtime: Runtime, newer: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("service.pool.load", broken)
    answer = await order(client, "promote", version=newer.manifest.version)
    assert (answer.status, answer.json["serving"], answer.json["reason"]) == (200, False, "no room")
    outputs = (await runtime.loader.find("cars").batcher.submit(np.zeros((1, 3), np.float32))).outputs
    assert outputs.shape == (1, 3)


class OtherWorker:
    """What one that lives says of itself to this one."""

    def __init__(self, folder: Path, revision: int) -> None:
        self._file = folder / f"present_serving_store_revision_{os.getppid()}.json"
        self.follow(revision)

    def follow(self, revision: int, **loaded: int) -> None:
        """It has seen the revision, and has older ones of the aliases that are ``loaded``, of cars."""
        rows = [["", "", revision], *(["cars", alias, older] for alias, older in loaded.items())]
        replace_file(self._file, json.dumps(rows).encode())


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that they share."""
    folder = tmp_path / "workers"
    folder.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    return folder


async def test_a_worker_is_counted_on_before_its_first_request(
    workers: Path, settings: Settings, thawed_garbage: None
) -> None:
    runtime = Runtime.create(settings)
    await runtime.start()
    assert (workers / f"present_serving_store_revision_{os.getpid()}.json").is_file()
    await runtime.close()


async def test_an_order_is_answered_when_the_other_workers_follow_too(
    workers: Path, client: Client, runtime: Runtime, store: Store, newer: Bundle
) -> None:
    other = OtherWorker(workers, store.aliases().revision)
    replace_file(workers / "present_serving_store_revision_99999999.json", b'[["", "", 0]]')  # One that was killed.
    given = asyncio.create_task(order(client, "load", version=newer.manifest.version))
    await until(lambda: "candidate" in runtime.loader.named("cars"))
    await asyncio.sleep(0.2)
    assert not given.done(), "a request that pins the version would be refused by the other one"
    other.follow(store.aliases().revision, candidate=0)
    await asyncio.sleep(0.2)
    assert not given.done(), "it has seen the order, and is loading"
    shown = (await client_of(runtime)("GET", "/models/cars")).json["aliases"]["candidate"]
    assert (shown["loaded"], shown["in_all_workers"]) == (True, False)
    other.follow(store.aliases().revision)
    answer = await asyncio.wait_for(given, 5)
    assert answer.json["serving"] is True


async def test_an_order_waits_for_no_other_model_that_is_being_loaded(
    workers: Path,
    client: Client,
    runtime: Runtime,
    store: Store,
    newer: Bundle,
    bundle_of: MakeBundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = newer.manifest.version
    await order(client, "load", version=version)
    loading, go_on = asyncio.Event(), threading.Event()
    load, loop = pool.load, asyncio.get_running_loop()

    def slow(*arguments: Any) -> Served:
        loop.call_soon_threadsafe(loading.set)
        go_on.wait(20)
        return load(*arguments)

    monkeypatch.setattr("service.pool.load", slow)
    trains = store.add(bundle_of(CARS, "trains").path).manifest
    store.set_alias("trains", trains.version)
    await loading.wait()
    assert (await asyncio.wait_for(order(client, "promote", version=version), 5)).json["serving"] is True
    assert runtime.loader.revision.in_all_workers("trains", "production") == {"production": 0}
    go_on.set()
    await until(
        lambda: runtime.loader.revision.in_all_workers("trains", "production")["production"] == store.aliases().revision
    )


async def test_a_pinned_version_that_is_being_loaded_is_not_unknown(
    client: Client, runtime: Runtime, store: Store, newer: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, load = threading.Event(), pool.load

    def slow(*arguments: Any) -> Served:
        go_on.wait(20)
        return load(*arguments)

    monkeypatch.setattr("service.pool.load", slow)
    store.set_alias("cars", newer.manifest.version, "candidate")
    await until(lambda: runtime.loader.document.target("cars", "candidate"))
    for pin in ("label=candidate", f"version={newer.manifest.version}"):
        answer = await client("POST", f"/predict/cars?{pin}", b"{}", headers={"content-type": "application/json"})
        assert "of cars is being loaded" in check_problem(answer, 503)["detail"]
        assert int(answer.headers["retry-after"]) >= 1
    check_problem(await client("POST", "/predict/cars?label=blue", b"{}"), 404)
    go_on.set()


async def test_an_order_that_another_worker_does_not_follow_says_so(
    workers: Path, client: Client, store: Store, newer: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Loaded before, so that this worker itself follows well within the time.
    await order(client, "load", version=newer.manifest.version)
    monkeypatch.setattr("service.admin._WAIT_S", 2.0)
    OtherWorker(workers, store.aliases().revision)
    answer = await order(client, "promote", version=newer.manifest.version)
    assert (answer.status, answer.json["serving"]) == (200, False)
    assert "another worker of this server does not serve it yet" in answer.json["reason"]


async def test_where_the_other_workers_cannot_be_asked_the_change_is_made_all_the_same(
    workers: Path, client: Client, store: Store, newer: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.admin._WAIT_S", 0.3)
    (workers / f"present_serving_store_revision_{os.getppid()}.json").write_bytes(b"{")
    answer = await order(client, "promote", version=newer.manifest.version)
    assert (answer.status, answer.json["serving"]) == (200, False)
    assert store.aliases().models["cars"]["production"].version == newer.manifest.version


async def test_models_shows_aliases_traffic_and_why_one_is_not_loaded(
    client: Client, runtime: Runtime, store: Store, newer: Bundle
) -> None:
    await order(client, "load", version=newer.manifest.version)
    await order(client, "shadow")
    shown = (await client("GET", "/models/cars")).json
    assert shown["aliases"]["candidate"] == {
        "version": newer.manifest.version,
        "loaded": True,
        "in_all_workers": True,
    }
    assert shown["revision"] == store.aliases().revision
    assert shown["traffic"] == {"canary": None, "shadow": True}
    store.remove_alias("cars", "candidate")
    await until(lambda: "candidate" not in runtime.loader.named("cars"))
    store.set_alias("cars", newer.manifest.version, "candidate")
    spoil(newer, "altered graph")
    await until(lambda: "cars/candidate" in runtime.loader.problems())
    shown = (await client("GET", "/models/cars")).json["aliases"]["candidate"]
    assert shown["loaded"] is False
    assert "sha256" in shown["problem"]


@pytest.mark.parametrize(("host", "logged"), [("::1", "::1"), ("1.2.3.4: promote of cars", "unknown")])
def test_who_is_an_address_whatever_a_header_of_proxies_says(host: str, logged: str) -> None:
    assert _address(Request({"type": "http", "client": (host, 1)})) == logged
