"""multipart/form-data -> the uploaded files, with bounded parts and headers."""

from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from models.errors import DecodeError
from service.errors import TooLargeError

_MAX_BOUNDARY_BYTES = 256
_MAX_HEADER_BYTES = 4096


@dataclass
class _Parts:
    """Collects what the parser announces."""

    max_files: int
    files: list[bytes] = field(default_factory=list)
    _data: bytearray = field(default_factory=bytearray)
    _header_name: bytearray = field(default_factory=bytearray)
    _header_value: bytearray = field(default_factory=bytearray)
    _header_bytes: int = 0
    _is_file: bool = False

    def begin(self) -> None:
        if len(self.files) >= self.max_files:
            raise TooLargeError(f"body: at most {self.max_files} files a request. Send the others in another one.")
        self._data, self._header_bytes, self._is_file = bytearray(), 0, False

    def _count(self, chunk: bytes) -> None:
        self._header_bytes += len(chunk)
        if self._header_bytes > _MAX_HEADER_BYTES:
            raise TooLargeError(
                f"body: the headers of a part have at most {_MAX_HEADER_BYTES} bytes. Shorten the file name."
            )

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._count(data[start:end])
        self._header_name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(data[start:end])
        self._header_value += data[start:end]

    def header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._header_value))
            self._is_file = b"filename" in options
            if not self._is_file:
                name = options.get(b"name", b"")[:60].decode(errors="replace")
                raise DecodeError(f"body: form field {name!r} must be a file. With curl: -F file=@picture.png")
        self._header_name, self._header_value = bytearray(), bytearray()

    def data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def end(self) -> None:
        if not self._is_file:
            raise DecodeError(
                "body: a part has no Content-Disposition with a filename. With curl: -F file=@picture.png"
            )
        self.files.append(bytes(self._data))


def decode_files(body: bytes, content_type: bytes, *, max_files: int) -> list[bytes]:
    """Contents of the files in ``body``, in order.

    Raises:
        DecodeError: No boundary, a broken body, a field that is no file, or no file at all.
        TooLargeError: More than ``max_files``, or an oversized part header.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise DecodeError(
            "Content-Type: multipart/form-data needs a boundary. Let your HTTP client set the header itself."
        )
    parts = _Parts(max_files)
    callbacks: Any = {
        "on_part_begin": parts.begin,
        "on_header_field": parts.header_name,
        "on_header_value": parts.header_value,
        "on_header_end": parts.header_end,
        "on_part_data": parts.data,
        "on_part_end": parts.end,
    }
    finished = False

    def finish() -> None:
        nonlocal finished
        finished = True

    callbacks["on_end"] = finish
    parser = MultipartParser(boundary, callbacks)
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise DecodeError(f"body: broken multipart/form-data ({error}). Let your HTTP client build it.") from None
    if not finished:
        raise DecodeError("body: multipart/form-data ends before its last boundary. Check that it was sent whole.")
    if not parts.files:
        raise DecodeError("body: no file in the form. With curl: -F file=@picture.png")
    return parts.files
