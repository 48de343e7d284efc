"""Follows the aliases of a real store: what is served changes as a whole or not at all."""

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import GOLDEN, KERAS, MANIFEST, ONNX, Bundle
from models.errors import UnknownModelError
from models.store import ALIASES, Store
from service.errors import NotReadyError
from service.loader import Loader
from service.metrics import Metrics
from service.served import Served
from service.settings import Settings
from tests.bundles import CARS, CREATED, make_bundle, rows_of, run_offline
from tests.conftest import MakeBundle

pytestmark = pytest.mark.usefixtures("thawed_garbage")
ROWS = rows_of(CARS, 5, seed=11)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that the loader does on its own."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


class Started:
    """Starts loaders and closes them at the end of the test."""

    def __init__(self) -> None:
        self.loaders: list[Loader] = []

    async def __call__(self, settings: Settings, *, wait: bool = True) -> Loader:
        loader = Loader(settings, Store(settings.home), Metrics())
        self.loaders.append(loader)
        loader.start()
        if wait:
            await until(lambda: loader.ready)
        return loader


@pytest.fixture
async def started() -> AsyncIterator[Started]:
    starter = Started()
    yield starter
    for loader in starter.loaders:
        await loader.close()


@pytest.fixture
def newer(store: Store, bundle_of: MakeBundle) -> Bundle:
    """A second version of ``cars``, in the store but not served."""
    return store.add(bundle_of(CARS, "cars", seed=1, created=CREATED + timedelta(days=1)).path)


def version_of(loader: Loader, name: str = "cars") -> str:
    return loader.find(name).manifest.version


async def answer(loader: Loader, name: str = "cars") -> np.ndarray:
    return (await loader.find(name).batcher.submit(ROWS)).outputs


def reloads(loader: Loader, result: str, name: str = "cars") -> float:
    return loader.metrics.reloads.labels(name, result)._value.get()  # type: ignore[no-any-return]


def info(loader: Loader, served: Served, alias: str = "production") -> float:
    (family,) = loader.metrics.model_info.collect()
    names = loader.metrics.model_info.labels
    shown = {tuple(s.labels[name] for name in names): float(s.value) for s in family.samples}
    return shown.get(served.labels(alias), 0.0)


def point(store: Store, version: str, digest: str, name: str = "cars") -> None:
    """Change the document by hand: what `Store.set_alias` would refuse."""
    document = store.aliases().model_dump(mode="json")
    document["revision"] += 1
    document["models"].setdefault(name, {})["production"] = {"version": version, "digest": digest}
    temporary = store.home / "next.json"
    temporary.write_text(json.dumps(document))
    temporary.replace(store.home / ALIASES)


async def test_an_empty_store_is_seeded_and_every_shipped_model_served(
    started: Started, settings: Settings, tmp_path: Path
) -> None:
    loader = await started(settings.model_copy(update={"home": tmp_path / "fresh"}))
    assert sorted(loader.served) == ["cars", "clothes", "heat"]
    assert loader.problems() == {}
    assert reloads(loader, "success") == 1


async def test_what_is_served_answers_as_the_bundle_does_offline(
    started: Started, settings: Settings, store: Store
) -> None:
    loader = await started(settings)
    bundle = store.open("cars", version_of(loader))
    np.testing.assert_array_equal(await answer(loader), run_offline(bundle, ROWS))


async def test_a_loaded_version_was_checked_and_timed(started: Started, settings: Settings) -> None:
    served = (await started(settings)).find("cars")
    assert served.golden_difference == 0
    assert served.load_s > 0
    assert list(served.profile.latency_ms) == [1, 2, 4, 8, 16, 32, 64]
    assert all(ms > 0 for ms in served.profile.latency_ms.values())


async def test_nothing_is_served_before_loading_and_nobody_is_told_that_a_model_is_unknown(
    started: Started, settings: Settings
) -> None:
    loader = await started(settings, wait=False)
    assert not loader.ready
    for name in ("cars", "trains"):
        with pytest.raises(NotReadyError, match="still being loaded"):
            loader.find(name)


async def test_an_unknown_model_is_refused_with_the_known_ones(started: Started, settings: Settings) -> None:
    loader = await started(settings)
    with pytest.raises(UnknownModelError, match="Known models: cars, clothes, heat"):
        loader.find("trains")


async def test_only_the_chosen_models_are_served(started: Started, settings: Settings) -> None:
    loader = await started(settings.model_copy(update={"models": ("cars", "trains")}))
    assert list(loader.served) == ["cars"]


