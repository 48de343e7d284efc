"""The counts of workers that were killed stay, whatever the disk does."""

from pathlib import Path

import pytest

from service.dead_workers import tidy_up
from service.number_files import NumberFile, read_numbers

# Of no process: beyond the largest number that Linux gives one.
DEAD = 2**22 + 1


def counted(path: Path, value: float) -> Path:
    file = NumberFile(str(path))
    file.write_value("rows", value, 0.0)
    file.save()
    return path


def test_counts_of_killed_workers_are_added_to_those_of_earlier_ones(tmp_path: Path) -> None:
    total = counted(tmp_path / "counter_0.db", 3.0)
    dead = counted(tmp_path / f"counter_{DEAD}.db", 2.0)
    tidy_up(tmp_path)
    assert read_numbers(total) == [("rows", 5.0, 0.0)]
    assert not dead.exists()


@pytest.mark.parametrize("damaged", ["total", "worker"])
def test_counts_are_left_where_they_are_when_a_file_cannot_be_read(tmp_path: Path, damaged: str) -> None:
    total = counted(tmp_path / "counter_0.db", 3.0)
    dead = counted(tmp_path / f"counter_{DEAD}.db", 2.0)
    (total if damaged == "total" else dead).write_bytes(b"\xff\xff\xff\x7f" * 9)
    before = (total.read_bytes(), dead.read_bytes())
    other = counted(tmp_path / f"histogram_{DEAD}.db", 1.0)
    tidy_up(tmp_path)
    assert (total.read_bytes(), dead.read_bytes()) == before
    assert not other.exists(), "the others are tidied up"
