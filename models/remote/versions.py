"""Versions in an object store, one archive each, with verified copies on this machine.

An archive is written once, after every file of it was verified; S3 shows it whole or not at all. What is opened here is
fetched first: one process at a time a version, by a file lock, unpacked beside what is there, verified, then renamed.
"""

import contextlib
import fcntl
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from models.aliases import Aliases, Target
from models.archive import read_manifest, unpack, write_archive
from models.bundle import Bundle
from models.errors import BundleError, UnknownModelError
from models.journal import disk_errors
from models.manifest import Manifest
from models.names import is_name, is_version
from models.remote.objects import Objects
from models.versions import Versions, is_rewritten

logger = logging.getLogger(__name__)

MODELS = "models/"
_SUFFIX = ".tar"
# What was fetched lately is being used, by somebody who asked for it by its version. Seconds.
_LATELY_S = 600.0


class RemoteVersions:
    """Has the methods of `models.versions.Versions`.

    Args:
        objects: Where the versions lie.
        home: Folder of the copies.
        staging: Where what is under way lies, within the journal's lock.
    """

    def __init__(self, objects: Objects, home: Path, staging: Path) -> None:
        self._objects, self._staging = objects, staging
        self._folder = home / "models"
        self._fetches = home / ".fetching"
        self._copies = Versions(self._folder, staging)

    def names(self) -> list[str]:
        """Names of all models with at least one version, sorted."""
        return sorted({name for name, _ in self._all(MODELS)})

    def of(self, name: str) -> list[str]:
        """Versions of ``name``, oldest first.

        Raises:
            UnknownModelError: No such model.
        """
        found = sorted(version for _, version in self._all(f"{MODELS}{name}/")) if is_name(name) else []
        if not found:
            known = ", ".join(self.names()) or "none yet"
            raise UnknownModelError(f"Unknown model {name[:80]!r}. Known models: {known}.")
        return found

    def _all(self, prefix: str) -> list[tuple[str, str]]:
        parts = [key.removeprefix(MODELS).removesuffix(_SUFFIX).split("/") for key in self._objects.keys(prefix)]
        return [(p[0], p[1]) for p in parts if len(p) == 2 and is_name(p[0]) and is_version(p[1])]

    def require(self, name: str, version: str) -> None:
        """Go on only if there is an object of that version, good or not.

        Raises:
            UnknownModelError: No such model or version.
        """
        if not self.exists(name, version):
            known = ", ".join(self.of(name))
            raise UnknownModelError(f"Unknown version {version[:80]!r} of {name}. Known versions: {known}.")

    def exists(self, name: str, version: str) -> bool:
        """Whether there is an object of that version, good or not."""
        return is_name(name) and is_version(version) and (name, version) in self._all(_key(name, version))

    def open(self, name: str, version: str) -> Bundle:
        """The copy of one version, fetched where there is none; its manifest verified.

        Raises:
            UnknownModelError: No such model or version.
            BundleError: It is incomplete or altered; nothing of it stays here.
            StoreError: It cannot be fetched.
        """
        if not self._is_copied(name, version):
            self._fetch(name, version)
        return self._copies.open(name, version)

    def take(self, name: str, target: Target) -> Bundle:
        """The copy of what an alias points to, every file verified; fetched where it is not that. As `open`."""
        if self._is_copied(name, target.version):
            with contextlib.suppress(BundleError):
                bundle = self._copies.take(name, target)
                # Else the version was deleted, and another one published in its place.
                if bundle.manifest.digest == target.digest:
                    return bundle
        self._fetch(name, target.version, target.digest)
        return self._copies.take(name, target)

    def afresh(self, name: str, version: str) -> Bundle:
        """The copy of what lies there now, every file verified; fetched where it is damaged or of another bundle.

        Raises:
            UnknownModelError: No such model or version.
            BundleError: What lies there is incomplete or altered.
            StoreError: It cannot be fetched.
        """
        self._fetch(name, version, self.there(name, version).digest)
        return self._copies.open(name, version)

    def manifest(self, name: str, version: str) -> Manifest:
        """What a version says of itself, verified; nothing else of it is fetched. As `open`."""
        return self._copies.manifest(name, version) if self._is_copied(name, version) else self.there(name, version)

    def there(self, name: str, version: str) -> Manifest:
        """What a version says of itself where it lies, whatever its copy says. As `afresh`."""
        self._require_names(name, version)
        try:
            with self._objects.stream(_key(name, version)) as (source, _):
                return _called(read_manifest(source, f"{name}:{version}"), name, version)
        except FileNotFoundError:
            return self._missing(name, version)

    def is_whole(self, name: str, version: str, digest: str) -> bool:
        """Whether that very version is there, and its copy here unaltered."""
        try:
            self.require(name, version)
            return self.take(name, Target(version=version, digest=digest)).manifest.digest == digest
        except (BundleError, UnknownModelError):
            return False

    def is_rewritten(self, bundle: Bundle) -> bool:
        """See `Versions.is_rewritten`."""
        return is_rewritten(self.manifest, bundle)

    def place(self, bundle: Bundle) -> None:
        """Publish a bundle: one object, written when every file was verified. Within the journal's lock.

        Raises:
            BundleError: A file is missing or altered.
            OvertakenError: Another one published it just now.
            StoreError: It cannot be written.
        """
        manifest = bundle.manifest
        self._staging.mkdir(parents=True, exist_ok=True)
        archive = self._staging / "upload"
        write_archive(bundle, archive)
        self._objects.upload(_key(manifest.name, manifest.version), archive)
        archive.unlink()
        with self._fetching(manifest.name, manifest.version) as staging:
            self._remove(manifest.name, manifest.version, staging)
            self._place(bundle, staging)

    def take_away(self, name: str, version: str) -> None:
        """Remove a version there, and its copy here; other machines' copies go when they tidy up."""
        self._objects.delete(_key(name, version))
        # It is done; what of the copy cannot be removed is tidied up later.
        with contextlib.suppress(OSError), self._fetching(name, version) as staging:
            self._remove(name, version, staging)

    def tidy(self, document: Aliases) -> None:
        """Delete copies that neither an alias nor the next rollback needs, nor anybody used lately, where possible.

        What fetches that were killed left goes too.
        """
        with _at_leisure("the copies"):
            for name in self._copies.names():
                for version in self._copies.of(name):
                    with _at_leisure(f"{name}:{version}"):
                        self._tidy(name, version, document)
            for left in self._fetches.glob("*/"):
                with _at_leisure(left.name), left.with_suffix(".lock").open("w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Fails while the fetch is under way.
                    shutil.rmtree(left)

    def _tidy(self, name: str, version: str, document: Aliases) -> None:
        fetched = (self._folder / name / version).stat().st_mtime
        if not document.holds(name, version) and not 0 <= time.time() - fetched < _LATELY_S:
            with self._fetching(name, version) as staging:
                self._remove(name, version, staging)

    def _is_copied(self, name: str, version: str) -> bool:
        return is_name(name) and is_version(version) and self._copies.exists(name, version)

    def _fetch(self, name: str, version: str, digest: str = "") -> None:
        """Make a copy, or wait for the process that does. What is here is replaced unless it is whole."""
        self._require_names(name, version)
        with disk_errors("the copy of a version cannot be written"), self._fetching(name, version) as staging:
            if self._is_copied(name, version):
                with contextlib.suppress(BundleError):
                    bundle = self._copies.open(name, version)
                    bundle.verify()
                    if bundle.manifest.digest == (digest or bundle.manifest.digest):
                        return
                self._remove(name, version, staging)
            what = f"{name}:{version}"
            try:
                with self._objects.stream(_key(name, version)) as (source, size):
                    bundle = unpack(source, size, staging / "fetched", what=what, digest=digest)
            except FileNotFoundError:
                self._missing(name, version)
            _called(bundle.manifest, name, version)
            self._place(bundle, staging)

    def _place(self, bundle: Bundle, staging: Path) -> None:
        with _alone(self._fetches / ".lock"):
            Versions(self._folder, staging).place(bundle)

    def _remove(self, name: str, version: str, staging: Path) -> bool:
        # One at a time of all versions: with the last one of a name the name's folder goes, where another may arrive.
        with _alone(self._fetches / ".lock"):
            if not self._is_copied(name, version):
                return False
            Versions(self._folder, staging).take_away(name, version)
            return True

    @contextlib.contextmanager
    def _fetching(self, name: str, version: str) -> Iterator[Path]:
        """A folder for a version's copy under way, for one process at a time."""
        self._fetches.mkdir(parents=True, exist_ok=True)
        staging = self._fetches / f"{name}-{version}"
        # Left where it is: deleting it would let two processes lock two files of that name.
        with _alone(staging.with_suffix(".lock")):
            shutil.rmtree(staging, ignore_errors=True)
            try:
                yield staging
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def _require_names(self, name: str, version: str) -> None:
        if not (is_name(name) and is_version(version)):
            self._missing(name, version)

    def _missing(self, name: str, version: str) -> Manifest:
        self.require(name, version)
        raise UnknownModelError(f"{name}:{version} came and went. Look again: keras-serving models list.")


@contextlib.contextmanager
def _at_leisure(what: str) -> Iterator[None]:
    """For what can wait: not removed now, perhaps because another process was first, it is tried again."""
    try:
        yield
    except (OSError, UnknownModelError) as error:
        logger.debug("%s is not tidied up: %s", what, error)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _key(name: str, version: str) -> str:
    return f"{MODELS}{name}/{version}{_SUFFIX}"


def _called(manifest: Manifest, name: str, version: str) -> Manifest:
    if (manifest.name, manifest.version) != (name, version):
        raise BundleError(
            f"{name}:{version}: the manifest says {manifest.name}:{manifest.version}. Publish the bundle anew."
        )
    return manifest
