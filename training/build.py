"""Build, fit and calibrate: what training rows and held-out rows decide, before any look at test rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.errors import ConfigError
from training import baselines
from training.calibrate import calibrate
from training.evaluate import evaluate, scale_of
from training.export import predict
from training.fit import History, fit, seed_everything
from training.split import Part, folds
from training.transfer import fit_from

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from models import Architecture, Facts
    from models.manifest import Figure
    from models.task import Task
    from training.config import TrainConfig
    from training.split import Split
    from training.transfer import Start


@dataclass(frozen=True)
class Fitted:
    """A calibrated model, and what is known of it without the test rows.

    Attributes:
        model: From rows to output rows.
        facts: The constants in its graph.
        history: Losses by epoch; of a cross-validated fit the folds' mean.
        held_out: Figures on rows that the weights never saw. The calibration did, where there are no folds.
        trained_on: The rows of the final fit.
    """

    model: keras.Model
    facts: Facts
    history: History
    held_out: tuple[Figure, ...]
    trained_on: Part


def build_and_fit(
    definition: Architecture,
    task: Task,
    split: Split,
    config: TrainConfig,
    *,
    checkpoints: Path | None = None,
    tensorboard: Path | None = None,
    start: Start | None = None,
) -> Fitted:
    """Fit on the training rows, from scratch or from a version's weights, and calibrate on held-out ones.

    With folds, training and validation rows are one: each fold is held out once, all held-out answers calibrate, and
    one more fit sees every row.

    Raises:
        ConfigError: Another version to begin with than the configuration says.
    """
    if config.transfer.parent != (start.name if start else ""):
        raise ConfigError(f"transfer.parent is {config.transfer.parent!r}: begin with that version, with --from")
    if config.folds:
        return _cross_fitted(definition, task, split, config, checkpoints, tensorboard=tensorboard)
    held_out = split.validation
    facts, model, history = fit_once(
        definition, task, config, (split.train, held_out), checkpoints, tensorboard=tensorboard, start=start
    )
    outputs = predict(model, held_out.rows)
    facts = {**facts, **calibrate(definition, task, facts, held_out, outputs)}
    model = _rebuilt(definition, task, config, facts, model)
    scale = scale_of(task, split.train)
    figures = evaluate(task, predict(model, held_out.rows), {}, held_out, scale=scale, split="validation")
    return Fitted(model, facts, history, figures.figures, split.train)


def _cross_fitted(
    definition: Architecture,
    task: Task,
    split: Split,
    config: TrainConfig,
    checkpoints: Path | None,
    *,
    tensorboard: Path | None,
) -> Fitted:
    everything = Part(
        np.concatenate([split.train.rows, split.validation.rows]),
        np.concatenate([split.train.values, split.validation.values]),
    )
    order, outputs, histories = [], [], []
    answers: dict[str, list[NDArray[np.float64]]] = {}
    for number, (train, held_out) in enumerate(folds(len(everything), config.folds, seed=config.seed), 1):
        part, rest = everything.take(train), everything.take(held_out)
        fold = tensorboard / f"fold-{number}" if tensorboard else None
        _, model, history = fit_once(definition, task, config, (part, rest), None, tensorboard=fold)
        order.append(held_out)
        outputs.append(predict(model, rest.rows))
        histories.append(history)
        for name, answer in baselines.answers(task, part, rest).items():
            answers.setdefault(name, []).append(answer)
    shuffled = everything.take(np.concatenate(order))
    simple = {name: np.concatenate(answer) for name, answer in answers.items()}

    facts, model, _ = fit_once(definition, task, config, (everything, None), checkpoints, tensorboard=tensorboard)
    constants = calibrate(definition, task, facts, shuffled, np.concatenate(outputs))
    facts = {**facts, **constants}
    model = _rebuilt(definition, task, config, facts, model)
    name = f"{config.folds}-fold training"
    figures = evaluate(task, np.concatenate(outputs), simple, shuffled, scale=scale_of(task, everything), split=name)
    mean = {key: np.mean([h[key] for h in histories], axis=0).tolist() for key in histories[0]}
    # The headline only: these intervals are not calibrated yet.
    return Fitted(model, facts, mean, figures.figures[:1], everything)


def fit_once(
    definition: Architecture,
    task: Task,
    config: TrainConfig,
    parts: tuple[Part, Part | None],
    checkpoints: Path | None,
    *,
    tensorboard: Path | None = None,
    start: Start | None = None,
) -> tuple[Facts, keras.Model, History]:
    """Fit on the first of `parts`, watched on the second; not calibrated."""
    train, held_out = parts
    seed_everything(config.seed, deterministic=config.fit.deterministic)
    facts = definition.facts(config.model, task, train.rows, train.values)
    model = definition.build(config.model, task, facts)

    def lesson(part: Part) -> tuple[NDArray[Any], NDArray[np.float32]]:
        return part.rows, definition.targets(task, facts, part.rows, part.values)

    lessons = lesson(train), lesson(held_out) if held_out else None
    if start is None:
        history = fit(model, *lessons, config.fit, seed=config.seed, checkpoints=checkpoints, tensorboard=tensorboard)
    else:
        history = fit_from(start, model, task, lessons, config, checkpoints=checkpoints, tensorboard=tensorboard)
    return facts, model, history


def _rebuilt(
    definition: Architecture, task: Task, config: TrainConfig, facts: Facts, fitted: keras.Model
) -> keras.Model:
    """The same weights in a graph with other constants."""
    model = definition.build(config.model, task, facts)
    model.set_weights(fitted.get_weights())
    return model
