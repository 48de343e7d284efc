"""The highest rate at which p99 stays below the bound and nothing fails, by a bounded search in open loop."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.plan import OpenSummary

BOUND_MS = 10.0
STEPS = 20
"""Rates are tried in steps of the closed loop's peak divided by this."""
_HIGHEST = 23
# A failed run in which the generator itself noticed that late what was due is no fault of the server.
_LAG_MS = 2.0
_ATTEMPTS = 3

Attempt = Callable[[float, int], OpenSummary]
"""Of a rate and a seed."""


@dataclass
class Capacity:
    """What the search found.

    Attributes:
        rate: Highest rate that held, requests a second; 0 when none did.
        step: Distance to the rate above it, which did not hold.
        probes: Every run, in order.
        discarded: How many of them were repeated since the generator lagged.
    """

    rate: float
    step: float
    probes: list[OpenSummary] = field(default_factory=list)
    discarded: int = 0

    def to_json(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


def holds(run: OpenSummary, bound_ms: float = BOUND_MS) -> bool:
    """Whether a run kept the bound without any error."""
    failed = run.wrong + run.refused + run.broken
    return not run.given_up and not failed and run.correct == run.scheduled and run.p99_ms < bound_ms


def lagged(run: OpenSummary, bound_ms: float = BOUND_MS) -> bool:
    """Whether the generator was too slow for its own schedule; what held needs no excuse."""
    return not holds(run, bound_ms) and run.lag_p99_ms > _LAG_MS


def search(
    attempt: Attempt, peak: float, seeds: Sequence[int], bound_ms: float = BOUND_MS, near: float | None = None
) -> Capacity:
    """Halve the interval between what holds and what does not: five rates at most, or fewer with a good guess.

    Args:
        attempt: One run.
        peak: Requests a second in closed loop.
        seeds: A rate holds when it does with the schedule of each.
        bound_ms: p99 must stay below it.
        near: What an earlier search found, with the same peak: where to begin.
    """
    found = Capacity(0.0, peak / STEPS)

    def passes(number: int) -> bool:
        return all(_once(attempt, number * found.step, seed, found, bound_ms) for seed in seeds)

    low, high = (0, _HIGHEST) if near is None else _around(round(near / found.step), passes)
    while high - low > 1:
        middle = (low + high + 1) // 2
        if passes(middle):
            low = middle
        else:
            high = middle
    found.rate = low * found.step
    return found


def _around(guess: int, passes: Callable[[int], bool]) -> tuple[int, int]:
    """A number that holds (or 0) and a higher one that does not, by steps from the guess, each twice the last."""
    at = min(max(guess, 1), _HIGHEST - 1)
    upwards = passes(at)
    low, high = (at, _HIGHEST) if upwards else (0, at)
    width = 1
    while low < (at := low + width if upwards else high - width) < high:
        held = passes(at)
        low, high = (at, high) if held else (low, at)
        if held != upwards:
            break
        width *= 2
    return low, high


def _once(attempt: Attempt, rate: float, seed: int, found: Capacity, bound_ms: float) -> bool:
    for number in range(_ATTEMPTS):
        run = attempt(rate, seed)
        found.probes.append(run)
        if not lagged(run, bound_ms):
            return holds(run, bound_ms)
        found.discarded += number < _ATTEMPTS - 1
    return False
