"""The alias document as it was read last, and why it cannot be read where it cannot."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from models.errors import BundleError
from models.store import Aliases, Store
from service.patience import PATIENCE_S, read_patiently

logger = logging.getLogger(__name__)


class AliasDocument:
    """Reads the alias document of a store when it changes.

    Attributes:
        content: As it was read last.
        problem: Why it cannot be read now; empty where it can.
        thread: Of its own, so that a long load delays no look at it.
    """

    def __init__(self, store: Store, on_problem: Callable[[], None]) -> None:
        self.content = Aliases()
        self.problem = ""
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="aliases")
        self._store = store
        self._on_problem = on_problem
        # Unlike any: the first look is at the document, even where there is none.
        self._stamp: tuple[int, int] | None = (0, 0)

    @property
    def exists(self) -> bool:
        """Whether there was one at the last look."""
        return self._stamp is not None

    async def look(self, *, required: bool) -> bool:
        """Read it if it has changed; whether it has.

        Args:
            required: Whether there must be one: it never goes away on purpose.
        """
        stamp = await read_patiently(self.thread, self._store.stamp, self._on_silence)
        if stamp is None and required:
            # A file being restored, or a volume that is gone.
            self._keep(f"{self._store.home} has no alias document any more. Restore it from a backup.")
            return False
        if stamp == self._stamp and not self.problem:
            return False
        try:
            self.content = await read_patiently(self.thread, self._store.followed, self._on_silence)
        except BundleError as error:
            self._keep(str(error))
            return False
        self.problem = ""
        self._stamp = stamp
        return True

    def _on_silence(self) -> None:
        self._keep(f"{self._store.home} has not answered for {PATIENCE_S:g} s. Check the volume.")
        self._on_problem()

    def _keep(self, reason: str) -> None:
        """Go on with what is served although the document cannot be followed."""
        if reason != self.problem:
            logger.error("what is served stays as it is: %s", reason)
        self.problem = reason
