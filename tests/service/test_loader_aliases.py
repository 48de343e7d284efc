"""Every version that an alias points to is kept loaded, once; and what answers when production's cannot be loaded."""

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

import service.pool
from models.bundle import ONNX, Bundle
from models.errors import UnknownModelError
from models.store import Store, Target
from service.errors import NotReadyError
from service.loader import Loader
from service.profile import Profile
from service.protocols.base import Pin
from service.served import Served
from service.settings import Settings
from tests.bundles import CARS, CREATED, run_offline
from tests.conftest import MakeBundle
from tests.service.conftest import Started, until
from tests.service.test_loader import ROWS, answer, info, reloads, version_of

pytestmark = pytest.mark.usefixtures("thawed_garbage")


@pytest.fixture
def versions(store: Store, bundle_of: MakeBundle) -> list[Bundle]:
    """Three versions of ``cars``: the first in production, the others only in the store."""
    first = store.open("cars", store.versions("cars")[0])
    newer = (bundle_of(CARS, "cars", seed=n, created=CREATED + timedelta(days=n)) for n in (1, 2))
    return [first, *(store.add(bundle.path) for bundle in newer)]


def names(versions: list[Bundle]) -> list[str]:
    return [bundle.manifest.version for bundle in versions]


def loaded(loader: Loader) -> set[str]:
    return {target.version for name, target in loader.pool.loaded if name == "cars"}


def role(loader: Loader, version: str) -> str:
    return loader.find("cars", Pin(version=version)).role


def spoil(bundle: Bundle) -> bytes:
    graph = (bundle.path / ONNX).read_bytes()
    (bundle.path / ONNX).write_bytes(graph[:-1] + bytes([graph[-1] ^ 1]))
    return graph


async def test_candidate_and_labels_are_loaded_and_each_answers_as_its_bundle_does_offline(
    started: Started, settings: Settings, store: Store, versions: list[Bundle]
) -> None:
    first, second, third = names(versions)
    store.set_alias("cars", second, "candidate")
    loader = await started(settings)
    store.set_alias("cars", third, "blue")
    await until(lambda: loaded(loader) == {first, second, third})
    await until(lambda: "blue" in loader.aliases["cars"])
    pins = {Pin(label="production"): 0, Pin(label="candidate"): 1, Pin(label="blue"): 2}
    pins |= {Pin(version=version): n for n, version in enumerate(names(versions))}
    for pin, n in pins.items():
        outputs = (await loader.find("cars", pin).batcher.submit(ROWS)).outputs
        np.testing.assert_array_equal(outputs, run_offline(versions[n], ROWS))
    assert [role(loader, version) for version in (first, second, third)] == ["production", "candidate", "label"]
    assert info(loader, loader.find("cars", Pin(label="blue")), "blue") == 1


async def test_a_version_with_several_aliases_is_loaded_once(
    started: Started, settings: Settings, store: Store, versions: list[Bundle]
) -> None:
    for alias in ("candidate", "blue", "green"):
        store.set_alias("cars", names(versions)[1], alias)
    loader = await started(settings)
    await until(lambda: len(loader.aliases["cars"]) == 4)
    assert reloads(loader, "success") == 2
    assert len(set(loader.named("cars").values())) == 2


async def test_promoting_the_candidate_switches_without_a_load_and_counts_it_as_production(
    started: Started, settings: Settings, store: Store, versions: list[Bundle]
) -> None:
    first, second, _ = names(versions)
    store.set_alias("cars", second, "candidate")
    loader = await started(settings)
    await until(lambda: "candidate" in loader.aliases["cars"])
    candidate = loader.find("cars", Pin(label="candidate"))
    store.set_alias("cars", second)
    await until(lambda: version_of(loader) == second)
    assert loader.find("cars") is candidate
    assert candidate.metrics is loader.metrics.model("cars", "production")
    assert reloads(loader, "success") == 2
    await until(lambda: loaded(loader) == {second})
    with pytest.raises(UnknownModelError, match=rf"No version '{first}' of cars is loaded\. Loaded: {second}"):
        loader.find("cars", Pin(version=first))


async def test_a_version_is_released_when_its_last_alias_goes_away(
    started: Started, settings: Settings, store: Store, versions: list[Bundle]
) -> None:
    second = names(versions)[1]
    store.set_alias("cars", second, "candidate")
    loader = await started(settings)
    await until(lambda: "candidate" in loader.aliases["cars"])
    candidate = loader.find("cars", Pin(label="candidate"))
    store.remove_alias("cars", "candidate")
    await until(lambda: second not in loaded(loader))
    await until(lambda: not hasattr(candidate.engine, "_session"))  # Released in a task of its own.
    assert info(loader, candidate, "candidate") == 0
    with pytest.raises(UnknownModelError, match="No label 'candidate' of cars is loaded"):
        loader.find("cars", Pin(label="candidate"))


