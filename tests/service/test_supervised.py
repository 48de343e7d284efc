"""The end of the process that started this one."""

import subprocess
import sys

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
