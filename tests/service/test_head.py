"""What a head says, and when one that came before is known again: for the same bytes, and a body as long as it says."""

import pytest

from models.errors import InputError
from service.head import Head, KnownHeads
from service.predictions import Predictions
from service.protocols import native
from service.protocols.base import Pin

LINES = (b"POST /predict/cars HTTP/1.1", b"Host: here")


def head_of(*headers: tuple[bytes, bytes], method: str = "POST", query: bytes = b"") -> Head:
    return Head(native, method, "/predict/cars", query, [(b"host", b"here"), *headers])


def request(body: bytes, *headers: tuple[bytes, bytes]) -> tuple[bytes, Head]:
    """A request as it comes in, and what the parser finds in its head."""
    described = [(b"content-length", b"%d" % len(body)), *headers]
    lines = [*LINES, *[b": ".join(header) for header in described], b"", body]
    return b"\r\n".join(lines), head_of(*described)


def test_a_head_says_what_is_in_its_headers() -> None:
    head = head_of(
        (b"content-type", b"application/json"),
        (b"content-length", b"12"),
        (b"x-request-id", b"mine"),
        (b"x-request-timeout-ms", b"20"),
        (b"x-serving-details", b"1"),
        (b"traceparent", b"00-a-b-01"),
        (b"content-encoding", b"gzip"),
    )
    assert (head.content_type, head.length, head.request_id) == (b"application/json", 12, b"mine")
    assert (head.timeout, head.details, head.trace, head.encoding) == (b"20", b"1", b"00-a-b-01", b"gzip")


def test_a_head_without_them_says_nothing() -> None:
    head = head_of()
    assert head.length is None
    assert {head.content_type, head.request_id, head.timeout, head.details, head.trace, head.encoding} == {b""}


@pytest.mark.parametrize(
    ("name", "attribute", "expected"),
    [
        (b"content-type", "content_type", b"2"),
        (b"content-length", "length", 2),
        (b"x-request-id", "request_id", b"2"),
        (b"x-request-timeout-ms", "timeout", b"2"),
        (b"x-serving-details", "details", b"2"),
        # Which makes it invalid.
        (b"traceparent", "trace", b"1,2"),
        (b"content-encoding", "encoding", b"1, 2"),
    ],
)
def test_of_a_header_that_comes_twice_the_last_counts_but_a_trace_is_invalid_and_encodings_add_up(
    name: bytes, attribute: str, expected: object
) -> None:
    assert getattr(head_of((name, b"1"), (name, b"2")), attribute) == expected


@pytest.mark.parametrize("length", [b"", b"+5", b"-1", b"1_0", b"12abc"])
def test_a_length_that_is_no_number_declares_nothing(length: bytes) -> None:
    assert head_of((b"content-length", b"7"), (b"content-length", length)).length is None


def test_the_address_is_found_each_time_alike_and_its_query_matters_to_a_post_alone() -> None:
    head = head_of(query=b"version=a&top_k=2")
    for _ in range(2):
        assert head.address() == ("cars", Pin(version="a"), [("top_k", "2")])
    assert head_of(method="GET", query=b"version=").address() == ("cars", None, ())
    refused = head_of(query=b"version=")
    for _ in range(2):
        with pytest.raises(InputError, match="pins one version"):
            refused.address()


def test_a_head_that_came_before_is_known_byte_for_byte_whatever_the_body() -> None:
    heads = KnownHeads()
    data, head = request(b"[1]")
    assert heads.find(data) is None
    heads.keep(data, head)
    assert heads.find(data) == (head, b"[1]")
    other = data.replace(b"[1]", b"[2]")
    found = heads.find(other)
    assert found is not None
    assert found[0] is head
    assert found[1] == b"[2]"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST", b"post"),
        (b"cars", b"cart"),
        (b"Host: here", b"host: here"),
        (b"Host: here", b"Host:  here"),
        (b"Host: here\r\n", b"Host: here\r\nConnection: close\r\n"),
        (b"Host: here\r\n", b"Host: here\n"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"Content-Length: 3", b"Content-Length: 03"),
        (b"POST", b"\r\nPOST"),
    ],
)
def test_a_head_that_differs_in_a_byte_is_another_one(old: bytes, new: bytes) -> None:
    heads = KnownHeads()
    data, head = request(b"[1]")
    data = data.replace(b"content-length", b"Content-Length")
    heads.keep(data, head)
    assert heads.find(data) is not None
    assert old in data
    assert heads.find(data.replace(old, new)) is None


def test_no_more_and_no_less_than_the_body_that_it_declares_goes_with_a_known_head() -> None:
    heads = KnownHeads()
    data, head = request(b"[1]")
    heads.keep(data, head)
    for cut in range(len(data)):
        assert heads.find(data[:cut]) is None
    for more in (b"\r", b"\r\n", b"\r\n\r\n", b" ", data):
        assert heads.find(data + more) is None
    assert heads.find(b"") is None


def kept(data: bytes, head: Head) -> bool:
    """Whether the head of ``data`` is known afterwards, or anything else is."""
    heads = KnownHeads()
    heads.keep(data, head)
    return heads.find(data) is not None or bool(heads._heads)


@pytest.mark.parametrize("name", [b"x-request-id", b"traceparent"])
def test_what_is_another_head_each_time_is_not_kept(name: bytes) -> None:
    assert not kept(*request(b"[1]", (name, b"1")))
    assert kept(*request(b"[1]", (name + b"s", b"1")))


def test_a_head_without_a_length_is_not_kept() -> None:
    data, _ = request(b"[1]")
    assert not kept(data, head_of())


@pytest.mark.parametrize("before", [b"", b"\r\n"], ids=["first", "after a line end"])
def test_what_is_not_one_whole_request_and_no_more_is_not_kept(before: bytes) -> None:
    data, head = request(b"[1]")
    for more in (b"\r\n", b"\r\n\r\n", b"x", data, data[:-3], data[:9]):
        assert not kept(before + data + more, head)
    assert not kept(before + data[:-1], head)


def test_a_head_may_have_1024_bytes() -> None:
    size = len(request(b"[1]", (b"a", b""))[0]) - 3
    assert kept(*request(b"[1]", (b"a", b"x" * (1024 - size))))
    assert not kept(*request(b"[1]", (b"a", b"x" * (1025 - size))))


@pytest.mark.parametrize("body", [b"a\r\n\r\nb", b"\r\n\r\n", b"\r\n\r\n\r\n\r\n", b"\n", b"x" * 70_000])
def test_a_body_may_hold_the_end_of_a_head(body: bytes) -> None:
    heads = KnownHeads()
    data, head = request(body)
    heads.keep(data, head)
    assert heads.find(data) == (head, body)
    assert list(heads._heads) == [data[: -len(body)]]


def test_512_heads_are_known_and_with_one_more_it_begins_anew() -> None:
    heads = KnownHeads()
    requests = [request(b"[1]", (b"a", b"%d" % i)) for i in range(513)]
    for data, head in requests[:512]:
        heads.keep(data, head)
    assert all(heads.find(data) == (head, b"[1]") for data, head in requests[:512])
    heads.keep(*requests[512])
    assert [i for i, (data, _) in enumerate(requests) if heads.find(data)] == [512]


def test_of_another_protocol_the_address_is_that_protocols() -> None:
    path = "/v1/models/cars/labels/nightly:predict"
    protocol = Predictions.protocol_of(path)
    assert protocol is not None
    assert Head(protocol, "POST", path, b"version=2", []).address() == ("cars", Pin(label="nightly"), ())
    assert Predictions.protocol_of("/models") is None
