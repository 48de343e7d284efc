"""One trained version on disk: self-describing, and verified before any of it is used.

manifest.json   what the model is, how it was made, and the sha256 of every other file
model.keras     the source of truth, where retraining starts
model.onnx      the same graph for serving (absent: the TensorFlow engine serves model.keras)
golden.npz      `rows` and the `outputs` they gave at training: checked before a version goes live
reference.json  reference statistics of inputs and outputs, for drift
card.md, plots/ for people
"""

import hashlib
import io
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from models.errors import BundleError
from models.names import is_name, is_version
from models.task import Task

MANIFEST = "manifest.json"
KERAS = "model.keras"
ONNX = "model.onnx"
GOLDEN = "golden.npz"
REFERENCE = "reference.json"
CARD = "card.md"

MANIFEST_VERSION = 1
FILE_PATTERN = r"([a-z0-9_-]+/)?[A-Za-z0-9_-]+(\.[a-z0-9]+)+"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def label(path: Path) -> str:
    """A bundle's folder in an error: its last two parts, since errors reach clients and no more of the path should."""
    return "/".join(path.parts[-2:])


def _require(good: bool, text: str, what: str) -> str:
    if not good:
        raise ValueError(f"{text!r} is no {what}")
    return text


class _Document(BaseModel):
    # allow_inf_nan: JSON has neither, and a figure of NaN is no figure.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Document):
    """Hash and size in bytes of one file."""

    sha256: Sha256
    bytes: int = Field(ge=0)


class Figure(_Document):
    """One quality figure on held-out rows, beside the same figure of simpler methods.

    Attributes:
        name: Such as ``accuracy``, ``mae``, ``mse``, ``expected_calibration_error``, ``interval_coverage``.
        value: In ``unit``.
        unit: None for a ratio.
        baselines: Method -> the same figure for it, from the same run and rows.
        higher_is_better: Direction of improvement.
        rows: Number of rows it was computed on.
        split: Which rows, such as ``test``.
    """

    name: str
    value: float
    unit: str | None = None
    baselines: dict[str, float] = Field(default_factory=dict)
    higher_is_better: bool
    rows: int = Field(ge=1)
    split: str = "test"


class Lineage(_Document):
    """Where a version comes from: enough to make it again.

    Attributes:
        dataset: Name of the data set.
        data_sha256: Hash of the data as loaded.
        data_location: Where it lay, without a path of one machine.
        rows: Split -> number of rows.
        config: The whole frozen training configuration.
        config_sha256: Hash of its canonical JSON.
        seed: Seed of every random choice.
        code_version: Commit or package version.
        parent: ``name:version`` that training started from, if any.
        command: What reproduces it.
        started: UTC.
        finished: UTC.
    """

    dataset: str
    data_sha256: Sha256
    data_location: str
    rows: dict[str, int]
    config: dict[str, JsonValue]
    config_sha256: Sha256
    seed: int
    code_version: str
    parent: str | None = None
    command: str
    started: datetime
    finished: datetime


class Manifest(_Document):
    """What one version is; the service knows nothing about a model but this.

    Attributes:
        name: Model name, also in URLs.
        version: UTC time of creation and the first 8 digits of the Keras file's sha256.
        architecture: Name in the zoo.
        created: UTC.
        task: Input schema and meaning of the output.
        figures: Quality on held-out rows.
        parameters: Number of weights.
        lineage: How it was made.
        example: One instance as a client would send it.
        golden_tolerance: Largest accepted absolute difference on golden rows, in the output's unit.
        files: Every file of the bundle except the manifest.
        digest: sha256 of the manifest's own canonical form without this member.
    """

    manifest_version: Literal[1] = 1
    name: Annotated[str, AfterValidator(lambda v: _require(is_name(v), v, "model name"))]
    version: Annotated[str, AfterValidator(lambda v: _require(is_version(v), v, "version"))]
    architecture: str
    created: datetime
    task: Task
    figures: tuple[Figure, ...]
    parameters: int = Field(ge=0)
    lineage: Lineage
    example: JsonValue
    golden_tolerance: float = Field(default=1e-5, gt=0, le=1e-2)
    files: dict[
        Annotated[str, AfterValidator(lambda v: _require(re.fullmatch(FILE_PATTERN, v) is not None, v, "file name"))],
        FileEntry,
    ]
    digest: str = ""

    def sealed(self) -> "Manifest":
        """The same manifest with its digest filled in."""
        return self.model_copy(update={"digest": self.compute_digest()})

    def compute_digest(self) -> str:
        """sha256 of the canonical form without the digest."""
        return hashlib.sha256(self.model_copy(update={"digest": ""}).to_json()).hexdigest()

    def to_json(self) -> bytes:
        """The canonical form: the only byte sequence that a manifest file may hold."""
        return (json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


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
        try:
            document = json.loads(data)
            found = document.get("manifest_version") if isinstance(document, dict) else None
            if found != MANIFEST_VERSION:
                raise BundleError(
                    f"{label(path)}: manifest_version must be {MANIFEST_VERSION}. Received: {found!r}. "
                    "Update keras-serving, or export the bundle anew."
                )
            manifest = Manifest.model_validate_json(data)
            # Within the try: an infinite number in the example has no canonical form.
            altered = manifest.digest != manifest.compute_digest() or manifest.to_json() != data
        except (ValueError, RecursionError) as error:
            detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise BundleError(
                f"{label(path)}: {MANIFEST} is not valid: {detail}. Take the bundle from its source again."
            ) from None
        if altered:
            raise BundleError(
                f"{label(path)}: {MANIFEST} was altered after it was written. Take the bundle from its source again."
            )
        return cls(path, manifest)

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
        temporary = directory / f".{MANIFEST}.{os.getpid()}"
        temporary.write_bytes(manifest.to_json())
        temporary.replace(directory / MANIFEST)
        return cls(directory, manifest)

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

    @property
    def has_onnx(self) -> bool:
        """Whether the graph could be exported."""
        return ONNX in self.manifest.files
