"""The server under load: one that is started here, or one that runs already."""

import http.client
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from benchmarks.servers import BenchmarkError, Contender, Server, running

READY_S = 120


@dataclass(frozen=True)
class Served:
    """A server that is ready.

    Attributes:
        url: Of HTTP.
        grpc: HOST:PORT; empty where it is not known.
        home: Of its store; None where it is not known.
        process: What was started; None for a server that ran already.
    """

    url: str
    grpc: str
    home: Path | None
    process: Server | None = None

    @property
    def port(self) -> int:
        """Of HTTP."""
        return int(self.url.rpartition(":")[2])

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far; NaN of a server that ran already."""
        return float("nan") if self.process is None else self.process.cpu_s()


@contextmanager
def serving(bundles: Path, workers: int, environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """A fresh server of ``bundles`` on free ports, ended on the way out.

    Raises:
        BenchmarkError: There is nothing to serve, or it ended by itself, or does not get ready.
    """
    if not any(bundles.glob("*/manifest.json")):
        raise BenchmarkError(f"{bundles} holds no bundle. Give --bundles a folder with at least one.")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        grpc_port: int = probe.getsockname()[1]
    command = (str(Path(sys.executable).with_name("keras-serving")), "serve", "--port", "{port}")
    options = ("--workers", str(workers), "--grpc-port", str(grpc_port))
    settings = {"SERVING_PRETRAINED": str(bundles.resolve()), **(environment or {})}
    with running(Contender("keras-serving", (*command, *options), settings, "", "", "")) as server:
        wait_until_ready(server)
        yield Served(f"http://127.0.0.1:{server.port}", f"127.0.0.1:{grpc_port}", server.log.parent, server)


def wait_until_ready(server: Server) -> None:
    """Return when every model is loaded.

    Raises:
        BenchmarkError: The server ended, or takes too long.
    """
    began = monotonic()
    while server.process.poll() is None and monotonic() - began < READY_S:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        with suppress(OSError, http.client.HTTPException), closing(connection):
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        sleep(0.1)
    raise BenchmarkError(f"the server does not get ready:\n{server.log.read_text()[-3000:]}")
