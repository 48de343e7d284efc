"""Whether new rows are distributed as the old ones were."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import Bundle
from models.stability import chance
from tests.bundles import CARS, CHURN, SERIES, make_bundle, rows_of
from training.drift import Shift, drifted, new_rows, shifts
from training.fingerprints import fingerprints
from training.reference import inputs
from training.split import Part, Split


class Referring(Bundle):
    """A bundle whose reference statistics are those of given rows."""

    rows: Any

    def reference(self) -> dict[str, Any]:
        return {"version": 1, "rows": len(self.rows), "inputs": inputs(self.manifest.task, self.rows)}


def referring(folder: Path, task: Any, rows: Any, **options: Any) -> Bundle:
    made = make_bundle(folder, "some", task, **options)
    found = Referring(made.path, made.manifest)
    object.__setattr__(found, "rows", rows)
    return found


def test_one_feature_by_much_or_two_by_some_are_drift() -> None:
    def found(*each: float, by_chance: float = 0.01) -> list[Shift]:
        return [Shift(f"x{i}", value, by_chance) for i, value in enumerate(each)]

    assert drifted(found(0.24, 0.05)) == []
    assert [shift.name for shift in drifted(found(0.3, 0.05))] == ["x0"]
    assert [shift.name for shift in drifted(found(0.15, 0.02, 0.15))] == ["x0", "x2"]
    assert drifted(found(0.4, 0.4, by_chance=0.5)) == []


def test_rows_of_the_same_distribution_do_not_drift_and_moved_ones_do(tmp_path: Path) -> None:
    bundle = referring(tmp_path, CARS, rows_of(CARS, 1000))
    assert drifted(shifts(bundle, rows_of(CARS, 400, seed=1))) == []
    moved = rows_of(CARS, 400, seed=1)
    moved[:, 0] = moved[:, 0] * 0.5 + 4500
    found = drifted(shifts(bundle, moved))
    assert [shift.name for shift in found] == ["weight"]
    assert found[0].index > 0.25


def test_a_few_moved_rows_are_no_drift_yet(tmp_path: Path) -> None:
    bundle = referring(tmp_path, CARS, rows_of(CARS, 1000))
    assert drifted(shifts(bundle, rows_of(CARS, 12, seed=1))) == []


def test_a_new_category_and_missing_values_are_bins_of_their_own(tmp_path: Path) -> None:
    known = rows_of(CHURN, 1000)
    bundle = referring(tmp_path, CHURN, known)
    rows = rows_of(CHURN, 500, seed=1)
    rows[:300, 2] = 2
    rows[:400, 1] = np.nan
    found = {shift.name: shift.index for shift in shifts(bundle, rows)}
    assert found["contract"] > 1
    assert found["charges"] > 1
    assert found["months"] < 0.1


def test_a_series_moves_by_its_level_and_its_overlapping_windows_count_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    series = np.cumsum(rng.normal(0, 1, 1000)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(series, SERIES.lookback)[..., None]
    bundle = referring(tmp_path, SERIES, windows)
    found = shifts(bundle, windows + 60)
    assert {"OT_level", "OT_last"} == {shift.name for shift in drifted(found)}
    assert found[0].chance == pytest.approx(chance(10, 995 // 6, 995 // 6))


def test_new_rows_are_those_that_the_version_was_not_trained_on_and_no_test_rows(tmp_path: Path) -> None:
    rows = rows_of(CARS, 100)
    parts = [Part(rows[a:b], rows[a:b, 0]) for a, b in ((0, 60), (60, 80), (80, 100))]
    silent = make_bundle(tmp_path / "a", "some", CARS)
    speaking = make_bundle(tmp_path / "b", "some", CARS, trained_rows=np.sort(fingerprints(rows[:70])))
    np.testing.assert_array_equal(new_rows(speaking, Split(*parts)), rows[70:80])
    np.testing.assert_array_equal(new_rows(silent, Split(*parts)), rows[:80])


def test_what_a_bundle_records_is_what_new_rows_are_counted_like() -> None:
    rows, others = rows_of(CARS, 300), rows_of(CARS, 300, seed=1)
    recorded = inputs(CARS, rows)
    again = inputs(CARS, others, recorded)
    assert [entry.get("edges") for entry in again] == [entry.get("edges") for entry in recorded]
    assert [sum(entry["counts"]) for entry in again] == [300, 300, 300]
