"""Server processes under measurement: start, first correct answer, memory, stop."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import psutil

READY_S = 120


class BenchmarkError(RuntimeError):
    """The benchmark cannot go on."""


@dataclass(frozen=True)
class Contender:
    """One server to measure.

    Attributes:
        name: In the report.
        command: Starts it; ``{port}`` is filled in.
        environment: Variables on top of the caller's.
        path: Of predictions.
        member: Member of the JSON body that holds the rows.
        reader: Name in `benchmarks.checker.READERS`.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    path: str
    member: str
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

    def wait_for(self, body: bytes, wrong: Callable[[bytes], str]) -> float:
        """Seconds from start to the first correct answer to ``body``.

        Raises:
            BenchmarkError: A wrong answer, or none in time.
        """
        while perf_counter() - self.started < READY_S:
            if self.process.poll() is not None:
                raise BenchmarkError(f"{self.contender.name} ended by itself:\n{self.log.read_text()[-3000:]}")
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            with suppress(OSError, http.client.HTTPException):
                connection.request("POST", self.contender.path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = response.read()
                if response.status == 200:
                    seconds = perf_counter() - self.started
                    if problem := wrong(answer):
                        raise BenchmarkError(f"{self.contender.name}: first answer is wrong: {problem}")
                    return seconds
            connection.close()
            sleep(0.01)
        raise BenchmarkError(f"{self.contender.name}: no answer in {READY_S} s:\n{self.log.read_text()[-3000:]}")

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
            **contender.environment,
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


def contenders(model: str, onnx_file: Path, pretrained: Path) -> tuple[Contender, Contender]:
    """Ours with every shipped model, and BentoML with ``model`` alone; one worker each."""
    root = str(Path(__file__).resolve().parent.parent)
    ours = Contender(
        "keras-serving",
        (str(Path(sys.executable).with_name("keras-serving")), "serve", "--port", "{port}", "--workers", "1"),
        {"SERVING_PRETRAINED": str(pretrained.resolve())},
        f"/predict/{model}",
        "instances",
        "serving",
    )
    stock = Contender(
        "BentoML batchable",
        (
            *(sys.executable, "-m", "bentoml", "serve", "benchmarks.stock_bentoml:Stock"),
            *("--host", "127.0.0.1", "--port", "{port}", "--working-dir", root),
        ),
        {"STOCK_MODEL": str(onnx_file.resolve())},
        "/predict",
        "rows",
        "rows",
    )
    return ours, stock


def picture_bodies(contender: Contender, rows: list[object]) -> list[bytes]:
    """One request body a row."""
    return [json.dumps({contender.member: [row]}, separators=(",", ":")).encode() for row in rows]
