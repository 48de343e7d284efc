"""One trained version on disk: self-describing, and verified before any of it is used.

manifest.json     what the model is, how it was made, and the sha256 of every other file
model.keras       the source of truth, where retraining starts
model.onnx        the same graph for serving (absent: the TensorFlow engine serves model.keras)
golden.npz        `rows` and the `outputs` they gave at training: checked before a version goes live
reference.json    reference statistics of inputs and outputs, for drift
trained_rows.npy  fingerprints of the rows that it was trained on, for the gate (absent: not recorded)
card.md, plots/   for people
"""

import hashlib
import io
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, ValidationError

from models.decision import Decision
from models.errors import BundleError
from models.manifest import FILE_PATTERN, MANIFEST_VERSION, Figure, FileEntry, Lineage, Manifest
from models.task import Task

MANIFEST = "manifest.json"
KERAS = "model.keras"
ONNX = "model.onnx"
GOLDEN = "golden.npz"
REFERENCE = "reference.json"
CARD = "card.md"
TRAINED_ROWS = "trained_rows.npy"
# What `Bundle.seal` is told of a bundle; the rest of a manifest comes of the files, or later.
_TOLD = (
    *("name", "architecture", "task", "figures", "parameters"),
    *("lineage", "example", "golden_tolerance", "created"),
)


def label(path: Path) -> str:
    """A bundle's folder in an error: its last two parts, since errors reach clients and no more of the path should."""
    return "/".join(path.parts[-2:])


