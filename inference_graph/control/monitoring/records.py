"""Recording rules: shares that alerts and dashboards ask for again and again.

Named ``level:metric:operation`` after Prometheus' advice; ``gearshift:`` stands for the platform of
one namespace. On a single machine the label ``namespace`` does not exist, and all is one platform.
"""

from __future__ import annotations

from typing import Any

from foundation.metrics import REQUEST_SECONDS, REQUESTS
from inference_graph import metric_names as words
from inference_graph.contract import REFERENCE

Rule = dict[str, Any]

WINDOWS = ("5m", "30m", "1h", "6h", "3d")
"""Those of the alerts on the error budget, see :mod:`inference_graph.control.monitoring.alerts`."""

FRAMES = "gearshift:frames:rate5m"
FRAMES_HOUR = "gearshift:frames:increase1h"
ROUTING_SHARE = "gearshift:routing_share:ratio_rate1h"
FALLBACK_SHARE = "gearshift:fallbacks:ratio_rate5m"
DROP_SHARE = "gearshift:frames_dropped:ratio_rate5m"
FAILED_SHARE = "gearshift:frames_failed:ratio_rate5m"
SERVICE_FAILED_SHARE = "gearshift:requests_failed:ratio_rate5m"
TRACK_REQUESTS = "gearshift:service_requests:rate5m"
TRACK_FAILED_SHARE = "gearshift:service_requests_failed:ratio_rate5m"
TRACK_SECONDS = "gearshift:service_request_seconds:mean5m"
LOOKS_HOUR = "gearshift:shadow_looks:increase1h"
AGREEMENT_HOUR = "gearshift:shadow_agreement:avg1h"
RETAINED = "gearshift:accuracy_retained:ratio_rate1h"


def over_objective(window: str) -> str:
    """Name of the share of answers over the latency objective within a window."""
    return f"gearshift:answers_over_objective:ratio_rate{window}"


def _by(expression: str, *labels: str) -> str:
    return f"sum by ({', '.join(('namespace', *labels))}) ({expression})"


def _rate(metric: str, window: str, matcher: str = "") -> str:
    return f"rate({metric}{matcher}[{window}])"


def record_rules() -> list[Rule]:
    """The rules, in an order in which each reads only what stands before it."""
    answered = _by(_rate(words.DECISIONS.name, "5m"))
    dropped = _by(_rate(words.DROPPED.name, "5m"))
    failed = _by(_rate(words.FRAME_ERRORS.name, "5m", '{code=~"5.."}'))
    requests_failed = _by(_rate(REQUESTS.name, "5m", '{code=~"5.."}'), "model")
    requests = _by(_rate(REQUESTS.name, "5m"), "model")
    track = ("service", words.TRACK)
    predictors = '{component!="transformer"}'
    tracked = _by(_rate(REQUESTS.name, "5m", predictors), *track)
    tracked_failed = _by(
        _rate(REQUESTS.name, "5m", '{component!="transformer",code=~"5.."}'), *track
    )
    seconds = _by(_rate(f"{REQUEST_SECONDS.name}_sum", "5m", predictors), *track)
    counted = _by(_rate(f"{REQUEST_SECONDS.name}_count", "5m", predictors), *track)
    looks = _by(f"increase({words.AGREEMENT.name}_count[1h])")
    agreed = _by(f"increase({words.AGREEMENT.name}_sum[1h])")
    others = _by(_rate(words.ANSWERS.name, "1h", f'{{rung!="{REFERENCE}"}}'))
    answers = _by(_rate(words.ANSWERS.name, "1h"))
    expressions = {
        FRAMES: answered,
        FRAMES_HOUR: _by(f"increase({words.DECISIONS.name}[1h])"),
        ROUTING_SHARE: (
            f"{_by(_rate(words.DECISIONS.name, '1h'), 'rung')} / on (namespace) group_left () "
            f"{_by(_rate(words.DECISIONS.name, '1h'))}"
        ),
        FALLBACK_SHARE: f"{_by(_rate(words.FALLBACKS.name, '5m'))} / {answered}",
        DROP_SHARE: f"{dropped} / ({dropped} + {answered})",
        FAILED_SHARE: f"{failed} / ({failed} + {answered})",
        SERVICE_FAILED_SHARE: f"{requests_failed} / {requests}",
        # By service and track, so that a canary stands beside the revision in use.
        TRACK_REQUESTS: tracked,
        TRACK_FAILED_SHARE: f"({tracked_failed} or {tracked} * 0) / {tracked}",
        TRACK_SECONDS: f"{seconds} / {counted}",
        LOOKS_HOUR: looks,
        AGREEMENT_HOUR: f"{agreed} / {looks}",
        # What the reference answered itself is its own accuracy; of the rest the looks are a
        # sample.
        RETAINED: f"1 - (1 - {AGREEMENT_HOUR}) * ({others} / {answers})",
    }
    for window in WINDOWS:
        over = _by(_rate(words.OBJECTIVE_FRAMES.name, window, '{met="false"}'))
        every = _by(_rate(words.OBJECTIVE_FRAMES.name, window))
        expressions[over_objective(window)] = f"{over} / {every}"
    return [{"record": name, "expr": text} for name, text in expressions.items()]
