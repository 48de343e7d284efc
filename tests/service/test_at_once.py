"""What a request gets when versions come, go and fail at the very moment in which it is answered."""

import asyncio
import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from models.bundle import ONNX, Bundle
from models.errors import UnknownModelError
from models.store import ALIASES, Canary, Store, Traffic
from service.errors import NotReadyError
from service.protocols.base import Pin
from service.settings import Settings
from tests.bundles import CARS, CREATED, SERIES
from tests.conftest import MakeBundle
from tests.service.conftest import Started, StartRuntime, until
from tests.service.test_loader import reloads, version_of
from tests.service.test_traffic import Fails, ask, begin, candidate, production

__all__ = ["candidate", "production"]


@pytest.fixture
def third(store: Store, bundle_of: MakeBundle) -> Bundle:
    """Another version of ``cars``, in the store but not served."""
    return store.add(bundle_of(CARS, "cars", seed=2, created=CREATED + timedelta(days=2)).path)


class Slow(Fails):
    """An engine that takes three times as long as the wait for a candidate: threads may be woken late."""

    def run(self, rows: np.ndarray) -> np.ndarray:
        threading.Event().wait(0.06)
        return self.engine.run(rows)  # type: ignore[no-any-return]


def spoil(store: Store, version: str) -> None:
    graph = store.home / "models" / "cars" / version / ONNX
    graph.write_bytes(graph.read_bytes()[:-1])


@pytest.mark.parametrize("inline_ms", [1000.0, 0.0])
async def test_production_is_not_released_while_it_may_have_to_help_out_a_candidate(
    start_runtime: StartRuntime, settings: Settings, store: Store, candidate: str, third: Bundle, inline_ms: float
) -> None:
    runtime = await start_runtime(settings.model_copy(update={"canary_timeout_s": 0.3, "inline_ms": inline_ms}))
    loader = await begin(runtime, percent=50)
    old, let_go = loader.find("cars"), threading.Event()
    await ask(runtime, query="?label=production")
    Fails(loader.find("cars", Pin(label="candidate")), let_go)
    asked = [asyncio.create_task(ask(runtime)) for _ in range(4)]
    await asyncio.sleep(0.02)
    store.set_alias("cars", third.manifest.version)
    await until(lambda: version_of(loader) == third.manifest.version)
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*asked)
    let_go.set()
    assert {answer.status for answer in answers} == {200}
    await until(lambda: not hasattr(old.engine, "_session"))


async def test_a_candidate_is_loaded_once_where_production_cannot_be_loaded(
    started: Started, settings: Settings, store: Store, candidate: str, production: str, tmp_path: Path
) -> None:
    spoil(store, production)
    # Nothing is shipped, so that seeding does not repair it.
    loader = await started(settings.model_copy(update={"retry_s": 60.0, "pretrained": tmp_path / "none"}))
    await until(lambda: reloads(loader, "success"))
    for _ in range(20):
        await asyncio.sleep(0.02)
        assert reloads(loader, "success") == 1
    with pytest.raises(NotReadyError, match="could not be loaded"):
        loader.find("cars")


async def test_a_pinned_version_that_is_not_loaded_is_not_answered_by_another_one(
    started: Started, settings: Settings, store: Store, production: str, third: Bundle
) -> None:
    loader = await started(settings)
    store.set_alias("cars", third.manifest.version)
    spoil(store, third.manifest.version)
    await until(lambda: "cars" in loader.problems())
    assert loader.find("cars").manifest.version == production
    with pytest.raises(UnknownModelError, match=f"No version '{third.manifest.version}' of cars is loaded"):
        loader.find("cars", Pin(version=third.manifest.version))


