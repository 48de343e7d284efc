"""Which rows are trained on, which every choice is made on, and which are touched once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """Rows as the model takes them, and the true values in raw units (a class is its number)."""

    rows: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: np.ndarray | slice) -> Part:
        """The chosen rows, in that order."""
        return Part(self.rows[chosen], self.values[chosen])


@dataclass(frozen=True)
class Split:
    """The three parts. `test` is evaluated once for each run that is published."""

    train: Part
    validation: Part
    test: Part

    def fewer(self, rows: int | None, *, seed: int) -> Split:
        """With only so many of the training rows, chosen at random, in their order; the other parts as they are."""
        if rows is None or rows >= len(self.train):
            return self
        chosen = np.sort(np.random.default_rng([seed, 10]).permutation(len(self.train))[:rows])
        return Split(self.train.take(chosen), self.validation, self.test)


def hold_out(part: Part, share: float, *, seed: int, stratify: bool) -> tuple[Part, Part]:
    """Part training rows from validation rows at random.

    Args:
        part: All training rows.
        share: Of them for validation, 0 to 1.
        seed: Decides which.
        stratify: Give both parts the same shares of each class.

    Returns:
        Training and validation rows.
    """
    from sklearn.model_selection import train_test_split

    train, validation = train_test_split(
        np.arange(len(part)), test_size=share, random_state=seed, stratify=part.values if stratify else None
    )
    return part.take(np.sort(train)), part.take(np.sort(validation))


def folds(rows: int, count: int, *, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices (train, held out) of each fold; every row is held out once."""
    from sklearn.model_selection import KFold

    return list(KFold(count, shuffle=True, random_state=seed).split(np.arange(rows)))
