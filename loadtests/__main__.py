"""Start a server of the shipped models, run the load test against it, stop it: ``python -m loadtests``.

Everything after ``--`` goes to locust. With ``--host`` a server that runs already is loaded instead.
"""

import argparse
import http.client
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic, sleep

from benchmarks.servers import BenchmarkError, Contender, Server, running

READY_S = 120


def wait_until_ready(server: Server) -> None:
    """Return when every model is loaded.

    Raises:
        BenchmarkError: The server ended, or takes too long.
    """
    began = monotonic()
    while server.process.poll() is None and monotonic() - began < READY_S:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        sleep(0.1)
    raise BenchmarkError(f"the server does not get ready:\n{server.log.read_text()[-3000:]}")


def main() -> int:
    """Locust's exit status: 0 when every threshold was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", help="URL of a running server [start one on a free port]")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server that is started [%(default)s]")
    parser.add_argument("--users", type=int, default=20, help="[%(default)s]")
    parser.add_argument("--seconds", type=int, default=20, help="[%(default)s]")
    parser.add_argument("--processes", type=int, default=1, help="locust processes [%(default)s]")
    parser.add_argument("--bundles", type=Path, default=Path("models/pretrained"), help="[%(default)s]")
    parser.add_argument("--html", type=Path, default=Path("reports/loadtest.html"), help="[%(default)s]")
    parser.add_argument("locust", nargs="*", help="further arguments of locust, after --")
    options = parser.parse_args()
    with ExitStack() as stack:
        host = options.host
        if host is None:
            command = (str(Path(sys.executable).with_name("keras-serving")), "serve", "--port", "{port}")
            environment = {"SERVING_PRETRAINED": str(options.bundles.resolve())}
            contender = Contender(
                "keras-serving", (*command, "--workers", str(options.workers)), environment, "", "", ""
            )
            server = stack.enter_context(running(contender))
            try:
                wait_until_ready(server)
            except BenchmarkError as error:
                print(f"loadtest: {error}", file=sys.stderr)
                return 1
            host = f"http://127.0.0.1:{server.port}"
        options.html.parent.mkdir(parents=True, exist_ok=True)
        command_line = [
            *(sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py"))),
            *("--headless", "--only-summary", "--host", host, "--bundles", str(options.bundles)),
            *("--users", str(options.users), "--spawn-rate", str(options.users)),
            *("--run-time", f"{options.seconds}s", "--stop-timeout", "5", "--html", str(options.html)),
            *(("--processes", str(options.processes)) if options.processes > 1 else ()),
            *options.locust,
        ]
        return subprocess.run(command_line, check=False).returncode  # noqa: S603 - no shell


if __name__ == "__main__":
    sys.exit(main())
