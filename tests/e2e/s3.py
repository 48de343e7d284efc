"""S3's protocol on loopback, from moto in a process of its own, and a wire to it that can be cut."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx

from tests.e2e.server import free_port

_START_SECONDS = 60
KEYS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-prints",
    "AWS_REGION": "us-east-1",
}


@contextmanager
def s3_server() -> Iterator[int]:
    """Port of a server that speaks S3."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ) | KEYS
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/moto-api/", timeout=5)
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the S3 server did not start")
        yield port
    finally:
        process.terminate()
        process.wait(30)


def make_bucket(port: int, name: str) -> None:
    """A bucket, made as anybody may in moto."""
    httpx.put(f"http://127.0.0.1:{port}/{name}", timeout=30).raise_for_status()


class Wire:
    """A TCP proxy to a port on loopback: it passes everything on, or is cut, or says nothing any more."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._state = "whole"
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port = free_port()
        self.mend()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mend(self) -> None:
        """Pass everything on."""
        self.cut()
        self._state = "whole"
        self._listen()

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        with self._lock:
            self._state = "cut"
            if self._listener is not None:
                # Wakes the thread that waits for a connection.
                with suppress(OSError):
                    self._listener.shutdown(socket.SHUT_RDWR)
                self._listener.close()
                self._listener = None
            for end in self._ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
            self._ends = []
        for thread in self._threads:
            thread.join(30)
        self._threads = []

    def hang(self) -> None:
        """Take connections, and never say anything."""
        self.cut()
        self._state = "hanging"
        self._listen()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self._listener = listener
        self._start(self._accept, listener)

    def _start(self, work, *arguments) -> None:  # type: ignore[no-untyped-def]
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                end, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                if self._state == "cut":
                    # Accepted just before the cut: nobody else would close it.
                    end.close()
                    return
                self._ends.append(end)
                if self._state == "hanging":
                    continue
                other = socket.create_connection(("127.0.0.1", self._target))
                self._ends.append(other)
                self._start(_pass_on, end, other)
                self._start(_pass_on, other, end)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
