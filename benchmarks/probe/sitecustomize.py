"""Loaded by the interpreter of a server under watch (PYTHONPATH): notes what could make it stand still.

Appends lines of JSON to a file a process in the folder ``STALL_PROBE``: collections of garbage above a millisecond,
times in which its own thread was not scheduled (someone held the GIL, or the machine stood still), and functions that
the main thread did not leave; `benchmarks.stalls` reads them. With ``PROFILE_PROBE`` it counts where CPU time goes;
`benchmarks.profile_path` reads that.
"""

import gc
import json
import os
import signal
import sys
import threading
import time
from types import FrameType

_INTERVAL_S = 0.005
_LATE_S = 0.02
# Where the main thread rests: waiting for events.
_RESTING = {"run_forever", "run", "wait", "select", "main"}


def _begin(folder: str) -> None:
    path = os.path.join(folder, f"{os.getpid()}.jsonl")  # noqa: PTH118 - as little as possible is imported
    collecting = 0.0

    def note(kind: str, since: float, seconds: float, what: str = "") -> None:
        line = {"kind": kind, "since": since, "seconds": seconds, "what": what}
        with open(path, "a") as file:  # noqa: PTH123
            file.write(json.dumps(line) + "\n")

    def collected(phase: str, info: dict[str, int]) -> None:
        nonlocal collecting
        if phase == "start":
            collecting = time.perf_counter()
        elif (seconds := time.perf_counter() - collecting) > 0.001:
            note("gc", collecting, seconds, f"generation {info['generation']}")

    def watch() -> None:
        main = threading.main_thread().ident
        where, since = "", time.perf_counter()
        while True:
            before = time.perf_counter()
            time.sleep(_INTERVAL_S)
            now = time.perf_counter()
            if now - before - _INTERVAL_S > _LATE_S:
                note("thread", before, now - before)
            frame = sys._current_frames().get(main or 0)
            name = frame.f_code.co_name if frame else ""
            if name != where:
                if now - since > _LATE_S and where not in _RESTING:
                    note("function", since, now - since, where)
                where, since = name, now

    gc.callbacks.append(collected)
    threading.Thread(target=watch, name="stall-probe", daemon=True).start()


def _profile(folder: str) -> None:
    """Every 2 ms of CPU time: which function, called by which of ours, the main thread is in."""
    path = os.path.join(folder, f"profile-{os.getpid()}.json")  # noqa: PTH118
    counts: dict[str, int] = {}
    total = 0

    def label(frame: FrameType) -> str:
        file = frame.f_code.co_filename
        for root in ("site-packages/", "python3.11/", "python3.12/"):
            if root in file:
                return f"{file.rpartition(root)[2]}:{frame.f_code.co_name}"
        return f"{'/'.join(file.split('/')[-3:])}:{frame.f_code.co_name}"

    def sampled(_: int, frame: FrameType | None) -> None:
        nonlocal total
        if frame is None:
            return
        name = label(frame)
        counts[name] = counts.get(name, 0) + 1
        total += 1
        if total % 100 == 0:
            with open(f"{path}.new", "w") as file:  # noqa: PTH123
                json.dump(counts, file)
            os.replace(f"{path}.new", path)  # noqa: PTH105

    signal.signal(signal.SIGPROF, sampled)
    signal.setitimer(signal.ITIMER_PROF, 0.002, 0.002)


if os.environ.get("STALL_PROBE"):
    _begin(os.environ["STALL_PROBE"])
if os.environ.get("PROFILE_PROBE"):
    _profile(os.environ["PROFILE_PROBE"])
