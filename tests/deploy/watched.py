"""A real Prometheus that scrapes a real service, with the shipped rules in a hurry."""

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.e2e.server import free_port, wait_for

RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
JOB = "keras-serving"
_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# What an alert waits for at least: a service that a busy machine holds up for two scrapes is not down.
_FOR_MS = 5000


def shortened(text: str, factor: int) -> str:
    """Rules with every duration divided by ``factor``, of an alert's wait down to five seconds; their names stay."""

    def shorter(found: re.Match[str]) -> str:
        before, number, unit, after = found.groups()
        least = 0 if before == "[" else _FOR_MS
        return f"{before}{max(least, int(number) * _MS[unit] // factor)}ms{after}"

    return re.sub(r"(\[|\bfor: )(\d+)([smhd])(\]|$)", shorter, text, flags=re.MULTILINE)


@dataclass
class Prometheus:
    url: str
    client: httpx.Client

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The samples of an instant query: labels in ``metric``, and a number in ``value``."""
        answer = self.client.get(f"{self.url}/api/v1/query", params={"query": expr}).json()
        assert answer["status"] == "success", (expr, answer)
        result = answer["data"]["result"]
        return [{"metric": one["metric"], "value": float(one["value"][1])} for one in result]

    def fired(self) -> set[tuple[str, str]]:
        """Every alert that has fired so far, as its name and the model it is about, if any."""
        expr = 'last_over_time(ALERTS{alertstate="firing"}[1h])'
        return {(one["metric"]["alertname"], one["metric"].get("model", "")) for one in self.query(expr)}

    def rules(self) -> list[dict[str, Any]]:
        groups = httpx.get(f"{self.url}/api/v1/rules", timeout=10).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextmanager
def prometheus(folder: Path, targets: list[str], factor: int) -> Iterator[Prometheus]:
    """One that scrapes ``targets`` every second and evaluates as often, ended when the block is left.

    It gets its rules after the first scrape: before that, every target is absent.
    """
    folder.mkdir()
    for name in ("rules.yml", "alerts.yml"):
        (folder / name).write_text(shortened((RULES / name).read_text(), factor))
    shipped = yaml.safe_load((RULES / "prometheus.yml").read_text())
    job = next(job for job in shipped["scrape_configs"] if job["job_name"] == JOB)
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [{**job, "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    url = f"127.0.0.1:{free_port()}"
    command = [
        *("prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address={url}", "--log.level=warn"),
        "--web.enable-lifecycle",
    ]
    client = httpx.Client(timeout=10)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        found = Prometheus(f"http://{url}", client)
        wait_for(lambda: _is_ready(found.url), "Prometheus")
        wait_for(lambda: len(found.query(f'up{{job="{JOB}"}} == 1')) == len(targets), "scrape of every target")
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration | {"rule_files": shipped["rule_files"]}))
        httpx.post(f"{found.url}/-/reload").raise_for_status()
        yield found
    finally:
        client.close()
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder / "data", ignore_errors=True)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def exposing(text: str) -> Iterator[str]:
    """Address of a target with these metrics: what this machine has not, such as a GPU."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
