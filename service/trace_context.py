"""W3C Trace Context: which trace of the sender's a request belongs to (https://www.w3.org/TR/trace-context/)."""

import os
import re
from dataclasses import dataclass

HEADER = b"traceparent"
RESPONSE_HEADER = b"traceresponse"
"""Of the answer, as the second level of the recommendation has it: the trace, and our own span in it."""

# Version 00 is exactly this long; a later one may go on after another dash.
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^\r\n]*)?")
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A request's place in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits, the sender's.
        parent_id: 16 hexadecimal digits, the sender's span.
        span_id: 16 hexadecimal digits, ours.
        sampled: Whether the sender records the trace.
    """

    trace_id: str
    parent_id: str
    span_id: str
    sampled: bool

    @property
    def response(self) -> bytes:
        """Value of the answer's header."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}".encode()


def read_traceparent(value: bytes) -> TraceContext | None:
    """What a ``traceparent`` header says; None where it is not valid, which the recommendation wants ignored."""
    found = _PARENT.fullmatch(value) if value else None
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more) or not trace_id.strip(b"0") or not parent_id.strip(b"0"):
        return None
    sampled = bool(int(flags, 16) & _SAMPLED)
    return TraceContext(trace_id.decode(), parent_id.decode(), new_span_id(), sampled)


def new_span_id() -> str:
    """16 hexadecimal digits, not all zero."""
    return (int.from_bytes(os.urandom(8)) or 1).to_bytes(8).hex()
