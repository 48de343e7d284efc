"""What a new version must hold beside the one that is live, one function each; every limit in one place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.decision import Criterion
from models.engines.base import apart
from models.task import Classes, SequenceForecast
from models.task.sequences import Sequences
from training import gate_statistics as statistics
from training.metrics import calibration_error, coverage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.engines import Engine
    from models.task import Task
    from training.split import Part

CLASS_MARGIN, VALUE_MARGIN = 0.02, 0.05
"""How much worse a new version may be: share of rows answered wrongly; share of the error."""
PARITY = 1e-5
"""Largest difference of what is served from Keras; relative where it exceeds 1."""
CALIBRATION_MARGIN, COVERAGE_MARGIN = 0.01, 0.05
SLOWER = 1.5
SLOWER_MS = 0.05
"""A new version may take `SLOWER` times as long, and `SLOWER_MS` longer in any case."""
BATCH = 64
LEAST_ROWS, LEAST_BLOCKS = 30, 10
"""Independent rows, or blocks of dependent ones: fewer say nothing about the rest."""
_BINS = 15


@dataclass(frozen=True)
class Answers:
    """What both versions say of the same held-out rows.

    Attributes:
        task: What the numbers mean.
        truth: True values or class numbers.
        production: Output rows of the version that is live, as its engine gives them.
        candidate: Those of the new version.
        block: See `dependent`.
    """

    task: Task
    truth: NDArray[Any]
    production: NDArray[np.float32]
    candidate: NDArray[np.float32]
    block: int = 1

    def __len__(self) -> int:
        return len(self.truth)


def dependent(task: Task, part: Part) -> int:
    """How many neighbouring rows are drawn together, because they are not independent; 1 where they are.

    Errors of forecasts of h steps depend on each other over h - 1 rows (Diebold and Mariano 1995, Journal of Business
    and Economic Statistics 13:253-263), overlapping windows over their length: twice that, so that few dependent pairs
    are parted. Windows that do not overlap but come from one series share its label: as many as have it in a row.
    """
    if isinstance(task, SequenceForecast):
        return 2 * task.horizon
    if not isinstance(task, Sequences) or len(part) < 2:
        return 1
    if (part.rows[1:, :-1] == part.rows[:-1, 1:]).all(axis=(1, 2)).mean() > 0.5:
        return 2 * task.lookback
    return round(len(part) / (1 + np.count_nonzero(np.diff(part.values))))


def rows_needed(task: Task, block: int, margin: float) -> int:
    """Rows below which nothing can be said."""
    if block > 1:
        return LEAST_BLOCKS * block
    return max(LEAST_ROWS, statistics.rows_for(margin)) if isinstance(task, Classes) else LEAST_ROWS


def quality(answers: Answers, margin: float) -> Criterion:
    """Not worse beyond the margin: the upper end of a one-sided 95 % interval lies within it (non-inferiority)."""
    return _accuracy(answers, margin) if isinstance(answers.task, Classes) else _error(answers, margin)


def _accuracy(answers: Answers, margin: float) -> Criterion:
    right = [outputs.argmax(axis=1) == answers.truth for outputs in (answers.production, answers.candidate)]
    lost, won = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    loss = (lost - won) / len(answers)
    if answers.block > 1:
        losses = statistics.resampled((right[0].astype(int) - right[1])[:, None], block=answers.block)
        most = statistics.upper(losses[:, 0])
    else:
        most = statistics.largest_loss(lost, won, len(answers))
    sentence = (
        f"of {len(answers)} rows, {lost} were answered rightly only by production and {won} only by the new version "
        f"(McNemar, mid-p {statistics.mcnemar(lost, won):.2g}); with 95 % confidence at most {most:.2%} are lost, "
        f"{margin:.2%} may be{_more_rows(len(answers), loss, most, margin)}"
    )
    before, after = (float(each.mean()) for each in right)
    return Criterion(
        name="accuracy",
        passed=most <= margin,
        production=before,
        candidate=after,
        value=most,
        limit=margin,
        sentence=sentence,
    )


def _error(answers: Answers, margin: float) -> Criterion:
    squared, unit = isinstance(answers.task, SequenceForecast), getattr(answers.task, "unit", "")
    name, unit = ("mse", f"{unit}²" if unit else "") if squared else ("mae", unit)
    errors = np.stack([_errors(answers.truth, o, squared) for o in (answers.production, answers.candidate)], axis=1)
    before, after = (float(mean) for mean in errors.mean(axis=0))
    # An error of exactly 0 has no multiple; nobody reaches it but by a leak.
    means = np.maximum(statistics.resampled(errors, block=answers.block), 1e-12)
    most = statistics.upper(means[:, 1] / means[:, 0] - 1)
    growth = after / max(before, 1e-12) - 1
    sentence = (
        f"{name} of {len(answers)} rows {before:.4g} -> {after:.4g} {unit} ({growth:+.1%}); with 95 % confidence "
        f"(paired bootstrap{f', blocks of {answers.block}' if answers.block > 1 else ''}) it grows by at most "
        f"{most:.1%}, {margin:.1%} may be{_more_rows(len(answers), growth, most, margin)}"
    )
    return Criterion(
        name=name,
        passed=most <= margin,
        production=before,
        candidate=after,
        value=most,
        limit=margin,
        unit=unit or None,
        sentence=sentence,
    )


def _errors(truth: NDArray[Any], outputs: NDArray[Any], squared: bool) -> NDArray[np.float64]:
    """One error a row: over the steps of a forecast, their mean."""
    distance = np.abs(outputs[..., 0].astype(np.float64) - truth)
    errors: NDArray[np.float64] = (distance**2 if squared else distance).reshape(len(truth), -1).mean(axis=1)
    return errors


def _more_rows(rows: int, estimate: float, most: float, margin: float) -> str:
    """How many rows would decide it, where too few is what is wrong: the interval shrinks with their square root."""
    if most <= margin or estimate >= margin:
        return ""
    return f". About {round(rows * ((most - estimate) / (margin - estimate)) ** 2, -1):,.0f} rows would be enough"


def parity(served: NDArray[Any], keras: NDArray[Any], golden: float) -> Criterion:
    """What is served is what was trained.

    Args:
        served: The engine's output rows.
        keras: The Keras model's for the same held-out rows.
        golden: Largest difference on the golden rows.
    """
    # What is not finite is as far apart as can be; JSON has no word for it.
    found = np.nan_to_num([golden, apart(served, keras)], nan=1e9, posinf=1e9)
    most = float(found.max())
    return Criterion(
        name="parity",
        passed=most <= PARITY,
        value=most,
        limit=PARITY,
        sentence=f"what is served differs from Keras by at most {found[0]:.1g} on golden and {found[1]:.1g} on "
        f"held-out rows (relative above 1); {PARITY:g} may be",
    )


def calibration(answers: Answers) -> Criterion:
    """Probabilities and intervals still mean what they say; refused where it is certain that they do so less."""
    outputs = (answers.production, answers.candidate)
    if isinstance(answers.task, Classes):
        name, limit = "calibration error", CALIBRATION_MARGIN
        before, after = (calibration_error(each, answers.truth) for each in outputs)
        gaps = np.concatenate([_gaps(each, answers.truth) for each in outputs], axis=1)
        sums = np.abs(statistics.resampled(gaps, block=answers.block))
        worse = sums[:, _BINS:].sum(axis=1) - sums[:, :_BINS].sum(axis=1)
        what = f"expected calibration error ({_BINS} bins) {before:.4f} -> {after:.4f}"
    else:
        name, limit, aim = "interval coverage", COVERAGE_MARGIN, answers.task.coverage
        before, after = (coverage(each[..., 1], each[..., 2], answers.truth) for each in outputs)
        held = [((o[..., 1] <= answers.truth) & (answers.truth <= o[..., 2])) for o in outputs]
        shares = np.stack([each.reshape(len(answers), -1).mean(axis=1) for each in held], axis=1)
        means = statistics.resampled(shares, block=answers.block)
        worse = np.abs(means[:, 1] - aim) - np.abs(means[:, 0] - aim)
        what = f"intervals meant to hold {aim:.0%} hold {before:.1%} -> {after:.1%}"
    least = statistics.lower(worse)
    return Criterion(
        name=name,
        passed=least <= limit,
        production=before,
        candidate=after,
        value=least,
        limit=limit,
        sentence=f"{what}; further off by at least {least:+.4f} with 95 % confidence (paired bootstrap), {limit:g} "
        "may be",
    )


def _gaps(outputs: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """(n, bins): confidence less whether it is right, in the bin of the confidence; column means give the error."""
    confidence = outputs.max(axis=1)
    gaps = np.zeros((len(classes), _BINS))
    chosen = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps[np.arange(len(classes)), chosen] = confidence - (outputs.argmax(axis=1) == classes)
    return gaps


def latency(
    engines: tuple[Engine, Engine], rows: NDArray[Any], *, clock: Callable[[], float] = time.perf_counter
) -> Criterion:
    """Not much slower than the version that is live, timed beside it.

    Args:
        engines: Production's and the new version's.
        rows: One batch.
        clock: Seconds.
    """
    before, after = (seconds * 1000 for seconds in alternately(engines, rows, clock=clock))
    limit = max(SLOWER, 1 + SLOWER_MS / before)
    what = f"latency of {len(rows)} row{'s' if len(rows) > 1 else ''}"
    return Criterion(
        name=what,
        passed=after / before <= limit,
        production=before,
        candidate=after,
        value=after / before,
        limit=limit,
        unit="ms",
        sentence=f"{what}, one thread, medians of calls in turn: {before:.3f} -> {after:.3f} ms, {after / before:.2f} "
        f"times as long; {limit:.2f} times ({SLOWER_MS:g} ms longer in any case) may be",
    )


def alternately(
    engines: Sequence[Engine],
    rows: NDArray[Any],
    *,
    calls: int = 300,
    seconds: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Median seconds of each engine's calls, in turn, so that whatever else the machine does hits all alike."""
    for engine in engines:
        for _ in range(3):
            engine.run(rows)
    taken: list[list[float]] = [[] for _ in engines]
    end = clock() + seconds
    while len(taken[0]) < calls and (len(taken[0]) < 5 or clock() < end):
        for engine, times in zip(engines, taken, strict=True):
            start = clock()
            engine.run(rows)
            times.append(clock() - start)
    return [float(np.median(times)) for times in taken]
