"""Versions and aliases: which bundles exist, and which one each name means.

Versions lie in BentoML's model store (``<home>/models/<name>/<version>``). A version's folder appears there before
it is complete, so nothing is served because it exists: what an alias points to is served, and ``aliases.json``, one
document replaced atomically, is the commit point. It records each version's manifest digest too, so that a bundle
exchanged under the same version is noticed.
"""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from models.bundle import Bundle, label
from models.errors import BundleError, ConflictError, UnknownModelError
from models.names import is_name, is_version

PRODUCTION = "production"
ALIASES = "aliases.json"


def _named(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{text!r} is no name")
    return text


class Target(BaseModel):
    """What an alias points to: a version and the digest of its manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    digest: str


class Aliases(BaseModel):
    """The alias document.

    Attributes:
        revision: Rises by one with every change.
        models: Model name -> alias -> target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    document_version: Literal[1] = 1
    revision: int = Field(default=0, ge=0)
    models: dict[Annotated[str, AfterValidator(_named)], dict[Annotated[str, AfterValidator(_named)], Target]] = Field(
        default_factory=dict
    )

    def target(self, name: str, alias: str = PRODUCTION) -> Target | None:
        """What ``alias`` of ``name`` points to, if anything."""
        return self.models.get(name, {}).get(alias)


@dataclass(frozen=True)
class Seeded:
    """What seeding did.

    Attributes:
        added: ``name:version`` of each bundle that was new to the store.
        waiting: Those of them that are not served because the name has another production version.
        failed: Bundle folder -> why it was left out.
    """

    added: tuple[str, ...]
    waiting: tuple[str, ...]
    failed: dict[str, str]


class Store:
    """The store under one home folder; safe to use from several processes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._models = home / "models"
        self._aliases = home / ALIASES

    def aliases(self) -> Aliases:
        """The alias document as it stands; an empty one before the first change.

        Raises:
            BundleError: The document cannot be read or is not valid.
        """
        try:
            data = self._aliases.read_bytes()
        except FileNotFoundError:
            return Aliases()
        except OSError as error:
            raise BundleError(
                f"{ALIASES} cannot be read: {error.strerror}. Check the volume and its permissions."
            ) from None
        try:
            return Aliases.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "document"
            raise BundleError(f"{ALIASES} is not valid at {where}: {first['msg']}. Restore it from a backup.") from None

    def stamp(self) -> tuple[int, int] | None:
        """A value that changes whenever the alias document is replaced; cheap enough to poll."""
        try:
            status = self._aliases.stat()
        except OSError:
            return None
        return (status.st_ino, status.st_mtime_ns)

    def names(self) -> list[str]:
        """Names of all models with at least one version folder, sorted."""
        if not self._models.is_dir():
            return []
        return sorted(p.name for p in self._models.iterdir() if is_name(p.name) and p.is_dir())

    def versions(self, name: str) -> list[str]:
        """Version folders of ``name``, oldest first; complete or not, for `open` decides that.

        Raises:
            UnknownModelError: No such model.
        """
        if is_name(name) and (self._models / name).is_dir():
            return sorted(p.name for p in (self._models / name).iterdir() if is_version(p.name) and p.is_dir())
        known = ", ".join(self.names()) or "none yet"
        raise UnknownModelError(f"Unknown model {name[:80]!r}. Known models: {known}.")

    def open(self, name: str, version: str) -> Bundle:
        """The bundle of one version, its manifest verified.

        Raises:
            UnknownModelError: No such model or version.
            BundleError: Incomplete or altered.
        """
        versions = self.versions(name)
        if version not in versions:
            known = ", ".join(versions) or "none"
            raise UnknownModelError(f"Unknown version {version[:80]!r} of {name}. Known versions: {known}.")
        bundle = Bundle.open(self._models / name / version)
        if (bundle.manifest.name, bundle.manifest.version) != (name, version):
            raise BundleError(
                f"{label(bundle.path)}: the manifest says {bundle.manifest.name}:{bundle.manifest.version}. "
                "Add the bundle to the store anew."
            )
        return bundle

    def add(self, source: Path) -> Bundle:
        """Verify the bundle in ``source`` and copy it into the store. Adding it twice is no error.

        Raises:
            BundleError: Incomplete or altered.
            ConflictError: The store holds another bundle under the same name and version.
        """
        bundle = Bundle.open(source)
        bundle.verify()
        with self._locked():
            return self._add(bundle)[0]

    def _add(self, bundle: Bundle) -> tuple[Bundle, bool]:
        """The bundle in the store, and whether it had to be copied there."""
        manifest = bundle.manifest
        tag = f"{manifest.name}:{manifest.version}"
        folder = self._models / manifest.name / manifest.version
        if folder.exists():
            try:
                present = self.open(manifest.name, manifest.version)
                present.verify()
            except BundleError:
                # What a killed copy left behind: not whole, so no alias can serve it.
                shutil.rmtree(folder)
            else:
                if present.manifest.digest != manifest.digest:
                    raise ConflictError(
                        f"The store holds another bundle as {tag}. Train it anew, or delete that one first."
                    )
                return present, False
        # BentoML reports each save over the network otherwise.
        os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
        import bentoml
        from bentoml._internal.models import ModelStore

        self._models.mkdir(parents=True, exist_ok=True)
        with bentoml.models.create(tag, _model_store=ModelStore(self._models)) as model:
            for name in [*manifest.files, "manifest.json"]:
                target = Path(model.path_of(name))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(bundle.read(name) if name in manifest.files else manifest.to_json())
        return self.open(manifest.name, manifest.version), True

    def set_alias(self, name: str, version: str, alias: str = PRODUCTION, *, expect: str | None = None) -> Aliases:
        """Point ``alias`` of ``name`` to ``version``, after verifying every file of that version.

        Args:
            name: Model name.
            version: A version in the store.
            alias: Which alias to move.
            expect: Version that the alias is believed to point to; None accepts any.

        Raises:
            UnknownModelError: No such model or version.
            BundleError: The version is incomplete or altered; the alias stays.
            ConflictError: The alias points to something other than ``expect``.
        """
        if not is_name(alias):
            raise UnknownModelError(f"Alias {alias[:80]!r} is no name. Use lower case letters, digits, - and _.")
        bundle = self.open(name, version)
        bundle.verify()
        with self._locked():
            return self._set_alias(bundle, alias, expect)

    def _set_alias(self, bundle: Bundle, alias: str, expect: str | None = None) -> Aliases:
        name, version = bundle.manifest.name, bundle.manifest.version
        document = self.aliases()
        current = document.target(name, alias)
        if expect is not None and (current is None or current.version != expect):
            found = current.version if current else "nothing"
            raise ConflictError(f"{alias} of {name} points to {found}, not to {expect}. Look again before changing it.")
        target = Target(version=version, digest=bundle.manifest.digest)
        models = {**document.models, name: {**document.models.get(name, {}), alias: target}}
        changed = document.model_copy(update={"revision": document.revision + 1, "models": models})
        self._write(changed)
        return changed

    def _write(self, document: Aliases) -> None:
        """Temporary name, flush to disk, rename: a reader sees the old document or the new one, never a part."""
        text = json.dumps(document.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
        handle, temporary = tempfile.mkstemp(dir=self.home, prefix=f".{ALIASES}.")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(self._aliases)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def seed(self, pretrained: Path) -> Seeded:
        """Add the bundles in ``pretrained`` (one folder each) and serve those whose name has no production version.

        Several processes may call it at once: one does the work, the others wait and find it done.
        """
        added: list[str] = []
        waiting: list[str] = []
        failed: dict[str, str] = {}
        with self._locked():
            for source in sorted(p for p in pretrained.iterdir() if p.is_dir()) if pretrained.is_dir() else []:
                try:
                    bundle = Bundle.open(source)
                    name, version = bundle.manifest.name, bundle.manifest.version
                    # Looks at every byte of what is there already: a copy that was killed half-way may have a manifest.
                    bundle, copied = self._add(bundle)
                    if copied:
                        added.append(f"{name}:{version}")
                    target = self.aliases().target(name)
                    if target is None:
                        self._set_alias(bundle, PRODUCTION)
                    elif target.version != version and copied:
                        waiting.append(f"{name}:{version}")
                except (BundleError, ConflictError) as error:
                    failed[source.name] = str(error)
        return Seeded(tuple(added), tuple(waiting), failed)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, over processes; the lock goes with the process that dies."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
