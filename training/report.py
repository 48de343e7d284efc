"""The model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.bundle import CARD
from models.task import Classes, ImageClassification, Records, Sequences, TabularRegression
from training.golden import ROWS
from training.metrics import precision_and_recall

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from models.manifest import Figure, Lineage
    from models.task import Task
    from training.datasets import DataSet

_LIMITS = {
    "image_classification": (
        "It knows its labels and nothing else: a picture of anything gets one of them. Pictures that do not look like "
        "the training set's need its preparation, and their accuracy was not measured."
    ),
    "tabular_regression": (
        "It was fitted on a few hundred records of one period and market. Beyond the training data's range its inputs "
        "saturate, and its interval is not to be trusted there."
    ),
    "tabular_classification": (
        "It knows its labels and nothing else, and its probabilities hold for records like the training data's: beyond "
        "their range its inputs saturate."
    ),
    "sequence_forecast": (
        "It was fitted on one series of one device. It knows no calendar, no weather and no load; the interval's "
        "coverage holds while the series moves as it did in the validation period."
    ),
    "sequence_classification": (
        "It knows its labels and nothing else, and its probabilities hold for stretches like the training data's."
    ),
}


_EXAMPLE = "Meant as a worked example and a start for own data, not for decisions about people or equipment."
_OWN = (
    "It knows what its training data show: how good its answers, probabilities and intervals are on anything else was "
    "not measured. Add here whom it is meant for, and what it must not decide."
)


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
    notice: str = "",
    sections: Sequence[str] = (),
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
        notice: What whoever uses it must know first.
        sections: More of it, each with its own heading.
    """
    plots = "\n".join(
        f"![{p.stem.replace('_', ' ')}](plots/{p.name})" for p in sorted((directory / "plots").glob("*.png"))
    )
    counts = ", ".join(
        f"{lineage.rows[part]:,} {part}" for part in ("train", "validation", "test") if part in lineage.rows
    )
    text = f"""# {name}

{_what(task)} Architecture `{lineage.config["architecture"]}`, {parameters:,} parameters.

{f"{notice}{chr(10)}{chr(10)}" if notice else ""}## Intended use and limits

{_OWN if data.options else f"{_LIMITS[task.kind]} {_EXAMPLE}"}

## Data

{data.title} ({data.licence}); rows: {counts}. sha256 of the data `{lineage.data_sha256}`.

## Quality

{_table(figures)}

The baselines were fitted in the same run and judged on the same rows. {facts}

{plots}

{"".join(f"{section}{chr(10)}{chr(10)}" for section in sections)}## Reproduce

```
{lineage.command}
```

{_beginning(lineage)}Seed {lineage.seed}, configuration `{lineage.config_sha256}`, code {lineage.code_version}.
Fits on other processors differ in the last digits, and with them the figures a little.

{ROWS} golden rows with their outputs lie in `golden.npz`{"; they are made up" if not data.derivatives else ""}.
"""
    (directory / CARD).write_text(text, encoding="utf-8")


def _what(task: Task) -> str:
    if isinstance(task, ImageClassification):
        size = f"{task.height} x {task.width} pixels, {task.channels} channel{'s' if task.channels > 1 else ''}"
        return f"Tells {len(task.labels)} kinds of pictures ({size}) apart: {', '.join(task.labels)}."
    if isinstance(task, Classes):
        given = f" from {', '.join(task.names)}" if isinstance(task, Records) else ""
        if isinstance(task, Sequences):
            channels = ", ".join(channel.name for channel in task.channels)
            given = f" from {task.lookback} steps of {task.step} of {channels}"
        return f"Tells the probability of each of {', '.join(task.labels)}{given}."
    share = f"with an interval meant to hold {task.coverage:.0%} of true values"
    if isinstance(task, TabularRegression):
        return f"Estimates {task.target} ({task.unit}) from {', '.join(task.names)}, {share}."
    ahead = f"{task.horizon} steps of {task.step} ahead from {task.lookback}"
    return f"Forecasts {task.target} ({task.unit}) {ahead}, {share}."


def _beginning(lineage: Lineage) -> str:
    transfer = lineage.config.get("transfer")
    parent = transfer.get("parent") if isinstance(transfer, dict) else None
    return f"Training began with the weights of `{parent}`. " if parent else ""


def _table(figures: tuple[Figure, ...]) -> str:
    rows = ["| figure | this model | beside it | rows |", "|---|---|---|---|"]
    for figure in figures:
        others = "; ".join(f"{method} {value:.4f}" for method, value in sorted(figure.baselines.items())) or "-"
        unit = f" {figure.unit}" if figure.unit else ""
        rows.append(f"| {figure.name} | **{figure.value:.4f}**{unit} | {others} | {figure.rows:,} {figure.split} |")
    return "\n".join(rows)


def classes_section(labels: tuple[str, ...], outputs: NDArray[Any], truth: NDArray[Any]) -> str:
    """Table of each class's precision and recall on test rows."""
    precision, recall, rows = precision_and_recall(outputs, truth)
    lines = ["## Classes", "", "| class | precision | recall | test rows |", "|---|---|---|---|"]
    for index, label in enumerate(labels):
        lines.append(f"| {label} | {precision[index]:.3f} | {recall[index]:.3f} | {rows[index]:,} |")
    return "\n".join(lines)


def parts_section(parts: Mapping[str, float], figure: str) -> str:
    """Table of what the held-out figure becomes when a part is taken away."""
    lines = ["## What each part adds", "", f"| model | {figure} |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {value:.4f} |" for name, value in parts.items()])


def layers_section(model: keras.Model) -> str:
    """Keras's own summary."""
    lines: list[str] = []
    # Keras writes 80 columns where there is no terminal, and cuts what is longer.
    model.summary(print_fn=lambda line, **_: lines.append(line), line_length=78)
    body = "\n".join(lines).rstrip()
    return f"## Layers\n\n```\n{body}\n```"
