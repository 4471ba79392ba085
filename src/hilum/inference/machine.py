"""How many processors this process may really use: affinity, and the quota of its control group."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = CGROUP) -> int:
    """Processors that this process may use, at least 1.

    ONNX Runtime left to itself starts a thread for every core of the machine, also inside a container that was given
    two of them.

    Args:
        cgroup: where the control group's files are; an argument so that a test can give its own.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(cgroup)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def cpu_quota(cgroup: Path = CGROUP) -> float | None:
    """Processors that the control group grants, such as 1.5; None without a limit (cgroup v2, then v1)."""
    second = _numbers(cgroup / "cpu.max")
    if second and len(second) == 2 and second[1] > 0:
        return second[0] / second[1]
    quota, period = _numbers(cgroup / "cpu" / "cpu.cfs_quota_us"), _numbers(cgroup / "cpu" / "cpu.cfs_period_us")
    if quota and period and quota[0] > 0 and period[0] > 0:
        return quota[0] / period[0]
    return None


def _numbers(path: Path) -> list[float] | None:
    try:
        return [float(word) for word in path.read_text().split()]
    except (OSError, ValueError):  # no such file, or "max": no limit
        return None
