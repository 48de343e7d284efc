"""What the load generator is asked to do, and what it reports."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

OPEN_CONNECTIONS = 128
"""Over which an open loop's requests are sent."""


@dataclass(frozen=True)
class Plan:
    """What to send, for how long, and what must come back.

    Attributes:
        port: Of the server, which is at ``host``, a loopback address.
        path: Of every request.
        bodies: Bodies in base64, sent in turn.
        expected: For each body its output rows, flattened to numbers.
        reader: Name in `benchmarks.checker.READERS`: how to get these numbers from an answer.
        connections: Kept-alive connections, each with one request under way.
        seconds: Duration that is measured.
        warm_up_s: Duration before that, checked but not measured.
        max_requests: Stop early after as many.
        tolerance: Largest accepted absolute difference of a number.
        headers: Of every request, but for the body's length.
    """

    port: int
    path: str
    bodies: Sequence[str]
    expected: Sequence[Sequence[float]]
    reader: str
    connections: int
    seconds: float
    warm_up_s: float = 1.0
    max_requests: int = 2_000_000
    tolerance: float = 1e-4
    host: str = "127.0.0.1"
    headers: Sequence[tuple[str, str]] = (("Content-Type", "application/json"),)

    def __post_init__(self) -> None:
        if not ip_address(self.host).is_loopback:
            raise ValueError(f"host must be a loopback address. Received: {self.host}. Load your own machine only.")
        if not 0 < self.seconds <= 600 or not 1 <= self.connections <= 1024:
            raise ValueError("seconds must be above 0 and at most 600, connections from 1 to 1024")
        if not self.bodies or len(self.bodies) != len(self.expected):
            raise ValueError("there must be at least one body, and expected numbers for each")

    def first(self) -> bytes:
        """The first body."""
        return base64.b64decode(self.bodies[0])


@dataclass(frozen=True)
class Summary:
    """What came back. Latencies in milliseconds, of correct answers only.

    Attributes:
        correct: Answers with status 200 and the expected numbers.
        wrong: Answers with status 200 and other content.
        refused: Answers with another status.
        broken: Connections that ended early, or did not speak HTTP as expected.
        first_problem: The first wrong, refused or broken one, for people.
        seconds: Measured duration.
        requests_per_s: Correct answers a second.
        generator_cpu: Share of one core that the generator used; near 1 it measures itself.
    """

    connections: int
    correct: int
    wrong: int
    refused: int
    broken: int
    first_problem: str
    seconds: float
    requests_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    generator_cpu: float


@dataclass(frozen=True)
class OpenPlan:
    """Arrivals at random times, whether or not earlier requests are answered.

    Attributes:
        plan: What is asked; ``connections`` is how many may be open at once, and a request that finds none free waits
            (its latency with it), ``seconds`` how long requests arrive.
        rate: Requests a second on average; the times between two are exponential (a Poisson process).
        seed: Of the schedule.
        bound_ms: A run is given up once more answers are later than this than `p99` allows; 0 never gives up.
        record: npz file for the time, lag and latency of every request; empty keeps none.
    """

    plan: Plan
    rate: float
    seed: int
    bound_ms: float = 10.0
    record: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 50_000:
            raise ValueError(f"rate must be above 0 and at most 50,000 a second. Received: {self.rate}.")


@dataclass(frozen=True)
class OpenSummary:
    """What came back. Times in milliseconds, from the scheduled time of each request after the warm-up.

    Attributes:
        rate: Offered requests a second.
        scheduled: Requests after the warm-up.
        correct: Answers with status 200 and the expected numbers.
        given_up: The run was ended early, since its p99 was lost.
        lag_p99_ms: How late the generator itself noticed that a request was due.
        pool_waits: Requests that found no free connection.
        generator_cpu: Share of one core that the generator used.
    """

    rate: float
    seed: int
    scheduled: int
    correct: int
    wrong: int
    refused: int
    broken: int
    first_problem: str
    given_up: bool
    p50_ms: float
    p99_ms: float
    max_ms: float
    lag_p99_ms: float
    lag_max_ms: float
    pool_waits: int
    generator_cpu: float