async def test_a_pinned_model_that_does_not_exist_is_refused_as_an_unpinned_one_is(
    started: Started, settings: Settings
) -> None:
    loader = await started(settings, wait=False)
    with pytest.raises(NotReadyError):
        loader.find("cars", Pin(label="production"))
    await until(lambda: loader.ready)
    with pytest.raises(UnknownModelError, match="Known models: cars, clothes, heat"):
        loader.find("trains", Pin(label="production"))


async def test_a_candidate_that_cannot_be_loaded_is_told_under_its_alias_and_production_goes_on(
    started: Started, settings: Settings, store: Store, versions: list[Bundle]
) -> None:
    loader = await started(settings)
    before = await answer(loader)
    store.set_alias("cars", names(versions)[1], "candidate")
    spoil(versions[1])
    await until(lambda: "cars/candidate" in loader.problems())
    assert "sha256" in loader.problems()["cars/candidate"]
    assert loader.failures == {}
    np.testing.assert_array_equal(await answer(loader), before)


async def test_production_does_not_wait_for_candidates_that_are_being_loaded(
    started: Started,
    settings: Settings,
    store: Store,
    versions: list[Bundle],
    bundle_of: MakeBundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loader = await started(settings)
    let_go, running, most = threading.Event(), [0], [0]
    patient = {names(versions)[1], store.add(bundle_of(CARS, "cars", seed=9).path).manifest.version}
    real = service.pool.load

    def slow(store: Store, name: str, target: Target, *others: Any) -> Served:
        running[0] += 1
        most[0] = max(most[0], running[0])
        if target.version in patient:
            assert let_go.wait(10)
        running[0] -= 1
        return real(store, name, target, *others)

    monkeypatch.setattr(service.pool, "load", slow)
    for alias, version in zip(("candidate", "blue"), patient, strict=True):
        store.set_alias("cars", version, alias)
    await until(lambda: running[0])
    store.set_alias("cars", names(versions)[2])
    await until(lambda: version_of(loader) == names(versions)[2])
    assert running[0] == 1, "the other candidate leaves room for production"
    let_go.set()
    await until(lambda: {"candidate", "blue"} <= set(loader.aliases["cars"]))
    assert most[0] <= 2


async def test_a_fresh_worker_whose_production_version_is_broken_answers_with_the_newest_whole_one_before_it(
    started: Started, settings: Settings, store: Store, versions: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = names(versions)
    store.set_alias("cars", second)
    store.set_alias("cars", third)
    graphs = [spoil(bundle) for bundle in versions[1:]]
    loader = await started(settings)
    assert version_of(loader) == first
    np.testing.assert_array_equal(await answer(loader), run_offline(versions[0], ROWS))
    assert loader.failures["cars"].target.version == third
    assert info(loader, loader.find("cars"), "fallback") == 1
    assert f"cars: FALLBACK to {first}" in caplog.text
    for bundle, graph in zip(versions[1:], graphs, strict=True):
        (bundle.path / ONNX).write_bytes(graph)
    await until(lambda: version_of(loader) == third)
    assert loader.problems() == {}
    await until(lambda: loaded(loader) == {third})


async def test_a_slower_candidate_runs_in_a_thread_until_it_is_production(
    started: Started, settings: Settings, store: Store, versions: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is measured depends on what else the machine does.
    monkeypatch.setattr("service.served.profile", lambda *_: Profile({1: 0.1, 2: 0.2}, 2, row_s=1e-4, batch_s=0.0))
    second = names(versions)[1]
    loader = await started(settings.model_copy(update={"inline_ms": 1000.0}))
    candidate = await _loaded_candidate(loader, store, second)
    assert candidate.batcher.inline_rows == max(candidate.profile.latency_ms), "as fast as production"
    candidate.profile = replace(candidate.profile, latency_ms={1: 5.0, 2: 6.0})
    candidate.act_as("label", loader.metrics, 1.0)
    assert candidate.batcher.inline_rows == 0
    store.set_alias("cars", second)
    await until(lambda: version_of(loader) == second)
    assert candidate.batcher.inline_rows == 2


async def _loaded_candidate(loader: Loader, store: Store, version: str) -> Served:
    store.set_alias("cars", version, "candidate")
    await until(lambda: "candidate" in loader.aliases["cars"])
    return loader.find("cars", Pin(label="candidate"))


async def test_closing_at_the_moment_of_news_ends_all_the_same(started: Started, settings: Settings) -> None:
    for _ in range(5):
        loader = await started(settings.model_copy(update={"poll_s": 60.0}))
        await asyncio.sleep(0.02)
        loader.look()
        async with asyncio.timeout(5):
            await loader.close()
