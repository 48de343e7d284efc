"""How many connections each worker process has, in a file that all of them share."""

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

_NOBODY = -1
_COUNT = struct.Struct("q")


class Alone:
    """The view of a worker that has no others."""

    def set(self, connections: int) -> None:
        """Nobody asks."""

    def ahead(self) -> bool:
        """Of nobody."""
        return False

    def surplus(self) -> float:
        """All are its own."""
        return 0.0

    def close(self) -> None:
        """There is no slot."""


class Shares:
    """One worker's view of it; the worker has a slot of its own for as long as it lives.

    Whether the owner of another slot still lives, a lock says: the kernel lets go of the locks of a process that ends,
    however it ends. So what a killed worker had holds up nobody, and its slot goes to the next.

    Args:
        path: File that the workers of one server share.
        workers: How many there are.

    Raises:
        OSError: The file cannot be made.
        RuntimeError: Every slot belongs to a living worker.
    """

    def __init__(self, path: Path, workers: int) -> None:
        # Those that end are there for a while beside those in their place.
        self._slots = range(2 * workers)
        self._counts = struct.Struct(f"{len(self._slots)}q")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        # Not mapped into memory: a full or failing disk would end the process that touches it. What is allocated now
        # can be written however full the disk becomes.
        try:
            os.posix_fallocate(self._file, 0, self._counts.size)
        except OSError:
            self.close()
            raise
        own = next((slot for slot in self._slots if self._lock(slot)), None)
        if own is None:
            self.close()
            raise RuntimeError(f"{path.name}: {len(self._slots)} workers share connections already.")
        self._own = own
        self.set(0)

    def set(self, connections: int) -> None:
        """Tell the others how many connections this worker has."""
        self._write(self._own, connections)

    def ahead(self) -> bool:
        """Whether a living worker has fewer connections than this one."""
        with suppress(OSError, struct.error):
            counts = self._counts.unpack(os.pread(self._file, self._counts.size, 0))
            mine = counts[self._own]
            return any(_NOBODY < counts[slot] < mine and self._lives(slot) for slot in self._slots)
        return False

    def surplus(self) -> float:
        """How many connections more than an even share of those of all living workers this one has."""
        with suppress(OSError, struct.error):
            counts = self._counts.unpack(os.pread(self._file, self._counts.size, 0))
            mine: int = counts[self._own]
            living: list[int] = [counts[slot] for slot in self._slots if counts[slot] > _NOBODY and self._lives(slot)]
            return mine - sum(living) / len(living)
        return 0.0

    def _write(self, slot: int, connections: int) -> None:
        # Where the disk fails, each worker takes what comes.
        with suppress(OSError):
            os.pwrite(self._file, _COUNT.pack(connections), slot * _COUNT.size)

    def _lives(self, slot: int) -> bool:
        if slot == self._own or not self._lock(slot):
            return True
        # Under the lock, so that it is not taken from one that has just begun.
        self._write(slot, _NOBODY)
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)
        return False

    def _lock(self, slot: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def close(self) -> None:
        """Give the slot back."""
        os.close(self._file)
        # Its number may soon be that of another file.
        self._file = -1
