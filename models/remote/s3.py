"""Objects in S3, or in what speaks its protocol, through fsspec's client for it.

Credentials, region and endpoint come from where AWS's own tools take them: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, a role.
No error of ours repeats a text of the client's: it may have an address with credentials in it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

from models.archive import Source
from models.errors import OvertakenError, ServingError, StoreError
from models.remote.address import Address
from models.remote.objects import Stored

# What is passed on more slowly is taken for stuck. Bytes a second.
_SLOWEST = 100_000
_PAGE = 1000
# Documents are read whole; the largest sensible ones have some hundred kilobytes. Bytes.
_LARGEST = 16 * 1024 * 1024
_LOOK = "keras-serving models history"
_NOT_MODIFIED, _NOT_FOUND, _CONFLICT, _PRECONDITION = 304, 404, 409, 412


class Bucket:
    """The objects of a bucket whose keys begin with a prefix.

    Args:
        address: Of the bucket.
        timeout_s: Longest time of one request, and of each part of an object; a long one has longer in all. Seconds.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.name = str(address)
        self._bucket, self._timeout_s = address.bucket, timeout_s
        self._prefix = f"{address.path}/" if address.path else ""

    def read(self, key: str, *, unless: str = "") -> Stored | None:
        """See `Objects.read`."""
        condition = {"IfNoneMatch": unless} if unless else {}
        with self._reaching(missing=key):
            try:
                answer = self._call("get_object", key, **condition)
                if (size := int(answer["ContentLength"])) > _LARGEST:
                    answer["Body"].close()
                    raise StoreError(f"{self.name}: {key} has {size:,} bytes, where at most {_LARGEST:,} make sense.")
                return Stored(self._wait(answer["Body"].read), answer["ETag"])
            except OSError as error:
                if _status(error) != _NOT_MODIFIED:
                    raise
                return None

    @contextmanager
    def stream(self, key: str) -> Iterator[tuple[Source, int]]:
        """See `Objects.stream`."""
        with self._reaching(missing=key):
            answer = self._call("get_object", key)
        size = int(answer["ContentLength"])
        body = _Body(self, answer["Body"], monotonic() + self._time_of(size))
        try:
            yield body, size
        finally:
            body.close()

    def keys(self, prefix: str) -> list[str]:
        """See `Objects.keys`."""
        found: list[str] = []
        more: dict[str, str] = {}
        with self._reaching():
            while True:
                page = self._call("list_objects_v2", Prefix=self._prefix + prefix, MaxKeys=_PAGE, **more)
                found += [entry["Key"].removeprefix(self._prefix) for entry in page.get("Contents", ())]
                if not page.get("IsTruncated"):
                    return sorted(found)
                more = {"ContinuationToken": page["NextContinuationToken"]}

    def create(self, key: str, data: bytes) -> str:
        """See `Objects.create`."""
        return self._put(key, data, IfNoneMatch="*")

    def upload(self, key: str, file: Path) -> None:
        """See `Objects.upload`."""
        with self._reaching(overtaken=key):
            self._files.put_file(
                str(file),
                f"{self._bucket}/{self._prefix}{key}",
                mode="create",
                timeout=self._time_of(file.stat().st_size),
            )

    def replace(self, key: str, data: bytes, tag: str) -> str:
        """See `Objects.replace`."""
        return self._put(key, data, IfMatch=tag)

    def delete(self, key: str) -> None:
        """See `Objects.delete`."""
        with self._reaching():
            self._call("delete_object", key)

    def close(self) -> None:
        """Close the connections; the next request opens others."""
        if "_files" in self.__dict__:
            files = self.__dict__.pop("_files")
            files.close_session(files.loop, files.s3)

    def _put(self, key: str, data: bytes, **condition: str) -> str:
        with self._reaching(overtaken=key):
            tag: str = self._call("put_object", key, Body=data, **condition)["ETag"]
        return tag

    def _time_of(self, size: int) -> float:
        return self._timeout_s + size / _SLOWEST

    def _call(self, method: str, key: str | None = None, **arguments: object) -> dict[str, Any]:
        if key is not None:
            arguments["Key"] = self._prefix + key
        answer: dict[str, Any] = self._files.call_s3(method, Bucket=self._bucket, timeout=self._timeout_s, **arguments)
        return answer

    def _wait(self, method: Any, *arguments: object) -> bytes:
        """What a coroutine function of the client gives, on the client's own loop, in its own thread."""
        from fsspec.asyn import sync

        data: bytes = sync(self._files.loop, method, *arguments, timeout=self._timeout_s)
        return data

    @cached_property
    def _files(self) -> Any:
        # Imported here: it takes half a second, and only a store in S3 needs it.
        import fsspec

        files = fsspec.filesystem(
            "s3",
            skip_instance_cache=True,
            use_listings_cache=False,
            config_kwargs={
                "connect_timeout": self._timeout_s,
                "read_timeout": self._timeout_s,
                "retries": {"total_max_attempts": 2, "mode": "standard"},
            },
        )
        # It would try each of those five times more.
        files.retries = 1
        return files

    @contextmanager
    def _reaching(self, *, missing: str = "", overtaken: str = "") -> Iterator[None]:
        """Turn what the client raises into errors of ours."""
        try:
            yield
        except ServingError:
            raise
        # The client's own, botocore's, aiohttp's and the system's errors have no base but this.
        except Exception as error:
            status = _status(error)
            if missing and status == _NOT_FOUND and _code(error) != "NoSuchBucket":
                raise FileNotFoundError(missing) from None
            # Where an object was to be replaced, one that is gone was overtaken too.
            if overtaken and (status in {_CONFLICT, _PRECONDITION} or _code(error) == "NoSuchKey"):
                raise OvertakenError(f"{overtaken} was written by another at the same time.") from None
            if status:
                what = f"refuses ({status} {_code(error)})"
                remedy = "Check the bucket's name, and the rights and the clock of whoever asks."
            else:
                what = f"cannot be reached ({type(error).__name__})"
                remedy = "Check the network, AWS_ENDPOINT_URL and the credentials."
                if overtaken:
                    remedy += f" {overtaken} may be written all the same: look before trying again, {_LOOK}."
            raise StoreError(f"{self.name} {what}. {remedy}") from None


class _Body:
    """An object that is being read."""

    def __init__(self, bucket: Bucket, body: Any, until: float) -> None:
        self._bucket, self._body, self._until = bucket, body, until

    def read(self, size: int, /) -> bytes:
        """The next ``size`` bytes, fewer only at the end."""
        parts: list[bytes] = []
        with self._bucket._reaching():
            while size:
                if monotonic() > self._until:
                    raise TimeoutError
                part = self._bucket._wait(self._body.read, size)
                if not part:
                    break
                parts.append(part)
                size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Give the connection up; what is left of the object is not read."""
        self._body.close()


def _answer(error: BaseException) -> dict[str, Any]:
    # The client raises an error of Python's whose cause is botocore's, which has S3's answer.
    for found in (error, error.__cause__):
        answer = getattr(found, "response", None)
        if isinstance(answer, dict):
            return answer
    return {}


def _status(error: BaseException) -> int:
    """HTTP status of S3's answer; 0 where there was none."""
    return int(_answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: BaseException) -> str:
    """S3's own word for what is wrong."""
    code = str(_answer(error).get("Error", {}).get("Code", ""))
    return code if code.isalnum() and len(code) <= 60 else ""
