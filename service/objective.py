"""What is expected of a model: how many of its requests succeed, and within which time."""

from dataclasses import dataclass

from models.names import is_name

LATENCIES_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.010, 0.015, 0.025, 0.050, 0.100, 0.250, 1.0)
"""Buckets of request latencies: an objective between two of them could not be told from the histogram. Seconds."""
LATENCIES_MS = tuple(round(seconds * 1000, 3) for seconds in LATENCIES_S)


@dataclass(frozen=True)
class Objective:
    """A share of the requests is to succeed, and the same share to be answered in time.

    Attributes:
        latency_ms: The time; one of `LATENCIES_MS`.
        success_ratio: The share, above 0.5 and below 1.
    """

    latency_ms: float
    success_ratio: float


def check_latency(value: float) -> float:
    """``value``, in milliseconds.

    Raises:
        ValueError: The histogram has no such bucket.
    """
    if value not in LATENCIES_MS:
        raise ValueError(f"must be one of the histogram's buckets: {', '.join(f'{ms:g}' for ms in LATENCIES_MS)} ms")
    return value


def check_ratio(value: float) -> float:
    """``value``, a share of requests.

    Raises:
        ValueError: Not between 0.5 and 1.
    """
    if not 0.5 <= value < 1:
        raise ValueError("must be a share from 0.5 to below 1, such as 0.999")
    return value


def parse_objectives(text: str) -> dict[str, Objective]:
    """Model name -> objective from ``cnn=50:0.99,lstm=100:0.995``: milliseconds, then the share.

    Raises:
        ValueError: The text has another form, or a number breaks its rule.
    """
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, objective = part.partition("=")
        latency, colon, ratio = objective.partition(":")
        if not (equals and colon and is_name(name)) or name in found:
            raise ValueError("must be MODEL=MILLISECONDS:SHARE, each model once, such as cnn=50:0.99,lstm=100:0.995")
        try:
            found[name] = Objective(check_latency(float(latency)), check_ratio(float(ratio)))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found
