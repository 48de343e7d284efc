"""The gate: a new version goes live when it is not worse than production on rows that neither was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.decision import Decision
from models.engines import check_golden, open_engine
from models.errors import BundleError, EngineError, InputError
from models.task import Classes, SequenceForecast
from models.task.changes import breaking
from models.task.sequences import Sequences
from training import gate_criteria as criteria
from training.fingerprints import fingerprints
from training.gate_criteria import BATCH, CLASS_MARGIN, VALUE_MARGIN, Answers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.bundle import Bundle
    from models.decision import Criterion
    from models.engines import Engine
    from models.task import Task
    from training.split import Part

FORCE = "Or promote it all the same: --force REASON."


def decide(
    production: Bundle,
    candidate: Bundle,
    held_out: Part,
    keras: NDArray[np.float32],
    *,
    margin: float | None = None,
    forced: str = "",
) -> Decision:
    """Compare two versions by what they serve.

    Args:
        production: The version that is live.
        candidate: The new one.
        held_out: Rows as the new one takes them; of a series in time order.
        keras: What the new version's Keras model says of them.
        margin: How much worse it may be: share of rows for classes, share of the error for values; by default
            `CLASS_MARGIN` or `VALUE_MARGIN`.
        forced: The reason to promote it whatever is found.

    A version that cannot be read or run is no error but a refusal: the training that went before it is not lost by it.
    """
    task = candidate.manifest.task
    margin = margin or (CLASS_MARGIN if isinstance(task, Classes) else VALUE_MARGIN)
    chosen = np.zeros(len(held_out), bool)
    found: tuple[Criterion, ...] = ()
    try:
        refused = incomparable(production, candidate)
        if not refused:
            chosen = independent(production, candidate, held_out.rows)
            refused = _too_few(task, held_out, chosen, margin)
        if not refused:
            found = _criteria(production, candidate, held_out.take(chosen), keras[chosen], margin)
    except (BundleError, EngineError) as error:
        refused = f"{error} {FORCE}"
    rows = int(chosen.sum())
    return Decision(
        production=production.manifest.version,
        rows=rows,
        left_out=len(held_out) - rows,
        margin=margin,
        criteria=found,
        refused=refused,
        forced=forced,
    )


def incomparable(production: Bundle, candidate: Bundle) -> str:
    """Why no row can compare the two, with the remedy; empty where rows can."""
    old, new = production.manifest, candidate.manifest
    changes = breaking(old.task, new.task)
    if not changes and old.task.input_shape != new.task.input_shape:
        changes = [f"rows of {old.task.input_shape} became {new.task.input_shape}"]
    if changes:
        return f"the schema changed ({'; '.join(changes)}), so the two cannot answer the same rows. {FORCE}"
    if old.lineage.dataset != new.lineage.dataset:
        return (
            f"production was trained on {old.lineage.dataset!r}, this version on {new.lineage.dataset!r}. If they are "
            f"the same data: keras-serving retrain {old.name} --data FILE. {FORCE}"
        )
    for bundle in (production, candidate):
        if bundle.trained_rows() is None:
            return (
                f"{bundle.manifest.version} does not say which rows it was trained on, so that none is known to be "
                f"new to it. Train it again from its data. {FORCE}"
            )
    return ""


def independent(production: Bundle, candidate: Bundle, rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows neither version was trained on, and both accept.

    Windows of a series overlap: the truth of a window that begins less than a horizon after a trained one was, in part,
    seen in training. So such windows are left out, and the first ones too, since nothing is known of those before.
    """
    task = production.manifest.task
    numbers = fingerprints(rows)
    known = np.zeros(len(rows), bool)
    for bundle in (production, candidate):
        trained = bundle.trained_rows()
        known |= np.isin(numbers, trained) if trained is not None else True
    if isinstance(task, SequenceForecast):
        for start in np.flatnonzero(np.concatenate([[True], known])) - 1:
            known[max(0, start) : start + task.horizon] = True
    return ~known & _accepted(task, rows)


def _accepted(task: Task, rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows the schema takes: grown data may have a value or a category that production refuses."""

    def takes(chosen: NDArray[Any]) -> bool:
        try:
            task.accept(chosen)
        except InputError:
            return False
        return True

    if takes(rows):
        return np.ones(len(rows), bool)
    return np.array([takes(row) for row in rows], bool)


def _too_few(task: Task, held_out: Part, chosen: NDArray[np.bool_], margin: float) -> str:
    """Why these rows say nothing, with the remedy; empty where they do."""
    block, rows = criteria.dependent(task, held_out.take(chosen)), int(chosen.sum())
    needed = criteria.rows_needed(task, block, margin)
    if rows >= needed:
        return ""
    what = "windows of the series" if isinstance(task, Sequences) else "held-out rows"
    wider = ", or allow a wider --margin" if isinstance(task, Classes) and block == 1 else ""
    return (
        f"{rows} of {len(held_out)} {what} are new to both versions; at a margin of {margin:g} at least {needed} are "
        f"needed. Add data{wider}. {FORCE}"
    )


def _criteria(
    production: Bundle, candidate: Bundle, part: Part, keras: NDArray[np.float32], margin: float
) -> tuple[Criterion, ...]:
    bundles = (production, candidate)
    engines = (open_engine(production), open_engine(candidate))
    try:
        task = candidate.manifest.task
        before, after = (_run(engine, bundle, part.rows) for engine, bundle in zip(engines, bundles, strict=True))
        answers = Answers(task, part.values, before, after, criteria.dependent(task, part))
        return (
            criteria.quality(answers, margin),
            criteria.parity(answers.candidate, keras, check_golden(engines[1], candidate)),
            criteria.calibration(answers),
            criteria.latency(engines, part.rows[:1]),
            criteria.latency(engines, part.rows[:BATCH]),
        )
    finally:
        for engine in engines:
            engine.close()


def _run(engine: Engine, bundle: Bundle, rows: NDArray[Any]) -> NDArray[np.float32]:
    outputs = np.concatenate([engine.run(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)])
    if not np.isfinite(outputs).all():
        row = int(np.argwhere(~np.isfinite(outputs))[0][0])
        raise EngineError(f"{bundle.manifest.version} answers held-out row {row} with no finite number.")
    return outputs


def lines(decision: Decision) -> list[str]:
    """A table of the criteria with a sentence each, and the verdict, for a person."""
    left_out = f", {decision.left_out} left out" if decision.left_out else ""
    found = [f"beside {decision.production} on {decision.rows} rows that neither was trained on{left_out}"]
    if decision.criteria:
        found.append(f"{'':20}{'production':>12}{'new':>12}{'found':>12}{'limit':>12}")
    for criterion in decision.criteria:
        figures = (criterion.production, criterion.candidate, criterion.value, criterion.limit)
        cells = "".join(f"{'' if figure is None else f'{figure:.4g}':>12}" for figure in figures)
        found += [f"{criterion.name:20}{cells}  {'holds' if criterion.passed else 'FAILS'}", f"  {criterion.sentence}"]
    if decision.refused:
        found.append(f"cannot be compared: {decision.refused}")
    if decision.forced:
        return [*found, f"forced: {decision.forced}"]
    return [*found, "passed" if decision.passed else "refused"]
