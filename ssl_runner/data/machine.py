"""Memory and cores of this machine."""

import os
from contextlib import suppress
from pathlib import Path


def available_memory() -> int:
    """Bytes that can be had without swapping; those of the whole machine if the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        line = next(each for each in Path("/proc/meminfo").read_text().splitlines() if each.startswith("MemAvailable"))
        return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def usable_cores() -> int:
    """Cores that this process may use, which others may use as well."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
