"""`keras-serving models list|show|history`: what the store holds, and what became of it."""

from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from keras_serving.live import DEFAULT_URL, ask
from keras_serving.stores import open_store, version_of
from models.aliases import CANDIDATE, Aliases
from models.errors import BundleError
from models.manifest import Manifest

_json = click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")


def print_json(document: object) -> None:
    """Write one JSON document for a program."""
    click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def print_table(table: Table) -> None:
    """Write a table: as wide as it is where no terminal says how wide that may be."""
    # What somebody wrote is shown as it is: no word in brackets is a colour.
    Console(width=None if Console().is_terminal else 200, markup=False, emoji=False).print(table)


def aliases_of(document: Aliases, name: str, version: str) -> str:
    """Aliases that point to a version, with a candidate's traffic."""
    found = []
    for alias, target in sorted(document.models.get(name, {}).items()):
        if target.version == version:
            traffic = document.traffic.get(name) if alias == CANDIDATE else None
            canary = f" {traffic.canary.percent:g} %" if traffic and traffic.canary else ""
            found.append(f"{alias}{canary}{' shadow' if traffic and traffic.shadow else ''}")
    return ", ".join(found)


def size_of(manifest: Manifest) -> int:
    """Bytes of all files, the manifest's own with them."""
    return sum(entry.bytes for entry in manifest.files.values()) + len(manifest.to_json())


@click.command("list")
@_json
def list_models(as_json: bool) -> None:
    """Show all versions and their aliases."""
    store = open_store()
    document = store.aliases()
    rows = []
    for name in store.names():
        for version in store.versions(name):
            row = {"name": name, "version": version, "alias": aliases_of(document, name, version)}
            try:
                manifest = store.manifest(name, version)
                row["kind"] = manifest.task.kind
                row["size"] = f"{size_of(manifest) / 1e6:.2f} MB"
                figure = manifest.figures[0] if manifest.figures else None
                row["figure"] = f"{figure.name} {figure.value:.4g} {figure.unit or ''}".strip() if figure else ""
            except BundleError as error:
                row |= {"kind": "", "size": "", "figure": f"unusable: {error}"}
            rows.append(row)
    if as_json:
        print_json(rows)
        return
    table = Table("model", "version", "alias", "kind", "size", "first figure", box=None)
    for row in rows:
        table.add_row(row["name"], row["version"], row["alias"], row["kind"], row["size"], row["figure"])
    print_table(table)


@click.command("show")
@click.argument("name")
@click.argument("version", required=False, metavar="[VERSION|ALIAS]")
@_json
@click.option("--url", help=f"Ask this service which version answers.  [default: {DEFAULT_URL} if one is there]")
def show(name: str, version: str | None, as_json: bool, url: str | None) -> None:
    """Show what a version of NAME is.

    Of its production version, unless VERSION or an alias is given; with what a running service makes of it.
    """
    store = open_store()
    manifest = store.manifest(name, version_of(store, name, version))
    aliases, live = aliases_of(store.aliases(), name, manifest.version), _live(manifest.name, manifest.version, url)
    if as_json:
        added = {"aliases": aliases.split(", ") if aliases else [], "bytes": size_of(manifest), "service": live}
        print_json(manifest.model_dump(mode="json") | added)
        return
    lineage = manifest.lineage
    rows = ", ".join(f"{count:,} {split}" for split, count in lineage.rows.items())
    lines = {
        "version": manifest.version,
        "aliases": aliases or "none",
        "kind": f"{manifest.task.kind}, architecture {manifest.architecture}, {manifest.parameters:,} parameters",
        "size": f"{size_of(manifest) / 1e6:.2f} MB, {len(manifest.files) + 1} files",
        "data": f"{lineage.dataset} ({rows}), sha256 {lineage.data_sha256[:12]}, from {lineage.data_location}",
        "made by": f"{lineage.command} (seed {lineage.seed}, code {lineage.code_version})",
        "made": f"{manifest.created:%Y-%m-%d %H:%M:%S} UTC, parent {lineage.parent or 'none'}",
        "gate": manifest.gate.summary if manifest.gate else "not asked",
        "service": live,
        "drift": _drift(manifest.name, manifest.version, url),
    }
    click.echo(manifest.name)
    for what, text in lines.items():
        click.echo(f"  {what:8} {text}")
    for criterion in manifest.gate.criteria if manifest.gate else ():
        click.echo(f"           {'holds' if criterion.passed else 'fails'}: {criterion.sentence}")
    click.echo()
    table = Table("figure", "value", "simpler methods, same rows", "rows", box=None)
    for figure in manifest.figures:
        beside = ", ".join(f"{method} {value:.4g}" for method, value in figure.baselines.items())
        value = f"{figure.value:.4g} {figure.unit or ''}".strip()
        table.add_row(figure.name, value, beside or "-", f"{figure.rows:,} {figure.split}")
    print_table(table)


def _live(name: str, version: str, url: str | None) -> str:
    """What a running service makes of a version, in one sentence."""
    try:
        status, document = ask(url or DEFAULT_URL, f"/models/{name}", timeout_s=5 if url else 0.5)
    except ConnectionError as error:
        return str(error) if url else f"none answers at {DEFAULT_URL}; --url names another"
    where = url or DEFAULT_URL
    if status == 404:
        return f"{where} does not serve {name}"
    answering = document.get("version") if status == 200 else None
    problem: Any = document.get("problem")
    if isinstance(problem, str):
        problem = {"version": document.get("version"), "reason": problem}
    standing = [
        f"{where} has it loaded as {alias}" if said.get("loaded") else f"{where} has not loaded it as {alias}"
        for alias, said in (document.get("aliases") or {}).items()
        if said.get("version") == version
    ]
    problems = [
        said.get("problem") for said in (document.get("aliases") or {}).values() if said.get("version") == version
    ]
    if problem and problem.get("version") == version:
        problems.append(problem.get("reason"))
    if answering == version:
        return f"{where} answers with it"
    found = standing[0] if standing else f"{where} has not loaded it"
    reasons = sorted({reason for reason in problems if reason})
    instead = f"; {answering} answers" if answering else ""
    return found + instead + (f": {'; '.join(reasons)}" if reasons else "")


def _drift(name: str, version: str, url: str | None) -> str:
    """What a running service says of a version's traffic beside its training."""
    try:
        _, document = ask(url or DEFAULT_URL, f"/models/{name}/drift", timeout_s=5 if url else 0.5)
    except ConnectionError:
        return "not known: no service answers"
    said = (found.get("summary") for found in document.get("versions") or [] if found.get("version") == version)
    return printable(str(next(said, "not known: this service does not watch it")))


def printable(text: str) -> str:
    """Text of others without line ends, and without what a terminal obeys."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


@click.command("history")
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Newest changes to show.")
@_json
def history(name: str | None, limit: int, as_json: bool) -> None:
    """Show who changed what, when.

    Of NAME or of every model, newest last.
    """
    store = open_store()
    changes = store.changes(name, limit)
    if name is not None and not changes:
        store.versions(name)
    if as_json:
        print_json([change.model_dump(mode="json") for change in changes])
        return
    table = Table("when (UTC)", "who", "what", "model", "alias", "from", "to", "reason", box=None)
    for change in changes:
        when = f"{change.when:%Y-%m-%d %H:%M:%S}"
        cells = (change.who, change.action, change.model, change.alias, change.before, change.after, change.reason)
        table.add_row(when, *(printable(cell) or "-" for cell in cells))
    print_table(table)
