"""The verdict of a benchmark: medians over rounds, and targets."""

import json
from dataclasses import asdict

from benchmarks.plan import Summary
from benchmarks.report import Round, machine, medians, targets, to_markdown
from benchmarks.servers import Memory


def summary(requests_per_s: float, p99_ms: float, connections: int = 32, wrong: int = 0) -> Summary:
    return Summary(connections, 100, wrong, 0, 0, "", 1.0, requests_per_s, 1.0, 2.0, p99_ms, 99.0, 0.1)


def rounds(name: str, *figures: tuple[float, float, float, float], wrong: int = 0) -> list[Round]:
    """Each figure: requests/s, p99 in ms, seconds until ready, MB."""
    return [
        Round(name, ready, (summary(rate, p99, wrong=wrong),), Memory(rss, rss - 50, 2))
        for rate, p99, ready, rss in figures
    ]


OURS = rounds("keras-serving", (8000, 5, 2.0, 300), (9000, 6, 2.2, 310), (1, 900, 9.0, 900))
STOCK = rounds("BentoML batchable", (900, 150, 2.5, 290), (1000, 160, 2.6, 290), (950, 170, 2.7, 290))


def test_the_median_of_three_rounds_ignores_the_odd_one() -> None:
    figures = medians(OURS)
    assert figures["connections"][32]["requests_per_s"] == 8000
    assert figures["connections"][32]["p99_ms"] == 6
    assert (figures["ready_s"], figures["rss_mb"], figures["pss_mb"]) == (2.2, 310, 260)


def test_targets_are_met_or_missed() -> None:
    met = targets(medians(OURS), medians(STOCK))
    assert [target.met for target in met] == [True, True, True, True, True]
    slow = rounds("keras-serving", (7000, 15, 3.0, 400), wrong=1)
    missed = targets(medians(slow), medians(STOCK))
    assert [target.met for target in missed] == [False, False, False, False, False]


def test_wrong_answers_of_all_rounds_are_summed_up() -> None:
    figures = medians(rounds("x", (1, 1, 1, 1), (2, 2, 2, 2), wrong=3))
    assert figures["connections"][32]["wrong"] == 6


def test_the_report_is_json_and_a_table() -> None:
    figures = {"keras-serving": medians(OURS), "BentoML batchable": medians(STOCK)}
    document = {
        "model": "dnn",
        "models": ["dnn", "lstm"],
        "ours": "keras-serving",
        "body_bytes": 3000,
        "rounds": 3,
        "seconds": 5.0,
        "machine": machine(),
        "generator": asdict(summary(50_000, 1)),
        "contenders": figures,
        "targets": [asdict(target) for target in targets(*figures.values())],
    }
    text = to_markdown(json.loads(json.dumps(document)))
    assert "| keras-serving | 32 | 8,000 | 1.00 | 2.00 | 6.00 | 99 | 0 | 0 | 0 | 10% |" in text
    assert "| requests/s at 32 connections | >= 8 x BentoML's | 8.4 x | met |" in text
    assert "| keras-serving | 2.20 | 310 | 260 | 2 | dnn, lstm |" in text
