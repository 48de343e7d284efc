"""Turn a fitted model into a sealed bundle: complete and verified before it gets its name."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.bundle import GOLDEN, REFERENCE, TRAINED_ROWS, Bundle
from models.engines import check_golden, open_engine
from models.manifest import Lineage
from models.task import Classes
from training.config import config_path, load_config, settings_between
from training.export import LIMIT, export, predict
from training.fingerprints import trained_on
from training.golden import example, golden_rows
from training.parts import parts, recurrence
from training.plots import write_plots
from training.reference import reference, reference_rows
from training.report import classes_section, layers_section, parts_section, write_card

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from models.decision import Decision
    from models.task import Task
    from training.build import Fitted
    from training.config import TrainConfig
    from training.datasets import DataSet
    from training.evaluate import Evaluation
    from training.split import Split


@dataclass(frozen=True)
class Run:
    """One run of the pipeline: what the lineage says beside the configuration.

    Attributes:
        name: Of the model.
        config: Everything that decides the run, data apart.
        data: That it is trained on.
        location: Where the data lay, without a path of this machine.
        started: UTC.
        parent: `name:version` that it follows, if any.
        inherited: Fingerprints of the rows behind the weights that the training began with, if it began with any.
    """

    name: str
    config: TrainConfig
    data: DataSet
    location: str
    started: datetime
    parent: str | None = None
    inherited: NDArray[np.uint32] | None = None


def publish(
    run: Run,
    fitted: Fitted,
    split: Split,
    evaluation: Evaluation,
    destination: Path,
    *,
    judge: Callable[[Bundle], Decision | None] | None = None,
) -> Bundle:
    """Write, seal, verify and only then move a bundle to its place.

    Args:
        run: Where it comes from.
        fitted: The model.
        split: For golden rows, reference statistics and plots.
        evaluation: On test rows.
        destination: The folder that becomes the bundle; an older bundle there is replaced.
        judge: Decides about the sealed bundle before it is published; what it says becomes part of the manifest.

    Raises:
        ExportError: The graphs disagree or cannot be served.
        EngineError: The sealed bundle does not answer its golden rows as training saw them.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{run.name}-") as temporary:
        staging = Path(temporary) / "bundle"
        staging.mkdir()
        _write(staging, run, fitted, split, evaluation)
        bundle = Bundle.seal(
            staging,
            name=run.name,
            architecture=run.config.architecture,
            task=run.data.task,
            figures=evaluation.figures + fitted.held_out,
            parameters=fitted.model.count_params(),
            lineage=lineage(run, split),
            example=example(run.data.task, split.validation, synthetic=not run.data.derivatives),
            golden_tolerance=LIMIT,
        )
        bundle.verify()
        engine = open_engine(bundle)
        check_golden(engine, bundle)
        engine.close()
        if judge is not None and (decision := judge(bundle)) is not None:
            bundle = bundle.judged(decision)
        if destination.exists():
            destination.rename(Path(temporary) / "replaced")
        staging.rename(destination)
    return Bundle(destination, bundle.manifest)


def _write(staging: Path, run: Run, fitted: Fitted, split: Split, evaluation: Evaluation) -> None:
    task = run.data.task
    golden = golden_rows(task, split.validation, synthetic=not run.data.derivatives, seed=run.config.seed)
    outputs = export(fitted.model, staging, golden)
    np.savez_compressed(staging / GOLDEN, rows=golden, outputs=outputs)
    np.save(staging / TRAINED_ROWS, trained_on((split.train, split.validation), run.inherited), allow_pickle=False)
    rows = reference_rows(task, split)
    statistics = reference(task, rows, predict(fitted.model, rows))
    (staging / REFERENCE).write_text(json.dumps(statistics) + "\n", encoding="utf-8")
    write_plots(
        staging, task, fitted.history, evaluation, split.test, golden=(golden, outputs), share_rows=run.data.derivatives
    )
    write_card(
        staging,
        name=run.name,
        data=run.data,
        task=task,
        figures=evaluation.figures + fitted.held_out,
        lineage=lineage(run, split),
        parameters=fitted.model.count_params(),
        facts=calibration(fitted),
        notice="" if run.config.folds else recurrence(task, fitted.model, split.validation),
        sections=sections(task, fitted, split, evaluation, folds=run.config.folds),
    )


def sections(task: Task, fitted: Fitted, split: Split, evaluation: Evaluation, *, folds: int) -> list[str]:
    """The card's sections on classes, parts and layers."""
    found = [layers_section(fitted.model)]
    # With folds, the last fit saw every row but the test's: none is left to take parts away on.
    if not folds:
        figure, without = parts(task, fitted.model, fitted.facts, split.validation)
        found[:0] = [parts_section(without, figure)] if without else []
    if isinstance(task, Classes):
        found.insert(0, classes_section(task.labels, evaluation.outputs, split.test.values))
    return found


def calibration(fitted: Fitted) -> str:
    """One sentence on the constants in the graph."""
    if "widen" in fitted.facts:
        return "The interval was made to hold its share on held-out rows; its coverage on test rows is above."
    temperature = fitted.facts["temperature"]
    if temperature == 1:
        return "No temperature improved the calibration on validation rows, so none is applied."
    return f"The logits are divided by a temperature of {temperature:.3f}, chosen on validation rows."


def lineage(run: Run, split: Split) -> Lineage:
    """What the manifest says of where a version comes from."""
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    return Lineage(
        dataset=run.data.name,
        data_sha256=run.data.sha256,
        data_location=run.location,
        rows={name: len(part) for name, part in parts.items()},
        config=run.config.model_dump(mode="json"),
        config_sha256=run.config.sha256,
        seed=run.config.seed,
        code_version=code_version(),
        parent=run.parent,
        command=command(run),
        started=run.started,
        finished=datetime.now(UTC),
    )


def command(run: Run) -> str:
    """The command that runs the pipeline so again."""
    config = run.config
    architecture = config.architecture
    began = ["--from", config.transfer.parent] if config.transfer.parent else []
    if run.data.options:
        return " ".join(["keras-serving", "train", architecture, "--name", run.name, *began, *run.data.options])
    words = ["keras-serving", "train", architecture]
    if run.name != architecture:
        words += ["--name", run.name]
    stems = [architecture, *sorted(file.stem for file in config_path(architecture).parent.glob("*.toml"))]
    stem = next((s for s in stems if load_config(config_path(s)).sha256 == config.sha256), None)
    if stem == architecture:
        return " ".join(words)
    if stem:
        return " ".join([*words, "--config", f"training/configs/{stem}.toml"])
    changed = settings_between(load_config(config_path(architecture)), config)
    return " ".join([*words, *began, *(word for setting in changed for word in ("--set", shlex.quote(setting)))])


def code_version() -> str:
    """Commit of this checkout, with "+" where the code differs from it; else the package's version."""
    root = Path(__file__).parent.parent
    if (root / ".git").exists() and (commit := _git(root, "rev-parse", "--short=12", "HEAD")):
        changed = _git(root, "status", "--porcelain", "--", "models/*.py", "models/task", "models/zoo", "training")
        return f"{commit}+" if changed else commit
    try:
        return version("keras-serving")
    except PackageNotFoundError:
        return "unknown"


def _git(root: Path, *arguments: str) -> str:
    """What git says, or nothing where it cannot be asked."""
    git = shutil.which("git")
    if git is None:
        return ""
    run = subprocess.run([git, *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603 - fixed
    return run.stdout.strip() if run.returncode == 0 else ""
