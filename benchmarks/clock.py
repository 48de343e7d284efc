"""A timer that is good to some 50 microseconds.

Event loops round their timers to whole milliseconds, which would send the requests of a millisecond at once.
"""

import ctypes
import os
from time import perf_counter

# Of Linux's timerfd_create(2); Python has it from 3.13 on.
_MONOTONIC = 1
_NONBLOCKING = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE = 1


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class Timer:
    """A file descriptor that becomes readable at a time of `time.perf_counter`, which Linux takes from the same clock.

    Raises:
        OSError: The kernel refuses it.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fileno = self._libc.timerfd_create(_MONOTONIC, _NONBLOCKING)
        if self.fileno < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")

    def set(self, due: float) -> None:
        """Ring at ``due``, or at once when it is past."""
        # Zero would switch it off.
        nanoseconds = max(int(max(due, perf_counter()) * 1e9), 1)
        setting = _Setting(_Time(0, 0), _Time(nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000))
        if self._libc.timerfd_settime(self.fileno, _ABSOLUTE, ctypes.byref(setting), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def clear(self) -> None:
        """After it rang."""
        try:
            os.read(self.fileno, 8)
        except BlockingIOError:
            # Set anew between the ring and this.
            return

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fileno)
