"""Whether a canary is worse than production, beyond a factor and beyond chance. Counts in, a verdict out; no clock.

Errors: with rates that differ by just the factor, the candidate's part of all errors is binomial, which makes an exact
test of the ratio of two rates (Przyborowski and Wilenski, Homogeneity of results in testing samples from Poisson
series, Biometrika 31, 1940). Latency: if the candidate's 99th percentile were production's times the factor, 1 %
of its requests would take longer than that; the binomial test says how probable more are by chance.
"""

from collections import deque
from dataclasses import dataclass, field
from math import ceil, exp, lgamma, log
from statistics import median

from models.store import Canary

_MIN_ERRORS = 5
# Of production: with fewer its 99th percentile says nothing.
_MIN_REQUESTS = 50
# Probability of a wrong verdict. Errors are looked at again and again, so chance must be further off each time.
_ERRORS_BY_CHANCE = 1e-4
_SLOW_BY_CHANCE = 1e-3
_SLOW_SHARE = 0.01
# Of production the most recent requests: enough for a 99th percentile, and sorted in under a millisecond.
_RECENT = 4096


@dataclass(slots=True)
class _Side:
    """Requests of one version since judging began; the last ones' durations in seconds."""

    requests: int = 0
    errors: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def add(self, seconds: float, failed: bool) -> None:
        self.requests += 1
        self.errors += failed
        self.seconds.append(seconds)


class Judge:
    """Compares the candidate with production in the same time, in one worker.

    Args:
        canary: After how many requests, and beyond which factors.
    """

    def __init__(self, canary: Canary) -> None:
        self._canary = canary
        self._production = _Side()
        self._candidate = _Side()

    def production(self, seconds: float, *, failed: bool = False) -> None:
        """Production answered, or failed with what is no fault of the client."""
        self._production.add(seconds, failed)

    @property
    def usual_s(self) -> float:
        """Seconds that half of production's requests take at most; 0 where there were none."""
        return median(self._production.seconds or (0.0,))

    def candidate(self, seconds: float, *, failed: bool = False) -> str | None:
        """The candidate answered or failed; why it must go, if it must.

        An error is judged at once (from the fifth on), so that a candidate that always fails is gone after five;
        latency each `Canary.requests` requests (with 50 of production beside them), after which both counts begin anew.
        """
        self._candidate.add(seconds, failed)
        verdict = self._too_many_errors() if failed else None
        enough = self._candidate.requests >= self._canary.requests and self._production.requests >= _MIN_REQUESTS
        if verdict is None and enough:
            verdict = self._too_slow()
            self._production, self._candidate = _Side(), _Side()
        return verdict

    def _too_many_errors(self) -> str | None:
        new, old, factor = self._candidate, self._production, self._canary.error_factor
        if new.errors < _MIN_ERRORS:
            return None
        share = factor * new.requests / (factor * new.requests + old.requests)
        chance = binomial(new.errors, new.errors + old.errors, share)
        if chance > _ERRORS_BY_CHANCE:
            return None
        return (
            f"error rate: {new.errors} of {new.requests} requests failed, with production {old.errors} of "
            f"{old.requests}; that is beyond {factor:g} times and beyond chance (p = {chance:.1g})"
        )

    def _too_slow(self) -> str | None:
        new, old, factor = self._candidate.seconds, self._production.seconds, self._canary.p99_factor
        old_p99 = _p99(old)
        slow = sum(seconds > factor * old_p99 for seconds in new)
        chance = binomial(slow, len(new), _SLOW_SHARE)
        if _p99(new) <= factor * old_p99 or chance > _SLOW_BY_CHANCE:
            return None
        return (
            f"p99: {_p99(new) * 1000:.3g} ms over {len(new)} requests, with production {old_p99 * 1000:.3g} ms over "
            f"{len(old)}; that is beyond {factor:g} times and beyond chance (p = {chance:.1g})"
        )


def _p99(seconds: deque[float]) -> float:
    """The 99th percentile: the least of the values that 99 % do not exceed."""
    return sorted(seconds)[ceil(0.99 * len(seconds)) - 1]


def binomial(hits: int, trials: int, share: float) -> float:
    """Probability of at least ``hits`` in ``trials`` if each hits with probability ``share``, 0 < ``share`` <= 1."""
    if share >= 1:
        return 1.0
    total = 0.0
    for k in range(hits, trials + 1):
        choose = lgamma(trials + 1) - lgamma(k + 1) - lgamma(trials - k + 1)
        term = exp(choose + k * log(share) + (trials - k) * log(1 - share))
        total += term
        # The terms rise, then fall; here nothing is added any more.
        if term < total * 1e-12:
            break
    return min(1.0, total)
