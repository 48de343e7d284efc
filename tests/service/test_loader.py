"""Follows the aliases of a real store: what is served changes as a whole or not at all."""

import asyncio
import json
import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle
from models.errors import UnknownModelError
from models.store import ALIASES, Store
from service.errors import NotReadyError
from service.loader import Loader
from service.served import Served
from service.settings import Settings
from tests.bundles import CARS, CREATED, make_bundle, rows_of, run_offline
from tests.conftest import MakeBundle
from tests.service.conftest import Started, until
from tests.service.test_metrics import rendered

pytestmark = pytest.mark.usefixtures("thawed_garbage")
ROWS = rows_of(CARS, 5, seed=11)


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
    # Time enough for every size: what does not fit is left out.
    served = (await started(settings.model_copy(update={"profile_ms": 60_000.0}))).find("cars")
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


async def test_fast_models_run_on_the_loop_and_none_does_when_that_is_switched_off(
    started: Started, settings: Settings
) -> None:
    loader = await started(settings.model_copy(update={"inline_ms": 1000.0}))
    served = loader.find("cars")
    assert served.batcher.inline_rows >= served.profile.batch_rows
    shown = 'serving_batch_inline_rows{model="cars"}'
    assert rendered(loader.metrics)[shown] == served.batcher.inline_rows
    loader = await started(settings.model_copy(update={"inline_ms": 0.0}))
    assert loader.find("cars").batcher.inline_rows == 0
    assert rendered(loader.metrics)[shown] == 0


async def test_batches_are_bounded_and_paced_by_the_curve_that_was_measured_and_models_share_a_scheduler(
    started: Started, settings: Settings, store: Store, tmp_path: Path
) -> None:
    added = store.add(make_bundle(tmp_path / "more", "boats", CARS, seed=3).path)
    store.set_alias("boats", added.manifest.version)
    loader = await started(settings.model_copy(update={"batch_rows": 3, "max_queue_s": 7.0}))
    assert {"cars", "boats"} <= loader.served.keys()
    assert len({id(served.batcher._scheduler) for served in loader.served.values()}) == 1
    for served in loader.served.values():
        batcher, measured = served.batcher, served.profile
        assert batcher._max_batch_rows == measured.batch_rows == 3
        assert batcher.expect(3) == pytest.approx(3 * measured.row_s + measured.batch_s)
        assert batcher._max_ahead_rows == pytest.approx(7.0 / (measured.row_s + measured.batch_s / 3))


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
