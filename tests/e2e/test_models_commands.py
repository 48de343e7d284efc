"""The commands that a person types while a server runs."""

import json
import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from models.bundle import ONNX, Bundle
from models.store import Store
from tests.bundles import CARS, CREATED, make_bundle
from tests.e2e.server import Server, running, wait_for

RECORD = {"instances": [{"weight": 3000, "horsepower": 100, "origin": "usa"}]}


def models(server: Server, *words: str) -> str:
    """Output of `keras-serving models ...` on the server's store."""
    command = [str(Path(sys.executable).with_name("keras-serving")), "models", *words]
    environment = os.environ | {"SERVING_HOME": str(server.home), "SERVING_PRETRAINED": str(server.home / "none")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def service(server: Server, version: str) -> str:
    """What `models show` says that the server makes of a version of ``cars``."""
    return str(json.loads(models(server, "show", "cars", version, "--url", server.url, "--json"))["service"])


def wait_for_version(server: Server, version: str) -> None:
    wait_for(lambda: httpx.get(f"{server.url}/models/cars").json()["version"] == version)


@pytest.fixture
def versions(home: Path, shipped: Path, tmp_path: Path) -> list[str]:
    """Three versions of ``cars``, oldest first; the first is in production."""
    Store(home).seed(shipped)
    for seed in (1, 2):
        bundle = make_bundle(tmp_path / "n", "cars", CARS, seed=seed, created=CREATED + timedelta(days=seed))
        Store(home).add(bundle.path)
    return Store(home).versions("cars")


def test_versions_are_labelled_promoted_rolled_back_and_deleted_under_load(
    home: Path, shipped: Path, versions: list[str]
) -> None:
    with running(home, pretrained=shipped, SERVING_POLL_S="0.05", SERVING_RETRY_S="0.2") as server:
        answers: list[httpx.Response] = []
        stop = threading.Event()

        def ask() -> None:
            with httpx.Client(timeout=60) as client:
                while not stop.is_set():
                    answers.append(client.post(f"{server.url}/predict/cars", json=RECORD))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            assert service(server, versions[0]) == f"{server.url} answers with it"
            assert service(server, versions[2]) == f"{server.url} has not loaded it; {versions[0]} answers"
            models(server, "label", "cars", versions[1], "candidate")
            models(server, "promote", "cars", "candidate")
            wait_for_version(server, versions[1])
            models(server, "promote", "cars", versions[2])
            wait_for_version(server, versions[2])
            # The oldest is needed by nothing any more; the one before is what a rollback needs.
            assert models(server, "prune", "cars", "--keep", "1") == f"cars: deleted {versions[0]}\n"
            models(server, "rollback", "cars")
            wait_for_version(server, versions[1])
        finally:
            stop.set()
            asking.join()
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["version"] for answer in answers} == set(versions)


def test_show_says_why_a_server_does_not_answer_with_a_version(
    home: Path, shipped: Path, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(home, pretrained=shipped, SERVING_POLL_S="0.05", SERVING_RETRY_S="0.2") as server:
        store = Store(home)
        path = store.open("cars", versions[2]).path / ONNX
        path.write_bytes(path.read_bytes()[:-1])
        # As if it had been altered in the moment after the store had verified it.
        monkeypatch.setattr(Bundle, "verify", lambda _: None)
        store.set_alias("cars", versions[2], "blue")
        said = ""

        def is_told() -> bool:
            nonlocal said
            said = service(server, versions[2])
            return "sha256" in said

        wait_for(is_told, "the reason")
        assert said.startswith(f"{server.url} has not loaded it as blue; {versions[0]} answers: ")
