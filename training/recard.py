"""`python -m training.recard BUNDLE`: the card and plots of a known set's bundle again, as today's code writes them.

Weights, golden rows, figures and version stay. The model answers the test rows once more for the plots, and what it
says must give the figure that was published: nothing could be chosen by it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from models.bundle import KERAS, Bundle
from training import baselines
from training.build import Fitted
from training.evaluate import evaluate, scale_of
from training.export import predict
from training.plots import write_plots
from training.publish import calibration, sections
from training.report import write_card

if TYPE_CHECKING:
    import keras

    from models import Facts
    from training.datasets import DataSet, Raw


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

    from training.config import TrainConfig
    from training.validation import validate

    bundle = Bundle.open(path)
    manifest, task = bundle.manifest, data.task
    config = TrainConfig.model_validate(manifest.lineage.config)
    split = data.split(validate(data.engineer(raw), data.schema()), config)
    model = keras.saving.load_model(path / KERAS, compile=False, safe_mode=True)
    simple = baselines.answers(task, split.train, split.test)
    evaluation = evaluate(task, predict(model, split.test.rows), simple, split.test, scale=scale_of(task, split.train))
    if abs(evaluation.figures[0].value - manifest.figures[0].value) > 1e-4:
        raise click.ClickException(
            f"{manifest.figures[0].name} was published as {manifest.figures[0].value}. Received: "
            f"{evaluation.figures[0].value}. The data or the code differ; train again."
        )
    fitted = Fitted(model, _facts(model), {}, (), split.train)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as temporary:
        staging = Path(temporary) / "bundle"
        shutil.copytree(path, staging)
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
            sections=sections(task, fitted, split, evaluation, folds=config.folds),
        )
        sealed = Bundle.seal(
            staging,
            name=manifest.name,
            architecture=manifest.architecture,
            task=manifest.task,
            figures=manifest.figures,
            parameters=manifest.parameters,
            lineage=manifest.lineage,
            example=manifest.example,
            golden_tolerance=manifest.golden_tolerance,
            created=manifest.created,
        )
        sealed.verify()
        path.rename(Path(temporary) / "replaced")
        staging.rename(path)
    return Bundle.open(path)


def _facts(model: keras.Model) -> Facts:
    """The constants that the card names, from the graph."""
    names = {layer.name for layer in model.layers}
    return {"temperature": 1 / model.get_layer("temperature").scale} if "temperature" in names else {"widen": None}


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--data-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="DATA_DIR")
def main(bundle: Path, data_dir: Path | None) -> None:
    """Write the card and plots of BUNDLE again."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from training.datasets import data_set, find

    data = data_set(Bundle.open(bundle).manifest.lineage.dataset)
    done = recard(bundle, data, data.read(find(data, data_dir=data_dir).paths))
    click.echo(f"{done.manifest.name} {done.manifest.version}: card and plots written")


if __name__ == "__main__":
    main()
