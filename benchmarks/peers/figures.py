"""Medians over the rounds of a record, and the targets that they meet or miss."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.peers import contenders as who
from benchmarks.peers.plans import EVERYBODY, FORMAT_MODEL, WORKERS_MODEL
from benchmarks.peers.record import Record
from benchmarks.report import Target
from benchmarks.turns import Span, Spans, ratio

Level = dict[str, float]
"""``requests_per_s``, ``p50_ms`` and so on."""
_FIGURES = ("requests_per_s", "p50_ms", "p99_ms", "max_ms", "generator_cpu", "cpu_us")
_PROBLEMS = ("wrong", "refused", "broken")
LEVEL_CONNECTIONS = 32
# Of a schedule, in records from before it was kept.
_EARLIER_S = 4.0
_BEST = (who.TRITON_JSON, who.TRITON_BINARY, who.MOSEC, who.WIDE_MOSEC, who.WIDE_TRITON)


@dataclass(frozen=True)
class Sustained:
    """What the searches of all rounds found of one server.

    Attributes:
        rate: Median of the rounds' highest rates that held, requests a second; 0 is none.
        lowest: Of these rates.
        highest: Of these rates.
        step: Distance between two rates that were tried.
        rounds: How many searches.
        probes: Every run of all rounds.
        discarded: How many of them were repeated since the generator lagged.
        seconds: Duration of a schedule, one for each round.
    """

    rate: float
    lowest: float
    highest: float
    step: float
    rounds: int
    probes: list[dict[str, Any]]
    discarded: int
    seconds: list[float]


def _combined(runs: Iterable[Mapping[str, Any]]) -> Level:
    """Median of each figure; problems are summed up."""
    same = list(runs)
    figures = {figure: median(run[figure] for run in same) for figure in _FIGURES if figure in same[0]}
    return figures | {problem: sum(run[problem] for run in same) for problem in _PROBLEMS}


def levels(record: Record, kind: str, model: str) -> dict[str, dict[str, Level]]:
    """Contender -> its runs' names (connections, or format and rows) -> medians over the rounds."""
    found = {}
    for contender, rounds in record.of(kind, model).items():
        good: dict[str, list[Mapping[str, Any]]] = {}
        for one in rounds:
            for name, run in one["runs"].items():
                if "error" not in run:
                    good.setdefault(name, []).append(run)
        found[contender] = {name: _combined(runs) for name, runs in good.items()}
    return found


def capacities(record: Record, model: str) -> dict[str, Sustained]:
    """Contender -> what the searches in open loop found."""
    found = record.of("open", model)
    return {name: _sustained(found[name]) for name in EVERYBODY if name in found}


def _sustained(rounds: list[dict[str, Any]]) -> Sustained:
    rates = [one["rate"] for one in rounds]
    return Sustained(
        rate=median(rates),
        lowest=min(rates),
        highest=max(rates),
        step=rounds[0]["step"],
        rounds=len(rounds),
        probes=[probe for one in rounds for probe in one["probes"]],
        discarded=sum(one["discarded"] for one in rounds),
        seconds=[one.get("seconds", _EARLIER_S) for one in rounds],
    )


def turns(record: Record, model: str) -> Spans:
    """What the fastest did in short turns, if that was measured."""
    return {
        ((load["kind"], load["size"]), name): [Span(**span) for span in spans]
        for one in record.of("turns", model).get(who.OURS, [])
        for load in one["loads"]
        for name, spans in load["spans"].items()
    }


def formats(record: Record) -> dict[str, list[Span]]:
    """Format and rows (``npy|1``) -> its short turns, in the order of the rounds."""
    runs = [one["runs"] for one in record.of("formats", FORMAT_MODEL).get(who.OURS, [])]
    return {
        key: [Span(**span) for span in run["spans"]] for one in runs for key, run in one.items() if "error" not in run
    }


def shares(record: Record, model: str) -> dict[int, dict[str, float]]:
    """Connections -> each other server -> our requests a second as a share of its.

    Of those that took short turns by these: of servers one after another the machine's phase decides.
    """
    found: dict[int, dict[str, float]] = {}
    closed = levels(record, "closed", model)
    for count, ours in closed.pop(who.OURS, {}).items():
        rates = {name: level[count]["requests_per_s"] for name, level in closed.items() if count in level}
        found[int(count)] = {name: ours["requests_per_s"] / rate for name, rate in rates.items()}
    spans = turns(record, model)
    for ((kind, size), name), taken in spans.items():
        if kind == "closed" and name != who.OURS:
            found.setdefault(int(size), {})[name] = ratio(spans[(kind, size), who.OURS], taken)
    return dict(sorted(found.items()))


