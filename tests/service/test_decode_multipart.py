"""Forms with files, as browsers and curl send them."""

import contextlib

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from models.errors import DecodeError, ServingError
from service.decode.multipart import decode_files
from service.errors import TooLargeError

TYPE = b"multipart/form-data; boundary=limit"


def part(
    data: bytes = b"data", disposition: bytes = b'form-data; name="file"; filename="a.png"', more: bytes = b""
) -> bytes:
    return b"--limit\r\nContent-Disposition: " + disposition + b"\r\n" + more + b"\r\n" + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--limit--\r\n"


def decode(body: bytes, content_type: bytes = TYPE, max_files: int = 10) -> list[bytes]:
    return decode_files(body, content_type, max_files=max_files)


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
@examples(max_examples=40, deadline=None)
def test_files_come_out_in_order_byte_for_byte_as_a_real_client_sent_them(contents: list[bytes]) -> None:
    files = [("file", (f"{i}.png", content, "image/png")) for i, content in enumerate(contents)]
    request = httpx.Request("POST", "http://localhost/", files=files)
    assert decode_files(request.read(), request.headers["content-type"].encode(), max_files=5) == contents


def test_the_name_of_the_field_does_not_matter() -> None:
    assert decode(form(part(b"1", b'form-data; name="anything"; filename="x"'))) == [b"1"]


def test_an_epilogue_is_no_error() -> None:
    assert decode(form(part(b"1")) + b"\r\n") == [b"1"]


def test_the_line_break_after_the_last_boundary_may_be_missing() -> None:
    assert decode(form(part(b"1"))[:-2]) == [b"1"]


def test_a_quoted_boundary_is_a_boundary() -> None:
    assert decode(form(part()), b'multipart/form-data; charset=utf-8; boundary="limit"') == [b"data"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_as_many_files_as_allowed_are_taken_and_one_more_is_not(number: int) -> None:
    body = form(*[part()] * number)
    assert len(decode(body, max_files=number)) == number
    with pytest.raises(TooLargeError, match=f"at most {number - 1} files" if number > 1 else "at most 0"):
        decode(body, max_files=number - 1)


def test_ten_thousand_parts_are_refused_at_the_first_above_the_limit() -> None:
    with pytest.raises(TooLargeError, match="at most 10 files"):
        decode(form(*[part(b"")] * 10_000))


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; charset=x",
        b"multipart/form-data; boundary=" + b"x" * 257,
        b"multipart/form-data; boundary=" + b"x" * 1_000_000,
        b"",
    ],
    ids=lambda value: repr(value[:40]),
)
def test_a_content_type_without_a_usable_boundary_is_refused(content_type: bytes) -> None:
    with pytest.raises(DecodeError, match="needs a boundary"):
        decode(form(part()), content_type)


def test_a_field_that_is_no_file_is_refused_by_name() -> None:
    with pytest.raises(DecodeError, match=r"form field 'url' must be a file"):
        decode(form(part(b"http://169.254.169.254/", b'form-data; name="url"')))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--limit--\r\n",
        b"data",
        form(part())[:-6],
        form(part())[:-12],
        part(),
        form(part()).replace(b"--limit", b"--other"),
        form(part()).replace(b"\r\n", b"\n"),
        b"--limit\r\n\r\ndata\r\n--limit--\r\n",
        b"--limit\r\nContent-Type: image/png\r\n\r\ndata\r\n--limit--\r\n",
        b"--limit\r\nbad header\r\n\r\ndata\r\n--limit--\r\n",
    ],
    ids=lambda body: repr(body[:50]),
)
def test_a_form_that_is_broken_or_has_no_file_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(body)


@pytest.mark.parametrize(
    "more",
    [b"X-Long: " + b"x" * 5000 + b"\r\n", b"".join(b"X-%d: x\r\n" % i for i in range(2000)), b"x" * 5000 + b": 1\r\n"],
)
def test_oversized_part_headers_are_refused(more: bytes) -> None:
    with pytest.raises(ServingError, match="header"):
        decode(form(part(more=more)))


@pytest.mark.parametrize("cut", [3, 4, 10, 20, 60])
def test_a_form_whose_last_file_was_cut_is_refused_though_the_first_is_whole(cut: int) -> None:
    with pytest.raises(DecodeError, match="sent whole"):
        decode(form(part(b"1"), part(b"2"))[:-cut])


def test_the_headers_of_each_part_count_for_themselves() -> None:
    assert len(decode(form(*[part(more=b"X-Long: " + b"x" * 3000 + b"\r\n")] * 3))) == 3


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=4))
@examples(max_examples=200, deadline=None)
def test_damaged_forms_are_read_or_refused_and_never_anything_else(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(form(part(), part(b"more")))
    for at, value in changes:
        damaged[at % len(damaged)] = value
    with contextlib.suppress(ServingError):
        assert decode(bytes(damaged))
