"""The highest rate of random arrivals within a model's objective, and its latency over the offered rate.

Requests arrive as a Poisson process, however fast they are answered, from a generator that is light enough not to be
what is measured; latency counts from the scheduled time. A rate holds when p99 stays below the objective in two
schedules and no answer is wrong, refused or lost. ``python -m loadtests.capacity`` starts a server or takes ``--host``.
Exit status: 0 found, 1 no rate holds or an answer was wrong, 2 wrong arguments, 3 it could not be carried out.
"""

import argparse
import base64
import http.client
import json
import math
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.bench import load
from benchmarks.checker import numbers_in
from benchmarks.peers.capacity import search
from benchmarks.peers.measure import open_load
from benchmarks.plan import OpenPlan, OpenSummary, Plan
from benchmarks.report import machine
from benchmarks.servers import BenchmarkError, end_on_sigterm
from loadtests.expected import SINGLE, cases
from loadtests.formats import FORMATS, NATIVE
from loadtests.served import Served, serving
from loadtests.verdict import IMPOSSIBLE, MET, MISSED

SEEDS = (1, 2)
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1)
"""Of the capacity: where the curve is measured."""
_PEAK_CONNECTIONS, _OPEN_CONNECTIONS = 32, 128
_WARM_UP_S = 0.5
_SHARED_TOLERANCE = 1e-5
_OBJECTIVE = re.compile(r"^serving_objective_latency_seconds\{([^}]*)\} (\S+)$", re.MULTILINE)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        seconds: Of one run, after a short warm-up.
        seeds: Schedules with which a rate must hold.
        shares: As `SHARES`.
    """

    seconds: float = 4.0
    seeds: tuple[int, ...] = SEEDS
    shares: tuple[float, ...] = SHARES


def plan_for(bundles: Path, model: str, payload: str, port: int, seconds: float) -> Plan:
    """What is asked, one row a request, and what must come back.

    Raises:
        LookupError: No such model, or it does not take the payload.
    """
    found = [case for case in cases(bundles, NATIVE, (model,)) if (case.payload, case.rows) == (payload, SINGLE)]
    if not found:
        raise LookupError(f"{model} takes no {payload}. Choose another --payload.")
    expected = [numbers_in(answer) for case in found for answer in case.answers.values()]
    largest = max(abs(number) for numbers in expected for number in numbers)
    return Plan(
        port=port,
        path=found[0].path,
        bodies=[base64.b64encode(case.body).decode() for case in found],
        expected=expected,
        reader="answers",
        connections=_PEAK_CONNECTIONS,
        seconds=seconds,
        warm_up_s=_WARM_UP_S,
        tolerance=found[0].tolerance + _SHARED_TOLERANCE * largest,
        headers=found[0].headers,
    )


def objective_ms(metrics: str, model: str) -> float:
    """The objective's latency as a server's metrics have it.

    Raises:
        LookupError: They have none for this model.
    """
    for labels, value in _OBJECTIVE.findall(metrics):
        if f'model="{model}"' in labels:
            return 1000 * float(value)
    raise LookupError(f"/metrics has no objective of {model}. Give --p99-ms.")


def measure(served: Served, plan: Plan, bound_ms: float, effort: Effort, say: Say) -> dict[str, Any]:
    """Peak in closed loop, capacity, and the curve.

    Raises:
        BenchmarkError: No answer was right, or the generator failed.
    """
    peak, peak_cpu_us = _closed(served, replace(plan, seconds=min(plan.seconds, 2.0)))
    say(f"closed loop: {peak['requests_per_s']:,.0f} requests/s, p99 {peak['p99_ms']:.1f} ms")
    plan = replace(plan, connections=_OPEN_CONNECTIONS)

    def attempt(rate: float, seed: int) -> OpenSummary:
        run = open_load(OpenPlan(plan, rate, seed, bound_ms))
        given_up = " (given up)" if run.given_up else ""
        say(f"{rate:9,.0f} requests/s offered: p99 {run.p99_ms:.1f} ms{given_up} {run.first_problem[:200]}")
        return run

    found = search(attempt, peak["requests_per_s"], effort.seeds, bound_ms)
    curve = []
    for share in effort.shares if found.rate else ():
        run, cpu_us = _open(served, OpenPlan(plan, share * found.rate, effort.seeds[0], bound_ms=0))
        say(f"{share:.0%} of it: p50 {run['p50_ms']:.2f}, p99 {run['p99_ms']:.2f} ms")
        curve.append(run | {"share": share, "cpu_us": cpu_us})
    closed = peak | {"cpu_us": peak_cpu_us}
    return {"objective_ms": bound_ms, "closed": closed, "capacity": found.to_json(), "curve": curve}


def _closed(served: Served, plan: Plan) -> tuple[dict[str, Any], float]:
    before = served.cpu_s()
    run = load(plan)
    # What was answered in the warm-up is not counted: taken to be as fast.
    answered = run.requests_per_s * (run.seconds + plan.warm_up_s)
    return asdict(run), 1e6 * (served.cpu_s() - before) / answered


def _open(served: Served, plan: OpenPlan) -> tuple[dict[str, Any], float]:
    before = served.cpu_s()
    run = open_load(plan)
    answered = run.correct * (plan.plan.seconds + plan.plan.warm_up_s) / plan.plan.seconds
    return asdict(run), 1e6 * (served.cpu_s() - before) / max(answered, 1)


def without_nan(value: Any) -> Any:
    """The same with null for NaN, which JSON has not."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def problems_of(result: dict[str, Any]) -> str:
    """The first wrong answer; a refused or late one only ends a rate."""
    runs = [*result["capacity"]["probes"], *result["curve"], result["closed"]]
    return next((run["first_problem"] for run in runs if run["wrong"]), "")


