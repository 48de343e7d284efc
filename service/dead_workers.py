"""What workers that were killed leave in the folder that all workers write their metrics to.

Their gauges go: they would be summed for ever. Their counts stay, so that no counter ever goes back, but in one file
for all of them: a worker that dies again and again would else make every scrape slower than the one before.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.number_files import UNREADABLE, NumberFile, read_numbers

logger = logging.getLogger(__name__)

_COUNTS = ("counter", "histogram")
# Stands where a file's name has a process id: no process has this one.
_NOBODY = "0"


@contextmanager
def undisturbed(directory: Path) -> Iterator[None]:
    """While this is open no worker moves counts from file to file: they would be seen twice, or not at all."""
    with _locked(directory, fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(directory: Path, how: int) -> Iterator[None]:
    # Opened for reading alone: the disk may have become read-only since.
    lock = os.open(directory / "lock", os.O_RDONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, how)
        yield
    finally:
        os.close(lock)


def tidy_up(directory: Path) -> None:
    """Drop the gauges of dead workers, and add their counts to those of earlier ones."""
    dead = [path for path in _files(directory) if not _lives(path)]
    if not dead:
        return
    with _locked(directory, fcntl.LOCK_EX):
        # Another worker may have been first: what is there now counts.
        for path in [path for path in _files(directory) if not _lives(path)]:
            kind = path.name.partition("_")[0]
            try:
                if kind in _COUNTS:
                    _add(path, directory / f"{kind}_{_NOBODY}.db")
                path.unlink()
            except UNREADABLE as error:
                # Or the disk is full. Its counts are still seen where they are.
                logger.debug("%s of a killed worker stays: %s", path.name, error)


def _files(directory: Path) -> list[Path]:
    """Of the workers, dead or alive."""
    patterns = ("gauge_live*_*.db", "present_*_*.json", *(f"{kind}_*.db" for kind in _COUNTS))
    found = [path for pattern in patterns for path in directory.glob(pattern)]
    return [path for path in found if _process(path) != _NOBODY]


def _process(path: Path) -> str:
    return path.stem.rpartition("_")[2]


def _lives(path: Path) -> bool:
    return Path(f"/proc/{_process(path)}").exists()


def _add(path: Path, to: Path) -> None:
    if to.exists():
        # Fails where it cannot be read: begun anew, it would lose the counts of all earlier ones.
        read_numbers(to)
    total = NumberFile(str(to))
    for key, value, timestamp in read_numbers(path):
        before, _ = total.read_value(key)
        total.write_value(key, before + value, timestamp)
    total.save_whole()
