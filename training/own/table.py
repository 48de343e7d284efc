"""A CSV file with a target column -> a data set of records: its schema, its task, its rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from models.task import Category, Number, Records, TabularClassification, TabularRegression
from training.datasets import DataError, DataSet, Raw
from training.own import source
from training.own.labels import labels_of, natural
from training.own.source import Options
from training.split import Part

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

    from training.config import TrainConfig
    from training.split import Split

MOST_VALUES = 100
"""A text column with more values is left out; a number is no category by itself, however few values it has."""
MOST_CLASSES = 10
"""A target of so few whole numbers is taken for classes."""
LEAST_ROWS = 50
LEAST_OF_A_CLASS = 8

Kind = Literal["regression", "classification"]


@dataclass(frozen=True)
class TableOptions:
    """What a user may say of the columns.

    Attributes:
        target: The column that is predicted.
        task: Regression or classification; chosen from the target column where it is None.
        ignore: Columns that are left out.
        categories: Columns of numbers that are names of something.
        units: Column to unit.
    """

    target: str
    task: Kind | None = None
    ignore: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    units: tuple[tuple[str, str], ...] = ()


def read_table(path: Path, columns: TableOptions, options: Options) -> tuple[DataSet, Raw]:
    """A CSV file as a data set.

    Args:
        path: UTF-8, comma-separated, with a header.
        columns: What they mean.
        options: See `Options`.

    Raises:
        DataError: The file, a column or a class cannot be trained on; the message says the remedy.
    """
    table = source.read_text_table(path)
    source.require_column(table, columns.target, "--target", path)
    named = [*columns.ignore, *columns.categories, *dict(columns.units)]
    for name in named:
        source.require_column(table, name, "the option that names it", path)
    blank = int(table[columns.target].isna().sum())
    if blank:
        options.say(f"left out: {blank} rows without {columns.target}")
        table = table[table[columns.target].notna()].reset_index(drop=True)
    if len(table) < LEAST_ROWS:
        raise DataError(f"{path.name} has {len(table)} rows with a target; at least {LEAST_ROWS} are needed.")
    fields = _fields(table, columns, options)
    like = options.like if isinstance(options.like, Records) else None
    fields = _in_order(fields, like)
    task = _task(table[columns.target], fields, columns, options)
    kept = table[[*task.names, columns.target]]
    for field in task.fields:
        if isinstance(field, Number):
            kept = kept.assign(**{field.name: kept[field.name].astype(float)})
    if isinstance(task, TabularRegression):
        kept = kept.assign(**{columns.target: kept[columns.target].astype(float)})
    data = source.data_set(
        path,
        (source.file(path),),
        task,
        options,
        read=lambda paths: read_table(next(iter(paths.values())), columns, options)[1],
        schema=partial(_schema, task),
        split=partial(_split, task),
    )
    return data, Raw(kept)


def _fields(table: pd.DataFrame, columns: TableOptions, options: Options) -> list[Number | Category]:
    """A field a column that can be one; says which are left out and why."""
    fields: list[Number | Category] = []
    units = dict(columns.units)
    for name in table.columns:
        if name == columns.target or name in columns.ignore:
            continue
        present = table[name].dropna()
        like = _like(options, name)
        values = present.unique()
        if len(values) < 2 and like is None:
            options.say(f"left out: {name}, which has {len(values)} value")
            continue
        missing = len(present) < len(table) or bool(like and like.missing)
        numbers = None if name in columns.categories or isinstance(like, Category) else _numbers(present)
        if numbers is not None:
            low, high = source.widened(numbers) if len(set(numbers)) > 1 else (numbers[0], numbers[0])
            unit = units.get(name)
            if isinstance(like, Number):
                low, high, unit = min(low, like.low), max(high, like.high), unit or like.unit
            fields.append(Number(name=name, unit=unit, low=low, high=high, missing=missing))
        elif len(values) > MOST_VALUES and not isinstance(like, Category):
            options.say(f"left out: {name}, which has {len(values)} different texts (at most {MOST_VALUES})")
        else:
            known = like.values if isinstance(like, Category) else ()
            # New values come last, so that the codes of the known ones stay.
            vocabulary = (*known, *sorted(set(values) - set(known), key=natural))
            fields.append(Category(name=name, values=vocabulary, missing=missing))
    if not fields:
        raise DataError("no column is left to predict from: each one is constant, free text or ignored. Add a column.")
    return fields


def _like(options: Options, name: str) -> Number | Category | None:
    """The field of that name in the version that is to be replaced."""
    if not isinstance(options.like, Records):
        return None
    return next((field for field in options.like.fields if field.name == name), None)


def _in_order(fields: list[Number | Category], like: Records | None) -> list[Number | Category]:
    """In the order of the version that is to be replaced; what it does not know comes last."""
    known = like.names if like else ()
    return sorted(fields, key=lambda field: known.index(field.name) if field.name in known else len(known))


def _numbers(column: pd.Series) -> np.ndarray | None:
    """The column as finite numbers, or None where a text is none."""
    try:
        numbers = column.to_numpy(dtype=str).astype(np.float64)
    except ValueError:
        return None
    return numbers if len(numbers) and np.isfinite(numbers).all() else None


def _task(
    target: pd.Series, fields: list[Number | Category], columns: TableOptions, options: Options
) -> TabularRegression | TabularClassification:
    numbers = _numbers(target)
    kind = columns.task or _kind(target, numbers)
    said = "as --task says" if columns.task else "--task overrides"
    if kind == "regression":
        if numbers is None:
            text = next(value for value in target if _numbers(target[target == value]) is None)
            raise DataError(
                f"{columns.target}: a regression needs numbers. Received: {text!r}. Use --task classification."
            )
        if len(set(numbers)) < 2:
            raise DataError(f"{columns.target} is always {target.iloc[0]}: there is nothing to learn. Check --target.")
        options.say(f"{columns.target}: regression, {numbers.min():g} to {numbers.max():g} ({said})")
        unit = dict(columns.units).get(columns.target)
        if unit is None:
            unit = options.like.unit if isinstance(options.like, TabularRegression) else ""
        return TabularRegression(fields=tuple(fields), target=columns.target, unit=unit)
    counts = labels_of(target, options.like, remedy="Check --target, or use --task regression.")
    source.require_rows(counts, LEAST_OF_A_CLASS, "class")
    labels = tuple(counts)
    options.say(f"{columns.target}: classification, {', '.join(f'{x} x {counts[x]:,}' for x in labels)} ({said})")
    return TabularClassification(fields=tuple(fields), target=columns.target, labels=labels)


def _kind(target: pd.Series, numbers: np.ndarray | None) -> Kind:
    if numbers is None:
        return "classification"
    whole = bool((numbers == np.round(numbers)).all())
    return "classification" if whole and target.nunique() <= MOST_CLASSES else "regression"


def _schema(task: TabularRegression | TabularClassification) -> pa.DataFrameSchema:
    import pandera.pandas as pa

    columns = {}
    for field in task.fields:
        check = pa.Check.in_range(field.low, field.high) if isinstance(field, Number) else pa.Check.isin(field.values)
        kind = float if isinstance(field, Number) else str
        columns[field.name] = pa.Column(kind, check, nullable=field.missing)
    labels = pa.Check.isin(task.labels) if isinstance(task, TabularClassification) else None
    columns[task.target] = pa.Column(float if labels is None else str, labels)
    return pa.DataFrameSchema(columns)


def _split(task: TabularRegression | TabularClassification, raw: Raw, config: TrainConfig) -> Split:
    columns = [
        raw.table[field.name].to_numpy(np.float32)
        if isinstance(field, Number)
        else raw.table[field.name].map({value: float(i) for i, value in enumerate(field.values)}).to_numpy(np.float32)
        for field in task.fields
    ]
    rows = np.stack(columns, axis=1)
    if isinstance(task, TabularClassification):
        values = raw.table[task.target].map({label: i for i, label in enumerate(task.labels)}).to_numpy(np.int64)
    else:
        values = raw.table[task.target].to_numpy(np.float32)
    return source.random_split(Part(rows, values), config, stratify=isinstance(task, TabularClassification))
