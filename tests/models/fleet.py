"""A store that several machines share, for tests."""

from collections.abc import Callable

from models.bundle import MANIFEST, Bundle
from models.remote.store import RemoteStore

Machine = Callable[[str], RemoteStore]
"""Makes the store as the machine of a name sees it, with copies of its own."""


def published(store: RemoteStore, bundle: Bundle) -> str:
    store.add(bundle.path, who="ann")
    store.set_alias("cars", bundle.manifest.version, who="ann", reason="better")
    return bundle.manifest.version


def rewritten(bundle: Bundle) -> Bundle:
    """The same version with other parameters, sealed anew."""
    manifest = bundle.manifest.model_copy(update={"parameters": 11}).sealed()
    (bundle.path / MANIFEST).write_bytes(manifest.to_json())
    return Bundle.open(bundle.path)
