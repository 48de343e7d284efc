"""Samples of what the kernel says of some processes and of the machine, 50 times a second."""

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, sleep

INTERVAL_S = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessSample:
    """One process's main thread.

    Attributes:
        cpu_s: Seconds that it has run.
        wait_s: Seconds that it could have run but waited for a CPU.
        state: R runs or could, S sleeps, D waits for a disk.
        switched: How often it was put off a CPU that it wanted to keep.
    """

    cpu_s: float
    wait_s: float
    state: str
    switched: int


@dataclass(frozen=True)
class Sample:
    """The machine at one time.

    Attributes:
        at: `time.perf_counter`, seconds.
        gap_s: How much later than asked for the sampler itself woke up.
        stolen_s: CPU seconds that the host gave to others, all cores together.
        disk_wait_s: CPU seconds idle while a disk was waited for.
        io_pressure_s: Seconds in which something waited for a disk; 0 where the kernel does not say.
        memory_pressure_s: Seconds in which something waited for memory.
        processes: By id.
    """

    at: float
    gap_s: float
    stolen_s: float
    disk_wait_s: float
    io_pressure_s: float
    memory_pressure_s: float
    processes: dict[int, ProcessSample] = field(default_factory=dict)


def process_sample(pid: int, proc: Path = Path("/proc")) -> ProcessSample:
    """What the kernel says of one process now.

    Raises:
        OSError: It has ended.
    """
    ran, waited, _ = (proc / str(pid) / "schedstat").read_text().split()
    # The name may hold spaces and brackets.
    fields = (proc / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    status = (proc / str(pid) / "status").read_text()
    switched = int(status.rpartition("nonvoluntary_ctxt_switches:")[2])
    return ProcessSample(int(ran) / 1e9, int(waited) / 1e9, fields[0], switched)


def _pressure(resource: str, proc: Path) -> float:
    try:
        some = (proc / "pressure" / resource).read_text().splitlines()[0]
    except OSError:
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6


def sample(pids: Sequence[int], gap_s: float, proc: Path = Path("/proc")) -> Sample:
    """Everything, now; processes that have ended are left out."""
    ticks = [int(number) / _TICKS for number in (proc / "stat").read_text().split("\n", 1)[0].split()[1:]]
    processes = {}
    for pid in pids:
        with suppress(OSError, ValueError):
            processes[pid] = process_sample(pid, proc)
    pressures = _pressure("io", proc), _pressure("memory", proc)
    return Sample(perf_counter(), gap_s, ticks[7], ticks[4], *pressures, processes)


class Watch:
    """Samples in a thread until it is told to end.

    Args:
        pids: Whom to look at; asked anew each time, so that a process may begin later.
    """

    def __init__(self, pids: Callable[[], Sequence[int]]) -> None:
        self.samples: list[Sample] = []
        self._pids = pids
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            before = perf_counter()
            sleep(INTERVAL_S)
            self.samples.append(sample(self._pids(), perf_counter() - before - INTERVAL_S))
