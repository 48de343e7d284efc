"""What a thread of lower priority does to the event loop's thread: ``python -m benchmarks.priority``.

A thread that holds the interpreter's lock keeps it while the kernel gives the CPU to others. With the lowest
priority, on a machine whose cores are all busy, that lasts long, and the loop, which has a normal priority, waits for
the lock all the while. Here a thread works 4 ms ten times a second beside a loop that wakes up each millisecond,
while as many processes as there are cores keep these busy; with either priority in turn.
"""

import argparse
import os
import subprocess
import sys
import threading
from time import monotonic, perf_counter, sleep, thread_time

_WORK_S, _REST_S, _WAKE_S = 0.004, 0.1, 0.001
_BUSY = [sys.executable, "-c", "while True: pass"]


def lateness(niceness: int, seconds: float) -> list[float]:
    """How much too late the loop woke up each time, milliseconds, ascending."""
    over = threading.Event()

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
        while not over.wait(_REST_S):
            started = thread_time()
            while thread_time() - started < _WORK_S:
                sum(range(50))

    thread = threading.Thread(target=work)
    thread.start()
    late = []
    end = monotonic() + seconds
    while monotonic() < end:
        started = perf_counter()
        sleep(_WAKE_S)
        late.append((perf_counter() - started - _WAKE_S) * 1000)
    over.set()
    thread.join()
    return sorted(late)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="duration with each priority [%(default)s]")
    parser.add_argument("--rounds", type=int, default=2, help="[%(default)s]")
    options = parser.parse_args()
    others = [subprocess.Popen(_BUSY) for _ in range(os.cpu_count() or 1)]
    try:
        for _ in range(options.rounds):
            for niceness in (0, 19):
                late = lateness(niceness, options.seconds)
                p99 = late[int(len(late) * 0.99)]
                print(f"niceness {niceness:2}: p99 {p99:6.1f} ms late, at most {late[-1]:6.1f} ms", flush=True)
    finally:
        for process in others:
            process.kill()
            process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
