"""Figures beside baselines of the same run, and the ledger of looks at test rows."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from models.manifest import Figure
from tests.training.made_up import MADE_UP, temperatures, tiny
from training import baselines
from training.analysis import analyse
from training.datasets import data_set
from training.evaluate import append_to_ledger, evaluate, lines, scale_of
from training.split import Split

OF = {"cnn": "fashion-mnist", "regressor": "auto-mpg", "lstm": "etth1"}


def split_of(architecture: str) -> Split:
    known = data_set(OF[architecture])
    return known.split(known.engineer(MADE_UP[known.name]()), tiny(architecture))


@pytest.mark.parametrize("architecture", OF)
def test_a_perfect_model_beats_every_baseline(architecture: str) -> None:
    task, split = data_set(OF[architecture]).task, split_of(architecture)
    truth = split.test.values
    perfect = np.eye(10)[truth] if architecture == "cnn" else np.stack([truth] * 3, axis=-1)
    simple = baselines.answers(task, split.train, split.test)
    headline = evaluate(task, perfect.astype(np.float32), simple, split.test).figures[0]
    assert headline.rows == len(split.test)
    assert len(headline.baselines) >= 2
    for value in headline.baselines.values():
        assert (headline.value >= value) if headline.higher_is_better else (headline.value <= value)


def test_a_series_is_scaled_by_its_training_part_alone() -> None:
    """As publications do; overlapping windows must not weigh the middle of the series more."""
    part = split_of("lstm").train
    series = temperatures().table["OT"].to_numpy(np.float32)[: len(part) + 96 + 24 - 1]
    assert scale_of(data_set("etth1").task, part) == pytest.approx(series.std(), rel=1e-5)
    assert scale_of(data_set("auto-mpg").task, part) == 1


def test_repeating_the_last_value_is_just_that() -> None:
    split = split_of("lstm")
    answer = baselines.forecasts(split.train, split.test, target=0, ridge=1.0)["repeat the last value"]
    np.testing.assert_array_equal(answer[:, 0], split.test.rows[:, -1, 0])
    np.testing.assert_array_equal(answer[:, 0], answer[:, -1])


def test_the_ledger_grows_by_a_row_a_look(tmp_path: Path) -> None:
    ledger = tmp_path / "deep" / "EVALUATIONS.md"
    figure = Figure(name="mae", value=1.23456, unit="mpg", higher_is_better=False, rows=78)
    for version in ("first", "second"):
        append_to_ledger(
            ledger,
            when=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            name="cars",
            version=version,
            config_sha256="ab" * 32,
            figure=figure,
        )
    rows = [line for line in ledger.read_text(encoding="utf-8").splitlines() if line.startswith("| 2026")]
    assert rows[0] == "| 2026-01-02 03:04:05 | cars | first | abababababab | mae 1.2346 mpg | 78 |"
    assert len(rows) == 2


def test_a_line_puts_a_figure_beside_its_baselines() -> None:
    figure = Figure(name="mae", value=1.5, unit="mpg", baselines={"median": 7.0}, higher_is_better=False, rows=78)
    assert lines((figure,)) == ["mae 1.5000 mpg on 78 test rows (beside median 7.0000)"]


def test_the_analysis_counts_blanks_and_shows_ranges() -> None:
    said = analyse(MADE_UP["auto-mpg"]())
    assert said[0].startswith("120 rows, 9 columns")
    assert any(line.startswith("horsepower: ") and line.endswith("1 blank") for line in said)
    assert any(line.startswith("origin: europe x ") for line in said)
