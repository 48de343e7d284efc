"""A CSV file with one step a line -> a data set of windows of a series, parted in time order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.task import SequenceForecast
from training.datasets import DataError, DataSet, Raw
from training.own import source, steps
from training.own.source import Options
from training.split import Part, Split

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

    from training.config import TrainConfig


@dataclass(frozen=True)
class SeriesOptions:
    """What a user says of the series.

    Attributes:
        columns: Channels; the first one is forecast.
        lookback: Steps that the model sees.
        horizon: Steps that it forecasts.
        step: Time between two lines, an ISO 8601 duration; found in a column of times where it is None.
        units: Column to unit.
    """

    columns: tuple[str, ...]
    lookback: int
    horizon: int
    step: str | None = None
    units: tuple[tuple[str, str], ...] = ()


def read_series(path: Path, series: SeriesOptions, options: Options) -> tuple[DataSet, Raw]:
    """A CSV file as a data set.

    Args:
        path: UTF-8, comma-separated, with a header, oldest line first.
        series: Which columns, and the windows.
        options: See `Options`.

    Raises:
        DataError: A value is missing or no number, times are uneven, or the series is too short.
    """
    table = source.read_text_table(path)
    for name in (*series.columns, *dict(series.units)):
        source.require_column(table, name, "--column", path)
    kept = table[list(series.columns)].apply(lambda column: steps.numeric(column, path))
    window = series.lookback + series.horizon
    least = _least(window)
    if len(kept) < least:
        raise DataError(
            f"{path.name} has {len(kept)} steps; windows of {series.lookback} + {series.horizon} steps need at least "
            f"{least}. Use a shorter --lookback or --horizon."
        )
    task = _task(table, kept, series, options, path)
    data = source.data_set(
        path,
        (source.file(path),),
        task,
        options,
        read=lambda paths: read_series(next(iter(paths.values())), series, options)[1],
        schema=partial(_schema, task),
        split=partial(_split, task),
    )
    return data, Raw(kept)


def _least(window: int) -> int:
    """Steps such that each part has a horizon of its own and training has as many windows as a window has steps."""
    return int(np.ceil(2 * window / steps.SHARES[0]))


def _task(
    table: pd.DataFrame, kept: pd.DataFrame, series: SeriesOptions, options: Options, path: Path
) -> SequenceForecast:
    found = steps.channels(kept, series.columns, dict(series.units), options)
    step = steps.step_of(table, series.step, options, path)
    options.say(f"{series.columns[0]}: {series.horizon} of {len(kept):,} steps of {step} ahead, from {series.lookback}")
    return SequenceForecast(
        channels=found,
        target=series.columns[0],
        lookback=series.lookback,
        horizon=series.horizon,
        unit=found[0].unit or "",
        step=step,
    )


def _schema(task: SequenceForecast) -> pa.DataFrameSchema:
    import pandera.pandas as pa

    return pa.DataFrameSchema(steps.channel_checks(task))


def _split(task: SequenceForecast, raw: Raw, config: TrainConfig) -> Split:
    """In time order; validation and test windows look back across their border, and forecast on their own side."""
    values = raw.table[[channel.name for channel in task.channels]].to_numpy(np.float32)
    borders = [0, *(int(share * len(values)) for share in steps.SHARES), len(values)]
    return Split(
        *(
            _windows(task, values[max(0, start - task.lookback) : end]).take(slice(config.limit))
            for start, end in pairwise(borders)
        )
    )


def _windows(task: SequenceForecast, series: np.ndarray) -> Part:
    """Every stretch of look-back and horizon, stride 1: rows (n, lookback, channels) and values (n, horizon)."""
    target = [channel.name for channel in task.channels].index(task.target)
    both = steps.stretches(series, task.lookback + task.horizon)
    rows, values = both[:, : task.lookback], both[:, task.lookback :, target]
    return Part(np.ascontiguousarray(rows), np.ascontiguousarray(values))
