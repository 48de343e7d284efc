"""The wall clock is set under a running server: only what is stamped with it shows that."""

import ast
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest

import service
from tests.e2e.server import Server, running
from tests.figures import Figure
from tests.reliability.faults import BODY, ROUTE, TOKEN, answers, promote, two_versions
from tests.reliability.probe import until

STAMPS = {
    "spans.py": "start and end of a span, as OpenTelemetry wants them",
    "vitals.py": "worker_start_time_seconds",
    "statistics.py": "last_inference of the Open Inference Protocol",
    "live.py": "slots of the page's history",
    "capture.py": "time of a captured request, and the age at which its file is deleted",
}
"""File -> what it needs the wall clock for."""
_WALL = {
    "time.time",
    "time.time_ns",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "time.localtime",
    "time.ctime",
}
_SET = """
import os
import time

_file, _time, _time_ns = os.environ["CLOCK_FILE"], time.time, time.time_ns


def _ahead():
    with open(_file) as file:
        return int(file.read())


time.time = lambda: _time() + _ahead()
time.time_ns = lambda: _time_ns() + _ahead() * 10**9
"""


def test_the_wall_clock_is_read_for_stamps_only() -> None:
    found = {
        path.name
        for path in Path(service.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in _WALL
    }
    assert found == set(STAMPS)


@pytest.mark.slow
@pytest.mark.reliability(
    34, "clock set by an hour, either way: deadlines, switches, metrics and the drain are not hurt"
)
def test_a_clock_that_is_set_hurts_neither_deadlines_nor_switches_nor_the_drain(tmp_path: Path, figure: Figure) -> None:
    old, new = two_versions(tmp_path, tmp_path / "home")
    clock = tmp_path / "clock"
    clock.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(_SET)
    wall = {"PYTHONPATH": str(tmp_path), "CLOCK_FILE": str(clock)}
    with running(
        tmp_path / "home", pretrained=tmp_path / "none", SERVING_ADMIN_TOKEN=TOKEN, SERVING_DRAIN_S="1", **wall
    ) as server:
        versions = [old, new]
        seconds = []
        for turn, jump in enumerate((3600, -3600, 0)):
            (tmp_path / "next").write_text(str(jump))
            (tmp_path / "next").replace(clock)
            until(lambda jump=jump: abs(_ahead(server) - jump) < 60)  # type: ignore[misc]
            in_time = {"x-request-timeout-ms": "5000"}
            assert httpx.post(server.url + ROUTE, json=BODY, headers=in_time, timeout=30).status_code == 200
            served = versions[turn % 2]
            assert answers(server, 10) == {(200, served.manifest.version)}
            began = time.monotonic()
            coming = versions[(turn + 1) % 2]
            assert promote(server, coming).status_code == 200
            assert answers(server, 1) == {(200, coming.manifest.version)}
            seconds.append(time.monotonic() - began)
        until(lambda: server.metric("serving_requests_total", model="cars", code="200") == 36)
        duration = server.metric("serving_request_duration_seconds_sum", model="cars")
        assert 0 < duration < 36
        until(lambda: bool(_rates(server)))
        assert all(0 <= rate < 1000 for rate in _rates(server))
        assert server.terminate() == 0
    figure(
        f"36 of 36 predictions, all within their deadlines; switches after {max(seconds):.2f} s at most; exit status 0"
    )


def _ahead(server: Server) -> float:
    """By how much the server's clock is ahead of ours, as its answers say. Seconds."""
    date = httpx.get(f"{server.url}/livez").headers["date"]
    return parsedate_to_datetime(date).timestamp() - time.time()


def _rates(server: Server) -> list[float]:
    """Requests a second that the page shows."""
    found = httpx.get(f"{server.url}/live.json").json()["models"]["cars"]
    return [float(rate) for rate in found["requests_per_s"]]
