"""The alias document and the log of changes on disk: one writer at a time, and each change in both or in neither."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from models.aliases import Aliases
from models.audit import AuditLog, Change
from models.errors import BundleError, StoreError

ALIASES = "aliases.json"
AUDIT_LOG = "changes.jsonl"


class Journal:
    """The two files under one home folder.

    Attributes:
        staging: Folder for what is under way; empty but while the lock is held.
    """

    def __init__(self, home: Path, staging: str = ".staging") -> None:
        self.staging = home / staging
        self._home = home
        self._path = home / ALIASES
        self._log = AuditLog(home / AUDIT_LOG)

    def read(self) -> Aliases:
        """The alias document as it stands; an empty one before the first change.

        Raises:
            BundleError: The document cannot be read, is not valid, or is lost: seeding must not begin anew then.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            self._require_beginning()
            return Aliases()
        except OSError as error:
            raise BundleError(
                f"{ALIASES} cannot be read: {error.strerror}. Check the volume and its permissions."
            ) from None
        return parse_document(data)

    def _require_beginning(self) -> None:
        with disk_errors("the log of changes cannot be read"):
            changes = self._log.read(tail=True)
        if any(change.revision for change in changes):
            raise BundleError(
                f"{ALIASES} is gone, though {AUDIT_LOG} says that there was one. Restore it from a backup; or move "
                f"{AUDIT_LOG} away too, to begin anew with what is shipped."
            )

    def stamp(self) -> tuple[int, int] | None:
        """A value that changes whenever the document is replaced; None where there is none."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return (status.st_ino, status.st_mtime_ns)

    def followed(self) -> Aliases:
        """The document that servers go by; see `read`."""
        return self.read()

    def changes(self, name: str | None, limit: int) -> list[Change]:
        """The newest changes, of one model or of all, newest last.

        Raises:
            BundleError: The document is damaged.
            StoreError: The log cannot be read.
        """
        last = self.read().last
        with disk_errors("the log of changes cannot be read"):
            changes = self._log.read()
        if last is not None and last not in changes:
            changes.append(last)
        return [change for change in changes if name in (None, change.model)][-limit:]

    @contextlib.contextmanager
    def locked(self) -> Iterator[Aliases]:
        """The document, for one writer at a time over processes; the lock goes with the process that dies.

        Raises:
            BundleError: The document is damaged; it stays as it is.
            StoreError: The volume is full or read-only.
        """
        with disk_errors("the store cannot be written"):
            self._home.mkdir(parents=True, exist_ok=True)
            with (self._home / ".lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                document = self.read()
                # What a killed process left half done; first, for it may be what fills the disk.
                shutil.rmtree(self.staging, ignore_errors=True)
                if document.last is not None and not self._has(document.last):
                    self._log.append(document.last)
                try:
                    yield document
                finally:
                    shutil.rmtree(self.staging, ignore_errors=True)

    def _has(self, change: Change) -> bool:
        # The whole log only where many versions were added since, which leave the document as it is.
        return change in self._log.read(tail=True) or change in self._log.read()

    def note(self, change: Change) -> None:
        """Log what leaves the document as it is. Within `locked`."""
        self._log.append(change)

    def write(self, document: Aliases, change: Change) -> Aliases:
        """Make ``document`` the next revision. Within `locked`.

        Temporary name, flush to disk, rename: a reader sees the old document or the new one, never a part.

        Raises:
            OSError: The volume is full or read-only; the old document stays.
        """
        document, change = document.revised(change)
        self.put(document)
        # It is made now, and the document carries it: the next change logs it first, or does not begin.
        with contextlib.suppress(OSError):
            self._log.append(change)
        return document

    def put(self, document: Aliases) -> None:
        """Put ``document`` in the place of the one that is there, as it is.

        Raises:
            OSError: The volume is full or read-only; the old document stays.
        """
        self.staging.mkdir(parents=True, exist_ok=True)
        temporary = self.staging / ALIASES
        with temporary.open("wb") as file:
            file.write(document.to_json())
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(self._path)


def parse_document(data: bytes) -> Aliases:
    """The alias document in ``data``.

    Raises:
        BundleError: It is not valid.
    """
    try:
        document = Aliases.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise BundleError(f"{ALIASES} is not valid at {where}: {first['msg']}. Restore it from a backup.") from None
    for member in ("revision", "models"):
        # Each document has been written with both: without them it would mean that nothing is served.
        if member not in document.model_fields_set:
            raise BundleError(f"{ALIASES} is not valid at {member}: it is missing. Restore it from a backup.")
    return document


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn an error of the disk into a `StoreError` that begins with ``what``."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}. Check the volume's space and permissions.") from error
