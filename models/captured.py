"""Rows and answers as a table: how requests are captured in Parquet files, and how they become data to train on.

One file holds rows of one version; its schema's metadata has the version's task. Columns whose name begins with an
underscore are about the request and the answer; the others are the input as people know it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.pictures import png
from models.task import Category, Classes, ImageClassification, Records, Task

TASK = b"keras_serving.task"
"""Key of the task's JSON in a file's metadata."""
REQUEST_ID, ROW, TIME, VERSION, ALIAS = "_request_id", "_row", "_time", "_version", "_alias"
TRUTH = "_truth"
PICTURE = "picture"


def input_columns(task: Task, rows: NDArray[Any]) -> dict[str, list[Any]]:
    """The rows by column: fields of records, a list a channel of series, or PNG files.

    Args:
        task: Of the version.
        rows: (n, ...), as the model takes them.
    """
    if isinstance(task, ImageClassification):
        return {PICTURE: [png(row) for row in rows]}
    if isinstance(task, Records):
        return {field.name: _column(field, rows[:, place]) for place, field in enumerate(task.fields)}
    return {channel.name: rows[:, :, place].tolist() for place, channel in enumerate(task.channels)}


def output_columns(task: Task, outputs: NDArray[np.float32]) -> dict[str, list[Any]]:
    """The answers by column: label and confidence, or value and its interval's ends (of forecasts a list a row)."""
    if isinstance(task, Classes):
        return {
            "_label": [task.labels[best] for best in outputs.argmax(axis=1)],
            "_confidence": outputs.max(axis=1).tolist(),
        }
    return {name: outputs[..., place].tolist() for place, name in enumerate(("_value", "_low", "_high"))}


def with_truth(
    columns: Mapping[str, list[Any]], truths: Mapping[tuple[str, int], Any], target: str
) -> dict[str, list[Any]]:
    """The input columns of those rows of which the truth is known, with the truth as a column named ``target``."""
    keys = list(zip(columns[REQUEST_ID], columns[ROW], strict=True))
    known = [place for place, key in enumerate(keys) if key in truths]
    found = {name: [values[i] for i in known] for name, values in columns.items() if not name.startswith("_")}
    return found | {target: [truths[keys[i]] for i in known]}


def _column(field: Any, values: NDArray[np.float32]) -> list[Any]:
    # Through text: the shortest one that means the same 32 bits, such as 0.1.
    plain = [None if np.isnan(value) else float(str(value)) for value in values]
    if isinstance(field, Category):
        return [None if value is None else field.values[int(value)] for value in plain]
    return plain
