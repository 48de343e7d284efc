"""Compressed bodies -> bytes, never more than a body may have."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import MappingProxyType

from models.errors import DecodeError
from service.errors import EncodingError, TooLargeError

# zlib's window bits: 16 more for gzip's header, and zlib's own for "deflate" (RFC 9110, section 8.4.1).
_WINDOW_BITS = MappingProxyType({b"gzip": 31, b"x-gzip": 31, b"deflate": 15})
# Bodies of a few kilobytes may be megabytes inflated: the clients' bandwidth does not bound how many there are.
_AT_ONCE = 8


class Inflater:
    """Inflates bodies beside the event loop, so few at once that they fit into memory; the others wait compressed.

    Args:
        limit: Most bytes that each may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free = asyncio.Semaphore(_AT_ONCE)

    @asynccontextmanager
    async def inflated(self, body: bytes, encoding: bytes) -> AsyncIterator[bytes]:
        """What `inflate` makes of ``body``, to be let go of when left.

        Raises:
            ServingError: As `inflate`.
        """
        async with self._free:
            yield await asyncio.to_thread(inflate, body, encoding, self._limit)


def inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    """``body`` as it was before the client compressed it. Takes a while: call it in a thread.

    Args:
        body: As received.
        encoding: Value of ``Content-Encoding``.
        limit: Most bytes that it may have; a bomb ends here, not in memory.

    Raises:
        EncodingError: Another encoding than gzip or deflate, or several.
        DecodeError: Not of that encoding, or broken off.
        TooLargeError: More than ``limit`` bytes.
    """
    name = encoding.strip().lower()
    if name == b"identity":
        return body
    if name not in _WINDOW_BITS:
        raise EncodingError(encoding)
    inflater = zlib.decompressobj(_WINDOW_BITS[name])
    try:
        found = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise DecodeError(f"body: not {name.decode()} ({error}). Check the compression.") from None
    if len(found) > limit:
        raise TooLargeError(f"A body has at most {limit} bytes, uncompressed. Received: more. Split the request.")
    if not inflater.eof or inflater.unused_data:
        rule = "breaks off" if not inflater.eof else "has bytes after its end"
        raise DecodeError(f"body: the {name.decode()} data {rule}. Check that it was sent whole.")
    return found
