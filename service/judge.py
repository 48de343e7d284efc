"""Whether a canary is worse than production, beyond a factor and beyond chance. Counts in, a verdict out; no clock.

Errors: Fisher's exact test, one-sided (R. A. Fisher, The Design of Experiments, 1935). Latency: of the candidate's
requests 1 % may take longer than production's 99th percentile times the factor; the binomial test says how probable
more than that are by chance.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp, lgamma, log

from models.store import Canary

_MIN_ERRORS = 5
# Errors are looked at again and again, so chance must be far off each time.
_CHANCE = 1e-4
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

    def candidate(self, seconds: float, *, failed: bool = False) -> str | None:
        """The candidate answered or failed; why it must go, if it must.

        An error is judged at once (from the fifth on), so that a candidate that always fails is gone after five;
        latency each `Canary.requests` requests, after which both counts begin anew.
        """
        self._candidate.add(seconds, failed)
        verdict = self._too_many_errors() if failed else None
        if verdict is None and self._candidate.requests >= self._canary.requests:
            verdict = self._too_slow()
            self._production, self._candidate = _Side(), _Side()
        return verdict

    def _too_many_errors(self) -> str | None:
        new, old, factor = self._candidate, self._production, self._canary.error_factor
        if new.errors < _MIN_ERRORS or new.errors * max(1, old.requests) <= factor * old.errors * new.requests:
            return None
        chance = fisher(new.errors, new.requests, old.errors, old.requests)
        if chance > _CHANCE:
            return None
        return (
            f"error rate: {new.errors} of {new.requests} requests failed, with production {old.errors} of "
            f"{old.requests}; that is beyond {factor:g} times and beyond chance (p = {chance:.1g})"
        )

    def _too_slow(self) -> str | None:
        new, old, factor = self._candidate.seconds, self._production.seconds, self._canary.p99_factor
        # The p99 of fewer is one request's.
        if len(old) < 50:
            return None
        old_p99 = _p99(old)
        slow = sum(seconds > factor * old_p99 for seconds in new)
        chance = binomial(slow, len(new), _SLOW_SHARE)
        if _p99(new) <= factor * old_p99 or chance > _CHANCE:
            return None
        return (
            f"p99: {_p99(new) * 1000:.3g} ms over {len(new)} requests, with production {old_p99 * 1000:.3g} ms over "
            f"{len(old)}; that is beyond {factor:g} times and beyond chance (p = {chance:.1g})"
        )


def _p99(seconds: deque[float]) -> float:
    """The 99th percentile, as one of the values."""
    return sorted(seconds)[int(0.99 * (len(seconds) - 1))]


def fisher(errors: int, requests: int, other_errors: int, other_requests: int) -> float:
    """Probability of at least ``errors`` among ``requests`` if both sides had the same rate of errors."""
    failed, total = errors + other_errors, requests + other_requests
    every = _log_choose(total, requests)
    return _tail(
        _log_choose(failed, k) + _log_choose(total - failed, requests - k) - every
        for k in range(errors, min(failed, requests) + 1)
    )


def binomial(hits: int, trials: int, share: float) -> float:
    """Probability of at least ``hits`` in ``trials`` if each hits with probability ``share``."""
    return _tail(
        _log_choose(trials, k) + k * log(share) + (trials - k) * log(1 - share) for k in range(hits, trials + 1)
    )


def _tail(log_terms: Iterable[float]) -> float:
    """Sum of terms given by their logarithms, which rise and then fall; ends where nothing is added any more."""
    total = 0.0
    for term in map(exp, log_terms):
        total += term
        if term < total * 1e-12:
            break
    return min(1.0, total)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) if 0 <= k <= n else float("-inf")
