"""Server processes under measurement: start, first correct answer, memory, stop."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import psutil

READY_S = 120
# A server that still answers so late that a request is wrong (a 4xx) will not change its mind.
REFUSED_S = 8


class BenchmarkError(RuntimeError):
    """The benchmark cannot go on."""


@dataclass(frozen=True)
class Contender:
    """One server to measure.

    Attributes:
        name: In the report.
        command: Starts it; ``{port}`` is filled in.
        environment: Variables on top of the caller's; ``{port}``, and ``{home}``: an empty folder.
        path: Of predictions.
        payload: Name in `benchmarks.payloads.PAYLOADS`.
        reader: Name in `benchmarks.checker.READERS`.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    path: str
    payload: str
    reader: str


@dataclass(frozen=True)
class Memory:
    """Of a process and all its descendants, in MB of 10^6 bytes.

    Attributes:
        rss_mb: Sum of the resident sets; a page that two processes share counts twice.
        pss_mb: Sum of the proportional sets; a shared page counts once.
        processes: How many there were.
    """

    rss_mb: float
    pss_mb: float
    processes: int


@dataclass
class Server:
    """A running contender."""

    contender: Contender
    port: int
    process: subprocess.Popen[bytes]
    started: float
    log: Path

    def wait_for(self, body: bytes, headers: Mapping[str, str], wrong: Callable[[bytes], str]) -> float:
        """Seconds from start to the first correct answer to ``body``.

        Raises:
            BenchmarkError: A wrong answer, or none in time.
        """
        while perf_counter() - self.started < READY_S:
            if self.process.poll() is not None:
                raise BenchmarkError(f"{self.contender.name} ended by itself:\n{self.log.read_text()[-3000:]}")
            with suppress(OSError, http.client.HTTPException):
                status, answer = self._ask(body, headers)
                if status == 200:
                    seconds = perf_counter() - self.started
                    if problem := wrong(answer):
                        raise BenchmarkError(f"{self.contender.name}: first answer is wrong: {problem}")
                    return seconds
                if 400 <= status < 500 and perf_counter() - self.started > REFUSED_S:
                    raise BenchmarkError(f"{self.contender.name}: status {status}: {answer[:300]!r}")
            sleep(0.01)
        raise BenchmarkError(f"{self.contender.name}: no answer in {READY_S} s:\n{self.log.read_text()[-3000:]}")

    def _ask(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("POST", self.contender.path, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.read()

    def cpu_s(self) -> float:
        """CPU seconds of the whole process tree so far."""
        root = psutil.Process(self.process.pid)
        return sum(sum(process.cpu_times()[:2]) for process in (root, *root.children(recursive=True)))

    def memory(self) -> Memory:
        """Memory of the whole process tree now."""
        root = psutil.Process(self.process.pid)
        found = [p.memory_full_info() for p in (root, *root.children(recursive=True))]
        return Memory(sum(m.rss for m in found) / 1e6, sum(m.pss for m in found) / 1e6, len(found))


@contextmanager
def running(contender: Contender) -> Iterator[Server]:
    """A fresh server with an empty home; ended, with its whole process group, on the way out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        log = Path(home) / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SERVING_")}
        environment |= {
            "BENTOML_HOME": home,
            "BENTOML_DO_NOT_TRACK": "True",
            "SERVING_HOME": home,
            "SERVING_DRAIN_S": "0",
            **{name: value.format(port=port, home=home) for name, value in contender.environment.items()},
        }
        command = [part.format(port=port) for part in contender.command]
        with log.open("wb") as output:
            started = perf_counter()
            process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            yield Server(contender, port, process, started, log)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    # Workers of a parent that died first.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # Triton leaves its shared memory when it is killed; its name begins as triton_server.py says.
    for left in Path("/dev/shm").glob(f"peer{process.pid}-*"):  # noqa: S108 - what it made itself
        left.unlink(missing_ok=True)


def end_on_sigterm() -> None:
    """Let SIGTERM end a benchmark as an exception does, so that its servers end with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
