"""Health, metrics, what is served, and the documentation."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import prometheus_client
import pytest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from models.bundle import ONNX, Bundle
from models.store import Store
from service.routes import bentoml_route, owned, summary
from service.runtime import Runtime
from service.served import Served
from service.settings import PRETRAINED, Settings
from tests.service.asgi import Client
from tests.service.conftest import StartRuntime, client_of
from tests.service.test_metrics import samples


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
async def test_a_process_is_alive_while_it_loads(settings: Settings, path: str) -> None:
    answer = await client_of(Runtime.create(settings))("GET", path)
    assert (answer.status, answer.json) == (200, {"status": "alive"})


async def test_a_worker_is_not_ready_while_it_loads(settings: Settings) -> None:
    answer = await client_of(Runtime.create(settings))("GET", "/readyz")
    assert (answer.status, answer.json["status"], answer.json["models"]) == (503, "loading", {})


async def test_a_worker_is_ready_once_it_has_loaded_and_tells_the_versions(client: Client, store: Store) -> None:
    answer = await client("GET", "/readyz")
    assert answer.status == 200
    assert answer.json["status"] == "ready"
    assert answer.json["models"] == {name: store.versions(name)[0] for name in ("cars", "clothes", "heat")}
    assert answer.json["problems"] == {}


async def test_a_worker_that_drains_is_not_ready_but_alive(client: Client, runtime: Runtime) -> None:
    runtime.draining = True
    answer = await client("GET", "/readyz")
    assert (answer.status, answer.json["status"]) == (503, "draining")
    assert (await client("GET", "/livez")).status == 200


async def test_a_worker_without_any_model_is_not_ready(
    start_runtime: StartRuntime, settings: Settings, tmp_path: Path
) -> None:
    empty = settings.model_copy(update={"home": tmp_path / "empty", "pretrained": tmp_path / "none"})
    answer = await client_of(await start_runtime(empty))("GET", "/readyz")
    assert (answer.status, answer.json["status"]) == (503, "no model is served")


@pytest.fixture
async def crippled(start_runtime: StartRuntime, settings: Settings, store: Store, tmp_path: Path) -> Client:
    """A service whose model ``cars`` is corrupt."""
    (store.home / "models" / "cars" / store.versions("cars")[0] / ONNX).write_bytes(b"x")
    return client_of(await start_runtime(settings.model_copy(update={"pretrained": tmp_path / "none"})))


async def test_problems_tell_clients_no_path_of_the_machine(crippled: Client, home: Path) -> None:
    for path in ("/readyz", "/models", "/models/cars"):
        answer = await crippled("GET", path)
        assert b"sha256" in answer.body
        assert str(home).encode() not in answer.body


async def test_one_corrupt_model_leaves_the_worker_ready_and_is_told(crippled: Client) -> None:
    answer = await crippled("GET", "/readyz")
    assert answer.status == 200
    assert sorted(answer.json["models"]) == ["clothes", "heat"]
    assert "sha256" in answer.json["problems"]["cars"]
    assert "sha256" in (await crippled("GET", "/models")).json["problems"]["cars"]
    alone = await crippled("GET", "/models/cars")
    assert alone.status == 503
    assert "sha256" in alone.json["problem"]


async def test_the_models_are_listed_with_version_kind_and_quality(client: Client, store: Store) -> None:
    models = (await client("GET", "/models")).json["models"]
    assert [model["name"] for model in models] == ["cars", "clothes", "heat"]
    assert models[0] == {
        "name": "cars",
        "version": store.versions("cars")[0],
        "kind": "tabular_regression",
        "architecture": "linear",
        "figures": {"accuracy": 0.9},
        "predict": "/predict/cars",
    }


def test_the_figures_in_the_list_are_those_of_the_test_rows() -> None:
    manifest = Bundle.open(PRETRAINED / "cnn").manifest
    accuracy = {figure.split: figure.value for figure in manifest.figures if figure.name == "accuracy"}
    assert accuracy["test"] != accuracy["validation"]
    assert summary(cast("Served", SimpleNamespace(manifest=manifest)))["figures"]["accuracy"] == accuracy["test"]


@pytest.mark.parametrize("name", ["cars", "clothes", "heat"])
async def test_a_model_is_described_with_a_request_that_it_answers(client: Client, name: str) -> None:
    answer = await client("GET", f"/models/{name}")
    assert answer.status == 200
    found = answer.json
    assert found["row"]["dtype"] in {"uint8", "float32"}
    assert found["figures"][0]["baselines"] == {"majority": 0.3}
    assert found["running"]["engine"] == "onnx"
    assert "application/json" in found["media_types"]
    import json

    body = json.dumps(found["example"]).encode()
    prediction = await client("POST", found["predict"], body, headers={"content-type": "application/json"})
    assert prediction.status == 200, prediction.body


async def test_an_unknown_model_is_404_with_the_known_names(client: Client) -> None:
    answer = await client("GET", "/models/trains")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "cars, clothes, heat" in answer.json["detail"]


async def test_a_model_is_503_while_it_is_loaded(settings: Settings) -> None:
    answer = await client_of(Runtime.create(settings))("GET", "/models/cars")
    assert answer.status == 503
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_route_that_fails_answers_a_problem_without_the_inside(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("at /secret")

    monkeypatch.setattr(runtime.loader, "problems", fail)
    with pytest.raises(ZeroDivisionError):
        await client("GET", "/models")
    start, body = client.sent[-2:]
    assert start["status"] == 500
    assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
    assert b"secret" not in body["body"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/models", "/models/cars", "/openapi.json", "/docs"])
async def test_these_routes_are_read_only(client: Client, path: str) -> None:
    answer = await client("POST", path)
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["request_id"] == answer.headers["x-request-id"] != "-"


async def test_a_scrape_does_not_hold_up_the_loop(client: Client, runtime: Runtime) -> None:
    threads: list[threading.Thread] = []

    class Spy(Collector):
        def collect(self) -> Iterator[Metric]:
            threads.append(threading.current_thread())
            yield from ()

    runtime.metrics._registry.register(Spy())
    threads.clear()
    assert (await client("GET", "/metrics")).status == 200
    assert threads
    assert threading.current_thread() not in threads


async def test_a_scrape_does_not_wait_for_the_decoding_of_large_bodies(client: Client) -> None:
    done = threading.Event()
    decoding = [asyncio.create_task(asyncio.to_thread(done.wait, 20)) for _ in range(100)]
    try:
        async with asyncio.timeout(10):
            assert (await client("GET", "/metrics")).status == 200
    finally:
        done.set()
        await asyncio.gather(*decoding)


async def test_metrics_are_in_the_text_format_and_up_to_date(client: Client, runtime: Runtime) -> None:
    body = b'{"instances": [{"weight": 3504, "horsepower": 130, "origin": "usa"}]}'
    await client("POST", "/predict/cars", body, headers={"content-type": "application/json"})
    answer = await client("GET", "/metrics")
    assert answer.headers["content-type"] == prometheus_client.CONTENT_TYPE_LATEST
    found = samples(answer.body.decode())
    assert found['serving_predictions_total{class="",model="cars"}'] == 1
    assert found["serving_inflight{}"] == 0
    assert found['serving_queue_depth{model="cars"}'] == 0
    assert sum(value for name, value in found.items() if name.startswith("serving_model_info")) == 3
    assert found['serving_model_reloads_total{model="cars",result="success"}'] == 1


async def test_the_documentation_page_loads_nothing_from_elsewhere(client: Client) -> None:
    answer = await client("GET", "/docs")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert b"http://" not in answer.body
    assert b"https://" not in answer.body
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe-eval" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/models", "/models"),
        ("/models/cars", "/models/{model}"),
        ("/models/", "/models/{model}"),
        ("/models/cars/x", None),
        ("/models/cars/prepared", "/models/{model}/prepared"),
        ("/web/page.js", "/web/{file}"),
        ("/web/a/b", "/web/{file}"),
        ("/live.json", "/live.json"),
        ("/livez/", None),
        ("/predict", None),
        ("/LIVEZ", None),
        ("", None),
    ],
)
def test_a_path_belongs_to_one_route_of_ours_or_to_none(path: str, route: str | None) -> None:
    assert owned(path) == route


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/predict", "/predict"),
        ("/static_content/swagger-ui.css", "/static_content"),
        ("/docs.json", "/docs.json"),
        ("/static_contents", None),
        ("/nowhere", None),
    ],
)
def test_bentomls_routes_have_a_name_for_the_metrics(path: str, route: str | None) -> None:
    assert bentoml_route(path) == route


@pytest.mark.parametrize("path", ["/metrics", "/models/cars/drift", "/models/cars/compare", "/live.json"])
async def test_where_the_volume_hangs_what_is_read_from_it_is_503_and_says_so(
    path: str, runtime: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, answers = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        answers.wait(20)

    hanging = asyncio.create_task(runtime.beside(hang))
    await asyncio.to_thread(hangs.wait, 20)
    monkeypatch.setattr("service.patience.PATIENCE_S", 0.05)
    try:
        answer = await client("GET", path)
    finally:
        answers.set()
    assert answer.status == 503
    assert "have not answered for 0.05 s. Check the volume" in answer.json["detail"]
    assert answer.headers["retry-after"] == "1"
    await hanging
    monkeypatch.undo()
    assert (await client("GET", path)).status == 200


async def test_a_volume_that_hangs_does_not_hold_up_the_stop(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, thawed_garbage: None
) -> None:
    answers, threads = threading.Event(), list[threading.Thread]()

    def hang() -> None:
        threads.append(threading.current_thread())
        answers.wait(20)

    runtime = Runtime.create(settings)
    monkeypatch.setattr("service.patience.PATIENCE_S", 0.05)
    monkeypatch.setattr(runtime.metrics, "save", hang)
    await runtime.start()
    try:
        await runtime.close()
    finally:
        answers.set()
    assert threads
    assert threading.current_thread() not in threads
    assert "the last metrics may be lost" in caplog.text
