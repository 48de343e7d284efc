"""One self-contained HTML page about a data set, before anything is trained on it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from models.task import Category, Classes, ImageClassification, Records, SequenceForecast
from training.analysis import analyse
from training.soundness import problems, seen

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Canvas

    from training.datasets import DataSet, Raw
    from training.split import Split

_STYLE = (
    "body{font:15px sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}img{max-width:100%}li.bad{color:#a00}"
)
_SAMPLES = 8
_LONGEST_LAG = 24 * 8


def html(data: DataSet, raw: Raw, split: Split) -> str:
    """The page.

    Args:
        data: The set.
        raw: As it was read, for columns and missing values.
        split: Rows as the model takes them, for everything else; the test rows' truths are counted, never modelled.
    """
    task = data.task
    sections = [_section("Columns", _list(analyse(raw))), _section("Sound?", _soundness(data, split))]
    sections += [
        _section(title, f'<img alt="{escape(title)}" src="{_image(fill)}">') for title, fill in _plots(task, raw, split)
    ]
    body = "\n".join(sections)
    title = escape(f"{data.title}: data analysis")
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>\n'
        f"<h1>{title}</h1>\n<p>Licence: {escape(data.licence)}. {len(split.train):,} training, "
        f"{len(split.validation):,} validation and {len(split.test):,} test rows.</p>\n{body}\n</html>\n"
    )


def drift(train: np.ndarray, test: np.ndarray) -> float:
    """Kolmogorov-Smirnov statistic: the largest difference of two samples' shares below any value, 0 to 1."""
    train, test = np.sort(train[~np.isnan(train)]), np.sort(test[~np.isnan(test)])
    if not len(train) or not len(test):
        return 0.0
    both = np.concatenate([train, test])
    below = [np.searchsorted(sample, both, side="right") / len(sample) for sample in (train, test)]
    return float(np.abs(below[0] - below[1]).max())


def _soundness(data: DataSet, split: Split) -> str:
    found = [f'<li class="bad">{escape(problem)}</li>' for problem in problems(data.task, split)]
    if not isinstance(data.task, SequenceForecast):
        found.append(f"<li>{seen(split):.2%} of the test rows are training or validation rows too</li>")
    for name, train, test in _columns(data.task, split):
        found.append(
            f"<li>{escape(name)}: drift from training to test rows {drift(train, test):.3f} (0 none, 1 complete)</li>"
        )
    return f"<ul>{''.join(found)}</ul>"


