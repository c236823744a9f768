"""What a stream costs, and what routing saves of it.

``cost per million = mean ms * price per hour / 3.6``
(``components.profiling.timing.usd_per_million``), where the mean counts what a frame keeps busy:
observation, decision and detector, plus what the shadow's looks take, spread over all frames.
Waiting in a queue costs nothing.

``savings per month = robots * frames per second * 3600 * 730 / 10^6 * savings per million``:
a month has 730 hours, a twelfth of a year, and every robot streams around the clock. Like is
compared with like: on the frames that the shadow looked at, large and the chosen rung took the same
frame (``LogQueries.saved``), so the savings have a 95 % interval. Without a shadow, large costs
what it took when the policy was judged, and there is no interval.
"""

from __future__ import annotations

from components.profiling.timing import usd_per_million

HOURS_PER_MONTH = 730.0


def cost_per_million(busy_ms: float, shadow_ms: float, price_per_hour: float) -> float:
    """USD for a million frames.

    Args:
        busy_ms: mean time a frame keeps observation, decision and detector busy.
        shadow_ms: mean time of the shadow's looks, spread over all frames.
        price_per_hour: of the machine, USD.
    """
    return usd_per_million(busy_ms + shadow_ms, price_per_hour)


def savings_per_month(
    saved_ms: float, price_per_hour: float, robots: float, frames_per_second: float
) -> float:
    """USD saved in a month against always large; negative where routing costs more.

    Args:
        saved_ms: mean time that a frame keeps the machine busy less than by large alone.
        price_per_hour: of the machine, USD.
        robots: how many stream.
        frames_per_second: of each.
    """
    frames = robots * frames_per_second * 3600 * HOURS_PER_MONTH
    return frames / 1e6 * usd_per_million(saved_ms, price_per_hour)
