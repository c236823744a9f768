"""Memory that a process which logs for weeks takes once and gives back.

Every hour a journal becomes Parquet. The tens of megabytes of that second stay with the allocators
for good, unless there is one of them with few arenas, and it is asked: then resident memory is
afterwards what it was before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from types import MappingProxyType

import pyarrow as pa

ONE_ALLOCATOR: Mapping[str, str] = MappingProxyType(
    {
        # Arrow takes its own allocator when it is loaded, and that returns little.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MALLOC_ARENA_MAX": "2",
        # Frames are smaller, or every one of them would cost a page fault for each of its pages.
        "MALLOC_MMAP_THRESHOLD_": str(4 * 1024 * 1024),
        "MALLOC_TRIM_THRESHOLD_": str(4 * 1024 * 1024),
    }
)
"""Environment of a process that keeps a log; glibc and Arrow read it before anything runs."""


def give_memory_back() -> None:
    """Return to the kernel what the allocators hold unused."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other C libraries have none
    if trim is not None:
        trim(0)
