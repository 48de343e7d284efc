"""What was measured, on disk after every step: a run that was stopped has lost nothing."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass
class Record:
    """The results so far.

    Attributes:
        path: JSON file.
        about: Machine, versions and preset.
        results: Step's key -> what it measured, or ``{"error": ...}``.
    """

    path: Path
    about: dict[str, Any]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """A record as it was left.

        Raises:
            ValueError: No such file, or something else.
        """
        try:
            document = json.loads(path.read_text())
            return cls(path, document["about"], document["results"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no record of a benchmark ({error!r}). Run make bench-peers first.") from None

    def keep(self, key: str, result: dict[str, Any]) -> None:
        """Add one result, and write all."""
        self.results[key] = result
        self.write()

    def write(self) -> None:
        """Under a temporary name first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"about": self.about, "results": self.results}, indent=1) + "\n")
        temporary.replace(self.path)

    def of(self, kind: str, model: str) -> dict[str, list[dict[str, Any]]]:
        """Contender -> its results of one kind, without those that failed."""
        found: dict[str, list[dict[str, Any]]] = {}
        for key, result in self.results.items():
            its_kind, its_model, contender, _ = key.split("|")
            if (its_kind, its_model) == (kind, model) and "error" not in result:
                found.setdefault(contender, []).append(result)
        return found

    def errors(self) -> dict[str, str]:
        """Key -> why a step failed."""
        return {key: result["error"] for key, result in self.results.items() if "error" in result}
