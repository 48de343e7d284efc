"""What several commands do with the store: open it, find a version in it, check one before it goes live."""

import getpass
import os
import socket
from pathlib import Path

import click

from keras_serving.chosen import chosen_settings
from models.bundle import MANIFEST, Bundle
from models.engines import check_golden, open_engine
from models.errors import StoreError
from models.names import is_version
from models.remote.store import store_at
from models.store import PRODUCTION, Store


def open_store() -> Store:
    """The store that `--store` or the environment names; one on this machine has the shipped bundles in it."""
    settings = chosen_settings()
    store = store_at(settings.home, settings.store, settings.store_timeout_s)
    if settings.store is not None:
        # What a fleet serves is said by somebody, not found there: keras-serving models seed.
        store.begin(settings.pretrained)
        return store
    try:
        for name, reason in store.seed(settings.pretrained).failed.items():
            click.echo(f"shipped bundle {name} is left out: {reason}", err=True)
    except StoreError as error:
        # A read-only store that was seeded before can be looked at.
        click.echo(f"the store is not seeded: {error}", err=True)
    return store


def who() -> str:
    """``user@host``, for the log of changes."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # A container's user has no name.
    return f"{user}@{socket.gethostname()}"


def version_of(store: Store, name: str, version: str | None) -> str:
    """A version, given as such or as an alias; production's where none is given."""
    if version is not None and is_version(version):
        return version
    versions = store.versions(name)
    target = store.aliases().target(name, version or PRODUCTION)
    if target is not None:
        return target.version
    if version is None:
        raise click.UsageError(f"{name} has no {PRODUCTION} version. Versions: {', '.join(versions) or 'none'}.")
    return version  # For the store to say which there are.


def find_bundle(store: Store, name: str, version: str | None) -> Bundle:
    """The bundle of a version or an alias; production's where none is given."""
    return store.open(name, version_of(store, name, version))


def refer(store: Store, reference: str) -> Bundle:
    """The bundle that ``NAME``, ``NAME:VERSION``, ``NAME:ALIAS`` or a bundle's folder means."""
    if (Path(reference) / MANIFEST).is_file():
        return Bundle.open(Path(reference))
    name, _, version = reference.partition(":")
    return find_bundle(store, name, version or None)


def rehearse(bundle: Bundle) -> None:
    """Verify every file, and run the golden rows with the engine that would serve them.

    Raises:
        ServingError: A file is altered, or the engine answers otherwise than training did.
    """
    settings = chosen_settings()
    bundle.verify()
    engine = open_engine(bundle, kind=settings.engine, device=settings.device, threads=settings.batch_threads)
    try:
        check_golden(engine, bundle)
    finally:
        engine.close()
