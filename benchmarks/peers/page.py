"""The page of a record, its plots, and the record itself beside it."""

import json
from pathlib import Path

from benchmarks.peers import contenders as who
from benchmarks.peers.capacity import BOUND_MS, STEPS
from benchmarks.peers.figures import (
    LEVEL_CONNECTIONS,
    Level,
    Sustained,
    capacities,
    connections_of,
    formats,
    levels,
    shares,
    targets,
    turns,
)
from benchmarks.peers.plans import EVERYBODY, FORMAT_CONNECTIONS, FORMAT_MODEL, PRESETS, WORKERS_MODEL, Preset, steps
from benchmarks.peers.plots import closed_loop, open_loop
from benchmarks.peers.record import Record
from benchmarks.plan import OPEN_CONNECTIONS
from benchmarks.turns import middle, ratio

PICTURES = "performance"
_MODELS = {
    "dnn": "the shipped dense network: nearly all of its time is the path of a request",
    "small": "a textbook's convolutional network that is kept in benchmarks/small",
    "cnn": "the shipped convolutional network: nearly all of its time is the network",
}
_FORMATS = {"instances": "JSON", "npy": "npy", "png": "PNG", "v2 json": "v2 JSON", "v2 binary": "v2 binary"}


def publish(record: Record, folder: Path) -> Path:
    """Write performance.md, performance/*.png and performance/peers.json.

    What people wrote into performance/notes.md (a profile, what a look at stalls found) ends the page.

    Returns:
        The page.
    """
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    Record(folder / PICTURES / "peers.json", record.about, record.results).write()
    lines = [*_head(record), *_verdicts(record), *_losses(record)]
    for model, what in _MODELS.items():
        lines += _model(record, model, what, folder)
    lines += [*_workers(record), *_formats(record), *_problems(record)]
    notes = folder / PICTURES / "notes.md"
    if notes.exists():
        lines += ["", notes.read_text().rstrip()]
    page = folder / "performance.md"
    page.write_text("\n".join(lines) + "\n")
    return page


def _head(record: Record) -> list[str]:
    about, preset = record.about, PRESETS[record.about["preset"]]
    machine = about["machine"]
    versions = [f"{name} {number}" for name, number in (machine["packages"] | about["peers"]).items()]
    rounds = f"Medians of {preset.rounds} rounds of {preset.seconds:g} s" if preset.rounds > 1 else "One round"
    return [
        "# Performance",
        "",
        "keras-serving beside other servers that run the same ONNX graphs on the same machine in the same run. "
        f"`make bench-peers{' ARGS=--quick' if about['preset'] == 'quick' else ''}` measures all of it again and "
        "writes this page into reports/.",
        "",
        f"Measured {about['started']} on {machine['cores']} cores ({machine['cpu']}, Linux {about['kernel']}) that "
        f"server and load shared, no GPU; load average before: {machine['load_before']:g}. Commit {about['commit']}"
        + (f" with {about['changed_files']} files changed" if about["changed_files"] else "")
        + f". Python {machine['python']}, {', '.join(versions)}.",
        "",
        f"{rounds}, the order of the servers turned round from one to the next, every server started anew for each. "
        "One worker, unless said otherwise; keras-serving splits a batch over the CPUs, as it does by default, the "
        "others have one ONNX Runtime thread, and where the network is a good part of the time mosec and Triton are "
        "also measured with a thread a CPU. One picture as about 3 kB of JSON a request, unless said otherwise. Every "
        "answer was compared with the model's own outputs. keras-serving runs as shipped, with all five models loaded "
        "and metrics, drift watch, limits and gRPC on; each of the others runs the one model, tuned as its users would "
        "(benchmarks/peers/services), in an environment of its own. The bare ASGI handler does keras-serving's work "
        "without any of its features under uvicorn, uvloop and httptools, with one thread: the limit of that stack "
        "where the network costs nothing. Triton is the server binary of the package nvidia-pytriton, whose only "
        "backend is Python.",
        "",
    ]


def _verdicts(record: Record) -> list[str]:
    rows = [f"| {t.name} | {t.required} | {t.measured} | {'met' if t.met else '**missed**'} |" for t in targets(record)]
    return ["## Targets", "", "| what | required | measured | |", "|---|---|---|---|", *rows, ""]


