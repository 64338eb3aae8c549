"""What processes cost, as the operating system counts it: CPU time in nanoseconds, resident memory."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
SCHED = 2  # the clock of the CPU time that the scheduler gave to a process: all its threads, ended ones included


def tree(pid: int) -> list[int]:
    """The process and its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has just ended
            children[parent].append(int(entry.name))
    found = [pid]
    for one in found:
        found += children[one]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time that the processes have used so far, user and system (clock_getcpuclockid(3), as Linux encodes it)."""
    return sum(time.clock_gettime(~pid << 3 | SCHED) for pid in pids)


def busy_seconds() -> float:
    """CPU time that all processes of the machine have used so far (proc_stat(5))."""
    ticks = [int(field) for field in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pids: Iterable[int]) -> float:
    """Resident memory of the processes in MB (10^6 bytes); pages that they share count for each."""
    pages = sum(int((PROC / str(pid) / "statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
