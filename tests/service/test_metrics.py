"""Every metric, right over several workers, with a bounded number of series."""

import re
import subprocess
import sys
from pathlib import Path

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import ROWS, SECONDS, STAGE_SECONDS, STAGES, UNMATCHED, Metrics, _BulkHistogram

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
            _BulkHistogram(histogram).observe(values)
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
    found = rendered(metrics)
    rest = 'model="cars",route="/predict/{model}"'
    assert found[f'serving_requests_total{{alias="production",code="200",{rest}}}'] == 2
    assert found[f'serving_request_duration_seconds_count{{alias="production",{rest}}}'] == 2
    assert found[f'serving_request_duration_seconds_sum{{alias="production",{rest}}}'] == pytest.approx(0.008)
    assert found['serving_predictions_total{model="cars"}'] == 3
    assert found['serving_batch_size_sum{model="cars"}'] == 3
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
from service.metrics import Metrics
metrics = Metrics()
cars = metrics.model("cars")
for _ in range(int(sys.argv[1])):
    cars.answered("/predict/{model}", 0.004, 0.0002, 0.001, 0.0001)
cars.batch(int(sys.argv[1]), 0.002)
metrics.inflight.set(int(sys.argv[1]))
metrics.model_info.labels("cars", "v1", "production", "onnx", "cpu").set(1)
metrics.flush()
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
    assert found['serving_predictions_total{model="cars"}'] == 8
    assert found["serving_inflight{}"] == 8
    info = 'alias="production",device="cpu",engine="onnx",model="cars",version="v1"'
    assert found[f"serving_model_info{{{info}}}"] == 1


def test_the_gauges_of_a_killed_worker_are_forgotten_and_its_counts_are_not(tmp_path: Path) -> None:
    killed = worker(tmp_path, 3)
    killed.kill()
    killed.communicate()
    found = scrape(worker(tmp_path, 5))
    assert found["serving_inflight{}"] == 5
    assert found['serving_predictions_total{model="cars"}'] == 8


def test_the_gauges_of_a_living_worker_are_kept(tmp_path: Path) -> None:
    living = worker(tmp_path, 3)
    assert scrape(worker(tmp_path, 5))["serving_inflight{}"] == 8
    scrape(living)
