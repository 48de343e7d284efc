"""The loop's own measures can fail: growth is seen, wrong and lost answers are found."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle
from models.engines import check_golden, open_engine
from tests.bundles import CARS, CREATED, make_bundle, rows_of
from tests.redeploy import offered
from tests.redeploy.load import Sent, write
from tests.redeploy.memory import growth, is_flat
from tests.redeploy.record import Record, offline


def test_memory_that_rises_with_every_switch_is_not_flat() -> None:
    noise = np.random.default_rng(0).normal(0, 200, 200)
    rising = 150_000 + 60 * np.arange(200) + noise
    assert growth(rising) == pytest.approx(60, abs=3)
    assert not is_flat(rising)


def test_memory_that_fills_caches_first_and_jumps_once_is_flat() -> None:
    noise = np.random.default_rng(0).normal(0, 200, 200)
    filling = 150_000 + 5_000 * (1 - np.exp(-np.arange(200) / 10)) + noise
    filling[120:] += 300
    assert is_flat(filling)


def test_too_few_samples_say_nothing() -> None:
    with pytest.raises(ValueError, match="10 samples"):
        growth([1, 2, 3])


def record_of(path: Path, *answers: tuple[int, int, dict[str, object], int], status: int = 200) -> Record:
    sent = Sent(versions={"v": 0}, rows=[(1.0, 0.002, 0, status, 0)])
    for route, body, answer, count in answers:
        sent.answers[route, body, json.dumps(answer).encode()] = count
    write(sent, path)
    return Record.read(path)


def test_an_answer_that_differs_in_one_bit_is_found(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, "cars", CARS)
    rows = rows_of(CARS, 2)
    right = offline(bundle, rows)
    named = {"model": "cars", "version": bundle.manifest.version}
    bundles = {("cars", bundle.manifest.version): bundle}
    good = record_of(tmp_path / "good.npz", (0, 1, {**named, "predictions": [right[1][0]]}, 3))
    assert good.wrong(bundles, {0: rows}) == []
    value = float(np.nextafter(np.float32(right[1][0]["value"]), np.float32(np.inf)))
    bad = record_of(tmp_path / "bad.npz", (0, 1, {**named, "predictions": [{**right[1][0], "value": value}]}, 3))
    assert len(bad.wrong(bundles, {0: rows})) == 1


def test_an_answer_of_an_unknown_version_is_found(tmp_path: Path) -> None:
    record = record_of(tmp_path / "r.npz", (0, 0, {"model": "cars", "version": "x", "predictions": []}, 1))
    assert "never offered" in record.wrong({}, {})[0]


def test_a_request_without_an_answer_is_an_error(tmp_path: Path) -> None:
    assert record_of(tmp_path / "r.npz", status=0).errors == 1
    assert record_of(tmp_path / "r.npz", status=503).errors == 1
    assert record_of(tmp_path / "r.npz").errors == 0


def test_the_slow_version_answers_the_same(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, "cars", CARS)
    slow = offered.resealed(bundle, tmp_path / "slow", CREATED.replace(year=2027), offered.slow(bundle))
    engine = open_engine(slow, kind="onnx", device="cpu")
    check_golden(engine, slow)
    engine.close()
    rows = rows_of(CARS, 3)
    assert offline(slow, rows) == offline(bundle, rows)


@pytest.mark.parametrize("damage", [offered.corrupt, offered.truncate])
def test_damaged_versions_do_not_verify(tmp_path: Path, damage: object) -> None:
    from models.errors import BundleError

    bundle = make_bundle(tmp_path / "made", "cars", CARS)
    folder = offered.place(bundle, tmp_path / "home")
    assert callable(damage)
    damage(folder)
    with pytest.raises(BundleError, match="sha256"):
        Bundle.open(folder).verify()
