"""What the protocols share: a question, an answer, and what it takes to turn one into the other."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple, Unpack

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest
from models.names import is_version
from service.decode.inflate import Inflater
from service.decode.picture import Pictures, Row, decode_pictures
from service.decode.picture_decoder import PictureDecoder
from service.disconnects import unless_disconnected
from service.errors import TooLargeError
from service.settings import Settings
from service.trace_context import TraceContext

# Less JSON becomes 20 MiB at most. Bytes.
_LARGE_BYTES: Final = 256 * 1024

Done = TypeVar("Done")
Arguments = TypeVarTuple("Arguments")

Headers = Iterable[tuple[bytes, bytes]]
"""Names in lower case, and values, as ASGI has them."""
Parameters = Sequence[tuple[str, str]]
"""Names and values of a query string."""
Response = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body."""


@dataclass(frozen=True)
class Pin:
    """The version that a request wants: by its name, or by a label."""

    version: str = ""
    label: str = ""

    @classmethod
    def named(cls, version: str) -> "Pin":
        """What a client means by a version: one by its name, or whichever a label such as ``candidate`` points to."""
        return cls(version=version) if is_version(version) else cls(label=version)


@dataclass(slots=True)
class Question:
    """One request, read whole.

    Attributes:
        protocol: Reads it, and writes its answer.
        request_id: Comes back in the answer.
        content_type: Of the body; empty where the protocol has none.
        body: The whole of it: bytes over HTTP, a message over gRPC.
        encoding: How the body is compressed, if so; while it is decoded it is not.
        inflater: For a body that is.
        size: Bytes of a message.
        parameters: Of the query string, but for the version.
        headers: As they came.
        started: When the request began, `time.perf_counter` seconds; None where it is counted elsewhere.
        deadline: When an answer is of no use any more, `time.perf_counter` seconds.
        receive: ASGI's, where only that tells that the sender has left.
        trace: The sender's trace that it belongs to, if any.
        picture_decoder: The worker's, for pictures.
        one_thread: For large JSON, so that only one such body is parsed at a time; None for asyncio's threads.
    """

    protocol: "WireProtocol"
    request_id: str
    content_type: bytes
    body: Any
    encoding: bytes = b""
    inflater: Inflater | None = None
    size: int = 0
    parameters: Parameters = ()
    headers: Headers = ()
    started: float | None = None
    deadline: float | None = None
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]] | None = None
    trace: TraceContext | None = None
    picture_decoder: PictureDecoder | None = None
    one_thread: Executor | None = None


@dataclass(slots=True)
class Decoded:
    """The rows of a question.

    Attributes:
        rows: Shape ``(n, *input_shape)``, the task's dtype.
        applied: What was done to each picture on the way; empty for other rows.
        wanted: What else the protocol must remember for the answer, such as the outputs asked for.
        trial: Whether somebody only tries the model: neither drift, a shadow nor capture sees the rows.
        pictures: Of which `rows` and `applied` are still to be made, by `decode_pictures`.
    """

    rows: NDArray[Any]
    applied: list[tuple[str, ...]] = field(default_factory=list)
    wanted: Any = None
    trial: bool = False
    pictures: Pictures | None = None

    @classmethod
    def of(cls, pictures: Pictures) -> "Decoded":
        """No rows yet."""
        return cls(np.empty((0, *pictures.task.input_shape), np.uint8), pictures=pictures)

    def decode_pictures_at_once(self) -> None:
        """Make rows of the pictures, however long it takes.

        Raises:
            ServingError: As `Pictures.look` and `decode_pictures`.
        """
        if self.pictures is not None:
            self._fill(decode_pictures(self.pictures.task, self.pictures.look()))

    def decode_pictures_if_small(self) -> bool:
        """Make rows of pictures that take no time; whether the rows are there.

        Raises:
            ServingError: As `Pictures.look` and `decode_pictures`.
        """
        if self.pictures is not None and self.pictures.is_small():
            self.decode_pictures_at_once()
        return self.pictures is None

    async def decode_pictures(self, question: Question) -> None:
        """Make rows of the pictures, beside the event loop when that may take long, and until the sender leaves.

        Raises:
            ServingError: As `Pictures.look` and `decode_pictures`.
            ClientDisconnectError: The sender left.
        """
        if self.decode_pictures_if_small() or self.pictures is None:
            return
        if question.picture_decoder is None:
            raise RuntimeError("A question with pictures needs the worker's picture_decoder.")
        decoding = question.picture_decoder.decode(self.pictures)
        self._fill(await (decoding if question.receive is None else unless_disconnected(question.receive, decoding)))

    def _fill(self, rows: list[Row]) -> None:
        self.rows, self.applied = np.stack([row for row, _ in rows]), [steps for _, steps in rows]
        self.pictures = None


@dataclass(slots=True)
class Answer:
    """What goes back to the sender, and how it came about.

    Attributes:
        body: Bytes over HTTP, a message over gRPC.
        content_type: Of the body.
        headers: Further ones of the protocol's.
        version: Which one answered.
        batch_rows: Rows in the batch that its last row was in.
        decode_s: Seconds of each stage, as are the following.
        queue_s: From the queue's entry to the batch's beginning.
        infer_s: The engine's time for the batch.
        encode_s: Up to here.
    """

    body: Any
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    version: str = ""
    batch_rows: int = 0
    decode_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0
    encode_s: float = 0.0


async def beside(question: Question, work: Callable[[Unpack[Arguments]], Done], *arguments: *Arguments) -> Done:
    """What ``work`` makes of the JSON of ``question``, in a thread.

    Large bodies one at a time: parsing holds Python's lock, so that several would take as long and all their memory.
    """
    pool = question.one_thread if len(question.body) > _LARGE_BYTES else None
    return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)


def limit_rows(count: int, settings: Settings) -> None:
    """Refuse more rows than a request may have, before they cost anything.

    Raises:
        TooLargeError: More.
    """
    if count > settings.max_request_rows:
        raise TooLargeError(f"A request has at most {settings.max_request_rows} rows. Received: {count}. Split it.")


class WireProtocol(Protocol):
    """One wire format of predictions; a module with these members is one.

    Attributes:
        ROUTE: Template of its prediction route, for the metrics.
    """

    ROUTE: str

    async def decode(self, manifest: Manifest, question: Question, settings: Settings) -> Decoded:
        """Rows from a question; beside the event loop when that may take long. It may set an earlier deadline.

        Raises:
            ServingError: The body cannot be read, or a value breaks the schema.
        """

    def encode(self, manifest: Manifest, question: Question, decoded: Decoded, outputs: NDArray[np.float32]) -> Answer:
        """The answer for ``outputs`` ``(n, *output_shape)``.

        Raises:
            ServingError: What the question asks of the answer does not exist.
        """


class HttpProtocol(WireProtocol, Protocol):
    """A wire format of predictions over HTTP."""

    def decode_at_once(self, manifest: Manifest, question: Question, settings: Settings) -> Decoded | None:
        """The same as `decode` where that takes less than beginning a thread, else None.

        Raises:
            ServingError: As `decode`.
        """

    def matches(self, path: str) -> bool:
        """Whether ``path`` is that of a prediction in this format."""

    def address(self, path: str, query: bytes) -> tuple[str, Pin | None, Parameters]:
        """The model's name, the version that is pinned, and what else the query string says, for a path that matches.

        Raises:
            ServingError: The query string breaks a rule.
        """

    def problem(self, error: Exception, request_id: str) -> Response:
        """``error`` in the protocol's own form."""
