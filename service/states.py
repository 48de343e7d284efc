"""What is known of each version of a model that an alias points to, or that answers: for other servers' clients."""

from dataclasses import dataclass

from models.errors import UnknownModelError
from service.errors import NotReadyError
from service.loader import Loader
from service.protocols.base import Pin
from service.served import Served


@dataclass(frozen=True)
class State:
    """One version.

    Attributes:
        version: Its name.
        aliases: What points to it.
        served: Where it is loaded.
        reason: Why it is not, where a try failed; empty while it is being loaded.
    """

    version: str
    aliases: tuple[str, ...]
    served: Served | None = None
    reason: str = ""


def states(loader: Loader, name: str, pin: Pin | None = None) -> list[State]:
    """The versions of ``name``, the newest first, or the one that is pinned.

    Raises:
        UnknownModelError: No such model is served, or no such version is known of it.
        NotReadyError: It is too early to know.
    """
    try:
        loader.find(name)
    except NotReadyError:
        # It is served, and not loaded yet: that is what is to be told.
        if name not in loader.document.models:
            raise
    loaded = {served.manifest.version: served for served in loader.named(name).values()}
    reasons = {failure.target.version: failure.reason for failure in loader.failures_of(name).values()}
    aliases: dict[str, list[str]] = {version: [] for version in loaded}
    for alias, target in loader.document.models.get(name, {}).items():
        aliases.setdefault(target.version, []).append(alias)
    found = [
        State(version, tuple(sorted(aliases[version])), loaded.get(version), reasons.get(version, ""))
        for version in sorted(aliases, reverse=True)
        if pin is None or pin.version == version or pin.label in aliases[version]
    ]
    if not found:
        what = f"label {pin.label[:80]!r}" if pin and pin.label else f"version {pin.version[:80] if pin else ''!r}"
        known = ", ".join(f"{version} ({', '.join(sorted(of))})" for version, of in sorted(aliases.items()))
        raise UnknownModelError(f"No {what} of {name}. Known: {known}.")
    return found
