"""What the request line and the headers of a prediction's request say, looked at once for all that have the same."""

from dataclasses import dataclass, field

from service.deadlines import TIMEOUT_HEADER
from service.details import DETAILS_HEADER
from service.protocols.base import Headers, HttpProtocol, Parameters, Pin
from service.trace_context import HEADER as TRACE_HEADER

_END = b"\r\n\r\n"
# Larger heads are not kept. Bytes.
_MAX_BYTES = 1024
_MOST = 512


@dataclass(slots=True)
class Head:
    """The head of a request to a prediction's path.

    Attributes:
        protocol: The prediction's.
        method: In capitals.
        path: Decoded, without the query string.
        query: The query string.
        headers: Names in lower case.
        content_type: As the headers have it, as has each of the following; empty for none.
        length: Of the body, bytes; None where none is declared.
        request_id: That the client wants.
        timeout: How long it waits.
        details: Whether it wants to know how the answer came about: ``1``.
        trace: Its place in a trace.
        encoding: How the body is compressed.
    """

    protocol: HttpProtocol
    method: str
    path: str
    query: bytes
    headers: Headers
    content_type: bytes = field(init=False, default=b"")
    length: int | None = field(init=False, default=None)
    request_id: bytes = field(init=False, default=b"")
    timeout: bytes = field(init=False, default=b"")
    details: bytes = field(init=False, default=b"")
    trace: bytes = field(init=False, default=b"")
    encoding: bytes = field(init=False, default=b"")
    _address: tuple[str, Pin | None, Parameters] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        for key, value in self.headers:
            if key == b"content-type":
                self.content_type = value
            elif key == b"content-length":
                # What is no number declares nothing: the body is counted anyway.
                self.length = int(value) if value.isdigit() else None
            elif key == b"x-request-id":
                self.request_id = value
            elif key == TIMEOUT_HEADER:
                self.timeout = value
            elif key == DETAILS_HEADER:
                self.details = value
            elif key == TRACE_HEADER:
                # Twice it is invalid: then there are two values with a comma between.
                self.trace += b"," + value if self.trace else value
            elif key == b"content-encoding":
                self.encoding += b", " + value if self.encoding else value

    def address(self) -> tuple[str, Pin | None, Parameters]:
        """The model's name, the version that is pinned, and what else the query string says.

        Raises:
            ServingError: The path or the query string breaks a rule of the protocol.
        """
        if self._address is None:
            # Of another method its query string is no matter.
            self._address = self.protocol.address(self.path, self.query if self.method == "POST" else b"")
        return self._address


class KnownHeads:
    """Heads as they came in, byte for byte, and what they say.

    A client sends the same head again and again, but for the body's length, which has few values. The parser, which
    calls back for each header, would find the same in the same bytes.
    """

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the body of a request that ``data`` is the whole of, if the head is known."""
        start = data.find(_END, 0, _MAX_BYTES) + len(_END)
        head = self._heads.get(data[:start])
        return (head, data[start:]) if head is not None and len(data) - start == head.length else None

    def keep(self, data: bytes, head: Head) -> None:
        """Know the head of the next request too; ``data`` is the whole of one, and nothing more, to the parser."""
        # What is another one each time would only push the others out.
        if head.length is None or head.request_id or head.trace:
            return
        start = len(data) - head.length
        if len(_END) < start <= _MAX_BYTES and data.find(_END) == start - len(_END):
            if len(self._heads) >= _MOST:
                self._heads.clear()
            self._heads[data[:start]] = head
