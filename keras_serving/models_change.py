"""`keras-serving models promote|rollback|label|unlabel|canary|shadow|seed|delete|prune`: what changes the store."""

import contextlib

import click
from pydantic import ValidationError

from keras_serving.chosen import chosen_settings
from keras_serving.stores import open_store, rehearse, version_of, who
from models.aliases import CANDIDATE, PRODUCTION, Canary, Traffic
from models.errors import BundleError, UnknownModelError
from models.store import Store
from models.task.changes import breaking

_reason = click.option("--reason", default="", help="For the log of changes.")


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("--alias", default=PRODUCTION, show_default=True, help="Which alias to move.")
@click.option("--expect", metavar="VERSION", help="Only if the alias points to this version now.")
@_reason
def promote(name: str, version: str, alias: str, expect: str | None, reason: str) -> None:
    """Switch production of NAME to VERSION.

    VERSION may be an alias, such as `candidate`, for what it points to. Its files and golden rows are checked first.
    Running servers follow within a second.
    """
    store = open_store()
    switch(store, name, version_of(store, name, version), alias=alias, expect=expect, reason=reason)


def switch(store: Store, name: str, version: str, *, alias: str, expect: str | None, reason: str) -> None:
    """Check a version, point an alias to it, and say from where.

    Raises:
        ConflictError: The alias moved meanwhile, or points to something other than ``expect``.
    """
    before = store.aliases().target(name, alias)
    bundle = store.afresh(name, version)
    rehearse(bundle)
    if alias == PRODUCTION and before is not None:
        # What is live may be damaged: one more reason to switch.
        with contextlib.suppress(BundleError, UnknownModelError):
            for change in breaking(store.open(name, before.version).manifest.task, bundle.manifest.task):
                click.echo(f"clients will notice: {change}", err=True)
    # What was there before the check is what is switched from: another change in between is a conflict.
    expect = expect or (before.version if before else None)
    store.set_alias(name, version, alias, expect=expect, who=who(), reason=reason)
    where = "" if alias == PRODUCTION else f" {alias}"
    click.echo(f"{name}{where}: {before.version if before else 'nothing'} -> {version}")


@click.command()
@click.argument("name")
@click.option("--expect", metavar="VERSION", help="Only if this is the production version now.")
@_reason
def rollback(name: str, expect: str | None, reason: str) -> None:
    """Switch production of NAME back.

    To what it was before; again for the one before that.
    """
    store = open_store()
    before = store.aliases().target(name)
    after = store.rollback(name, expect=expect or (before.version if before else None), who=who(), reason=reason)
    target = after.target(name)
    click.echo(f"{name}: {before.version if before else 'nothing'} -> {target.version if target else 'nothing'}")


@click.command()
@click.argument("name")
@click.argument("version")
@click.argument("alias", metavar="LABEL")
@click.option("--expect", metavar="VERSION", help="Only if the label points to this version now.")
@_reason
def label(name: str, version: str, alias: str, expect: str | None, reason: str) -> None:
    """Let LABEL of NAME point to VERSION.

    Servers load it, and /predict/NAME?label=LABEL asks it. The label `candidate` is the one that canary and shadow
    are about.
    """
    if alias == PRODUCTION:
        raise click.UsageError(f"production is switched by keras-serving models promote {name} {version}.")
    store = open_store()
    switch(store, name, version_of(store, name, version), alias=alias, expect=expect, reason=reason)


@click.command()
@click.argument("name")
@click.argument("alias", metavar="LABEL")
@_reason
def unlabel(name: str, alias: str, reason: str) -> None:
    """Take LABEL of NAME away.

    Canary and shadow end with the label `candidate`.
    """
    if alias == PRODUCTION:
        raise click.UsageError("production is what answers. Switch it: keras-serving models promote or rollback.")
    store = open_store()
    before = store.aliases().target(name, alias)
    store.remove_alias(name, alias, who=who(), reason=reason)
    click.echo(f"{name} {alias}: {before.version if before else 'nothing'} -> nothing")