def targets(record: Record) -> list[Target]:
    """The verdicts that the record allows; what was not measured is not judged."""
    found = [
        *_path_cost(record),
        *_level_with_the_best(record),
        *_capacity(record),
        *_workers(record),
        *_formats(record),
    ]
    problems = sum(
        int(level[problem])
        for kind, model in (("closed", "dnn"), ("closed", "small"), ("closed", "cnn"), ("workers", WORKERS_MODEL))
        for level in levels(record, kind, model).get(who.OURS, {}).values()
        for problem in _PROBLEMS
    )
    return [*found, Target("our answers wrong, refused or broken", "0", str(problems), problems == 0)]


def connections_of(count: int | str) -> str:
    """For people."""
    return f"{count} connection{'' if str(count) == '1' else 's'}"


def _at_least(name: str, ratio: float, required: float, what: str) -> Target:
    share = f"{ratio:.1%}" if required <= 1 else f"{ratio:.3g} x"
    bound = f">= {required:.0%} of {what}" if required <= 1 else f">= {required:g} x {what}"
    return Target(name, bound, share, ratio >= required)


def _rate(found: dict[str, dict[str, Level]], contender: str, name: int | str) -> float | None:
    level = found.get(contender, {}).get(str(name))
    return level["requests_per_s"] if level else None


def _path_cost(record: Record) -> list[Target]:
    found = levels(record, "closed", "dnn")
    ours = _rate(found, who.OURS, LEVEL_CONNECTIONS)
    required = ((who.LIMIT, 0.85), (who.STOCK, 11.0), (who.LITSERVE, 9.0), (who.PLAIN, 4.0))
    name = f"dnn, requests/s, {connections_of(LEVEL_CONNECTIONS)}"
    rates = [(peer, share, _rate(found, peer, LEVEL_CONNECTIONS)) for peer, share in required]
    return [_at_least(name, ours / rate, share, peer) for peer, share, rate in rates if ours and rate]


def _level_with_the_best(record: Record) -> list[Target]:
    took_turns = {name for _, name in turns(record, "small")}
    where = ", in short turns" if took_turns else ""
    judged = set(_BEST) & took_turns if took_turns else set(_BEST)
    verdicts = []
    for count, beside in shares(record, "small").items():
        peers = {peer: share for peer, share in beside.items() if peer in judged}
        if peers:
            best = min(peers, key=peers.__getitem__)
            name = f"small CNN, requests/s, {connections_of(count)}{where}"
            verdicts.append(_at_least(name, peers[best], 1.0, f"the best of Triton and mosec ({best})"))
    return verdicts


def _capacity(record: Record) -> list[Target]:
    rates = {name: found.rate for name, found in capacities(record, "small").items()}
    name, ours = "small CNN, open-loop capacity", rates.get(who.OURS)
    peers = {peer: rates[peer] for peer in _BEST if rates.get(peer)}
    verdicts = []
    if ours is not None and peers:
        best = max(peers, key=peers.__getitem__)
        verdicts.append(_at_least(name, ours / peers[best], 1.0, f"the best of Triton and mosec ({best})"))
    if ours is not None and rates.get(who.STOCK):
        verdicts.append(_at_least(name, ours / rates[who.STOCK], 25.0, who.STOCK))
    return verdicts


def _workers(record: Record) -> list[Target]:
    found = levels(record, "workers", WORKERS_MODEL)
    verdicts = []
    for connections in found.get(who.OURS, {}):
        ours, mosec = (_rate(found, name, connections) for name in (who.OURS, who.MOSEC))
        if ours and mosec:
            name = f"small CNN, two workers, requests/s, {connections_of(connections)}"
            verdicts.append(_at_least(name, ours / mosec, 1.0, "mosec with two"))
    return verdicts


def _formats(record: Record) -> list[Target]:
    found = formats(record)
    json_turns = found.get("instances|1")
    names = [name for name in ("npy", "v2 binary") if f"{name}|1" in found]
    if not json_turns or not names:
        return []
    ratios = {name: ratio(found[f"{name}|1"], json_turns) for name in names}
    best = max(ratios, key=ratios.__getitem__)
    name = f"dnn, npy or v2 binary (best: {best}), requests/s, {connections_of(LEVEL_CONNECTIONS)}, in short turns"
    return [_at_least(name, ratios[best], 1.3, "our JSON")]
