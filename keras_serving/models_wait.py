"""`keras-serving models wait`: until every worker of a running service serves what the store says."""

from time import monotonic, sleep
from typing import Any

import click

from keras_serving.live import DEFAULT_URL, ask
from keras_serving.models_look import printable
from keras_serving.stores import open_store
from models.store import PRODUCTION, Target

_LOOK_S = 0.1


@click.command("wait")
@click.argument("name")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="The running service.")
@click.option("--timeout", type=click.FloatRange(0, 3600), default=60, show_default=True, help="Seconds.")
def wait(name: str, url: str, timeout: float) -> None:
    """Wait until a service follows the store.

    Until every worker of it has loaded what NAME's aliases point to now, so that whatever request comes next is
    answered by these versions. The exit status is 1 where one of them cannot be loaded, or the time is over.
    """
    store = open_store()
    document = store.aliases()
    if document.target(name) is None:
        store.versions(name)  # Says which models there are.
        raise click.UsageError(f"{name} has no {PRODUCTION} version, so no service serves it.")
    deadline = monotonic() + timeout
    while True:
        try:
            status, found = ask(url, f"/models/{name}")
        except ConnectionError as error:
            raise click.ClickException(f"{error}. Start one, or say where it is with --url.") from None
        missing = _missing(document.models[name], document.revision, status, found)
        if not missing:
            break
        if monotonic() >= deadline:
            raise click.ClickException(f"{url} does not follow within {timeout:g} s: {printable(missing)}")
        sleep(_LOOK_S)
    serves = ", ".join(f"{target.version} ({alias})" for alias, target in sorted(document.models[name].items()))
    click.echo(f"every worker of {url} has {name} {serves}")


def _missing(wanted: dict[str, Target], revision: int, status: int, found: dict[str, Any]) -> str:
    """What a service does not have yet; empty where it has everything.

    Raises:
        click.ClickException: It cannot load a version.
    """
    if status != 200:
        return f"it says {status}: {found.get('detail') or found.get('problem') or 'nothing more'}"
    seen = found.get("revision")
    if not isinstance(seen, int) or seen < revision:
        return f"it has seen revision {seen} of the aliases, not {revision}"
    aliases: dict[str, Any] = found.get("aliases", {})
    waiting = []
    for alias, target in sorted(wanted.items()):
        said = aliases.get(alias, {})
        if said.get("version") != target.version:
            moved = printable(str(said.get("version") or "nothing"))
            raise click.ClickException(f"{alias} has moved on to {moved} meanwhile")
        if "problem" in said:
            raise click.ClickException(
                f"{target.version} ({alias}) cannot be loaded: {printable(str(said['problem']))}"
            )
        if not said.get("in_all_workers"):
            waiting.append(f"{target.version} ({alias}) is not in all workers")
    return ", ".join(waiting)
