"""A CSV file with one labelled step a line -> a data set of stretches and their classes.

Without a column that tells series apart, the file is one series: each window has the label of its last step, and the
parts follow each other in time. With one, each series has one label, and the parts share no series.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.task import SequenceClassification
from training.datasets import DataError, DataSet, Raw
from training.own import source, steps
from training.own.labels import labels_of
from training.own.source import Options
from training.split import Part, Split

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

    from training.config import TrainConfig

LEAST_OF_A_CLASS = 8


@dataclass(frozen=True)
class LabelledOptions:
    """What a user says of the labelled steps.

    Attributes:
        columns: Channels.
        label: Column of the classes.
        lookback: Steps that the model sees.
        series: Column that tells series apart; all lines are one series where it is None.
        step: Time between two lines of a series, an ISO 8601 duration; found in a column of times where it is None.
        units: Column to unit.
    """

    columns: tuple[str, ...]
    label: str
    lookback: int
    series: str | None = None
    step: str | None = None
    units: tuple[tuple[str, str], ...] = ()


def read_labelled(path: Path, labelled: LabelledOptions, options: Options) -> tuple[DataSet, Raw]:
    """A CSV file as a data set.

    Args:
        path: UTF-8, comma-separated, with a header, oldest line of a series first.
        labelled: Which columns, and the windows.
        options: See `Options`.

    Raises:
        DataError: A value is missing or no number, times are uneven, a series has two labels, or a class has too few
            windows or series.
    """
    table = source.read_text_table(path)
    for name in (*labelled.columns, *dict(labelled.units)):
        source.require_column(table, name, "--column", path)
    source.require_column(table, labelled.label, "--label", path)
    if labelled.label in labelled.columns:
        raise DataError(f"{labelled.label} is the label: leave it out of --column.")
    kept = table[list(labelled.columns)].apply(lambda column: steps.numeric(column, path))
    kept[labelled.label] = table[labelled.label]
    if labelled.series is not None:
        source.require_column(table, labelled.series, "--series", path)
        kept[labelled.series] = table[labelled.series]
        kept = _whole_series(kept, labelled, options, path)
    task = _task(table, kept, labelled, options, path)
    split = partial(_split_series, task, labelled) if labelled.series else partial(_split_in_time, task, labelled, path)
    data = source.data_set(
        path,
        (source.file(path),),
        task,
        options,
        read=lambda paths: read_labelled(next(iter(paths.values())), labelled, options)[1],
        schema=partial(_schema, task, labelled),
        split=split,
    )
    return data, Raw(kept)


def _whole_series(kept: pd.DataFrame, labelled: LabelledOptions, options: Options, path: Path) -> pd.DataFrame:
    """The lines of series that are long enough.

    Raises:
        DataError: A line without a series or label, or a series with two labels.
    """
    assert labelled.series is not None  # noqa: S101 - only called where there is one
    for name in (labelled.series, labelled.label):
        if kept[name].isna().any():
            line = int(kept[name].isna().to_numpy().argmax())
            raise DataError(
                f"{path.name}, line {line + 2}: {name} must be there at every step of a series. Fill it in."
            )
    first = kept.groupby(labelled.series)[labelled.label].transform("first")
    other = (kept[labelled.label] != first).to_numpy()
    if other.any():
        line = int(other.argmax())
        raise DataError(
            f"{path.name}, line {line + 2}: {labelled.label} must be one for a whole series. Received: "
            f"{kept[labelled.label].iloc[line]!r} in {kept[labelled.series].iloc[line]!r}, which began with "
            f"{first.iloc[line]!r}. Correct it, or leave --series out: then each window has its last step's label."
        )
    lengths = kept.groupby(labelled.series)[labelled.label].transform("size")
    short = kept.loc[lengths < labelled.lookback, labelled.series].nunique()
    if short:
        options.say(f"left out: {short} series shorter than {labelled.lookback} steps")
    if (lengths < labelled.lookback).all():
        raise DataError(f"{path.name}: no series has {labelled.lookback} steps. Use a shorter --lookback.")
    return kept[lengths >= labelled.lookback].reset_index(drop=True)


def _task(
    table: pd.DataFrame, kept: pd.DataFrame, labelled: LabelledOptions, options: Options, path: Path
) -> SequenceClassification:
    label = kept[labelled.label]
    # A series counts once, else each labelled step.
    one_each = label.groupby(kept[labelled.series]).first() if labelled.series else label.dropna()
    counts = labels_of(one_each.rename(labelled.label), options.like, remedy="Check --label.")
    what = "series" if labelled.series else "steps"
    if labelled.series:
        source.require_rows(counts, LEAST_OF_A_CLASS, "series of class")
    step = steps.step_of(table, labelled.step, options, path, series=labelled.series)
    options.say(
        f"{labelled.label}: {', '.join(f'{x} x {counts[x]:,}' for x in counts)} {what}, "
        f"from {labelled.lookback} steps of {step}"
    )
    return SequenceClassification(
        channels=steps.channels(kept, labelled.columns, dict(labelled.units), options),
        lookback=labelled.lookback,
        step=step,
        labels=tuple(counts),
    )


def _schema(task: SequenceClassification, labelled: LabelledOptions) -> pa.DataFrameSchema:
    import pandera.pandas as pa

    columns = steps.channel_checks(task)
    columns[labelled.label] = pa.Column(str, pa.Check.isin(task.labels), nullable=labelled.series is None)
    return pa.DataFrameSchema(columns)


def _arrays(task: SequenceClassification, labelled: LabelledOptions, raw: Raw) -> tuple[np.ndarray, np.ndarray]:
    """Steps (n, channels), float32, and their class numbers (n,), -1 where there is no label."""
    codes = raw.table[labelled.label].map({label: code for code, label in enumerate(task.labels)})
    values = raw.table[[channel.name for channel in task.channels]].to_numpy(np.float32)
    return values, codes.fillna(-1).to_numpy(np.int64)


def _split_in_time(
    task: SequenceClassification, labelled: LabelledOptions, path: Path, raw: Raw, config: TrainConfig
) -> Split:
    """In time order; no step lies in two parts, and a step without a label ends no window."""
    values, codes = _arrays(task, labelled, raw)
    borders = [0, *(int(share * len(values)) for share in steps.SHARES), len(values)]
    parts = []
    for (start, end), name in zip(pairwise(borders), ("training", "validation", "test"), strict=True):
        if end - start < task.lookback:
            raise DataError(
                f"{path.name} has {len(values)} steps, of which {name} gets {end - start}: fewer than the "
                f"{task.lookback} of one window. Use a shorter --lookback, or more data."
            )
        windows = steps.stretches(values[start:end], task.lookback)
        last = codes[start + task.lookback - 1 : end]
        known = last >= 0
        parts.append(Part(np.ascontiguousarray(windows[known]), last[known]).take(slice(config.limit)))
    for part, name, least in zip(parts, ("training", "validation", "test"), (LEAST_OF_A_CLASS, 1, 1), strict=True):
        counts = np.bincount(part.values, minlength=len(task.labels))
        if counts.min() < least:
            raise DataError(
                f"{path.name}: {task.labels[counts.argmin()]!r} ends {counts.min()} of the {name} windows, at least "
                f"{least} must be. The parts follow each other in time (60, 20 and 20 %): take a longer or later "
                "stretch of the data, empty the labels of a class that is too rare, or name series with --series."
            )
    return Split(*parts)


def _split_series(task: SequenceClassification, labelled: LabelledOptions, raw: Raw, config: TrainConfig) -> Split:
    """By series, each class in each part; a longer series gives several windows, counted from its end.

    A series is known by its name: it stays a test series when others come, or when it grows.
    """
    values, codes = _arrays(task, labelled, raw)
    lines = {_key(str(name)): found for name, found in raw.table.groupby(labelled.series, sort=True).indices.items()}
    series = Part(np.array(list(lines)), np.array([codes[found[0]] for found in lines.values()]))

    def windows(part: Part) -> Part:
        rows, labels = [], []
        for key, label in zip(part.rows.tolist(), part.values, strict=True):
            count = len(lines[key]) // task.lookback
            chosen = values[lines[key][-count * task.lookback :]]
            rows.append(chosen.reshape(count, task.lookback, -1))
            labels += [label] * count
        return Part(np.concatenate(rows), np.array(labels))

    split = source.random_split(series, config, stratify=True)
    return Split(windows(split.train), windows(split.validation), windows(split.test))


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "little")
