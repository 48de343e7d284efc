"""`keras-serving models diff A B`: what is different about two versions."""

from typing import Any

import click
from rich.table import Table

from keras_serving.models_look import print_json, print_table, size_of
from keras_serving.stores import open_store, refer
from models.bundle import Bundle
from models.manifest import Manifest
from models.task.changes import breaking


@click.command("diff")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
def diff(first: str, second: str, as_json: bool) -> None:
    """Compare version A with version B.

    Each is NAME, NAME:VERSION, NAME:ALIAS, or a bundle's folder.
    """
    store = open_store()
    a, b = refer(store, first), refer(store, second)
    found = difference(a, b)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found['a']} -> {found['b']}")
    for change in found["clients_notice"]:
        click.echo(f"  clients notice: {change}")
    if not found["clients_notice"]:
        click.echo(f"  schema and labels: {'the same' if found['same_task'] else 'different, but no client notices'}")
    table = Table("", "A", "B", "B - A", box=None)
    for row in found["figures"]:
        name = f"{row['name']} ({row['split']}, {row['unit'] or 'ratio'})"
        by = "" if row["difference"] is None else f"{row['difference']:+.4g} {row['better'] or ''}".strip()
        if by and not row["same_rows"]:
            by += ", on other rows"
        table.add_row(name, _number(row["a"]), _number(row["b"]), by)
    for part in ("facts", "config"):
        for key, (before, after) in found[part].items():
            table.add_row(key, _text(before), _text(after), "")
    print_table(table)


def difference(a: Bundle, b: Bundle) -> dict[str, Any]:
    """What `diff` prints, as one document; facts and configuration hold what differs alone."""
    old, new = a.manifest, b.manifest
    config = [flat(m.lineage.config) for m in (old, new)]
    facts = [_facts(bundle) for bundle in (a, b)]
    return {
        "a": f"{old.name}:{old.version}",
        "b": f"{new.name}:{new.version}",
        "same_task": old.task == new.task,
        "clients_notice": breaking(old.task, new.task),
        "figures": _figures(old, new),
        "facts": _differing(*facts),
        "config": _differing(*config),
    }


def _facts(bundle: Bundle) -> dict[str, Any]:
    manifest, lineage = bundle.manifest, bundle.manifest.lineage
    return {
        "architecture": manifest.architecture,
        "parameters": manifest.parameters,
        "size in bytes": size_of(manifest),
        "engine": "onnx" if bundle.has_onnx else "tensorflow",
        "dataset": lineage.dataset,
        "data sha256": lineage.data_sha256,
        **{f"{split} rows": rows for split, rows in lineage.rows.items()},
        "seed": lineage.seed,
        "parent": lineage.parent,
        "code": lineage.code_version,
        "made": manifest.created.isoformat(),
    }


def flat(config: object, prefix: str = "") -> dict[str, Any]:
    """Nested members as ``outer.inner`` keys."""
    if not isinstance(config, dict):
        return {prefix: config}
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else key)
    return found


def _differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, list[Any]]:
    return {key: [a.get(key), b.get(key)] for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)}


def _figures(old: Manifest, new: Manifest) -> list[dict[str, Any]]:
    """Figures of both, matched by what they measure, and whether they were measured on the same rows."""
    before, after = ({(f.name, f.unit, f.split): f for f in m.figures} for m in (old, new))
    same_data = old.lineage.data_sha256 == new.lineage.data_sha256
    found = []
    for key in dict.fromkeys([*before, *after]):
        a, b = before.get(key), after.get(key)
        row: dict[str, Any] = {"name": key[0], "unit": key[1], "split": key[2]}
        row |= {"a": a.value if a else None, "b": b.value if b else None, "difference": None, "better": None}
        if a and b:
            row["difference"] = b.value - a.value
            if a.value != b.value:
                row["better"] = "better" if (b.value > a.value) == b.higher_is_better else "worse"
        row["same_rows"] = bool(a and b and a.rows == b.rows and same_data)
        found.append(row)
    return found


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _text(value: object) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
