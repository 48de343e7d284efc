"""The model card and its plots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.bundle import CARD
from models.task import ImageClassification, SequenceForecast, TabularRegression
from training.golden import ROWS

if TYPE_CHECKING:
    import matplotlib.axes
    from numpy.typing import NDArray

    from models.bundle import Figure, Lineage
    from training.datasets import DataSet, Task
    from training.evaluate import Evaluation
    from training.fit import History
    from training.split import Part

_LIMITS = {
    "image_classification": (
        "It knows its labels and nothing else: a picture of anything gets one of them. Pictures that do not look like "
        "the training set's need its preparation, and their accuracy was not measured."
    ),
    "tabular_regression": (
        "It was fitted on a few hundred records of one period and market. Beyond the training data's range its inputs "
        "saturate, and its interval is not to be trusted there."
    ),
    "sequence_forecast": (
        "It was fitted on one series of one device. It knows no calendar, no weather and no load; the interval's "
        "coverage holds while the series moves as it did in the validation period."
    ),
}


def write_plots(directory: Path, task: Task, history: History, evaluation: Evaluation, test: Part) -> None:
    """Write `plots/learning_curve.png` and one plot of the errors on test rows, tens of kilobytes each."""
    folder = directory / "plots"
    folder.mkdir()
    _plot(folder / "learning_curve.png", lambda axes: _learning_curve(axes, history))
    if isinstance(task, ImageClassification):
        _plot(folder / "confusion_matrix.png", lambda axes: _confusion(axes, task, evaluation.outputs, test.values))
    elif isinstance(task, TabularRegression):
        _plot(folder / "residuals.png", lambda axes: _residuals(axes, task, evaluation.outputs, test.values))
    else:
        _plot(folder / "forecasts.png", lambda axes: _steps(axes, task, evaluation, test.values))


def write_card(
    directory: Path,
    *,
    name: str,
    data: DataSet,
    task: Task,
    figures: tuple[Figure, ...],
    lineage: Lineage,
    parameters: int,
    facts: str,
) -> None:
    """Write `card.md`.

    Args:
        directory: Of the bundle, plots included.
        name: Of the model.
        data: That it was trained on.
        task: What its numbers mean.
        figures: Its quality.
        lineage: How it was made.
        parameters: Number of weights.
        facts: One sentence on the calibration.
    """
    plots = "\n".join(
        f"![{p.stem.replace('_', ' ')}](plots/{p.name})" for p in sorted((directory / "plots").glob("*.png"))
    )
    counts = ", ".join(f"{count:,} {part}" for part, count in lineage.rows.items())
    text = f"""# {name}

{_what(task)} Architecture `{lineage.config["architecture"]}`, {parameters:,} parameters.

## Intended use and limits

{_LIMITS[task.kind]} Meant as a worked example and a start for own data, not for decisions about people or equipment.

## Data

{data.title} ({data.licence}); rows: {counts}. sha256 of the data `{lineage.data_sha256}`.

## Quality

{_table(figures)}

The baselines were fitted in the same run and judged on the same rows. {facts}

{plots}

## Reproduce

```
{lineage.command}
```

Seed {lineage.seed}, configuration `{lineage.config_sha256}`, code {lineage.code_version}. Fits on other processors
differ in the last digits, and with them the figures a little.

{ROWS} golden rows with their outputs lie in `golden.npz`{"; they are made up" if not data.derivatives else ""}.
"""
    (directory / CARD).write_text(text, encoding="utf-8")


def _what(task: Task) -> str:
    if isinstance(task, ImageClassification):
        size = f"{task.height} x {task.width} pixels, {task.channels} channel{'s' if task.channels > 1 else ''}"
        return f"Tells {len(task.labels)} kinds of pictures ({size}) apart: {', '.join(task.labels)}."
    share = f"with an interval meant to hold {task.coverage:.0%} of true values"
    if isinstance(task, TabularRegression):
        return f"Estimates {task.target} ({task.unit}) from {', '.join(task.names)}, {share}."
    ahead = f"{task.horizon} steps of {task.step} ahead from {task.lookback}"
    return f"Forecasts {task.target} ({task.unit}) {ahead}, {share}."


def _table(figures: tuple[Figure, ...]) -> str:
    rows = ["| figure | this model | beside it | rows |", "|---|---|---|---|"]
    for figure in figures:
        others = "; ".join(f"{method} {value:.4f}" for method, value in figure.baselines.items()) or "-"
        unit = f" {figure.unit}" if figure.unit else ""
        rows.append(f"| {figure.name} | **{figure.value:.4f}**{unit} | {others} | {figure.rows:,} {figure.split} |")
    return "\n".join(rows)


def _plot(path: Path, draw: Any) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(6, 4.5), layout="constrained")
    draw(canvas.subplots())
    canvas.savefig(path, dpi=70, metadata={"Software": None})


def _learning_curve(axes: matplotlib.axes.Axes, history: History) -> None:
    shown = "accuracy" if "accuracy" in history else "loss"
    for key, label in ((shown, "training"), (f"val_{shown}", "held out")):
        if key in history:
            axes.plot(range(1, len(history[key]) + 1), history[key], label=label)
    axes.set(xlabel="epoch", ylabel=shown, title="Learning curve")
    axes.legend()


def _confusion(
    axes: matplotlib.axes.Axes, task: ImageClassification, outputs: NDArray[Any], truth: NDArray[Any]
) -> None:
    count = len(task.labels)
    matrix = np.bincount(truth * count + outputs.argmax(axis=1), minlength=count * count).reshape(count, count)
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(count, count):
        if matrix[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(range(count), task.labels, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(count), task.labels, fontsize=7)
    axes.set(xlabel="predicted", ylabel="true", title="Test pictures")


def _residuals(axes: matplotlib.axes.Axes, task: TabularRegression, outputs: NDArray[Any], truth: NDArray[Any]) -> None:
    value, low, high = outputs.T
    axes.errorbar(truth, value, yerr=[value - low, high - value], fmt="o", markersize=3, linewidth=0.6)
    ends = [float(min(truth.min(), value.min())), float(max(truth.max(), value.max()))]
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    axes.set(xlabel=f"true, {task.unit}", ylabel=f"estimated with interval, {task.unit}", title="Test records")


def _steps(axes: matplotlib.axes.Axes, task: SequenceForecast, evaluation: Evaluation, truth: NDArray[Any]) -> None:
    """Errors by step rather than stretches of the series, which a licence may forbid to pass on."""
    steps = range(1, task.horizon + 1)
    answers = {"this model": evaluation.outputs[..., 0], **evaluation.simple}
    for name, answer in answers.items():
        width = 2.2 if name == "this model" else 1
        axes.plot(steps, np.abs(answer - truth).mean(axis=0), label=name, linewidth=width)
    axes.set(xlabel=f"steps of {task.step} ahead", ylabel=f"mean absolute error, {task.unit}", title="Test forecasts")
    axes.legend()
