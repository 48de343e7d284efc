"""Histograms of inputs and predictions, that drift is measured against; aggregates only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.features import Feature, input_features, output_features
from models.task import ImageClassification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.task import Task
    from training.split import Split

_BINS = 10


def reference_rows(task: Task, split: Split) -> NDArray[Any]:
    """The rows that `reference` is about.

    A network is surer of pictures that it was trained on; a table or series needs all its rows for a fair picture.
    """
    parts = [split.validation] if isinstance(task, ImageClassification) else [split.train, split.validation]
    return np.concatenate([part.rows for part in parts])


def reference(task: Task, rows: NDArray[Any], outputs: NDArray[np.float32]) -> dict[str, Any]:
    """Statistics of rows that the model was not trained on, and of what it says of them.

    Args:
        task: Of the model.
        rows: (n, ...), as the model takes them.
        outputs: The output rows.

    Returns:
        `{"version": 1, "rows": n, "inputs": [...], "outputs": [...]}`; each entry has a `name`, a `unit`, and either
        `edges` (k + 1) with `counts` (k; values beyond an end belong to the end's bin), `mean`, `deviation`
        and, where the bins depend on the data, `low` and `high` (no value lies beyond); or `values` with `counts`.
    """
    found = [_entry(feature) for feature in output_features(task, outputs)]
    return {"version": 1, "rows": len(rows), "inputs": inputs(task, rows), "outputs": found}


def inputs(task: Task, rows: NDArray[Any], like: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """Statistics of what goes in, one entry a feature, as `reference` describes them.

    Args:
        task: Of the model.
        rows: (n, ...), as the model takes them.
        like: Such entries of other rows, whose features and bins are used.
    """
    if not like:
        return [_entry(feature) for feature in input_features(task, rows)]
    features = {feature.name: feature for feature in input_features(task, rows)}
    return [_entry(features[entry["name"]], entry.get("edges")) for entry in like]


def _entry(feature: Feature, edges: Sequence[float] | None = None) -> dict[str, Any]:
    """Statistics of one feature; `missing` counts the absent values where it may lack one."""
    values = feature.values.ravel()
    present = values[~np.isnan(values)] if feature.may_lack else values
    if feature.vocabulary:
        statistics = _counts(feature.name, feature.vocabulary, present.astype(int))
    else:
        fixed = feature.edges if feature.edges is not None else np.array(edges) if edges else None
        statistics = _histogram(feature.name, feature.unit, present, fixed)
        statistics |= _ends(present) if feature.edges is None else {}
    return statistics | ({"missing": len(values) - len(present)} if feature.may_lack else {})


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


def _ends(values: NDArray[Any]) -> dict[str, float]:
    """The range of the values, rounded outwards to two digits of its width: the very largest may be one person's."""
    if not len(values):
        return {}
    low, high = float(values.min()), float(values.max())
    step = 10.0 ** (np.floor(np.log10(max(high - low, 1e-6 * abs(high), 1e-6))) - 1)
    return {"low": round(float(np.floor(low / step) * step), 9), "high": round(float(np.ceil(high / step) * step), 9)}


def _counts(name: str, values: tuple[str, ...], codes: NDArray[Any]) -> dict[str, Any]:
    counts = np.bincount(codes, minlength=len(values)).tolist()
    return {"name": name, "unit": None, "values": list(values), "counts": counts}
