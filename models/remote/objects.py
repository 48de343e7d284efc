"""What a place for objects has to do."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from models.archive import Source


@dataclass(frozen=True)
class Stored:
    """An object's bytes, and the tag that changes with them."""

    data: bytes
    tag: str


class Objects(Protocol):
    """Objects by key. Every method may raise `StoreError`: the place cannot be reached, or refuses; all end in time."""

    name: str
    """Of the place, for people."""

    def read(self, key: str, *, unless: str = "") -> Stored | None:
        """An object; None where its tag still is ``unless``.

        Raises:
            FileNotFoundError: There is none.
        """

    def stream(self, key: str) -> AbstractContextManager[tuple[Source, int]]:
        """An object to be read bit by bit, and its size in bytes.

        Raises:
            FileNotFoundError: There is none.
        """

    def keys(self, prefix: str) -> list[str]:
        """Keys that begin so, sorted."""

    def create(self, key: str, data: bytes) -> str:
        """Write an object that is not there yet; its tag.

        Raises:
            OvertakenError: It is there.
        """

    def upload(self, key: str, file: Path) -> None:
        """Write an object that is not there yet, from a file.

        Raises:
            OvertakenError: It is there.
        """

    def replace(self, key: str, data: bytes, tag: str) -> str:
        """Write an object anew if its tag still is ``tag``; the new one.

        Raises:
            OvertakenError: It is not.
        """

    def delete(self, key: str) -> None:
        """Take an object away; one that is not there is no error."""
