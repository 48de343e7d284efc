"""ETTh1: hourly oil temperature of a power transformer, 2016-07 to 2018-06; borders are the publications'."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.task import Number, SequenceForecast
from training.datasets import DataSet, File, Raw
from training.sets.auto_mpg import read_csv
from training.split import Part, Split

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

    from training.config import TrainConfig

BORDERS = (0, 8640, 11520, 14400)
"""Where training, validation and test start, and where test ends: 12, 4 and 4 months of 30 days."""


def read(paths: Mapping[str, Path]) -> Raw:
    """All columns, as they are."""
    return Raw(read_csv(paths["ETTh1.csv"]))


def engineer(raw: Raw) -> Raw:
    """Keeps the time and the target: the other six series made every forecast worse."""
    kept = [column for column in ("date", TASK.target) if column in raw.table]
    return Raw(raw.table[kept])


def schema() -> pa.DataFrameSchema:
    """Hourly without a gap, temperatures within the task's range."""
    import pandas as pd
    import pandera.pandas as pa

    def hourly(dates: pd.Series) -> pd.Series:
        return dates.diff().fillna(pd.Timedelta(hours=1)) == pd.Timedelta(hours=1)

    channel = TASK.channels[0]
    return pa.DataFrameSchema(
        {
            "date": pa.Column("datetime64[ns]", pa.Check(hourly, error="one hour after the row before"), coerce=True),
            channel.name: pa.Column(float, pa.Check.in_range(channel.low, channel.high), coerce=True),
        }
    )


def split(raw: Raw, config: TrainConfig) -> Split:
    """In time order at `BORDERS`; validation and test windows look back across their border, as published ones do.

    A shorter series is cut at the same shares. The validation share of the configuration is not used.
    """
    series = raw.table[TASK.target].to_numpy(np.float32)
    length = min(len(series), BORDERS[-1])
    starts = [border * length // BORDERS[-1] for border in BORDERS]
    parts = [
        windows(series[max(0, start - TASK.lookback) : end]).take(slice(config.limit))
        for start, end in pairwise(starts)
    ]
    return Split(*parts)


def windows(series: np.ndarray) -> Part:
    """Every stretch of look-back and horizon, stride 1.

    Args:
        series: (steps,), raw units.

    Returns:
        Rows (n, lookback, 1) and values (n, horizon).
    """
    both = np.lib.stride_tricks.sliding_window_view(series, TASK.lookback + TASK.horizon)
    rows, values = np.split(both, [TASK.lookback], axis=1)
    return Part(np.ascontiguousarray(rows)[..., np.newaxis], np.ascontiguousarray(values))


TASK = SequenceForecast(
    channels=(Number(name="OT", unit="degC", low=-40, high=120, description="oil temperature"),),
    target="OT",
    lookback=96,
    horizon=24,
    unit="degC",
    step="PT1H",
)

DATA_SET = DataSet(
    name="etth1",
    title="ETTh1",
    licence="CC BY-ND 4.0, https://github.com/zhouhaoyi/ETDataset",
    derivatives=False,
    files=(
        File(
            "ETTh1.csv",
            "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
            "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv",
            "sha256:f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
        ),
    ),
    package=None,
    task=TASK,
    read=read,
    engineer=engineer,
    schema=schema,
    split=split,
)