def _losses(record: Record) -> list[str]:
    """Wherever another server (the limit apart) was faster than ours."""
    lost = []
    for model in _MODELS:
        for connections, beside in shares(record, model).items():
            for name, share in beside.items():
                if name != who.LIMIT and share < 1:
                    lost.append(f"- {model}, {connections_of(connections)}: {share:.1%} of {name}'s requests/s.")
        rates = {name: found.rate for name, found in capacities(record, model).items()}
        for name, rate in rates.items():
            if name != who.LIMIT and rate > rates.get(who.OURS, rate):
                share = rates[who.OURS] / rate
                lost.append(f"- {model}, open loop: {share:.1%} of {name}'s highest rate.")
    how = ["By the short turns, where a server took part in them.", ""] if turns(record, "small") else []
    return ["## Where keras-serving is slower", "", *how, *(lost or ["- Nowhere in this run."]), ""]


def _model(record: Record, model: str, what: str, folder: Path) -> list[str]:
    found = levels(record, "closed", model)
    if not found:
        return []
    found = {name: found[name] for name in EVERYBODY if name in found}
    closed_loop(model, found, folder / PICTURES / f"{model}-closed.png")
    first = [results[0] for results in record.of("closed", model).values()]
    ready = dict(zip(record.of("closed", model), first, strict=True))
    connections = list(next(iter(found.values())))
    head = " | ".join(f"{count}" for count in connections)
    lines = [
        f"## {model}: {what}",
        "",
        "Closed loop: each connection has one request under way. Cells: requests/s; p50 / p99 ms.",
        "",
        f"| server | {head} | CPU us a request at {LEVEL_CONNECTIONS} | first answer s | RSS MB |",
        "|---|" + "---|" * (len(connections) + 3),
    ]
    for name, level in found.items():
        cells = " | ".join(_cell(level.get(count)) for count in connections)
        used = level.get(str(LEVEL_CONNECTIONS), {}).get("cpu_us")
        cpu = "-" if used is None else f"{used:.0f}"
        lines.append(
            f"| {name} | {cells} | {cpu} | {ready[name]['ready_s']:.1f} | {ready[name]['memory']['rss_mb']:.0f} |"
        )
    lines += ["", "CPU time is that of all processes of a server, while it is loaded.", ""]
    lines += [f"![{model}: throughput and p99 over connections]({PICTURES}/{model}-closed.png)", ""]
    return [*lines, *_open(record, model, folder), *_turns(record, model)]


