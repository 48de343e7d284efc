"""Objects in a folder that several machines or processes see: for tests, and where a network volume is at hand."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.archive import Source
from models.errors import OvertakenError, StoreError
from models.remote.objects import Stored

_LOCK = ".lock"


class Folder:
    """A file an object. One writer at a time, by a file lock; readers see the old file or the new one.

    Args:
        root: Made at the first write.
    """

    def __init__(self, root: Path) -> None:
        self.name = f"file://{root}"
        self._root = root

    def read(self, key: str, *, unless: str = "") -> Stored | None:
        """See `Objects.read`."""
        with self._reaching():
            data = (self._root / key).read_bytes()
        tag = hashlib.sha256(data).hexdigest()
        return None if tag == unless else Stored(data, tag)

    @contextmanager
    def stream(self, key: str) -> Iterator[tuple[Source, int]]:
        """See `Objects.stream`."""
        with self._reaching():
            file = (self._root / key).open("rb")
        with file:
            yield file, os.fstat(file.fileno()).st_size

    def keys(self, prefix: str) -> list[str]:
        """See `Objects.keys`."""
        found = (path for path in self._root.rglob("*") if path.is_file())
        keys = (path.relative_to(self._root).as_posix() for path in found)
        return sorted(key for key in keys if key.startswith(prefix))

    def create(self, key: str, data: bytes) -> str:
        """See `Objects.create`."""
        with self._alone() as staged:
            staged.write_bytes(data)
            self._place(staged, key)
        return hashlib.sha256(data).hexdigest()

    def upload(self, key: str, file: Path) -> None:
        """See `Objects.upload`."""
        with self._alone() as staged:
            shutil.copyfile(file, staged)
            self._place(staged, key)

    def replace(self, key: str, data: bytes, tag: str) -> str:
        """See `Objects.replace`."""
        with self._alone() as staged:
            try:
                now = self.read(key)
            except FileNotFoundError:
                now = None
            if now is None or now.tag != tag:
                raise OvertakenError(f"{key} is not what it was.")
            staged.write_bytes(data)
            _flush(staged)
            staged.replace(self._root / key)
        return hashlib.sha256(data).hexdigest()

    def delete(self, key: str) -> None:
        """See `Objects.delete`."""
        with self._alone():
            (self._root / key).unlink(missing_ok=True)

    def _place(self, staged: Path, key: str) -> None:
        final = self._root / key
        if final.exists():
            raise OvertakenError(f"{key} is there.")
        final.parent.mkdir(parents=True, exist_ok=True)
        _flush(staged)
        staged.replace(final)

    @contextmanager
    def _alone(self) -> Iterator[Path]:
        """A name for what is being written, for one writer at a time."""
        with self._reaching():
            self._root.mkdir(parents=True, exist_ok=True)
            with (self._root / _LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield self._root / ".staged"

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"{self.name} cannot be used: {error.strerror}. Check the folder.") from error


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
