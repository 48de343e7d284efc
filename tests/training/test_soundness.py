"""Data on which a figure would mean nothing is refused, with the reason."""

import numpy as np
import pytest

from models.task import Category, Number, SequenceForecast, TabularClassification, TabularRegression
from training.datasets import DataError
from training.soundness import SEEN, problems, refuse_unsound, seen
from training.split import Part, Split

FIELDS = (Number(name="a", unit=None, low=-9, high=9), Category(name="b", values=("x", "y", "z")))
REGRESSION = TabularRegression(fields=FIELDS, target="t", unit="u")
CLASSES = TabularClassification(fields=FIELDS, target="t", labels=("k", "l", "m"))


def split(rows: np.ndarray, values: np.ndarray) -> Split:
    return Split(*(Part(rows[i::3].astype(np.float32), values[i::3]) for i in range(3)))


def table(count: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.normal(size=count), rng.integers(0, 3, count)], axis=1)


def test_sound_data_has_no_problems() -> None:
    rows = table()
    noise = np.random.default_rng(1).normal(size=len(rows))
    assert problems(REGRESSION, split(rows, (3 * rows[:, 0] + noise).astype(np.float32))) == []
    assert problems(CLASSES, split(rows, np.random.default_rng(1).integers(0, 3, len(rows)))) == []


def test_a_constant_column_is_refused_by_name() -> None:
    rows = table()
    rows[:, 1] = 2
    with pytest.raises(DataError, match=r"column b has one value in all training rows.*--ignore"):
        refuse_unsound(REGRESSION, split(rows, np.random.default_rng(1).normal(size=len(rows))))


def test_the_target_in_another_unit_is_refused() -> None:
    rows = table()
    with pytest.raises(DataError, match="column a is the target in another form"):
        refuse_unsound(REGRESSION, split(rows, 32 + 1.8 * rows[:, 0]))


def test_the_target_in_other_words_is_refused() -> None:
    rows = table()
    with pytest.raises(DataError, match="column b is the target in another form"):
        refuse_unsound(CLASSES, split(rows, np.array([2, 0, 1])[rows[:, 1].astype(int)]))


def test_test_rows_that_were_trained_on_are_counted_and_refused_above_a_share() -> None:
    rows, values = table(), np.random.default_rng(1).normal(size=300)
    few = split(rows, values)
    test = few.test.rows.copy()
    truths = few.test.values.copy()
    test[:15], truths[:15] = few.train.rows[:15], few.train.values[:15]
    some = Split(few.train, few.validation, Part(test, truths))
    assert seen(some) == pytest.approx(0.15)
    assert problems(REGRESSION, some) == []
    test[15:30], truths[15:30] = few.validation.rows[:15], few.validation.values[:15]
    assert SEEN < seen(some) == pytest.approx(0.3)
    with pytest.raises(DataError, match="30% of the test rows are training rows too"):
        refuse_unsound(REGRESSION, some)


def test_the_same_record_with_another_truth_is_no_repeated_row() -> None:
    rows, values = table(), np.random.default_rng(1).normal(size=300)
    few = split(rows, values)
    assert seen(Split(few.train, few.validation, Part(few.train.rows, few.train.values + 1))) == 0


def test_a_series_that_never_changes_is_refused() -> None:
    task = SequenceForecast(
        channels=(Number(name="s", unit=None, low=0, high=9),), target="s", lookback=4, horizon=2, unit="u", step="PT1H"
    )
    part = Part(np.ones((9, 4, 1), np.float32), np.ones((9, 2), np.float32))
    with pytest.raises(DataError, match="the series s never changes"):
        refuse_unsound(task, Split(part, part, part))
