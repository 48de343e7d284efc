"""A real server's first seconds: nobody is sent to it before it is warm."""

import contextlib
import http.client
import json
import time
from pathlib import Path
from statistics import median

import httpx
import pytest

from models.bundle import Bundle
from service.settings import PRETRAINED
from tests.e2e.server import running
from tests.figures import Figure

MODELS = ("cnn", "dnn", "lstm", "regressor")
STARTS = 5
LATER, PAUSE_S = 30, 0.05
ALLOWED = 3.0
"""The first answer's time, in medians of those after it."""


def first_answers(folder: Path) -> tuple[list[int], dict[str, tuple[float, float]]]:
    """What readiness said from the first answer on, and of each model the first answer's time and the median, seconds.

    One connection, that has been answered before: what is slow is then the prediction. The later answers come after
    pauses, as the first one does: whoever wakes an idle process waits for longer than in a row of requests.
    """
    statuses: list[int] = []
    examples = {name: {"instances": [Bundle.open(PRETRAINED / name).manifest.example]} for name in MODELS}
    bodies = {name: json.dumps(example).encode() for name, example in examples.items()}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(folder / "home", pretrained=PRETRAINED, ready=False))
        address = httpx.URL(server.url)
        connection = http.client.HTTPConnection(address.host, address.port, timeout=30)
        stack.callback(connection.close)

        def ask(method: str, path: str, body: bytes | None = None) -> tuple[int, float]:
            began = time.perf_counter()
            connection.request(method, path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            return answer.status, time.perf_counter() - began

        deadline = time.monotonic() + 60
        while 200 not in statuses:
            assert time.monotonic() < deadline
            try:
                statuses.append(ask("GET", "/readyz")[0])
            except OSError:
                connection.close()
                time.sleep(0.01)
        took = {}
        for name, body in bodies.items():
            times = []
            for _ in range(LATER):
                time.sleep(PAUSE_S if times else 0)
                status, seconds = ask("POST", f"/predict/{name}", body)
                assert status == 200, name
                times.append(seconds)
            took[name] = (times[0], median(times[1:]))
    return statuses, took


@pytest.mark.slow
@pytest.mark.reliability(10, "Ready only when warm: the first answer is no slower than 3 times the median after it")
def test_the_first_answer_after_readiness_is_no_slower_than_three_medians(tmp_path: Path, figure: Figure) -> None:
    ratios: dict[str, list[float]] = {name: [] for name in MODELS}
    early = 0
    for start in range(STARTS):
        (tmp_path / f"{start}").mkdir()
        statuses, took = first_answers(tmp_path / f"{start}")
        early += statuses.count(503)
        assert set(statuses) <= {200, 503}
        for name, (first, typical) in took.items():
            ratios[name].append(first / typical)
    shown = ", ".join(f"{name} {median(found):.1f} ({max(found):.1f})" for name, found in ratios.items())
    figure(f"first answer / median, over {STARTS} starts the median (largest): {shown}; told 'not ready' {early} times")
    assert {name: median(found) for name, found in ratios.items() if median(found) > ALLOWED} == {}
