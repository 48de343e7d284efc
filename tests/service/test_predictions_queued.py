"""Predictions without a task, in a queue: full, failing, too late, left by their clients, overtaken by a version."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from models.errors import EngineError
from models.store import Store
from service.predictions import Predictions, Request
from service.protocols import native
from service.protocols.base import Response
from service.runtime import Runtime
from service.settings import Settings
from tests.bundles import CARS, CREATED
from tests.conftest import MakeBundle
from tests.service.conftest import StartRuntime, until
from tests.service.test_gateway import CAR, Broken, Held, body_of
from tests.service.test_loader import version_of
from tests.service.test_metrics import rendered
from tests.service.test_predictions import (
    V2,
    WAYS,
    Way,
    asked,
    begin,
    car,
    check_nothing_held,
    comparable,
    directly,
    outcome,
    same,
    v2,
)

LEFT = "serving_client_disconnects_total{}"


@contextmanager
def holding(runtime: Runtime) -> Iterator[Held]:
    """The engine of ``cars`` waits until it is let go, at the end at the latest."""
    held = Held(runtime, "cars")
    try:
        yield held
    finally:
        held.go.set()


async def occupy(runtime: Runtime, held: Held) -> "asyncio.Future[Response | None]":
    """Have a batch under way in a thread."""
    first = begin(Predictions(runtime), car())
    assert await asyncio.to_thread(held.entered.wait, 10)
    return first


def leave(predictions: Predictions, request: Request) -> tuple[Callable[[], object], list[Response | None]]:
    """Begin, without a task; what tells that the client left, and what was given it."""
    given: list[Response | None] = []
    before = asyncio.all_tasks()
    left = predictions.answer(request, given.append)
    assert asyncio.all_tasks() == before
    return left, given


@pytest.mark.parametrize("ahead", [1, 2], ids=["not all fit", "none fits"])
async def test_a_full_queue_refuses_both_alike_and_says_when_to_come_again(
    start_runtime: StartRuntime, settings: Settings, ahead: int
) -> None:
    runtime = await start_runtime(settings.model_copy(update={"max_queue_rows": 2, "max_request_rows": 2}))
    with holding(runtime) as held:
        running = await occupy(runtime, held)
        waiting = begin(Predictions(runtime), asked("/predict/cars", body_of(*[CAR] * ahead)))
        refused = [comparable((await way(runtime, asked("/predict/cars", body_of(CAR, CAR))))[0]) for way in WAYS]
        assert runtime.inflight == 2
    assert refused[0] == refused[1]
    assert refused[0][0] == 429
    assert int(dict(refused[0][1])[b"retry-after"]) >= 1
    assert [comparable(await one)[0] for one in (running, waiting)] == [200, 200]
    check_nothing_held(runtime)
    assert rendered(runtime.metrics)['serving_rejected_total{reason="queue_full"}'] == 2


@pytest.mark.parametrize("error", [EngineError("at /secret"), None], ids=["raises", "not finite"])
async def test_an_engine_that_fails_on_a_row_fails_its_owner_alone(runtime: Runtime, error: Exception | None) -> None:
    Broken(runtime, error)
    weights = (3504, 666, 2400, 3000)
    direct, general = [await outcome(runtime, way, *[car(weight) for weight in weights]) for way in WAYS]
    assert direct == general
    assert direct.statuses == [200, 500, 200, 200]
    assert b"secret" not in direct.responses[1][2]
    assert direct.added["cars", "failures"] == 1


async def test_an_answer_that_cannot_be_written_is_500_and_the_others_of_its_batch_are_answered(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = native.predictions

    def broken(task: Any, outputs: Any, *more: Any) -> Any:
        if len(outputs) == 2:
            raise ZeroDivisionError("secret")
        return made(task, outputs, *more)

    monkeypatch.setattr("service.protocols.native.predictions", broken)
    details = (b"x-serving-details", b"1")
    two = asked("/predict/cars", body_of(CAR, CAR), details)
    found = await same(runtime, car(3504, "/predict/cars", details), two, car(2400, "/predict/cars", details))
    assert found.statuses == [200, 500, 200]
    assert b"secret" not in found.responses[1][2]
    assert {dict(found.responses[i][1])[b"x-batch-rows"] for i in (0, 2)} == {b"4"}


PATIENT = {
    "header": lambda age_s=0.0: car(1234, "/predict/cars", (b"x-request-timeout-ms", b"20"), age_s=age_s),
    "parameter": lambda age_s=0.0: asked(V2, v2(parameters={"timeout": 20_000}), age_s=age_s),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", PATIENT)
async def test_a_deadline_that_passes_in_the_queue_is_answered_then_and_its_rows_are_not_computed(
    runtime: Runtime, kind: str, way: Way
) -> None:
    with holding(runtime) as held:
        running = await occupy(runtime, held)
        # The engine is held all the while: only the deadline can end this wait.
        (late,) = await way(runtime, PATIENT[kind]())
        assert comparable(late)[0] == 504
        assert (runtime.inflight, runtime.loader.find("cars").users) == (1, 1)
    assert comparable(await running)[0] == 200
    check_nothing_held(runtime)
    assert held.runs == 1
    assert rendered(runtime.metrics)['serving_rejected_total{reason="deadline"}'] == 1


@pytest.mark.parametrize("kind", PATIENT)
async def test_a_deadline_that_has_passed_already_is_answered_alike(runtime: Runtime, kind: str) -> None:
    found = await same(runtime, PATIENT[kind](1.0))
    assert found.statuses == [504]
    assert not any("batch_size" in name for name in found.counted)


async def test_a_client_that_leaves_the_queue_is_counted_once_and_its_rows_are_not_computed(runtime: Runtime) -> None:
    predictions = Predictions(runtime)
    with holding(runtime) as held:
        running = await occupy(runtime, held)
        left, given = leave(predictions, asked("/predict/cars", body_of(CAR, CAR)))
        stays = begin(predictions, car())
        assert (runtime.inflight, runtime.loader.find("cars").users) == (3, 3)
        left()
        left()
        assert (runtime.inflight, runtime.loader.find("cars").users) == (2, 2)
        assert runtime.loader.find("cars").batcher.queued_rows == 1
    assert [comparable(await one)[0] for one in (running, stays)] == [200, 200]
    check_nothing_held(runtime)
    assert given == []
    counted = rendered(runtime.metrics)
    assert (held.runs, counted[LEFT], counted['serving_batch_size_sum{model="cars"}']) == (2, 1, 2)


class Connection:
    """What an answer would be given to."""

    def give(self, response: Response | None) -> None:
        raise AssertionError(response)


async def test_of_a_client_that_leaves_the_queue_nothing_is_kept_until_its_turn(runtime: Runtime) -> None:
    with holding(runtime) as held:
        first = await occupy(runtime, held)
        connection = Connection()
        left = Predictions(runtime).answer(car(), connection.give)
        kept = weakref.ref(connection)
        gc.disable()
        try:
            left()
            del connection, left
            assert kept() is None
        finally:
            gc.enable()
    assert comparable(await first)[0] == 200


async def test_a_client_that_leaves_before_its_batch_begins_leaves_nothing_to_compute(runtime: Runtime) -> None:
    with holding(runtime) as held:
        left, given = leave(Predictions(runtime), car())
        left()
        check_nothing_held(runtime)
        await asyncio.sleep(0)
    assert comparable((await directly(runtime, car()))[0])[0] == 200
    assert (held.runs, given) == (1, [])


async def test_a_client_that_leaves_while_its_rows_are_computed_gets_nothing_and_harms_nobody(
    runtime: Runtime,
) -> None:
    predictions = Predictions(runtime)
    with holding(runtime) as held:
        left, given = leave(predictions, car())
        beside = begin(predictions, car(2400))
        assert await asyncio.to_thread(held.entered.wait, 10)
        left()
        assert (runtime.inflight, runtime.loader.find("cars").users) == (1, 1)
    assert comparable(await beside)[0] == 200
    check_nothing_held(runtime)
    assert (held.runs, given, rendered(runtime.metrics)[LEFT]) == (1, [], 1)


@pytest.mark.parametrize("weight", [3504, 12], ids=["answered", "refused"])
async def test_a_client_that_leaves_after_its_answer_is_not_counted(runtime: Runtime, weight: int) -> None:
    left, given = leave(Predictions(runtime), car(weight))
    await until(lambda: given)
    left()
    check_nothing_held(runtime)
    assert len(given) == 1
    assert rendered(runtime.metrics)[LEFT] == 0


async def test_a_version_is_held_until_what_waits_for_it_is_answered_and_released_then(
    start_runtime: StartRuntime, settings: Settings, store: Store, bundle_of: MakeBundle
) -> None:
    newer = store.add(bundle_of(CARS, "cars", seed=2, created=CREATED + timedelta(days=2)).path).manifest.version
    runtime = await start_runtime(settings)
    old = runtime.loader.find("cars")
    predictions = Predictions(runtime)
    with holding(runtime) as held:
        waiting = [await occupy(runtime, held), begin(predictions, car(2400))]
        store.set_alias("cars", newer)
        await until(lambda: version_of(runtime.loader) == newer)
        fresh = begin(predictions, car())
        assert newer.encode() in comparable(await fresh)[2]
        assert (old.users, hasattr(old.engine, "_session")) == (2, True)
    for one in waiting:
        assert old.manifest.version.encode() in comparable(await one)[2]
    await until(lambda: not hasattr(old.engine, "_session"))
    assert (old.users, runtime.inflight) == (0, 0)


async def test_requests_whose_handing_out_fails_are_given_up_and_told_so(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Predictions, "_answered", broken)
    given = begin(Predictions(runtime), car())
    assert await asyncio.wait_for(given, 10) is None
    check_nothing_held(runtime)
    assert "no answer to a request to /predict/cars" in caplog.text


async def test_an_answer_that_cannot_be_given_keeps_no_other_of_its_batch_from_its_own(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Response | None) -> None:
        raise ZeroDivisionError

    predictions = Predictions(runtime)
    predictions.answer(car(), broken)
    assert comparable(await asyncio.wait_for(begin(predictions, car(2400)), 10))[0] == 200
    check_nothing_held(runtime)
    assert "an answer of cars was not taken" in caplog.text
