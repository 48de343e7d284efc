"""Production's batches run on the candidate too: what is measured, what is shed, and that answers never change."""

import asyncio
import json
import re
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import Bundle
from models.store import Canary, Store, Traffic
from models.task import Task
from service.loader import Loader
from service.protocols.base import Pin
from service.runtime import Runtime
from service.settings import Settings
from service.shadow import Shadows, difference
from tests.bundles import CARS, CREATED, IMAGE, SERIES, rows_of, run_offline
from tests.conftest import MakeBundle
from tests.service.conftest import StartRuntime, client_of, until

JSON = {"content-type": "application/json"}


def outputs_of(*rows: Any) -> np.ndarray:
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("task", "production", "candidate", "agreed", "largest"),
    [
        (IMAGE, [[0.2, 0.5, 0.3]], [[0.3, 0.4, 0.3]], 1, 0.1),
        (IMAGE, [[0.2, 0.5, 0.3]], [[0.5, 0.4, 0.1]], 0, 0.3),
        (CARS, [[30, 20, 40]], [[32, 0, 99]], 1, 2),
        (CARS, [[30, 20, 40]], [[27.9, 20, 40]], 0, 2.1),
        (SERIES, [[[10, 5, 15], [10, 5, 15]]], [[[11.5, 5, 15], [10, 5, 15]]], 1, 1.5),
        (SERIES, [[[10, 5, 15], [10, 5, 15]]], [[[11.5, 5, 15], [11, 5, 15]]], 0, 1.5),
    ],
)
def test_two_answers_agree_in_their_class_or_within_a_tenth_of_the_interval(
    task: Task, production: Any, candidate: Any, agreed: int, largest: float
) -> None:
    found, distances = difference(task, outputs_of(*production), outputs_of(*candidate))
    assert found == agreed
    assert distances.max() == pytest.approx(largest)


def test_a_candidate_of_another_shape_or_without_finite_numbers_is_no_match() -> None:
    with pytest.raises(ValueError, match=r"outputs have shape \(1, 2\), production's \(1, 3\)"):
        difference(IMAGE, outputs_of([0.2, 0.5, 0.3]), outputs_of([0.5, 0.5]))
    with pytest.raises(ValueError, match="not a finite number"):
        difference(CARS, outputs_of([30, 20, 40]), outputs_of([np.nan, 20, 40]))


@pytest.fixture
def versions(store: Store, bundle_of: MakeBundle) -> tuple[Bundle, Bundle]:
    """Production's bundle of ``cars`` and that of its candidate."""
    newer = store.add(bundle_of(CARS, "cars", seed=1, created=CREATED + timedelta(days=1)).path)
    store.set_alias("cars", newer.manifest.version, "candidate")
    return store.open("cars", store.versions("cars")[0]), newer


@pytest.fixture
async def runtime(
    start_runtime: StartRuntime, settings: Settings, store: Store, versions: tuple[Bundle, Bundle]
) -> Runtime:
    """A worker that shadows ``cars`` with as much of a core as it likes."""
    store.set_traffic("cars", Traffic(shadow=True))
    runtime = await start_runtime(settings.model_copy(update={"shadow_max_share": 1.0}))
    await until(lambda: "cars" in runtime.loader.router.shadows.pairs)
    return runtime


def candidate_of(loader: Loader) -> Any:
    return loader.find("cars", Pin(label="candidate"))


async def ask(runtime: Runtime, rows: np.ndarray) -> Any:
    body = json.dumps({"instances": [CARS.record(row) for row in rows]}).encode()
    answer = await client_of(runtime)("POST", "/predict/cars", body, headers=JSON)
    assert answer.status == 200, answer.body
    return answer.json


async def compare(runtime: Runtime) -> Any:
    answer = await client_of(runtime)("GET", "/models/cars/compare")
    assert answer.status == 200, answer.body
    return answer.json


