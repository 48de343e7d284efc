"""The command line: what it prints, where it writes, and how it ends."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.store import Store
from tests.bundles import CARS, CHURN, IMAGE, SERIES, make_bundle, rows_of, run_offline
from tests.keras_serving.conftest import Cli

RECORD = {"weight": 3000, "horsepower": 100, "origin": "usa"}


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["frobnicate"], "No such command 'frobnicate'. See"),
        (["serv"], "Did you mean 'serve'?"),
        (["compare", "dnn", "--over", "optimizer=sgdd"], "received 'sgdd'. See keras-serving compare --help."),
        (["serve", "--port", "99999"], "1<=x<=65535"),
        (["serve", "--models", "clothes,nope"], "Known models: cars, clothes, heat"),
        (["serve", "--models", "UPPER"], "SERVING_MODELS"),
        (["serve", "--host", "example.invalid"], "Use 127.0.0.1"),
        (["train", "transformer"], "Known: cnn, dnn, lstm, regressor"),
        (["train", "dnn", "--name", "Has Space"], "lower case letters"),
        (["train", "dnn", "--config", "missing.toml"], "does not exist"),
        (["predict", "cars"], "Missing argument 'FILES...'"),
        (["predict", "cars", "missing.json"], "does not exist"),
        (["predict", "cars", ".", "--output", "x.xlsx"], ".csv or .jsonl"),
        (["predict", "cars", ".", "--output", "missing/x.csv"], "there is no folder missing. Make it first."),
    ],
)
def test_wrong_use_exits_2_with_one_line_that_says_the_remedy(cli: Cli, arguments: list[str], remedy: str) -> None:
    status, out, err = cli(*arguments)
    assert status == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert remedy in err


def test_a_wrong_setting_names_its_variable(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_MAX_BATCH_ROWS", "many")
    status, _, err = cli("models", "list")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "SERVING_MAX_BATCH_ROWS" in err
    assert "'many'" in err


def test_no_arguments_print_the_help(cli: Cli) -> None:
    status, out, _ = cli()
    assert status == 2
    for command in ("serve", "train", "predict", "models"):
        assert command in out


def test_predict_prints_one_record_as_the_graph_answers_it(cli: Cli, home: Path, tmp_path: Path) -> None:
    (tmp_path / "car.json").write_text(json.dumps(RECORD))
    status, out, _ = cli("predict", "cars", "car.json")
    target = Store(home).aliases().target("cars")
    assert target is not None
    expected = run_offline(Store(home).open("cars", target.version), CARS.parse([RECORD]))[0]
    answer = json.loads(out)
    assert status == 0
    assert np.allclose([answer["value"], answer["low"], answer["high"]], expected, rtol=1e-6)
    assert answer["unit"] == "mpg"


def test_predict_refuses_one_bad_record_with_its_field(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "car.json").write_text(json.dumps(RECORD | {"weight": 1}))
    status, out, err = cli("predict", "cars", "car.json")
    assert (status, out) == (1, "")
    assert "weight: must be a number from 500 to 9000 lb" in err


def test_predict_writes_many_rows_to_a_csv_file_and_lists_what_failed(cli: Cli, tmp_path: Path) -> None:
    lines = ["weight,horsepower,origin,mpg", *(f"{2000 + i},100,usa,20" for i in range(100)), "3000,,japan,30"]
    (tmp_path / "cars.csv").write_text("\n".join(lines))
    status, out, err = cli("predict", "cars", "cars.csv")
    with (tmp_path / "cars-predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert status == 1
    assert out == "100 predictions, 1 failures: cars-predictions.csv\n"
    assert "100%" in err
    assert len(rows) == 101
    assert all(float(row["low"]) or float(row["value"]) for row in rows[:100])
    assert rows[100]["value"] == ""
    assert "horsepower" in rows[100]["error"]


def test_predict_reads_blank_cells_as_missing_where_they_may_be(cli: Cli, home: Path, tmp_path: Path) -> None:
    store = Store(home)
    added = store.add(make_bundle(tmp_path / "n", "churn", CHURN).path)
    store.set_alias("churn", added.manifest.version)
    (tmp_path / "customers.csv").write_text("months,charges,contract\n3,,NA\n,70,yearly\n")
    status, _, _ = cli("predict", "churn", "customers.csv", "--output", "out.jsonl")
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert status == 1
    # The stand-in graph has no imputation: that NaN reached it shows in its answer.
    assert first["probabilities"] == {"no": None, "yes": None}
    assert "months: must be a number from 0 to 120." in second["error"]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["dnn", "--target", "y"], "give it with --data"),
        (["dnn", "--data", "t.csv"], "needs --target"),
        (["dnn", "--data", "t.csv", "--target", "y", "--size", "28"], "--size does not belong to a table"),
        (["cnn", "--data", "t.csv", "--target", "y"], "Use dnn or regressor"),
        (["regressor", "--data", "folder"], "Use cnn or dnn"),
        (["cnn", "--data", "folder", "--size", "2"], "4 to 1024"),
        (["lstm", "--data", "t.csv", "--column", "y"], "needs --lookback"),
        (["dnn", "--data", "t.csv", "--target", "y", "--unit", "kg"], "COLUMN=UNIT"),
        (["dnn", "--data", "missing.csv", "--target", "y"], "does not exist"),
    ],
)
def test_options_of_another_kind_of_data_are_refused_before_anything_is_read(
    cli: Cli, tmp_path: Path, arguments: list[str], remedy: str
) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,2\n")
    (tmp_path / "folder").mkdir()
    status, _, err = cli("train", *arguments)
    assert (status, len(err.splitlines())) == (2, 1)
    assert remedy in err


def test_predict_takes_a_folder_of_pictures_and_writes_jsonl(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "deep"
    folder.mkdir(parents=True)
    for i, row in enumerate(rows_of(IMAGE, 3, seed=2)):
        Image.fromarray(row[:, :, 0]).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (folder / "notes.txt").write_text("not a picture")
    status, _, _ = cli("predict", "clothes", "pictures", "--output", "out.jsonl")
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert status == 1
    assert [Path(answer["source"]).name for answer in answers] == ["0.png", "1.png", "2.png", "broken.png"]
    assert all(answer["label"] in IMAGE.labels for answer in answers[:3])
    assert "broken PNG" in answers[3]["error"]


def test_predict_takes_the_recent_end_of_a_series_in_a_csv_file(cli: Cli, home: Path, tmp_path: Path) -> None:
    values = [10.0 + i for i in range(20)]
    (tmp_path / "series.csv").write_text("date,OT\n" + "".join(f"d{i},{v}\n" for i, v in enumerate(values)))
    status, out, _ = cli("predict", "heat", "series.csv")
    target = Store(home).aliases().target("heat")
    assert target is not None
    rows = np.array(values[-SERIES.lookback :], dtype=np.float32).reshape(1, -1, 1)
    expected = run_offline(Store(home).open("heat", target.version), rows)[0, :, 0]
    assert status == 0
    assert np.allclose(json.loads(out)["forecast"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "weight,origin\n1,usa\n", "a column 'horsepower' is needed"),
        ("a.json", "{", "no valid JSON"),
        ("a.json", '{"instances": []}', "hold no row"),
        ("a.txt", "x", "takes JSON or CSV"),
        ("a.csv", "\x80", "no valid CSV"),
    ],
)
def test_predict_says_what_is_wrong_with_a_file(cli: Cli, tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    status, _, err = cli("predict", "cars", name)
    assert (status, len(err.splitlines())) == (2, 1)
    assert says in err


def test_the_installed_command_knows_its_version() -> None:
    command = Path(sys.executable).with_name("keras-serving")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("keras-serving, version ")


def test_predict_refuses_booleans_in_a_picture_as_the_service_does(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"instances": [[[True] * 28] * 28]}))
    status, _, err = cli("predict", "clothes", "a.json")
    assert status == 1
    assert "must be a number" in err


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [
        ("pooch", ["train", "regressor"]),
        ("pooch", ["analyse", "auto-mpg"]),
        ("pandas", ["train", "regressor", "--data", "cars.csv", "--target", "mpg"]),
        ("keras", ["models", "import", "net.keras", "--name", "net", "--labels", "a,b"]),
    ],
)
def test_a_package_that_only_training_needs_is_named_where_it_is_not_installed(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, missing: str, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cars.csv").write_text("mpg,weight\n20,3000\n")
    (tmp_path / "net.keras").write_bytes(b"PK\x03\x04")
    monkeypatch.delenv("DATA_DIR", raising=False)
    # What Python finds to be None cannot be imported.
    for name in [name for name in sys.modules if name.partition(".")[0] == missing] or [missing]:
        monkeypatch.setitem(sys.modules, name, None)
    status, _, err = cli(*arguments)
    assert status == 1
    assert err == (
        f"keras-serving: this needs {missing}, which is not installed. Run make install-train in the repository.\n"
    )


def test_a_module_of_ours_that_is_missing_is_no_package_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "training.pipeline", None)
    with pytest.raises(ModuleNotFoundError):
        cli("train", "regressor")
