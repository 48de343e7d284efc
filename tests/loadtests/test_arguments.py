"""From the arguments of a load test to those of locust."""

from pathlib import Path

import pytest

from loadtests.__main__ import CLASSES, command_line, parsed
from loadtests.formats import FORMATS, PROTOCOLS
from loadtests.served import Served

SERVED = Served("http://127.0.0.1:3000", "127.0.0.1:3001", None)


def locust(*arguments: str) -> list[str]:
    """What follows the locustfile."""
    line = command_line(parsed(list(arguments)), SERVED, Path("bundles"))
    return line[line.index("-f") + 2 :]


def after(flag: str, line: list[str]) -> list[str]:
    """The values of a flag."""
    rest = line[line.index(flag) + 1 :]
    return rest[: next((i for i, word in enumerate(rest) if word.startswith("--")), len(rest))]


def test_all_users_send_everything_unless_something_is_chosen() -> None:
    line = locust()
    assert line[: len(PROTOCOLS)] == list(CLASSES.values())
    assert "--tags" not in line
    assert "--exclude-tags" not in line


def test_protocols_are_users_and_payloads_are_tags() -> None:
    line = locust("--protocols", "native,grpc", "--payloads", "json,raw")
    assert line[: line.index("--headless")] == ["NativeUser", "GrpcUser"]
    assert after("--tags", line) == ["json", "raw"]


def test_users_that_can_send_none_of_the_payloads_are_left_out() -> None:
    line = locust("--payloads", "json")
    assert line[: line.index("--headless")] == ["NativeUser", "OpenInferenceUser"]


@pytest.mark.parametrize(("rows", "left_out"), [("1", "many"), ("32", "single")])
def test_one_size_of_requests_leaves_the_other_out(rows: str, left_out: str) -> None:
    assert after("--exclude-tags", locust("--rows", rows)) == [left_out]
    assert "--exclude-tags" not in locust("--rows", "1,32")


def test_an_overload_has_more_users_and_large_requests_and_may_take_longer() -> None:
    line = locust("--shape", "overload")
    assert after("--users", line) == ["200"]
    assert after("--exclude-tags", line) == ["single"]
    assert after("--max-p99-ms", line) == ["10000"]


def test_thresholds_after_two_dashes_come_last_of_their_kind() -> None:
    line = locust("--shape", "overload", "--", "--max-p99-ms", "700")
    assert line[max(i for i, word in enumerate(line) if word == "--max-p99-ms") + 1] == "700"


@pytest.mark.parametrize("processes", ["1", "3"])
def test_several_processes_are_locusts_own(processes: str) -> None:
    line = locust("--processes", processes)
    assert ("--processes" in line) == (processes != "1")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--protocols", "native,soap"], "Received: 'soap'"),
        (["--payloads", "xml"], "Received: 'xml'"),
        (["--rows", "7"], "Received: '7'"),
        (["--protocols", "grpc", "--payloads", "png"], "none of --protocols has any of --payloads"),
        (["--shape", "redeploy", "--host", "http://127.0.0.1:1"], "give its --home too"),
        (["--shape", "square"], "invalid choice"),
    ],
)
def test_wrong_arguments_exit_2_and_say_what_would_be_right(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_every_protocol_has_users_and_a_format() -> None:
    assert set(CLASSES) == set(PROTOCOLS) == {protocol for protocol, _ in FORMATS}
