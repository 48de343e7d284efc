"""How an answer came about, as response headers for who asks for them."""

from service.protocols.base import Answer

DETAILS_HEADER = b"x-serving-details"


def details(answer: Answer) -> list[tuple[bytes, bytes]]:
    """``Server-Timing`` (W3C; durations in milliseconds), and which version answered in a batch of how many rows."""
    stages = {
        "decode": answer.decode_s,
        "queue": answer.queue_s,
        "infer": answer.infer_s,
        "encode": answer.encode_s,
    }
    timing = ", ".join(f"{stage};dur={seconds * 1000:.3f}" for stage, seconds in stages.items())
    return [
        (b"server-timing", timing.encode()),
        (b"x-model-version", answer.version.encode()),
        (b"x-batch-rows", str(answer.batch_rows).encode()),
    ]
