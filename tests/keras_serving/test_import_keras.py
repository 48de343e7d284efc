"""`models import FILE.keras`: what the numbers mean is said in a few words, and one line says what is missing."""

import shlex
from pathlib import Path

import pytest

from keras_serving.main import run
from models.store import Store
from models.task import TabularClassification

TABLE = ("--task", "tabular_classification", "--column", "age, income", "--labels", "no,yes")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import keras

    monkeypatch.setenv("SERVING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SERVING_PRETRAINED", str(tmp_path / "none"))
    keras.utils.set_random_seed(1)
    path = tmp_path / "theirs.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, activation="sigmoid")]).save(path)
    return path


def test_a_model_of_a_table_is_served_by_its_columns_and_can_be_imported_again_so(file: Path, tmp_path: Path) -> None:
    assert run(["models", "import", str(file), "--name", "churn", *TABLE, "--range=-5..120"]) == 0
    store = Store(tmp_path / "home")
    target = store.aliases().target("churn")
    assert target is not None
    manifest = store.open("churn", target.version).manifest
    assert isinstance(manifest.task, TabularClassification)
    assert [(field.name, field.low, field.high) for field in manifest.task.fields if field.kind == "number"] == [
        ("age", -5, 120),
        ("income", -5, 120),
    ]
    words = shlex.split(manifest.lineage.command)
    assert words[:6] == ["keras-serving", "models", "import", "theirs.keras", "--name", "churn"]
    said = {"--task=tabular_classification", "--column=age, income", "--labels=no,yes", "--range=-5..120"}
    assert set(words[6:]) == said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (TABLE, "--range LOW..HIGH"),
        ((*TABLE, "--range=5"), "write LOW..HIGH, two numbers"),
        ((*TABLE, "--range=5..1"), "write LOW..HIGH, two numbers"),
        (TABLE[:4], "tabular_classification needs --labels"),
        (("--labels", "no,yes"), "pictures enter as (height, width)"),
        ((*TABLE, "--schema", __file__), "leave --task out"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    file: Path, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "import", str(file), "--name", "churn", *arguments]) in {1, 2}
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert says in error[0]
