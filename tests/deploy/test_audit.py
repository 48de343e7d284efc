"""The audit of the locks: what is known fails it unless a reason is given, and what was not looked up is said."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from deploy import audit
from deploy.audit import Finding, Report

KNOWN = Finding("pillow 12.0.0", "PYSEC-1", ("CVE-1", "GHSA-1"), ("13.0.0",))


def answer(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": list(packages), "fixes": []})


SETUPTOOLS = {"name": "setuptools", "version": "80.0", "vulns": []}
PILLOW = {
    "name": "pillow",
    "version": "12.0.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1", "GHSA-1"], "fix_versions": ["13.0.0"], "description": "x"}],
}


def test_what_the_database_says_is_read() -> None:
    report = audit.read_report(answer(SETUPTOOLS, PILLOW, {"name": "mine", "skip_reason": "not found"}))
    assert report == Report(2, ("mine",), (KNOWN,))


def test_a_finding_fails_and_says_where_it_is_fixed() -> None:
    lines, well = audit.judge({"serve": Report(2, (), (KNOWN, KNOWN))}, {}, {})
    assert not well
    assert lines[:2] == ["serve: 2 packages audited", "  pillow 12.0.0: PYSEC-1, fixed in 13.0.0"]
    assert "make lock" in lines[-1]


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_a_finding_is_accepted_by_any_of_its_names_with_a_reason(name: str) -> None:
    lines, well = audit.judge({"serve": Report(2, (), (KNOWN,))}, {name: "never opened here"}, {})
    assert well
    assert lines[-1].endswith("accepted: never opened here")


def test_what_was_not_looked_up_and_what_is_accepted_in_vain_are_named() -> None:
    reports = {"gpu": Report(1, ("torch", "mine"), ())}
    lines, well = audit.judge(reports, {"CVE-2": "old"}, {})
    assert well
    assert lines[0] == "gpu: 1 packages audited, 2 not found there: torch, mine"
    assert lines[1].startswith("CVE-2 is in accepted-findings.toml and found nowhere any more")
    lines, _ = audit.judge(reports, {"CVE-2": "old"}, {"serve": "no answer"})
    assert lines[1:] == ["serve: NOT AUDITED (no answer)"], "what is accepted may be there"


def test_what_is_accepted_has_a_reason() -> None:
    assert audit.read_accepted(audit.ACCEPTED.read_text()) is not None
    with pytest.raises(ValueError, match="CVE-2 must have a reason"):
        audit.read_accepted('CVE-2 = " "')


@pytest.mark.parametrize(
    "output", ["", "not JSON", answer({"name": "setuptools", "skip_reason": "not found"})], ids=["none", "text", "404"]
)
def test_where_nobody_can_be_asked_that_is_said_and_fails_nothing(
    output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command[-1])
        return subprocess.CompletedProcess(command, 1, output, "Failed to resolve the host")

    monkeypatch.setattr(subprocess, "run", run)
    assert audit.main(audit.LOCKS) == 0
    assert "SKIPPED, nothing was audited" in capsys.readouterr().out
    assert len(asked) == 1


def test_every_lock_is_asked_about_without_installing_anything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, answer(SETUPTOOLS, PILLOW), "")

    monkeypatch.setattr(subprocess, "run", run)
    assert audit.main(audit.LOCKS) == 1
    assert all({"--require-hashes", "--disable-pip"} <= set(command) for command in asked)
    assert [command[-1].rpartition("/")[2] for command in asked[1:]] == [f"{lock}.txt" for lock in audit.LOCKS]
    assert capsys.readouterr().out.count("PYSEC-1") == len(audit.LOCKS)


def test_a_lock_that_could_not_be_asked_about_hides_nothing_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], **_: Any) -> Any:
        output = "" if command[-1].endswith("container.txt") else answer(SETUPTOOLS, PILLOW)
        return subprocess.CompletedProcess(command, 1, output, "Failed to resolve the host")

    monkeypatch.setattr(subprocess, "run", run)
    assert audit.main(audit.LOCKS) == 1
    said = capsys.readouterr().out
    assert said.count("PYSEC-1") == len(audit.LOCKS) - 1
    assert "container: NOT AUDITED (Failed to resolve the host)" in said


class Database(BaseHTTPRequestHandler):
    """Knows one thing of setuptools 80.0 and nothing of anything else, in the words of OSV."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {
            "id": "PYSEC-1",
            "aliases": ["CVE-1"],
            "affected": [
                {
                    "package": {"name": "setuptools", "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "80.1"}]}],
                }
            ],
        }
        body = json.dumps({"vulns": [known]} if asked["package"]["name"] == "setuptools" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    """What pip-audit itself asks."""
    with HTTPServer(("127.0.0.1", 0), Database) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"http://127.0.0.1:{server.server_port}/v1/query")
        yield server
        server.shutdown()


def test_pip_audit_itself_is_understood_with_a_finding_and_without_a_database(
    database: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "build.txt").write_text(f"setuptools==80.0 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(audit, "REQUIREMENTS", tmp_path)
    assert audit.main(["build"]) == 1
    assert "  setuptools 80.0: PYSEC-1, fixed in 80.1\n" in capsys.readouterr().out
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", "http://127.0.0.1:9/")
    assert audit.main(["build"]) == 0
    assert "SKIPPED, nothing was audited" in capsys.readouterr().out


def test_without_the_tool_the_audit_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert audit.main(audit.LOCKS) == 1
    assert "no pip-audit" in capsys.readouterr().out
