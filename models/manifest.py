"""What a version says of itself: the manifest, and the parts that it is made of."""

import hashlib
import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from models.decision import Decision
from models.names import Name, Version
from models.task import Task

MANIFEST_VERSION = 1
FILE_PATTERN = r"([a-z0-9_-]+/)?[A-Za-z0-9_-]+(\.[a-z0-9]+)+"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _file(text: str) -> str:
    if not re.fullmatch(FILE_PATTERN, text):
        raise ValueError(f"{text!r} is no file name")
    return text


class _Document(BaseModel):
    # allow_inf_nan: JSON has neither, and a figure of NaN is no figure.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Document):
    """One file of a bundle.

    Attributes:
        sha256: Of its bytes.
        bytes: Its size.
    """

    sha256: Sha256
    bytes: int = Field(ge=0)


class Figure(_Document):
    """One quality figure on held-out rows, beside the same figure of simpler methods.

    Attributes:
        name: Such as ``accuracy``, ``mae``, ``mse``, ``expected_calibration_error``, ``interval_coverage``.
        value: In ``unit``.
        unit: Null for a ratio.
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
        gate: What the gate decided before this version was published; null where it was not asked.
        digest: sha256 of the manifest's own canonical form without this member.
    """

    manifest_version: Literal[1] = 1
    name: Name
    version: Version
    architecture: str
    created: datetime
    task: Task
    figures: tuple[Figure, ...]
    parameters: int = Field(ge=0)
    lineage: Lineage
    example: JsonValue
    golden_tolerance: float = Field(default=1e-5, gt=0, le=1e-2)
    files: dict[Annotated[str, AfterValidator(_file)], FileEntry]
    gate: Decision | None = None
    digest: str = ""

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves `gate` out where it is none: manifests written before it existed keep their digest."""
        document: dict[str, Any] = handler(self)
        if self.gate is None:
            document.pop("gate", None)
        return document

    def sealed(self) -> "Manifest":
        """The same manifest with its digest filled in."""
        return self.model_copy(update={"digest": self.compute_digest()})

    def compute_digest(self) -> str:
        """sha256 of the canonical form without the digest."""
        return hashlib.sha256(self.model_copy(update={"digest": ""}).to_json()).hexdigest()

    def to_json(self) -> bytes:
        """The canonical form: the only byte sequence that a manifest file may hold."""
        return (json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
