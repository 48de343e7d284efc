"""Histograms of inputs and predictions, that drift is measured against; aggregates only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.task import Category, Classes, ImageClassification, Number, Records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.task import Task

_BINS = 10


def reference(task: Task, rows: NDArray[Any], outputs: NDArray[np.float32]) -> dict[str, Any]:
    """Statistics of rows that the model was not trained on, and of what it says of them.

    Args:
        task: Of the model.
        rows: (n, ...), as the model takes them.
        outputs: The output rows.

    Returns:
        `{"version": 1, "rows": n, "inputs": [...], "outputs": [...]}`; each entry has a `name`, a `unit`, and either
        `edges` (k + 1) with `counts` (k; values beyond an end belong to the end's bin), or `values` with `counts`.
    """
    document: dict[str, Any] = {"version": 1, "rows": len(rows), "inputs": inputs(task, rows)}
    if isinstance(task, Classes):
        document["outputs"] = [
            _counts("label", task.labels, outputs.argmax(axis=1)),
            _histogram("confidence", None, outputs.max(axis=1), edges=np.linspace(0, 1, 21)),
        ]
        return document
    document["outputs"] = [
        _histogram("value", task.unit, outputs[..., 0]),
        _histogram("interval_width", task.unit, outputs[..., 2] - outputs[..., 1]),
    ]
    return document


def inputs(task: Task, rows: NDArray[Any], like: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """Statistics of what goes in, one entry a feature, as `reference` describes them.

    Args:
        task: Of the model.
        rows: (n, ...), as the model takes them.
        like: Such entries of other rows, whose bins are used.
    """
    edges = {entry["name"]: np.array(entry["edges"]) for entry in like if "edges" in entry}

    def histogram(name: str, unit: str | None, values: NDArray[Any]) -> dict[str, Any]:
        return _histogram(name, unit, values, edges=edges.get(name))

    if isinstance(task, ImageClassification):
        flat = rows.reshape(len(rows), -1)
        return [
            _histogram("pixel_intensity", None, flat, edges=np.linspace(0, 256, 17)),
            histogram("picture_mean", None, flat.mean(axis=1)),
            histogram("picture_spread", None, flat.std(axis=1)),
        ]
    if isinstance(task, Records):
        return [_column(field, rows[:, index], edges.get(field.name)) for index, field in enumerate(task.fields)]
    found = []
    for index, channel in enumerate(task.channels):
        series = rows[:, :, index]
        found += [
            histogram(f"{channel.name}_level", channel.unit, series.mean(axis=1)),
            histogram(f"{channel.name}_spread", channel.unit, series.std(axis=1)),
            histogram(f"{channel.name}_last", channel.unit, series[:, -1]),
        ]
    return found


def _column(field: Number | Category, values: NDArray[Any], edges: NDArray[np.float64] | None) -> dict[str, Any]:
    """Statistics of one field; `missing` counts the absent values where the field may lack one."""
    present = values[~np.isnan(values)]
    if isinstance(field, Category):
        statistics = _counts(field.name, field.values, present.astype(int))
    else:
        statistics = _histogram(field.name, field.unit, present, edges)
    return statistics | ({"missing": len(values) - len(present)} if field.missing else {})


def _histogram(
    name: str, unit: str | None, values: NDArray[Any], edges: NDArray[np.float64] | None = None
) -> dict[str, Any]:
    """Equally wide bins between the 1st and 99th percentile unless told otherwise, edges to three digits."""
    values = values.astype(np.float64).ravel()
    if edges is None:
        low, high = np.quantile(values, [0.01, 0.99])
        low, high = (low, high) if high > low else (low - 0.5, low + 0.5)
        edges = np.unique([float(f"{edge:.4g}") for edge in np.linspace(low, high, _BINS + 1)])
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    moments = (values.mean(), values.std()) if len(values) else (0.0, 0.0)
    mean, deviation = (float(f"{number:.6g}") for number in moments)
    histogram = {"edges": edges.tolist(), "counts": counts.tolist()}
    return {"name": name, "unit": unit, "mean": mean, "deviation": deviation, **histogram}


def _counts(name: str, values: tuple[str, ...], codes: NDArray[Any]) -> dict[str, Any]:
    counts = np.bincount(codes, minlength=len(values)).tolist()
    return {"name": name, "unit": None, "values": list(values), "counts": counts}
