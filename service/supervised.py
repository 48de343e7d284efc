"""A worker does not outlive its supervisor: nobody would replace it, and a new server could not have its port."""

import ctypes
import logging
import os
import signal
import sys

logger = logging.getLogger(__name__)

# Of linux/prctl.h.
_PR_SET_PDEATHSIG = 1
# Which process starts the workers. No setting: `keras-serving serve` says it to them.
SUPERVISOR = "KERAS_SERVING_SUPERVISOR"


def stop_with_supervisor() -> None:
    """Let this process get SIGTERM when the one that started it ends, in whatever way.

    On Linux; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
        logger.warning("a worker may outlive its supervisor: %s", os.strerror(ctypes.get_errno()))
    parent = str(os.getppid())
    if os.environ.get(SUPERVISOR, parent) != parent:
        # It ended before we asked to be told.
        signal.raise_signal(signal.SIGTERM)
