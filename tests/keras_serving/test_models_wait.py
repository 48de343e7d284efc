"""`models wait`: until every worker follows, or why one does not. Services give canned answers."""

import json
from typing import Any

import pytest

from models.store import Store
from tests.e2e.server import free_port
from tests.keras_serving.conftest import Cli
from tests.keras_serving.test_models_live import answering


@pytest.fixture
def found(store: Store, versions: list[str]) -> dict[str, Any]:
    """What a service says that has everything."""
    store.set_alias("cars", versions[1], "candidate")
    has = {"loaded": True, "in_all_workers": True}
    aliases = {"production": {"version": versions[0], **has}, "candidate": {"version": versions[1], **has}}
    return {"name": "cars", "revision": store.aliases().revision, "aliases": aliases}


def waits(cli: Cli, found: dict[str, Any], status: int = 200) -> tuple[int, str]:
    with answering(status, json.dumps(found).encode()) as url:
        code, out, err = cli("models", "wait", "cars", "--url", url, "--timeout", "0.2")
    return code, (out + err).replace(url, "URL")


def test_a_service_that_has_everything_is_waited_for_no_longer(
    cli: Cli, found: dict[str, Any], versions: list[str]
) -> None:
    told = f"every worker of URL has cars {versions[1]} (candidate), {versions[0]} (production)\n"
    assert waits(cli, found) == (0, told)
    assert waits(cli, found | {"revision": 99}) == (0, told), "another model changed meanwhile"


@pytest.mark.parametrize("member", ["in_all_workers", "revision"])
def test_one_that_does_not_follow_in_time_is_an_error(
    cli: Cli, found: dict[str, Any], versions: list[str], member: str
) -> None:
    if member == "revision":
        found["revision"] -= 1
        reason = f"it has seen revision {found['revision']} of the aliases, not {found['revision'] + 1}"
    else:
        found["aliases"]["candidate"][member] = False
        reason = f"{versions[1]} (candidate) is not in all workers"
    code, told = waits(cli, found)
    assert (code, f"does not follow within 0.2 s: {reason}" in told) == (1, True), told


def test_a_version_that_cannot_be_loaded_is_told_at_once(cli: Cli, found: dict[str, Any], versions: list[str]) -> None:
    found["aliases"]["candidate"] = {"version": versions[1], "loaded": False, "problem": "no \x1b[31m memory"}
    code, told = waits(cli, found)
    assert (code, f"{versions[1]} (candidate) cannot be loaded: no [31m memory" in told) == (1, True), told


def test_an_alias_that_somebody_moved_meanwhile_is_told_at_once(
    cli: Cli, found: dict[str, Any], versions: list[str]
) -> None:
    found["aliases"]["candidate"]["version"] = versions[2]
    code, told = waits(cli, found)
    assert (code, f"candidate has moved on to {versions[2]} meanwhile" in told) == (1, True), told


def test_what_the_service_refuses_is_told(cli: Cli, found: dict[str, Any]) -> None:
    code, told = waits(cli, {"detail": "Unknown model 'cars'."}, status=404)
    assert (code, "it says 404: Unknown model 'cars'." in told) == (1, True), told


def test_what_nobody_serves_is_not_waited_for(cli: Cli, store: Store, versions: list[str]) -> None:
    store.remove_alias("cars", "production")
    status, _, err = cli("models", "wait", "cars")
    assert (status, "cars has no production version" in err) == (2, True)
    status, _, err = cli("models", "wait", "trains")
    assert (status, "Unknown model 'trains'" in err) == (2, True)
    assert cli("models", "wait", "cars", "--timeout", "-1")[0] == 2


def test_without_a_service_it_says_how_to_name_one(cli: Cli, versions: list[str]) -> None:
    status, _, err = cli("models", "wait", "cars", "--url", f"http://127.0.0.1:{free_port()}")
    assert (status, "--url" in err) == (1, True)
