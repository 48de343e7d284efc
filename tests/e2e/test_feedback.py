"""From predictions over two workers to a table to train on: capture, feedback, drift."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.task import TabularRegression
from service.settings import PRETRAINED
from tests.bundles import SHIPPED_CAR
from tests.e2e.server import Server, running, wait_for
from tests.e2e.shares import shares_of
from training.own.source import Options
from training.own.table import TableOptions, read_table

REQUESTS, ROWS = 12, 5
COUNT = REQUESTS * ROWS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("capturing") / "home"
    settings = {"SERVING_CAPTURE_SHARE": "1", "SERVING_MODELS": "regressor", "SERVING_DRIFT_MIN_ROWS": "10"}
    # A worker writes every minute; here each time that it ends.
    with running(home, "--workers", "2", pretrained=PRETRAINED, SERVING_CAPTURE_FLUSH_S="60", **settings) as found:
        wait_for(lambda: min(shares_of(found)) > 0)
        yield found


def client_of_each_worker(server: Server, opened: ExitStack) -> list[httpx.Client]:
    """Clients whose connections, which they keep, lead to different workers."""
    found: dict[str, httpx.Client] = {}

    def is_each_found() -> bool:
        client = opened.enter_context(httpx.Client(base_url=server.url, timeout=30))
        refused = client.post("/predict/regressor", json={"instances": ["no car"]})
        # A request's number begins with its worker's.
        found.setdefault(refused.headers["x-request-id"][:10], client)
        return len(found) == 2

    wait_for(is_each_found, "a connection to each worker")
    return list(found.values())


def answer(client: httpx.Client, number: int) -> Any:
    body = {"instances": [SHIPPED_CAR | {"weight": weight} for weight in weights(number)]}
    reply = client.post("/predict/regressor", json=body)
    assert reply.status_code == 200
    return reply.json()


def weights(number: int) -> list[int]:
    return [2000 + 20 * (number * ROWS + row) for row in range(ROWS)]


def test_what_was_answered_by_any_worker_is_judged_once_and_becomes_data(server: Server) -> None:
    with ExitStack() as opened:
        clients = client_of_each_worker(server, opened)
        said = [answer(clients[number % 2], number) for number in range(REQUESTS)]
    assert len({each["request_id"][:10] for each in said}) == 2, "one worker answered everything"
    truths = [
        {"request_id": each["request_id"], "row": row, "value": prediction["value"] + 1}
        for each in said
        for row, prediction in enumerate(each["predictions"])
    ]
    with httpx.Client(timeout=30) as client, ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda told: client.post(f"{server.url}/feedback", json=told), truths))
        assert {reply.status_code for reply in replies} == {200}
        assert [reply.json()["mean_absolute_error"] for reply in replies] == pytest.approx([1] * COUNT, abs=1e-4)
        assert client.post(f"{server.url}/feedback", json=truths[0]).status_code == 409
        drift = client.get(f"{server.url}/models/regressor/drift").json()["versions"][0]
    # Cars of one origin and year, whichever worker is asked.
    assert drift["state"] in ("major", "too few rows")
    wait_for(lambda: server.metric("serving_feedback_total", model="regressor") == COUNT)
    assert server.metric("serving_feedback_absolute_error_total") == pytest.approx(COUNT, rel=1e-3)
    server.terminate()
    file = server.home.parent / "cars.parquet"
    assert f"{COUNT} of {COUNT} captured rows have a truth" in captured(server.home, file)
    data, raw = read_table(file, TableOptions("mpg"), Options(say=lambda _: None))
    assert isinstance(data.task, TabularRegression)
    table = raw.table.astype({"weight": float, "mpg": float}).sort_values("weight")
    assert table["weight"].tolist() == [weight for number in range(REQUESTS) for weight in weights(number)]
    assert table["mpg"].tolist() == pytest.approx([told["value"] for told in truths], rel=1e-5)


def captured(home: Path, file: Path) -> str:
    command = Path(sys.executable).with_name("keras-serving")
    done = subprocess.run(
        [command, "captured", "regressor", "--output", file],
        env={"SERVING_HOME": str(home), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
