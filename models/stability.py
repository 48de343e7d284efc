"""The population stability index: how differently two samples are spread over the same bins, and chance's part in it.

PSI = sum over bins of (new share - old share) x ln(new share / old share). The rule of thumb is that 0.1 is some change
and 0.25 much (Siddiqi 2006, Credit Risk Scorecards, page 136). Few rows give a high index by chance alone: without
any change it is distributed as (1/n + 1/m) times chi-squared with bins - 1 degrees of freedom (Yurdakul and Naranjo
2020, Journal of Risk Model Validation 14:89-100), whose mean is (bins - 1) (1/n + 1/m).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOME, MUCH = 0.1, 0.25
_Z = 3.0902323061678132
"""Standard normal quantile of 99.9 %."""


def index(old: NDArray[Any], new: NDArray[Any]) -> float:
    """Population stability index of counts by bin; half a row is added to each bin, so that none is empty."""
    shares = [(counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (old, new)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def expected(bins: int, before: float, now: float) -> float:
    """The index's mean for two samples from one distribution.

    Args:
        bins: At least 1.
        before: Rows of the one sample.
        now: Rows of the other.
    """
    return (bins - 1) * (1 / before + 1 / now)


def chance(bins: int, before: float, now: float) -> float:
    """What the index of two samples from one distribution exceeds once in a thousand times.

    Chi-squared's quantile by Wilson and Hilferty's cube (1931, PNAS 17:684-688).

    Args:
        bins: At least 2.
        before: Rows of the one sample.
        now: Rows of the other.
    """
    freedom = max(1, bins - 1)
    spread = 2 / (9 * freedom)
    return (1 / before + 1 / now) * freedom * (1 - spread + _Z * math.sqrt(spread)) ** 3