async def test_an_alias_that_moves_is_followed(
    started: Started, settings: Settings, store: Store, newer: Bundle
) -> None:
    loader = await started(settings)
    old, others = loader.find("cars"), {name: loader.find(name) for name in ("clothes", "heat")}
    store.set_alias("cars", newer.manifest.version)
    await until(lambda: version_of(loader) == newer.manifest.version)
    np.testing.assert_array_equal(await answer(loader), run_offline(newer, ROWS))
    assert {name: loader.find(name) for name in others} == others, "the other models were not loaded anew"
    assert (info(loader, old), info(loader, loader.find("cars"))) == (0, 1)
    assert reloads(loader, "success") == 2


async def test_an_alias_that_moves_back_is_followed_too(
    started: Started, settings: Settings, store: Store, newer: Bundle
) -> None:
    loader = await started(settings)
    first = version_of(loader)
    before = await answer(loader)
    for version in (newer.manifest.version, first):
        store.set_alias("cars", version)
        await until(lambda version=version: version_of(loader) == version)
    np.testing.assert_array_equal(await answer(loader), before)


def damage(store: Store, newer: Bundle, how: str) -> None:
    """Point production to a version that must not be served."""
    version, digest = newer.manifest.version, newer.manifest.digest
    if how == "altered graph":
        (newer.path / ONNX).write_bytes(b"x" * newer.manifest.files[ONNX].bytes)
    elif how == "altered file that only training reads":
        (newer.path / KERAS).write_bytes(b"x" * newer.manifest.files[KERAS].bytes)
    elif how == "missing golden rows":
        (newer.path / GOLDEN).unlink()
    elif how == "half-copied":
        (newer.path / MANIFEST).unlink()
    elif how == "another digest":
        digest = "0" * 64
    elif how == "unknown version":
        version = "20990101-000000-00000000"
    elif how == "wrong golden rows":
        rows, outputs = newer.golden()
        np.savez(newer.path / GOLDEN, rows=rows, outputs=outputs + 1)
        digest = reseal(newer).manifest.digest
    elif how == "not a number":
        rows, outputs = newer.golden()
        np.savez(newer.path / GOLDEN, rows=rows, outputs=np.full_like(outputs, np.nan))
        digest = reseal(newer).manifest.digest
    elif how == "no graph at all":
        (newer.path / ONNX).write_bytes(b"no graph")
        digest = reseal(newer).manifest.digest
    point(store, version, digest)


def reseal(bundle: Bundle) -> Bundle:
    (bundle.path / MANIFEST).unlink()
    (bundle.path / "model.yaml").rename(bundle.path.parent / "model.yaml")
    keep = ("name", "architecture", "task", "figures", "parameters", "lineage", "example", "created")
    sealed = Bundle.seal(bundle.path, **{member: getattr(bundle.manifest, member) for member in keep})
    (bundle.path.parent / "model.yaml").rename(bundle.path / "model.yaml")
    return sealed


BAD = {
    "altered graph": "sha256",
    "altered file that only training reads": "sha256",
    "missing golden rows": "cannot be read",
    "half-copied": "no readable manifest",
    "another digest": "is not the bundle that was promoted",
    "unknown version": "Unknown version",
    "wrong golden rows": "differs from training by 1",
    "not a number": "differs from training by nan",
    "no graph at all": "onnxruntime refuses",
}


@pytest.mark.parametrize("how", list(BAD))
async def test_a_bad_version_is_refused_and_the_old_one_answers_bit_for_bit_as_before(
    started: Started, settings: Settings, store: Store, newer: Bundle, how: str
) -> None:
    loader = await started(settings)
    first = version_of(loader)
    before = await answer(loader)
    damage(store, newer, how)
    await until(lambda: "cars" in loader.failures)
    assert version_of(loader) == first
    np.testing.assert_array_equal(await answer(loader), before)
    assert BAD[how] in loader.problems()["cars"]
    assert reloads(loader, "failure") >= 1
    await until(lambda: info(loader, loader.find("cars"), "fallback") == 1)
    assert info(loader, loader.find("cars")) == 0, "it answers, but production is another one"


async def test_a_version_that_failed_is_tried_again_and_served_once_it_is_whole(
    started: Started, settings: Settings, store: Store, newer: Bundle
) -> None:
    loader = await started(settings)
    graph = (newer.path / ONNX).read_bytes()
    (newer.path / ONNX).write_bytes(b"")
    point(store, newer.manifest.version, newer.manifest.digest)
    await until(lambda: reloads(loader, "failure") >= 2)
    (newer.path / ONNX).write_bytes(graph)
    await until(lambda: version_of(loader) == newer.manifest.version)
    assert loader.problems() == {}


