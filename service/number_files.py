"""The numbers of one worker: in memory, and in files from which the others read them.

prometheus_client maps its files into memory. Where the disk is full or fails, the kernel ends the process that touches
a page of such a file (SIGBUS), and the next worker in its place; a slow disk holds up the event loop. So here the
numbers are in memory, and a thread writes them in prometheus_client's format, whose readers stay its own. What cannot
be written is kept, and written when it can be.
"""

import errno
import logging
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

# Bytes in use and padding; then of each number the length of its key, the key, padding to 8 bytes, value and time.
_HEAD = struct.Struct("i4x")
_LENGTH = struct.Struct("i")
_NUMBER = struct.Struct("dd")
_ALIGNED = 8
# Files grow by so much, so that new numbers have room on a disk that is full by then.
_ROOM = 1 << 16
# What `read_numbers` raises: of the disk, and of damaged files.
UNREADABLE = (OSError, ValueError, struct.error, RuntimeError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NumberFile:
    """A file of numbers by key, with what prometheus_client asks of its ``MmapedDict``.

    Args:
        path: What is there already is gone on with.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._data = bytearray(_HEAD.pack(_HEAD.size))
        self._positions: dict[str, int] = {}
        self._saved = b""
        with suppress(*UNREADABLE):
            for key, value, timestamp in read_numbers(self._path):
                self.write_value(key, value, timestamp)

    def read_value(self, key: str) -> tuple[float, float]:
        """Value and time (seconds since the epoch, 0 for none); both 0 from now on where there was none."""
        value, timestamp = _NUMBER.unpack_from(self._data, self._position(key))
        return value, timestamp

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Keep a value."""
        _NUMBER.pack_into(self._data, self._position(key), value, timestamp)

    def _position(self, key: str) -> int:
        found = self._positions.get(key)
        if found is None:
            encoded = key.encode()
            entry = _LENGTH.pack(len(encoded)) + encoded
            entry += b" " * (_ALIGNED - len(entry) % _ALIGNED)
            found = self._positions[key] = len(self._data) + len(entry)
            self._data += entry + _NUMBER.pack(0.0, 0.0)
            # Last: whoever copies the data meanwhile sees all that is in use.
            _HEAD.pack_into(self._data, 0, len(self._data))
        return found

    def save(self) -> None:
        """Bring the file up to date, where something changed.

        Raises:
            OSError: It cannot be written; what it said before, or a part of what is new, can still be read.
        """
        data = bytes(self._data)
        if data == self._saved:
            return
        if self._saved:
            try:
                # In place, as that needs no room; a number never moves, and the head comes last.
                with self._path.open("r+b") as file:
                    grown = _with_room(data) if len(_with_room(data)) > len(_with_room(self._saved)) else data
                    file.seek(_HEAD.size)
                    file.write(grown[_HEAD.size :])
                    file.flush()
                    file.seek(0)
                    file.write(data[: _HEAD.size])
            except FileNotFoundError:
                self._saved = b""
        if not self._saved:
            replace_file(self._path, _with_room(data))
        self._saved = data

    def save_whole(self) -> None:
        """Replace the file in one step, for what must not be seen half done.

        Raises:
            OSError: It cannot be written, and is as it was.
        """
        self._saved = bytes(self._data)
        replace_file(self._path, _with_room(self._saved))

    def close(self) -> None:
        """Called after a fork, when the numbers belong to the other process."""


class NumberFiles:
    """All files of a worker; called by prometheus_client to open one.

    Attributes:
        problem: Why they could not be written at the last try; empty where they could.
        stale: Whether what was in them already could not be written either, so that a scrape would be wrong.
    """

    def __init__(self) -> None:
        self.problem = ""
        self.stale = False
        self._files: list[NumberFile] = []

    @classmethod
    def installed(cls) -> "NumberFiles":
        """Those that this process's metrics open instead of prometheus_client's own."""
        from prometheus_client import values

        module: Any = values
        if not isinstance(module.MmapedDict, cls):
            module.MmapedDict = cls()
        files: NumberFiles = module.MmapedDict
        return files

    def __call__(self, path: str) -> NumberFile:
        """Open a file."""
        self._files.append(NumberFile(path))
        return self._files[-1]

    def save(self, *further: Callable[[], None]) -> None:
        """Write what changed, of all files and by ``further``; what cannot be written is said once."""
        problems: list[OSError] = []
        for save in (*(file.save for file in self._files), *further):
            try:
                save()
            except OSError as error:
                problems.append(error)
        worst = next((error for error in problems if error.errno not in _NO_ROOM), problems[0] if problems else None)
        self.stale = worst is not None and worst.errno not in _NO_ROOM
        self._say(f"{worst.strerror or worst}" if worst else "")

    def _say(self, reason: str) -> None:
        problem = f"metrics cannot be written: {reason}. Check the volume's space and permissions." if reason else ""
        if problem and problem != self.problem:
            logger.error("%s They are counted in memory and written when they can be.", problem)
        elif self.problem and not problem:
            logger.info("metrics are written again")
        self.problem = problem


def _with_room(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // _ROOM) * _ROOM, b"\0")


def read_numbers(path: Path) -> list[tuple[str, float, float]]:
    """Key, value and time of each number in a file.

    Raises:
        OSError: It cannot be read.
    """
    from prometheus_client.mmap_dict import MmapedDict

    found: Any = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    return [(key, value, timestamp) for key, value, timestamp, _ in found]


def replace_file(path: Path, data: bytes) -> None:
    """Make ``data`` all that the file holds, in one step.

    Raises:
        OSError: It cannot be written, and is as it was.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
