"""The guide for clients of other servers: its lines, run as they stand."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server import Server

GUIDE = (Path(__file__).parent.parent.parent / "docs" / "protocols.md").read_text(encoding="utf-8")


def blocks(heading: str, language: str) -> str:
    section = GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL))


def at(server: Server, text: str) -> str:
    return text.replace("localhost:3000", server.url.removeprefix("http://")).replace("localhost:3001", server.grpc)


@pytest.mark.parametrize("heading", ["From TensorFlow Serving", "From Triton or KServe"])
def test_every_curl_line_is_answered(server: Server, heading: str) -> None:
    lines = blocks(heading, "bash").strip().splitlines()
    assert len(lines) >= 5
    for line in lines:
        command = at(server, line.replace("curl -s", "curl -sS --fail-with-body"))
        done = subprocess.run(command, shell=True, capture_output=True, check=False)  # noqa: S602 - the document's own command
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert "error" not in json.loads(done.stdout)


@pytest.mark.parametrize(
    ("heading", "output"),
    [
        ("From TensorFlow Serving", r"10 0\.\d+\n"),
        ("From Triton or KServe over gRPC", r"\(2, 10\)\nStatusCode.INVALID_ARGUMENT\n"),
        ("From Triton or KServe", r"\[\[b'0\.\d+:9:Ankle boot' .*\]\]\n\(2, 10\)\n"),
    ],
)
def test_the_python_lines_print_an_answer(server: Server, heading: str, output: str) -> None:
    program = at(server, blocks(heading, "python"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(output, done.stdout), done.stdout
