"""Gauges of which only the present label values exist, over all workers.

A gauge of prometheus_client in multiprocess mode keeps every label value that it ever had until its worker ends, so
that each version that was ever loaded would be a series for ever. Here each worker keeps what is so now in a small file
beside prometheus_client's, and a scrape shows what any living worker has.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.number_files import replace_file

Labels = tuple[str, ...]


class PresentGauge:
    """One such gauge; of a label value that several workers have, one value is shown.

    Args:
        name: Of the metric, with its prefix.
        documentation: What it says.
        labels: Names of the labels.
        directory: The workers' common one; None where there is one process only.
        shown: Picks the value to show where workers differ, such as ``max`` for the worst.

    Attributes:
        directory: As given.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        directory: Path | None,
        shown: Callable[[float, float], float] = max,
    ) -> None:
        self._shown = shown
        self.name, self.documentation, self.labels = name, documentation, tuple(labels)
        self.directory = directory
        self._values: dict[Labels, float] = {}
        self._saved: dict[Labels, float] = {}

    def replace(self, values: Mapping[Labels, float]) -> None:
        """Let label values -> value be all that this worker has from now on."""
        self._values = dict(values)

    def save(self) -> None:
        """Let the other workers see what this one has, where that changed.

        Raises:
            OSError: The file cannot be written.
        """
        values = self._values
        if self.directory is not None and values != self._saved:
            rows = json.dumps([[*labels, value] for labels, value in values.items()])
            replace_file(self.directory / self._file, rows.encode())
            self._saved = values

    @property
    def _file(self) -> str:
        return f"present_{self.name}_{os.getpid()}.json"

    def collect(self) -> Iterator[Any]:
        """The gauge as prometheus_client's registries want it."""
        from prometheus_client.core import GaugeMetricFamily

        family = GaugeMetricFamily(self.name, self.documentation, labels=self.labels)
        for labels, value in sorted(self.everywhere().items()):
            family.add_metric(labels, value)
        yield family

    def everywhere(self) -> dict[Labels, float]:
        """Label values -> the value to be shown of all workers', as each other one saved it last."""
        found = dict(self._values)
        others = self.directory.glob(f"present_{self.name}_*.json") if self.directory else ()
        for path in others:
            if path.name == self._file:
                continue
            try:
                rows = json.loads(path.read_text())
            except FileNotFoundError:  # Of a worker that ended just now.
                continue
            for *labels, value in rows:
                found[tuple(labels)] = self._shown(value, found.get(tuple(labels), value))
        return found
