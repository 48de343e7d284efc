"""`keras-serving serve`."""

import atexit
import contextlib
import os
import runpy
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import click

import service
from keras_serving.chosen import chosen_settings
from models.errors import BundleError
from service.settings import Settings
from service.supervised import SUPERVISOR


@click.command()
@click.option("--models", help="Comma-separated names to serve.  [default: all in the store]")
@click.option("--host", default="127.0.0.1", show_default=True, help="IP address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of HTTP.")
@click.option(
    "--grpc-port",
    type=click.IntRange(0, 65535),
    help="Port of gRPC; 0 for none.  [default: SERVING_GRPC_PORT or 3001]",
)
@click.option("--workers", type=click.IntRange(1, 64), help="Server processes.  [default: SERVING_WORKERS or 1]")
@click.option(
    "--engine",
    type=click.Choice(["auto", "onnx", "tensorflow"]),
    help="What runs the models; auto is onnx where a version has it.  [default: SERVING_ENGINE or auto]",
)
def serve(  # noqa: PLR0917 - click names them
    models: str | None, host: str, port: int, grpc_port: int | None, workers: int | None, engine: str | None
) -> None:
    """Serve the production version of each model over HTTP and gRPC.

    Every other setting is an environment variable SERVING_*; docs/reference/settings.md lists them.
    """
    chosen = {"models": models, "workers": workers, "engine": engine, "grpc_port": grpc_port}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    settings = chosen_settings(**chosen)
    for line in settings.misspelt():
        click.echo(f"keras-serving: {line}", err=True)
    _require_known(settings)
    _require_free(host, port, "--port")
    chosen |= {"grpc_host": host, "grpc_port": free_grpc_port(settings, host, port)}
    run = _run_folder(settings.home, port)
    # The server runs in another folder, so paths must not depend on this one.
    paths = {"home": settings.home.resolve(), "pretrained": settings.pretrained.resolve()}
    chosen |= {"store": settings.store} if settings.store is not None else {}
    os.environ |= {f"SERVING_{name.upper()}": str(value) for name, value in (chosen | paths).items()}
    os.environ |= {"BENTOML_HOME": str(run), "BENTOML_DO_NOT_TRACK": "True", SUPERVISOR: str(os.getpid())}
    sys.argv = [
        *("bentoml", "serve", "service.app:KerasServing"),
        # Where our packages lie, so that a folder `service` where the command is typed does not come first.
        *("--working-dir", str(Path(service.__file__).resolve().parent.parent)),
        *("--host", host, "--port", str(port)),
        # Longer than the idle time of the usual load balancers (60 s), which would else reuse a closed connection.
        *("--timeout-keep-alive", "75"),
    ]
    # In this process: starting another interpreter would import the same again, for a third of a second.
    runpy.run_module("bentoml", run_name="__main__", alter_sys=True)


def _run_folder(home: Path, port: int) -> Path:
    """Where this run's files lie: one folder a server, as BentoML empties it at the start, whoever else uses it.

    Beside a store that can only be read they lie in the system's temporary folder, until the server ends.
    """
    run = home / "run" / str(port)
    try:
        run.mkdir(parents=True, exist_ok=True)
        if os.access(run, os.W_OK):
            return run
        reason = "Read-only"
    except OSError as error:
        reason = str(error.strerror)
    from models.store import ALIASES

    if not (home / ALIASES).exists():
        raise click.ClickException(
            f"SERVING_HOME {home} cannot be written: {reason}. A store that was seeded before can be read-only."
        )
    folder = tempfile.mkdtemp(prefix="keras-serving-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    click.echo(f"keras-serving: SERVING_HOME {home} cannot be written: {reason}. This run's files: {folder}", err=True)
    return Path(folder)


def _require_known(settings: Settings) -> None:
    """Refuse names that neither the store nor the shipped bundles have."""
    # What lies elsewhere need not be in reach now.
    if not settings.models or settings.store is not None:
        return
    from models.bundle import Bundle
    from models.store import Store

    known = set(Store(settings.home).names())
    for folder in settings.pretrained.iterdir() if settings.pretrained.is_dir() else ():
        # A broken bundle is the loader's to report; here only the names matter.
        with contextlib.suppress(BundleError):
            known.add(Bundle.open(folder).manifest.name)
    for name in settings.models:
        if name not in known:
            raise click.UsageError(f"Unknown model {name!r}. Known models: {', '.join(sorted(known)) or 'none'}.")


def free_grpc_port(settings: Settings, host: str, port: int) -> int:
    """The port of gRPC. One that nobody asked for and that is taken is done without: a second server can start."""
    if settings.grpc_port == port:
        raise click.UsageError(
            f"HTTP and gRPC cannot both have port {port}. Choose another --grpc-port, or 0 for none."
        )
    if settings.grpc_port:
        try:
            _require_free(host, settings.grpc_port, "--grpc-port")
        except click.ClickException as error:
            if "grpc_port" in settings.model_fields_set:
                raise
            click.echo(f"keras-serving: no gRPC: {error.message}", err=True)
            return 0
    return settings.grpc_port


def _require_free(host: str, port: int, option: str) -> None:
    """Say in one line what the server would say in a page of traceback."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        raise click.UsageError(f"--host {host!r} is no IP address. Use 127.0.0.1, or 0.0.0.0 for all.") from None
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host}:{port}: {error.strerror}. Choose another {option}."
        ) from None
