"""Alerts: one function per subject, each alert with a runbook of its name.

Where a promise is kept over weeks (latency), the alert looks at how fast the budget of bad answers
is used up, over a long and a short window at once: "The Site Reliability Workbook" (Google, 2018),
chapter 5, "Alerting on SLOs", table 5-8: 2 % of 30 days' budget within an hour (14.4 times the
allowed rate) or 5 % within six hours (6 times) is urgent, 10 % within three days (1 time) is not.
"""

from __future__ import annotations

from inference_graph import metric_names as words
from inference_graph.control.monitoring import records
from inference_graph.control.monitoring.objectives import Objectives
from inference_graph.control.monitoring.records import Rule, over_objective

CRITICAL, WARNING = "critical", "warning"
GATEWAY_JOB, SERVICES_JOB = "gearshift-gateway", "gearshift-services"
"""The label ``job`` of what is scraped."""

_FAST = (("1h", "5m", 14.4), ("6h", "30m", 6.0))
_SLOW = (("3d", "6h", 1.0),)
"""Long window, short window, and times the allowed rate."""
_PUBLISH_HOURS = 2
"""A closed hour that is not published by then is late."""


def alert_rules(objectives: Objectives) -> list[Rule]:
    """All alerts; one whose objective is off is left out."""
    rules = [
        *_routing(objectives),
        *_latency(objectives),
        *_errors(objectives),
        *_accuracy(objectives),
        *_rungs(objectives),
        *_log(objectives),
        *_kafka(objectives),
        *_targets(objectives),
    ]
    for rule in rules:
        rule["annotations"]["runbook_url"] = f"{objectives.runbooks}/{rule['alert']}.md"
    return rules


def _routing(objectives: Objectives) -> list[Rule]:
    if not objectives.routing_floor:
        return []
    return [
        _alert(
            "GearshiftRoutingUnbalanced",
            f"{records.ROUTING_SHARE} < {objectives.routing_floor:g} and on (namespace) "
            f"{records.FRAMES_HOUR} >= {objectives.least_frames}",
            "15m",
            WARNING,
            "{{ $labels.rung }} gets few frames",
            "{{ $labels.rung }} got {{ $value | humanizePercentage }} of the frames of the last "
            f"hour; {objectives.routing_floor:.0%} are expected of every rung.",
        )
    ]


def _latency(objectives: Objectives) -> list[Rule]:
    budget = 1 - objectives.latency_target
    aim = f"{objectives.latency_target:.5g}"

    def burning(windows: tuple[tuple[str, str, float], ...]) -> str:
        return " or ".join(
            f"({over_objective(long)} > {factor * budget:.6g} and "
            f"{over_objective(short)} > {factor * budget:.6g})"
            for long, short, factor in windows
        )

    share_over = "{{ $value | humanizePercentage }} of the answers were over the latency objective"
    return [
        _alert(
            "GearshiftLatencyBudgetBurnsFast",
            burning(_FAST),
            "2m",
            CRITICAL,
            "Answers are too slow",
            f"{share_over}; at this rate the budget of 30 days (target {aim}) is gone within days.",
        ),
        _alert(
            "GearshiftLatencyBudgetBurnsSlow",
            burning(_SLOW),
            "1h",
            WARNING,
            "Answers are a little too slow, for days",
            f"{share_over} for three days, which is more than the target of {aim} allows.",
        ),
    ]


def _errors(objectives: Objectives) -> list[Rule]:
    ceiling = f"{objectives.error_ceiling:g}"
    enough = f"{records.FRAMES_HOUR} >= {objectives.least_frames}"
    return [
        _alert(
            "GearshiftFramesFail",
            f"{records.FAILED_SHARE} > {ceiling}",
            "5m",
            CRITICAL,
            "Frames are not answered",
            "{{ $value | humanizePercentage }} of the frames failed with a code of 500 or more.",
        ),
        _alert(
            "GearshiftServiceErrors",
            f"{records.SERVICE_FAILED_SHARE} > {ceiling}",
            "5m",
            WARNING,
            "{{ $labels.model }} answers with errors",
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.model }} failed.",
        ),
        _alert(
            "GearshiftFramesDropped",
            f"{records.DROP_SHARE} > {objectives.drop_ceiling:g} and {enough}",
            "10m",
            WARNING,
            "Streams send faster than they are answered",
            "{{ $value | humanizePercentage }} of the frames were dropped for a newer one.",
        ),
    ]


def _accuracy(objectives: Objectives) -> list[Rule]:
    if not objectives.accuracy_floor:
        return []
    return [
        _alert(
            "GearshiftAccuracyLow",
            f"{records.RETAINED} < {objectives.accuracy_floor:g} and "
            f"{records.LOOKS_HOUR} >= {objectives.least_frames}",
            "15m",
            WARNING,
            "The chosen rungs see less than large would",
            "{{ $value | humanizePercentage }} of large's accuracy was retained within the last "
            f"hour, as the shadow measures it; {objectives.accuracy_floor:.0%} are expected.",
        )
    ]


