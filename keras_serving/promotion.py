"""What `train --promote` and `retrain` share: ask the gate before a version is published, and act on what it says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_serving.stores import who
from models.aliases import CANDIDATE
from models.errors import ConflictError
from models.manifest import Figure
from models.store import PRODUCTION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.bundle import Bundle
    from models.decision import Decision
    from models.store import Store
    from training.config import TrainConfig
    from training.split import Part

NOT_PROMOTED = 3
"""Exit status where the gate refused."""

_OPTIONS = (
    click.option(
        "--margin",
        type=click.FloatRange(0, 1, min_open=True),
        help="Gate: how much worse a new version may be, as a share of rows (classes) or of the error (values).  "
        "[default: 0.02 of rows, 0.05 of the error]",
    ),
    click.option(
        "--force", metavar="REASON", help="Gate: promote whatever it says; the reason is recorded with what it said."
    ),
)


def require_promote(promote: bool, output: Path | None, margin: float | None, force: str | None) -> None:
    """Refuse options of the gate where nothing is promoted.

    Raises:
        click.UsageError: Names the option and the remedy.
    """
    if promote and output is not None:
        raise click.UsageError("--promote is about the store: leave --output out.")
    for option, value in (("--margin", margin), ("--force", force)):
        if value is not None and not promote:
            raise click.UsageError(f"{option} is about the gate: give it with --promote.")
    require_reason(force)


def require_reason(force: str | None) -> None:
    """Refuse an empty reason.

    Raises:
        click.UsageError: It says nothing.
    """
    if force is not None and not force.strip():
        raise click.UsageError("--force needs the reason, for those who ask later: --force 'the old one was wrong'.")


def gate_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--margin` and `--force`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Gate:
    """Judges one new version of a name.

    Attributes:
        store: Where the version that is live lies.
        name: Of the model.
        margin: See `training.gate.decide`.
        force: The reason to promote it whatever is found; empty without one.
    """

    store: Store
    name: str
    margin: float | None = None
    force: str = ""

    def judge(self, bundle: Bundle, part: Part, outputs: NDArray[np.float32]) -> Decision | None:
        """What `training.pipeline.train` asks before it publishes; none where no version is live."""
        from training.gate import decide, lines

        target = self.store.aliases().target(self.name)
        if target is None:
            return None
        production = self.store.open(self.name, target.version)
        click.echo("gate")
        decision = decide(production, bundle, part, outputs, margin=self.margin, forced=self.force)
        for line in lines(decision):
            click.echo(f"  {line}")
        if decision.criteria:
            self._note(production, decision)
        return decision

    def _note(self, production: Bundle, decision: Decision) -> None:
        """Production's answers to held-out rows were looked at once more: a line in the ledger."""
        from training.evaluate import append_to_ledger

        found = decision.criteria[0]
        append_to_ledger(
            ledger_of(self.store),
            when=datetime.now(UTC),
            name=self.name,
            version=decision.production,
            config_sha256=production.manifest.lineage.config_sha256,
            figure=Figure(
                name=f"gate: {found.name}",
                value=found.production or 0.0,
                unit=found.unit,
                rows=decision.rows,
                higher_is_better=found.name == "accuracy",
            ),
        )

    def conclude(self, bundle: Bundle) -> int:
        """Promote a version that is in the store, or leave it as the candidate; say which and what can be done.

        Returns:
            The exit status: 0 promoted, `NOT_PROMOTED` not.

        Raises:
            ConflictError: Production moved since the gate compared.
        """
        decision, version = bundle.manifest.gate, bundle.manifest.version
        if decision is None:
            return self._first(version)
        if decision.promotes:
            self.store.set_alias(self.name, version, expect=decision.production, who=who(), reason=decision.summary)
            click.echo(f"{self.name}: {decision.production} -> {version} ({decision.summary})")
            return 0
        aliases = self.store.aliases()
        tried = aliases.target(self.name, CANDIDATE)
        click.echo(f"{self.name}: {decision.production} stays in production ({decision.summary})")
        if tried is not None and self.name in aliases.traffic:
            click.echo(f"{tried.version} is being tried as {CANDIDATE}, so {version} gets no alias")
        else:
            self.store.set_alias(self.name, version, CANDIDATE, who=who(), reason=decision.summary)
            click.echo(
                f"{version} is the {CANDIDATE}: try it with keras-serving models shadow {self.name} on, "
                f"or keras-serving models canary {self.name} 10"
            )
        return NOT_PROMOTED

    def _first(self, version: str) -> int:
        if self.store.aliases().target(self.name) is not None:
            raise ConflictError(
                f"Another version of {self.name} became the first one meanwhile, and {version} was not compared with "
                f"it. Train again, or switch: keras-serving models promote {self.name} {version}."
            )
        self.store.set_alias(self.name, version, who=who(), reason="the first version")
        click.echo(f"{self.name} {version} is the {PRODUCTION} version: try keras-serving serve")
        return 0


def ledger_of(store: Store) -> Path:
    """Where looks at test rows are written down: the package itself may be installed read-only."""
    return store.home / "EVALUATIONS.md"


def into_store(store: Store, config: TrainConfig, name: str, *, gate: Gate | None, **options: Any) -> Bundle:
    """Train, ask the gate if there is one, and put the version into the store; no alias moves.

    Args:
        store: Also keeps unfinished fits, so that the same call goes on with them.
        config: Of the run.
        name: Of the model.
        gate: Judges the version before it is published.
        options: More of `training.pipeline.train`.
    """
    from training.pipeline import train

    with tempfile.TemporaryDirectory() as folder:
        train(
            config,
            name=name,
            publish_to=Path(folder) / name,
            judge=gate.judge if gate else None,
            ledger=ledger_of(store),
            runs=store.home / "fits",
            progress=click.echo,
            **options,
        )
        return store.add(Path(folder) / name, who=who(), reason="trained")
