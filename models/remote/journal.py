"""The alias document and the log of changes in an object store, with a copy of the document on this machine.

The document is replaced only if it still is the one that was read (a conditional write), so that of two changes at once
one begins anew: none is lost. A place that does not keep conditions is found out before the first change, and refused.
"""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

from models.aliases import Aliases
from models.audit import Change
from models.errors import BundleError, OvertakenError, StoreError
from models.journal import ALIASES, Journal, disk_errors, parse_document
from models.remote.objects import Objects, Stored

CHANGES = "changes/"
_PROBE = ".conditional"
# File locks: of a change, as long as an upload takes; within it, and for who follows, of the copy, for milliseconds.
_CHANGING, _COPYING = ".lock", ".copy.lock"
_READERS = 8


class RemoteJournal:
    """Has the methods of `models.journal.Journal`.

    Args:
        objects: Where the truth lies.
        home: Folder of the copy.
    """

    def __init__(self, objects: Objects, home: Path) -> None:
        self.staging = home / ".staging"
        self._objects, self._home = objects, home
        self._copy = Journal(home, ".copying")
        self._tag = ""
        self._mirrored: tuple[str, Aliases] | None = None
        self._keeps_conditions = False

    def read(self) -> Aliases:
        """The alias document as it stands there; an empty one before the first change.

        Raises:
            BundleError: It is not valid, or is lost.
            StoreError: It cannot be read.
        """
        return self._read()[0]

    def _read(self) -> tuple[Aliases, str]:
        """The document and its tag; the tag is empty where there is none yet."""
        try:
            stored = self._objects.read(ALIASES)
        except FileNotFoundError:
            self._require_beginning()
            return Aliases(), ""
        assert stored is not None  # noqa: S101 - no condition was set
        return parse_document(stored.data), stored.tag

    def _require_beginning(self) -> None:
        """Go on only where there never was a document: an empty folder may be a volume that is not mounted."""
        if self._copy.stamp() is not None and self._copied() != Aliases():
            known = "the copy on this machine"
        elif any(not _is_of_no_revision(key) for key in self._objects.keys(CHANGES)):
            known = CHANGES
        else:
            return
        raise BundleError(
            f"{ALIASES} is gone from {self._objects.name}, though {known} says that there was one. Mount the volume, "
            f"or restore it from the bucket's older versions or a backup. To begin anew, move {CHANGES} away, and "
            f"copies/*/{ALIASES} under SERVING_HOME on each machine."
        )

    def followed(self) -> Aliases:
        """The copy; an empty document where there is none yet."""
        return self._copy.read()

    def stamp(self) -> tuple[int, int] | None:
        """Changes whenever the copy is replaced; None where there is none yet."""
        return self._copy.stamp()

    def refresh(self) -> str:
        """Bring the copy up to date, with one request that is cheap where nothing changed.

        Returns:
            What is odd about the document that came, for the log; mostly nothing.

        Raises:
            BundleError: The document there is not valid, or is lost; the copy stays.
            StoreError: It cannot be read; the copy stays.
        """
        before = self._copied()
        known = self._mirrored[0] if self._mirrored and before == self._mirrored[1] else ""
        try:
            stored = self._objects.read(ALIASES, unless=known)
        except FileNotFoundError:
            self._require_beginning()
            stored = Stored(Aliases().to_json(), "")
        if stored is None:
            return ""
        document = parse_document(stored.data)
        with disk_errors("the copy of the store cannot be written"), self._alone(_COPYING):
            if self._copied() != before:
                return ""  # Changed from here meanwhile: perhaps newer than what was read. The next look tells.
            if document != before:
                self._copy.put(document)
            self._mirrored = (stored.tag, document)
        if before is None or document.revision > before.revision or document == before:
            return ""
        return (
            f"the alias document of {self._objects.name} went from revision {before.revision} to {document.revision} "
            "with other contents: it was restored, or written past keras-serving"
        )

    def _copied(self) -> Aliases | None:
        try:
            return self._copy.read() if self._copy.stamp() else None
        except BundleError:
            return None  # A damaged copy is replaced.

    def changes(self, name: str | None, limit: int) -> list[Change]:
        """The newest changes, of one model or of all, newest last.

        Raises:
            BundleError: The document is damaged.
            StoreError: The log cannot be read.
        """
        last = self.read().last
        keys = [key for key in self._objects.keys(CHANGES) if name is None or key.split(".")[2:3] == [name]]
        with ThreadPoolExecutor(_READERS) as pool:
            found = [change for change in pool.map(self._change, keys[-limit:]) if change is not None]
        if last is not None and last not in found and name in (None, last.model):
            found.append(last)
        return sorted(found, key=lambda change: change.when)[-limit:]

    def _change(self, key: str) -> Change | None:
        try:
            stored = self._objects.read(key)
            return Change.model_validate_json(stored.data) if stored else None
        except (FileNotFoundError, ValidationError):
            return None

    @contextlib.contextmanager
    def locked(self) -> Iterator[Aliases]:
        """The document, to be changed by `write`; this machine's processes take turns, others' are noticed there.

        Raises:
            BundleError: The document is damaged; it stays as it is.
            StoreError: It cannot be read or written.
        """
        with disk_errors("the copy of the store cannot be written"), self._alone(_CHANGING):
            # Before anything is written there: the place may be lost.
            document, self._tag = self._read()
            self._require_conditions()
            shutil.rmtree(self.staging, ignore_errors=True)
            try:
                yield document
            finally:
                shutil.rmtree(self.staging, ignore_errors=True)

    @contextlib.contextmanager
    def _alone(self, lock: str) -> Iterator[None]:
        self._home.mkdir(parents=True, exist_ok=True)
        with (self._home / lock).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def note(self, change: Change) -> None:
        """Log a change; one that is logged already stays as it is."""
        with contextlib.suppress(OvertakenError):
            self._objects.create(_key(change), change.model_dump_json().encode() + b"\n")

    def write(self, document: Aliases, change: Change) -> Aliases:
        """Make ``document`` the next revision. Within `locked`.

        Raises:
            OvertakenError: Another change came first; nothing was written.
            StoreError: It was not written, or nobody knows.
        """
        if document.last is not None:
            # Before it goes out of the document. So what is in neither place was not made: see `_made`.
            self.note(document.last)
        document, change = document.revised(change)
        data = document.to_json()
        try:
            if self._tag:
                self._tag = self._objects.replace(ALIASES, data, self._tag)
            else:
                self._tag = self._objects.create(ALIASES, data)
        except (OvertakenError, StoreError):
            # The answer may have been lost on its way, and the request sent again may have met itself.
            made, tag = self._made(document, change)
            if not made:
                raise
            # Where others changed it since, the old tag stays: what is written next is overtaken, and decided anew.
            self._tag = tag or self._tag
        # It is made now, and the document carries it: the next change logs it first.
        with contextlib.suppress(StoreError):
            self.note(change)
        # Where the disk here is full: the next look brings the copy.
        with contextlib.suppress(OSError), self._alone(_COPYING):
            copied = self._copied()
            # Else others changed it since, and it was followed.
            if copied is None or copied.revision < document.revision:
                self._copy.put(document)
        return document

    def _made(self, document: Aliases, change: Change) -> tuple[bool, str]:
        """Whether ``change`` made ``document``, and its tag if it is what lies there still."""
        try:
            there, tag = self._read()
            if there == document:
                return True, tag
            return _key(change) in self._objects.keys(_key(change)), ""
        except (StoreError, BundleError):
            raise StoreError(
                f"{self._objects.name} did not answer to the change of the alias document, and cannot be asked "
                "whether it was made. Look before trying again: keras-serving models history."
            ) from None

    def _require_conditions(self) -> None:
        """Find out, once, whether the place refuses what a condition forbids.

        Raises:
            StoreError: It does not: one publisher could overwrite what another one changed.
        """
        if self._keeps_conditions:
            return
        kept = False
        try:
            self._objects.create(_PROBE, b"conditional writes\n")
            self._objects.create(_PROBE, b"conditional writes\n")
        except OvertakenError:
            try:
                self._objects.replace(_PROBE, b"ignored\n", '"00000000000000000000000000000000"')
            except OvertakenError:
                kept = True
        if not kept:
            raise StoreError(
                f"{self._objects.name} ignores conditional writes (If-Match, If-None-Match), so that two publishers "
                "could overwrite each other's change. Use a store that keeps them."
            )
        self._keeps_conditions = True


def _key(change: Change) -> str:
    """Sorted by time; the same for the same change."""
    digest = hashlib.sha256(change.model_dump_json().encode()).hexdigest()[:12]
    return f"{CHANGES}{change.when:%Y%m%dT%H%M%S%f}.{change.revision:08d}.{change.model}.{digest}.json"


def _is_of_no_revision(key: str) -> bool:
    # Added before there was a document, which adding leaves as it is.
    return key.split(".")[1:2] == ["00000000"]
