"""``python -m tests.redeploy``: a model is really retrained and redeployed under load, in every way that goes wrong.

Two workers answer constant load from another process while the regressor is retrained on new rows, passes the gate,
runs as a shadow and as a canary, is promoted, and is taken back; corrupt, truncated and slow versions are offered; one
version replaces the other 200 times in a row, and a worker is killed in between. Every answer must be what the version
that it names computes offline, none may fail, and the workers' memory must stay flat by a criterion that a server
with a deliberate leak fails. Exit 1 when anything is not so.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.store import Store
from models.task import Records
from service.settings import PRETRAINED
from tests.e2e.server import running
from tests.redeploy import offered
from tests.redeploy.load import Route
from tests.redeploy.loop import ADMIN_TOKEN, Loop, LoopError, json_route, load, npy_route
from tests.redeploy.memory import ALLOWED_KIB, growth, is_flat
from tests.redeploy.plot import draw
from tests.redeploy.record import Record

NAME = "mpg"
UNPINNED = (0, 1)
"""Routes of the redeployed model whose version the service chooses."""


SLOW_YEAR = 2042
"""By which the slow version is known."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="mpg.csv of the Auto MPG data set [DATA_DIR/mpg.csv]")
    parser.add_argument("--rate", type=float, default=150, help="requests a second [%(default)s]")
    parser.add_argument("--promotions", type=int, default=200, help="in a row [%(default)s]")
    parser.add_argument("--leaky-promotions", type=int, default=60, help="of the leaky server [%(default)s]")
    parser.add_argument("--plot", type=Path, default=Path("reports/redeploy.png"), help="[%(default)s]")
    options = parser.parse_args()
    if options.data is None:
        if "DATA_DIR" not in os.environ:
            parser.error("set DATA_DIR to a folder with mpg.csv (the Auto MPG data set), or give --data")
        options.data = Path(os.environ["DATA_DIR"], "mpg.csv")
    if not options.data.is_file():
        parser.error(f"there is no {options.data}")
    with tempfile.TemporaryDirectory(prefix="redeploy-") as folder:
        problems = run(options, Path(folder))
    for problem in problems:
        print(f"FAILED: {problem}")
    print("passed" if not problems else f"{len(problems)} failures")
    return 1 if problems else 0


