"""Start, readiness, switching, failures and stop of a real server process."""

import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.bundle import ONNX, Bundle
from models.store import Store
from tests.bundles import CARS, CREATED, IMAGE, make_bundle, run_offline
from tests.e2e.server import Server, is_closed, running, wait_for
from tests.e2e.shares import KeptAlive, check_even_shares
from tests.figures import Figure

RECORD = {"weight": 3000, "horsepower": 100, "origin": "usa"}


def ask(url: str, instance: object = RECORD, model: str = "cars") -> httpx.Response:
    return httpx.post(f"{url}/predict/{model}", json={"instances": [instance]}, timeout=60)


def value_of(bundle: Bundle, record: dict[str, object]) -> float:
    return float(run_offline(bundle, CARS.parse([record]))[0, 0])


def test_it_is_alive_but_not_ready_before_the_models_are_loaded(home: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "pre", "cars", CARS)
    home.mkdir()
    with (home / ".lock").open("w") as lock:
        # While another process holds the store, this one cannot have loaded anything.
        fcntl.flock(lock, fcntl.LOCK_EX)
        with running(home, pretrained=tmp_path / "pre", ready=False, SERVING_START_WAIT_S="0.1") as server:
            server.wait_until("loading")
            assert httpx.get(f"{server.url}/livez").status_code == 200
            ready = httpx.get(f"{server.url}/readyz")
            assert (ready.status_code, ready.json()["models"]) == (503, {})
            early = ask(server.url)
            assert (early.status_code, early.headers["retry-after"]) == (503, "1")
            fcntl.flock(lock, fcntl.LOCK_UN)
            server.wait_until("ready")
            assert ask(server.url).status_code == 200


def test_a_server_that_has_no_descriptor_left_stops_as_any_other(home: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "pre", "cars", CARS)
    with running(home, pretrained=tmp_path / "pre") as server:
        (worker,) = server.workers()
        _, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (0, hard))
        assert server.terminate() == 0


def test_every_worker_follows_a_promotion_and_no_request_fails(home: Path, tmp_path: Path) -> None:
    old = make_bundle(tmp_path / "pre", "cars", CARS, seed=1)
    new = make_bundle(tmp_path / "new", "cars", CARS, seed=2, created=CREATED + timedelta(hours=1))
    values = {b.manifest.version: value_of(b, RECORD) for b in (old, new)}
    wrong: list[object] = []
    versions: set[str] = set()
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                response = client.post(f"{server.url}/predict/cars", json={"instances": [RECORD]})
                answer = response.json()
                versions.add(answer.get("version"))
                if response.status_code != 200 or not np.isclose(
                    answer["predictions"][0]["value"], values[answer["version"]], rtol=1e-6
                ):
                    wrong.append(answer)

    with running(home, "--workers", "2", pretrained=tmp_path / "pre") as server:
        assert len(server.workers()) == 2
        # One that begins after the promotion would load the new version alone.
        server.wait_for_workers(2)
        clients = [threading.Thread(target=load) for _ in range(4)]
        for client in clients:
            client.start()
        store = Store(home)
        store.add(new.path)

        def models(*words: str) -> str:
            return subprocess.check_output(
                [str(Path(sys.executable).with_name("keras-serving")), "models", *words],
                env=os.environ | {"SERVING_HOME": str(home), "SERVING_PRETRAINED": str(tmp_path / "pre")},
                text=True,
            )

        switched = models("promote", "cars", new.manifest.version)
        assert switched == f"cars: {old.manifest.version} -> {new.manifest.version}\n"
        waited = models("wait", "cars", "--url", server.url)
        assert waited == f"every worker of {server.url} has cars {new.manifest.version} (production)\n"
        # Fresh connections reach both workers.
        assert {ask(server.url).json()["version"] for _ in range(40)} == {new.manifest.version}
        wait_for(lambda: versions == set(values))
        stop.set()
        for client in clients:
            client.join()
        assert wrong == []
        wait_for_metric(server, "serving_model_reloads_total", 4, model="cars", result="success")
        assert server.metric("serving_model_reloads_total", model="cars", result="success") == 4


def test_one_corrupt_bundle_at_start_leaves_the_others_served_and_is_named(home: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "pre", "cars", CARS)
    clothes = make_bundle(tmp_path / "pre", "clothes", IMAGE)
    (clothes.path / ONNX).write_bytes(b"not what it was")
    with running(home, pretrained=tmp_path / "pre") as server:
        ready = httpx.get(f"{server.url}/readyz")
        assert ready.status_code == 200
        assert list(ready.json()["models"]) == ["cars"]
        assert "sha256" in ready.json()["problems"]["pretrained/clothes-0"]
        assert "clothes-0 is left out" in server.text
        assert ask(server.url).status_code == 200
        assert ask(server.url, model="clothes").status_code == 404


