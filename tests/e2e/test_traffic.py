"""Pinned versions, canary, shadow, administration and keys, on real servers with several workers."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from models.bundle import ONNX, Bundle
from models.store import Canary, Store, Traffic
from tests.bundles import CARS, CREATED, make_bundle, run_offline
from tests.e2e.server import Server, running, wait_for
from tests.redeploy.offered import resealed, slow

RECORD = {"weight": 3000, "horsepower": 100, "origin": "usa"}
TOKEN = "correct-horse-battery-staple"  # noqa: S105 - made up
KEY = "a-key-of-more-than-sixteen"


# Each request has a connection of its own, so that any worker may get it.
_CLIENT = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=60)


def ask(url: str, query: str = "", key: str = "", **headers: str) -> httpx.Response:
    headers |= {"x-canary-key": key} if key else {}
    return _CLIENT.post(f"{url}/predict/cars{query}", json={"instances": [RECORD]}, headers=headers)


def admin(server: Server, action: str, token: str = TOKEN, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"}
    return _CLIENT.post(f"{server.url}/admin/models/cars/{action}", json=body, headers=headers)


@cache
def value_in(folder: Path) -> float:
    """What the bundle there says of the record; asked for each answer, and to open its graph takes far longer."""
    return float(run_offline(Bundle.open(folder), CARS.parse([RECORD]))[0, 0])


def value_of(bundle: Bundle) -> float:
    return value_in(bundle.path)


def is_right(response: httpx.Response, *bundles: Bundle) -> bool:
    """Whether the answer is what the version that it names says offline."""
    values = {bundle.manifest.version: value_of(bundle) for bundle in bundles}
    answer = response.json()
    return response.status_code == 200 and bool(
        np.isclose(answer["predictions"][0]["value"], values[answer["version"]], rtol=1e-6)
    )


def versions_of(server: Server, queries: list[str]) -> set[str | None]:
    """Of the answers; none for one that is refused."""
    return {ask(server.url, query).json().get("version") for query in queries}


def poisoned(source: Bundle) -> bytes:
    """The graph of ``source``, which answers with no number where the weight is 3000."""
    model = onnx.load_from_string(source.read(ONNX))
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["healthy" if name == "outputs" else name for name in node.output]
    graph.initializer.append(numpy_helper.from_array(np.array(3000, np.float32), "poison"))
    graph.node.extend(
        [
            helper.make_node("ReduceMax", ["rows"], ["weight"], axes=[1], keepdims=1),
            helper.make_node("Sub", ["weight", "poison"], ["apart"]),
            helper.make_node("Div", ["apart", "apart"], ["one"]),
            helper.make_node("Mul", ["healthy", "one"], ["outputs"]),
        ]
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def old(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "pre", "cars", CARS, seed=1)


@pytest.fixture
def new(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "new", "cars", CARS, seed=2, created=CREATED + timedelta(hours=1))


def test_a_candidate_is_loaded_pinned_canaried_shadowed_and_promoted_without_a_wrong_answer(
    home: Path, tmp_path: Path, old: Bundle, new: Bundle
) -> None:
    versions = [bundle.manifest.version for bundle in (old, new)]
    keys = [f"user-{n}" for n in range(40)]
    with running(home, "--workers", "2", pretrained=tmp_path / "pre", SERVING_ADMIN_TOKEN=TOKEN) as server:
        # The page at /docs reads the second one.
        documents = [httpx.get(f"{server.url}/{name}").json() for name in ("openapi.json", "docs.json")]
        assert "/admin/models/{model}/promote" in documents[0]["paths"]
        assert documents[0] == documents[1]
        Store(home).add(new.path)
        # One that begins after an order loads a candidate after production.
        server.wait_for_workers(2)
        assert admin(server, "load", token="x" * 20, version=versions[1]).status_code == 401
        assert admin(server, "load", version=versions[1]).json()["serving"] is True
        for query, bundle in {"?label=candidate": new, f"?version={versions[0]}": old, "": old}.items():
            answers = [ask(server.url, query) for _ in range(20)]
            assert {answer.json()["version"] for answer in answers} == {bundle.manifest.version}
            assert all(is_right(answer, bundle) for answer in answers)
        missing = ask(server.url, "?label=blue")
        assert missing.status_code == 404
        assert versions[1] in missing.json()["detail"]

        assert admin(server, "canary", percent=30, p99_factor=1000).json()["serving"] is True
        assert admin(server, "shadow").json()["serving"] is True

        def grouped() -> list[dict[str, str]]:
            return [{key: ask(server.url, key=key).json()["version"] for key in keys} for _ in range(3)]

        answers = [ask(server.url) for _ in range(100)]
        assert all(is_right(answer, old, new) for answer in answers)
        assert 24 <= Counter(answer.json()["version"] for answer in answers)[versions[1]] <= 36
        groups = grouped()
        assert groups[0] == groups[1] == groups[2], "in whichever worker"
        assert set(groups[0].values()) == set(versions)

        command = [str(Path(sys.executable).with_name("keras-serving")), "models", "compare-live", "cars"]
        shown = subprocess.run([*command, "--url", server.url], capture_output=True, text=True, check=True).stdout
        assert versions[1] in shown

        def compared() -> Any:
            return json.loads(subprocess.check_output([*command, "--url", server.url, "--json"]))

        # The other worker's as it saved them last.
        wait_for(lambda: sum(compared()["rows"][one] for one in ("compared", "shed")) > 100, "rows of both workers")
        found = compared()
        assert found["distance"]["max"] == pytest.approx(abs(value_of(old) - value_of(new)), rel=1e-4)

        assert admin(server, "promote", version=versions[1], expect=versions[1]).status_code == 409
        assert admin(server, "promote", version=versions[1]).json()["serving"] is True
        assert {ask(server.url, key=key).json()["version"] for key in keys} == {versions[1]}
        assert admin(server, "rollback").json()["version"] == versions[0]
        assert TOKEN not in server.text
    who = [(change.who, change.action) for change in Store(home).changes("cars")]
    assert ("admin@127.0.0.1", "promote") in who


def test_those_in_a_canary_are_the_same_after_a_restart(home: Path, tmp_path: Path, old: Bundle, new: Bundle) -> None:
    store = Store(home)
    store.seed(tmp_path / "pre")
    store.set_alias("cars", store.add(new.path).manifest.version, "candidate")
    store.set_traffic("cars", Traffic(canary=Canary(percent=50, p99_factor=1000)))
    groups = []
    for _ in range(2):
        with running(home, pretrained=tmp_path / "pre") as server:
            wait_for(lambda server=server: ask(server.url, "?label=candidate").status_code == 200)
            groups.append([ask(server.url, key=f"user-{n}").json()["version"] for n in range(40)])
    assert groups[0] == groups[1]
    assert len(set(groups[0])) == 2


def test_a_poisoned_and_a_slow_candidate_are_rolled_back_in_every_worker_and_no_client_sees_an_error(
    home: Path, tmp_path: Path, old: Bundle
) -> None:
    store = Store(home)
    # So slow, and judged by so small a factor, that what a busy machine adds to both does not hide it.
    bad = [resealed(old, tmp_path / "poisoned", CREATED + timedelta(hours=1), poisoned(old))]
    bad.append(resealed(old, tmp_path / "slow", CREATED + timedelta(hours=2), slow(old, side=1500)))
    with running(home, "--workers", "2", pretrained=tmp_path / "pre") as server:
        for bundle, reason in zip(bad, ("error rate: ", "p99: "), strict=True):
            version = bundle.manifest.version
            store.add(bundle.path)
            store.set_alias("cars", version, "candidate")
            store.set_traffic("cars", Traffic(canary=Canary(percent=40, requests=50, p99_factor=1)))
            wrong: list[Any] = []

            def load(wrong: list[Any] = wrong) -> None:
                deadline = time.monotonic() + 120
                while store.aliases().traffic and time.monotonic() < deadline:
                    answer = ask(server.url)
                    if not is_right(answer, old, *bad):
                        wrong.append(answer.text)

            clients = [threading.Thread(target=load) for _ in range(3)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            assert wrong == []
            assert not store.aliases().traffic
            target = store.aliases().target("cars", "candidate")
            assert target is not None
            assert target.version == version, "it stays, to be looked at"
            last = store.changes("cars")[-1]
            assert last.who == "service"
            assert last.reason.startswith(reason)
            server.wait_until_followed("cars", store.aliases().revision)
            assert versions_of(server, [""] * 20) == {old.manifest.version}
        wait_for(lambda: server.metric("serving_canary_rollbacks_total", model="cars") >= 2)
        wait_for(lambda: server.metric("serving_canary_failures_total", model="cars") >= 5)


def test_a_worker_that_starts_after_its_version_broke_falls_back_and_says_so(
    home: Path, tmp_path: Path, old: Bundle, new: Bundle
) -> None:
    store = Store(home)
    with running(home, "--workers", "2", pretrained=tmp_path / "pre") as server:
        server.wait_for_workers(2)
        store.set_alias("cars", store.add(new.path).manifest.version)
        server.wait_until_followed("cars", store.aliases().revision)
        assert versions_of(server, [""] * 20) == {new.manifest.version}
        (home / "models" / "cars" / new.manifest.version / ONNX).write_bytes(b"gone")
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: victim not in server.workers() and len(server.workers()) == 2)
        wait_for(lambda: server.metric("serving_model_info", alias="fallback") == 1)
        answers = [ask(server.url) for _ in range(40)]
        assert all(is_right(answer, old, new) for answer in answers)
        assert {answer.json()["version"] for answer in answers} <= {old.manifest.version, new.manifest.version}
        assert "FALLBACK to " + old.manifest.version in server.text

        def shown() -> Any:
            return _CLIENT.get(f"{server.url}/models").json()["models"][0].get("fallback")

        # The other worker has nothing to tell.
        found = next(told for _ in range(200) if (told := shown()))
        assert found["instead_of"] == new.manifest.version
        assert "sha256" in found["reason"]


def test_with_keys_every_prediction_needs_one_and_without_a_token_there_is_no_administration(
    home: Path, tmp_path: Path, old: Bundle
) -> None:
    with running(home, pretrained=tmp_path / "pre", SERVING_API_KEYS=f"{'x' * 20},{KEY}") as server:
        for answer in (ask(server.url), ask(server.url, authorization="Bearer wrong-wrong-wrong")):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert is_right(ask(server.url, authorization=f"Bearer {KEY}"), old)
        assert is_right(ask(server.url, **{"x-api-key": KEY}), old)
        bentoml = {"model": "cars", "instances": [RECORD]}
        assert httpx.post(f"{server.url}/predict", json=bentoml).status_code == 401
        assert httpx.post(f"{server.url}/predict", json=bentoml, headers={"x-api-key": KEY}).status_code == 200
        for path in ("/livez", "/readyz", "/metrics", "/models", "/docs", "/schema.json"):
            assert httpx.get(server.url + path).status_code == 200
        assert admin(server, "promote", version="x").status_code == 404
        assert KEY not in server.text
        assert "wrong-wrong" not in server.text
