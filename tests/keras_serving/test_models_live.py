"""`keras-serving models` beside running services and beside each other."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from models.store import Store
from tests.e2e.server import free_port
from tests.keras_serving.conftest import Cli


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """URL of a service that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_show_says_what_moved_since_the_training_in_the_services_words(cli: Cli, versions: list[str]) -> None:
    moved = "weight: values are 286 lb higher than in training (mean 2,990 -> 3,277); PSI 0.29, major."
    other = {"version": "20200101-000000-00000000", "summary": "another one"}
    document = {"version": versions[0], "versions": [other, {"version": versions[0], "summary": moved}]}
    with answering(200, json.dumps(document).encode()) as url:
        assert moved in cli("models", "show", "cars", "--url", url)[1]
    with answering(200, json.dumps({"version": versions[0]}).encode()) as url:
        assert "drift    not known: this service does not watch it" in cli("models", "show", "cars", "--url", url)[1]


@pytest.mark.parametrize(
    ("status", "document", "says"),
    [
        (200, {"version": "{1}"}, "{url} answers with it"),
        (200, {"version": "{0}"}, "{url} has not loaded it; {0} answers"),
        (404, {"title": "No such model"}, "{url} does not serve cars"),
        (
            200,
            {"version": "{0}", "problem": {"version": "{1}", "reason": "golden rows differ"}},
            "{url} has not loaded it; {0} answers: golden rows differ",
        ),
        (503, {"version": "{1}", "problem": "golden rows differ"}, "{url} has not loaded it: golden rows differ"),
        (
            200,
            {"version": "{0}", "aliases": {"candidate": {"version": "{1}", "loaded": True}}},
            "{url} has it loaded as candidate; {0} answers",
        ),
        (
            200,
            {"version": "{0}", "aliases": {"blue": {"version": "{1}", "loaded": False, "problem": "no memory"}}},
            "{url} has not loaded it as blue; {0} answers: no memory",
        ),
    ],
)
def test_show_says_what_a_running_service_makes_of_a_version(
    cli: Cli, versions: list[str], status: int, document: dict[str, Any], says: str
) -> None:
    text = json.dumps(document)
    for index, version in enumerate(versions):
        text, says = text.replace(f"{{{index}}}", version), says.replace(f"{{{index}}}", version)
    with answering(status, text.encode()) as url:
        out = cli("models", "show", "cars", versions[1], "--url", url)[1]
        service = json.loads(cli("models", "show", "cars", versions[1], "--url", url, "--json")[1])["service"]
    assert service == says.replace("{url}", url)
    assert f"service  {service}\n" in out


def test_show_works_where_no_service_answers(cli: Cli, versions: list[str]) -> None:
    status, out, _ = cli("models", "show", "cars", "--url", f"http://127.0.0.1:{free_port()}")
    assert status == 0
    assert "does not answer as keras-serving does: " in out
    for body in (b"<html>", b"[]", b""):
        with answering(200, body) as url:
            assert "does not answer as keras-serving does: " in cli("models", "show", "cars", "--url", url)[1]


_PROMOTER = """
import sys
from pathlib import Path
from keras_serving.main import run
sys.stdin.readline()
sys.exit(run(["models", "promote", "cars", *sys.argv[1:]]))
"""


def test_of_two_processes_that_promote_at_once_one_wins_and_the_other_is_told(
    store: Store, versions: list[str], shipped: Path
) -> None:
    environment = os.environ | {"SERVING_HOME": str(store.home), "SERVING_PRETRAINED": str(shipped)}
    for round_ in range(5):
        first, *others = versions if round_ % 2 == 0 else versions[::-1]
        store.set_alias("cars", first)
        revision = store.aliases().revision
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _PROMOTER, version, "--expect", first],
                env=environment,
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for version in others
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=60)[1] for process in processes]
        assert sorted(process.returncode for process in processes) == [0, 1], said
        winner = [process.returncode for process in processes].index(0)
        assert "models history" in said[1 - winner]
        document = store.aliases()
        assert document.revision == revision + 1
        assert document.target("cars").version == others[winner]  # type: ignore[union-attr]
