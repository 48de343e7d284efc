"""`keras-serving compare`: combinations checked first, held-out figures only, and no fit is done twice."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keras_serving.main import run
from models.errors import ConfigError
from tests.training.made_up import load
from training import compare, compare_report
from training.compare import Run, plan, results

RECIPE = """architecture = "dnn"
[model]
units = [8]
[fit]
epochs = 2
batch_size = 32
learning_rate = 0.003
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_every_combination_is_planned_with_every_seed(recipe: Path) -> None:
    runs = plan([recipe], ["optimizer=sgd,adamw", "model.units=[8],[8, 4]"], settings=["epochs=1"], seeds=3)
    assert len(runs) == 2 * 2 * 3
    assert [run.config.seed for run in runs[:3]] == [1, 2, 3]
    assert runs[0].label == "optimizer sgd, units [8]"
    assert runs[-1].config.model.model_dump()["units"] == (8, 4)
    assert {run.config.fit.epochs for run in runs} == {1}
    # The recipe's rate is its optimizer's.
    assert (runs[0].config.fit.learning_rate, runs[-1].config.fit.learning_rate) == (0.1, 0.003)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("optimiser=sgd,adam", "no setting 'optimiser'; known: .*fit.optimizer"),
        ("loss=auto,mse", "is not for classes"),
        ("seed=1,2", "--seeds"),
    ],
)
def test_a_wrong_comparison_is_refused_before_the_first_fit(recipe: Path, over: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan([recipe], [over])


def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    assert run(["compare", "dnn", "--over", "optimiser=sgd", "--output", output]) == 2
    assert run(["compare", "transformer", "--output", output]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 2
    assert "no setting 'optimiser'" in error[0]
    assert "Known: cnn, dnn" in error[1]


def test_train_takes_single_settings_and_refuses_a_wrong_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["train", "dnn", "--set", "fit.loss=mse", "--output", str(tmp_path / "out")]) == 2
    assert "set one of categorical_crossentropy" in capsys.readouterr().err


# TensorFlow's word that it compiles what prepares the batches all the same.
@pytest.mark.filterwarnings("ignore:Even though the .tf.config:UserWarning")
@pytest.mark.usefixtures("uncompiled")
def test_an_interrupted_comparison_goes_on_without_fitting_again(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = plan([recipe], ["activation=relu,tanh"], seeds=2)
    folder, fits = tmp_path / "out", []
    monkeypatch.setattr(compare, "_fit", _counted(fits, stop_at=3))
    with pytest.raises(KeyboardInterrupt):
        list(results(runs, folder, load=load, progress=lambda _: None))
    assert len(list((folder / "runs").glob("*.json"))) == 2

    said: list[str] = []
    found = list(results(runs, folder, load=load, progress=said.append))
    assert len(fits) == 3 + 2
    assert "[1/4] activation relu, seed 1" in said[0]
    assert "of an earlier call" in said[1]
    assert "of an earlier call" not in said[2]

    assert {result.figure for result in found} == {"accuracy"}
    assert all(len(result.history["val_accuracy"]) == 2 for result in found)
    compare_report.write(folder, found, command="the command")
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert text.count("| activation ") == 2
    assert text.count("**") == 2
    assert "the command" in text
    assert 5_000 < (folder / "curves.png").stat().st_size < 80_000


# TensorFlow's word that it compiles what prepares the batches all the same.
@pytest.mark.filterwarnings("ignore:Even though the .tf.config:UserWarning")
@pytest.mark.usefixtures("uncompiled")
def test_ctrl_c_shows_the_table_so_far_and_how_much_is_done(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare, "_fit", _counted([], stop_at=4))
    monkeypatch.setattr("training.pipeline.load_known", load)
    words = ["compare", "dnn", "--config", str(recipe), "--over", "activation=relu,tanh,gelu", "--seeds", "2"]
    assert run([*words, "--output", str(tmp_path / "out")]) == 130
    printed = capsys.readouterr()
    assert "[3/6] activation tanh, seed 1" in printed.out
    assert "3 of 6 runs are done:" in printed.out
    rows = [line for line in printed.out.splitlines() if line.startswith("| activation ")]
    assert [row.split(" | ")[3] for row in rows] == ["2", "1"]
    assert "The same command goes on from here." in printed.out
    assert printed.err == "keras-serving: interrupted\n"


def test_the_time_that_is_left_is_that_of_the_runs_of_this_call() -> None:
    assert compare._left(3, [20.0, 60.0]) == "; about 2 min left"
    assert compare._left(1, [20.0]) == "; about 20 s left"
    assert compare._left(0, [20.0]) == compare._left(3, []) == ""


def _counted(fits: list[Run], *, stop_at: int) -> Callable[..., compare.Result]:
    fit = compare._fit

    def counted(one: Run, data: compare._Data, checkpoints: Path) -> compare.Result:
        fits.append(one)
        if len(fits) == stop_at:
            raise KeyboardInterrupt
        return fit(one, data, checkpoints)

    return counted