async def test_the_comparison_is_what_the_two_bundles_say_offline(
    runtime: Runtime, versions: tuple[Bundle, Bundle]
) -> None:
    rows = rows_of(CARS, 40, seed=3)
    pair = runtime.loader.router.shadows.pairs["cars"]
    for start in range(0, 40, 4):
        await ask(runtime, rows[start : start + 4])
        # One after the other, so that there is nothing to shed.
        await until(lambda done=start + 4: sum(pair.rows.values()) == done)
    found = await compare(runtime)
    old, new = (run_offline(bundle, rows) for bundle in versions)
    agreed, distances = difference(CARS, old, new)
    assert found["rows"] == {"compared": 40, "agreed": agreed, "differed": 40 - agreed, "failed": 0, "shed": 0}
    assert found["agreement"] == pytest.approx(agreed / 40)
    assert found["distance"]["mean"] == pytest.approx(distances.mean(), rel=1e-5)
    assert found["distance"]["max"] == pytest.approx(distances.max(), rel=1e-5)
    assert found["production"] == versions[0].manifest.version
    assert found["candidate"] == versions[1].manifest.version
    assert found["shadow"] is True
    assert found["batch_latency_ms"]["production"] > 0
    assert found["batch_latency_ms"]["candidate"] > 0


async def test_answers_are_productions_bit_for_bit(
    runtime: Runtime, versions: tuple[Bundle, Bundle], store: Store
) -> None:
    rows = rows_of(CARS, 8, seed=4)
    shadowed = await ask(runtime, rows)
    assert shadowed["version"] == versions[0].manifest.version
    store.set_traffic("cars", Traffic())
    await until(lambda: not runtime.loader.router.shadows.pairs)
    assert (await compare(runtime))["rows"]["compared"] == 0, "what was measured goes with the shadow"
    assert (await ask(runtime, rows))["predictions"] == shadowed["predictions"]


async def test_a_candidate_that_fails_is_counted_and_hurts_nobody(runtime: Runtime) -> None:
    class Fails:
        name, device, in_flight, padded, split_rows = "onnx", "cpu", 1, "", 0

        def run(self, _: np.ndarray) -> np.ndarray:
            raise ZeroDivisionError

        def close(self) -> None: ...

    candidate_of(runtime.loader).engine = Fails()
    await ask(runtime, rows_of(CARS, 3))
    pair = runtime.loader.router.shadows.pairs["cars"]
    await until(lambda: pair.rows["failed"] + pair.rows["shed"] == 3)
    assert (await compare(runtime))["agreement"] is None


class Held:
    """A candidate's engine that holds each batch until it is let go."""

    name, device, in_flight, padded, split_rows = "onnx", "cpu", 1, "", 0

    def __init__(self, engine: Any) -> None:
        self.engine, self.entered, self.go, self.closed = engine, threading.Event(), threading.Event(), False

    def run(self, rows: np.ndarray) -> np.ndarray:
        assert not self.closed
        self.entered.set()
        assert self.go.wait(10)
        return self.engine.run(rows)  # type: ignore[no-any-return]

    def close(self) -> None:
        self.closed = True


async def test_what_a_slow_candidate_cannot_take_is_shed_and_production_waits_for_nothing(runtime: Runtime) -> None:
    held = candidate_of(runtime.loader).engine = Held(candidate_of(runtime.loader).engine)
    await ask(runtime, rows_of(CARS, 1))
    await asyncio.to_thread(held.entered.wait, 10)
    for _ in range(20):
        await ask(runtime, rows_of(CARS, 2))
    pair = runtime.loader.router.shadows.pairs["cars"]
    assert pair.refused == 2 * (20 - 8), "eight batches may wait"
    runtime.measure()
    held.go.set()
    await until(lambda: sum(pair.rows.values()) == 1 + 2 * 8)
    assert (await compare(runtime))["rows"]["shed"] >= 24


async def test_a_batch_whose_turn_comes_while_production_has_rows_waiting_is_shed(runtime: Runtime) -> None:
    served = runtime.loader.find("cars")
    served.batcher.queued_rows = 1
    served.batcher.listeners[-1](rows_of(CARS, 5), np.zeros((5, 3), np.float32), 0.001)
    pair = runtime.loader.router.shadows.pairs["cars"]
    await until(lambda: pair.rows["shed"] == 5)
    served.batcher.queued_rows = 0


