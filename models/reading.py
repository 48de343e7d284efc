"""What can be read of a store: versions, the alias document, the log of changes."""

from pathlib import Path
from typing import TYPE_CHECKING

from models.aliases import Aliases, Target
from models.audit import Change
from models.bundle import Bundle
from models.errors import BundleError
from models.journal import Journal
from models.manifest import Manifest
from models.versions import Versions

if TYPE_CHECKING:
    from models.remote.journal import RemoteJournal
    from models.remote.versions import RemoteVersions


class StoreReader:
    """The reading half of `models.store.Store`.

    Args:
        home: Folder of the store, or of this machine's copy of one that lies elsewhere.
        journal: The alias document and the log.
        versions: The versions.
    """

    def __init__(
        self,
        home: Path,
        journal: "Journal | RemoteJournal | None" = None,
        versions: "Versions | RemoteVersions | None" = None,
    ) -> None:
        self.home = home
        self._journal = journal or Journal(home)
        self._versions = versions or Versions(home / "models", self._journal.staging)

    def aliases(self) -> Aliases:
        """The alias document as it is now; see `Journal.read`."""
        return self._journal.read()

    def followed(self) -> Aliases:
        """The alias document that servers here go by: of a store that lies elsewhere, the copy."""
        return self._journal.followed()

    def stamp(self) -> tuple[int, int] | None:
        """A value that changes whenever the document that is followed is replaced; cheap enough to poll."""
        return self._journal.stamp()

    def names(self) -> list[str]:
        """Names of all models with at least one version, sorted."""
        return self._versions.names()

    def versions(self, name: str) -> list[str]:
        """Versions of ``name``, oldest first; see `Versions.of`."""
        return self._versions.of(name)

    def open(self, name: str, version: str) -> Bundle:
        """The bundle of one version, its manifest verified; see `Versions.open`."""
        return self._versions.open(name, version)

    def afresh(self, name: str, version: str) -> Bundle:
        """The bundle of one version, every file verified; not the copy of what was there before under that version."""
        return self._versions.afresh(name, version)

    def manifest(self, name: str, version: str) -> Manifest:
        """What a version says of itself, verified; of a store that lies elsewhere nothing more is fetched."""
        return self._versions.manifest(name, version)

    def take(self, name: str, target: Target) -> Bundle:
        """The very bundle that an alias points to, every file of it verified.

        Raises:
            UnknownModelError: No such model or version.
            BundleError: It is incomplete or altered, or another one.
            StoreError: It cannot be fetched from where it lies.
        """
        bundle = self._versions.take(name, target)
        if bundle.manifest.digest != target.digest:
            raise BundleError(
                f"{name}:{target.version} is not the bundle that was promoted: its manifest has another digest. "
                "Promote it again if it was replaced on purpose."
            )
        return bundle

    def discreet(self, text: str) -> str:
        """``text`` as clients may read it: without where the store lies."""
        return text

    def changes(self, name: str | None = None, limit: int = 100) -> list[Change]:
        """The newest changes, of one model or of all, newest last; see `Journal.changes`."""
        return self._journal.changes(name, limit)
