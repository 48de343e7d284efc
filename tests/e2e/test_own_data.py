"""Data of a user's own, from a file to answers over HTTP, by the commands that the README gives."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from keras_serving.main import run
from models.bundle import Bundle
from models.store import Store
from models.task import TabularClassification
from tests.e2e.server import Server, running
from tests.training.own.made_up import customers, load, machine, shapes

README = Path(__file__).parent.parent.parent / "README.md"
TINY = {
    "churn": ("dnn", "[model]\nunits = [8]\n[fit]\nepochs = 3\nbatch_size = 32\n"),
    "shoes": ("cnn", "[model]\nfilters = [4]\nconvolutions = 1\n[fit]\nepochs = 2\nbatch_size = 16\n"),
    "load": ("lstm", "[model]\nmembers = 1\nunits = 4\n[fit]\nepochs = 1\nbatch_size = 64\n"),
    "machine": ("lstm", "[model]\nmembers = 1\nunits = 4\n[fit]\nepochs = 2\nbatch_size = 32\n"),
}


def commands() -> dict[str, list[str]]:
    """The README's own-data commands, by the name of their model."""
    block = re.search(r"## Your own data\n.*?```bash\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    lines = [shlex.split(line, comments=True) for line in block[1].splitlines() if line.startswith(".venv")]
    return {words[words.index("--name") + 1]: words[1:] for words in lines if words[1] == "train"}


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed command, in the folder of the data."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SERVING_", "DATA_DIR"))}
    empty = home.parent / "none"
    empty.mkdir(exist_ok=True)
    return subprocess.run(
        [str(Path(sys.executable).with_name("keras-serving")), *arguments],
        env=environment | {"SERVING_HOME": str(home), "SERVING_PRETRAINED": str(empty)},
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def here(home: Path, *arguments: str) -> int:
    """The same in this process, which has TensorFlow by now: a process that only imports it takes five seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("SERVING_", "DATA_DIR"))]:
            patch.delenv(name)
        patch.setenv("SERVING_HOME", str(home))
        patch.setenv("SERVING_PRETRAINED", str(home.parent / "none"))
        patch.chdir(home.parent)
        return run(list(arguments))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose models were trained by the README's commands, on few passes."""
    folder = tmp_path_factory.mktemp("own")
    customers(folder / "customers.csv")
    shapes(folder / "pictures")
    load(folder / "load.csv", steps=600)
    machine(folder / "machine.csv")
    for name, arguments in commands().items():
        architecture, text = TINY[name]
        (folder / f"{name}.toml").write_text(f'architecture = "{architecture}"\n{text}')
        words = [*arguments, "--config", f"{name}.toml"]
        if name == "churn":
            done = command(folder / "home", *words)
            assert done.returncode == 0, done.stderr + done.stdout
        else:
            assert here(folder / "home", *words) == 0
    return folder / "home"


@pytest.fixture(scope="module")
def own(trained: Path) -> Iterator[Server]:
    with running(trained, pretrained=trained.parent / "none") as server:
        yield server


def bundle(home: Path, name: str) -> Bundle:
    store = Store(home)
    target = store.aliases().target(name)
    assert target is not None
    return store.open(name, target.version)


def test_the_readme_shows_each_kind_of_data() -> None:
    assert set(commands()) == set(TINY)


@pytest.mark.parametrize("name", TINY)
def test_a_model_of_own_data_answers_its_own_example(own: Server, name: str) -> None:
    described = httpx.get(f"{own.url}/models/{name}").json()
    answer = httpx.post(f"{own.url}/predict/{name}", json=described["example"])
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 1


def test_records_with_missing_values_over_http_answer_what_keras_computes(own: Server, trained: Path) -> None:
    import keras

    found = bundle(trained, "churn")
    task = found.manifest.task
    assert isinstance(task, TabularClassification)
    table = pd.read_csv(trained.parent / "customers.csv")[list(task.names)].head(40)
    records: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    assert any(record["charges"] is None for record in records)
    sent = [{k: v for k, v in r.items() if v is not None} if i % 2 else r for i, r in enumerate(records)]
    answer = httpx.post(f"{own.url}/predict/churn", json={"instances": sent})
    assert answer.status_code == 200, answer.text
    received = [[p["probabilities"][label] for label in ("no", "yes")] for p in answer.json()["predictions"]]
    model = keras.saving.load_model(found.path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(received, model.predict(task.parse(records), verbose=0), atol=1e-5)
    np.testing.assert_allclose(np.sum(received, axis=1), 1, atol=1e-6)


def test_a_training_picture_of_any_size_gets_the_users_labels(own: Server, trained: Path) -> None:
    for file in sorted((trained.parent / "pictures" / "cross").iterdir())[:4]:
        media = "image/png" if file.suffix == ".png" else "image/jpeg"
        answer = httpx.post(
            f"{own.url}/predict/shoes", content=file.read_bytes(), headers={"content-type": media}
        ).json()
        prediction = answer["predictions"][0]
        assert set(prediction["probabilities"]) == {"bar", "cross"}
        assert any("resized to 28x28" in step for step in prediction["applied"])


def test_a_forecast_has_the_users_horizon_unit_and_step(own: Server, trained: Path) -> None:
    table = pd.read_csv(trained.parent / "load.csv")[["load", "temperature"]]
    answer = httpx.post(f"{own.url}/predict/load", json={"instances": [table.to_numpy().tolist()]}).json()
    prediction = answer["predictions"][0]
    assert len(prediction["forecast"]) == 24
    assert (prediction["unit"], prediction["step"]) == ("MW", "PT1H")


def test_a_class_of_a_stretch_over_http_and_from_the_command_line_is_what_keras_computes(
    own: Server, trained: Path
) -> None:
    import keras

    found = bundle(trained, "machine")
    table = pd.read_csv(trained.parent / "machine.csv")[["shaking", "heat"]]
    stretches = [table[start : start + 30].to_numpy().tolist() for start in range(0, 800, 100)]
    rows = found.manifest.task.parse(stretches)
    model = keras.saving.load_model(found.path / "model.keras", compile=False, safe_mode=True)
    expected = model.predict(rows, verbose=0)
    array = io.BytesIO()
    np.save(array, rows)
    for body, media in (
        (json.dumps({"instances": stretches}).encode(), "application/json"),
        (array.getvalue(), "application/x-npy"),
    ):
        answer = httpx.post(f"{own.url}/predict/machine", content=body, headers={"content-type": media})
        assert answer.status_code == 200, answer.text
        received = [[p["probabilities"][x] for x in ("sound", "worn")] for p in answer.json()["predictions"]]
        np.testing.assert_allclose(received, expected, atol=1e-5)
    printed = json.loads(command(trained, "predict", "machine", "machine.csv").stdout)
    last = model.predict(found.manifest.task.parse([table.to_numpy().tolist()]), verbose=0)[0]
    np.testing.assert_allclose([printed["probabilities"][x] for x in ("sound", "worn")], last, atol=1e-5)


def test_the_card_of_a_classifier_of_stretches_has_its_classes_and_plots(trained: Path) -> None:
    found = bundle(trained, "machine")
    card = found.read("card.md").decode()
    assert "Tells the probability of each of sound, worn from 24 steps of PT1M of shaking, heat." in card
    assert "logistic regression on window statistics" in card
    assert {"plots/confusion_matrix.png", "plots/reliability.png"} <= set(found.manifest.files)
    assert [entry["name"] for entry in found.reference()["outputs"]] == ["label", "confidence"]


def test_the_lineage_says_where_the_data_lay_and_how_to_do_it_again(trained: Path) -> None:
    lineage = bundle(trained, "churn").manifest.lineage
    assert (lineage.dataset, lineage.data_location) == ("customers", "customers.csv")
    assert lineage.command.startswith("keras-serving train dnn --name churn --data customers.csv --target churn")
    assert str(trained.parent) not in bundle(trained, "shoes").manifest.to_json().decode()


def test_no_record_of_the_data_is_in_the_example(trained: Path) -> None:
    task = bundle(trained, "churn").manifest.task
    assert isinstance(task, TabularClassification)
    table = pd.read_csv(trained.parent / "customers.csv")[list(task.names)]
    assert bundle(trained, "churn").manifest.example not in json.loads(table.to_json(orient="records"))


def test_no_picture_of_the_data_is_in_the_bundle(trained: Path) -> None:
    found = bundle(trained, "shoes")
    assert "plots/confusion_matrix.png" in found.manifest.files
    assert "plots/worst_mistakes.png" not in found.manifest.files
    assert "whom it is meant for" in found.read("card.md").decode()


def test_another_schema_under_the_same_name_needs_breaking(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*commands()["churn"], "--config", "churn.toml", "--ignore", "plan"]
    assert here(trained, *arguments) == 1
    refused = capsys.readouterr().err
    assert "--breaking" in refused
    assert "fields" in refused
    assert len(refused.strip().splitlines()) == 1
    assert here(trained, *arguments, "--breaking") == 0
    assert "to serve it: keras-serving models promote churn" in capsys.readouterr().out
