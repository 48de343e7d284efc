"""Our OpenAPI document against a real server: requests made from it, right and wrong ones, by schemathesis.

For longer: FUZZ_SECONDS=600 .venv/bin/python -m pytest -m slow tests/reliability/test_openapi_fuzz.py
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.settings import PRETRAINED
from tests.bundles import CARS, make_bundle
from tests.e2e.server import Server, running
from tests.reliability.conftest import Figure

SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
KEY = "fuzz-key-of-sixteen"
PROMISE = "requests made from the OpenAPI document, right and wrong: no 5xx, no hang, every answer as documented"
# A deadline of the client's own passes as it says. And no schema says all that makes a value a right one, such as that
# a file is a picture. What breaks a schema must be refused all the same.
CONFIG = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]
positive_data_acceptance.enabled = false
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("openapi")
    make_bundle(folder / "bundles", "cars", CARS)
    with running(folder / "home", pretrained=folder / "bundles", SERVING_LOG_REQUESTS="true") as found:
        yield found


def fuzz(server: Server, folder: Path, *options: str, model: str | None = None) -> int:
    """How many requests schemathesis made to ``server``, all of them answered as they should be.

    Args:
        server: Under test.
        folder: For what it writes.
        options: Of its command line.
        model: The one that every path names; None for any text.
    """
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG + (f'[parameters]\n"path.model" = "{model}"\n' if model else ""))
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config)),
            *("run", f"{server.url}/openapi.json", "--no-color", "--warnings", "off", "--continue-on-failure"),
            *("--header", f"Authorization: Bearer {KEY}", "--request-timeout", "20", *options),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120 + 2 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-2000:]}"
    made = re.search(r"(\d+) generated", done.stdout)
    assert made is not None, done.stdout[-2000:]
    return int(made[1])


def check_alive(server: Server) -> None:
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    assert server.metric("serving_inflight") == 0
    assert "Traceback" not in server.text


@pytest.mark.reliability(21, PROMISE)
def test_what_is_made_from_the_document_is_answered_as_it_says(server: Server, tmp_path: Path, figure: Figure) -> None:
    # What pins a version is described once more by the same lines: that is for the longer run.
    options = (
        "--phases",
        "examples,coverage",
        "--generation-deterministic",
        "--exclude-path-regex",
        "/(versions|labels)/",
    )
    made = fuzz(server, tmp_path, *options, model="cars")
    figure(f"{made} requests to every route: every answer as documented, none a 5xx")
    check_alive(server)
    assert made > 300
    # They reached the model, and not only the refusal of a name that leads nowhere.
    for route in ("/predict/{model}", "/models/{model}", "/v2/models/{model}", "/v1/models/{model}/metadata"):
        assert server.metric("serving_requests_total", route=route, code="200") > 0, route


@pytest.mark.slow
@pytest.mark.reliability(21, PROMISE)
def test_the_same_for_longer_with_names_that_lead_nowhere_and_an_administration(tmp_path: Path, figure: Figure) -> None:
    with running(tmp_path / "home", pretrained=PRETRAINED, SERVING_ADMIN_TOKEN=KEY) as server:
        made = fuzz(server, tmp_path, "--max-time", f"{SECONDS:.0f}", "--max-examples", "1000")
        figure(f"{made} requests in {SECONDS:g} s to every route, administration too: every answer as documented")
        check_alive(server)
