"""What workers that were killed leave in the folder that all workers write their metrics to.

Their gauges go: they would be summed for ever. Their counts stay, so that no counter ever goes back, but in one file
for all of them: a worker that dies again and again would else make every scrape slower than the one before.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_COUNTS = ("counter", "histogram")
# No process has it.
_NOBODY = "0"


@contextmanager
def undisturbed(directory: Path) -> Iterator[None]:
    """While this is open no worker moves counts from file to file: they would be seen twice, or not at all."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def tidy_up(directory: Path) -> None:
    """Drop the gauges of dead workers, and add their counts to those of earlier ones."""
    dead = [path for path in _files(directory) if not _lives(path)]
    if not dead:
        return
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Another worker may have been first: what is there now counts.
        for path in [path for path in _files(directory) if not _lives(path)]:
            kind = path.name.partition("_")[0]
            if kind in _COUNTS:
                _add(path, directory / f"{kind}_{_NOBODY}.db")
            path.unlink()


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
    from prometheus_client.mmap_dict import MmapedDict

    total = MmapedDict(str(to))  # type: ignore[no-untyped-call]
    for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
        before, _ = total.read_value(key)  # type: ignore[no-untyped-call]
        total.write_value(key, before + value, timestamp)  # type: ignore[no-untyped-call]
    total.close()  # type: ignore[no-untyped-call]
