"""What all data of a user's own share: where it lies, its hash, how it is parted, and what must not change silently."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.datasets import DataError, DataSet, File, Raw
from training.fingerprints import shares
from training.split import Part, Split, hold_out

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

    from models.task import Task
    from training.config import TrainConfig

LICENCE = "the user's own"
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Options:
    """What a user says of the data beside where it lies.

    Attributes:
        command: The words of the command line that say all this.
        share_rows: Put rows of the data into the bundle, as golden rows and example; otherwise they are made up.
        like: Task of the version that the new one is to replace: its ranges, vocabularies and order are kept.
        say: Gets a line for a person about each thing that was decided.
    """

    command: tuple[str, ...] = ()
    share_rows: bool = False
    like: Task | None = None
    say: Callable[[str], None] = field(default=print, compare=False)


def location(path: Path) -> str:
    """Where data lies as the lineage may say it: as given if relative, else without the folders of this machine."""
    return path.name if path.is_absolute() else path.as_posix()


def file(path: Path, name: str = "") -> File:
    """One file with its hash.

    Raises:
        DataError: It cannot be read.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{location(path)} cannot be read: {error.strerror}. Check --data.") from None
    return File(name or path.name, digest, url="", download_hash=f"sha256:{digest}")


def data_set(
    path: Path,
    files: tuple[File, ...],
    task: Task,
    options: Options,
    *,
    read: Callable[[Mapping[str, Path]], Raw],
    schema: Callable[[], pa.DataFrameSchema],
    split: Callable[[Raw, TrainConfig], Split],
) -> DataSet:
    """A user's file or folder as the pipeline takes known sets; its rows are passed on only if the user says so."""
    return DataSet(
        name=path.stem if path.is_file() else path.name,
        title=path.name,
        licence=LICENCE,
        derivatives=options.share_rows,
        files=files,
        package=None,
        task=task,
        read=read,
        engineer=lambda raw: raw,
        schema=schema,
        split=split,
        options=options.command,
    )


def read_text_table(path: Path) -> pd.DataFrame:
    """Every cell of a CSV file with a header, or of a Parquet file, as its text; what stands for a gap is missing.

    Raises:
        DataError: Not such a file, or a header with an empty or repeated name.
    """
    import pandas as pd

    from models.task.fields import BLANKS

    if path.suffix == ".parquet":
        return _read_parquet(path)
    try:
        with warnings.catch_warnings():
            # A line longer than the header would be cut with a warning only.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path, dtype=str, encoding="utf-8-sig", keep_default_na=False, na_values=list(BLANKS), index_col=False
            )
        header = pd.read_csv(path, dtype=str, header=None, nrows=1, encoding="utf-8-sig", keep_default_na=False)
    except OSError as error:
        raise DataError(f"{location(path)} cannot be read: {error.strerror}. Check --data.") from None
    except (ValueError, UnicodeDecodeError, pd.errors.ParserWarning) as error:  # pandas' parser errors are ValueErrors
        reason = " ".join(str(error).split())
        raise DataError(f"{path.name} must be a CSV file with a header, in UTF-8: {reason}. Convert it.") from None
    names = list(header.iloc[0])
    wrong = next((name for name in names if not name.strip() or names.count(name) > 1), None)
    if wrong is not None:
        rule = "is there twice" if wrong.strip() else "is empty"
        raise DataError(f"{path.name}: each column needs a name of its own; {wrong!r} {rule}. Rename it.")
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    """The same of a Parquet file of plain columns.

    Raises:
        DataError: Not such a file, a column of lists or the like, or nothing is there that could read it.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise DataError(f"{path.name}: Parquet files need the package pyarrow. Install the extra `capture`.") from None
    try:
        # Opened here: given a path, pyarrow would look for folders and other file systems.
        with path.open("rb") as file:
            found = pq.read_table(file)
    except OSError as error:
        raise DataError(f"{location(path)} cannot be read: {error}. Check --data.") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"{path.name} must be a Parquet file: {' '.join(str(error).split())}. Convert it.") from None
    nested = next((column.name for column in found.schema if pa.types.is_nested(column.type)), None)
    if nested is not None:
        raise DataError(f"{path.name}: each column holds numbers or texts; {nested!r} holds lists. Write it flat.")
    table: pd.DataFrame = found.to_pandas()
    text: pd.DataFrame = table.astype(object).where(table.notna(), None).map(str, na_action="ignore")
    return text


def require_column(table: pd.DataFrame, name: str, option: str, path: Path) -> None:
    """Refuse a name that is no column.

    Raises:
        DataError: Lists the columns.
    """
    if name not in table.columns:
        known = ", ".join(map(str, table.columns))
        raise DataError(f"{path.name} has no column {name!r}. Its columns: {known}. Correct {option}.")


def random_split(whole: Part, config: TrainConfig, *, stratify: bool) -> Split:
    """About a fifth for test, chosen by the rows themselves; of the rest the configuration's share for validation.

    A test row stays one whatever rows come or go beside it, so that a version that is trained on grown data can be
    judged on rows that neither it nor the version before it was trained on.

    Args:
        whole: All rows.
        config: Its seed decides the validation rows only, so that seeds and recipes compare on the same test rows.
        stratify: Give validation the same shares of each class, and test at least one row of each.
    """
    for_test = _for_test(shares(whole.rows), whole.values if stratify else np.zeros(len(whole)))
    rest, test = whole.take(~for_test), whole.take(for_test)
    train, validation = hold_out(rest.take(slice(config.limit)), config.validation, seed=config.seed, stratify=stratify)
    return Split(train, validation, test.take(slice(config.limit)))


def _for_test(share: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Which rows have a share below `TEST_SHARE`; where that is too few or too many of a group, its lowest ones."""
    chosen = np.zeros(len(share), bool)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        count = int((share[rows] < TEST_SHARE).sum())
        count = min(max(count, 1, len(rows) // 10), len(rows) // 3)
        chosen[rows[np.argsort(share[rows], kind="stable")[:count]]] = True
    return chosen


def require_rows(counts: dict[str, int], least: int, what: str) -> None:
    """Refuse a class with too few rows to part.

    Raises:
        DataError: Names the first one.
    """
    for label, count in counts.items():
        if count < least:
            raise DataError(
                f"{what} {label!r} has {count} row{'s' if count != 1 else ''}; each needs at least {least}, for "
                "training, validation and test. Add rows, or leave the class out."
            )


def widened(values: np.ndarray) -> tuple[float, float]:
    """A range that new values fit into: wider by half of the data's own range at each end, in round numbers.

    What is never below 0 stays so.

    Args:
        values: Finite, not all the same.
    """
    low, high = float(values.min()), float(values.max())
    room = (high - low) / 2
    step = 10.0 ** (math.floor(math.log10(room)) - 1)
    first = max(0.0, low - room) if low >= 0 else low - room
    return float(f"{math.floor(first / step) * step:.9g}"), float(f"{math.ceil((high + room) / step) * step:.9g}")
