"""Who changed what, when: one JSON line a change, appended and never rewritten."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

Action = Literal["add", "import", "promote", "rollback", "label", "remove", "traffic", "delete"]
_TAIL_BYTES = 64 * 1024


def _cut(text: str) -> str:
    # Cut, not refused: a long reason must not stop a change.
    return text[:2000]


Text = Annotated[str, AfterValidator(_cut)]


class Change(BaseModel):
    """One change of the store.

    Attributes:
        when: UTC.
        who: ``user@host``, ``admin@address``, ``service``, or empty where nobody said.
        action: What was done.
        model: Name.
        alias: Which one moved; empty where none did.
        before: In JSON ``from``: the version, or the traffic, until then; empty for nothing.
        after: In JSON ``to``: the version, or the traffic, since then; empty for nothing.
        revision: Of the alias document after the change; an added version leaves it as it is.
        reason: In the words of whoever did it, at most 2,000 characters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    when: datetime = Field(default_factory=lambda: datetime.now(UTC))
    who: Text = ""
    action: Action
    model: str
    alias: str = ""
    before: str = Field(default="", alias="from")
    after: str = Field(default="", alias="to")
    revision: int = Field(default=0, ge=0)
    reason: Text = ""


class AuditLog:
    """The log in one file; written under the store's lock, read by anybody at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, *, tail: bool = False) -> list[Change]:
        """Every change, oldest first; a line that a crash cut off is passed over.

        Args:
            tail: Look at the last 64 KiB only.

        Raises:
            OSError: The file cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES) if tail else 0)
                data = file.read()
        except FileNotFoundError:
            return []
        changes = []
        for line in data.split(b"\n"):
            try:
                changes.append(Change.model_validate_json(line))
            except ValidationError:
                continue  # Cut off at the end by a crash, or at the start by `tail`.
        return changes

    def append(self, change: Change) -> None:
        """Write one line, on the disk when this returns.

        Raises:
            OSError: The file cannot be written.
        """
        line = change.model_dump_json().encode() + b"\n"
        with self._path.open("a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                # What a crash cut off keeps a line to itself.
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
