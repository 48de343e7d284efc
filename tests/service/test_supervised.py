"""The end of the process that started this one."""

import os
import subprocess
import sys

import pytest

from service.supervised import SUPERVISOR

_CHILD = """
import signal
import time
from service.supervised import stop_with_supervisor

def stop(number, frame):
    print("stopped", flush=True)
    raise SystemExit

signal.signal(signal.SIGTERM, stop)
stop_with_supervisor()
print("waits", flush=True)
for _ in range(400):
    time.sleep(0.05)
"""
_SUPERVISOR = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_a_process_is_told_to_stop_when_its_supervisor_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", _SUPERVISOR, _CHILD], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "waits\n"
        supervisor.kill()
        # Ends when the last process that can write there does.
        assert supervisor.stdout.read() == "stopped\n"


@pytest.mark.parametrize(("supervisor", "said"), [(None, "waits\n"), (2**22 + 1, "stopped\n")], ids=["lives", "died"])
def test_a_process_whose_supervisor_died_before_it_could_ask_to_be_told_stops(
    supervisor: int | None, said: str
) -> None:
    # No process has a number above 2**22: another one than the parent, as where a dead one's children went to.
    known = {**os.environ, SUPERVISOR: str(supervisor or os.getpid())}
    with subprocess.Popen([sys.executable, "-c", _CHILD], stdout=subprocess.PIPE, text=True, env=known) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == said
        child.kill()
