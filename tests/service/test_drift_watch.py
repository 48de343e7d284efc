"""Drift over HTTP, in the metrics and in the log."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from models.store import CANDIDATE, PRODUCTION, Store
from service.present import PresentGauge
from service.runtime import Runtime
from service.settings import Settings
from tests.bundles import CARS, CREATED, rows_of
from tests.conftest import MakeBundle
from tests.service.asgi import Client
from tests.service.conftest import StartRuntime, client_of, until
from tests.service.test_drift import ROWS, heavier


def text_of(runtime: Runtime) -> str:
    return runtime.metrics.render()[0].decode()


async def ask(client: Client, rows: NDArray[Any], query: str = "") -> None:
    body = json.dumps({"instances": [CARS.record(row) for row in rows]}).encode()
    answer = await client("POST", f"/predict/fleet{query}", body, headers={"content-type": "application/json"})
    assert answer.status == 200


async def drift_of(client: Client, alias: str = "production") -> Any:
    answer = await client("GET", "/models/fleet/drift")
    assert answer.status == 200
    return next(found for found in answer.json["versions"] if found["alias"] == alias)


@pytest.fixture
def fleet(store: Store, bundle_of: MakeBundle) -> list[str]:
    """Two versions of a model: one trained on cars, which is production, and one trained on heavy ones."""
    versions = []
    for seed, rows in enumerate((rows_of(CARS, ROWS), heavier(ROWS))):
        made = bundle_of(CARS, "fleet", seed=seed, created=CREATED + timedelta(days=seed), reference_rows=rows)
        versions.append(store.add(made.path).manifest.version)
    store.set_alias("fleet", versions[0], PRODUCTION)
    return versions


async def test_the_route_says_in_words_and_numbers_what_moved(
    fleet: list[str], settings: Settings, start_runtime: StartRuntime
) -> None:
    client = client_of(await start_runtime(settings))
    assert (await drift_of(client))["state"] == "too few rows"
    await ask(client, heavier(256))
    found = await drift_of(client)
    assert (found["version"], found["state"], found["rows"]) == (fleet[0], "major", 256)
    assert "lb higher than in training" in found["summary"]
    weight = next(feature for feature in found["inputs"] if feature["feature"] == "weight")
    assert weight["psi"] > 0.25
    assert sum(weight["shares"]["now"]) == pytest.approx(1, abs=1e-3)
    assert len(weight["bins"]) == len(weight["shares"]["training"]) + 1


async def test_the_metrics_show_each_feature_the_state_and_the_rows(
    fleet: list[str], settings: Settings, start_runtime: StartRuntime
) -> None:
    runtime = await start_runtime(settings)
    client = client_of(runtime)
    await drift_of(client)
    assert "serving_input_psi{" not in text_of(runtime)
    await ask(client, heavier(256))
    await drift_of(client)
    text = text_of(runtime)
    assert 'serving_drift_state{alias="production",model="fleet"} 2.0' in text
    assert 'serving_drift_rows_total{model="fleet"} 256.0' in text
    assert 'serving_input_psi{alias="production",feature="horsepower",model="fleet"} 0.0' in text
    assert 'serving_prediction_psi{alias="production",feature="value",model="fleet"}' in text
    assert 'serving_input_unseen_category_total{by="training",feature="origin",model="fleet"} 0.0' in text


@pytest.fixture
async def both(fleet: list[str], store: Store, settings: Settings, start_runtime: StartRuntime) -> Runtime:
    """Both versions are loaded, the second as the candidate."""
    store.set_alias("fleet", fleet[1], CANDIDATE)
    runtime = await start_runtime(settings)
    await until(lambda: CANDIDATE in runtime.loader.named("fleet"))
    return runtime


async def test_a_candidate_is_judged_against_its_own_training(both: Runtime) -> None:
    client = client_of(both)
    await ask(client, heavier(256))
    await ask(client, heavier(256), "?label=candidate")
    assert (await drift_of(client))["state"] == "major"
    assert (await drift_of(client, CANDIDATE))["state"] == "none"


async def test_counting_begins_anew_when_another_version_takes_over(
    fleet: list[str], store: Store, both: Runtime
) -> None:
    client = client_of(both)
    await ask(client, heavier(256))
    await ask(client, rows_of(CARS, 256), "?label=candidate")
    assert (await drift_of(client))["state"] == (await drift_of(client, CANDIDATE))["state"] == "major"
    store.set_alias("fleet", fleet[1], PRODUCTION)
    await until(lambda: both.loader.served["fleet"].manifest.version == fleet[1])
    found = await drift_of(client)
    assert (found["version"], found["state"], found["rows"]) == (fleet[1], "too few rows", 0)
    assert 'serving_drift_state{alias="production",model="fleet"}' not in text_of(both)


async def test_each_change_of_state_is_logged_once(
    fleet: list[str], settings: Settings, start_runtime: StartRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(await start_runtime(settings))
    for _ in range(3):
        await ask(client, heavier(256))
        await drift_of(client)
    told = [record.getMessage() for record in caplog.records if "drift is m" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("fleet (production): drift is major. weight: values are")


async def test_the_answer_says_which_worker_of_how_many_it_is_and_how_the_worst_one_is(
    fleet: list[str], settings: Settings, start_runtime: StartRuntime, tmp_path: Path
) -> None:
    runtime = await start_runtime(settings.model_copy(update={"workers": 3}))
    client = client_of(runtime)
    alone = await client("GET", "/models/fleet/drift")
    assert alone.json["worker"] == {"number": 1, "of": 3}
    assert alone.json["versions"][0]["worst_worker"] == "none"
    runtime.metrics.drift_state = PresentGauge("serving_drift_state", "", ["model", "alias"], tmp_path)
    other = tmp_path / "present_serving_drift_state_1.json"
    other.write_text('[["fleet", "production", 1.0], ["cars", "production", 2.0]]')
    found = await drift_of(client)
    assert (found["state"], found["worst_worker"]) == ("too few rows", "moderate")
    for _ in range(3):
        await ask(client, heavier(256))
        found = await drift_of(client)
    assert (found["state"], found["worst_worker"]) == ("major", "major")


async def test_what_somebody_only_tries_is_no_traffic_to_watch(
    fleet: list[str], settings: Settings, start_runtime: StartRuntime
) -> None:
    runtime = await start_runtime(settings)
    client = client_of(runtime)
    await ask(client, heavier(256), "?trial=1")
    assert (await drift_of(client))["rows"] == 0
    await ask(client, heavier(2))
    assert (await drift_of(client))["rows"] == 2
    assert (
        'serving_requests_total{alias="production",code="200",model="fleet",route="/predict/{model}"} 2.0'
        in text_of(runtime)
    )


async def test_an_unknown_model_has_no_drift(settings: Settings, start_runtime: StartRuntime) -> None:
    client = client_of(await start_runtime(settings))
    assert (await client("GET", "/models/nobody/drift")).status == 404
    # Of a version without reference statistics nothing can be said.
    assert (await client("GET", "/models/cars/drift")).json["versions"] == []
