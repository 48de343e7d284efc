"""The plots of a model card; each is a small PNG."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.task import Classes, ImageClassification, SequenceForecast
from training.metrics import reliability

if TYPE_CHECKING:
    import matplotlib.axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from models.task import Task
    from training.evaluate import Evaluation
    from training.fit import History
    from training.split import Part

_WORST = 15


def write_plots(
    directory: Path,
    task: Task,
    history: History,
    evaluation: Evaluation,
    test: Part,
    *,
    golden: tuple[Any, Any],
    share_rows: bool = True,
) -> None:
    """Write `plots/*.png`, tens of kilobytes each.

    Args:
        directory: Of the bundle.
        task: What the numbers mean.
        history: Of the fit; without one, no learning curve is drawn.
        evaluation: On the test rows.
        test: The test rows.
        golden: Golden rows and the outputs for them; of sequences they are made up, so a licence never forbids them.
        share_rows: Whether test pictures may be shown.
    """
    folder = directory / "plots"
    folder.mkdir(exist_ok=True)
    outputs, truth = evaluation.outputs, test.values
    if history:
        draw(folder / "learning_curve.png", lambda axes: _learning_curve(axes, history))
    if isinstance(task, Classes):
        draw(folder / "confusion_matrix.png", lambda axes: _confusion(axes, task.labels, outputs, truth))
        draw(folder / "reliability.png", lambda axes: _reliability(axes, outputs, truth))
        if isinstance(task, ImageClassification) and share_rows:
            _worst(folder / "worst_mistakes.png", task, outputs, test)
    elif isinstance(task, SequenceForecast):
        # Errors rather than stretches of the test series, which a licence may forbid to pass on.
        draw(folder / "error_by_step.png", lambda axes: _steps(axes, task, evaluation, truth))
        _fans(folder / "forecasts.png", task, *golden)
    else:
        draw(folder / "estimates.png", lambda axes: _estimates(axes, task, outputs, truth))
        draw(folder / "residuals.png", lambda axes: _residuals(axes, task, outputs, truth))


def draw(path: Path, fill: Callable[[matplotlib.axes.Axes], None]) -> None:
    """Write one pair of axes as a PNG."""
    canvas = _canvas((6, 4.5))
    fill(canvas.subplots())
    _save(canvas, path)


def _save(canvas: Canvas, path: Path) -> None:
    """As a PNG of 32 colours: a third of the bytes."""
    from PIL import Image

    rendered = io.BytesIO()
    canvas.savefig(rendered, dpi=70, format="png")
    Image.open(rendered).convert("RGB").quantize(32).save(path, format="PNG", optimize=True)


def _canvas(size: tuple[float, float]) -> Canvas:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _learning_curve(axes: matplotlib.axes.Axes, history: History) -> None:
    shown = "accuracy" if "accuracy" in history else "loss"
    for key, label in ((shown, "training"), (f"val_{shown}", "held out")):
        if key in history:
            axes.plot(range(1, len(history[key]) + 1), history[key], label=label)
    axes.set(xlabel="epoch", ylabel=shown, title="Learning curve")
    axes.legend()


def _confusion(axes: matplotlib.axes.Axes, labels: tuple[str, ...], outputs: NDArray[Any], truth: NDArray[Any]) -> None:
    count = len(labels)
    matrix = np.bincount(truth * count + outputs.argmax(axis=1), minlength=count * count).reshape(count, count)
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(count, count):
        if matrix[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(range(count), labels, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(count), labels, fontsize=7)
    axes.set(xlabel="predicted", ylabel="true", title="Test rows")


def _reliability(axes: matplotlib.axes.Axes, outputs: NDArray[Any], truth: NDArray[Any]) -> None:
    confidence, right, counts = reliability(outputs, truth)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.plot(confidence, right, marker="o", markersize=4)
    axes.set(xlabel="mean confidence", ylabel="share that is right", title="Reliability on test rows", xlim=(0, 1))
    beside = axes.twinx()
    beside.bar(confidence, counts, width=0.03, alpha=0.25, color="grey")
    beside.set(ylabel="rows", yscale="log")


def _worst(path: Path, task: ImageClassification, outputs: NDArray[Any], test: Part) -> None:
    """The wrong answers of which the model was surest."""
    guess = outputs.argmax(axis=1)
    sureness = np.where(guess == test.values, -1.0, outputs.max(axis=1))
    chosen = [i for i in np.argsort(-sureness, kind="stable")[:_WORST] if sureness[i] >= 0]
    canvas = _canvas((6, 4.5))
    for axes in (grid := canvas.subplots(3, 5)).flat:
        axes.set_axis_off()
    for axes, index in zip(grid.flat, chosen, strict=False):
        axes.imshow(test.rows[index].squeeze(), cmap="gray", vmin=0, vmax=255)
        true, said = task.labels[test.values[index]], task.labels[guess[index]]
        axes.set_title(f"{said} {sureness[index]:.2f}\nis {true}", fontsize=6)
    _save(canvas, path)


def _estimates(axes: matplotlib.axes.Axes, task: Any, outputs: NDArray[Any], truth: NDArray[Any]) -> None:
    value, low, high = outputs.T
    axes.errorbar(truth, value, yerr=[value - low, high - value], fmt="o", markersize=3, linewidth=0.6)
    ends = [float(min(truth.min(), value.min())), float(max(truth.max(), value.max()))]
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    axes.set(xlabel=f"true, {task.unit}", ylabel=f"estimated with interval, {task.unit}", title="Test records")


def _residuals(axes: matplotlib.axes.Axes, task: Any, outputs: NDArray[Any], truth: NDArray[Any]) -> None:
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.scatter(outputs[:, 0], truth - outputs[:, 0], s=9)
    axes.set(xlabel=f"estimated, {task.unit}", ylabel=f"true less estimated, {task.unit}", title="Residuals, test")


def _steps(axes: matplotlib.axes.Axes, task: SequenceForecast, evaluation: Evaluation, truth: NDArray[Any]) -> None:
    steps = range(1, task.horizon + 1)
    answers = {"this model": evaluation.outputs[..., 0], **evaluation.simple}
    for name, answer in answers.items():
        width = 2.2 if name == "this model" else 1
        axes.plot(steps, np.abs(answer - truth).mean(axis=0), label=name, linewidth=width)
    axes.set(xlabel=f"steps of {task.step} ahead", ylabel=f"mean absolute error, {task.unit}", title="Test forecasts")
    axes.legend()


def _fans(path: Path, task: SequenceForecast, rows: NDArray[Any], outputs: NDArray[Any]) -> None:
    """Forecasts with their intervals for six made-up series, spread over the golden rows."""
    target = [channel.name for channel in task.channels].index(task.target)
    canvas = _canvas((7, 4.5))
    past, ahead = np.arange(-task.lookback, 0), np.arange(task.horizon)
    for axes, index in zip(canvas.subplots(2, 3).flat, np.linspace(0, len(rows) - 1, 6, dtype=int), strict=True):
        value, low, high = outputs[index].T
        axes.plot(past, rows[index, :, target], linewidth=0.9)
        axes.fill_between(ahead, low, high, alpha=0.3, color="C1")
        axes.plot(ahead, value, color="C1", linewidth=1.2)
        axes.tick_params(labelsize=6)
    canvas.suptitle(f"Forecasts for made-up series, {task.unit}", fontsize=10)
    _save(canvas, path)
