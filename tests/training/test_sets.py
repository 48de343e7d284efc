"""The known sets, split as everyone splits them; on the real data where it is."""

from pathlib import Path

import numpy as np
import pytest

from tests.training.made_up import pictures, temperatures, tiny
from training.config import TrainConfig, config_path, load_config
from training.datasets import Raw, data_set, find
from training.sets.etth1 import windows
from training.split import Split
from training.validation import validate

FASHION = data_set("fashion-mnist")


def real(name: str, data_dir: Path | None, config: TrainConfig) -> tuple[Raw, Split]:
    known = data_set(name)
    raw = known.read(find(known, data_dir=data_dir).paths)
    return raw, known.split(validate(known.engineer(raw), known.schema()), config)


def test_a_fifth_of_the_training_pictures_is_held_out_from_each_class() -> None:
    split = FASHION.split(FASHION.engineer(pictures(200, 50)), tiny("cnn"))
    assert [len(part) for part in (split.train, split.validation, split.test)] == [160, 40, 50]
    np.testing.assert_array_equal(np.bincount(split.validation.values), [4] * 10)


def test_the_seed_decides_which_pictures_are_held_out() -> None:
    raw = FASHION.engineer(pictures(200, 50))
    one, same, other = (FASHION.split(raw, tiny("cnn", seed=seed)).validation.rows for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_windows_of_a_series_end_where_their_forecast_begins() -> None:
    part = windows(np.arange(150, dtype=np.float32))
    assert part.rows.shape == (31, 96, 1)
    np.testing.assert_array_equal(part.rows[3, :, 0], np.arange(3, 99))
    np.testing.assert_array_equal(part.values[3], np.arange(99, 123))


def test_no_value_to_forecast_is_in_two_parts_of_a_series() -> None:
    raw = temperatures(900)
    raw.table["OT"] = np.arange(900.0) / 10
    split = data_set("etth1").split(raw, tiny("lstm"))
    assert split.train.values.max() < split.validation.values.min()
    assert split.validation.values.max() < split.test.values.min()


@pytest.mark.data
def test_auto_mpg_is_split_as_the_keras_tutorial_does(data_dir: Path) -> None:
    raw, split = real("auto-mpg", data_dir, load_config(config_path("regressor")))
    table = raw.table.dropna().drop(columns="name")
    expected = table.drop(table.sample(frac=0.8, random_state=0).index)
    assert len(split.train) + len(split.validation) == 314
    np.testing.assert_allclose(split.test.values, expected["mpg"], rtol=1e-6)


@pytest.mark.data
def test_etth1_has_the_windows_that_publications_count(data_dir: Path) -> None:
    raw, split = real("etth1", data_dir, load_config(config_path("lstm")))
    assert [len(part) for part in (split.train, split.validation, split.test)] == [8521, 2857, 2857]
    series = raw.table["OT"].to_numpy(np.float32)
    np.testing.assert_array_equal(split.test.values[0], series[11520:11544])
    np.testing.assert_array_equal(split.test.values[-1], series[14376:14400])


@pytest.mark.data
@pytest.mark.skipif(
    FASHION.package is None or not FASHION.package[1].is_dir(), reason="dataset-fashion-mnist is not installed"
)
def test_fashion_mnist_has_60000_and_10000_pictures() -> None:
    _, split = real("fashion-mnist", None, load_config(config_path("dnn")))
    assert [len(part) for part in (split.train, split.validation, split.test)] == [48000, 12000, 10000]
    assert split.test.rows.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(split.test.values), [1000] * 10)