def _rungs(objectives: Objectives) -> list[Rule]:
    return [
        _alert(
            "GearshiftRungDown",
            f"min by (namespace, rung) ({words.RUNG_UP.name}) == 0",
            _seconds(objectives.patience_seconds),
            CRITICAL,
            "{{ $labels.rung }} is left alone",
            "No frames go to {{ $labels.rung }}, because it failed or was late; its neighbours "
            "answer in its place.",
        ),
        _alert(
            "GearshiftFallbacksHigh",
            f"{records.FALLBACK_SHARE} > {objectives.fallback_ceiling:g} and "
            f"{records.FRAMES_HOUR} >= {objectives.least_frames}",
            "5m",
            WARNING,
            "Other rungs answer than the ones chosen",
            "{{ $value | humanizePercentage }} of the frames were answered by another rung than "
            "the policy chose.",
        ),
    ]


def _log(objectives: Objectives) -> list[Rule]:
    lost = " + ".join(
        f"increase({one.name}[10m])"
        for one in (words.LOG_DROPPED, words.LOG_REFUSED, words.LOG_SET_ASIDE)
    )
    return [
        _alert(
            "GearshiftLogStalled",
            f"time() - {words.LOG_FLUSHED.name} > {objectives.patience_seconds}",
            _seconds(objectives.patience_seconds),
            CRITICAL,
            "The prediction log does not reach the disk",
            "{{ $labels.instance }} last stored its rows {{ $value | humanizeDuration }} ago; "
            "answers go on, and are lost for the log once its queue is full.",
        ),
        _alert(
            "GearshiftLogRowsLost",
            f"{lost} > 0",
            "0s",
            WARNING,
            "Rows of the prediction log are lost",
            "{{ $value | humanize }} rows or files of rows of the last ten minutes are in no log.",
        ),
        _alert(
            "GearshiftLogUnpublished",
            f"time() - {words.LOG_PUBLICATION.name} > {_PUBLISH_HOURS * 3600} "
            f"and {words.LOG_BACKLOG.name} > 0",
            # After hours without a row, the first one waits for the end of its hour.
            "75m",
            WARNING,
            "The prediction log does not reach its place",
            "{{ $labels.instance }} last published {{ $value | humanizeDuration }} ago; rows wait "
            "on its local disk.",
        ),
    ]


def _kafka(objectives: Objectives) -> list[Rule]:
    limit, patience = f"{objectives.frame_age_seconds:g}", _seconds(objectives.patience_seconds)
    lag = f"sum by (namespace) ({words.KAFKA_LAG.name})"
    settled = f"sum by (namespace) (rate({words.KAFKA_MESSAGES.name}[5m]))"
    ages = f"sum by (namespace, le) (rate({words.KAFKA_AGE.name}_bucket[5m]))"
    return [
        _alert(
            "GearshiftKafkaDisconnected",
            f"{words.KAFKA_UP.name} == 0",
            patience,
            CRITICAL,
            "A worker reads no frames from Kafka",
            "{{ $labels.instance }} is not connected to its brokers; its /readyz gives the reason.",
        ),
        _alert(
            "GearshiftKafkaLag",
            # Infinite while messages wait and none is settled.
            f"{lag} / {settled} > {limit}",
            "5m",
            WARNING,
            "Frames wait in Kafka",
            "At the present rate the workers need {{ $value | humanizeDuration }} for the messages "
            f"that wait; {limit} s are allowed.",
        ),
        _alert(
            "GearshiftKafkaFramesOld",
            f"histogram_quantile(0.95, {ages}) > {limit}",
            "5m",
            WARNING,
            "Frames from Kafka are answered late",
            "One answer of twenty comes {{ $value | humanizeDuration }} or more after its frame "
            f"was captured; {limit} s are allowed.",
        ),
    ]


def _targets(objectives: Objectives) -> list[Rule]:
    return [
        _alert(
            "GearshiftTargetDown",
            f'up{{job=~"{GATEWAY_JOB}|{SERVICES_JOB}"}} == 0 or absent(up{{job="{GATEWAY_JOB}"}})',
            _seconds(objectives.patience_seconds),
            CRITICAL,
            "{{ $labels.job }} cannot be watched",
            "{{ $labels.instance }} of {{ $labels.job }} does not answer Prometheus; the gateway "
            "says in /readyz whether frames are answered.",
        )
    ]


def _alert(name: str, when: str, lasting: str, severity: str, summary: str, text: str) -> Rule:
    return {
        "alert": name,
        "expr": when,
        "for": lasting,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": text},
    }


def _seconds(count: int) -> str:
    return f"{count}s"
