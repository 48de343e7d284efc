"""`keras-serving models compare-live`: what a running service has measured of a candidate in the shadow."""

from typing import Any

import click
from rich.table import Table

from keras_serving.live import DEFAULT_URL, ask
from keras_serving.models_look import print_json, print_table


@click.command("compare-live")
@click.argument("name")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="The running service.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def compare_live(name: str, url: str, as_json: bool) -> None:
    """Show how NAME's candidate agrees with production on the requests of a running service, over all its workers.

    Begin with `keras-serving models shadow NAME on`.
    """
    try:
        status, found = ask(url, f"/models/{name}/compare")
    except ConnectionError as error:
        raise click.ClickException(f"{error}. Start one, or say where it is with --url.") from None
    if status != 200:
        raise click.ClickException(f"{url} says {status}: {found.get('detail', 'nothing more')}")
    if as_json:
        print_json(found)
        return
    if not found["shadow"]:
        raise click.ClickException(
            f"{name} has no shadow now. Begin one: keras-serving models label {name} VERSION candidate, "
            f"then keras-serving models shadow {name} on."
        )
    print_table(_table(found))


def _table(found: dict[str, Any]) -> Table:
    rows, distance, latency = found["rows"], found["distance"], found["batch_latency_ms"]
    table = Table(found["model"], "production", "candidate", "together", box=None)
    table.add_row("version", found["production"], found["candidate"] or "none", "")
    table.add_row("latency of a batch, ms", _number(latency["production"]), _number(latency["candidate"]), "")
    table.add_row("rows compared", "", "", str(rows["compared"]))
    table.add_row(f"agree ({found['agreement_tolerance']})", "", "", _number(found["agreement"], "{:.2%}"))
    table.add_row("distance, mean", "", "", _number(distance["mean"]))
    table.add_row("distance, largest", "", "", _number(distance["max"]))
    table.add_row("rows that the candidate failed", "", "", str(rows["failed"]))
    table.add_row("rows shed, not to slow production", "", "", str(rows["shed"]))
    return table


def _number(value: float | None, form: str = "{:.4g}") -> str:
    return "-" if value is None else form.format(value)
