"""Which change of the store the workers of this server follow."""

from collections.abc import Container, Mapping

from models.store import Target
from service.dead_workers import tidy_up
from service.number_files import UNREADABLE
from service.present import Labels, PresentGauge


class StoreRevision:
    """The revision of the alias document that this worker follows, and the one that all of them do.

    Args:
        gauge: By model and alias, both empty for the document itself; of several workers the least.
    """

    def __init__(self, gauge: PresentGauge) -> None:
        self._gauge = gauge
        # The others count on this worker from its start.
        self._followed: dict[Labels, float] = {("", ""): 0.0}
        gauge.replace(self._followed)

    def follow(
        self, revision: int, wanted: Mapping[str, Mapping[str, Target]], loaded: Container[tuple[str, Target]]
    ) -> None:
        """Note that this worker has seen ``revision``; an alias that is not loaded stays at the last one that was.

        Args:
            revision: Of the document.
            wanted: Model name -> alias -> what it points to in the document.
            loaded: What this worker can answer with.
        """
        before, self._followed = self._followed, {("", ""): float(revision)}
        for name, targets in wanted.items():
            for alias, target in targets.items():
                old = before.get((name, alias), 0.0)
                self._followed[name, alias] = float(revision) if (name, target) in loaded else old
        self._gauge.replace(self._followed)

    def in_all_workers(self, model: str, *aliases: str) -> dict[str, int]:
        """Alias of ``model`` -> the newest revision for which every living worker has loaded what it points to.

        The other workers' as they saved it last: twice a second. It reads files, so call it in a thread; 0 where they
        cannot be read.
        """
        try:
            if self._gauge.directory is not None:
                tidy_up(self._gauge.directory)
            found = self._gauge.everywhere()
        except UNREADABLE:
            found = {}
        # A worker that has just begun knows of no alias, but has seen nothing.
        seen = found.get(("", ""), 0.0)
        return {alias: int(min(seen, found.get((model, alias), seen))) for alias in aliases}
