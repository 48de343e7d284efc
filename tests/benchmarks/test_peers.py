"""The comparison with other servers: the order of steps, the record, and the page's verdicts."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import contenders as who
from benchmarks.peers.capacity import STEPS
from benchmarks.peers.figures import capacities, levels, targets
from benchmarks.peers.measure import Bench
from benchmarks.peers.page import publish
from benchmarks.peers.plans import EVERYBODY, FORMATS, FULL, QUICK, Step, steps
from benchmarks.peers.record import Record
from benchmarks.plan import OpenPlan, OpenSummary
from benchmarks.turns import Span
from models.bundle import Bundle

ROOT = Path(__file__).resolve().parents[2]
ABOUT: dict[str, Any] = {
    "preset": "quick",
    "started": "2026-01-01 00:00 UTC",
    "commit": "abc",
    "changed_files": 0,
    "kernel": "6",
    "machine": {"cpu": "C", "cores": 2, "python": "3.11", "packages": {"bentoml": "1"}, "load_before": 0.1},
    "peers": {"mosec": "0.9"},
}


def run(rate: float, **changes: Any) -> dict[str, Any]:
    usual = {"cpu_us": 42.0, "requests_per_s": rate, "p50_ms": 1.0, "p99_ms": 5.0, "max_ms": 9.0, "generator_cpu": 0.1}
    return usual | {"wrong": 0, "refused": 0, "broken": 0, "bytes": 3000} | changes


def closed(**rates: float) -> dict[str, Any]:
    """Connections as ``c32=900``."""
    runs = {name[1:]: run(rate) for name, rate in rates.items()}
    return {"ready_s": 1.0, "memory": {"rss_mb": 100.0}, "runs": runs}


def in_turns(*rates: float) -> dict[str, Any]:
    """One format, in two rounds of which the second was slow."""
    return {"bytes": 3000, "spans": [asdict(Span(rate, 1.0, 5.0, 42.0)) for rate in rates]}


def capacity(rate: float) -> dict[str, Any]:
    probe = {"rate": rate, "p99_ms": 5.0, "given_up": False, "wrong": 0, "refused": 0, "broken": 0}
    return {"rate": rate, "step": 10.0, "probes": [probe], "discarded": 0}


def record(path: Path, **rates: float) -> Record:
    """Ours, and peers that are slower unless told otherwise."""
    usual = {"ours": 1000.0, "bare": 1100.0, "stock": 80.0, "lit": 100.0, "plain": 200.0, "mosec": 900.0} | rates
    names = [who.OURS, who.LIMIT, who.STOCK, who.LITSERVE, who.PLAIN, who.MOSEC]
    results = {}
    for name, rate in zip(names, usual.values(), strict=True):
        for model in ("dnn", "small"):
            results[f"closed|{model}|{name}|1"] = closed(c1=rate, c32=rate)
        if name not in (who.PLAIN, who.LIMIT):
            results[f"open|small|{name}|1"] = capacity(rate if name != who.STOCK else rate / 10)
    for name, rate in ((who.OURS, usual["ours"]), (who.MOSEC, usual["mosec"])):
        results[f"workers|small|{name}|1"] = closed(c32=2 * rate)
    formats = {"instances|1": in_turns(1000.0, 500.0), "npy|1": in_turns(1400.0, 700.0)}
    results[f"formats|dnn|{who.OURS}|2"] = {"runs": formats | {"v2 json|1": {"error": "not there"}}, "seconds": 0.5}
    return Record(path, ABOUT, results)


@pytest.mark.parametrize("kind", ["closed", "open"])
def test_order_turns_round_and_the_search_ends_each_round(kind: str) -> None:
    everything = steps(FULL)
    one, two, three = ([s for s in everything if s.number == number and s.kind == kind] for number in (1, 2, 3))
    often = [step for step in one if kind == "closed" or step.contender not in FULL.open_once]
    assert [replace(step, number=1) for step in reversed(two)] == often
    assert [replace(step, number=1) for step in three] == often
    assert len({step.key for step in everything}) == len(everything)
    assert [step.number for step in everything] == sorted(step.number for step in everything)
    for number in (1, 2, 3):
        kinds = [step.kind for step in everything if step.number == number]
        assert set(kinds[kinds.index("open") :]) == {"open"}


def test_each_round_has_schedules_of_its_own() -> None:
    assert [FULL.seeds(number) for number in (1, 2, 3)] == [(1, 2), (3, 4), (5, 6)]


@pytest.mark.parametrize("preset", [FULL, QUICK])
def test_what_is_searched_in_open_loop_was_measured_in_closed_loop(preset: Any) -> None:
    everything = steps(preset)
    for step in everything:
        if step.kind == "open":
            assert Step("closed", step.model, step.contender, 1) in everything


def test_a_record_survives_being_stopped_and_keeps_failures_apart(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "peers.json"
    Record(path, ABOUT).keep("closed|dnn|mosec|1", closed(c1=5.0))
    again = Record.read(path)
    again.keep("closed|dnn|LitServe|1", {"error": "did not start"})
    assert list(Record.read(path).of("closed", "dnn")) == ["mosec"]
    assert Record.read(path).errors() == {"closed|dnn|LitServe|1": "did not start"}


@pytest.mark.parametrize("content", [None, "{}", "[]", "not JSON"])
def test_what_is_no_record_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "peers.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match="no record of a benchmark"):
        Record.read(path)


def test_figures_are_medians_over_rounds_and_problems_are_summed(tmp_path: Path) -> None:
    found = Record(tmp_path / "r", ABOUT)
    for number, rate in enumerate((100.0, 300.0, 120.0)):
        found.keep(f"closed|dnn|mosec|{number}", closed(c1=rate))
    found.results["closed|dnn|mosec|2"]["runs"]["1"]["refused"] = 3
    level = levels(found, "closed", "dnn")["mosec"]["1"]
    assert (level["requests_per_s"], level["refused"]) == (120.0, 3)


def test_capacity_is_the_median_of_the_rounds_and_their_range_is_told(tmp_path: Path) -> None:
    found = Record(tmp_path / "r", ABOUT | {"preset": "full"}, {f"closed|small|{who.OURS}|1": closed(c32=2000.0)})
    for name, rates in (
        (who.LITSERVE, [100.0]),
        (who.MOSEC, [1100.0, 0.0, 1000.0]),
        (who.OURS, [1000.0, 1400.0, 1200.0]),
    ):
        for number, rate in enumerate(rates, 1):
            found.keep(f"open|small|{name}|{number}", capacity(rate) | {"discarded": number, "seconds": 3.0})
    found.keep(f"open|small|{who.OURS}|4", {"error": "did not start"})
    one = capacities(found, "small")[who.OURS]
    assert (one.rate, one.lowest, one.highest, one.discarded, one.rounds) == (1200, 1000, 1400, 6, 3)
    assert ("small CNN, open-loop capacity", "120.0%") in [(target.name, target.measured) for target in targets(found)]
    text = publish(found, tmp_path).read_text()
    assert "| keras-serving | 1,200 (1,000 to 1,400) | 10 | 3 | 3 | 6 |" in text
    assert "| mosec | 1,000 (none to 1,100) | 10 | 3 | 3 | 6 |" in text
    assert "| LitServe | 100 | 10 | 1 | 1 | 1 |" in text
    assert "of 2 schedules of 3 s" in text
    assert "Median of up to 3 rounds (lowest to highest)" in text
    assert "One round for who is far from the best: LitServe." in text


def test_targets_are_met_or_missed(tmp_path: Path) -> None:
    met = targets(record(tmp_path / "r", stock=40.0))
    assert [target.name for target in met if not target.met] == []
    assert len(met) == 4 + 2 + 2 + 1 + 1 + 1
    slow = targets(record(tmp_path / "r", ours=890.0, bare=1100.0, stock=90.0, lit=110.0, plain=250.0))
    missed = [(target.name, target.measured) for target in slow if not target.met]
    assert ("dnn, requests/s, 32 connections", "80.9%") in missed
    assert ("small CNN, open-loop capacity", "98.9%") in missed
    assert ("small CNN, two workers, requests/s, 32 connections", "98.9%") in missed
    assert len(missed) == 4 + 2 + 1 + 1


def test_those_that_took_short_turns_are_judged_by_these(tmp_path: Path) -> None:
    def spans(*rates: float, p99_ms: float = 5.0) -> list[dict[str, float]]:
        return [{"requests_per_s": rate, "p50_ms": 1.0, "p99_ms": p99_ms, "cpu_us": 100.0} for rate in rates]

    found = record(tmp_path / "r", mosec=1250.0)
    assert ("small CNN, requests/s, 32 connections", "80.0%") in [(t.name, t.measured) for t in targets(found)]
    # Of the medians it would be a half: the last round's machine is slow.
    closed_loop = {who.OURS: spans(2000, 1000, 300), who.MOSEC: spans(1600, 2000, 240)}
    open_loop = {who.OURS: spans(9, 9, 9), who.MOSEC: spans(9, 9, 9, p99_ms=12.0)}
    loads = [
        {"kind": "closed", "size": 32.0, "spans": closed_loop},
        {"kind": "open", "size": 3000.0, "spans": open_loop},
    ]
    found.keep(f"closed|small|{who.TRITON_JSON}|1", closed(c32=5000.0))
    found.keep(f"turns|small|{who.OURS}|2", {"loads": loads, "seconds": 0.5, "starts": 1})
    judged = [(target.name, target.measured) for target in targets(found)]
    assert ("small CNN, requests/s, 32 connections, in short turns", "125.0%") in judged
    text = publish(found, tmp_path).read_text()
    assert "| server | 32 | 3,000/s: p99 ms |" in text
    assert "| keras-serving | 1,000 | 5.0; 3 of 3 |" in text
    assert "| mosec | 1,600; 80% | 12.0; 240%; 0 of 3 |" in text
    assert "- small, 32 connections: 20.0% of Triton, v2 JSON's requests/s." in text, "who took no turns"
    assert "- small, 32 connections: 80" not in text
    assert "- small, 1 connection: 80.0% of mosec's requests/s." in text


def test_what_was_not_measured_is_not_judged(tmp_path: Path) -> None:
    assert [target.name for target in targets(Record(tmp_path / "r", ABOUT))] == [
        "our answers wrong, refused or broken"
    ]


def test_the_page_tells_targets_losses_and_failures_and_can_be_made_again(tmp_path: Path) -> None:
    found = record(tmp_path / "r", mosec=1250.0)
    found.results["closed|dnn|LitServe|1"] = {"error": "did not start"}
    text = publish(found, tmp_path).read_text()
    assert "- small, open loop: 80.0% of mosec's highest rate." in text
    assert "- dnn, 32 connections: 80.0% of mosec's requests/s." in text
    assert "bare ASGI handler's requests/s" not in text
    assert "| mosec | 1,250; 1.0 / 5.0 | 1,250; 1.0 / 5.0 | 42 | 1.0 | 100 |" in text
    assert "| keras-serving | 1,000 | 10 | 1 | 1 | 0 |" in text
    assert "of 2 schedules of 4 s" in text, "as they were before a record told their length"
    assert "rounds (lowest to highest)" not in text
    assert "| npy | 1 | 3,000 | 1,050 | 1,050 | 1.40 x | 1.0 | 5.0 | 42 |" in text
    assert '- closed|dnn|LitServe|1: "did not start"' in text
    assert "of the preset's steps: the run was stopped, or its time was over." in text
    assert '- formats|dnn|keras-serving|2: v2 json|1: "not there"' in text
    for picture in re.findall(r"\]\((performance/.*?)\)", text):
        assert (tmp_path / picture).stat().st_size > 1000
    again = Record.read(tmp_path / "performance" / "peers.json")
    (tmp_path / "performance" / "notes.md").write_text("## By hand\n")
    assert publish(again, tmp_path).read_text() == f"{text}\n## By hand\n"


def test_every_contender_gets_its_port_and_a_reader_of_its_format(tmp_path: Path) -> None:
    bundle = Bundle.open(ROOT / "benchmarks" / "small")
    bundle.verify()
    found = who.peers_of(bundle, tmp_path)
    assert set(EVERYBODY) == set(found)
    for name, contender in found.items():
        filled = json.dumps([contender.environment, contender.command])
        assert "{port}" in filled, name
        assert contender.payload.startswith("v2") == (contender.reader == "v2"), name
    assert who.in_format(found[who.OURS], "v2 binary").path == "/v2/models/small/infer"


def test_a_step_starts_the_server_measures_it_and_keeps_the_figures(tmp_path: Path) -> None:
    (tmp_path / "small").symlink_to(ROOT / "benchmarks" / "small")
    preset = replace(QUICK, seconds=0.5, warm_up_s=0.1, connections={"small": (1, 2)})
    found = Record(tmp_path / "peers.json", ABOUT)
    bench = Bench(tmp_path, preset, found)
    bench.do(Step("closed", "small", who.LIMIT, 1))
    bench.do(Step("open", "small", who.TUNED, 1))
    level = levels(found, "closed", "small")[who.LIMIT]
    assert list(level) == ["1", "2"]
    assert all(one["requests_per_s"] > 0 < one["cpu_us"] and one["wrong"] == 0 for one in level.values())
    assert "closed loop" in found.errors()[f"open|small|{who.TUNED}|1"]
    assert "| bare ASGI handler | " in publish(found, tmp_path).read_text()


def test_every_format_takes_its_turns_at_one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small").symlink_to(ROOT / "benchmarks" / "small")
    monkeypatch.setattr("benchmarks.peers.measure.TURN_S", 0.3)
    monkeypatch.setattr("benchmarks.peers.measure.ROWS", (2,))
    found = Record(tmp_path / "peers.json", ABOUT)
    Bench(tmp_path, replace(QUICK, format_rounds=2), found).do(Step("formats", "small", who.OURS, 1))
    assert found.errors() == {}
    runs = found.results[f"formats|small|{who.OURS}|1"]["runs"]
    assert list(runs) == [f"{name}|2" for name in FORMATS]
    for run in runs.values():
        assert [span["requests_per_s"] > 0 for span in run["spans"]] == [True, True]


def test_a_search_begins_where_the_round_before_ended_and_has_schedules_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "small").symlink_to(ROOT / "benchmarks" / "small")
    found = Record(tmp_path / "peers.json", ABOUT)
    found.keep(f"closed|small|{who.LIMIT}|1", closed(c1=100.0, c32=1000.0))
    found.keep(f"closed|small|{who.LIMIT}|2", closed(c1=100.0, c32=1300.0))
    found.keep(f"open|small|{who.LIMIT}|1", capacity(600.0))
    asked: list[OpenPlan] = []

    def generate(plan: OpenPlan) -> OpenSummary:
        asked.append(plan)
        p99_ms = 5.0 if plan.rate <= 650 else 50.0
        return OpenSummary(plan.rate, plan.seed, 50, 50, 0, 0, 0, "", False, 1.0, p99_ms, 60.0, 0.1, 0.2, 0, 0.1)

    Bench(tmp_path, FULL, found, generate).do(Step("open", "small", who.LIMIT, 2))
    result = Record.read(found.path).results[f"open|small|{who.LIMIT}|2"]
    assert [(plan.rate, plan.seed) for plan in asked] == [(600, 3), (600, 4), (650, 3), (650, 4), (750, 3), (700, 3)]
    assert (result["rate"], result["step"], result["seconds"]) == (650, 1000 / STEPS, FULL.open_seconds)
    assert {plan.plan.seconds for plan in asked} == {FULL.open_seconds}


@pytest.mark.parametrize("name", who.PEERS)
def test_each_environment_is_locked_by_hash_and_names_no_host(name: str) -> None:
    lock = (ROOT / "requirements" / "peers" / f"{name}.txt").read_text()
    pins = re.findall(r"^[a-z0-9._-]+==", lock, re.MULTILINE)
    assert len(pins) > 5
    assert lock.count("--hash=sha256:") >= len(pins)
    assert "://" not in lock
    wanted = (ROOT / "requirements" / "peers" / f"{name}.in").read_text().splitlines()
    for line in wanted:
        if line[0].isalpha():
            assert f"\n{line.partition('<')[0]}==" in lock
