"""Which feature a refused value belongs to, for the metrics: a request that is out of range never reaches the model."""

import re

from models.errors import InputError
from models.task import Category, ImageClassification, Records, Task
from service.metrics import Metrics

_SCHEMA = "schema"
# The last step of a path: a name after a dot, or a place in a list.
_LAST = re.compile(r"(?:\.([^.\[\]]+)|\[(\d+)\])$")
# The value of a row in a column: weight[3], inputs.weight[3].
_IN_COLUMN = re.compile(r"(?:inputs\.)?([^.\[\]]+)\[\d+\]")


def count_refused_value(metrics: Metrics, model: str, task: Task, error: InputError) -> None:
    """Count a value beyond the schema's range or vocabulary; other errors, such as of a shape, are not counted."""
    try:
        float(error.received)
        is_number = True
    except ValueError:
        is_number = False
    feature, is_category = feature_of(task, error.field)
    if feature is None:
        return
    if is_category:
        metrics.unseen_category.labels(model, feature, _SCHEMA).inc()
    elif is_number:
        metrics.out_of_range.labels(model, feature, _SCHEMA).inc()


def feature_of(task: Task, path: str) -> tuple[str | None, bool]:
    """Name of the feature that a path such as ``instances[3].weight`` is about, and whether it is a category.

    Returns:
        None for what is no single value. Only names that the schema has: what comes from outside makes no series.
    """
    last = _LAST.search(path)
    if last is None or "[" not in path:
        return None, False
    name, place = last[1], int(last[2] or 0)
    if isinstance(task, ImageClassification):
        return "pixel_intensity", False
    if isinstance(task, Records):
        column = _IN_COLUMN.fullmatch(path)
        if column is not None and column[1] in task.names:
            name = column[1]
        if name is not None:
            found = next((field for field in task.fields if field.name == name), None)
        else:
            # Of a list or an array: instances[row][column]. One place alone is that of a row.
            found = task.fields[place] if path.count("[") > 1 and place < len(task.fields) else None
        return (found.name if found else None), isinstance(found, Category)
    channel = place if path.count("[") > 2 and place < len(task.channels) else 0
    return task.channels[channel].name, False
