"""Real rows as traffic, as it is and changed, and what a monitor makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.engines import open_engine
from service.drift import Monitor, Report
from service.settings import PRETRAINED, Settings
from training.datasets import data_set, find
from training.recard import split_of

if TYPE_CHECKING:
    pass

Answers = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows and a shipped model's answers to them."""

    rows: NDArray[Any]
    answers: Answers

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[np.intp]) -> Rows:
        """The chosen ones, in that order."""
        return Rows(self.rows[chosen], self.answers[chosen])


class Shipped:
    """A shipped model with the data that it was trained on.

    Args:
        name: Of the model.
        data_dir: Where the data may lie.
    """

    def __init__(self, name: str, data_dir: Path | None) -> None:
        self.bundle = Bundle.open(PRETRAINED / name)
        self.task = self.bundle.manifest.task
        self._engine = open_engine(self.bundle)
        data = data_set(self.bundle.manifest.lineage.dataset)
        _, self.split = split_of(self.bundle, data, data.read(find(data, data_dir=data_dir).paths))

    def answered(self, rows: NDArray[Any]) -> Rows:
        """The rows with the model's answers."""
        rows = np.ascontiguousarray(rows)
        parts = [self._engine.run(rows[start : start + 64]) for start in range(0, len(rows), 64)]
        return Rows(rows, np.concatenate(parts))


def feed(monitor: Monitor, traffic: Rows, each: int = 50) -> Iterator[Report]:
    """What the monitor says after each so many rows."""
    for start in range(0, len(traffic), each):
        monitor.offer(traffic.rows[start : start + each], traffic.answers[start : start + each], 0.0)
        monitor.turn()
        yield monitor.report


def report_on(bundle: Bundle, traffic: Rows, **settings: Any) -> Report:
    """What a new monitor says of the traffic at its end."""
    *_, last = feed(Monitor(bundle, Settings(**settings)), traffic)
    return last


def mixed(before: Rows, after: Rows, shares: NDArray[np.float64], rng: np.random.Generator) -> Rows:
    """Traffic whose every row comes from ``after`` with its share as probability, else from ``before``."""
    changed = rng.random(len(shares)) < shares
    old, new = (part.take(rng.integers(0, len(part), len(shares))) for part in (before, after))
    picked = changed.reshape(-1, *[1] * (old.rows.ndim - 1))
    answered = changed.reshape(-1, *[1] * (old.answers.ndim - 1))
    return Rows(np.where(picked, new.rows, old.rows), np.where(answered, new.answers, old.answers))


def shuffled(source: Rows, count: int, rng: np.random.Generator) -> Rows:
    """So many rows at random, none twice."""
    return source.take(rng.permutation(len(source))[:count])
