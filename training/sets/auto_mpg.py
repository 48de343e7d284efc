"""Auto MPG: fuel economy of 398 cars of 1970 to 1982; the split is the Keras tutorial's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.task import Category, Number, TabularRegression
from training.datasets import DataError, DataSet, File, Raw
from training.split import Part, Split, hold_out

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

    from training.config import TrainConfig


def read_csv(path: Path) -> pd.DataFrame:
    """Table of a CSV file with a header.

    Raises:
        DataError: Not such a file.
    """
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{path.name} must be a CSV file with a header: {' '.join(str(error).split())}") from None


def read(paths: Mapping[str, Path]) -> Raw:
    """All columns, as they are."""
    return Raw(read_csv(paths["mpg.csv"]))


def engineer(raw: Raw) -> Raw:
    """Leaves out the cars without horsepower, which the set leaves blank, and the cars' names."""
    table = raw.table
    if "horsepower" in table:
        table = table[table["horsepower"].notna()]
    return Raw(table.drop(columns="name", errors="ignore"))


def schema() -> pa.DataFrameSchema:
    """The task's own ranges and vocabulary, and a positive target."""
    import pandera.pandas as pa

    columns = {TASK.target: pa.Column(float, pa.Check.in_range(1, 100), coerce=True)}
    for field in TASK.fields:
        if isinstance(field, Number):
            columns[field.name] = pa.Column(float, pa.Check.in_range(field.low, field.high), coerce=True)
        else:
            columns[field.name] = pa.Column(str, pa.Check.isin(field.values))
    return pa.DataFrameSchema(columns)


def split(raw: Raw, config: TrainConfig) -> Split:
    """`sample(frac=0.8, random_state=0)` for training, the rest for test: the tutorial's, whatever the seed."""
    chosen = raw.table.sample(frac=0.8, random_state=0)
    train, test = _part(chosen), _part(raw.table.drop(chosen.index))
    train, test = train.take(slice(config.limit)), test.take(slice(config.limit))
    return Split(*hold_out(train, config.validation, seed=config.seed, stratify=False), test)


def _part(table: pd.DataFrame) -> Part:
    columns = [
        table[field.name] if isinstance(field, Number) else table[field.name].map(field.values.index)
        for field in TASK.fields
    ]
    rows = np.stack([column.to_numpy(np.float32) for column in columns], axis=1)
    return Part(rows, table[TASK.target].to_numpy(np.float32))


# Ranges: what a road car can have, wider than what the set holds.
TASK = TabularRegression(
    fields=(
        Number(name="cylinders", unit=None, low=1, high=16, description="number of cylinders"),
        Number(name="displacement", unit="in3", low=20, high=800, description="engine displacement, cubic inches"),
        Number(name="horsepower", unit="hp", low=10, high=600, description="engine power"),
        Number(name="weight", unit="lb", low=800, high=9000, description="vehicle weight"),
        Number(name="acceleration", unit="s", low=2, high=60, description="seconds from 0 to 60 mph"),
        Number(name="model_year", unit=None, low=60, high=99, description="last two digits of the model year"),
        Category(name="origin", values=("usa", "europe", "japan"), description="where the maker is"),
    ),
    target="mpg",
    unit="mpg",
)

DATA_SET = DataSet(
    name="auto-mpg",
    title="Auto MPG",
    licence="CC BY 4.0, https://archive.ics.uci.edu/dataset/9/auto+mpg",
    derivatives=True,
    files=(
        File(
            "mpg.csv",
            "c14b8b855ea7ee86cb9736bf8caaf281c4685ca08826f3eb2acaccaaf40f0d5a",
            "https://raw.githubusercontent.com/mwaskom/seaborn-data/master/mpg.csv",
            "sha256:c14b8b855ea7ee86cb9736bf8caaf281c4685ca08826f3eb2acaccaaf40f0d5a",
        ),
    ),
    package=None,
    task=TASK,
    read=read,
    engineer=engineer,
    schema=schema,
    split=split,
)