def parse_manifest(data: bytes, what: str) -> Manifest:
    """The manifest in ``data``, verified.

    Args:
        data: All bytes of the file.
        what: Whose it is, for errors.

    Raises:
        BundleError: Altered, or of an unknown version.
    """
    try:
        document = json.loads(data)
        found = document.get("manifest_version") if isinstance(document, dict) else None
        if found != MANIFEST_VERSION:
            raise BundleError(
                f"{what}: manifest_version must be {MANIFEST_VERSION}. Received: {found!r}. "
                "Update keras-serving, or export the bundle anew."
            )
        manifest = Manifest.model_validate_json(data)
        # Within the try: an infinite number in the example has no canonical form.
        altered = manifest.digest != manifest.compute_digest() or manifest.to_json() != data
    except (ValueError, RecursionError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BundleError(
            f"{what}: {MANIFEST} is not valid: {detail}. Take the bundle from its source again."
        ) from None
    if altered:
        raise BundleError(
            f"{what}: {MANIFEST} was altered after it was written. Take the bundle from its source again."
        )
    return manifest


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest has been verified; its files are verified as they are read."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Read and verify the manifest, and nothing else.

        Raises:
            BundleError: No manifest, one that was altered, or one of an unknown version.
        """
        try:
            data = (path / MANIFEST).read_bytes()
        except OSError as error:
            raise BundleError(
                f"{label(path)}: no readable {MANIFEST} ({error.strerror}). A bundle is a folder with one."
            ) from None
        return cls(path, parse_manifest(data, label(path)))

    @classmethod
    def seal(
        cls,
        directory: Path,
        *,
        name: str,
        architecture: str,
        task: Task,
        figures: tuple[Figure, ...],
        parameters: int,
        lineage: Lineage,
        example: JsonValue,
        golden_tolerance: float = 1e-5,
        created: datetime | None = None,
    ) -> "Bundle":
        """Make a bundle of the files that lie in ``directory``: hash them and write the manifest last.

        Raises:
            BundleError: A required file is missing.
        """
        names = sorted(
            p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST
        )
        missing = {KERAS, GOLDEN, REFERENCE, CARD} - set(names)
        if missing:
            raise BundleError(
                f"{label(directory)}: a bundle needs {', '.join(sorted(missing))}. Write it before sealing."
            )
        files = {}
        for entry in names:
            if not re.fullmatch(FILE_PATTERN, entry):
                raise BundleError(
                    f"{label(directory)}: {entry!r} can be no file of a bundle. Remove it before sealing."
                )
            data = (directory / entry).read_bytes()
            files[entry] = FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        created = (created or datetime.now(UTC)).replace(microsecond=0)
        manifest = Manifest(
            name=name,
            version=f"{created:%Y%m%d-%H%M%S}-{files[KERAS].sha256[:8]}",
            architecture=architecture,
            created=created,
            task=task,
            figures=figures,
            parameters=parameters,
            lineage=lineage,
            example=example,
            golden_tolerance=golden_tolerance,
            files=files,
        ).sealed()
        return cls._written(directory, manifest)

    def resealed(self, directory: Path, **changes: Any) -> "Bundle":
        """Make a bundle of other files that says of itself what this one says, but for the gate and ``changes``.

        Args:
            directory: Where the files lie, as `seal` takes them; may be this bundle's own.
            changes: Arguments of `seal`.

        Raises:
            BundleError: A required file is missing.
        """
        return self.seal(directory, **{member: getattr(self.manifest, member) for member in _TOLD} | changes)

    @classmethod
    def _written(cls, directory: Path, manifest: Manifest) -> "Bundle":
        temporary = directory / f".{MANIFEST}.{os.getpid()}"
        temporary.write_bytes(manifest.to_json())
        temporary.replace(directory / MANIFEST)
        return cls(directory, manifest)

    def judged(self, decision: Decision) -> "Bundle":
        """The same bundle with the gate's decision in its manifest: for one that is not published yet, only."""
        return self._written(self.path, self.manifest.model_copy(update={"gate": decision}).sealed())

    def read(self, name: str) -> bytes:
        """Bytes of one file, verified.

        Raises:
            BundleError: Not part of the bundle, missing, or altered.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{label(self.path)}: the manifest lists no {name}. Export the bundle with it.")
        try:
            with (self.path / name).open("rb") as file:
                # One byte more than expected, so that a file that grew is noticed and never read whole.
                data = file.read(entry.bytes + 1)
        except OSError as error:
            raise BundleError(
                f"{label(self.path)}: {name} cannot be read ({error.strerror}). Take the bundle from its source again."
            ) from None
        if len(data) != entry.bytes or hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError(
                f"{label(self.path)}: {name} does not match the manifest's sha256. "
                "Take the bundle from its source again."
            )
        return data

    def verify(self) -> None:
        """Check every file against the manifest.

        Raises:
            BundleError: A file is missing or altered.
        """
        for name in self.manifest.files:
            self.read(name)

    def golden(self) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Golden rows ``(n, *input_shape)`` and the outputs ``(n, *output_shape)`` that training saw for them."""
        with np.load(io.BytesIO(self.read(GOLDEN)), allow_pickle=False) as arrays:
            return arrays["rows"], arrays["outputs"]

    def reference(self) -> dict[str, Any]:
        """Reference statistics for drift."""
        document: dict[str, Any] = json.loads(self.read(REFERENCE))
        return document

    def trained_rows(self) -> NDArray[np.uint32] | None:
        """Fingerprints of the rows that decided weights or constants, sorted; None where they were not recorded.

        Raises:
            BundleError: The file is altered or holds something else.
        """
        if TRAINED_ROWS not in self.manifest.files:
            return None
        try:
            found: NDArray[Any] = np.load(io.BytesIO(self.read(TRAINED_ROWS)), allow_pickle=False)
        except ValueError as error:
            raise BundleError(f"{label(self.path)}: {TRAINED_ROWS} is no npy file: {error}. Train it anew.") from None
        if found.dtype != np.uint32 or found.ndim != 1:
            raise BundleError(
                f"{label(self.path)}: {TRAINED_ROWS} must hold uint32 (n,). Received: {found.dtype} {found.shape}. "
                "Train it anew."
            )
        return found

    @property
    def has_onnx(self) -> bool:
        """Whether the graph could be exported."""
        return ONNX in self.manifest.files
