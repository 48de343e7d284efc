"""A store that lies elsewhere, and the copy of it on this machine; `store_at` says which kind an address means."""

import contextlib
import hashlib
import threading
from pathlib import Path

from models.errors import BundleError, StoreError
from models.remote.address import Address
from models.remote.folder import Folder
from models.remote.journal import RemoteJournal
from models.remote.objects import Objects
from models.remote.s3 import Bucket
from models.remote.versions import RemoteVersions
from models.store import Seeded, Store

# What a network volume takes that answers at all. Seconds.
_PATIENCE_S = 5.0


class RemoteStore(Store):
    """Changes are made there, and copied here; what is served is followed and opened here.

    Args:
        objects: Where it lies.
        home: Folder of the copy: of this store alone, since what it does not need is deleted.
    """

    def __init__(self, objects: Objects, home: Path) -> None:
        journal = RemoteJournal(objects, home)
        self.address = objects.name
        self._remote_journal = journal
        self._remote_versions = RemoteVersions(objects, home, journal.staging)
        super().__init__(home, journal, self._remote_versions)

    def begin(self, pretrained: Path) -> Seeded:
        """Bring the copy up to date where that is possible; nothing is seeded: see `Store.seed`."""
        refreshing = threading.Thread(target=self._refresh_if_possible, name="refresh", daemon=True)
        refreshing.start()
        # A folder may hang for ever. What was copied before is served then.
        refreshing.join(_PATIENCE_S if self.stamp() else None)
        return Seeded((), (), {})

    def _refresh_if_possible(self) -> None:
        # Whoever follows the store says why not, and tries again.
        with contextlib.suppress(StoreError, BundleError, OSError):
            self.refresh()

    def discreet(self, text: str) -> str:
        """``text`` as clients may read it: without where the store lies."""
        return text.replace(self.address, "the store")

    def refresh(self) -> str:
        """Bring the copy of the alias document up to date, and delete copies of versions that nobody needs.

        Returns:
            What is odd about the document that came, for the log; mostly nothing.

        Raises:
            BundleError: The document there is not valid, or is lost; the copy stays.
            StoreError: The store cannot be reached; the copy stays.
        """
        odd = self._remote_journal.refresh()
        self._remote_versions.tidy(self.followed())
        return odd


def store_at(home: Path, address: str | None, timeout_s: float) -> Store:
    """The store under ``home``, or the one at an address with its copy under ``home``.

    Args:
        home: A folder.
        address: Such as ``s3://BUCKET/PREFIX``; None for the folder itself.
        timeout_s: Longest time of one request to it. Seconds.

    Raises:
        ValueError: No such address.
    """
    if address is None:
        return Store(home)
    parsed = Address.parse(address)
    objects = Folder(Path(parsed.path)) if parsed.scheme == "file" else Bucket(parsed, timeout_s)
    # Of each address another: a copy is of one store alone.
    slug = hashlib.sha256(str(parsed).encode()).hexdigest()[:16]
    return RemoteStore(objects, home / "copies" / slug)
