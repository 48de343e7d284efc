"""Servers in short turns: real ones, under each load in each round."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.bench import pictures
from benchmarks.peers import contenders as who
from benchmarks.plan import OPEN_CONNECTIONS, OpenPlan, OpenSummary
from benchmarks.servers import BenchmarkError
from benchmarks.turns import Turns, measure, middle, ratio
from models.bundle import Bundle

SMALL = Bundle.open(Path(__file__).parents[2] / "benchmarks" / "small")


def test_every_server_has_every_load_in_every_round_and_the_order_turns_round(tmp_path: Path) -> None:
    bare = who.peers_of(SMALL, tmp_path)[who.LIMIT]
    servers = [bare, replace(bare, name="another")]
    ports: list[int] = []

    def generate(plan: OpenPlan) -> OpenSummary:
        ports.append(plan.plan.port)
        assert (plan.rate, plan.plan.connections, plan.plan.seconds) == (50, OPEN_CONNECTIONS, 0.5)
        problem = "refused" if plan.seed == 2 else ""
        return OpenSummary(50, plan.seed, 50, 50, 0, 0, 0, problem, False, 1.0, 5.0, 60.0, 0.1, 0.2, 0, 0.1)

    turns = Turns((("closed", 2), ("open", 50.0)), rounds=2, seconds=0.5)
    again = measure(servers[:1], pictures(SMALL), replace(turns, rounds=1, starts=2), generate)
    assert [len(taken) for taken in again.values()] == [2, 2]
    first, second = ports
    assert first != second, "a fresh one"
    ports.clear()
    spans = measure(servers, pictures(SMALL), turns, generate)
    assert [len(taken) for taken in spans.values()] == [2] * 4
    closed = spans[("closed", 2), "another"]
    assert middle(closed).requests_per_s > 0 < middle(closed).cpu_us
    assert ratio(closed, closed) == 1
    assert middle(spans[("open", 50.0), "another"]).p99_ms == 5.0
    first, second = ports[:2]
    assert ports == [first, second, second, first]
    with pytest.raises(BenchmarkError, match="bare ASGI handler: refused"):
        measure(servers[:1], pictures(SMALL), replace(turns, rounds=3), generate)
