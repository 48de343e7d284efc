"""Whether a process's resident memory grows with time under a steady load."""

import numpy as np
from numpy.typing import ArrayLike

ALLOWED_KIB = 2048
"""By so much the line through the second half may rise: allocators take and give back memory in steps of megabytes.

The longer the run, the smaller the leak that it still forgives: of 30 minutes at 40 requests a second some 60 bytes a
request.
"""
_LEAST = 20


def slope(seconds: ArrayLike, kib: ArrayLike) -> float:
    """KiB a minute, by least squares over the second half; in the first one caches and allocators fill.

    Args:
        seconds: When each sample was taken, ascending; (n,).
        kib: Resident memory then; (n,).

    Raises:
        ValueError: Too few samples to say anything.
    """
    times, values = _second_half(seconds, kib)
    return float(60 * np.polyfit(times - times[0], values, 1)[0])


def rise(seconds: ArrayLike, kib: ArrayLike) -> float:
    """By how much that line rises from its beginning to its end, KiB."""
    times, _ = _second_half(seconds, kib)
    return slope(seconds, kib) * float(times[-1] - times[0]) / 60


def is_flat(seconds: ArrayLike, kib: ArrayLike) -> bool:
    """Whether the rise is within what is accepted."""
    return rise(seconds, kib) <= ALLOWED_KIB


def _second_half(seconds: ArrayLike, kib: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    times, values = np.asarray(seconds, dtype=float), np.asarray(kib, dtype=float)
    later = times >= (times[0] + times[-1]) / 2
    if later.sum() < _LEAST:
        raise ValueError(f"{_LEAST} samples in the second half are needed. Received: {later.sum()}. Run for longer.")
    return times[later], values[later]
