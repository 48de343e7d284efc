"""An alias document that is damaged: what is served stays, it is said what is wrong, and a mended one is followed."""

import json
from pathlib import Path

import httpx
import pytest

from tests.e2e.server import running
from tests.figures import Figure
from tests.reliability.faults import answers, problems, two_versions
from tests.reliability.probe import until


@pytest.mark.reliability(
    31, "damaged alias document: the old versions answer, metrics and log say so, a mended one is followed"
)
def test_a_damaged_alias_document_changes_nothing_and_a_mended_one_is_followed(tmp_path: Path, figure: Figure) -> None:
    home = tmp_path / "home"
    old, new = two_versions(tmp_path, home)
    document = home / "aliases.json"
    good = document.read_bytes()
    whole = json.loads(good)
    missing = {"version": "20300101-000000-00000000", "digest": "0" * 64}
    damaged = {
        "truncated": (good[: len(good) // 2], "is not valid at document"),
        "empty": (b"", "is not valid at document"),
        "zeros, as after a crash": (bytes(len(good)), "is not valid at document"),
        "nothing said": (b"{}", "is not valid at revision: it is missing"),
        "wrong types": (json.dumps(whole | {"models": {"cars": {"production": 7}}}).encode(), "is not valid at models"),
        "of a later release": (
            json.dumps(whole | {"document_version": 2}).encode(),
            "is not valid at document_version",
        ),
    }

    def put(data: bytes) -> None:
        (home / "next").write_bytes(data)
        (home / "next").replace(document)

    with running(home, pretrained=tmp_path / "none") as server:
        served = {(200, old.manifest.version)}
        for data, said in damaged.values():
            put(data)
            until(lambda said=said: said in problems(server).get("aliases", ""))  # type: ignore[misc]
            assert "Restore it from a backup" in problems(server)["aliases"]
            assert answers(server, 5) == served
            assert httpx.get(f"{server.url}/readyz").status_code == 200
        until(lambda: server.metric("serving_store_reachable") == 0)
        assert server.text.count("what is served stays as it is: aliases.json is not valid") >= 4

        # It can be read, and names what is not there: a load that fails.
        put(json.dumps(whole | {"models": {"cars": {"production": missing}}, "revision": 50}).encode())
        until(lambda: server.metric("serving_model_reloads_total", model="cars", result="failure") == 1)
        assert missing["version"] in problems(server)["cars"]
        assert answers(server, 5) == served

        target = {"version": new.manifest.version, "digest": new.manifest.digest}
        put(json.dumps(whole | {"models": {"cars": {"production": target}}, "revision": 51}).encode())
        seconds = until(lambda: answers(server, 1) == {(200, new.manifest.version)})
        until(lambda: not problems(server))
        until(lambda: server.metric("serving_store_reachable") == 1)
    figure(f"{len(damaged) + 1} kinds of damage; the mended one was followed after {seconds:.2f} s")
