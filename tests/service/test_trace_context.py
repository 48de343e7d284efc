"""The examples and the rules of W3C Trace Context."""

import re

import pytest

from service.trace_context import new_span_id, read_traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_the_recommendations_example_is_read() -> None:
    found = read_traceparent(f"00-{TRACE}-{PARENT}-01".encode())
    assert found is not None
    assert (found.trace_id, found.parent_id, found.sampled) == (TRACE, PARENT, True)
    assert re.fullmatch(r"[0-9a-f]{16}", found.span_id)
    assert found.span_id != PARENT
    assert found.response == f"00-{TRACE}-{found.span_id}-01".encode()


def test_a_later_version_may_go_on_and_its_other_flags_are_not_ours() -> None:
    found = read_traceparent(f"cc-{TRACE}-{PARENT}-02-what-the-future-brings".encode())
    assert found is not None
    assert not found.sampled
    assert found.response.endswith(b"-00")


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[:-1]}g-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\r\nx: y",
        f"01-{TRACE}-{PARENT}-01-x\r\ny: z",
        f" 00-{TRACE}-{PARENT}-01",
    ],
)
def test_what_is_not_valid_is_as_if_it_were_not_there(value: str) -> None:
    assert read_traceparent(value.encode()) is None


def test_span_ids_differ() -> None:
    assert len({new_span_id() for _ in range(100)}) == 100
