"""Training that goes on from another version's weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models import HEAD, architecture
from models.bundle import KERAS, Bundle
from models.errors import BundleError, ConfigError
from models.task import Category, ImageClassification, Number, Task
from tests.bundles import CARS, CHURN, IMAGE, SERIES, STATE, make_bundle
from tests.training.made_up import tiny
from tests.training.own.made_up import shapes
from training import transfer
from training.build import build_and_fit
from training.config import TrainConfig
from training.datasets import DataError
from training.epochs import Epochs
from training.export import predict
from training.own.pictures import PictureOptions, read_pictures
from training.own.source import Options
from training.pipeline import Loaded, train
from training.split import Part
from training.transfer import Start, begun, fit_from, refuse_known, refuse_unsuited, start_from, take_weights

# Each interruption takes three fits; that compiled ones go on as well is in test_fit.py.
pytestmark = [
    pytest.mark.usefixtures("uncompiled"),
    # TensorFlow's word that it compiles what prepares the batches all the same.
    pytest.mark.filterwarnings("ignore:Even though the .tf.config:UserWarning"),
]


class PowerCutError(Exception):
    """Stands for a power cut."""


CONFIG = tiny("cnn", fit={"epochs": 2, "batch_size": 16, "warmup": 0})


def pictures(folder: Path) -> Callable[..., Loaded]:
    """A source of data as the pipeline takes it."""
    data, raw = read_pictures(folder, PictureOptions(), Options(share_rows=True, say=lambda _: None))
    return lambda config, data_dir: Loaded(data, raw, "made up")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A trained network that knows bars and crosses."""
    folder = tmp_path_factory.mktemp("parent")
    return run(folder, shapes(folder / "pictures"), CONFIG, "shapes")


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """New pictures of bars, called lines, and crosses."""
    folder = shapes(tmp_path / "others", seed=9)
    (folder / "bar").rename(folder / "line")
    return folder


def run(folder: Path, data: Path, config: TrainConfig, name: str, start: Start | None = None) -> Bundle:
    return train(
        config,
        name=name,
        publish_to=folder / name,
        load=pictures(data),
        start=start,
        ledger=folder / "EVALUATIONS.md",
        runs=folder / "runs",
        progress=lambda _: None,
    )


def network(labels: tuple[str, ...] = ("bar", "cross"), **model: Any) -> tuple[keras.Model, ImageClassification]:
    task = ImageClassification(height=28, width=28, channels=1, preparation="stretch_v1", labels=labels)
    keras.utils.set_random_seed(8)
    config = tiny("cnn", model={**tiny("cnn").model.model_dump(), **model}).model
    return architecture("cnn").build(config, task, {}), task


ROWS = np.random.default_rng(0).integers(0, 256, (24, 28, 28, 1), dtype=np.uint8)


def logits(model: keras.Model) -> np.ndarray:
    found: np.ndarray = keras.Model(model.input, model.get_layer(HEAD).output).predict(ROWS, verbose=0)
    return found


def lesson(classes: int) -> tuple[np.ndarray, np.ndarray]:
    return ROWS, np.eye(classes, dtype=np.float32)[np.arange(24) % classes]


def test_with_the_same_labels_the_network_begins_where_the_version_ended(parent: Bundle) -> None:
    model, _ = network()
    saved = keras.saving.load_model(parent.path / KERAS, compile=False, safe_mode=True)
    assert not np.allclose(logits(model), logits(saved), atol=1e-3)
    take_weights(model, start_from(parent, "cnn"), new_head=False)
    np.testing.assert_allclose(logits(model), logits(saved), atol=1e-6)


