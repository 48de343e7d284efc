"""How often an alarm is false, how soon a real one comes, and what watching costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from service.drift import Monitor
from service.drift_words import summary
from service.settings import Settings
from tests.drift.streams import Rows, Shipped, feed, mixed, shuffled
from training.reference import reference

LOOK_EACH = 50


@dataclass(frozen=True)
class Alarms:
    """Alarms in streams of traffic that did not change.

    Attributes:
        streams: Independent ones.
        rows: In each.
        looks: At all of them, after there were enough rows.
        moderate: Looks with a moderate alarm or worse, of any feature.
        major: Looks with a major one.
        streams_alarmed: Streams with any alarm at any look.
    """

    streams: int
    rows: int
    looks: int
    moderate: int
    major: int
    streams_alarmed: int


class _Split(Bundle):
    """A bundle with the reference statistics of other rows."""

    statistics: dict[str, Any]

    def reference(self) -> dict[str, Any]:
        return self.statistics


def referring(bundle: Bundle, rows: Rows) -> Bundle:
    """The bundle as if these had been the rows of its reference."""
    found = _Split(bundle.path, bundle.manifest)
    object.__setattr__(found, "statistics", reference(bundle.manifest.task, rows.rows, rows.answers))
    return found


def false_alarms(streams: Iterable[tuple[Bundle, Rows]], **settings: Any) -> Alarms:
    """Count alarms of any feature, at a look each 50 rows."""
    number = looks = moderate = major = alarmed = rows = 0
    for bundle, traffic in streams:
        number, rows = number + 1, len(traffic)
        reports = [r for r in feed(Monitor(bundle, Settings(**settings)), traffic, LOOK_EACH) if r.enough]
        states = [report.state for report in reports]
        looks += len(states)
        moderate += sum(state != "none" for state in states)
        major += sum(state == "major" for state in states)
        alarmed += any(state != "none" for state in states)
    return Alarms(number, rows, looks, moderate, major, alarmed)


def rows_until_alarm(model: Shipped, before: Rows, after: Rows, share: float, seed: int) -> tuple[int | None, str]:
    """Rows from a sudden change of so large a share of the traffic to the first alarm, and what is said in the end."""
    rng = np.random.default_rng(seed)
    normal, changed = 3000, 6000
    monitor = Monitor(model.bundle, Settings())
    shares = np.repeat([0.0, share], [normal, changed])
    first, report = None, monitor.report
    for look, report in enumerate(feed(monitor, mixed(before, after, shares, rng), LOOK_EACH)):
        seen = (look + 1) * LOOK_EACH - normal
        if seen > 0 and first is None and report.state != "none":
            first = seen
    return first, summary(report)


def halves(model: Shipped, known: Rows, count: int, rng: np.random.Generator) -> Iterable[tuple[Bundle, Rows]]:
    """One half of the rows at random as the reference, the other half as traffic: independent of each other."""
    for _ in range(count):
        order = rng.permutation(len(known))
        middle = len(known) // 2
        yield referring(model.bundle, known.take(order[:middle])), known.take(order[middle:])


def draws(
    model: Shipped, source: Rows, count: int, rows: int, rng: np.random.Generator
) -> Iterable[tuple[Bundle, Rows]]:
    """Streams of rows at random, none twice in a stream."""
    for _ in range(count):
        yield model.bundle, shuffled(source, rows, rng)


def offer_microseconds(model: Shipped, traffic: Rows) -> tuple[float, float]:
    """What one batch costs on the path of the requests, and a row in the thread."""
    monitor = Monitor(model.bundle, Settings())
    rows, answers = traffic.rows[:8], traffic.answers[:8]
    batches = 256 // len(rows)

    def offer() -> None:
        monitor.forget()
        for _ in range(batches):
            monitor.offer(rows, answers, 0.0)

    on_path = _best(offer) / batches

    def turn() -> None:
        monitor.offer(traffic.rows[:256], traffic.answers[:256], 0.0)
        monitor.turn()

    return on_path * 1e6, _best(turn) / 256 * 1e6


def _best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(20):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def turned(rows: NDArray[Any]) -> NDArray[Any]:
    """Pictures, turned by a quarter."""
    return np.rot90(rows, axes=(1, 2))
