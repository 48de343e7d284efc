"""What a ``ModelInferRequest`` costs to read, found out before it is read.

The parser holds Python's lock from its first byte to its last, so a thread is no help: 16 MiB of empty inputs, two
bytes each, would keep the whole worker waiting for two seconds and take half a gigabyte. One raw tensor of that size
takes 2 ms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from service.errors import TooLargeError

CHEAP_BYTES: Final = 128 * 1024
"""However many fields so many bytes are, reading them takes about 15 ms at most."""
MOST_FIELDS: Final = 65_536
"""14 ms of parsing, where each is a message."""
MOST_LISTED_BYTES: Final = 512 * 1024
"""12 ms of parsing, and twice that for a list of as many numbers."""

_Nested = Mapping[int, Any]
_LISTED: Final = "numbers in a row"
# By field number, as in Triton's grpc_service.proto: what is a message in a ModelInferRequest, and what are numbers.
_PARAMETERS: Final[_Nested] = {2: {}}
_CONTENTS: Final[_Nested] = dict.fromkeys(range(1, 8), _LISTED)
_REQUEST: Final[_Nested] = {
    4: _PARAMETERS,
    5: {3: _LISTED, 4: _PARAMETERS, 5: _CONTENTS},
    6: {2: _PARAMETERS},
}


@dataclass(slots=True)
class _Cost:
    fields: int = 0
    listed: int = 0


def check_cost(data: bytes) -> None:
    """Refuse a ``ModelInferRequest`` of too many small parts. Pure Python: in a thread, others get on meanwhile.

    What is no such message passes, up to where it stops being one: the parser says that.

    Raises:
        TooLargeError: More fields, or more bytes of numbers that are listed, than a message may have.
    """
    _walk(data, 0, len(data), _REQUEST, _Cost())


def _walk(data: bytes, at: int, end: int, nested: _Nested, cost: _Cost) -> None:
    """Count the fields between ``at`` and ``end``, and those of the messages among them."""
    while at < end:
        cost.fields += 1
        if cost.fields > MOST_FIELDS:
            raise TooLargeError(
                f"A message has at most {MOST_FIELDS} fields, of which each element of bytes_contents is one. "
                "Received: more. Send inputs raw (raw_input_contents), or split the request."
            )
        tag, at = _varint(data, at, end)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(data, at, end)
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        elif kind == 2:
            length, at = _varint(data, at, end)
            inner = nested.get(tag >> 3)
            if inner is _LISTED:
                cost.listed += length
                if cost.listed > MOST_LISTED_BYTES:
                    raise TooLargeError(
                        f"A message has at most {MOST_LISTED_BYTES} bytes of listed numbers. Received: more. "
                        "Send inputs raw (raw_input_contents), or split the request."
                    )
            elif inner is not None:
                _walk(data, at, min(at + length, end), inner, cost)
            at += length


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where it ends; what breaks off ends at ``end``."""
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            break
    return 0, end
