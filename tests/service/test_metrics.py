"""Every metric, right over several workers, with a bounded number of series."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import prometheus_client
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import ROWS, SECONDS, STAGE_SECONDS, UNMATCHED, Metrics
from service.objective import LATENCIES_MS, Objective
from service.recorder import STAGES, BulkHistogram
from tests.bundles import CARS, STATE

ROUTE = "/predict/{model}"


def samples(text: str) -> dict[str, float]:
    """``name{labels}`` -> value; labels sorted."""
    return {
        sample.name + "{" + ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items())) + "}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def rendered(metrics: Metrics) -> dict[str, float]:
    body, content_type = metrics.render()
    assert content_type == prometheus_client.CONTENT_TYPE_LATEST
    return samples(body.decode())


@given(st.lists(st.sampled_from([*SECONDS, 0.0, 5.0]) | st.floats(0, 2, allow_nan=False), max_size=40))
@examples(max_examples=60, deadline=None)
def test_observing_in_bulk_equals_observing_one_by_one(values: list[float]) -> None:
    texts = []
    for bulk in (True, False):
        registry = prometheus_client.CollectorRegistry()
        histogram = prometheus_client.Histogram("h", "", ["model"], buckets=SECONDS, registry=registry).labels("cars")
        if bulk:
            BulkHistogram(histogram).observe(values)
        else:
            for value in values:
                histogram.observe(value)
        texts.append(samples(prometheus_client.generate_latest(registry).decode()))
    assert texts[0].keys() == texts[1].keys()
    assert texts[0] == pytest.approx(texts[1])


def test_a_prediction_is_counted_once_in_every_metric() -> None:
    metrics = Metrics()
    cars = metrics.model("cars")
    cars.answered(ROUTE, 0.004, 0.0002, 0.001, 0.0001)
    cars.answered(ROUTE, 0.004, 0.0002, 0.001, 0.0001)
    cars.batch(3, 0.002)
    cars.predicted(CARS, np.zeros((3, 3), np.float32))
    found = rendered(metrics)
    rest = 'model="cars",route="/predict/{model}"'
    assert found[f'serving_requests_total{{alias="production",code="200",{rest}}}'] == 2
    assert found[f'serving_request_duration_seconds_count{{alias="production",{rest}}}'] == 2
    assert found[f'serving_request_duration_seconds_sum{{alias="production",{rest}}}'] == pytest.approx(0.008)
    assert found['serving_predictions_total{class="",model="cars"}'] == 3
    assert found['serving_batch_size_sum{model="cars"}'] == 3
    assert not any(name.startswith("serving_confidence") for name in found)
    ours = 'alias="production",model="cars"'
    counts = {stage: found[f'serving_stage_duration_seconds_count{{{ours},stage="{stage}"}}'] for stage in STAGES}
    assert counts == {"decode": 2, "queue": 2, "infer": 1, "encode": 2}
    assert found['serving_stage_duration_seconds_sum{alias="production",model="cars",stage="queue"}'] == pytest.approx(
        0.002
    )


def test_a_refusal_is_counted_under_its_code_and_in_the_duration() -> None:
    metrics = Metrics()
    metrics.model("cars").refused(ROUTE, 422, 0.003)
    found = rendered(metrics)
    assert found['serving_requests_total{alias="production",code="422",model="cars",route="/predict/{model}"}'] == 1
    assert (
        found['serving_request_duration_seconds_count{alias="production",model="cars",route="/predict/{model}"}'] == 1
    )
    assert 'serving_requests_total{alias="production",code="200",model="cars",route="/predict/{model}"}' not in found


def test_rendering_twice_counts_nothing_twice() -> None:
    metrics = Metrics()
    metrics.model("cars").answered(ROUTE, 0.004, 0.0002, 0.001, 0.0001)
    assert rendered(metrics) == rendered(metrics)


def test_a_model_has_one_recorder_a_role_whatever_its_version() -> None:
    metrics = Metrics()
    assert metrics.model("cars") is metrics.model("cars", "production")
    metrics.model("cars", "candidate").refused(ROUTE, 500, 0.1)
    found = rendered(metrics)
    assert found['serving_requests_total{alias="candidate",code="500",model="cars",route="/predict/{model}"}'] == 1
    assert 'serving_requests_total{alias="production",code="500",model="cars",route="/predict/{model}"}' not in found


def test_requests_to_other_routes_have_their_route_and_no_model() -> None:
    metrics = Metrics()
    metrics.other("/models", 200, 0.001)
    metrics.other(UNMATCHED, 404, 0.001)
    found = rendered(metrics)
    assert found['serving_requests_total{alias="",code="200",model="",route="/models"}'] == 1
    assert found['serving_requests_total{alias="",code="404",model="",route="unmatched"}'] == 1


def test_of_many_classes_twenty_have_a_name_whatever_versions_come_and_go() -> None:
    metrics = Metrics()
    recorder = metrics.model("birds")
    many = STATE.model_copy(update={"labels": tuple(f"bird{i}" for i in range(30))})
    recorder.predicted(many, np.eye(30, dtype=np.float32))
    recorder.predicted(many, np.eye(30, dtype=np.float32)[:2])
    later = STATE.model_copy(update={"labels": ("new", "newer")})
    metrics.model("birds", "candidate").predicted(later, np.eye(2, dtype=np.float32))
    found = {k: v for k, v in rendered(metrics).items() if k.startswith("serving_predictions_total")}
    assert len(found) == 21
    assert found['serving_predictions_total{class="bird0",model="birds"}'] == 2
    assert found['serving_predictions_total{class="bird19",model="birds"}'] == 1
    assert found['serving_predictions_total{class="other",model="birds"}'] == 12


def test_confidence_is_that_of_the_most_probable_class_by_role() -> None:
    metrics = Metrics()
    metrics.model("birds").predicted(STATE, np.array([[0.25, 0.75], [0.9375, 0.0625]], np.float32))
    found = rendered(metrics)
    ours = 'alias="production",model="birds"'
    assert found[f"serving_confidence_sum{{{ours}}}"] == pytest.approx(1.6875)
    assert found['serving_confidence_bucket{alias="production",le="0.8",model="birds"}'] == 1
    assert found['serving_confidence_bucket{alias="production",le="0.95",model="birds"}'] == 2


def test_what_is_recorded_is_counted_when_the_list_is_full_without_a_scrape() -> None:
    metrics = Metrics()
    recorder = metrics.model("cars")
    for _ in range(600):
        recorder.answered(ROUTE, 0.004, 0.0002, 0.001, 0.0001)
    counted = metrics.requests.labels(ROUTE, "cars", "production", "200")._value.get()
    assert 500 < counted < 600
    labels = 'alias="production",code="200",model="cars",route="/predict/{model}"'
    assert rendered(metrics)[f"serving_requests_total{{{labels}}}"] == 600


def test_an_objective_names_the_bucket_that_its_latency_is_counted_in() -> None:
    metrics = Metrics()
    metrics.model("cars").refused(ROUTE, 422, 0.003)
    metrics.objectives({"cars": Objective(latency_ms=7.5, success_ratio=0.99)})
    found = rendered(metrics)
    assert found['serving_objective_latency_seconds{le="0.0075",model="cars"}'] == 0.0075
    assert found['serving_objective_success_ratio{model="cars"}'] == 0.99
    bucket = 'serving_request_duration_seconds_bucket{alias="production",le="0.0075",model="cars",'
    assert any(name.startswith(bucket) for name in found)


@pytest.mark.parametrize("latency_ms", LATENCIES_MS)
def test_every_latency_that_an_objective_may_have_has_its_bucket(latency_ms: float) -> None:
    metrics = Metrics()
    metrics.model("cars").refused(ROUTE, 422, 0.003)
    metrics.objectives({"cars": Objective(latency_ms, 0.99)})
    bounds = {le for name in rendered(metrics) if (le := re.search('le="([^"]*)"', name))}
    by_name = {name: [b[1] for b in bounds if b.string.startswith(name)] for name in ("serving_obj", "serving_request")}
    assert set(by_name["serving_obj"]) < set(by_name["serving_request"])


def test_objectives_of_models_that_are_gone_are_gone() -> None:
    metrics = Metrics()
    metrics.objectives({"cars": Objective(5, 0.99), "birds": Objective(5, 0.99)})
    metrics.objectives({"birds": Objective(10, 0.99)})
    found = [name for name in rendered(metrics) if "objective" in name]
    assert sorted(found) == [
        'serving_objective_latency_seconds{le="0.01",model="birds"}',
        'serving_objective_success_ratio{model="birds"}',
    ]


def test_the_first_failure_of_any_kind_is_an_increase_from_zero() -> None:
    metrics = Metrics()
    metrics.model("cars").answered(ROUTE, 0.004, 0.0002, 0.001, 0.0001)
    found = rendered(metrics)
    assert found['serving_model_reloads_total{model="cars",result="failure"}'] == 0
    assert found['serving_canary_rollbacks_total{model="cars"}'] == 0
    for code in (429, 500, 503, 504):
        labels = f'alias="production",code="{code}",model="cars",route="/predict/{{model}}"'
        assert found[f"serving_requests_total{{{labels}}}"] == 0


def test_names_follow_the_field() -> None:
    metrics = Metrics()
    metrics.model("cars").answered(ROUTE, 0.004, 0.0002, 0.001, 0.0001)
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        assert re.fullmatch(r"serving_[a-z_]+", family.name)
        assert family.documentation


@pytest.mark.parametrize("bounds", [SECONDS, STAGE_SECONDS, ROWS])
def test_buckets_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


_WORKER = """
import sys
import numpy as np
from service.metrics import Metrics
metrics = Metrics()
cars = metrics.model("cars")
for _ in range(int(sys.argv[1])):
    cars.answered("/predict/{model}", 0.004, 0.0002, 0.001, 0.0001)
