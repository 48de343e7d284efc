"""How the address of a store that lies elsewhere is written."""

from dataclasses import dataclass
from urllib.parse import urlsplit


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
