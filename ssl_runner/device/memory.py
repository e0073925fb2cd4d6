"""Memory allocation by the C library, for runs on a CPU."""

import contextlib
import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
TOP_PAD = 64 * 2**20  # bytes that the heap grows by at once
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Lets glibc reuse large freed blocks instead of returning them to the system after every operation.

    By default each tensor above 32 MB is mapped anew, and every page of it faults on first use: of a convolutional
    network's step on two cores that is a third of the time. Does nothing if the C library is another.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)
        libc.mallopt(M_TOP_PAD, TOP_PAD)
