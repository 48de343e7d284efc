"""How rows of a user's own are parted."""

import numpy as np

from tests.training.made_up import tiny
from training.own.source import random_split
from training.split import Part


def parts(rows: np.ndarray, values: np.ndarray) -> tuple[Part, Part, Part]:
    split = random_split(Part(rows, values), tiny("dnn"), stratify=True)
    return split.train, split.validation, split.test


def test_a_class_of_few_rows_has_some_in_each_part() -> None:
    rows = np.random.default_rng(0).normal(size=(308, 4)).astype(np.float32)
    values = np.array([0] * 300 + [1] * 8)
    for start in range(0, 290, 10):
        moved = np.roll(values, start)
        assert all((part.values == 1).any() for part in parts(rows, moved))


def test_equal_rows_are_spread_over_the_parts() -> None:
    train, validation, test = parts(np.zeros((500, 2), np.float32), np.arange(500) % 2)
    assert len(train) > 250
    assert len(validation) > 60
    assert len(test) > 60
