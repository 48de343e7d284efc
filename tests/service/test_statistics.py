"""What a version has done, in the statistics extension's form."""

from tritonclient.grpc import service_pb2

from service.protocols.base import Answer
from service.statistics import Statistics


def test_requests_rows_stages_and_batches_are_summed() -> None:
    statistics, seen = Statistics(), []
    on_batch = statistics.with_batches(lambda rows, seconds: seen.append((rows, seconds)))
    for rows in (1, 4, 4):
        on_batch(rows, 0.002)
        statistics.answered(rows, 0.01, Answer(b"", decode_s=0.001, queue_s=0.002, infer_s=0.003, encode_s=0.004))
    statistics.failed(0.5)
    found = statistics.document("cars", "1")
    assert (found["name"], found["version"]) == ("cars", "1")
    assert (found["inference_count"], found["execution_count"]) == (9, 3)
    assert found["last_inference"] > 1.7e12
    times = {stage: (one["count"], one["ns"]) for stage, one in found["inference_stats"].items()}
    assert times == {
        "success": (3, 30_000_000),
        "fail": (1, 500_000_000),
        "queue": (3, 6_000_000),
        "compute_input": (3, 3_000_000),
        "compute_infer": (3, 9_000_000),
        "compute_output": (3, 12_000_000),
        "cache_hit": (0, 0),
        "cache_miss": (0, 0),
    }
    assert [(one["batch_size"], one["compute_infer"]) for one in found["batch_stats"]] == [
        (1, {"count": 1, "ns": 2_000_000}),
        (4, {"count": 2, "ns": 4_000_000}),
    ]
    assert seen == [(1, 0.002), (4, 0.002), (4, 0.002)]


def test_the_document_is_the_message_of_the_protocol() -> None:
    statistics = Statistics()
    statistics.with_batches(lambda rows, seconds: None)(2, 0.001)
    message = service_pb2.ModelStatistics(**statistics.document("cars", "1"))
    assert (message.name, message.execution_count, message.batch_stats[0].batch_size) == ("cars", 1, 2)