async def test_a_canary_whose_clients_all_go_to_a_candidate_that_fails_is_rolled_back(
    start_runtime: StartRuntime, settings: Settings, store: Store, candidate: str, production: str
) -> None:
    runtime = await start_runtime(settings)
    split = (await begin(runtime, percent=50)).find("cars").split
    assert split is not None
    key = next(f"user-{n}" for n in range(99) if split.takes(f"user-{n}".encode()))
    Fails(split.candidate)
    answers = [await ask(runtime, key) for _ in range(30)]
    assert {(answer.status, answer.json["version"]) for answer in answers} == {(200, production)}
    await until(lambda: not store.aliases().traffic)


async def test_a_canary_that_was_changed_meanwhile_is_not_rolled_back_for_the_old_one(
    start_runtime: StartRuntime, settings: Settings, store: Store, candidate: str
) -> None:
    runtime = await start_runtime(settings)
    split = (await begin(runtime, percent=50)).find("cars").split
    assert split is not None
    changed = Traffic(canary=Canary(percent=5))
    store.set_traffic("cars", changed)
    runtime.loader.router._roll_back(split, "error rate")
    await asyncio.gather(*runtime.loader.router._writing)
    assert store.aliases().traffic["cars"] == changed


async def test_a_worker_that_starts_without_the_alias_document_changes_nothing_for_the_others(
    started: Started, settings: Settings, store: Store, third: Bundle
) -> None:
    version = third.manifest.version
    store.set_alias("cars", version)
    running = await started(settings)
    document = (store.home / ALIASES).read_bytes()
    (store.home / ALIASES).unlink()
    fresh = await started(settings)
    await until(lambda: "aliases" in running.problems() and "aliases" in fresh.problems())
    assert version_of(running) == version
    assert fresh.served == {}
    assert "Restore it from a backup" in fresh.problems()["aliases"]
    (store.home / ALIASES).write_bytes(document)
    await until(lambda: "cars" in fresh.served)
    await until(lambda: version_of(fresh) == version_of(running) == version)


async def test_a_request_that_takes_production_too_longer_than_the_wait_is_no_failure_of_the_candidate(
    start_runtime: StartRuntime, settings: Settings, store: Store, candidate: str
) -> None:
    runtime = await start_runtime(settings.model_copy(update={"canary_timeout_s": 0.02}))
    loader = await begin(runtime, percent=50)
    for label in ("production", "candidate"):
        Slow(loader.find("cars", Pin(label=label)))
    answers = [await ask(runtime) for _ in range(60)]
    assert {answer.status for answer in answers} == {200}
    assert loader.find("cars").split is not None


async def test_a_model_that_cannot_be_followed_keeps_no_other_one_from_it(
    started: Started, settings: Settings, store: Store, candidate: str, bundle_of: MakeBundle
) -> None:
    loader = await started(settings)
    newer = store.add(bundle_of(SERIES, "heat", seed=1, created=CREATED + timedelta(days=1)).path).manifest.version

    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    loader.router.shadows.begin = no_thread  # type: ignore[method-assign]
    store.set_traffic("cars", Traffic(shadow=True))
    store.set_alias("heat", newer)
    await until(lambda: version_of(loader, "heat") == newer)
    assert loader.find("cars") is not None


async def test_a_canary_that_is_begun_again_as_it_was_the_moment_it_is_rolled_back_begins_again(
    start_runtime: StartRuntime, settings: Settings, store: Store, candidate: str
) -> None:
    # It looks at the document only when it is told to.
    loader = (await start_runtime(settings.model_copy(update={"poll_s": 60.0}))).loader
    await until(lambda: "candidate" in loader.aliases["cars"])
    canary = Traffic(canary=Canary(percent=50))
    store.set_traffic("cars", canary)
    loader.look()
    await until(lambda: loader.find("cars").split)
    split = loader.find("cars").split
    assert split is not None
    split._conclude("p99")
    await asyncio.gather(*loader.router._writing)
    assert not store.aliases().traffic
    store.set_traffic("cars", canary)
    loader.look()
    await until(lambda: loader.find("cars").split)
    assert loader.find("cars").split is not split
