"""`keras-serving models ...`: versions and aliases."""

import click
import orjson
from rich.console import Console
from rich.table import Table

from models.bundle import Bundle
from models.errors import BundleError
from models.store import PRODUCTION, Store
from service.settings import Settings


def open_store() -> Store:
    """The store that the environment names, with the shipped bundles in it."""
    settings = Settings.load()
    store = Store(settings.home)
    for name, reason in store.seed(settings.pretrained).failed.items():
        click.echo(f"shipped bundle {name} is left out: {reason}", err=True)
    return store


@click.group("models")
def models_group() -> None:
    """List, show and switch versions."""


@models_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def list_models(as_json: bool) -> None:
    """Show every version in the store; what is served carries an alias."""
    store = open_store()
    aliases = store.aliases()
    rows = []
    for name in store.names():
        pointed = {target.version: alias for alias, target in aliases.models.get(name, {}).items()}
        for version in store.versions(name):
            row = {"name": name, "version": version, "alias": pointed.get(version, "")}
            try:
                manifest = store.open(name, version).manifest
                row["kind"] = manifest.task.kind
                figure = manifest.figures[0] if manifest.figures else None
                row["figure"] = f"{figure.name} {figure.value:.4g} {figure.unit or ''}".strip() if figure else ""
            except BundleError as error:
                row |= {"kind": "", "figure": f"unusable: {error}"}
            rows.append(row)
    if as_json:
        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
        return
    table = Table("model", "version", "alias", "kind", "first figure", box=None)
    for row in rows:
        table.add_row(row["name"], row["version"], row["alias"], row["kind"], row["figure"])
    Console(width=None if Console().is_terminal else 200).print(table)


@models_group.command("show")
@click.argument("name")
@click.argument("version", required=False)
def show_model(name: str, version: str | None) -> None:
    """Show the manifest of NAME, of its production version unless VERSION is given."""
    store = open_store()
    click.echo(
        orjson.dumps(find_bundle(store, name, version).manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    )


@models_group.command("promote")
@click.argument("name")
@click.argument("version")
def promote(name: str, version: str) -> None:
    """Make VERSION the production version of NAME; running servers follow within a second."""
    store = open_store()
    before = store.aliases().target(name)
    store.set_alias(name, version)
    click.echo(f"{name}: {before.version if before else 'nothing'} -> {version}")


def find_bundle(store: Store, name: str, version: str | None) -> Bundle:
    """The bundle of ``version``, or of the production version."""
    versions = store.versions(name)
    target = store.aliases().target(name)
    if version is None and target is None:
        raise click.UsageError(f"{name} has no {PRODUCTION} version. Versions: {', '.join(versions) or 'none'}.")
    return store.open(name, version or target.version)  # type: ignore[union-attr]
