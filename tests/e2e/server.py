"""A real server process, started as a user starts it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

_START_SECONDS = 60
_STOP_SECONDS = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    url: str
    grpc: str
    home: Path
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text()

    def workers(self) -> list[int]:
        """Process ids of the worker processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [pid for pid in map(int, children) if b"_bentoml_impl.worker.service" in _command(pid)]

    def wait_until(self, status: str = "ready") -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.text}")
            try:
                if httpx.get(f"{self.url}/readyz", timeout=30).json()["status"] == status:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not {status} within {_START_SECONDS} s:\n{self.text}")

    def wait_for_workers(self, count: int) -> None:
        """Wait until so many are ready: one answers for all that only one is."""
        wait_for(lambda: self.text.count(" ready: ") >= count, f"{count} workers")

    def wait_until_followed(self, model: str, revision: int, alias: str = "production") -> None:
        """Wait until every worker serves what this revision of the alias document says."""
        # A worker that has just begun has seen none, and knows of no alias.
        for labels in ({"model": "", "alias": ""}, {"model": model, "alias": alias}):
            wait_for(lambda labels=labels: self.metric("serving_store_revision", **labels) >= revision, f"{labels}")

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of ``name`` that carry ``labels``."""
        total = 0.0
        for line in httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
                total += float(found[2])
        return total


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_for(condition: Callable[[], object], what: str = "what is waited for", seconds: float = 45) -> None:
    """Wait until it holds: what one worker is told or counts, the others know a moment later.

    Args:
        condition: Asked again and again.
        what: For the message.
        seconds: How long at most; long, since only a failure takes them.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has ended the connection."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@contextmanager
def running(
    home: Path, *arguments: str, pretrained: Path, ready: bool = True, grpc: bool = False, **environment: str
) -> Iterator[Server]:
    """A server on a free port, and if wanted on one more for gRPC, ended at the latest when the block is left."""
    port, grpc_port = free_port(), free_port() if grpc else 0
    log = home.with_name(f"{home.name}-{port}.log")
    settings = {"SERVING_HOME": str(home), "SERVING_PRETRAINED": str(pretrained), "SERVING_DRAIN_S": "0"}
    settings["SERVING_GRPC_PORT"] = str(grpc_port)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SERVING_", "BENTOML_", "PROMETHEUS_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("keras-serving")), "serve", "--port", str(port), *arguments],
            env=inherited | settings | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=home.parent,
        )
    server = Server(process, f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}", home, log)
    try:
        if ready:
            server.wait_until("ready")
        yield server
    finally:
        workers = server.workers() if process.poll() is None else []
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                for pid in [process.pid, *workers]:
                    os.kill(pid, signal.SIGKILL)
                process.wait()
