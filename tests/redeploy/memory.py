"""Whether a process's resident memory stays flat over many switches."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

WARM_UP = 0.25
"""Share of the samples, at the beginning, that does not count: allocators and caches fill first."""
ALLOWED_KIB = 16.0
"""Growth that is accepted, KiB a switch: far less than the smallest version would leak."""


def resident_kib(pid: int) -> int:
    """Resident memory of a process, KiB.

    Raises:
        OSError: It is gone.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def growth(samples: ArrayLike) -> float:
    """KiB a switch, by the Theil-Sen estimator: the median slope over all pairs of samples, which a jump or a dip of
    single samples does not move (Sen 1968, Estimates of the regression coefficient based on Kendall's tau).

    Args:
        samples: Resident memory after each switch, KiB; the first quarter is left out.

    Raises:
        ValueError: Too few samples to say anything.
    """
    values = np.asarray(samples, dtype=float)
    values = values[int(len(values) * WARM_UP) :]
    if len(values) < 10:
        raise ValueError(f"10 samples after warm-up are needed. Received: {len(values)}. Switch more often.")
    first, second = np.triu_indices(len(values), k=1)
    return float(np.median((values[second] - values[first]) / (second - first)))


def is_flat(samples: ArrayLike) -> bool:
    """Whether the growth is within what is accepted."""
    return growth(samples) <= ALLOWED_KIB
