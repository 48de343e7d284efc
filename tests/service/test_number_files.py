"""Numbers in memory and in prometheus_client's format on disk, whatever the disk does."""

import errno
import logging
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict

from service.number_files import NumberFile, NumberFiles, read_numbers

Numbers = list[tuple[str, float, float]]


@given(st.dictionaries(st.text(min_size=1).filter(lambda key: key.strip() == key), st.floats(allow_nan=False)))
@examples(max_examples=60, deadline=None)
def test_a_file_is_byte_for_byte_what_prometheus_client_writes(
    tmp_path_factory: Any, numbers: dict[str, float]
) -> None:
    folder = tmp_path_factory.mktemp("numbers")
    theirs: Any = MmapedDict(str(folder / "theirs.db"))  # type: ignore[no-untyped-call]
    ours = NumberFile(str(folder / "ours.db"))
    for key, value in numbers.items():
        for file in (theirs, ours):
            assert file.read_value(key) == (0.0, 0.0)
            file.write_value(key, value, 2.0)
            assert file.read_value(key) == (value, 2.0)
    theirs.close()
    ours.save()
    if numbers:
        assert (folder / "ours.db").read_bytes() == (folder / "theirs.db").read_bytes()
        assert read_numbers(folder / "ours.db") == read_numbers(folder / "theirs.db")
    assert {path.name for path in folder.iterdir()} == {"ours.db", "theirs.db"}


def test_a_process_with_the_number_of_an_earlier_one_goes_on_with_its_counts(tmp_path: Path) -> None:
    path = tmp_path / "counter_7.db"
    first = NumberFile(str(path))
    first.write_value("a", 3.0, 1.0)
    first.save()
    second = NumberFile(str(path))
    assert second.read_value("a") == (3.0, 1.0)
    second.write_value("b", 1.0, 0.0)
    second.save()
    assert read_numbers(path) == [("a", 3.0, 1.0), ("b", 1.0, 0.0)]


@pytest.mark.parametrize("damaged", [b"", b"\x08", b"\xff\xff\xff\x7f" * 9, b"\x40\0\0\0\0\0\0\0\x10\0\0\0abc"])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "counter_7.db"
    path.write_bytes(damaged)
    file = NumberFile(str(path))
    file.write_value("a", 1.0, 0.0)
    file.save()
    assert read_numbers(path) == [("a", 1.0, 0.0)]


def test_a_folder_that_goes_and_comes_again_has_every_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    files = NumberFiles()
    file = files(str(folder / "counter_7.db"))
    file.write_value("a", 1.0, 0.0)
    files.save()
    folder.rename(tmp_path / "elsewhere")
    with caplog.at_level(logging.INFO):
        for value in (2.0, 3.0):
            file.write_value("a", value, 0.0)
            files.save()
        assert (files.problem, files.stale) == (
            "metrics cannot be written: No such file or directory. Check the volume's space and permissions.",
            True,
        )
        (tmp_path / "elsewhere").rename(folder)
        files.save()
    assert read_numbers(folder / "counter_7.db") == [("a", 3.0, 0.0)]
    assert (files.problem, files.stale) == ("", False)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_no_room_for_more_leaves_what_is_there_up_to_date_and_readable(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    path = tmp_path / "counter_7.db"
    files = NumberFiles()
    file = files(str(path))
    file.write_value("a", 1.0, 0.0)
    files.save()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    file.write_value("a", 2.0, 0.0)
    file.write_value("b" * 70_000, 1.0, 0.0)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limits[1]))
        files.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert files.problem.startswith("metrics cannot be written: File too large.")
    assert not files.stale
    assert read_numbers(path) == [("a", 2.0, 0.0)]
    files.save()
    assert [value for _, value, _ in read_numbers(path)] == [2.0, 1.0]


def test_no_room_is_told_and_is_no_reason_to_distrust_what_is_written(tmp_path: Path) -> None:
    def no_room() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    files = NumberFiles()
    files.save(no_room)
    assert files.problem.startswith("metrics cannot be written: No space left on device.")
    assert not files.stale
