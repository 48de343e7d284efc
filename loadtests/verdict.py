"""From what was counted to an exit status."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REFUSED = "refused, as it may be in an overload"
"""Name in the statistics of refusals that are no failures."""
MET, MISSED, MISUSED, IMPOSSIBLE = range(4)
"""Exit statuses: within all thresholds; a threshold missed; wrong arguments; the test could not be carried out."""


@dataclass(frozen=True)
class Limits:
    """What is required.

    Attributes:
        failure_ratio: Largest share of failed and wrong answers.
        p99_ms: Largest 99th percentile of the response times of answers that were no refusals.
        requests_per_s: Smallest number of these.
        shape: ``overload`` must refuse, ``redeploy`` must see two versions answer.
    """

    failure_ratio: float
    p99_ms: float
    requests_per_s: float
    shape: str


@dataclass(frozen=True)
class Figures:
    """What was counted.

    Attributes:
        answered: Right, wrong and failed ones, without those that were allowed to be refused.
        failed: Wrong and failed ones.
        refused: Those that were allowed to be.
        p99_ms: Of what was answered. NaN of nothing.
        requests_per_s: Answered a second.
        exceptions: Kinds of exception in the users themselves.
        versions: Model -> version -> its answers.
    """

    answered: int
    failed: int
    refused: int
    p99_ms: float
    requests_per_s: float
    exceptions: int
    versions: Mapping[str, Mapping[str, int]]

    def say(self) -> str:
        """In a line."""
        refused = f", {self.refused:,} refused" if self.refused else ""
        return (
            f"{self.answered:,} requests, {self.requests_per_s:,.0f} a second, {self.failed} failed{refused}, "
            f"p99 {self.p99_ms:.0f} ms"
        )

    def say_versions(self) -> list[str]:
        """A line for each model that more than one version answered."""
        return [
            f"{model}: " + ", ".join(f"{version} answered {count:,}" for version, count in sorted(found.items()))
            for model, found in sorted(self.versions.items())
            if len(found) > 1
        ]


def judge_refusal(name: str, said: str, *, retry_after: bool) -> tuple[str, str]:
    """Name in the statistics of a refusal that was allowed, and why it is a failure all the same, else empty.

    Args:
        name: Of the request.
        said: Its status and body.
        retry_after: Whether it says when to come again; else nobody who is overloaded said it, but one who is gone.
    """
    return (REFUSED, "") if retry_after else (name, f"no Retry-After: {said}")


def figures(stats: Any, exceptions: int, versions: Mapping[str, Mapping[str, int]]) -> Figures:
    """From locust's statistics.

    Args:
        stats: A `locust.stats.RequestStats` of everybody.
        exceptions: Kinds of exception in the users.
        versions: As `Figures` has them.
    """
    entries = [entry for entry in stats.entries.values() if entry.name != REFUSED]
    times: Counter[int] = Counter()
    for entry in entries:
        times.update(entry.response_times)
    answered = sum(entry.num_requests for entry in entries)
    seconds = (stats.last_request_timestamp or 0.0) - stats.start_time
    return Figures(
        answered=answered,
        failed=sum(entry.num_failures for entry in stats.entries.values()),
        refused=stats.total.num_requests - answered,
        p99_ms=_percentile(times, 0.99),
        requests_per_s=answered / seconds if seconds > 0 else 0.0,
        exceptions=exceptions,
        versions=versions,
    )


def _percentile(times: Mapping[int, int], share: float) -> float:
    """The smallest of the times that at least ``share`` of all do not exceed; NaN of nothing."""
    left = share * sum(times.values())
    for time in sorted(times):
        left -= times[time]
        if left <= 0:
            return float(time)
    return float("nan")


def broken(found: Figures, limits: Limits) -> Sequence[str]:
    """Every threshold that was missed, in words."""
    if found.answered == 0:
        return ["no request was answered"]
    problems = []
    ratio = found.failed / found.answered
    if ratio > limits.failure_ratio:
        problems.append(f"failure ratio {ratio:.4f} is above {limits.failure_ratio:g}")
    if found.p99_ms > limits.p99_ms:
        problems.append(f"p99 {found.p99_ms:.0f} ms is above {limits.p99_ms:g} ms")
    if found.requests_per_s < limits.requests_per_s:
        problems.append(f"{found.requests_per_s:.0f} requests/s is below {limits.requests_per_s:g}")
    if found.exceptions:
        problems.append(f"{found.exceptions} kinds of exception in the users themselves")
    if limits.shape == "overload" and not found.refused:
        problems.append("nothing was refused, so that this was no overload: more --users")
    if limits.shape == "redeploy" and not found.say_versions():
        problems.append("only one version of each model answered")
    return problems
