"""The report on training from a version's weights: training pictures only, the same rows for both ways."""

from pathlib import Path

import numpy as np
import pandas as pd

from training import transfer_report
from training.datasets import Raw
from training.transfer_report import KNOWN, NEW, REPORT, chosen_classes, lesson, table, write

RESULTS = {
    ("scratch", 10): [0.5, 0.6],
    ("from", 10): [0.7, 0.9],
    ("scratch", 20): [0.8, 0.8],
    ("from", 20): [0.8, 0.81],
}


def numbered(count: int = 8_000) -> Raw:
    """Each picture's first two pixels are its number; the second half is the test set."""
    pictures = np.zeros((count, 28, 28), np.uint8)
    pictures[:, 0, 0], pictures[:, 0, 1] = np.arange(count) // 256, np.arange(count) % 256
    part = ["train"] * (count // 2) + ["test"] * (count // 2)
    return Raw(pd.DataFrame({"label": np.arange(count) % 10, "part": part}), pictures)


def numbers(rows: np.ndarray) -> set[int]:
    return {int(row[0, 0, 0]) * 256 + int(row[0, 1, 0]) for row in rows}


def test_the_two_networks_share_no_class() -> None:
    assert sorted((*KNOWN, *NEW)) == list(range(10))


def test_no_test_picture_is_looked_at_and_classes_are_numbered_anew() -> None:
    part = chosen_classes(numbered(), NEW)
    assert numbers(part.rows) == {i for i in range(4_000) if i % 10 in NEW}
    assert set(part.values) == {0, 1, 2, 3}


def test_a_seed_draws_other_training_rows_and_all_are_judged_on_the_same_ones() -> None:
    part = chosen_classes(numbered(), NEW)
    one, again, other = (lesson(part, 20, seed) for seed in (1, 1, 2))
    assert np.bincount(one.train.values).tolist() == [20] * 4
    assert numbers(one.train.rows) == numbers(again.train.rows) != numbers(other.train.rows)
    assert numbers(one.validation.rows) == numbers(other.validation.rows)
    assert not numbers(one.train.rows) & numbers(one.validation.rows)
    assert len(one.test) == 0


def test_the_table_has_means_spreads_and_each_seeds_gain() -> None:
    rows = table(RESULTS).splitlines()
    assert rows[2] == "| 10 | 0.550 +- 0.071 | **0.800 +- 0.141** | +25.0 (+20.0, +30.0) | 2 |"
    assert len(rows) == 4


def test_the_table_replaces_the_old_one_and_words_stay(tmp_path: Path) -> None:
    report = tmp_path / "transfer.md"
    report.write_text("# Words\n\n| old |\n|---|\n\nMore words.\n", encoding="utf-8")
    write(report, RESULTS)
    write(report, RESULTS)
    assert report.read_text(encoding="utf-8") == f"# Words\n\n{table(RESULTS)}\nMore words.\n"
    assert 5_000 < (tmp_path / "transfer" / "accuracy.png").stat().st_size < 80_000


def test_the_shipped_report_has_its_command_and_a_row_for_each_size() -> None:
    text = REPORT.read_text(encoding="utf-8")
    assert "python -m training.transfer_report" in text
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")][1:] == [
        f"| {size}" for size in transfer_report.SIZES
    ]
    assert (REPORT.with_suffix("") / "accuracy.png").stat().st_size < 80_000
