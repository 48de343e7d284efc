"""`python -m training.cross_validate NAME --folds 10`: a frozen recipe judged on every row of its data set.

Each fold is held out once, test rows included, so that nothing may be chosen by the figure: it is for a set whose test
part is too small to say much, beside the figure on the published split.

Nested: what answers for a fold is made of the other folds' rows as a model that ships is made of its training rows,
folds within them deciding how wide its intervals are. No row has any part in its own answer or interval.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from models import architecture
from models.errors import ConfigError
from training import baselines
from training.build import build_and_fit
from training.evaluate import Evaluation, evaluate, lines, scale_of
from training.export import predict
from training.split import Part, Split, folds

if TYPE_CHECKING:
    from models.task import Task
    from training.config import TrainConfig


def cross_validate(task: Task, split: Split, config: TrainConfig, count: int) -> Evaluation:
    """Figures of all rows, each answered by a model that did not see it, beside baselines fitted on the same folds.

    Args:
        task: What the numbers mean.
        split: Its three parts are joined.
        config: The recipe, the same in every fold; its own folds calibrate within each.
        count: Folds.

    Raises:
        ConfigError: The recipe has no folds of its own.
    """
    if not config.folds:
        raise ConfigError("folds = 0: the recipe calibrates on validation rows, and here are none. Set folds = 5.")
    joined = [split.train, split.validation, split.test]
    everything = Part(np.concatenate([p.rows for p in joined]), np.concatenate([p.values for p in joined]))
    definition = architecture(config.architecture)
    order, outputs = [], []
    simple: dict[str, list[np.ndarray]] = {}
    for train, held_out in folds(len(everything), count, seed=config.seed):
        part, rest = everything.take(train), everything.take(held_out)
        fitted = build_and_fit(definition, task, Split(part, part.take(slice(0)), rest), config)
        order.append(held_out)
        outputs.append(predict(fitted.model, rest.rows))
        for name, answer in baselines.answers(task, part, rest).items():
            simple.setdefault(name, []).append(answer)
    beside = {name: np.concatenate(answers) for name, answers in simple.items()}
    shuffled = everything.take(np.concatenate(order))
    name = f"{count}-fold"
    return evaluate(task, np.concatenate(outputs), beside, shuffled, scale=scale_of(task, everything), split=name)


@click.command()
@click.argument("name")
@click.option("--folds", "count", default=10, show_default=True, type=click.IntRange(2))
@click.option("--data-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="DATA_DIR")
def main(name: str, count: int, data_dir: Path | None) -> None:
    """Cross-validate the committed recipe NAME on all rows of its data set."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from training.config import config_path, load_config
    from training.pipeline import load_known
    from training.validation import validate

    config = load_config(config_path(name))
    loaded = load_known(config, data_dir)
    raw = validate(loaded.data.engineer(loaded.raw), loaded.data.schema())
    found = cross_validate(loaded.data.task, loaded.data.split(raw, config), config, count)
    click.echo("\n".join(lines(found.figures)))


if __name__ == "__main__":
    main()
