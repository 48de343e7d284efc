"""`train` without `--name`, with `--from` and with `--tensorboard`."""

from pathlib import Path

import click
import pytest

from keras_serving.begin import name_of
from keras_serving.main import run
from models.bundle import Bundle
from models.store import Store
from models.task import ImageClassification
from tests.keras_serving.conftest import Cli
from tests.training.own.made_up import shapes

TINY = 'architecture = "cnn"\n[model]\nfilters = [4]\nconvolutions = 1\n[fit]\nepochs = 1\nbatch_size = 16\n'
FROM = ("train", "cnn", "--data", "others", "--from")
SHORT = ("--set", "fit.epochs=1", "--set", "fit.batch_size=16", "--set", "transfer.frozen_epochs=1")


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of two sets of classes, and a home with a version that knows the first."""
    folder = tmp_path_factory.mktemp("user")
    shapes(folder / "My Pictures")
    (shapes(folder / "others", seed=9) / "bar").rename(folder / "others" / "line")
    (folder / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVING_HOME", str(folder / "home"))
        patch.setenv("SERVING_PRETRAINED", str(folder / "none"))
        patch.chdir(folder)
        assert run(["train", "cnn", "--data", "My Pictures", "--size", "20", "--config", "tiny.toml"]) == 0
        assert run([*FROM, "my-pictures", *SHORT, "--tensorboard", "logs"]) == 0
    return folder


@pytest.fixture
def cli(user: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("SERVING_HOME", str(user / "home"))
    monkeypatch.setenv("SERVING_PRETRAINED", str(user / "none"))
    monkeypatch.chdir(user)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = run(list(arguments))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def production(user: Path, name: str) -> Bundle:
    store = Store(user / "home")
    target = store.aliases().target(name)
    assert target is not None
    return store.open(name, target.version)


def test_without_a_name_the_model_is_called_as_its_data(user: Path) -> None:
    assert set(Store(user / "home").names()) == {"my-pictures", "others"}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("customers.csv", "customers"),
        ("Sales_2024 (final).csv", "sales-2024-final"),
        ("2024-sales.csv", "sales"),
        ("data/Über/x.csv", "x"),
        (f"{'long' * 20}.csv", "long" * 15 + "lon"),
    ],
)
def test_a_name_is_made_of_the_datas(data: str, name: str) -> None:
    assert name_of(None, "dnn", Path(data)) == name
    assert name_of("given", "dnn", Path(data)) == "given"


def test_without_data_the_name_is_the_architectures() -> None:
    assert name_of(None, "dnn", None) == "dnn"


def test_data_that_make_no_name_need_one() -> None:
    with pytest.raises(click.UsageError, match=r"2024.csv makes no name of a model: give one with --name"):
        name_of(None, "dnn", Path("2024.csv"))


def test_a_version_is_gone_on_from_in_its_own_form(user: Path) -> None:
    parent, child = production(user, "my-pictures").manifest, production(user, "others").manifest
    assert isinstance(child.task, ImageClassification)
    assert (child.task.height, child.task.width) == (20, 20)
    assert child.task.labels == ("cross", "line")
    assert child.lineage.parent == f"my-pictures:{parent.version}"
    assert child.lineage.config["model"] == parent.lineage.config["model"]
    words = f"keras-serving train cnn --name others --from my-pictures:{parent.version} --data others --set"
    assert child.lineage.command.startswith(words)


def test_the_course_of_both_parts_of_the_fit_is_there_for_tensorboard(user: Path) -> None:
    assert [len(list((user / "logs" / part).glob("events*"))) for part in ("train", "validation")] == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ((*FROM, "my-pictures", "--size", "28"), 2, "--size is that of the version that --from names. Leave it out."),
        ((*FROM, "shoes"), 2, "shoes"),
        (("train", "dnn", "--data", "others", "--from", "my-pictures"), 2, "is of the architecture cnn, not dnn"),
        ((*FROM, "my-pictures", "--set", "model.filters=[8]"), 2, "leave the settings model"),
        ((*FROM[:-1], "--set", "transfer.rate=0.1"), 2, "name it with --from"),
    ],
)
def test_what_cannot_be_gone_on_from_is_refused_in_one_line(
    cli: Cli, arguments: tuple[str, ...], status: int, says: str
) -> None:
    found, _, err = cli(*arguments)
    assert found == status
    last = [line for line in err.splitlines() if line.startswith("keras-serving: ")]
    assert len(last) == 1
    assert says in last[0]


def test_retraining_begins_again_where_the_version_began(user: Path, cli: Cli) -> None:
    before = production(user, "others").manifest
    status, out, err = cli("retrain", "others", "--force", "a test")
    assert status == 0, out + err
    after = production(user, "others").manifest
    assert after.version != before.version
    assert after.lineage.parent == before.lineage.parent
    assert after.lineage.config == before.lineage.config
    assert after.task == before.task
