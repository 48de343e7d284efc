"""Captured requests: whole files only, bounded, and usable as data to train on."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter

from models.captured import TASK, input_columns, output_columns, with_truth
from models.task import Task
from service.runtime import Runtime
from service.settings import Settings, SettingsError
from tests.bundles import CARS, CHURN, IMAGE, SERIES, rows_of
from tests.service.asgi import Client
from tests.service.conftest import StartRuntime, client_of, until
from training.own.source import read_text_table

JSON = {"content-type": "application/json"}


def files_of(settings: Settings, kind: str = "rows", model: str = "cars") -> list[Path]:
    return sorted((settings.home / "captured" / model).glob(f"{kind}-*.parquet"))


@pytest.fixture
def capturing(settings: Settings) -> Settings:
    # Written only when a test says so, or at the end.
    return settings.model_copy(update={"capture_share": 1.0, "capture_flush_s": 3600})


async def ask(client: Client, rows: NDArray[Any], request_id: str) -> list[Any]:
    body = json.dumps({"instances": [CARS.record(row) for row in rows]}).encode()
    answer = await client("POST", "/predict/cars", body, headers=JSON | {"x-request-id": request_id})
    assert answer.status == 200
    return list(answer.json["predictions"])


async def flush(runtime: Runtime) -> None:
    assert runtime.capture is not None
    await runtime.capture.flush()


def test_records_keep_their_words_numbers_and_gaps() -> None:
    rows = rows_of(CHURN, 3)
    rows[:, 1] = [0.1, np.nan, 20]
    rows[1, 2] = np.nan
    columns = input_columns(CHURN, rows)
    assert columns["charges"] == [0.1, None, 20.0]
    assert set(columns["contract"]) <= {"monthly", "yearly", None}
    assert columns["contract"][1] is None


def test_pictures_are_files_and_series_are_lists() -> None:
    picture = rows_of(IMAGE, 1)
    assert input_columns(IMAGE, picture)["picture"][0].startswith(b"\x89PNG")
    stretch = rows_of(SERIES, 2)
    assert input_columns(SERIES, stretch)["OT"] == stretch[:, :, 0].tolist()
    answers = np.zeros((2, *SERIES.output_shape), np.float32)
    assert output_columns(SERIES, answers)["_value"] == [[0.0, 0.0]] * 2
    sure = output_columns(IMAGE, np.array([[0.25, 0.5, 0.25]], np.float32))
    assert sure == {"_label": ["boot"], "_confidence": [0.5]}


def test_only_rows_with_a_truth_become_data_and_only_their_inputs() -> None:
    columns = {"_request_id": ["a", "a", "b"], "_row": [0, 1, 0], "_value": [1, 2, 3], "weight": [10, 20, 30]}
    found = with_truth(columns, {("a", 1): 5.5, ("b", 0): 6.5, ("c", 0): 7.5}, "mpg")
    assert found == {"weight": [20, 30], "mpg": [5.5, 6.5]}


async def test_a_captured_request_is_a_row_with_its_answer_and_a_truth(
    capturing: Settings, start_runtime: StartRuntime
) -> None:
    runtime = await start_runtime(capturing)
    client = client_of(runtime)
    rows = rows_of(CARS, 2)
    tried = json.dumps({"instances": [CARS.record(rows[0])]}).encode()
    assert (await client("POST", "/predict/cars?trial=1", tried, headers=JSON)).status == 200
    said = await ask(client, rows, "one")
    told = {"request_id": "one", "row": 1, "value": 30.5}
    assert (await client("POST", "/feedback", json.dumps(told).encode(), headers=JSON)).status == 200
    await flush(runtime)
    table = pq.read_table(files_of(capturing)[0])
    assert table["weight"].to_pylist() == [float(str(value)) for value in rows[:, 0]]
    assert table["_value"].to_pylist() == pytest.approx([each["value"] for each in said], rel=1e-5)
    assert table["_request_id"].to_pylist() == ["one", "one"]
    assert table["_alias"].to_pylist() == ["production"] * 2
    assert TypeAdapter(Task).validate_json(table.schema.metadata[TASK]) == CARS
    truth = pq.read_table(files_of(capturing, "truth")[0]).to_pylist()
    assert truth == [{"_request_id": "one", "_row": 1, "_truth": "30.5"}]
    assert 'captured_rows_total{model="cars",result="written"} 2.0' in runtime.metrics.render()[0].decode()


async def test_nothing_is_captured_unless_asked_for(settings: Settings, start_runtime: StartRuntime) -> None:
    runtime = await start_runtime(settings)
    assert runtime.capture is None
    await ask(client_of(runtime), rows_of(CARS, 1), "one")
    assert not (settings.home / "captured").exists()


async def test_a_share_of_the_requests_is_captured(capturing: Settings, start_runtime: StartRuntime) -> None:
    some = capturing.model_copy(update={"capture_share": 0.5})
    runtime = await start_runtime(some)
    client = client_of(runtime)
    for number in range(200):
        await ask(client, rows_of(CARS, 1), f"request-{number}")
    await flush(runtime)
    # Fifty standard deviations would be needed to leave these bounds: it never happens by chance.
    assert 20 < pq.read_table(files_of(some)[0]).num_rows < 180


async def test_what_was_captured_is_written_when_the_service_ends(capturing: Settings) -> None:
    runtime = Runtime.create(capturing)
    await runtime.start()
    await until(lambda: runtime.loader.ready)
    await ask(client_of(runtime), rows_of(CARS, 1), "last")
    await runtime.close()
    assert pq.read_table(files_of(capturing)[0])["_request_id"].to_pylist() == ["last"]


async def test_old_files_and_what_is_too_much_are_deleted_oldest_first(
    capturing: Settings, start_runtime: StartRuntime
) -> None:
    small = capturing.model_copy(update={"capture_max_mb": 1, "capture_max_age_h": 10.0})
    runtime = await start_runtime(small)
    folder = small.home / "captured" / "heat"
    folder.mkdir(parents=True)
    for name, size, hours in (("a", 100, 11), ("b", 600_000, 3), ("c", 600_000, 2), ("d", 100, 1)):
        path = folder / f"rows-{name}.parquet"
        path.write_bytes(b"0" * size)
        os.utime(path, (time.time() - hours * 3600,) * 2)
    await ask(client_of(runtime), rows_of(CARS, 1), "one")
    await flush(runtime)
    assert [path.stem for path in files_of(small, model="heat")] == ["rows-c", "rows-d"]
    assert len(files_of(small)) == 1


async def test_a_disk_that_takes_nothing_hurts_no_prediction(
    capturing: Settings, start_runtime: StartRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = await start_runtime(capturing)
    (capturing.home / "captured").write_text("no folder")
    client = client_of(runtime)
    await ask(client, rows_of(CARS, 3), "one")
    await flush(runtime)
    assert "what was captured of cars is lost: Not a directory. Check the volume's space" in caplog.text
    assert "Traceback" not in caplog.text
    assert 'captured_rows_total{model="cars",result="dropped"} 3.0' in runtime.metrics.render()[0].decode()
    await ask(client, rows_of(CARS, 1), "two")
    (capturing.home / "captured").unlink()


def test_capture_without_its_package_is_refused_when_the_service_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.settings.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"SERVING_CAPTURE_SHARE: .*pyarrow"):
        Settings.load(capture_share=0.1)
    assert Settings.load(capture_share=0.0).capture_share == 0


def test_a_parquet_file_reads_as_the_same_text_as_a_csv_file(tmp_path: Path) -> None:
    import pyarrow as pa

    columns = {"weight": [3504.5, None, 0.1], "origin": ["usa", None, "japan"], "year": [70, 71, 72]}
    pq.write_table(pa.table(columns), tmp_path / "cars.parquet")
    (tmp_path / "cars.csv").write_text("weight,origin,year\n3504.5,usa,70\n,,71\n0.1,japan,72\n")
    found, expected = (read_text_table(tmp_path / f"cars.{kind}") for kind in ("parquet", "csv"))
    assert found.fillna("-").to_dict("list") == expected.fillna("-").to_dict("list")


@pytest.mark.parametrize("content", [b"", b"weight,mpg\n1,2\n"])
def test_what_is_no_parquet_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    from training.datasets import DataError

    (tmp_path / "cars.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"cars\.parquet must be a Parquet file"):
        read_text_table(tmp_path / "cars.parquet")


def test_a_column_of_lists_is_refused_by_name(tmp_path: Path) -> None:
    import pyarrow as pa

    from training.datasets import DataError

    pq.write_table(pa.table({"heat": [[1.0, 2.0]]}), tmp_path / "heat.parquet")
    with pytest.raises(DataError, match="'heat' holds lists"):
        read_text_table(tmp_path / "heat.parquet")