def _turns(record: Record, model: str) -> list[str]:
    """Ours beside the fastest of the others, as the median of the rounds' ratios."""
    spans = turns(record, model)
    if not spans:
        return []
    loads = list(dict.fromkeys(how for how, _ in spans))
    names = list(dict.fromkeys(name for _, name in spans))
    one = next(iter(spans.values()))
    step = record.of("turns", model)[who.OURS][0]
    heads = [f"{size:,.0f}" if kind == "closed" else f"{size:,.0f}/s: p99 ms" for kind, size in loads]
    lines = [
        f"In short turns: all of them up at once, each load given to every server for {step['seconds']:g} s, one after "
        f"the other, in {len(one)} rounds, with {step['starts']} starts of each. Medians, and of the rounds' ratios to "
        "keras-serving: of requests/s in closed loop, of p99 in open loop, with the number of turns that had it below "
        f"{BOUND_MS:g} ms. A phase in which the machine is slow has every server, so these ratios say more than those "
        "of servers one after another.",
        "",
        f"| server | {' | '.join(heads)} |",
        "|---|" + "---|" * len(loads),
    ]
    for name in names:
        cells = []
        for how in loads:
            taken, ours, kind = spans[how, name], spans[how, who.OURS], how[0]
            if kind == "closed":
                share = "" if name == who.OURS else f"; {ratio(taken, ours):.0%}"
                cells.append(f"{middle(taken).requests_per_s:,.0f}{share}")
            else:
                share = "" if name == who.OURS else f"; {ratio(taken, ours, 'p99_ms'):.0%}"
                held = sum(span.p99_ms < BOUND_MS for span in taken)
                cells.append(f"{middle(taken).p99_ms:.1f}{share}; {held} of {len(taken)}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(level: Level | None) -> str:
    if level is None:
        return "-"
    problems = int(level["wrong"] + level["refused"] + level["broken"])
    bad = f" ({problems} not answered rightly)" if problems else ""
    return f"{level['requests_per_s']:,.0f}; {level['p50_ms']:.1f} / {level['p99_ms']:.1f}{bad}"


def _open(record: Record, model: str, folder: Path) -> list[str]:
    found = capacities(record, model)
    if not found:
        return []
    open_loop(model, found, folder / PICTURES / f"{model}-open.png")
    lines = [
        _open_method(PRESETS[record.about["preset"]], found),
        "",
        "| server | requests/s | step | rounds | runs | repeated: the generator lagged |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        runs = f"{one.rounds} | {len(one.probes)} | {one.discarded}"
        lines.append(f"| {name} | {_range(one)} | {one.step:,.0f} | {runs} |")
    return [*lines, "", f"![{model}: p99 over the offered rate]({PICTURES}/{model}-open.png)", ""]


def _open_method(preset: Preset, found: dict[str, Sustained]) -> str:
    rounds = max(one.rounds for one in found.values())
    lengths = sorted({seconds for one in found.values() for seconds in one.seconds})
    words = [
        f"Open loop: requests arrive at random (Poisson) over {OPEN_CONNECTIONS} connections, whether or not earlier "
        f"ones are answered, and latency counts from the scheduled time. The highest rate with p99 below {BOUND_MS:g} "
        f"ms and no error in each of {preset.schedules} schedules of {' or '.join(f'{one:g}' for one in lengths)} s, "
        f"in steps of 1/{STEPS} of the server's first closed-loop peak, found by halving."
    ]
    if rounds > 1:
        words.append(
            f"Median of up to {rounds} rounds (lowest to highest), the order of the servers turned round from one to "
            "the next, every server started anew for each, and each with schedules of its own, the same for all "
            "servers; from the second on a search begins at what the last one found."
        )
        if once := [name for name in found if name in preset.open_once]:
            words.append(f"One round for who is far from the best: {', '.join(once)}.")
    return " ".join(words)


def _range(one: Sustained) -> str:
    rate, lowest, highest = (f"{rate:,.0f}" if rate else "none" for rate in (one.rate, one.lowest, one.highest))
    return f"{rate} ({lowest} to {highest})" if one.rounds > 1 else rate


def _workers(record: Record) -> list[str]:
    found = levels(record, "workers", WORKERS_MODEL)
    if not found:
        return []
    connections = list(next(iter(found.values())))
    lines = [f"## Two workers on two cores ({WORKERS_MODEL})", "", f"| server | {' | '.join(connections)} |"]
    lines.append("|---|" + "---|" * len(connections))
    lines += [f"| {n} | " + " | ".join(_cell(level.get(c)) for c in connections) + " |" for n, level in found.items()]
    return [*lines, ""]


def _formats(record: Record) -> list[str]:
    found = formats(record)
    if not found:
        return []
    (step,) = record.of("formats", FORMAT_MODEL)[who.OURS]
    rounds = len(next(iter(found.values())))
    lines = [
        f"## Formats ({FORMAT_MODEL}, {FORMAT_CONNECTIONS} connections, closed loop)",
        "",
        f"In short turns of one server: each format {step['seconds']:g} s, one after the other, in {rounds} rounds. "
        "Medians, and of the rounds' ratios to JSON with as many rows.",
        "",
        "| format | rows a request | bytes | requests/s | rows/s | beside JSON | p50 ms | p99 ms | CPU us a request |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, spans in found.items():
        name, rows = key.split("|")
        one, size = middle(spans), f"{step['runs'][key]['bytes']:,}"
        rates = f"{one.requests_per_s:,.0f} | {one.requests_per_s * int(rows):,.0f}"
        json_turns = found.get(f"instances|{rows}")
        beside = f"{ratio(spans, json_turns):.2f} x" if json_turns and name != "instances" else ""
        latency = f"{one.p50_ms:.1f} | {one.p99_ms:.1f} | {one.cpu_us:,.0f}"
        lines.append(f"| {_FORMATS[name]} | {rows} | {size} | {rates} | {beside} | {latency} |")
    return [*lines, ""]


def _problems(record: Record) -> list[str]:
    errors = record.errors() | {
        f"{key}: {name}": run["error"]
        for key, result in record.results.items()
        for name, run in result.get("runs", {}).items()
        if "error" in run
    }
    left_out = sum(step.key not in record.results for step in steps(PRESETS[record.about["preset"]]))
    lines = [f"- {key}: {json.dumps(error[:200])}" for key, error in errors.items()]
    if left_out:
        lines.append(f"- {left_out} of the preset's steps: the run was stopped, or its time was over.")
    return ["## Not measured", "", *lines] if lines else []