cars.batch(int(sys.argv[1]), 0.002)
cars.predicted(None, np.zeros((int(sys.argv[1]), 3), np.float32))  # Of a task without classes.
metrics.inflight.set(int(sys.argv[1]))
metrics.model_info.replace({("cars", "v" + sys.argv[1], "production", "onnx", "cpu"): 1.0})
metrics.vitals.rss_bytes.labels("1").set(int(sys.argv[1]))
metrics.flush()
metrics.save()
print("ready", flush=True)
sys.stdin.readline()
sys.stdout.write(metrics.render()[0].decode())
"""


def worker(directory: Path, number: int) -> "subprocess.Popen[str]":
    import os

    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    command = [sys.executable, "-c", _WORKER, str(number)]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def scrape(process: "subprocess.Popen[str]") -> dict[str, float]:
    text, _ = process.communicate("go\n", timeout=60)
    assert process.returncode == 0
    return samples(text)


def test_a_scrape_of_one_worker_has_the_sum_over_both(tmp_path: Path) -> None:
    other, scraped = worker(tmp_path, 3), worker(tmp_path, 5)
    found = scrape(scraped)
    scrape(other)
    rest = 'model="cars",route="/predict/{model}"'
    assert found[f'serving_requests_total{{alias="production",code="200",{rest}}}'] == 8
    assert found[f'serving_request_duration_seconds_count{{alias="production",{rest}}}'] == 8
    assert found[f'serving_request_duration_seconds_bucket{{alias="production",le="0.005",{rest}}}'] == 8
    assert found[f'serving_request_duration_seconds_bucket{{alias="production",le="0.003",{rest}}}'] == 0
    assert found['serving_predictions_total{class="",model="cars"}'] == 8
    assert found["serving_inflight{}"] == 8
    assert versions(found) == {"v3": 1, "v5": 1}


def versions(found: dict[str, float]) -> dict[str, float]:
    """Version -> value, of every series of ``model_info``."""
    return {
        re.findall('version="([^"]*)"', name)[0]: value
        for name, value in found.items()
        if name.startswith("serving_model_info")
    }


def test_the_gauges_of_a_killed_worker_are_forgotten_and_its_counts_are_not(tmp_path: Path) -> None:
    killed = worker(tmp_path, 3)
    killed.kill()
    killed.communicate()
    found = scrape(worker(tmp_path, 5))
    assert found["serving_inflight{}"] == 5
    assert versions(found) == {"v5": 1}
    assert found['serving_worker_rss_bytes{worker="1"}'] == 5
    assert found['serving_predictions_total{class="",model="cars"}'] == 8


def test_the_gauges_of_a_living_worker_are_kept(tmp_path: Path) -> None:
    living = worker(tmp_path, 3)
    assert scrape(worker(tmp_path, 5))["serving_inflight{}"] == 8
    scrape(living)


def test_workers_that_die_again_and_again_leave_one_file_of_each_kind_and_every_count(tmp_path: Path) -> None:
    for _ in range(3):
        killed = worker(tmp_path, 3)
        killed.kill()
        killed.communicate()
    last = worker(tmp_path, 5)
    found = scrape(last)
    assert found['serving_predictions_total{class="",model="cars"}'] == 14
    assert found['serving_batch_size_sum{model="cars"}'] == 14
    assert found['serving_batch_size_count{model="cars"}'] == 4
    rest = 'model="cars",route="/predict/{model}"'
    assert found[f'serving_request_duration_seconds_bucket{{alias="production",le="0.005",{rest}}}'] == 14
    pids = {path.stem.rpartition("_")[2] for path in tmp_path.glob("*.db")} | {
        path.stem.rpartition("_")[2] for path in tmp_path.glob("*.json")
    }
    assert pids == {"0", str(last.pid)}
    # The counts of the dead are there for the next worker, too, which finds one more to add.
    assert scrape(worker(tmp_path, 1))['serving_predictions_total{class="",model="cars"}'] == 15
