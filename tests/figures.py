"""What the reliability tests share: each says which behaviour it proves, and what it measured."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

Figure = Callable[[str], None]


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Say what was measured: ``figure("p99 of the others 3.1 ms, 2.9 ms without")``.

    Printed, and appended to the file that ``RELIABILITY_REPORT`` names, from which ``python -m tests.reliability``
    writes docs/reliability.md. The test carries ``@pytest.mark.reliability(number, "what is promised")``, with
    ``alike=False`` where its slow case is not a longer one but another one.
    """
    mark = request.node.get_closest_marker("reliability")
    if mark is None:
        raise AssertionError(f"{request.node.nodeid} has a figure but no @pytest.mark.reliability(number, promise)")
    number, promise = mark.args

    def say(text: str) -> None:
        print(f"[{number}] {promise}: {text}")
        if report := os.environ.get("RELIABILITY_REPORT"):
            line = {"number": number, "promise": promise, "test": request.node.nodeid, "figure": text}
            with Path(report).open("a") as lines:
                lines.write(json.dumps(line) + "\n")

    return say
