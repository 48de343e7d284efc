"""A real Prometheus watches a real two-worker service: what the dashboards show, and which alerts fire when."""

import math
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import numpy as np
import pytest

from deploy.grafana import DASHBOARDS
from deploy.grafana.panels import Panel
from models.store import Canary, Store, Traffic
from tests.bundles import CARS, CREATED, IMAGE, graph_of, make_bundle
from tests.deploy.watched import JOB, Prometheus, exposing, prometheus, shortened
from tests.e2e.server import Server, running, wait_for
from tests.redeploy.offered import FATAL, SLOW, moody, resealed

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus (Debian: prometheus)")

# 5 minutes are 5 seconds, an hour is a minute.
FACTOR = 60
GOOD = 1000.0
"""Weight of a car that is answered at once."""
# A tenth of the requests may fail, so that a busy machine's odd slow answer is no alert, and a burst is one.
OBJECTIVES = "cars=1000:0.9,trucks=1000:0.9,wear=1000:0.9"
# What neither this machine nor a model without reference statistics has.
ELSEWHERE = """
serving_gpu_utilization_ratio{gpu="0"} 0.5
serving_gpu_memory_used_bytes{gpu="0"} 1e9
serving_gpu_memory_total_bytes{gpu="0"} 8e9
serving_input_psi{model="wear",alias="production",feature="intensity"} 0.1
serving_prediction_psi{model="wear",alias="production",feature="label"} 0.1
"""
# Each request has a connection of its own, so that any worker may get it.
_CLIENT = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=60)
NOBODY: set[tuple[str, str]] = set()


def predict(server: Server, model: str, **record: object) -> httpx.Response:
    """The answer to one record."""
    instance = {"weight": GOOD, "horsepower": 100, "origin": "usa"} | record
    return _CLIENT.post(f"{server.url}/predict/{model}", json={"instances": [instance]})


def ask(server: Server, model: str, weight: float = GOOD) -> int:
    """Status of `predict` for a car of this weight."""
    return predict(server, model, weight=weight).status_code


def tell(server: Server, answer: httpx.Response, **truth: object) -> None:
    """What turned out to be true of an answer."""
    assert answer.status_code == 200
    body = {"request_id": answer.json()["request_id"], **truth}
    _CLIENT.post(f"{server.url}/feedback", json=body).raise_for_status()


def show(server: Server, count: int) -> None:
    """Pictures for the classifier."""
    pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    for one in pixels:
        answer = _CLIENT.post(f"{server.url}/predict/wear", json={"instances": [one.tolist()]})
        tell(server, answer, label="boot")


def send_healthy(server: Server) -> None:
    """Requests that are as they should be, or whose sender is to blame."""
    for _ in range(4):
        tell(server, predict(server, "cars"), value=20.0)
        assert predict(server, "cars", weight=1.0).status_code == 422
        assert predict(server, "cars", origin="mars").status_code == 422
        # Twice: one slow answer of sixteen is within the objective.
        assert [ask(server, "trucks"), ask(server, "trucks")] == [200, 200]
        show(server, 3)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Prometheus]]:
    """A service with a canary and a shadow, that got some healthy requests, and its Prometheus."""
    folder = tmp_path_factory.mktemp("watched")
    for name in ("cars", "trucks"):
        plain = make_bundle(folder / "plain", name, CARS)
        resealed(plain, folder / "pre" / name, CREATED, moody(plain))
    old = make_bundle(folder / "pre", "wear", IMAGE, seed=1)
    new = make_bundle(folder / "new", "wear", IMAGE, seed=2, created=CREATED + timedelta(hours=1))
    broken = resealed(old, folder / "broken", CREATED + timedelta(hours=2), graph_of(IMAGE, 3))
    home = folder / "home"
    # No batch on the event loop: nobody could foresee that the slow ones are.
    settings = {"SERVING_OBJECTIVES": OBJECTIVES, "SERVING_INLINE_MS": "0", "SERVING_MAX_QUEUE_S": "600"}
    with (
        running(home, "--workers", "2", pretrained=folder / "pre", **settings) as server,
        exposing(ELSEWHERE) as elsewhere,
        prometheus(folder / "prometheus", [server.url.removeprefix("http://"), elsewhere], FACTOR) as found,
    ):
        store = Store(home)
        for bundle in (new, broken):
            store.add(bundle.path)
        store.set_alias("wear", new.manifest.version, "candidate")
        store.set_traffic("wear", Traffic(canary=Canary(percent=40, p99_factor=1000), shadow=True))
        wait_for(lambda: server.metric("serving_model_info", alias="candidate"), "candidate")
        assert ask(server, "nobody") == 404
        send_healthy(server)
        # What is seen once has not increased yet.
        for model in ("cars", "wear"):
            seen = f'serving_feedback_total{{model="{model}"}}'
            wait_for(lambda seen=seen: found.query(seen), "scraped feedback")
        send_healthy(server)
        yield server, found


