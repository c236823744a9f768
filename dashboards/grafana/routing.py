"""The dashboard of those who ask where frames go, how fast, and what accuracy that costs."""

from __future__ import annotations

from dashboards.grafana.panels import GrafanaDashboard, Graph, Number, PanelRow, Query
from dashboards.grafana.queries import now, quantile, rate, share, value
from inference_graph import metric_names as words
from inference_graph.control.monitoring import records
from inference_graph.control.monitoring.objectives import Objectives

_TOTAL = 'stage="total"'


def routing_page(objectives: Objectives) -> GrafanaDashboard:
    """The dashboard; thresholds are those of the alerts."""
    budget = round(1 - objectives.latency_target, 9)
    hour = records.over_objective("1h")
    glance = (
        Number(
            "Frames answered",
            Query(f"sum({now(records.FRAMES)})"),
            "reqps",
            "Frames answered per second, over five minutes.",
        ),
        Number(
            "Agreement with large",
            Query(f"min({now(records.RETAINED)})"),
            "percentunit",
            "Within the last hour, as the shadow measures it; large's own answers count as 1.",
            bad=objectives.accuracy_floor,
            worse="down",
        ),
        Number(
            "Over the latency objective",
            Query(f"max({now(hour)})"),
            "percentunit",
            f"Share of the answers of the last hour; {budget:.2%} are allowed over 30 days.",
            bad=budget,
        ),
        Number(
            "Answered by another rung",
            Query(f"max({now(records.FALLBACK_SHARE)})"),
            "percentunit",
            "Share of the frames that another rung than the chosen one answered.",
            bad=objectives.fallback_ceiling,
        ),
        Number(
            "Failed",
            Query(f"max({now(records.FAILED_SHARE)})"),
            "percentunit",
            "Share of the frames without an answer, through no fault of the client.",
            bad=objectives.error_ceiling,
        ),
        Number(
            "Streams",
            Query(value("sum", words.STREAMS)),
            "short",
            "Streams that are open now.",
        ),
    )
    where = (
        Graph(
            "Routing share",
            (Query(share(words.DECISIONS, "rung"), "{{rung}}"),),
            "percentunit",
            "What part of the frames the policy sent to each rung.",
            stacked=True,
        ),
        Graph(
            "Answers by rung",
            (Query(rate(words.ANSWERS, "rung"), "{{rung}}"),),
            "reqps",
            "Who answered; differs from the share where rungs fail or are late.",
        ),
        Graph(
            "Fallbacks by reason",
            (Query(rate(words.FALLBACKS, "reason"), "{{reason}}"),),
            "reqps",
            "Why another rung answered: the chosen one failed, was late, or is left alone (open).",
        ),
    )
    latency = (
        Graph(
            "From arrival to answer",
            tuple(
                Query(quantile(words.STAGE_SECONDS, level, matcher=_TOTAL), f"p{level * 100:g}")
                for level in (0.5, 0.95, 0.99)
            )
            + (Query(value("max", words.OBJECTIVE_SECONDS), "objective"),),
            "s",
            "Quantiles of the whole time of a frame, and the objective.",
        ),
        Graph(
            "p95 by stage",
            (Query(quantile(words.STAGE_SECONDS, 0.95, "stage"), "{{stage}}"),),
            "s",
            "Which stage a slow frame spends its time in.",
        ),
        Graph(
            "Burning the latency budget",
            tuple(
                Query(f"max({now(records.over_objective(window))}) / {budget:.6g}", window)
                for window in records.WINDOWS
            ),
            "short",
            "Answers over the objective, in multiples of what is allowed; 1 lasts for 30 days.",
        ),
        Graph(
            "Answers within the objective, and not",
            (Query(rate(words.OBJECTIVE_FRAMES, "source", "met"), "{{source}} within: {{met}}"),),
            "reqps",
            "Frames of streams and single images.",
        ),
        Graph(
            "Deadlines missed",
            (Query(rate(words.DEADLINE_MISSES, "source"), "{{source}}"),),
            "reqps",
            "Frames without an answer when their time was up.",
        ),
        Graph(
            "Frames dropped",
            (
                Query(rate(words.DROPPED), "dropped per second"),
                Query(f"max({now(records.DROP_SHARE)})", "share of all"),
            ),
            "short",
            "Frames of streams for which a newer one was taken.",
        ),
    )
    accuracy = (
        Graph(
            "Agreement with large",
            (
                Query(f"min({now(records.RETAINED)})", "all answers"),
                Query(f"avg({now(records.AGREEMENT_HOUR)})", "agreement of the looks"),
            ),
            "percentunit",
            "F1 against large's detections, weighted by the frames large did not answer itself.",
        ),
        Graph(
            "Agreement, quantiles",
            tuple(
                Query(quantile(words.AGREEMENT, level), f"p{level * 100:g}")
                for level in (0.05, 0.25, 0.5)
            ),
            "percentunit",
            "How bad the bad frames are.",
        ),
        Graph(
            "Looks of the reference",
            (
                Query(rate(words.SHADOWS, "outcome"), "{{outcome}}"),
                Query(rate(words.FEEDBACK, "kind"), "feedback: {{kind}}"),
            ),
            "reqps",
            "How much the accuracy is known from, and what people corrected.",
        ),
    )
    errors = (
        Graph(
            "Frames without an answer, by code",
            (Query(rate(words.FRAME_ERRORS, "code"), "{{code}}"),),
            "reqps",
            "4xx is the client's fault; 503: no rung, 504: too late, 500: the gateway's own.",
            width=12,
        ),
        Graph(
            "Requests, by route and code",
            (Query(rate(words.HTTP_REQUESTS, "route", "code"), "{{route}} {{code}}"),),
            "reqps",
            "A stream counts once; 101 when it was let in.",
            width=12,
        ),
    )
    return GrafanaDashboard(
        "gearshift-routing",
        "Gearshift: routing",
        "Where frames go, how fast they are answered, and what accuracy that costs.",
        (
            PanelRow("At a glance", glance),
            PanelRow("Where frames go", where),
            PanelRow("How fast", latency),
            PanelRow("How well", accuracy),
            PanelRow("What fails", errors),
        ),
    )
