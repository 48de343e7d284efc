"""A canary's share of requests, who gets into it, and how it ends. No client is ever worse off for it."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from models.bundle import ONNX, Bundle
from models.errors import EngineError, StoreError
from models.store import Canary, Store, Traffic
from service.loader import Loader
from service.protocols.base import Pin
from service.runtime import Runtime
from service.served import Served
from service.settings import Settings
from tests.bundles import CARS, CREATED
from tests.conftest import MakeBundle
from tests.service.asgi import Answer
from tests.service.conftest import StartRuntime, client_of, until
from tests.service.test_metrics import rendered

CAR = {"weight": 3504, "horsepower": 130, "origin": "usa"}
JSON = {"content-type": "application/json"}
# On a busy machine a test's own pauses are no sign of a bad candidate.
PATIENT = {"p99_factor": 1000.0}


@pytest.fixture
def candidate(store: Store, bundle_of: MakeBundle) -> str:
    """The version of a second bundle of ``cars``, which is its candidate."""
    bundle: Bundle = store.add(bundle_of(CARS, "cars", seed=1, created=CREATED + timedelta(days=1)).path)
    store.set_alias("cars", bundle.manifest.version, "candidate")
    return bundle.manifest.version


@pytest.fixture
def production(store: Store) -> str:
    target = store.aliases().target("cars")
    assert target is not None
    return target.version


async def begin(runtime: Runtime, percent: float = 10, **options: Any) -> Loader:
    """A canary of ``cars`` that this worker takes part in."""
    loader = runtime.loader
    loader.store.set_traffic("cars", Traffic(canary=Canary(percent=percent, **{**PATIENT, **options})))
    await until(lambda: loader.find("cars").split)
    return loader


async def ask(runtime: Runtime, key: str = "", body: Any = CAR, query: str = "") -> Answer:
    headers = JSON | ({"x-canary-key": key} if key else {})
    data = json.dumps({"instances": [body]}).encode()
    return await client_of(runtime)("POST", f"/predict/cars{query}", data, headers=headers)


async def versions_of(runtime: Runtime, count: int, key: Callable[[int], str] = lambda _: "") -> list[str]:
    return [(await ask(runtime, key(n))).json["version"] for n in range(count)]


class Fails:
    """An engine that raises, or keeps its caller waiting."""

    name, device, in_flight, padded, split_rows = "onnx", "cpu", 1, "", 0

    def __init__(self, served: Served, wait: threading.Event | None = None) -> None:
        self.wait, self.engine = wait, served.engine
        served.engine = served.batcher._engine = self
        served.batcher.inline_rows = 0

    def run(self, rows: np.ndarray) -> np.ndarray:
        if self.wait is None:
            raise EngineError("poisoned")
        self.wait.wait(10)
        return self.engine.run(rows)  # type: ignore[no-any-return]

    def close(self) -> None:
        self.engine.close()


async def test_without_a_canary_a_candidate_gets_no_request(
    start_runtime: StartRuntime, settings: Settings, candidate: str, production: str
) -> None:
    runtime = await start_runtime(settings)
    await until(lambda: "candidate" in runtime.loader.aliases["cars"])
    assert set(await versions_of(runtime, 50)) == {production}


async def test_the_candidate_answers_its_share_evenly(
    start_runtime: StartRuntime, settings: Settings, candidate: str, production: str
) -> None:
    runtime = await start_runtime(settings)
    await begin(runtime, percent=10)
    versions = await versions_of(runtime, 500)
    assert abs(Counter(versions)[candidate] - 50) <= 3
    assert all(candidate in versions[n : n + 50] for n in range(0, 500, 50))


async def test_a_key_is_always_answered_by_the_same_version_in_every_worker(
    start_runtime: StartRuntime, settings: Settings, candidate: str
) -> None:
    workers = [await start_runtime(settings) for _ in range(2)]
    for worker in workers:
        await begin(worker, percent=30)
    found = [await versions_of(worker, 300, lambda n: f"user-{n % 150}") for worker in workers]
    assert found[0][:150] == found[0][150:] == found[1][:150]
    assert 150 * 0.3 - 4 * 5.6 < Counter(found[0][:150])[candidate] < 150 * 0.3 + 4 * 5.6, (
        "within 4 standard deviations"
    )


async def test_a_larger_share_keeps_those_who_were_in_the_smaller_one(
    start_runtime: StartRuntime, settings: Settings, candidate: str
) -> None:
    runtime = await start_runtime(settings)
    taken = []
    for percent in (10, 40):
        loader = await begin(runtime, percent=percent)
        split = loader.find("cars").split
        while split is None or split.canary.percent != percent:
            await asyncio.sleep(0.002)
            split = loader.find("cars").split
        taken.append({n for n in range(1000) if split.takes(f"user-{n}".encode())})
    assert taken[0] < taken[1]


async def test_a_pinned_request_goes_where_it_wants_to_whatever_the_canary(
    start_runtime: StartRuntime, settings: Settings, candidate: str, production: str
) -> None:
    runtime = await start_runtime(settings)
    await begin(runtime, percent=50)
    for query, version in {
        "?label=production": production,
        "?label=candidate": candidate,
        f"?version={production}": production,
        f"?version={candidate}": candidate,
    }.items():
        assert {(await ask(runtime, query=query)).json["version"] for _ in range(10)} == {version}


async def test_a_version_that_is_not_loaded_is_404_with_those_that_are(
    start_runtime: StartRuntime, settings: Settings, candidate: str, production: str
) -> None:
    runtime = await start_runtime(settings)
    await until(lambda: "candidate" in runtime.loader.aliases["cars"])
    answer = await ask(runtime, query="?label=blue")
    assert answer.status == 404
    assert f"{candidate} (candidate), {production} (production)" in answer.json["detail"]


async def test_requests_are_counted_by_what_the_answering_version_is_for(
    start_runtime: StartRuntime, settings: Settings, candidate: str
) -> None:
    runtime = await start_runtime(settings)
    await begin(runtime, percent=20)
    answered = Counter(await versions_of(runtime, 50))[candidate]
    found = rendered(runtime.metrics)
    rest = 'model="cars",route="/predict/{model}"'
    assert found[f'serving_requests_total{{alias="candidate",code="200",{rest}}}'] == answered > 0
    assert found[f'serving_requests_total{{alias="production",code="200",{rest}}}'] == 50 - answered
    info = f'alias="candidate",device="cpu",engine="onnx",model="cars",version="{candidate}"'
    assert found[f"serving_model_info{{{info}}}"] == 1


async def test_a_poisoned_candidate_is_rolled_back_in_every_worker_and_no_client_sees_an_error(
    start_runtime: StartRuntime, settings: Settings, store: Store, candidate: str, production: str
) -> None:
    runtime, other = [await start_runtime(settings) for _ in range(2)]
    for worker in (runtime, other):
        loader = await begin(worker, percent=20)
        Fails(loader.find("cars", Pin(label="candidate")))
    answers = [await ask(runtime) for _ in range(100)]
    assert {(answer.status, answer.json["version"]) for answer in answers} == {(200, production)}
    await until(lambda: not store.aliases().traffic)
    await until(lambda: other.loader.find("cars").split is None)
    last = store.changes("cars")[-1]
    assert (last.who, last.action, last.alias, last.after) == ("service", "traffic", "candidate", "")
    assert "requests failed, with production 0 of" in last.reason
    target = store.aliases().target("cars", "candidate")
    assert target is not None, "it keeps its alias, to be looked at"
    found = rendered(runtime.metrics)
    assert found['serving_canary_rollbacks_total{model="cars"}'] == 1
    assert found['serving_canary_failures_total{model="cars"}'] >= 5
    assert found['serving_requests_total{alias="production",code="200",model="cars",route="/predict/{model}"}'] == 100


async def test_a_candidate_that_does_not_answer_in_time_is_helped_out_and_rolled_back(
    start_runtime: StartRuntime, settings: Settings, store: Store, candidate: str, production: str
) -> None:
    runtime = await start_runtime(settings.model_copy(update={"canary_timeout_s": 0.02}))
    loader = await begin(runtime, percent=20)
    let_go = threading.Event()
    Fails(loader.find("cars", Pin(label="candidate")), let_go)
    answers = [await ask(runtime) for _ in range(60)]
    assert {(answer.status, answer.json["version"]) for answer in answers} == {(200, production)}
    await until(lambda: not store.aliases().traffic)
    let_go.set()


async def test_of_a_requests_own_time_half_is_left_for_production(
    start_runtime: StartRuntime, settings: Settings, candidate: str, production: str
) -> None:
    runtime = await start_runtime(settings.model_copy(update={"canary_timeout_s": 60.0}))
    loader = await begin(runtime, 50)
    go = threading.Event()
    Fails(loader.aliases["cars"]["candidate"], go)
    body = json.dumps({"instances": [CAR]}).encode()
    # Half of it is what production has left, on a machine that may stand still for a while.
    headers = JSON | {"x-request-timeout-ms": "5000"}
    answers = [await client_of(runtime)("POST", "/predict/cars", body, headers=headers) for _ in range(2)]
    go.set()
    assert [answer.json["version"] for answer in answers] == [production] * 2
    assert rendered(runtime.metrics)['serving_canary_failures_total{model="cars"}'] == 1


async def test_a_slow_candidate_is_rolled_back_with_both_figures(
    start_runtime: StartRuntime, settings: Settings, store: Store, candidate: str
) -> None:
    runtime = await start_runtime(settings)
    loader = await begin(runtime, percent=50, requests=50, p99_factor=2.0)
    served = loader.find("cars", Pin(label="candidate"))
    run, pause = served.engine.run, threading.Event()

    class Slow(Fails):
        def run(self, rows: np.ndarray) -> np.ndarray:
            pause.wait(0.05)
            return run(rows)

    Slow(served)
    answers = await asyncio.gather(*(ask(runtime) for _ in range(10)))
    async with asyncio.timeout(120):
        # A pause of the machine in one of production's 50 requests excuses the candidate for this judgement.
        while loader.find("cars").split is not None:
            answers.append(await ask(runtime))
    assert len(answers) > 95, "half of them are the candidate's, of which 50 are judged"
    assert {answer.status for answer in answers} == {200}
    await until(lambda: not store.aliases().traffic)
    assert store.changes("cars")[-1].reason.startswith("p99: ")


async def test_what_is_wrong_with_a_request_counts_against_nobody(
    start_runtime: StartRuntime, settings: Settings, candidate: str
) -> None:
    runtime = await start_runtime(settings)
    loader = await begin(runtime, percent=50)
    answers = [await ask(runtime, body={**CAR, "weight": 1}) for _ in range(60)]
    assert {answer.status for answer in answers} == {422}
    assert loader.find("cars").split is not None
    assert rendered(runtime.metrics)['serving_canary_failures_total{model="cars"}'] == 0


async def test_a_canary_whose_candidate_is_not_loaded_is_answered_by_production(
    start_runtime: StartRuntime, settings: Settings, store: Store, candidate: str, production: str
) -> None:
    store.set_traffic("cars", Traffic(canary=Canary(percent=50)))
    (store.home / "models" / "cars" / candidate / ONNX).write_bytes(b"x")
    runtime = await start_runtime(settings)
    await until(lambda: "cars/candidate" in runtime.loader.problems())
    assert set(await versions_of(runtime, 20)) == {production}


async def test_promoting_the_candidate_ends_its_canary(
    start_runtime: StartRuntime, settings: Settings, store: Store, candidate: str
) -> None:
    runtime = await start_runtime(settings)
    loader = await begin(runtime)
    old = loader.find("cars")
    store.set_alias("cars", candidate)
    await until(lambda: loader.find("cars").manifest.version == candidate)
    assert loader.find("cars").split is None
    assert old.split is None


async def test_a_worker_ends_a_bad_canary_for_itself_where_the_store_cannot_be_written(
    start_runtime: StartRuntime,
    settings: Settings,
    candidate: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runtime = await start_runtime(settings)
    loader = await begin(runtime, percent=20)
    Fails(loader.find("cars", Pin(label="candidate")))

    def read_only(*_: object, **__: object) -> None:
        raise StoreError("the alias document cannot be written: Read-only file system.")

    monkeypatch.setattr(Store, "set_traffic", read_only)
    assert {(await ask(runtime)).status for _ in range(60)} == {200}
    await until(lambda: "is this worker's only" in caplog.text)
    for _ in range(5):
        await loader._follow()
        assert loader.find("cars").split is None
