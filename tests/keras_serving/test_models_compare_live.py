"""`models compare-live`: what a service has measured, or why there is nothing to show. Services give canned answers."""

import json
from typing import Any

import pytest

from tests.e2e.server import free_port
from tests.keras_serving.conftest import Cli
from tests.keras_serving.test_models_live import answering

FOUND: dict[str, Any] = {
    "model": "cars",
    "production": "20260101-000000-00000000",
    "candidate": "20260102-000000-00000000",
    "shadow": True,
    "rows": {"compared": 1000, "agreed": 987, "differed": 13, "failed": 3, "shed": 42},
    "agreement": 0.987,
    "agreement_tolerance": "the same class, or values within 0.1 of the interval's width",
    "distance": {"mean": 0.25, "max": 3.5},
    "batch_latency_ms": {"production": 0.1234, "candidate": 0.2345},
}
NOTHING = {
    "rows": {"compared": 0, "agreed": 0, "differed": 0, "failed": 0, "shed": 0},
    "agreement": None,
    "distance": {"mean": None, "max": None},
    "batch_latency_ms": {"production": None, "candidate": None},
}


def test_the_table_has_every_figure(cli: Cli) -> None:
    with answering(200, json.dumps(FOUND).encode()) as url:
        status, out, _ = cli("models", "compare-live", "cars", "--url", url)
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "version 20260101-000000-00000000 20260102-000000-00000000" in lines
    assert "latency of a batch, ms 0.1234 0.2345" in lines
    assert "rows compared 1000" in lines
    assert any(line.startswith("agree (the same class") and line.endswith("98.70%") for line in lines)
    assert {"distance, mean 0.25", "distance, largest 3.5", "rows that the candidate failed 3"} <= set(lines)
    assert "rows shed, not to slow production 42" in lines


def test_a_shadow_that_has_just_begun_is_no_error(cli: Cli) -> None:
    with answering(200, json.dumps(FOUND | NOTHING).encode()) as url:
        status, out, _ = cli("models", "compare-live", "cars", "--url", url)
    assert (status, "98.70%" in out) == (0, False)
    assert "distance, mean" in out


def test_the_json_is_the_services(cli: Cli) -> None:
    with answering(200, json.dumps(FOUND).encode()) as url:
        assert json.loads(cli("models", "compare-live", "cars", "--url", url, "--json")[1]) == FOUND


def test_without_a_shadow_it_says_how_to_begin_one(cli: Cli) -> None:
    with answering(200, json.dumps(FOUND | NOTHING | {"shadow": False, "candidate": None}).encode()) as url:
        status, _, err = cli("models", "compare-live", "cars", "--url", url)
    assert status == 1
    assert "keras-serving models shadow cars on" in err


@pytest.mark.parametrize("detail", ["Unknown model 'cars'. Known models: none.", "Models are still being loaded."])
def test_what_the_service_refuses_is_told(cli: Cli, detail: str) -> None:
    with answering(404, json.dumps({"detail": detail}).encode()) as url:
        status, _, err = cli("models", "compare-live", "cars", "--url", url)
    assert (status, detail in err) == (1, True)


def test_without_a_service_it_says_how_to_name_one(cli: Cli) -> None:
    status, _, err = cli("models", "compare-live", "cars", "--url", f"http://127.0.0.1:{free_port()}")
    assert (status, "--url" in err) == (1, True)