OF_RECORDS = ("feedback on values", "records with such values")
PANELS = [(page.uid, panel) for page in DASHBOARDS for panel in page.panels]


@pytest.mark.parametrize(("page", "panel"), PANELS, ids=[f"{page}: {panel.title}" for page, panel in PANELS])
def test_every_query_of_every_panel_has_data(watched: tuple[Server, Prometheus], page: str, panel: Panel) -> None:
    _, found = watched
    for query in panel.queries:
        model = "cars" if panel.needs in OF_RECORDS else "wear"
        expr = query.expr.replace("$job", JOB).replace("$model", model).replace("$__rate_interval", "1m")
        assert "$" not in expr
        wait_for(lambda expr=expr: any(not math.isnan(one["value"]) for one in found.query(expr)), expr)
        for sample in found.query(expr):
            missing = [label for label in _labels(query.legend) if label not in sample["metric"]]
            assert not missing, "the legend names labels that the series have not"


def _labels(legend: str) -> list[str]:
    return [part.partition("}}")[0] for part in legend.split("{{")[1:]]


def test_each_kind_of_trouble_fires_its_alerts_and_no_other(watched: tuple[Server, Prometheus]) -> None:
    server, found = watched
    rules = found.rules()
    assert len(rules) == 22
    wait_for(lambda: all(rule["health"] == "ok" for rule in found.rules()), "evaluation of every rule")
    assert found.fired() == NOBODY, "of healthy requests"

    for _ in range(100):
        assert ask(server, "cars", FATAL) == 500
    errors = {("ServingErrorBudgetBurn", "cars"), ("ServingErrorBudgetBurnSlow", "cars")}
    wait_for(lambda: found.fired() >= errors, "alert of the errors")
    assert found.fired() == errors

    with ThreadPoolExecutor(40) as pool:
        assert set(pool.map(lambda _: ask(server, "trucks", SLOW), range(40))) == {200}
    slow = {("ServingLatencyBudgetBurn", "trucks"), ("ServingLatencyBudgetBurnSlow", "trucks")}
    wait_for(lambda: found.fired() >= slow, "alert of the slow requests")
    assert found.fired() == errors | slow

    store = Store(server.home)
    store.set_alias("wear", max(store.versions("wear")), "blue")
    failed = {("ServingReloadFailed", "wear")}
    wait_for(lambda: found.fired() >= failed, "alert of the failed reload")
    assert found.fired() == errors | slow | failed

    assert server.terminate() == 0
    down = {("ServingTargetDown", "")}
    wait_for(lambda: found.fired() >= down, "alert of the stopped target")
    assert found.fired() == errors | slow | failed | down
    assert {rule["health"] for rule in found.rules()} == {"ok"}


def test_a_shortened_rule_is_the_same_rule_in_less_time() -> None:
    assert shortened("for: 1m", 60) == "for: 5000ms"
    text = 'record: x:rate5m\nexpr: rate(a_total[5m]) + b{c="[5m)"}[3d]\nfor: 10m\n'
    assert (
        shortened(text, 60) == 'record: x:rate5m\nexpr: rate(a_total[5000ms]) + b{c="[5m)"}[4320000ms]\nfor: 10000ms\n'
    )
