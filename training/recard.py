"""`python -m training.recard BUNDLE`: the card and plots of a known set's bundle again, as today's code writes them.

Weights, golden rows, figures and version stay. The model answers the test rows once more for the plots, and what it
says must give the figure that was published: nothing could be chosen by it. The fingerprints of the rows that it was
trained on are written too; with `--rows-only` or `--reference-only` nothing but these or the reference statistics of
the inputs is, and no test row is looked at.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from models.bundle import KERAS, REFERENCE, TRAINED_ROWS, Bundle
from training import baselines
from training.build import Fitted
from training.evaluate import evaluate, scale_of
from training.export import predict
from training.fingerprints import trained_on
from training.parts import recurrence
from training.plots import write_plots
from training.publish import calibration, sections
from training.reference import inputs, reference_rows
from training.report import write_card

if TYPE_CHECKING:
    from collections.abc import Iterator

    import keras

    from models import Facts
    from training.config import TrainConfig
    from training.datasets import DataSet, Raw
    from training.split import Split


def recard(path: Path, data: DataSet, raw: Raw) -> Bundle:
    """Replace a bundle's card and plots; the learning curve stays, since nothing else holds it.

    Args:
        path: The bundle; replaced when the new one is verified.
        data: That it was trained on.
        raw: As it was read.

    Raises:
        click.ClickException: The model no longer gives the figure that was published.
    """
    import keras

    bundle = Bundle.open(path)
    manifest, task = bundle.manifest, data.task
    config, split = split_of(bundle, data, raw)
    model = keras.saving.load_model(path / KERAS, compile=False, safe_mode=True)
    simple = baselines.answers(task, split.train, split.test)
    evaluation = evaluate(task, predict(model, split.test.rows), simple, split.test, scale=scale_of(task, split.train))
    if abs(evaluation.figures[0].value - manifest.figures[0].value) > 1e-4:
        raise click.ClickException(
            f"{manifest.figures[0].name} was published as {manifest.figures[0].value}. Received: "
            f"{evaluation.figures[0].value}. The data or the code differ; train again."
        )
    fitted = Fitted(model, _facts(model), {}, (), split.train)
    with _replacing(bundle) as staging:
        for plot in (staging / "plots").glob("*.png"):
            if plot.stem != "learning_curve":
                plot.unlink()
        write_plots(staging, task, {}, evaluation, split.test, golden=bundle.golden())
        write_card(
            staging,
            name=manifest.name,
            data=data,
            task=task,
            figures=manifest.figures,
            lineage=manifest.lineage,
            parameters=manifest.parameters,
            facts=calibration(fitted),
            notice="" if config.folds else recurrence(task, model, split.validation),
            sections=sections(task, fitted, split, evaluation, folds=config.folds),
        )
        _write_rows(staging, split)
    return Bundle.open(path)


def add_rows(path: Path, data: DataSet, raw: Raw) -> Bundle:
    """Give a bundle the fingerprints of the rows that it was trained on; everything else stays.

    Args:
        path: The bundle; replaced when the new one is verified.
        data: That it was trained on.
        raw: As it was read.

    Raises:
        click.ClickException: The data part into other numbers of rows than the lineage says.
    """
    bundle = Bundle.open(path)
    _, split = split_of(bundle, data, raw)
    with _replacing(bundle) as staging:
        _write_rows(staging, split)
    return Bundle.open(path)


def add_reference(path: Path, data: DataSet, raw: Raw) -> Bundle:
    """Give a bundle the reference statistics of inputs that today's code records; those of its answers stay.

    Args:
        path: The bundle; replaced when the new one is verified.
        data: That it was trained on.
        raw: As it was read.

    Raises:
        click.ClickException: The data part into other rows, or what was recorded comes out differently.
    """
    bundle = Bundle.open(path)
    recorded, task = bundle.reference(), bundle.manifest.task
    found = inputs(task, reference_rows(task, split_of(bundle, data, raw)[1]))
    news = {entry["name"]: entry for entry in found}
    for entry in recorded["inputs"]:
        if {key: news[entry["name"]].get(key) for key in entry} != entry:
            raise click.ClickException(
                f"{entry['name']}: the recorded statistics must come out again. Received: others. "
                "The data or the code differ; train again."
            )
    with _replacing(bundle) as staging:
        (staging / REFERENCE).write_text(json.dumps(recorded | {"inputs": found}) + "\n", encoding="utf-8")
    return Bundle.open(path)


def split_of(bundle: Bundle, data: DataSet, raw: Raw) -> tuple[TrainConfig, Split]:
    """The recorded configuration, and the split that it made of the data."""
    from training.config import TrainConfig
    from training.validation import validate

    lineage = bundle.manifest.lineage
    config = TrainConfig.model_validate(lineage.config)
    split = data.split(validate(data.engineer(raw), data.schema()), config).fewer(config.train_rows, seed=config.seed)
    rows = {"train": len(split.train), "validation": len(split.validation), "test": len(split.test)}
    if (rows, data.sha256) != (lineage.rows, lineage.data_sha256):
        raise click.ClickException(
            f"the bundle was trained on {lineage.rows} of data {lineage.data_sha256[:12]}. Received: {rows} "
            f"of {data.sha256[:12]}. The data or the code differ; train again."
        )
    return config, split


def _write_rows(staging: Path, split: Split) -> None:
    np.save(staging / TRAINED_ROWS, trained_on((split.train, split.validation)), allow_pickle=False)


@contextmanager
def _replacing(bundle: Bundle) -> Iterator[Path]:
    """A copy of a bundle; what is changed there is sealed as the same version, verified, and takes its place."""
    path, gate = bundle.path, bundle.manifest.gate
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as temporary:
        staging = Path(temporary) / "bundle"
        shutil.copytree(path, staging)
        yield staging
        sealed = bundle.resealed(staging)
        if gate is not None:
            sealed = sealed.judged(gate)
        sealed.verify()
        path.rename(Path(temporary) / "replaced")
        staging.rename(path)


def _facts(model: keras.Model) -> Facts:
    """The constants that the card names, from the graph."""
    names = {layer.name for layer in model.layers}
    return {"temperature": 1 / model.get_layer("temperature").scale} if "temperature" in names else {"widen": None}


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--data-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="DATA_DIR")
@click.option("--rows-only", is_flag=True, help="Write only the fingerprints of the rows that it was trained on.")
@click.option("--reference-only", is_flag=True, help="Write only the reference statistics of the inputs.")
def main(bundle: Path, data_dir: Path | None, *, rows_only: bool, reference_only: bool) -> None:
    """Write the card, plots and fingerprints of BUNDLE again."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from training.datasets import data_set, find

    data = data_set(Bundle.open(bundle).manifest.lineage.dataset)
    write, what = recard, "card, plots and fingerprints"
    if rows_only:
        write, what = add_rows, "fingerprints"
    elif reference_only:
        write, what = add_reference, "reference statistics"
    done = write(bundle, data, data.read(find(data, data_dir=data_dir).paths))
    click.echo(f"{done.manifest.name} {done.manifest.version}: {what} written")


if __name__ == "__main__":
    main()