def summary(model: str, result: dict[str, Any]) -> str:
    """In a line."""
    rate, cpu_us = result["capacity"]["rate"], result["closed"]["cpu_us"]
    cost = f"; {cpu_us:.0f} us of CPU a request at the peak of {result['closed']['requests_per_s']:,.0f}/s"
    return (
        f"{model}: {rate:,.0f} requests/s with p99 below {result['objective_ms']:g} ms and no error"
        f" (the next step, {rate + result['capacity']['step']:,.0f}, did not hold)"
        + ("" if math.isnan(cpu_us) else cost)
    )


def draw(model: str, result: dict[str, Any], path: Path) -> None:
    """Latency over the offered rate, the capacity marked."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5))
    runs = sorted(result["curve"], key=lambda run: run["rate"])
    for key, style in (("p50_ms", "C0o-"), ("p99_ms", "C3o-")):
        axis.plot([run["rate"] for run in runs], [run[key] for run in runs], style, label=key.removesuffix("_ms"))
    rate, bound = result["capacity"]["rate"], result["objective_ms"]
    axis.axhline(bound, color="grey", linewidth=0.8, label=f"objective, {bound:g} ms")
    axis.axvline(rate, color="black", linestyle="--", linewidth=1, label=f"capacity, {rate:,.0f} requests/s")
    axis.set_yscale("log")
    axis.set_xlim(left=0)
    axis.set_xlabel("offered requests a second (Poisson)")
    axis.set_ylabel("latency from the scheduled time, ms")
    axis.set_title(f"{model}: one row a request")
    axis.grid(visible=True, which="both", alpha=0.25)
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def ask(port: int, path: str) -> str:
    """What a server of this machine answers.

    Raises:
        OSError: It does not listen.
    """
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read().decode()


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(
        "capacity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    payloads = [payload for protocol, payload in FORMATS if protocol == NATIVE]
    parser.add_argument("--model", default="dnn", help="[%(default)s]")
    parser.add_argument("--payload", choices=payloads, default="json", help="[%(default)s]")
    parser.add_argument("--p99-ms", type=float, help="[the objective that the server has for the model]")
    parser.add_argument("--host", help="URL of a running server on this machine [start one]")
    parser.add_argument("--workers", type=int, default=1, help="of the server that is started [%(default)s]")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one run [%(default)s]")
    parser.add_argument("--bundles", type=Path, default=Path("models/pretrained"), help="that are served [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="of capacity.json and .png [%(default)s]")
    options = parser.parse_args(arguments)
    if options.host and urlsplit(options.host).hostname not in ("127.0.0.1", "localhost"):
        parser.error(
            f"--host must be of this machine (127.0.0.1). Received: {options.host}. Load your own machine only."
        )
    if not 0.2 <= options.seconds <= 600:
        parser.error(f"--seconds must be 0.2 to 600. Received: {options.seconds:g}.")
    return options


def main() -> int:
    """Measure, write, and say it in a line."""
    options = parsed()
    end_on_sigterm()
    with ExitStack() as stack:
        try:
            served = (
                Served(f"http://127.0.0.1:{urlsplit(options.host).port or 80}", "", None)
                if options.host
                else stack.enter_context(serving(options.bundles, options.workers))
            )
            plan = plan_for(options.bundles, options.model, options.payload, served.port, options.seconds)
            bound_ms = options.p99_ms or objective_ms(ask(served.port, "/metrics"), options.model)
            effort = Effort(options.seconds)
            result = measure(served, plan, bound_ms, effort, lambda line: print(f"  {line}", flush=True))
        except (BenchmarkError, LookupError, OSError) as error:
            print(f"capacity: {error}", file=sys.stderr)
            return IMPOSSIBLE
    about = {"started": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "machine": machine(), "workers": options.workers}
    document = about | {"model": options.model, "payload": options.payload} | result
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "capacity.json").write_text(json.dumps(without_nan(document), indent=1) + "\n")
    draw(options.model, result, options.out / "capacity.png")
    print(summary(options.model, result))
    if problem := problems_of(result):
        print(f"capacity: {problem}", file=sys.stderr)
    return MISSED if problem or not result["capacity"]["rate"] else MET


if __name__ == "__main__":
    sys.exit(main())
