"""Which version answered how often, summed over locust's processes."""

from collections import Counter
from typing import Any


class Tally:
    """Counts of one process; the master's are everybody's."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def note(self, model: str, version: str) -> None:
        """One answer."""
        self._counts[model, version] += 1

    def give(self) -> list[list[Any]]:
        """What was counted since this was asked last, in types that locust's messages carry."""
        given = [[*key, count] for key, count in self._counts.items()]
        self._counts.clear()
        return given

    def take(self, given: list[list[Any]]) -> None:
        """Add what another process gave."""
        for model, version, count in given:
            self._counts[model, version] += count

    def versions(self) -> dict[str, dict[str, int]]:
        """Model -> version -> answers."""
        found: dict[str, dict[str, int]] = {}
        for (model, version), count in self._counts.items():
            found.setdefault(model, {})[version] = count
        return found