async def test_a_candidate_is_not_closed_under_a_batch_that_it_still_runs(
    runtime: Runtime, store: Store, versions: tuple[Bundle, Bundle]
) -> None:
    candidate = candidate_of(runtime.loader)
    held = candidate.engine = Held(candidate.engine)
    await ask(runtime, rows_of(CARS, 1))
    await asyncio.to_thread(held.entered.wait, 10)
    store.remove_alias("cars", "candidate")
    await until(lambda: "candidate" not in runtime.loader.aliases["cars"])
    await asyncio.sleep(0.05)
    assert not held.closed
    held.go.set()
    await until(lambda: held.closed)


async def test_batches_that_wait_when_a_shadow_ends_are_not_run(runtime: Runtime, store: Store) -> None:
    candidate = candidate_of(runtime.loader)
    held = candidate.engine = Held(candidate.engine)
    await ask(runtime, rows_of(CARS, 1))
    await asyncio.to_thread(held.entered.wait, 10)
    for _ in range(5):
        await ask(runtime, rows_of(CARS, 2))
    pair = runtime.loader.router.shadows.pairs["cars"]
    store.set_traffic("cars", Traffic())
    await until(lambda: not runtime.loader.router.shadows.pairs)
    held.go.set()
    await until(lambda: not candidate.users)
    assert sum(pair.rows.values()) == 1


def test_no_thread_of_the_service_has_a_lower_priority_than_the_loop() -> None:
    # It would stop the loop whenever it holds the interpreter's lock and gets no CPU.
    sources = (Path(__file__).resolve().parents[2] / "service").rglob("*.py")
    assert not [source.name for source in sources if re.search(r"os\.(nice|setpriority)\(", source.read_text())]


async def test_another_candidate_begins_at_zero(runtime: Runtime, store: Store, bundle_of: MakeBundle) -> None:
    await ask(runtime, rows_of(CARS, 3))
    pair = runtime.loader.router.shadows.pairs["cars"]
    await until(lambda: sum(pair.rows.values()) == 3)
    another = store.add(bundle_of(CARS, "cars", seed=2, created=CREATED + timedelta(days=2)).path)
    store.set_alias("cars", another.manifest.version, "candidate")
    store.set_traffic("cars", Traffic(shadow=True))
    await until(lambda: runtime.loader.router.shadows.pairs.get("cars") not in (None, pair))
    found = await compare(runtime)
    assert (found["candidate"], found["rows"]["compared"]) == (another.manifest.version, 0)
    assert found["agreement"] is None


async def test_a_canary_and_a_shadow_go_together(runtime: Runtime, store: Store) -> None:
    store.set_traffic("cars", Traffic(shadow=True, canary=Canary(percent=50, p99_factor=1000)))
    await until(lambda: runtime.loader.find("cars").split)
    for _ in range(10):
        await ask(runtime, rows_of(CARS, 2))
    pair = runtime.loader.router.shadows.pairs["cars"]
    await until(lambda: sum(pair.rows.values()) + pair.refused == 10)


async def test_the_thread_rests_so_that_it_takes_no_more_than_its_share(
    start_runtime: StartRuntime, settings: Settings, store: Store, versions: tuple[Bundle, Bundle]
) -> None:
    runtime = await start_runtime(settings)
    shadows = Shadows(runtime.metrics, 0.25)
    rests: list[float] = []
    shadows._stop.wait = rests.append  # type: ignore[method-assign, assignment]
    await until(lambda: "candidate" in runtime.loader.aliases["cars"])
    served = runtime.loader.find("cars")
    shadows.begin("cars", served, candidate_of(runtime.loader))
    served.batcher.listeners[-1](rows_of(CARS, 5), np.zeros((5, 3), np.float32), 0.001)
    await until(lambda: rests)
    assert rests[0] >= 3 * shadows.pairs["cars"].seconds[1] > 0
    await shadows.close()


async def test_without_a_shadow_the_comparison_is_empty(start_runtime: StartRuntime, settings: Settings) -> None:
    found = await compare(await start_runtime(settings))
    assert (found["shadow"], found["candidate"], found["rows"]["compared"]) == (False, None, 0)


async def test_the_comparison_of_an_unknown_model_is_404(start_runtime: StartRuntime, settings: Settings) -> None:
    answer = await client_of(await start_runtime(settings))("GET", "/models/trains/compare")
    assert answer.status == 404
