"""Figures from predictions and truths, on NumPy and scikit-learn: never from a graph's running averages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def accuracy(probabilities: NDArray[Any], classes: NDArray[Any]) -> float:
    """Share of rows (n, classes) whose most likely class is the true one (n,)."""
    return float((probabilities.argmax(axis=1) == classes).mean())


def log_loss(probabilities: NDArray[Any], classes: NDArray[Any]) -> float:
    """Mean negative logarithm of the probability of the true class, nats."""
    chosen = probabilities[np.arange(len(classes)), classes].astype(np.float64)
    return float(-np.log(np.clip(chosen, 1e-12, 1)).mean())


def calibration_error(probabilities: NDArray[Any], classes: NDArray[Any], bins: int = 15) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over equally wide bins of confidence."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == classes
    chosen = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(chosen, minlength=bins)
    gap = np.bincount(chosen, confidence, bins) - np.bincount(chosen, right, bins)
    return float(np.abs(gap).sum() / counts.sum())


def reliability(
    probabilities: NDArray[Any], classes: NDArray[Any], bins: int = 15
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean confidence, share that is right, and rows of each bin of confidence that holds a row."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == classes
    chosen = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(chosen, minlength=bins)
    filled = counts > 0
    sums = (np.bincount(chosen, confidence, bins), np.bincount(chosen, right, bins))
    return sums[0][filled] / counts[filled], sums[1][filled] / counts[filled], counts[filled]


def precision_and_recall(
    probabilities: NDArray[Any], classes: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Each class's precision (0 where it was never said), recall (0 where it has no row) and number of rows."""
    count = probabilities.shape[1]
    guess = probabilities.argmax(axis=1)
    hits = np.bincount(classes[guess == classes], minlength=count)
    said, rows = np.bincount(guess, minlength=count), np.bincount(classes, minlength=count)
    return hits / np.maximum(said, 1), hits / np.maximum(rows, 1), rows


def mean_absolute(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """Mean absolute error, in their unit."""
    return float(np.abs(predicted.astype(np.float64) - truth).mean())


def mean_squared(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """Mean squared error, in their unit squared."""
    return float(np.square(predicted.astype(np.float64) - truth).mean())


def coverage(low: NDArray[Any], high: NDArray[Any], truth: NDArray[Any]) -> float:
    """Share of truths within their interval, ends included."""
    return float(((low <= truth) & (truth <= high)).mean())