@pytest.mark.reliability(11, "A worker killed with SIGKILL is replaced, and the gauges return to 0")
def test_a_killed_worker_is_replaced_gets_its_share_and_the_gauges_return_to_zero(
    home: Path, tmp_path: Path, figure: Figure
) -> None:
    make_bundle(tmp_path / "pre", "cars", CARS)
    with running(home, "--workers", "2", pretrained=tmp_path / "pre") as server:
        assert all(ask(server.url).status_code == 200 for _ in range(20))
        served = {"model": "cars", "code": "200"}
        wait_for_metric(server, "serving_requests_total", 20, **served)
        for worker in "12":
            wait_for_metric(server, "serving_worker_start_time_seconds", 1, worker=worker)
        began = server.metric("serving_worker_start_time_seconds")
        wait_for_metric(server, "serving_worker_cpu_seconds_total", 0.01)
        cpu_s = server.metric("serving_worker_cpu_seconds_total")
        check_even_shares(server)
        kept = KeptAlive(server, 16)
        kept.ask()
        senders = [half_sent(server) for _ in range(20)]
        wait_for_metric(server, "serving_inflight", 20)
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        # Those of the killed worker come to the one that is left.
        kept.ask()
        while victim in server.workers() or len(server.workers()) < 2:
            assert time.monotonic() < killed + 60
            time.sleep(0.02)
        server.wait_until("ready")
        recovered = time.monotonic() - killed
        # What the killed worker had in hand is lost, and so is it in the gauge.
        lost = sum(is_closed(sender) for sender in senders)
        assert 0 < lost < 20
        wait_for_metric(server, "serving_inflight", 20 - lost)
        for sender in senders:
            sender.close()
        wait_for(lambda: kept.are_spread(server), "the connections that were kept are spread again")
        kept.close()
        check_even_shares(server)
        assert all(ask(server.url).status_code == 200 for _ in range(20))
        wait_for_metric(server, "serving_inflight", 0)
        # No count goes back, and nothing that the killed worker had is there twice.
        wait_for_metric(server, "serving_requests_total", 40, **served)
        assert server.metric("serving_worker_cpu_seconds_total") >= cpu_s
        wait_for_metric(server, "serving_model_info", 1)
        wait_for_metric(server, "serving_worker_rss_bytes", 10e6, worker="1")
        wait_for_metric(server, "serving_worker_rss_bytes", 10e6, worker="2")
        text = httpx.get(f"{server.url}/metrics").text
        assert len(re.findall("^serving_worker_rss_bytes{", text, re.MULTILINE)) == 2
        assert server.metric("serving_worker_start_time_seconds") - began < 300
        figure(f"ready again with two workers after {recovered:.1f} s; of 20 requests in flight {lost} lost; then 0")


def half_sent(server: Server) -> socket.socket:
    """A connection with a request of which the rest never comes."""
    address = httpx.URL(server.url)
    sender = socket.create_connection((address.host, address.port or 0), timeout=10)
    head = (
        b"POST /predict/cars HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    )
    sender.sendall(head + b'{"instances": [')
    return sender


def wait_for_metric(server: Server, name: str, least: float, **labels: str) -> None:
    """Wait until ``name`` is at least ``least``, or 0 where that is asked for."""

    def is_so() -> bool:
        return (value := server.metric(name, **labels)) >= least > 0 or value == least

    wait_for(is_so, f"{name} {labels} of {least:g}")


def test_metrics_count_every_request_over_two_workers(home: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "pre", "cars", CARS)
    with running(home, "--workers", "2", pretrained=tmp_path / "pre") as server:
        for _ in range(30):
            assert ask(server.url).status_code == 200
        assert ask(server.url, {"weight": 1}).status_code == 422
        for i in range(20):
            assert ask(server.url, model=f"random{i}").status_code == 404
        # A worker writes its numbers down twice a second; the last request is the last to be among them.
        wait_for_metric(server, "serving_requests_total", 20, route="unmatched", code="404")
        wait_for_metric(server, "serving_requests_total", 30, model="cars", code="200")
        wait_for_metric(server, "serving_requests_total", 1, model="cars", code="422")
        assert server.metric("serving_requests_total", model="cars", code="200") == 30
        assert server.metric("serving_requests_total", model="cars", code="422") == 1
        assert server.metric("serving_requests_total", route="unmatched", code="404") == 20
        assert server.metric("serving_request_duration_seconds_count", model="cars") == 31
        assert server.metric("serving_batch_size_sum", model="cars") == 30
        assert server.metric("serving_stage_duration_seconds_count", model="cars", stage="queue") == 30
        assert "random" not in httpx.get(f"{server.url}/metrics").text


def test_two_servers_share_a_home_without_touching_each_others_metrics(home: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "pre", "cars", CARS)
    with running(home, pretrained=tmp_path / "pre") as first:
        assert ask(first.url).status_code == 200
        with running(home, pretrained=tmp_path / "pre") as second:
            assert ask(second.url).status_code == 200
            assert first.metric("serving_requests_total", model="cars") == 1
            assert second.metric("serving_requests_total", model="cars") == 1


def test_a_store_that_cannot_be_seeded_again_is_served_as_it_is(home: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "pre", "cars", CARS)
    Store(home).seed(tmp_path / "pre")
    shutil.rmtree(tmp_path / "pre")
    with running(home, pretrained=tmp_path / "pre") as server:
        assert ask(server.url).status_code == 200


def test_the_port_of_another_server_is_refused_in_one_line(server: Server, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    command = [str(Path(sys.executable).with_name("keras-serving")), "serve", "--port", port]
    done = subprocess.run(
        command, env=os.environ | {"SERVING_HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"keras-serving: cannot listen on 127.0.0.1:{port}: Address already in use. Choose another --port."
    ]
