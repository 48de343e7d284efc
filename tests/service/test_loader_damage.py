"""Versions and documents that are damaged: what is served stays, and the problem is told."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.bundle import GOLDEN, KERAS, MANIFEST, ONNX, Bundle
from models.store import ALIASES, Store
from service.errors import NotReadyError
from service.settings import Settings
from tests.service.conftest import Started, until
from tests.service.test_loader import answer, info, newer, point, reloads, version_of

__all__ = ["newer"]
pytestmark = pytest.mark.usefixtures("thawed_garbage")


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
    (bundle.path / "model.yaml").rename(bundle.path.parent / "model.yaml")
    sealed = bundle.resealed(bundle.path)
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
