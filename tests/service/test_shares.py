"""What each worker process has is known to the others, and forgotten with it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.shares import Shares

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import sys
from pathlib import Path
from service.shares import Shares
shares = Shares(Path(sys.argv[1]), 2)
for line in sys.stdin:
    shares.set(int(line))
    print(shares.ahead(), flush=True)
"""
Worker = subprocess.Popen[str]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    """Starts another process that shares connections."""
    workers: list[Worker] = []

    def start() -> Worker:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "slots")], text=True, cwd=ROOT, **pipes
        )
        workers.append(process)
        return process

    yield start
    for process in workers:
        process.kill()
        process.communicate()


def has(worker: Worker, connections: int) -> bool:
    """Let a worker have that many connections; whether it is ahead of another."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{connections}\n")
    worker.stdin.flush()
    return worker.stdout.readline() == "True\n"


def test_a_worker_is_ahead_of_one_that_has_fewer_until_that_one_is_gone(
    tmp_path: Path, worker: Callable[[], Worker]
) -> None:
    other = worker()
    assert not has(other, 3), "it is alone"
    own = Shares(tmp_path / "slots", 2)
    assert not own.ahead()
    own.set(3)
    assert not own.ahead(), "as many as the other"
    own.set(4)
    assert own.ahead()
    assert own.surplus() == 0.5
    assert has(other, 5)
    has(other, 3)
    other.kill()
    other.wait()
    assert not own.ahead()
    assert own.surplus() == 0, "of its own connections"
    third = worker()
    assert not has(third, 0)
    assert own.ahead(), "the one in its place"
    assert own.surplus() == 2
    own.close()


def test_more_workers_than_there_is_room_for_are_refused(tmp_path: Path, worker: Callable[[], Worker]) -> None:
    for process in [worker() for _ in range(4)]:
        has(process, 1)
    with pytest.raises(RuntimeError, match="4 workers"):
        Shares(tmp_path / "slots", 2)
