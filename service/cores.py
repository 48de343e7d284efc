"""How many CPUs this process may use, as far as the kernel says."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available(cgroup: Path = _CGROUP) -> int:
    """CPUs that the scheduler lets this process run on, and no more than its container's quota; 1 at least.

    Args:
        cgroup: Where the control group's files are, of version 2 (``cpu.max``) or 1 (``cpu.cfs_quota_us``).
    """
    quota = _quota(cgroup)
    cores = len(os.sched_getaffinity(0))
    return cores if quota is None else max(1, min(cores, int(quota)))


def _quota(cgroup: Path) -> float | None:
    """CPUs that a container may use; None without a limit."""
    try:
        numbers = (cgroup / "cpu.max").read_text().split()
    except OSError:
        try:
            numbers = [(cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")]
        except OSError:
            return None
    # "max" in version 2, -1 in version 1: no limit.
    limited = len(numbers) == 2 and numbers[0].isdigit() and numbers[1].isdigit() and int(numbers[1]) > 0
    return int(numbers[0]) / int(numbers[1]) if limited else None