def _columns(task: Any, split: Split) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, training and test values of what a distribution can be drawn of."""
    train, test = split.train, split.test
    if isinstance(task, Records):
        for index, field in enumerate(task.fields):
            yield field.name, train.rows[:, index], test.rows[:, index]
    elif isinstance(task, ImageClassification):
        yield "mean pixel", *(part.rows.reshape(len(part), -1).mean(axis=1) for part in (train, test))
    else:
        for index, channel in enumerate(task.channels):
            yield channel.name, train.rows[:, -1, index], test.rows[:, -1, index]
    if not isinstance(task, SequenceForecast):
        yield "target", train.values.astype(np.float64), test.values.astype(np.float64)


def _plots(task: Any, raw: Raw, split: Split) -> Iterator[tuple[str, Callable[[Canvas], None]]]:
    yield "Distributions, training and test rows", lambda canvas: _distributions(canvas, task, split)
    if raw.table.isna().any().any():
        yield "Missing values", lambda canvas: _missing(canvas, raw.table)
    if isinstance(task, Records):
        yield "Correlation", lambda canvas: _correlation(canvas, task, split)
    if isinstance(task, Classes):
        yield "Class balance", lambda canvas: _balance(canvas, task, split)
    if isinstance(task, ImageClassification):
        yield "Sample pictures", lambda canvas: _samples(canvas, task, split)
    if isinstance(task, SequenceForecast):
        yield "Series", lambda canvas: _series(canvas, task, split)
        yield "Seasonality", lambda canvas: _seasonality(canvas, task, split)


def _distributions(canvas: Canvas, task: Any, split: Split) -> None:
    columns = list(_columns(task, split))
    wide = min(3, len(columns))
    grid = canvas.subplots(-(-len(columns) // wide), wide, squeeze=False)
    for axes in grid.flat[len(columns) :]:
        axes.set_axis_off()
    for axes, (name, train, test) in zip(grid.flat, columns, strict=False):
        both = np.concatenate([train, test])
        edges = np.histogram_bin_edges(both[~np.isnan(both)], bins=30) if (~np.isnan(both)).any() else 30
        for values, label in ((train, "training"), (test, "test")):
            present = values[~np.isnan(values)]
            axes.hist(
                present, bins=edges, weights=np.full(len(present), 1 / max(1, len(present))), alpha=0.5, label=label
            )
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=6)
    grid.flat[0].legend(fontsize=6)


def _missing(canvas: Canvas, table: pd.DataFrame) -> None:
    shares = table.isna().mean()
    axes = canvas.subplots()
    axes.barh([str(name) for name in shares.index], shares.to_numpy())
    axes.set(xlabel="share of rows without a value", xlim=(0, 1))


def _correlation(canvas: Canvas, task: Any, split: Split) -> None:
    names = [*(field.name for field in task.fields if not isinstance(field, Category)), "target"]
    numbers = [i for i, field in enumerate(task.fields) if not isinstance(field, Category)]
    table = np.column_stack([split.train.rows[:, numbers], split.train.values]).astype(np.float64)
    table = table[~np.isnan(table).any(axis=1)]
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.atleast_2d(np.corrcoef(table, rowvar=False))
    axes = canvas.subplots()
    axes.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(matrix):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)


def _balance(canvas: Canvas, task: Any, split: Split) -> None:
    axes, places = canvas.subplots(), np.arange(len(task.labels))
    for shift, (part, label) in zip((-0.2, 0.2), ((split.train, "training"), (split.test, "test")), strict=True):
        counts = np.bincount(part.values, minlength=len(task.labels))
        axes.bar(places + shift, counts / max(1, len(part)), width=0.4, label=label)
    axes.set_xticks(places, task.labels, rotation=60, ha="right", fontsize=7)
    axes.set_ylabel("share of rows")
    axes.legend()


def _samples(canvas: Canvas, task: Any, split: Split) -> None:
    """The first training pictures of each class, at most ten classes."""
    labels = task.labels[:10]
    grid = canvas.subplots(len(labels), _SAMPLES, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, label in enumerate(labels):
        chosen = np.flatnonzero(split.train.values == number)[:_SAMPLES]
        for axes, index in zip(grid[number], chosen, strict=False):
            axes.imshow(split.train.rows[index].squeeze(), cmap="gray", vmin=0, vmax=255)
        grid[number, 0].set_title(label, fontsize=6, loc="left")


def _target_series(task: Any, part: Any) -> np.ndarray:
    """The target's course through windows of stride 1."""
    target = [channel.name for channel in task.channels].index(task.target)
    return np.concatenate([part.rows[:, 0, target], part.rows[-1, 1:, target], part.values[-1]])


def _series(canvas: Canvas, task: Any, split: Split) -> None:
    axes = canvas.subplots()
    start = 0
    for part, label in ((split.train, "training"), (split.validation, "validation"), (split.test, "test")):
        series = _target_series(task, part)
        axes.plot(np.arange(start, start + len(series)), series, linewidth=0.5, label=label)
        start += len(part)
    axes.set(xlabel=f"steps of {task.step}", ylabel=f"{task.target}, {task.unit}")
    axes.legend()


def _seasonality(canvas: Canvas, task: Any, split: Split) -> None:
    """Autocorrelation of the changes from step to step: a season shows as a peak at its length."""
    changes = np.diff(_target_series(task, split.train).astype(np.float64))
    changes -= changes.mean()
    power = max(float((changes**2).sum()), 1e-12)
    lags = range(1, min(_LONGEST_LAG, len(changes) - 1))
    axes = canvas.subplots()
    axes.bar(lags, [float((changes[lag:] * changes[:-lag]).sum()) / power for lag in lags], width=0.8)
    axes.set(xlabel=f"lag, steps of {task.step}", ylabel="autocorrelation of changes, training rows")


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{body}"


def _list(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _image(fill: Callable[[Canvas], None]) -> str:
    """A plot as a data address."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(9, 6), layout="constrained")
    fill(canvas)
    rendered = io.BytesIO()
    canvas.savefig(rendered, dpi=80, format="png")
    return f"data:image/png;base64,{base64.b64encode(rendered.getvalue()).decode()}"
