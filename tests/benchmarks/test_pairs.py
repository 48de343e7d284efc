"""Servers in short turns: both of a pair are compared within a round."""

from benchmarks.pairs import Span, table


def test_a_slow_phase_of_the_machine_decides_no_ratio() -> None:
    # Of the medians it would be a quarter.
    ours = [Span(rate, 1.0, 2.0, 100.0) for rate in (1000, 100, 400)]
    theirs = [Span(rate, 1.0, 2.0, 100.0) for rate in (500, 80, 100)]
    closed = ("closed", 8.0)
    first, second = table({(closed, "ours"): ours, (closed, "theirs"): theirs}, "ours").splitlines()[1:]
    assert first.startswith("8 connections")
    assert "100.0% of its requests/s" in first
    assert "50.0% of its requests/s" in second


def test_in_open_loop_latencies_are_compared_and_turns_that_held_counted() -> None:
    offered = ("open", 4000.0)
    ours = [Span(4000, 1.0, p99, 100.0) for p99 in (5.0, 9.9, 30.0)]
    theirs = [Span(4000, 1.0, p99, 100.0) for p99 in (10.0, 19.8, 15.0)]
    first, second = table({(offered, "ours"): ours, (offered, "theirs"): theirs}, "ours").splitlines()[1:]
    assert first.startswith("4,000/s offered")
    assert "below 10 ms in 2 of 3 turns" in first
    assert "200.0% of its p99; below 10 ms in 0 of 3 turns" in second
