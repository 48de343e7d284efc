"""Version folders in BentoML's layout: ``<name>/<version>/``, each with BentoML's ``model.yaml`` beside the bundle.

A folder is made under another name on the same volume and renamed, so that it is there whole or not at all.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from models.aliases import Target
from models.bundle import GOLDEN, KERAS, MANIFEST, ONNX, Bundle, label
from models.errors import BundleError, UnknownModelError
from models.manifest import Manifest
from models.names import is_name, is_version


class Versions:
    """The version folders under one folder.

    Args:
        folder: Of all names.
        staging: Where what is under way lies; on the same volume.
    """

    def __init__(self, folder: Path, staging: Path) -> None:
        self._folder = folder
        self._staging = staging

    def names(self) -> list[str]:
        """Names of all models with at least one version folder, sorted."""
        if not self._folder.is_dir():
            return []
        return sorted(p.name for p in self._folder.iterdir() if is_name(p.name) and p.is_dir())

    def of(self, name: str) -> list[str]:
        """Version folders of ``name``, oldest first; `open` decides whether they are good.

        Raises:
            UnknownModelError: No such model.
        """
        if is_name(name) and (self._folder / name).is_dir():
            return sorted(p.name for p in (self._folder / name).iterdir() if is_version(p.name) and p.is_dir())
        known = ", ".join(self.names()) or "none yet"
        raise UnknownModelError(f"Unknown model {name[:80]!r}. Known models: {known}.")

    def require(self, name: str, version: str) -> None:
        """Go on only if there is a folder of that version, good or not.

        Raises:
            UnknownModelError: No such model or version.
        """
        versions = self.of(name)
        if version not in versions:
            known = ", ".join(versions) or "none"
            raise UnknownModelError(f"Unknown version {version[:80]!r} of {name}. Known versions: {known}.")

    def open(self, name: str, version: str) -> Bundle:
        """The bundle of one version, its manifest verified.

        Raises:
            UnknownModelError: No such model or version.
            BundleError: Incomplete or altered.
        """
        self.require(name, version)
        bundle = Bundle.open(self._folder / name / version)
        if (bundle.manifest.name, bundle.manifest.version) != (name, version):
            raise BundleError(
                f"{label(bundle.path)}: the manifest says {bundle.manifest.name}:{bundle.manifest.version}. "
                "Add the bundle to the store anew."
            )
        return bundle

    def afresh(self, name: str, version: str) -> Bundle:
        """The bundle of one version, every file verified; see `open`."""
        bundle = self.open(name, version)
        bundle.verify()
        return bundle

    def manifest(self, name: str, version: str) -> Manifest:
        """The manifest of one version, verified; see `open`."""
        return self.open(name, version).manifest

    def there(self, name: str, version: str) -> Manifest:
        """The same: of versions that lie here nobody has a copy."""
        return self.manifest(name, version)

    def take(self, name: str, target: Target) -> Bundle:
        """The bundle of what an alias points to, every file verified; see `open`."""
        return self.afresh(name, target.version)

    def exists(self, name: str, version: str) -> bool:
        """Whether there is a folder of that version, good or not."""
        return (self._folder / name / version).exists()

    def is_whole(self, name: str, version: str, digest: str) -> bool:
        """Whether that very bundle is there, every file of it unaltered."""
        try:
            return self.afresh(name, version).manifest.digest == digest
        except (BundleError, UnknownModelError):
            return False

    def is_rewritten(self, bundle: Bundle) -> bool:
        """Whether the same model is there under the same version, with another card, plots or figures.

        Seeding then leaves the store as it is: servers hold the digest of what was promoted.
        """
        return is_rewritten(self.manifest, bundle)

    def place(self, bundle: Bundle) -> None:
        """Copy a bundle to where its name and version say.

        Raises:
            BundleError: A file is missing or altered.
            OSError: The volume is full or read-only.
        """
        manifest = bundle.manifest
        staged = self._staging / "version"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        for name in manifest.files:
            _write(staged / name, bundle.read(name))
        _write(staged / MANIFEST, manifest.to_json())
        _write_model_yaml(staged, manifest.name, manifest.version)
        Bundle(staged, manifest).verify()
        final = self._folder / manifest.name / manifest.version
        final.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(final)
        # BentoML's own idea of the newest one; nothing of ours goes by it.
        latest = self._staging / "latest"
        _write(latest, self.of(manifest.name)[-1].encode())
        latest.replace(final.parent / "latest")

    def take_away(self, name: str, version: str) -> None:
        """Remove a version folder: out of sight in one step, then file by file.

        A process that has its files open keeps them.

        Raises:
            OSError: The volume is read-only.
        """
        folder = self._folder / name / version
        gone = self._staging / "deleted" / version
        gone.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(gone)
        # BentoML finds the newest one again when it is asked for it.
        (folder.parent / "latest").unlink(missing_ok=True)
        if not self.of(name):
            shutil.rmtree(folder.parent)
        shutil.rmtree(gone)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _write_model_yaml(folder: Path, name: str, version: str) -> None:
    """What makes the folder a model of BentoML's store.

    Not by ``bentoml.models.create``: it works in the system's temporary folder, where a killed process leaves
    a whole copy, and shows the version's folder before it is complete.
    """
    # Imported here: it takes half a second, and only a new version needs it.
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    from bentoml import Tag
    from bentoml._internal.models.model import ModelContext, ModelInfo, ModelOptions

    info = ModelInfo(
        tag=Tag(name, version),
        module="",
        api_version="v1",
        signatures={},
        labels={},
        options=ModelOptions(),
        metadata={},
        context=ModelContext(framework_name="", framework_versions={}),
    )
    with (folder / "model.yaml").open("w", encoding="utf-8") as file:
        info.dump(file)


def is_rewritten(manifest_of: Callable[[str, str], Manifest], bundle: Bundle) -> bool:
    """See `Versions.is_rewritten`; wherever the versions lie, ``manifest_of`` finds what is said of one."""
    manifest = bundle.manifest
    try:
        there = manifest_of(manifest.name, manifest.version)
    except (BundleError, UnknownModelError):
        return False
    answering = [[m.task, *(m.files.get(name) for name in (KERAS, ONNX, GOLDEN))] for m in (there, manifest)]
    return there.digest != manifest.digest and answering[0] == answering[1]