def test_a_head_for_other_labels_is_new_and_the_rest_is_the_versions(parent: Bundle) -> None:
    model, _ = network(("bar", "cross", "ring"))
    head = model.get_layer(HEAD).get_weights()[0]
    taken = take_weights(model, start_from(parent, "cnn"), new_head=True)
    saved = keras.saving.load_model(parent.path / KERAS, compile=False, safe_mode=True)
    np.testing.assert_array_equal(model.get_layer(HEAD).get_weights()[0], head)
    assert model.get_layer(HEAD) not in taken
    theirs = [layer for layer in saved.layers if layer.weights][:-1]
    for our, their in zip(taken, theirs, strict=True):
        for one, other in zip(our.get_weights(), their.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def phases(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each of the fits is asked to do, and the weights it ends with."""
    found: list[dict[str, Any]] = []
    fit = transfer.fit

    def watched(model: keras.Model, *given: Any, **options: Any) -> Any:
        trainable = {layer.name for layer in model.layers if layer.trainable_weights}
        history = fit(model, *given, **options)
        weights = {layer.name: [w.copy() for w in layer.get_weights()] for layer in model.layers if layer.weights}
        found.append({"trainable": trainable, "fit": given[2], "weights": weights})
        return history

    monkeypatch.setattr(transfer, "fit", watched)
    return found


def test_a_new_head_learns_alone_before_everything_learns_at_a_lower_rate(
    parent: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = phases(monkeypatch)
    start = start_from(parent, "cnn")
    model, task = network(("bar", "cross", "ring"))
    body = {layer.name: layer.get_weights() for layer in take_weights(model, start, new_head=True)}
    fit = {"epochs": 3, "batch_size": 8, "warmup": 0, "learning_rate": 0.01}
    config = begun(tiny("cnn", fit=fit), start, ["transfer.frozen_epochs=2", "transfer.rate=0.5"])
    history = fit_from(start, model, task, (lesson(3), lesson(3)), config, checkpoints=None)

    alone, everything = seen
    assert alone["trainable"] == {HEAD}
    assert (alone["fit"].epochs, alone["fit"].learning_rate) == (2, 0.01)
    for name, weights in body.items():
        # The moving statistics of the batch normalisation too.
        for before, after in zip(weights, alone["weights"][name], strict=True):
            np.testing.assert_array_equal(before, after)
    assert everything["trainable"] == {HEAD, *body}
    assert (everything["fit"].epochs, everything["fit"].learning_rate) == (3, 0.005)
    assert any(not np.array_equal(w[0], everything["weights"][name][0]) for name, w in body.items())
    assert len(history["loss"]) == len(history["val_loss"]) == 5


def test_with_the_same_labels_nothing_is_frozen(parent: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = phases(monkeypatch)
    start = start_from(parent, "cnn")
    model, task = network()
    history = fit_from(start, model, task, (lesson(2), None), begun(CONFIG, start), checkpoints=None)
    assert len(seen) == 1
    assert len(history["loss"]) == 2


# The head's two epochs and its end are written, then the whole network's.
@pytest.mark.parametrize("written", [1, 3, 4])
def test_an_interrupted_fit_goes_on_and_ends_as_if_it_had_not_been(
    written: int, parent: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = start_from(parent, "cnn")
    config = begun(CONFIG, start, ["transfer.frozen_epochs=2"])

    def trained(checkpoints: Path | None) -> np.ndarray:
        model, task = network(("bar", "cross", "ring"))
        fit_from(start, model, task, (lesson(3), None), config, checkpoints=checkpoints)
        return logits(model)

    whole = trained(None)
    save, saves = Epochs._save, []

    def cut(self: Epochs) -> None:
        save(self)
        saves.append(self)
        if len(saves) == written:
            raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(Epochs, "_save", cut)
        with pytest.raises(PowerCutError):
            trained(tmp_path)
    np.testing.assert_allclose(trained(tmp_path), whole, atol=1e-5)


def test_the_manifest_says_what_training_began_with_and_which_rows_that_saw(
    parent: Bundle, others: Path, tmp_path: Path
) -> None:
    start = start_from(parent, "cnn")
    config = begun(tiny("cnn", fit={"epochs": 1, "batch_size": 16}), start, ["transfer.frozen_epochs=1"])
    child = run(tmp_path, others, config, "lines", start)
    lineage = child.manifest.lineage
    assert lineage.parent == start.name == f"shapes:{parent.manifest.version}"
    assert lineage.config["transfer"] == {"parent": start.name, "frozen_epochs": 1, "rate": 0.3}
    assert f"keras-serving train cnn --name lines --from {start.name} " in lineage.command
    assert f"began with the weights of `{start.name}`" in child.read("card.md").decode()
    before, after = parent.trained_rows(), child.trained_rows()
    assert before is not None
    assert after is not None
    assert set(before.tolist()) < set(after.tolist())


def test_test_rows_that_the_version_was_trained_on_are_refused(parent: Bundle) -> None:
    data, raw = (loaded := pictures(shapes_of(parent))(CONFIG, None)).data, loaded.raw
    split = data.split(raw, CONFIG)
    start = start_from(parent, "cnn")
    assert "0.0% of the test rows" in refuse_known(start, split.test)[0]
    with pytest.raises(DataError, match="100% of the test rows were training rows of shapes:"):
        refuse_known(start, split.train)
    mixed = Part(np.concatenate([split.test.rows[:5], split.train.rows[:1]]), np.zeros(6))
    assert "16.7% of the test rows" in refuse_known(start, mixed)[0]


def shapes_of(parent: Bundle) -> Path:
    return parent.path.parent / "pictures"


def test_the_same_data_must_be_parted_as_before(parent: Bundle) -> None:
    start = start_from(parent, "cnn")
    digest = parent.manifest.lineage.data_sha256
    refuse_unsuited(start, start.task, digest, CONFIG)
    with pytest.raises(ConfigError, match=r"trained on the same data with the seed 3.*set seed = 3"):
        refuse_unsuited(start, start.task, digest, tiny("cnn", seed=4))


CAR_FIELDS = CARS.fields
GROWN = Category(name="origin", values=("usa", "europe", "japan", "korea"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (IMAGE, CARS, "image_classification became tabular_regression"),
        (IMAGE, IMAGE.model_copy(update={"height": 32}), r"picture \(28, 28, 1\) became \(32, 28, 1\)"),
        (IMAGE, IMAGE.model_copy(update={"preparation": "stretch_v1"}), "preparation 'fashion_mnist_v1' became"),
        (CARS, CARS.model_copy(update={"fields": CAR_FIELDS[:2]}), "fields"),
        (CARS, CARS.model_copy(update={"target": "price"}), "target 'mpg' became 'price'"),
        (CARS, CARS.model_copy(update={"fields": (*CAR_FIELDS[:2], GROWN)}), "values that it does not know: korea"),
        (SERIES, SERIES.model_copy(update={"horizon": 3}), "horizon 2 became 3"),
        (STATE, STATE.model_copy(update={"channels": (Number(name="heat", low=0, high=9),)}), "fields"),
    ],
)
def test_data_that_mean_something_else_are_refused(old: Task, new: Task, says: str, tmp_path: Path) -> None:
    start = Start(make_bundle(tmp_path, "old", old))
    with pytest.raises(ConfigError, match=f"trained on other data: .*{says}.*Train from scratch"):
        refuse_unsuited(start, new, "1" * 64, CONFIG)


@pytest.mark.parametrize("task", [IMAGE, CHURN, STATE], ids=lambda task: task.kind)
def test_other_classes_of_the_same_kind_of_rows_are_welcome(task: Any, tmp_path: Path) -> None:
    start = Start(make_bundle(tmp_path, "old", task))
    refuse_unsuited(start, task.model_copy(update={"labels": ("a", "b", "c", "d")}), "1" * 64, CONFIG)


def test_other_hyperparameters_are_refused_with_the_layer(parent: Bundle) -> None:
    model, _ = network(filters=[4, 16])
    with pytest.raises(ConfigError, match=r"layer .*conv2d.* has \[\(3, 3, 4, 16\)\]: leave the settings model"):
        take_weights(model, start_from(parent, "cnn"), new_head=False)
    model, _ = network(filters=[4])
    with pytest.raises(ConfigError, match="layers with weights, this network"):
        take_weights(model, start_from(parent, "cnn"), new_head=False)


def test_the_hyperparameters_are_the_versions_unless_a_file_says_others(parent: Bundle) -> None:
    start = start_from(parent, "cnn")
    other = tiny("cnn", model={"filters": [32]})
    assert begun(other, start).model.model_dump()["filters"] == (4, 8)
    assert begun(other, start, keep_model=True).model.model_dump()["filters"] == (32,)


def test_a_configuration_that_names_a_version_does_not_begin_from_scratch(parent: Bundle) -> None:
    config = begun(CONFIG, start_from(parent, "cnn"))
    data, raw = (loaded := pictures(shapes_of(parent))(config, None)).data, loaded.raw
    with pytest.raises(ConfigError, match=r"transfer.parent is 'shapes:.*': begin with that version, with --from"):
        build_and_fit(architecture("cnn"), data.task, data.split(raw, config), config)


def test_another_architecture_is_refused(parent: Bundle) -> None:
    with pytest.raises(ConfigError, match="is of the architecture cnn, not dnn: train cnn"):
        start_from(parent, "dnn")


def test_an_altered_version_is_never_deserialised(parent: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("manifest.json", *parent.manifest.files):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((parent.path / name).read_bytes())
    altered = bytearray((folder / KERAS).read_bytes())
    altered[100] ^= 1
    (folder / KERAS).write_bytes(altered)
    with pytest.raises(BundleError, match=r"model.keras does not match the manifest's sha256"):
        start_from(Bundle.open(folder), "cnn")
    # Altered after it was verified: the bytes that are loaded are verified again.
    with pytest.raises(BundleError, match=r"model.keras does not match"):
        take_weights(network()[0], replace(start_from(parent, "cnn"), bundle=Bundle.open(folder)), new_head=False)


@pytest.mark.parametrize("name", ["dnn", "regressor", "lstm"])
def test_tables_and_series_begin_with_every_weight_and_constants_of_the_new_rows(name: str, tmp_path: Path) -> None:
    task: Task = SERIES if name == "lstm" else CARS
    rng = np.random.default_rng(0)
    rows = rng.uniform(20, 40, (80, *task.input_shape)).astype(np.float32)
    if name != "lstm":
        rows[:, 2] = np.arange(80) % 3
    values = rows[:, -2:, 0] + 1 if name == "lstm" else rows[:, 0] / 10
    definition = architecture(name)
    config = definition.config_class.model_validate({"members": 2} if name != "dnn" else {"units": [8]})

    def built(part: slice) -> keras.Model:
        return definition.build(config, task, definition.facts(config, task, rows[part], values[part]))

    old, new = built(slice(40)), built(slice(40, 80))
    old.set_weights([w + 0.05 for w in old.get_weights()])
    bundle = saved(old, task, name, tmp_path)
    ridge = [layer.get_weights()[0].copy() for layer in new.layers if layer.name == "ridge"]
    take_weights(new, Start(bundle), new_head=False)
    shared = [(a, b) for a, b in zip(new.layers, old.layers, strict=True) if a.weights and a.trainable]
    assert shared
    for our, their in shared:
        for one, other in zip(our.get_weights(), their.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    for layer in (layer for layer in new.layers if layer.name == "ridge"):
        np.testing.assert_array_equal(layer.get_weights()[0], ridge[0])
    assert np.isfinite(predict(new, rows)).all()


def saved(model: keras.Model, task: Task, name: str, folder: Path) -> Bundle:
    """A bundle with a real Keras file."""
    made = make_bundle(folder, "old", task)
    model.save(made.path / KERAS)
    return made.resealed(made.path, architecture=name)
