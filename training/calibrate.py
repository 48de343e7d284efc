"""Make probabilities and intervals mean what they say: constants chosen on held-out rows, baked into the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.task import Classes
from training.metrics import calibration_error, log_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models import Architecture, Facts
    from models.task import Task
    from training.split import Part

_TEMPERATURES = np.geomspace(0.4, 2.5, 181)


def calibrate(definition: Architecture, task: Task, facts: Facts, held_out: Part, outputs: NDArray[Any]) -> Facts:
    """Constants for the graph, from what an uncalibrated model says of rows that it was not trained on.

    Args:
        definition: Of the model.
        task: Of the model.
        facts: That the model was built with.
        held_out: Rows and truths.
        outputs: The model's output rows for them.

    Returns:
        `temperature` for classes (1 unless another helps), `widen` for intervals.
    """
    if isinstance(task, Classes):
        return {"temperature": temperature(outputs, held_out.values)}
    ends = (held_out.values, outputs[..., 1], outputs[..., 2])
    truth, low, high = (definition.targets(task, facts, held_out.rows, end) for end in ends)
    if definition.spread is None:
        return {"widen": conformal(truth, low, high, task.coverage)}
    # All distances from the value, each in units of its row's spread: what `widen` is added to in the graph.
    value = definition.targets(task, facts, held_out.rows, outputs[..., 0])
    spread = definition.spread(task, facts, held_out.rows)
    truth, low, high = ((end - value) / spread for end in (truth, low, high))
    return {"widen": conformal(truth, low, high, task.coverage)}


def temperature(probabilities: NDArray[Any], classes: NDArray[Any]) -> float:
    """Temperature that divides the logits, or 1 where none helps.

    It must help on rows that it was not chosen on: each half of the rows judges the temperature of the other half.

    Args:
        probabilities: (n, classes).
        classes: True class numbers (n,).
    """
    halves = np.arange(len(classes)) % 2 == 0
    before = after = 0.0
    for chosen in (halves, ~halves):
        best = _best_temperature(probabilities[chosen], classes[chosen])
        before += calibration_error(probabilities[~chosen], classes[~chosen])
        after += calibration_error(cooled(probabilities[~chosen], best), classes[~chosen])
    return _best_temperature(probabilities, classes) if after < before else 1.0


def cooled(probabilities: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Probabilities after their logits are divided by a temperature."""
    powers = np.clip(probabilities.astype(np.float64), 1e-12, 1) ** (1 / temperature)
    result: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result


def _best_temperature(probabilities: NDArray[Any], classes: NDArray[Any]) -> float:
    losses = [log_loss(cooled(probabilities, candidate), classes) for candidate in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def conformal(truth: NDArray[Any], low: NDArray[Any], high: NDArray[Any], coverage: float) -> float | list[float]:
    """How far both ends move out (or in, below 0) so that intervals hold the wanted share of held-out truths.

    Conformalised quantile regression, Romano et al. 2019 (arXiv 1905.03222), equation 6.

    Args:
        truth: (n,) or (n, steps), as the layer `head` counts.
        low: The same shape.
        high: The same shape.
        coverage: 0 to 1.

    Returns:
        One distance, or one a step.
    """
    scores = np.maximum(low - truth, truth - high)
    level = min(1.0, np.ceil((len(scores) + 1) * coverage) / len(scores))
    distances = np.quantile(scores, level, axis=0, method="higher")
    return [float(distance) for distance in distances] if scores.ndim > 1 else float(distances)