async def test_a_version_that_failed_is_not_tried_before_its_time(
    started: Started, settings: Settings, store: Store, newer: Bundle
) -> None:
    loader = await started(settings.model_copy(update={"retry_s": 3600}))
    damage(store, newer, "another digest")
    await until(lambda: loader.failures)
    for _ in range(10):
        await loader._follow()
    assert reloads(loader, "failure") == 1


async def test_taking_the_alias_back_ends_the_problem(
    started: Started, settings: Settings, store: Store, newer: Bundle
) -> None:
    loader = await started(settings)
    first = version_of(loader)
    damage(store, newer, "unknown version")
    await until(lambda: loader.failures)
    store.set_alias("cars", first)
    await until(lambda: not loader.problems())
    assert version_of(loader) == first
    assert reloads(loader, "success") == 1, "what was served all the time is not loaded anew"


async def test_one_corrupt_version_at_start_leaves_the_others_served_and_is_told(
    started: Started, settings: Settings, store: Store, tmp_path: Path
) -> None:
    version = store.versions("cars")[0]
    (store.home / "models" / "cars" / version / ONNX).write_bytes(b"x")
    loader = await started(settings.model_copy(update={"pretrained": tmp_path / "none"}))
    assert sorted(loader.served) == ["clothes", "heat"]
    assert "sha256" in loader.problems()["cars"]
    with pytest.raises(NotReadyError, match="cars is not served"):
        loader.find("cars")


async def test_one_corrupt_shipped_bundle_leaves_the_others_served_and_is_told(
    started: Started, settings: Settings, shipped: Path, tmp_path: Path
) -> None:
    pretrained = Path(shutil.copytree(shipped, tmp_path / "pretrained"))
    (pretrained / "cars-0" / ONNX).write_bytes(b"x")
    loader = await started(settings.model_copy(update={"home": tmp_path / "fresh", "pretrained": pretrained}))
    assert sorted(loader.served) == ["clothes", "heat"]
    assert "sha256" in loader.problems()["pretrained/cars-0"]


async def test_a_corrupt_alias_document_keeps_what_is_served_and_is_told_until_it_is_mended(
    started: Started, settings: Settings, store: Store, newer: Bundle
) -> None:
    loader = await started(settings)
    before = await answer(loader)
    whole = (store.home / ALIASES).read_bytes()
    (store.home / ALIASES).write_bytes(b"{")
    await until(loader.problems)
    assert "is not valid" in loader.problems()["aliases"]
    assert len(loader.served) == 3
    np.testing.assert_array_equal(await answer(loader), before)
    (store.home / ALIASES).write_bytes(whole)
    await until(lambda: not loader.problems())
    store.set_alias("cars", newer.manifest.version)
    await until(lambda: version_of(loader) == newer.manifest.version)


async def test_an_alias_document_that_goes_away_keeps_what_is_served_until_it_is_back(
    started: Started, settings: Settings, store: Store
) -> None:
    loader = await started(settings)
    served = dict(loader.served)
    away = store.home / "aliases.bak"
    (store.home / ALIASES).rename(away)
    await until(loader.problems)
    assert "no alias document" in loader.problems()["aliases"]
    assert loader.served == served
    away.rename(store.home / ALIASES)
    await until(lambda: not loader.problems())
    assert loader.served == served


async def test_the_document_that_was_there_before_a_corrupt_one_ends_the_problem(
    started: Started, settings: Settings, store: Store
) -> None:
    loader = await started(settings)
    before = store.home / "aliases.bak"
    before.hardlink_to(store.home / ALIASES)
    (store.home / "broken").write_bytes(b"{")
    (store.home / "broken").replace(store.home / ALIASES)
    await until(loader.problems)
    before.replace(store.home / ALIASES)  # The same file, so the same stamp as at the start.
    await until(lambda: not loader.problems())


async def test_a_model_whose_alias_is_taken_away_is_no_longer_served(
    started: Started, settings: Settings, store: Store
) -> None:
    loader = await started(settings)
    document = store.aliases().model_dump(mode="json")
    del document["models"]["cars"]
    (store.home / ALIASES).write_text(json.dumps(document))
    await until(lambda: "cars" not in loader.served)
    with pytest.raises(UnknownModelError, match="Known models: clothes, heat"):
        loader.find("cars")


async def test_a_model_that_gets_its_first_alias_is_served(
    started: Started, settings: Settings, store: Store, tmp_path: Path
) -> None:
    loader = await started(settings)
    added = store.add(make_bundle(tmp_path / "more", "boats", CARS, seed=3).path)
    store.set_alias("boats", added.manifest.version)
    await until(lambda: "boats" in loader.served)


