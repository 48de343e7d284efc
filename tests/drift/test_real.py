"""Real data: what training looked like raises nothing, and what it did not look like is named."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from service.drift import Report
from service.drift_words import summary
from tests.drift.streams import Shipped, report_on
from training.sets import fashion_mnist

COUNT = 600


@lru_cache(maxsize=4)
def shipped(name: str, data_dir: Path | None) -> Shipped:
    return Shipped(name, data_dir)


@pytest.fixture(scope="module")
def pictures() -> Shipped:
    package, folder = fashion_mnist.DATA_SET.package or ("", Path())
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: apt-get install {package}")
    return shipped("dnn", None)


def report(model: Shipped, rows: np.ndarray) -> Report:
    chosen = np.random.default_rng(0).permutation(len(rows))[:COUNT]
    return report_on(model.bundle, model.answered(rows[chosen]))


def moved(found: Report) -> set[str]:
    return {shift.name for shift in found.shifts if shift.state == "major"}


def test_pictures_as_in_training_raise_nothing(pictures: Shipped) -> None:
    assert report(pictures, pictures.split.validation.rows).state == "none"


def test_inverted_pictures_are_brighter(pictures: Shipped) -> None:
    found = report(pictures, 255 - pictures.split.validation.rows)
    assert {"pixel_intensity", "picture_mean", "label"} <= moved(found)
    assert "brighter than in training" in summary(found)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turned_pictures_have_their_brightness_elsewhere_and_other_answers(pictures: Shipped, turns: int) -> None:
    found = report(pictures, np.rot90(pictures.split.validation.rows, turns, axes=(1, 2)))
    assert moved(found) & {"picture_centre_x", "picture_centre_y"}
    assert "label" in moved(found)
    assert not moved(found) & {"pixel_intensity", "picture_mean", "picture_spread"}


def test_cars_as_in_training_raise_nothing_and_heavier_ones_say_so(data_dir: Path) -> None:
    model = shipped("regressor", data_dir)
    cars = np.concatenate([model.split.train.rows, model.split.validation.rows])
    many = cars[np.random.default_rng(0).integers(0, len(cars), COUNT)]
    assert report(model, many).state == "none"
    many[:, 3] += 500
    found = report(model, many)
    assert moved(found) == {"weight"}
    assert summary(found).startswith("weight: values are 4")
    assert "lb higher than in training (mean 2,990 -> 3,4" in summary(found)


def test_newer_cars_move_the_model_year(data_dir: Path) -> None:
    model = shipped("regressor", data_dir)
    cars = model.split.train.rows
    newer = cars[cars[:, 5] >= 79]
    found = report(model, np.resize(newer, (COUNT, newer.shape[1])))
    assert "model_year" in moved(found)
    assert "value" in moved(found)


@pytest.mark.parametrize("degrees", [0, 3, 8])
def test_a_warmer_year_is_a_higher_level_and_a_higher_forecast(data_dir: Path, degrees: int) -> None:
    model = shipped("lstm", data_dir)
    year = np.concatenate([model.split.train.rows, model.split.validation.rows])
    found = report(model, year + np.float32(degrees))
    if not degrees:
        assert found.state == "none"
        return
    assert "OT_level" in moved(found)
    assert ("value" in moved(found)) == (degrees > 5)
    assert "degC higher than in training" in summary(found)


def test_equally_spread_traffic_in_another_order_is_no_drift(data_dir: Path) -> None:
    # A list sorted by weight, again and again: fewer independent rows, so nothing that chance would not explain.
    model = shipped("regressor", data_dir)
    cars = model.answered(np.concatenate([model.split.train.rows, model.split.validation.rows]))
    ordered = cars.take(np.tile(np.argsort(cars.rows[:, 3]), 4))
    assert report_on(model.bundle, ordered, drift_half_life_rows=5000).state == "none"
