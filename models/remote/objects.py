"""What a place for objects has to do, and how its address is written."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from models.archive import Source
from models.errors import OvertakenError

__all__ = ["Address", "Objects", "OvertakenError", "Stored"]


@dataclass(frozen=True)
class Address:
    """Where a store lies.

    Attributes:
        scheme: ``s3`` or ``file``.
        bucket: Of S3; empty for a folder.
        path: Of a folder, or the prefix in the bucket, without a slash at either end of the latter.
    """

    scheme: str
    bucket: str
    path: str

    @classmethod
    def parse(cls, url: str) -> "Address":
        """The address that ``url`` writes down.

        Raises:
            ValueError: It is none; the message says the rule and never what may be a secret.
        """
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise ValueError("an address holds no credentials: give them by AWS_ACCESS_KEY_ID or as your cloud does")
        if parts.query or parts.fragment:
            raise ValueError("an address has neither ? nor #; AWS_ENDPOINT_URL and AWS_REGION say where S3 is")
        if parts.scheme == "s3" and parts.netloc:
            return cls("s3", parts.netloc, parts.path.strip("/"))
        if parts.scheme == "file" and not parts.netloc and len(parts.path) > 1:
            return cls("file", "", parts.path)
        raise ValueError("must be s3://BUCKET/PREFIX, or file:///FOLDER for a folder that all see")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}{'/' if self.bucket and self.path else ''}{self.path}"


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
