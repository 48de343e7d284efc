"""A CSV file with a step a line becomes windows in time order."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.task import SequenceForecast
from tests.training.made_up import tiny
from tests.training.own.made_up import load
from training.datasets import DataError, DataSet, Raw
from training.own.series import SeriesOptions, read_series
from training.own.source import Options

BOTH = SeriesOptions(("load", "temperature"), lookback=12, horizon=4)


def read(path: Path, series: SeriesOptions = BOTH) -> tuple[DataSet, Raw]:
    return read_series(path, series, Options(say=lambda _: None))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    load(tmp_path / "load.csv")
    return tmp_path / "load.csv"


def test_the_first_column_is_the_target_and_the_time_column_gives_the_step(path: Path) -> None:
    task = read(path, SeriesOptions(("temperature", "load"), 12, 4, units=(("temperature", "degC"),)))[0].task
    assert isinstance(task, SequenceForecast)
    assert (task.target, task.unit, task.step) == ("temperature", "degC", "PT1H")
    assert [channel.name for channel in task.channels] == ["temperature", "load"]


def test_windows_hold_every_channel_and_the_target_that_follows(path: Path) -> None:
    data, raw = read(path)
    train = data.split(raw, tiny("lstm")).train
    assert train.rows.shape == (180 - 15, 12, 2)
    np.testing.assert_array_equal(train.rows[3], raw.table.to_numpy(np.float32)[3:15])
    np.testing.assert_array_equal(train.values[3], raw.table["load"].to_numpy(np.float32)[15:19])


def test_the_parts_follow_each_other_and_forecast_no_step_twice(path: Path) -> None:
    data, raw = read(path)
    split = data.split(raw, tiny("lstm"))
    series = raw.table["load"].to_numpy(np.float32)
    for part, start, end in ((split.train, 12, 180), (split.validation, 180, 240), (split.test, 240, 300)):
        np.testing.assert_array_equal(part.values[0], series[start : start + 4])
        np.testing.assert_array_equal(part.values[-1], series[end - 4 : end])


@pytest.mark.parametrize(("frequency", "step"), [("15min", "PT15M"), ("D", "P1D"), ("90s", "PT90S")])
def test_steps_are_iso_durations(path: Path, frequency: str, step: str) -> None:
    table = pd.read_csv(path)
    table["time"] = pd.date_range("2024-01-01", periods=len(table), freq=frequency).astype(str)
    table.to_csv(path, index=False)
    task = read(path)[0].task
    assert isinstance(task, SequenceForecast)
    assert task.step == step


def test_an_uneven_step_is_refused_by_its_line_unless_the_user_names_the_step(path: Path) -> None:
    pd.read_csv(path).drop(index=100).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"line 102: time must be 0 days 01:00:00.*0 days 02:00:00"):
        read(path)
    task = read(path, SeriesOptions(("load",), 12, 4, step="PT1H"))[0].task
    assert isinstance(task, SequenceForecast)


@pytest.mark.parametrize(("cell", "received"), [("", "nothing"), ("high", "'high'"), ("inf", "'inf'")])
def test_a_gap_or_a_text_is_refused_by_its_line(path: Path, cell: str, received: str) -> None:
    table = pd.read_csv(path, dtype=str)
    table.loc[7, "load"] = cell
    table.to_csv(path, index=False)
    with pytest.raises(DataError, match=f"line 9: load must be a number at every step. Received: {received}"):
        read(path)


def test_a_series_shorter_than_its_windows_need_is_refused(path: Path) -> None:
    with pytest.raises(DataError, match="has 300 steps; windows of 90 \\+ 4 steps need at least 314"):
        read(path, SeriesOptions(("load",), 90, 4))


def test_a_column_that_does_not_exist_is_refused_with_those_that_do(path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'power'. Its columns: time, load, temperature"):
        read(path, SeriesOptions(("power",), 12, 4))
