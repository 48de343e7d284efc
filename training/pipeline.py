"""The stages from data to bundle, in order."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import architecture
from training import baselines
from training.analysis import analyse
from training.build import build_and_fit
from training.datasets import DataSet, Raw, data_set, find
from training.evaluate import append_to_ledger, evaluate, lines, scale_of
from training.export import predict
from training.publish import Run, publish
from training.soundness import refuse_unsound
from training.transfer import refuse_known, refuse_unsuited
from training.validation import validate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.bundle import Bundle
    from models.decision import Decision
    from training.config import TrainConfig
    from training.split import Part
    from training.transfer import Start

    Judge = Callable[[Bundle, Part, NDArray[Any]], Decision | None]
    """Sealed bundle, test rows, what its Keras model says of them -> a decision; none where there is none to make."""

LEDGER = Path(__file__).parent.parent / "models" / "pretrained" / "EVALUATIONS.md"


@dataclass(frozen=True)
class Loaded:
    """A data set as read, and where it lay."""

    data: DataSet
    raw: Raw
    location: str


def train(
    config: TrainConfig,
    *,
    name: str,
    publish_to: Path,
    data_dir: Path | None = None,
    load: Callable[..., Loaded] | None = None,
    parent: str | None = None,
    start: Start | None = None,
    judge: Judge | None = None,
    ledger: Path = LEDGER,
    runs: Path = Path("runs"),
    tensorboard: Path | None = None,
    progress: Callable[[str], None] = print,
) -> Bundle:
    """Train a model and publish it as a bundle.

    Args:
        config: Everything that decides the run, data apart.
        name: Of the model.
        publish_to: The folder that becomes the bundle; it is replaced only when the new one is complete and verified.
        data_dir: Folder that may hold the data's files (DATA_DIR).
        load: Another source of data: `(config, data_dir) -> Loaded`.
        parent: `name:version` that this one is to follow, for the lineage.
        start: The version whose weights training goes on from, as the configuration says; then it is the parent.
        judge: Decides about the bundle before it is published; its decision becomes part of the manifest.
        ledger: Markdown file that gets one row for the look at the test rows.
        runs: Folder that keeps an unfinished fit, so that the same call goes on with it.
        tensorboard: Folder for the course of the fit; see `training.tensorboard`.
        progress: Gets each line for a person.

    Raises:
        DataError: Data missing, altered or broken.
        ConfigError: A choice, or a version to begin with, that does not suit the data.
        ExportError: The graphs disagree or cannot be served; nothing was published.
    """
    started = datetime.now(UTC)
    definition = architecture(config.architecture)
    stage = _Stages(progress)

    stage("load")
    loaded = (load or load_known)(config, data_dir)
    data, raw = loaded.data, loaded.raw
    if start is not None:
        refuse_unsuited(start, data.task, data.sha256, config)

    stage("analyse")
    stage.say(analyse(raw))

    stage("engineer features")
    raw = data.engineer(raw)

    stage("validate data")
    raw = validate(raw, data.schema())

    stage("split")
    split = data.split(raw, config).fewer(config.train_rows, seed=config.seed)
    refuse_unsound(data.task, split)
    if start is not None:
        stage.say(refuse_known(start, split.test))
    stage.say([f"{len(split.train):,} training, {len(split.validation):,} validation, {len(split.test):,} test rows"])

    stage("build and fit")
    checkpoints = runs / f"{config.architecture}-{config.sha256[:12]}-{data.sha256[:8]}"
    fitted = build_and_fit(
        definition, data.task, split, config, checkpoints=checkpoints, tensorboard=tensorboard, start=start
    )
    stage.say(lines(fitted.held_out))

    stage("evaluate")
    simple = baselines.answers(data.task, fitted.trained_on, split.test)
    outputs = predict(fitted.model, split.test.rows)
    evaluation = evaluate(data.task, outputs, simple, split.test, scale=scale_of(data.task, fitted.trained_on))
    stage.say(lines(evaluation.figures))

    stage("publish")
    inherited = start.bundle.trained_rows() if start else None
    run = Run(name, config, data, loaded.location, started, start.name if start else parent, inherited)
    version = "not published"
    try:
        decide = (lambda bundle: judge(bundle, split.test, outputs)) if judge else None
        bundle = publish(run, fitted, split, evaluation, publish_to, judge=decide)
        version = bundle.manifest.version
    finally:
        # The test rows were looked at, whatever became of the bundle.
        append_to_ledger(
            ledger,
            when=started,
            name=name,
            version=version,
            config_sha256=config.sha256,
            figure=evaluation.figures[0],
        )
    shutil.rmtree(checkpoints, ignore_errors=True)
    stage.say([f"{name} {version}, {sum(file.bytes for file in bundle.manifest.files.values()):,} bytes"])
    return bundle


def load_known(config: TrainConfig, data_dir: Path | None) -> Loaded:
    """The configuration's data set, found and checked by its hash."""
    data = data_set(config.dataset)
    source = find(data, data_dir=data_dir)
    return Loaded(data, data.read(source.paths), source.location)


class _Stages:
    """Says which stage begins, and what it found."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.progress = progress

    def __call__(self, name: str) -> None:
        self.progress(name)

    def say(self, found: Iterable[str]) -> None:
        for line in found:
            self.progress(f"  {line}")
