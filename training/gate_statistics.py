"""How sure it is that a new version is not worse: paired comparisons on the same rows, on NumPy alone.

Sources:
    McNemar's test in its mid-p form: Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91.
    Score interval of the difference of two paired shares: Tango 1998, Statistics in Medicine 17:891-908.
    Paired bootstrap, percentile interval: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    Circular blocks for rows that depend on their neighbours: Politis and Romano 1992, in Exploring the Limits of
    Bootstrap, pages 263-270.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z = 1.6448536269514722
"""Standard normal quantile of 95 %: every statement here is one-sided with that confidence."""
CONFIDENCE = 0.95
DRAWS = 2000
_CHUNK = 2_000_000
"""Rows that are drawn at a time: memory, not result."""


def mcnemar(lost: int, won: int) -> float:
    """Two-sided mid-p value of McNemar's test: how surprising so unequal counts are if neither version is better.

    Args:
        lost: Rows that only the old version answers right.
        won: Rows that only the new version answers right.
    """
    total = lost + won
    ways, below = 1, 0
    for count in range(min(lost, won)):
        below += ways
        ways = ways * (total - count) // (count + 1)
    return min(1.0, float((2 * below + ways) / 2**total))


def largest_loss(lost: int, won: int, rows: int, z: float = Z) -> float:
    """Upper end of Tango's one-sided 95 % score interval for the share of right answers lost by the new version.

    Args:
        lost: Rows that only the old version answers right.
        won: Rows that only the new version answers right.
        rows: All rows; at least 1.
        z: Standard normal quantile of the confidence.

    Returns:
        -1 to 1.
    """
    low, high = (lost - won) / rows, 1.0
    # The score falls as the assumed loss grows; halving 60 times leaves nothing of a float64.
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(lost, won, rows, middle) > -z else (low, middle)
    return high


def _score(lost: int, won: int, rows: int, loss: float) -> float:
    """How many standard errors the observed loss lies above an assumed one, which the variance is estimated under."""
    a = 2 * rows
    b = (2 * rows - lost + won) * loss - lost - won
    c = -won * loss * (1 - loss)
    share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = rows * (2 * share + loss * (1 - loss))
    difference = lost - won - rows * loss
    return difference / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, difference)


def rows_for(margin: float) -> int:
    """Rows below which even two versions that never differ cannot be shown to be within a margin of each other."""
    return math.ceil(Z * Z * (1 - margin) / margin)


def resampled(columns: NDArray[Any], *, block: int = 1, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """Means of columns over rows drawn with replacement: each draw takes the same rows of every column.

    Args:
        columns: (n, k).
        block: Neighbours that are drawn together; the last row's neighbour is the first.
        draws: How often.
        seed: Of the draws.

    Returns:
        (draws, k).
    """
    rng, rows = np.random.default_rng(seed), len(columns)
    blocks = -(-rows // block)
    chunk = max(1, _CHUNK // (blocks * block))
    found = []
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        first = rng.integers(0, rows, (count, blocks))
        drawn = ((first[:, :, None] + np.arange(block)) % rows).reshape(count, -1)[:, :rows]
        drawn += np.arange(count)[:, None] * rows
        weights = np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows)
        found.append(weights @ columns.astype(np.float64) / rows)
    return np.concatenate(found)


def upper(values: NDArray[np.float64]) -> float:
    """What 95 % of resampled values do not exceed."""
    return float(np.quantile(values, CONFIDENCE))


def lower(values: NDArray[np.float64]) -> float:
    """What 95 % of resampled values are not below."""
    return float(np.quantile(values, 1 - CONFIDENCE))
