"""The gateway's memory while one stream goes on and on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil

from components.bench.serving.clips import EncodedClip, endless
from components.bench.serving.turns import turns
from components.parallel import Progress
from inference_graph.control.embedded.platform import Platform

_WINDOW = 0.1
"""Share of the stream over which memory is averaged, at its beginning and at its end."""
_MEGABYTE = 1024 * 1024


async def soak(
    platform: Platform, clips: Sequence[EncodedClip], seconds: float, progress: Progress
) -> dict[str, Any]:
    """Stream without a pause and watch the gateway's resident memory.

    Args:
        platform: runs.
        clips: what is streamed, again and again, in one session.
        seconds: for how long.
        progress: called with seconds gone and in all.

    Returns:
        ``rss_growth`` as :func:`resident_growth` has it, and ``detail``.

    Raises:
        Unavailable: the gateway ended the stream.
    """
    pid = next(one.pid for one in platform.states() if one.name == "gateway")
    process = psutil.Process(pid)
    frames = endless(clips)
    start = time.monotonic()
    looked: list[tuple[float, int]] = []
    count = 0
    async with turns(platform.gateway) as stream:
        while (gone := time.monotonic() - start) < seconds:
            await stream.answer(next(frames))
            count += 1
            if not looked or gone - looked[-1][0] >= seconds / 600:
                looked.append((gone, process.memory_info().rss))
                progress(int(gone), int(seconds))
    progress(int(seconds), int(seconds))
    found = resident_growth(looked, seconds)
    growth = found.pop("rss_growth")
    return {"rss_growth": growth, "detail": {"frames": count, "seconds": seconds, **found}}


def resident_growth(looked: Sequence[tuple[float, int]], end: float) -> dict[str, float]:
    """Memory at the end against that near the beginning.

    Args:
        looked: how far it was, and the resident bytes then.
        end: how far it went.

    Returns:
        ``rss_growth``: median of the last tenth over the median of the second tenth, minus 1 (the
        first tenth fills caches); and both medians in MiB.
    """
    at, rss = np.array(looked).T
    early = np.median(rss[(at >= _WINDOW * end) & (at < 2 * _WINDOW * end)])
    late = np.median(rss[at >= (1 - _WINDOW) * end])
    return {
        "rss_growth": float(late / early - 1),
        "early_mb": float(early / _MEGABYTE),
        "late_mb": float(late / _MEGABYTE),
    }
