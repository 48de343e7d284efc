"""Broken data is refused by column and row before training."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.training.made_up import cars, pictures, temperatures
from training.datasets import DataError, Raw, data_set
from training.sets.auto_mpg import read_csv
from training.sets.fashion_mnist import read_idx
from training.validation import validate


def check(name: str, raw: Raw) -> Raw:
    known = data_set(name)
    return validate(known.engineer(raw), known.schema())


def test_sound_data_passes_with_its_blanks_left_out() -> None:
    assert len(check("auto-mpg", cars(50)).table) == 49
    assert check("fashion-mnist", pictures(20, 10)).table["label"].dtype == np.int64
    assert list(check("etth1", temperatures(200)).table) == ["date", "OT"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="weight"), "column weight is missing"),
        (lambda t: t.drop(columns="mpg"), "column mpg is missing"),
        (lambda t: _set(t, 7, "weight", np.nan), "column weight, row 7 must not be empty"),
        (
            lambda t: _set(t.astype({"weight": object}), 7, "weight", "heavy"),
            r"column weight, row 7 must be convertible to 'float64', received 'heavy'",
        ),
        (lambda t: _set(t, 4, "horsepower", -5.0), r"column horsepower, row 4 must be in range 10.*, received -5"),
        (lambda t: _set(t, 9, "origin", "mars"), "column origin, row 9 must be one of 'usa', .* received 'mars'"),
        (lambda t: _set(t, 9, "mpg", 0.0), "column mpg, row 9 must be in range 1"),
    ],
)
def test_a_broken_record_is_named(change: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check("auto-mpg", Raw(change(cars(30).table)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: _set(t, 5, "label", 10), "column label, row 5 must be in range 0, 9, received 10"),
        (lambda t: _set(t, 5, "label", -1), "column label, row 5 must be in range 0, 9, received -1"),
        (lambda t: t.drop(columns="label"), "column label is missing"),
    ],
)
def test_a_broken_label_is_named(change: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    raw = pictures(20, 10)
    with pytest.raises(DataError, match=message):
        check("fashion-mnist", Raw(change(raw.table), raw.pictures))


def test_pictures_of_another_dtype_or_number_are_refused() -> None:
    raw = pictures(20, 10)
    assert raw.pictures is not None
    with pytest.raises(DataError, match="must be uint8"):
        check("fashion-mnist", Raw(raw.table, raw.pictures.astype(np.float32)))
    with pytest.raises(DataError, match="a set of pictures has no pictures"):
        check("fashion-mnist", Raw(raw.table))


def test_a_blank_picture_is_named_by_its_row() -> None:
    raw = pictures(20, 10)
    assert raw.pictures is not None
    raw.pictures[3] = 0
    with pytest.raises(DataError, match="column mean_pixel, row 3"):
        check("fashion-mnist", raw)


def test_a_gap_in_a_series_is_named() -> None:
    table = temperatures(100).table.drop(index=40).reset_index(drop=True)
    with pytest.raises(DataError, match="column date, row 40 must be one hour after the row before"):
        check("etth1", Raw(table))


def test_many_failures_are_counted_not_listed() -> None:
    table = temperatures(100).table
    table.loc[:20, "OT"] = 900.0
    with pytest.raises(DataError, match="and 16 more"):
        check("etth1", Raw(table))


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "mpg.csv").write_bytes(b"")
    with pytest.raises(DataError, match=r"mpg\.csv must be a CSV file"):
        read_csv(tmp_path / "mpg.csv")


def test_an_idx_file_round_trips_and_a_short_one_is_refused(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    content = b"\0\0\x08\x03" + np.array(values.shape, ">u4").tobytes() + values.tobytes()
    path = tmp_path / "a-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(read_idx(path), values)
    path.write_bytes(gzip.compress(content[:-1]))
    with pytest.raises(DataError, match=r"must hold 24 values, \(2, 3, 4\)\. Received: 23"):
        read_idx(path)
    path.write_bytes(gzip.compress(b"PNG" + content))
    with pytest.raises(DataError, match="must be an IDX file"):
        read_idx(path)


def _set(table: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    table = table.copy()
    table.loc[row, column] = value
    return table
