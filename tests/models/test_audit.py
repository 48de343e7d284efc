"""The log of changes."""

import json
from pathlib import Path

import pytest

from models.audit import AuditLog, Change


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "changes.jsonl"


def change(revision: int = 1, **members: str) -> Change:
    return Change(action="promote", model="cars", alias="production", after="v2", revision=revision, **members)


def test_a_change_is_one_line_that_other_programs_can_read(path: Path) -> None:
    AuditLog(path).append(change(before="v1", who="ann@host", reason="two\nlines, \u2028 and \x1b[31m"))
    (line,) = path.read_bytes().split(b"\n")[:-1]
    document = json.loads(line)
    assert (document["from"], document["to"], document["who"]) == ("v1", "v2", "ann@host")
    assert document["when"].endswith("Z")
    assert b"\x1b" not in line


def test_what_was_logged_is_read_in_order(path: Path) -> None:
    log, changes = AuditLog(path), [change(n) for n in range(5)]
    assert log.read() == []
    for each in changes:
        log.append(each)
    assert log.read() == log.read(tail=True) == changes


def test_a_line_that_a_crash_cut_off_is_passed_over_and_hurts_no_later_one(path: Path) -> None:
    log = AuditLog(path)
    log.append(change(1))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    log.append(change(2))
    assert [each.revision for each in log.read()] == [1, 2]


def test_the_tail_of_a_long_log_is_its_newest_changes(path: Path) -> None:
    log = AuditLog(path)
    for n in range(100):
        log.append(change(n, reason="x" * 2000))
    tail = log.read(tail=True)
    assert 10 < len(tail) < 100
    assert tail == log.read()[-len(tail) :]


def test_a_long_reason_is_cut_and_not_refused() -> None:
    assert len(change(reason="x" * 5000).reason) == 2000
