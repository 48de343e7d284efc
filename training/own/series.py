"""A CSV file with one step a line -> a data set of windows of a series, parted in time order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.task import Number, SequenceForecast
from training.datasets import DataError, DataSet, Raw
from training.own import source
from training.own.source import Options
from training.split import Part, Split

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

    from training.config import TrainConfig

SHARES = (0.6, 0.8)
"""Where validation and test begin, as a share of the steps."""


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
    kept = table[list(series.columns)].apply(lambda column: _numeric(column, path))
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
    return int(np.ceil(2 * window / SHARES[0]))


def _numeric(column: pd.Series, path: Path) -> pd.Series:
    """The column as numbers.

    Raises:
        DataError: Names the first line that is none.
    """
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce")
    bad = ~np.isfinite(numbers.to_numpy(np.float64))
    if bad.any():
        line = int(np.argmax(bad))
        received = "nothing" if pd.isna(column[line]) else repr(column[line])
        raise DataError(
            f"{path.name}, line {line + 2}: {column.name} must be a number at every step. Received: {received}. "
            "Fill the gap, or start after it."
        )
    if numbers.nunique() < 2:
        raise DataError(f"{path.name}: {column.name} is always {numbers[0]:g}. Leave it out of --column.")
    return numbers.astype(np.float64)


def _task(
    table: pd.DataFrame, kept: pd.DataFrame, series: SeriesOptions, options: Options, path: Path
) -> SequenceForecast:
    units = dict(series.units)
    like = options.like if isinstance(options.like, SequenceForecast) else None
    known = {channel.name: channel for channel in like.channels} if like else {}
    channels = []
    for name in series.columns:
        low, high = source.widened(kept[name].to_numpy())
        before = known.get(name)
        if before:
            low, high = min(low, before.low), max(high, before.high)
        unit = units.get(name) or (before.unit if before else None)
        channels.append(Number(name=name, unit=unit, low=low, high=high))
    step = series.step or _step(table, path) or (like.step if like else "step")
    options.say(f"{series.columns[0]}: {series.horizon} of {len(kept):,} steps of {step} ahead, from {series.lookback}")
    return SequenceForecast(
        channels=tuple(channels),
        target=series.columns[0],
        lookback=series.lookback,
        horizon=series.horizon,
        unit=channels[0].unit or "",
        step=step,
    )


def _step(table: pd.DataFrame, path: Path) -> str | None:
    """ISO 8601 duration between two lines, from the first column of texts that are all times.

    Raises:
        DataError: The times are not evenly spaced.
    """
    import pandas as pd

    for name in table.columns:
        column = table[name]
        if column.isna().any() or pd.to_numeric(column, errors="coerce").notna().any():
            continue
        try:
            times = pd.to_datetime(column, format="ISO8601", utc=True)
        except ValueError:
            continue
        steps = times.diff().dropna()
        uneven = (steps != steps.iloc[0]).to_numpy()
        if uneven.any():
            first = int(np.argmax(uneven))
            raise DataError(
                f"{path.name}, line {first + 3}: {name} must be {steps.iloc[0]} after the line before. Received: "
                f"{steps.iloc[first]}. Fill the gap or remove the line, or say --step to count lines only."
            )
        return _iso(int(steps.iloc[0].total_seconds()))
    return None


def _iso(seconds: int) -> str | None:
    """`PT1H` for 3600."""
    for size, form in ((86_400, "P{}D"), (3_600, "PT{}H"), (60, "PT{}M"), (1, "PT{}S")):
        if seconds > 0 and seconds % size == 0:
            return form.format(seconds // size)
    return None


def _schema(task: SequenceForecast) -> pa.DataFrameSchema:
    import pandera.pandas as pa

    return pa.DataFrameSchema({c.name: pa.Column(float, pa.Check.in_range(c.low, c.high)) for c in task.channels})


def _split(task: SequenceForecast, raw: Raw, config: TrainConfig) -> Split:
    """In time order; validation and test windows look back across their border, and forecast on their own side."""
    steps = raw.table[[channel.name for channel in task.channels]].to_numpy(np.float32)
    borders = [0, *(int(share * len(steps)) for share in SHARES), len(steps)]
    return Split(
        *(
            _windows(task, steps[max(0, start - task.lookback) : end]).take(slice(config.limit))
            for start, end in pairwise(borders)
        )
    )


def _windows(task: SequenceForecast, steps: np.ndarray) -> Part:
    """Every stretch of look-back and horizon, stride 1: rows (n, lookback, channels) and values (n, horizon)."""
    target = [channel.name for channel in task.channels].index(task.target)
    view = np.lib.stride_tricks.sliding_window_view(steps, task.lookback + task.horizon, axis=0)
    both = np.moveaxis(view, -1, 1)
    rows, values = both[:, : task.lookback], both[:, task.lookback :, target]
    return Part(np.ascontiguousarray(rows), np.ascontiguousarray(values))
