"""Figures on test rows beside the baselines', and the ledger that says how often the test rows were looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.manifest import Figure
from models.task import Classes, Records, SequenceForecast
from training import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from models.task import Task
    from training.split import Part

_LEDGER_HEAD = """# Evaluations

Every look at a test set, oldest first. Choices are made on validation rows; a test set is for the figure that ships.

| UTC | model | version | configuration (sha256) | figure | test rows |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Evaluation:
    """What a model says of test rows, and how good it is.

    Attributes:
        outputs: Output rows, in the order of the test rows.
        figures: The first one is the headline.
        simple: Baseline name to its answers, for the report.
    """

    outputs: NDArray[np.float32]
    figures: tuple[Figure, ...]
    simple: dict[str, NDArray[np.float64]]


def evaluate(
    task: Task,
    outputs: NDArray[np.float32],
    simple: dict[str, NDArray[np.float64]],
    part: Part,
    *,
    scale: float = 1.0,
    split: str = "test",
) -> Evaluation:
    """Figures of output rows beside those of simpler methods.

    Args:
        task: What the numbers mean.
        outputs: Of the part's rows.
        simple: What simpler methods say of them, by name.
        part: Rows and truths.
        scale: What a series' errors are divided by for comparison with publications; see `scale_of`.
        split: What the part is called.
    """
    if isinstance(task, Classes):
        figures = _class_figures(outputs, simple, part.values)
    else:
        figures = _value_figures(outputs, simple, part.values, unit=task.unit)
        if isinstance(task, SequenceForecast):
            figures = _standardised(outputs, simple, part.values, scale) + figures
    return Evaluation(outputs, tuple(f.model_copy(update={"split": split}) for f in figures), simple)


def scale_of(task: Task, train: Part) -> float:
    """Standard deviation of the target's training series; 1 for what is no series."""
    if isinstance(task, Classes | Records):
        return 1.0
    target = [channel.name for channel in task.channels].index(task.target)
    # Windows of stride 1 overlap: each first step, then the rest of the last window.
    series = [train.rows[:, 0, target], train.rows[-1, 1:, target], train.values[-1]]
    return float(np.concatenate(series).astype(np.float64).std())


def _class_figures(outputs: NDArray[Any], simple: dict[str, NDArray[Any]], truth: NDArray[Any]) -> list[Figure]:
    better = {"accuracy": True, "expected_calibration_error": False, "log_loss": False}
    functions = (metrics.accuracy, metrics.calibration_error, metrics.log_loss)
    return [
        _figure(name, function, outputs, simple, truth, unit=None, higher=higher)
        for (name, higher), function in zip(better.items(), functions, strict=True)
    ]


def _value_figures(
    outputs: NDArray[Any], simple: dict[str, NDArray[Any]], truth: NDArray[Any], *, unit: str
) -> list[Figure]:
    covered = metrics.coverage(outputs[..., 1], outputs[..., 2], truth)
    width = float((outputs[..., 2] - outputs[..., 1]).mean())
    return [
        _figure("mae", metrics.mean_absolute, outputs[..., 0], simple, truth, unit=unit),
        Figure(name="interval_coverage", value=covered, higher_is_better=True, rows=len(truth)),
        Figure(name="interval_width", value=width, unit=unit, higher_is_better=False, rows=len(truth)),
    ]


def _standardised(
    outputs: NDArray[Any], simple: dict[str, NDArray[Any]], truth: NDArray[Any], scale: float
) -> list[Figure]:
    """As publications on such series count: divided by the training series' standard deviation."""
    scaled = {name: answer / scale for name, answer in simple.items()}
    values = outputs[..., 0] / scale
    return [
        _figure("standardised_mse", metrics.mean_squared, values, scaled, truth / scale, unit=None),
        _figure("standardised_mae", metrics.mean_absolute, values, scaled, truth / scale, unit=None),
    ]


def _figure(
    name: str,
    function: Callable[[NDArray[Any], NDArray[Any]], float],
    outputs: NDArray[Any],
    simple: dict[str, NDArray[Any]],
    truth: NDArray[Any],
    *,
    unit: str | None,
    higher: bool = False,
) -> Figure:
    others = {method: function(answer, truth) for method, answer in simple.items()}
    value = function(outputs, truth)
    return Figure(name=name, value=value, unit=unit, baselines=others, higher_is_better=higher, rows=len(truth))


def append_to_ledger(
    ledger: Path, *, when: datetime, name: str, version: str, config_sha256: str, figure: Figure
) -> None:
    """Append one row, making the file where there is none."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    unit = f" {figure.unit}" if figure.unit else ""
    row = (
        f"| {when:%Y-%m-%d %H:%M:%S} | {name} | {version} | {config_sha256[:12]} "
        f"| {figure.name} {figure.value:.4f}{unit} | {figure.rows} |\n"
    )
    with ledger.open("a", encoding="utf-8") as file:
        file.write(row if file.tell() else _LEDGER_HEAD + row)


def lines(figures: tuple[Figure, ...]) -> list[str]:
    """Each figure beside its baselines, for a person."""
    result = []
    for figure in figures:
        unit = f" {figure.unit}" if figure.unit else ""
        others = ", ".join(f"{method} {value:.4f}" for method, value in figure.baselines.items())
        beside = f" (beside {others})" if others else ""
        result.append(f"{figure.name} {figure.value:.4f}{unit} on {figure.rows} {figure.split} rows{beside}")
    return result