@click.command()
@click.argument("name")
@click.argument("percent", metavar="PERCENT|off")
@click.option("--requests", type=int, help="Its requests in one worker before each judgement.  [default: 500]")
@click.option("--error-factor", type=float, help="Taken back above production's error rate times this.  [default: 2]")
@click.option("--p99-factor", type=float, help="Taken back above production's p99 times this.  [default: 2]")
@_reason
def canary(name: str, percent: str, reason: str, **judged: float | None) -> None:
    """Let NAME's candidate answer a share.

    PERCENT of the requests, at most 50; `off` ends it. It is taken back by itself when its error rate or its 99th
    percentile of latency is worse than production's by more than a factor.
    """
    given = {option: value for option, value in judged.items() if value is not None}
    if percent == "off":
        if given:
            raise click.UsageError("off takes no --requests, --error-factor or --p99-factor.")
        chosen = None
    else:
        try:
            chosen = Canary.model_validate({"percent": percent, **given})
        except ValidationError as error:
            first = error.errors()[0]
            where = str(first["loc"][0]).replace("_", "-")
            where = "PERCENT" if where == "percent" else f"--{where}"
            remedy = " Give a number above 0 up to 50, or off." if where == "PERCENT" else ""
            raise click.UsageError(f"{where}: {first['msg']}. Received: {first['input']!r}.{remedy}") from None
    _set_traffic(name, reason, canary=chosen)


@click.command()
@click.argument("name")
@click.argument("state", type=click.Choice(["on", "off"]), default="on")
@_reason
def shadow(name: str, state: str, reason: str) -> None:
    """Run batches on NAME's candidate too.

    Production's batches, off the request path. Answers never change; `keras-serving models compare-live NAME` tells
    how the two agree.
    """
    _set_traffic(name, reason, shadow=state == "on")


def _set_traffic(name: str, reason: str, **change: object) -> None:
    """Change canary or shadow, and leave the other as it is."""
    store = open_store()
    store.versions(name)
    document = store.aliases()
    before = document.traffic.get(name, Traffic())
    candidate = document.target(name, CANDIDATE)
    traffic = before.model_copy(update=change)
    expect = candidate.version if candidate else None
    store.set_traffic(name, traffic, expect=expect, instead_of=before, who=who(), reason=reason)
    version = f" {candidate.version}" if candidate else ""
    click.echo(f"{name} candidate{version}: {before or 'no traffic'} -> {traffic or 'no traffic'}")


@click.command()
@click.argument("name")
@click.argument("version")
@_reason
def delete(name: str, version: str, reason: str) -> None:
    """Delete VERSION of NAME.

    What an alias or a rollback needs is refused.
    """
    open_store().delete(name, version, who=who(), reason=reason)
    click.echo(f"{name}: {version} is deleted")


@click.command()
def seed() -> None:
    """Add the models that ship with this program.

    To a store that a fleet shares, where nothing is added by itself; those whose name is new there are served at once.
    """
    store = open_store()
    seeded = store.seed(chosen_settings().pretrained)
    for tag in seeded.added:
        click.echo(f"{tag} is in the store{', and waits for models promote' if tag in seeded.waiting else ''}")
    for name, why in seeded.failed.items():
        click.echo(f"shipped bundle {name} is left out: {why}", err=True)
    if not seeded.added:
        click.echo("nothing to add")


@click.command()
@click.argument("name", required=False)
@click.option("--keep", type=click.IntRange(1), default=5, show_default=True, help="Newest versions to keep.")
def prune(name: str | None, keep: int) -> None:
    """Delete the oldest versions.

    Of NAME, or of every model; never what an alias or a rollback needs.
    """
    store = open_store()
    for each in [name] if name else store.names():
        gone = store.prune(each, keep, who=who())
        click.echo(f"{each}: deleted {', '.join(gone)}" if gone else f"{each}: nothing to delete")
