"""What a series' CSV file must hold whatever is learned from it: a number at every step, evenly in time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from models.task import Number, Sequences
from training.datasets import DataError
from training.own import source
from training.own.source import Options

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

SHARES = (0.6, 0.8)
"""Where validation and test begin, as a share of the steps in time order."""


def numeric(column: pd.Series, path: Path) -> pd.Series:
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


def channels(
    kept: pd.DataFrame, columns: tuple[str, ...], units: dict[str, str], options: Options
) -> tuple[Number, ...]:
    """A channel a column; ranges and units of the version that is to be replaced stay.

    Args:
        kept: The columns as numbers.
        columns: In order.
        units: Column to unit.
        options: See `Options`.
    """
    like = options.like if isinstance(options.like, Sequences) else None
    known = {channel.name: channel for channel in like.channels} if like else {}
    found = []
    for name in columns:
        low, high = source.widened(kept[name].to_numpy())
        before = known.get(name)
        if before:
            low, high = min(low, before.low), max(high, before.high)
        unit = units.get(name) or (before.unit if before else None)
        found.append(Number(name=name, unit=unit, low=low, high=high))
    return tuple(found)


def step_of(table: pd.DataFrame, said: str | None, options: Options, path: Path, *, series: str | None = None) -> str:
    """ISO 8601 duration between two lines: as said, or of the first column of texts that are all times.

    Args:
        table: Every cell as its text.
        said: By the user; then times are not looked at.
        options: See `Options`.
        path: Of the file.
        series: Column that tells series apart; time passes within each one.

    Returns:
        `step` where nothing says how long one is.

    Raises:
        DataError: The times are not evenly spaced.
    """
    like = options.like if isinstance(options.like, Sequences) else None
    return said or _timed(table, path, series) or (like.step if like else "step")


def _timed(table: pd.DataFrame, path: Path, series: str | None) -> str | None:
    import pandas as pd

    for name in table.columns:
        column = table[name]
        if name == series or column.isna().any() or pd.to_numeric(column, errors="coerce").notna().any():
            continue
        try:
            times = pd.to_datetime(column, format="ISO8601", utc=True)
        except ValueError:
            continue
        passed = (times.groupby(table[series]) if series else times).diff().dropna()
        steps = cast("pd.Series[pd.Timedelta]", passed)
        uneven = (steps != steps.iloc[0]).to_numpy()
        if uneven.any():
            first = int(np.argmax(uneven))
            raise DataError(
                f"{path.name}, line {steps.index[first] + 2}: {name} must be {steps.iloc[0]} after the line before. "
                f"Received: {steps.iloc[first]}. Fill the gap or remove the line, or say --step to count lines only."
            )
        return _iso(int(steps.iloc[0].total_seconds()))
    return None


def _iso(seconds: int) -> str | None:
    """`PT1H` for 3600."""
    for size, form in ((86_400, "P{}D"), (3_600, "PT{}H"), (60, "PT{}M"), (1, "PT{}S")):
        if seconds > 0 and seconds % size == 0:
            return form.format(seconds // size)
    return None


def channel_checks(task: Sequences) -> dict[str, pa.Column]:
    """Each channel's column: numbers within its range."""
    import pandera.pandas as pa

    return {c.name: pa.Column(float, pa.Check.in_range(c.low, c.high)) for c in task.channels}


def stretches(steps: np.ndarray, length: int) -> np.ndarray:
    """Every stretch of that length, stride 1, oldest first: (n, length, channels), a view of (steps, channels)."""
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(steps, length, axis=0), -1, 1)