def run(options: argparse.Namespace, folder: Path) -> list[str]:
    """The whole loop; what was not as it should be."""
    home, table = folder / "home", folder / "cars.csv"
    lines = options.data.read_text().splitlines()
    header, cars = lines[0], np.array(lines[1:])
    np.random.default_rng(0).shuffle(cars)
    first = len(cars) * 6 // 10
    table.write_text("\n".join([header, *cars[:first]]) + "\n")

    with running(
        home,
        *("--workers", "2"),
        pretrained=PRETRAINED,
        SERVING_ADMIN_TOKEN=ADMIN_TOKEN,
        # By default it takes minutes until as many answers are remembered as ever will be: that is no leak.
        SERVING_FEEDBACK_ROWS="500",
    ) as server:
        loop = Loop(server, NAME)
        loop.say(f"train the first version on {first} cars")
        loop.cli(
            *("train", "regressor", "--data", "cars.csv", "--target", "mpg", "--ignore", "name", "--name", NAME),
            cwd=folder,
        )
        loop.wait("the first version served", lambda: NAME in server_models(server.url))
        old = loop.live()
        loop.know()
        rows, routes = requests(loop)
        with load(server, routes, options.rate, folder) as record_of:
            with loop.change():
                time.sleep(5)
            steps(loop, folder, lambda: table.write_text("\n".join([header, *cars]) + "\n"), old)
            new = loop.live()
            loop.mark(f"{options.promotions} promotions in a row")
            loop.promote_many((old, new), options.promotions, kill_at=options.promotions // 2)
            loop.mark("load ends")
        record = record_of()
        server.terminate()
    leaky = leaking(options, folder, [loop.bundles[NAME, old], loop.bundles[NAME, new]])
    options.plot.parent.mkdir(parents=True, exist_ok=True)
    titles = {old: "trained on 60 % of the cars", new: "retrained on all"}
    titles |= {version: "the slow one" for version in record.versions if version.startswith(f"{SLOW_YEAR}")}
    draw(record, UNPINNED, loop.events, titles, options.plot)
    return judge(loop, record, rows, leaky)


def server_models(url: str) -> list[str]:
    """Names that a worker serves now."""
    return [model["name"] for model in httpx.get(f"{url}/models").json()["models"]]


def requests(loop: Loop) -> tuple[dict[int, NDArray[Any]], tuple[Route, ...]]:
    """Input rows by route, and the routes: the redeployed model in several ways, and two others beside it."""
    shipped = {name: bundle for (name, _), bundle in loop.bundles.items()}
    cars, clothes, oil = (shipped[name].golden()[0][:16] for name in (NAME, "dnn", "lstm"))
    task = shipped[NAME].manifest.task
    assert isinstance(task, Records)
    record = task.record
    routes = (
        json_route(f"/predict/{NAME}", [record(row) for row in cars]),
        json_route(f"/predict/{NAME}", [record(row) for row in cars], keys=48),
        json_route(f"/predict/{NAME}?label=production", [record(row) for row in cars]),
        npy_route("/predict/dnn", clothes),
        json_route("/predict/lstm", [row[:, 0].tolist() for row in oil]),
    )
    return dict(enumerate((cars, cars, cars, clothes, oil))), routes


def steps(loop: Loop, folder: Path, new_rows: Callable[[], object], old: str) -> None:
    """Everything before the many promotions; ends with the retrained version in production."""
    new_rows()
    loop.mark("retraining begins, on all cars")
    with loop.change():
        status, said = loop.cli("retrain", NAME, "--when", "always", status=(0, 3), cwd=folder)
    loop.say(said)
    loop.know()
    new = next(version for name, version in loop.bundles if name == NAME and version != old)
    loop.mark(f"retrained; the gate says {'yes' if status == 0 else 'no'}")
    if status == 0:
        time.sleep(5)
        with loop.change():
            loop.cli("models", "rollback", NAME)
        loop.mark("taken back")
    time.sleep(5)
    loop.cli("models", "label", NAME, new, "candidate")
    loop.cli("models", "shadow", NAME, "on")
    loop.mark("shadow on")
    time.sleep(10)
    _, said = loop.cli("models", "compare-live", NAME, "--url", loop.server.url)
    loop.say(said)
    loop.cli("models", "shadow", NAME, "off")
    with loop.change(new):
        loop.cli("models", "canary", NAME, "20")
    loop.mark("canary, 20 %")
    time.sleep(15)
    with loop.change():
        loop.admin("promote", version=new)
    loop.mark("promoted")
    time.sleep(5)
    damaged(loop, folder, new)
    too_slow(loop, folder, new)
    with loop.change():
        loop.cli("models", "rollback", NAME)
    loop.mark("rolled back")
    time.sleep(5)
    with loop.change():
        loop.cli("models", "promote", NAME, new)
    loop.mark("promoted again")
    time.sleep(5)


def damaged(loop: Loop, folder: Path, good: str) -> None:
    """Offer versions whose files went wrong: by the command, which refuses, and past it, which the workers refuse."""
    source = loop.bundles[NAME, good]
    for year, (what, damage) in enumerate((("corrupt", offered.corrupt), ("truncated", offered.truncate)), start=2040):
        made = offered.resealed(source, folder / what, datetime(year, 1, 1, tzinfo=UTC))
        version = made.manifest.version
        place = offered.place(made, loop.server.home)
        damage(place)
        loop.cli("models", "promote", NAME, version, status=(1,))
        before = loop.server.metric("serving_model_reloads_total", model=NAME, result="failure")
        loop.force(version, made.manifest.digest)
        loop.mark(f"{what} version offered")

        def refused(before: float = before) -> bool:
            return loop.server.metric("serving_model_reloads_total", model=NAME, result="failure") > before

        loop.wait(f"the {what} version counted as a failure", refused)
        time.sleep(3)
        loop.cli("models", "promote", NAME, good)
        shutil.rmtree(place)


def too_slow(loop: Loop, folder: Path, good: str) -> None:
    """Offer a version that answers right and late as a canary, which must end by itself."""
    source = loop.bundles[NAME, good]
    made = offered.resealed(source, folder / "slow", datetime(SLOW_YEAR, 1, 1, tzinfo=UTC), offered.slow(source))
    version = loop.store.add(made.path).manifest.version
    loop.know(NAME)
    loop.cli("models", "label", NAME, version, "candidate")
    with loop.change(version):
        loop.cli("models", "canary", NAME, "20", "--requests", "50")
    loop.mark("slow canary, 20 %")
    with loop.change():
        loop.wait("the slow canary ended", lambda: not loop.store.aliases().traffic.get(NAME))
    loop.mark("ended by itself")
    ended = loop.store.changes(NAME)[-1]
    loop.say(f"    {ended.who}: {ended.reason}")
    if ended.who != "service":
        raise LoopError(f"the canary was ended by {ended.who!r}, not by the service")
    time.sleep(3)


def leaking(options: argparse.Namespace, folder: Path, pair: list[Bundle]) -> list[float]:
    """Resident memory of a server that leaks, over its promotions: the control of the criterion."""
    home = folder / "leaky"
    Store(home).add(pair[0].path)
    Store(home).add(pair[1].path)
    Store(home).set_alias(NAME, pair[0].manifest.version)
    print(f"{options.leaky_promotions} promotions of a server that leaks on purpose")
    path = Path(__file__).parent / "leaky"
    with running(
        home, pretrained=folder / "none", SERVING_ADMIN_TOKEN=ADMIN_TOKEN, PYTHONPATH=f"{path}", SERVING_POLL_S="0.05"
    ) as server:
        loop = Loop(server, NAME)
        loop.promote_many((pair[1].manifest.version, pair[0].manifest.version), options.leaky_promotions, pause_s=0)
        (samples,) = loop.memory.values()
    return samples


def judge(loop: Loop, record: Record, rows: dict[int, NDArray[Any]], leaky: list[float]) -> list[str]:
    """Print the figures; what is not as it should be."""
    latency = 1000 * np.percentile(record.latency, (50, 99, 100))
    print(
        f"{len(record.due):,} requests, {record.errors} errors, {record.retried} sent again after a worker was killed, "
        f"p50 {latency[0]:.1f} ms, p99 {latency[1]:.1f} ms, max {latency[2]:.0f} ms, "
        f"{len(loop.answering) - 1} switches"
    )
    problems = [*record.problems, *record.wrong(loop.bundles, rows), *loop.late(record, UNPINNED)]
    if record.errors:
        problems.append(f"{record.errors} requests without a right answer")
    # A worker that took the place of a killed one has too short a history where few promotions were asked for.
    watched = {pid: samples for pid, samples in loop.memory.items() if len(samples) >= 40}
    for pid, samples in watched.items():
        print(f"worker {pid}: {growth(samples):+.1f} KiB a switch over {len(samples)} (accepted: {ALLOWED_KIB:g})")
        if not is_flat(samples):
            problems.append(f"the memory of worker {pid} grows")
    print(f"the leaky server: {growth(leaky):+.1f} KiB a switch over {len(leaky)}")
    if is_flat(leaky):
        problems.append("the criterion does not see a leak")
    return problems


if __name__ == "__main__":
    sys.exit(main())
