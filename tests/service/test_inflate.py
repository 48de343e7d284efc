"""Compressed bodies: as they were, and never more than a body may have."""

import gzip
import zlib

import pytest

from models.errors import DecodeError
from service.decode.inflate import inflate
from service.errors import MediaTypeError, TooLargeError

TEXT = b'{"instances": [1, 2, 3]}'


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", gzip.compress(TEXT, mtime=0)),
        (b" GZIP ", gzip.compress(TEXT, mtime=0)),
        (b"x-gzip", gzip.compress(TEXT, mtime=0)),
        (b"deflate", zlib.compress(TEXT)),
        (b"identity", TEXT),
    ],
)
def test_a_body_is_read_as_it_was(encoding: bytes, body: bytes) -> None:
    assert inflate(body, encoding, len(TEXT)) == TEXT


def test_one_byte_too_many_is_refused() -> None:
    with pytest.raises(TooLargeError, match="at most 23 bytes, uncompressed"):
        inflate(gzip.compress(TEXT, mtime=0), b"gzip", len(TEXT) - 1)


def test_a_bomb_ends_at_the_limit() -> None:
    with pytest.raises(TooLargeError):
        inflate(zlib.compress(bytes(10**7)), b"deflate", 1000)


@pytest.mark.parametrize(
    "body", [gzip.compress(TEXT, mtime=0)[:-9], gzip.compress(TEXT, mtime=0) + b"more", TEXT, b"", b"\x1f\x8b"]
)
def test_what_is_not_one_whole_stream_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError, match="body: "):
        inflate(body, b"gzip", 1000)


@pytest.mark.parametrize("encoding", [b"br", b"gzip, deflate", b"\xff" * 500])
def test_another_encoding_is_refused(encoding: bytes) -> None:
    with pytest.raises(MediaTypeError, match="must be gzip or deflate") as caught:
        inflate(TEXT, encoding, 1000)
    assert len(str(caught.value)) < 300
