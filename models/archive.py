"""One version as one file: a plain tar of a bundle, written the same byte for byte each time.

    name-version/manifest.json      first, so that a reader knows what may follow
    name-version/model.keras ...    each file of the manifest, in the order of their names

Read without trust: every header is looked at here, since `tarfile` follows links, long names and sparse maps that no
archive of ours has. A member's name and size must be those that the manifest lists, before any byte is written.
"""

import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Protocol

from models.bundle import MANIFEST, Bundle, parse_manifest
from models.errors import BundleError, shorten
from models.manifest import Manifest

_MANIFEST_BYTES = 16 * 1024 * 1024
_MEMBERS = 1000
_CHUNK_BYTES = 1024 * 1024


class Source(Protocol):
    """Where an archive is read from, from its beginning to its end."""

    def read(self, size: int, /) -> bytes:
        """The next ``size`` bytes, fewer only at the end."""


def write_archive(bundle: Bundle, file: Path) -> None:
    """Write ``bundle`` to ``file``, each of its files verified; an existing file is replaced when all is written.

    Raises:
        BundleError: A file is missing or altered.
        OSError: The folder cannot be written.
    """
    manifest = bundle.manifest
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with (
            os.fdopen(handle, "wb") as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for name in [MANIFEST, *sorted(manifest.files)]:
                data = manifest.to_json() if name == MANIFEST else bundle.read(name)
                member = tarfile.TarInfo(f"{manifest.name}-{manifest.version}/{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        Path(temporary).chmod(0o644)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_archive(file: Path, folder: Path) -> Bundle:
    """Unpack the bundle in ``file`` into ``folder``, which must not exist yet, and verify it.

    Raises:
        BundleError: No archive of one bundle, or an altered one; nothing was written outside ``folder``.
        OSError: The file cannot be read, or the folder not written.
    """
    with file.open("rb") as stream:
        return unpack(stream, file.stat().st_size, folder, what=file.name)


def read_manifest(source: Source, what: str) -> Manifest:
    """The manifest at the beginning of an archive; nothing behind it is read.

    Raises:
        BundleError: No archive of one bundle, or an altered manifest.
    """
    return _manifest(source, what)[1]


def unpack(source: Source, size: int, folder: Path, *, what: str, digest: str = "") -> Bundle:
    """Unpack the bundle in an archive into ``folder``, which must not exist yet, and verify it.

    Args:
        source: The archive.
        size: Its bytes; the manifest may announce no more.
        folder: Where to.
        what: Name of the archive, for errors.
        digest: Of the manifest that it must hold, before anything else of it is read; empty for any.

    Raises:
        BundleError: No archive of one bundle, an altered or another one; nothing was written outside ``folder``.
        OSError: The archive cannot be read, or the folder not written.
    """
    root, manifest = _manifest(source, what)
    if digest and manifest.digest != digest:
        raise _refused(what, f"its manifest must be the one with the digest {digest[:12]}", manifest.digest[:12])
    total = sum(entry.bytes for entry in manifest.files.values())
    if total > size or len(manifest.files) > _MEMBERS:
        announced = f"{len(manifest.files):,} files of {total:,} bytes, announced by the manifest"
        raise _refused(what, f"it must hold all of its at most {_MEMBERS:,} files", announced)
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(manifest.to_json())
    left = dict(manifest.files)
    while (header := _header(source, what)) is not None:
        at, name, member = header
        entry = left.pop(name, None) if at == root else None
        if entry is None or entry.bytes != member:
            rule = "its members must be the manifest's files, each once and of the size that the manifest says"
            raise _refused(what, rule, f"{shorten(f'{at}/{name}')} of {member:,} bytes")
        _copy(source, folder / name, member, what)
    if left:
        raise _refused(what, "it must hold every file of the manifest", f"none named {', '.join(sorted(left)[:5])}")
    bundle = Bundle(folder, manifest)
    bundle.verify()
    return bundle


def _manifest(source: Source, what: str) -> tuple[str, Manifest]:
    root, name, size = _header(source, what) or ("", "", 0)
    if name != MANIFEST or size > _MANIFEST_BYTES:
        raise _refused(what, f"it must begin with a {MANIFEST}", f"{root}/{name} of {size:,} bytes")
    data = source.read(size)
    if len(data) != size:
        raise _refused(what, "it must hold what its headers announce", f"{size - len(data):,} bytes too few of {name}")
    source.read(-size % tarfile.BLOCKSIZE)
    manifest = parse_manifest(data, what)
    if root != f"{manifest.name}-{manifest.version}" or MANIFEST in manifest.files:
        raise _refused(what, f"its folder must be {manifest.name}-{manifest.version}", shorten(root))
    return root, manifest


def _header(source: Source, what: str) -> tuple[str, str, int] | None:
    """Folder, name in it and size of the next member; None at the archive's end."""
    block = source.read(tarfile.BLOCKSIZE)
    if not any(block):
        return None
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise _refused(what, "it must be an uncompressed tar file", str(error)) from None
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.size < 0:
        raise _refused(what, "its members must be plain files", f"{shorten(member.name)} of type {member.type!r}")
    root, _, name = member.name.partition("/")
    return root, name, member.size


def _copy(source: Source, path: Path, size: int, what: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    left = size
    with path.open("wb") as target:
        while left:
            data = source.read(min(left, _CHUNK_BYTES))
            if not data:
                raise _refused(what, "it must hold what its headers announce", f"{left:,} bytes too few of {path.name}")
            target.write(data)
            left -= len(data)
    source.read(-size % tarfile.BLOCKSIZE)


def _refused(what: str, rule: str, received: str) -> BundleError:
    return BundleError(
        f"{what} is no archive of a bundle: {rule}. Received: {received}. "
        "Make the archive anew: keras-serving models export."
    )
