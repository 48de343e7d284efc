"""A row is known again by its input, whatever stands beside it."""

import hashlib

import numpy as np

from training.fingerprints import fingerprints, shares, trained_on
from training.split import Part


def test_a_fingerprint_is_the_start_of_the_hash_of_the_rows_bytes() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)
    expected = int.from_bytes(hashlib.blake2b(bytes(range(12)), digest_size=4).digest(), "little")
    assert fingerprints(picture).tolist() == [expected]


def test_rows_have_the_same_fingerprint_in_any_array_that_holds_them() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    alone = np.concatenate([fingerprints(row[None]) for row in rows])
    np.testing.assert_array_equal(fingerprints(rows), alone)
    np.testing.assert_array_equal(fingerprints(rows[::-1]), alone[::-1])
    np.testing.assert_array_equal(fingerprints(rows.astype(">f4")), alone)
    assert len(set(alone)) == 50


def test_zero_and_missing_values_have_one_form() -> None:
    other_nan = np.array([0x7FC00001], np.uint32).view(np.float32)[0]
    assert np.isnan(other_nan)
    one, two = fingerprints(np.array([[0.0, np.nan], [-0.0, other_nan]], np.float32))
    assert one == two


def test_a_row_is_known_by_its_input_whatever_its_answer_was() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    first = trained_on((Part(rows, np.zeros(3)),))
    corrected = trained_on((Part(rows, np.ones(3)),))
    np.testing.assert_array_equal(first, corrected)


def test_what_a_version_was_trained_on_is_sorted_and_holds_each_row_once() -> None:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    found = trained_on((Part(rows, rows), Part(rows[:4], rows)), inherited=fingerprints(rows[:1] + 100))
    assert found.dtype == np.uint32
    assert len(found) == 11
    assert (np.diff(found.astype(np.int64)) > 0).all()


def test_a_rows_share_stays_when_rows_come_and_go() -> None:
    rows = np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32)
    whole = shares(rows)
    np.testing.assert_array_equal(shares(rows[:150]), whole[:150])
    np.testing.assert_array_equal(shares(rows[50:]), whole[50:])


def test_shares_spread_evenly_even_over_equal_rows() -> None:
    found = shares(np.zeros((2000, 3), np.float32))
    assert abs((found < 0.2).mean() - 0.2) < 0.03
    np.testing.assert_array_equal(shares(np.zeros((500, 3), np.float32)), found[:500])