class SlowEngine:
    """Holds a real engine's answers back until it is let go."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.go, self.entered, self.closed = engine, threading.Event(), threading.Event(), False
        self.name, self.device, self.in_flight, self.padded = engine.name, engine.device, engine.in_flight, ""

    def run(self, rows: np.ndarray) -> np.ndarray:
        assert not self.closed, "run after close"
        self.entered.set()
        assert self.go.wait(10)
        return self.engine.run(rows)  # type: ignore[no-any-return]

    def close(self) -> None:
        self.closed = True
        self.engine.close()


def slow_down(served: Served) -> SlowEngine:
    slow = SlowEngine(served.engine)
    served.engine = served.batcher._engine = slow
    served.batcher.inline_rows = 0
    return slow


async def test_a_request_in_flight_finishes_on_the_old_version_which_is_then_released(
    started: Started, settings: Settings, store: Store, newer: Bundle
) -> None:
    loader = await started(settings)
    old = loader.find("cars")
    expected = run_offline(store.open("cars", old.manifest.version), ROWS)
    slow = slow_down(old)
    pending = asyncio.create_task(old.batcher.submit(ROWS))
    await asyncio.to_thread(slow.entered.wait, 10)
    store.set_alias("cars", newer.manifest.version)
    await until(lambda: version_of(loader) == newer.manifest.version)
    np.testing.assert_array_equal(await answer(loader), run_offline(newer, ROWS))
    assert not slow.closed
    assert not pending.done()
    slow.go.set()
    np.testing.assert_array_equal((await pending).outputs, expected)
    await until(lambda: slow.closed)


async def test_a_version_that_a_request_still_holds_is_not_released(
    started: Started, settings: Settings, store: Store, newer: Bundle
) -> None:
    loader = await started(settings)
    old = loader.find("cars")
    slow = slow_down(old)
    slow.go.set()
    old.users += 1  # A request that has looked it up and is still reading its body.
    store.set_alias("cars", newer.manifest.version)
    await until(lambda: version_of(loader) == newer.manifest.version)
    await asyncio.sleep(0.05)
    assert not slow.closed
    np.testing.assert_array_equal(
        (await old.batcher.submit(ROWS)).outputs, run_offline(store.open("cars", old.manifest.version), ROWS)
    )
    old.users -= 1
    await until(lambda: slow.closed)


async def test_closing_answers_what_is_in_flight_and_releases_every_version(
    started: Started, settings: Settings
) -> None:
    loader = await started(settings)
    slow = {name: slow_down(served) for name, served in loader.served.items()}
    pending = asyncio.create_task(loader.find("cars").batcher.submit(ROWS))
    await asyncio.to_thread(slow["cars"].entered.wait, 10)
    closing = asyncio.create_task(loader.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    for engine in slow.values():
        engine.go.set()
    await closing
    assert (await pending).outputs.shape == (len(ROWS), 3)
    assert all(engine.closed for engine in slow.values())
    assert loader.served == {}


async def test_closing_before_anything_is_loaded_is_no_error(started: Started, settings: Settings) -> None:
    loader = await started(settings, wait=False)
    await loader.close()


async def test_fast_models_run_on_the_loop_and_none_does_when_that_is_switched_off(
    started: Started, settings: Settings
) -> None:
    loader = await started(settings.model_copy(update={"inline_ms": 1000.0}))
    served = loader.find("cars")
    assert served.batcher.inline_rows >= served.profile.batch_rows
    loader = await started(settings.model_copy(update={"inline_ms": 0.0}))
    assert loader.find("cars").batcher.inline_rows == 0


async def test_a_store_that_cannot_be_written_but_was_seeded_is_served(
    started: Started, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Store, "seed", read_only)
    assert len((await started(settings)).served) == 3


async def test_following_survives_an_unforeseen_error(
    started: Started, settings: Settings, store: Store, newer: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = await started(settings)
    failed = threading.Event()

    def broken(_: Store) -> None:
        failed.set()
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Store, "stamp", broken)
        await asyncio.to_thread(failed.wait, 10)
    store.set_alias("cars", newer.manifest.version)
    await until(lambda: version_of(loader) == newer.manifest.version)


async def test_two_loaders_of_one_store_follow_the_same_alias(
    started: Started, settings: Settings, store: Store, newer: Bundle
) -> None:
    loaders = [await started(settings), await started(settings)]
    store.set_alias("cars", newer.manifest.version)
    await until(lambda: all(version_of(loader) == newer.manifest.version for loader in loaders))
