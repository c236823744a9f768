"""Figures as people read them; what is not known is a dash."""

from __future__ import annotations

import math

from inference_graph.contract import REFERENCE
from inference_graph.prediction_log.retained import Retained

UNKNOWN = "–"
FEW = 100
"""Of fewer frames a mean is a guess, and the 99th percentile is only the slowest frame."""


def percent(share: float, digits: int = 1) -> str:
    """0.953 as "95.3 %"."""
    return UNKNOWN if math.isnan(share) else f"{share * 100:.{digits}f} %"


def money(usd: float) -> str:
    """USD with as many digits as matter."""
    if math.isnan(usd):
        return UNKNOWN
    digits = 0 if abs(usd) >= 1000 else 2 if abs(usd) >= 0.1 or not usd else 4
    return f"{'−' if usd < 0 else ''}${abs(usd):,.{digits}f}"


def milliseconds(value: float) -> str:
    """A time with three digits that matter."""
    if math.isnan(value):
        return UNKNOWN
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def number(value: float, digits: int = 0) -> str:
    """A count with its thousands set apart."""
    return UNKNOWN if math.isnan(value) else f"{value:,.{digits}f}"


def interval_words(low: float, high: float) -> str:
    """A 95 % interval of shares before further words; empty where there is none."""
    return "" if math.isnan(low) else f"95 % interval {percent(low)} to {percent(high)}, "


def few(frames: int) -> str:
    """A warning before further words on a figure of fewer than ``FEW`` frames; else empty."""
    return f"from only {frames} frame{'' if frames == 1 else 's'}; " if 0 < frames < FEW else ""


def compared_words(kept: Retained, answered: int, unlike_large: int) -> str:
    """On what an agreement rests: its interval, or why there is none, and how many frames.

    Args:
        kept: the agreement.
        answered: frames that were answered.
        unlike_large: those of them that another rung answered; only these are compared.
    """
    if not answered:
        return "no frame was answered"
    if not unlike_large:
        return f"{REFERENCE} answered every frame"
    of = f"{number(kept.shadowed)} of {number(unlike_large)} frames compared"
    if not kept.shadowed:
        return of
    if kept.clusters < 2:
        return f"no interval: {of}, all in one minute of one session"
    return f"{interval_words(kept.low, kept.high)}{of}"
