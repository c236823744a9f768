"""Every metric of the project: the gateway's, named here, and those of the KServe services."""

from __future__ import annotations

from foundation.metrics import SERVICE_FIGURES, MetricSpec

_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0),
)
_SHARES = tuple(step / 20 for step in range(1, 21))
_LOG = "a prediction log"

TRACK, STABLE, CANARY = "track", "stable", "canary"
"""Label of a service: the revision in use, or one that is rolled out."""

DECISIONS = MetricSpec(
    "gearshift_routing_decisions_total",
    "counter",
    "Frames answered, by the rung the policy chose.",
    ("rung",),
)
ANSWERS = MetricSpec(
    "gearshift_answers_total",
    "counter",
    "Frames answered, by the rung that did; reuse: by the stream's tracks, without a look.",
    ("rung",),
)
FALLBACKS = MetricSpec(
    "gearshift_fallbacks_total",
    "counter",
    "Frames answered by another rung than the chosen one, by why: failed, late or open.",
    ("reason",),
)
STAGE_SECONDS = MetricSpec(
    "gearshift_stage_seconds",
    "histogram",
    "Time of a frame's stages; total is from arrival to answer.",
    ("stage",),
    buckets=_BUCKETS,
)
OBJECTIVE_FRAMES = MetricSpec(
    "gearshift_objective_frames_total",
    "counter",
    "Frames answered, by whether that was within the latency objective.",
    ("source", "met"),
)
OBJECTIVE_SECONDS = MetricSpec(
    "gearshift_latency_objective_seconds",
    "gauge",
    "An answer within this time meets the objective.",
)
DEADLINE_MISSES = MetricSpec(
    "gearshift_deadline_misses_total",
    "counter",
    "Frames without an answer at their deadline.",
    ("source",),
)
FRAME_ERRORS = MetricSpec(
    "gearshift_frame_errors_total",
    "counter",
    "Frames without an answer, by HTTP code; from 500 on it is not the client's fault.",
    ("code",),
)
DROPPED = MetricSpec(
    "gearshift_frames_dropped_total",
    "counter",
    "Frames of streams for which a newer one was taken.",
)
HTTP_REQUESTS = MetricSpec(
    "gearshift_http_requests_total",
    "counter",
    "Requests by route and HTTP code; a stream counts once, 101 when it was let in.",
    ("route", "method", "code"),
)
STREAMS = MetricSpec("gearshift_streams", "gauge", "Streams open now.")
AGREEMENT = MetricSpec(
    "gearshift_shadow_agreement_ratio",
    "histogram",
    "F1 of an answer against the reference's, on the frames both looked at.",
    buckets=_SHARES,
)
SHADOWS = MetricSpec(
    "gearshift_shadows_total",
    "counter",
    "Looks of the reference beside the answer, by how they ended: looked or given up.",
    ("outcome",),
)
FEEDBACK = MetricSpec(
    "gearshift_feedback_total", "counter", "Feedback accepted, by kind.", ("kind",)
)

RUNG_UP = MetricSpec(
    "gearshift_rung_up",
    "gauge",
    "Whether frames go to the rung (its circuit is closed).",
    ("rung",),
)
RUNG_QUEUE = MetricSpec(
    "gearshift_rung_queue_length",
    "gauge",
    "Frames asked of a rung and not answered yet.",
    ("rung",),
)
RUNG_WAIT = MetricSpec(
    "gearshift_rung_expected_wait_seconds",
    "gauge",
    "Wait before a rung, as the policy sees it.",
    ("rung",),
)

LOG_ACCEPTED = MetricSpec(
    "gearshift_log_accepted_total", "counter", "Rows that the log took.", needs=_LOG
)
LOG_STORED = MetricSpec(
    "gearshift_log_stored_total", "counter", "Rows of the log that reached the disk.", needs=_LOG
)
LOG_PUBLISHED = MetricSpec(
    "gearshift_log_published_total", "counter", "Rows in Parquet at the log's place.", needs=_LOG
)
LOG_DROPPED = MetricSpec(
    "gearshift_log_dropped_total", "counter", "Rows of the log that were lost.", needs=_LOG
)
LOG_DUPLICATES = MetricSpec(
    "gearshift_log_duplicates_total",
    "counter",
    "Rows that came twice and were stored once.",
    needs=_LOG,
)
LOG_REFUSED = MetricSpec(
    "gearshift_log_refused_total", "counter", "Rows that could not be put into columns.", needs=_LOG
)
LOG_SET_ASIDE = MetricSpec(
    "gearshift_log_set_aside_total",
    "counter",
    "Journals that were set aside because they are damaged, or cannot become Parquet.",
    needs=_LOG,
)
LOG_DAMAGED_ROWS = MetricSpec(
    "gearshift_log_damaged_rows_total",
    "counter",
    "Rows that are known to have stood where a journal was damaged.",
    needs=_LOG,
)
LOG_OUTAGES = MetricSpec(
    "gearshift_log_outages_total",
    "counter",
    "How often storing or publishing began to fail.",
    needs=_LOG,
)
LOG_WAITING = MetricSpec(
    "gearshift_log_waiting_rows", "gauge", "Rows that wait in memory for the disk.", needs=_LOG
)
LOG_BACKLOG = MetricSpec(
    "gearshift_log_backlog_bytes",
    "gauge",
    "Length of the journals on the local disk that are not published.",
    needs=_LOG,
)
LOG_FLUSHED = MetricSpec(
    "gearshift_log_last_flush_timestamp_seconds",
    "gauge",
    "When all that waited was last on the disk, also if nothing did (Unix time).",
    needs=_LOG,
)
LOG_PUBLICATION = MetricSpec(
    "gearshift_log_last_publication_timestamp_seconds",
    "gauge",
    "When all closed journals were last at the log's place (Unix time).",
    needs=_LOG,
)
LOG_FAILING = MetricSpec(
    "gearshift_log_failing",
    "gauge",
    "Whether the log fails now at an activity: store, sync, publish or keep up.",
    ("activity",),
    needs=_LOG,
)

_WORKER = ("stream worker",)
"""A gateway that takes frames from Kafka."""

KAFKA_MESSAGES = MetricSpec(
    "gearshift_kafka_messages_total",
    "counter",
    "Messages settled, by what became of them: answered, skipped, dead_letter or feedback.",
    ("outcome",),
    by=_WORKER,
)
KAFKA_AGE = MetricSpec(
    "gearshift_kafka_age_seconds",
    "histogram",
    "From the time a camera stamped on a frame to its answer.",
    buckets=(*_BUCKETS[8:], 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
    by=_WORKER,
)
KAFKA_CLOCK_AHEAD = MetricSpec(
    "gearshift_kafka_clock_ahead_total",
    "counter",
    "Frames stamped more than a second in the future.",
    by=_WORKER,
)
KAFKA_LAG = MetricSpec(
    "gearshift_kafka_lag_messages",
    "gauge",
    "Messages of this worker's partitions that are not committed.",
    ("topic",),
    by=_WORKER,
)
KAFKA_HELD = MetricSpec(
    "gearshift_kafka_held_messages", "gauge", "Messages read and not committed.", by=_WORKER
)
KAFKA_PAUSED = MetricSpec(
    "gearshift_kafka_paused", "gauge", "Whether reading rests because enough is held.", by=_WORKER
)
KAFKA_UP = MetricSpec(
    "gearshift_kafka_up", "gauge", "Whether the worker is connected to its brokers.", by=_WORKER
)
KAFKA_REBALANCES = MetricSpec(
    "gearshift_kafka_rebalances_total",
    "counter",
    "How often partitions came to the worker or left it.",
    by=_WORKER,
)
KAFKA_TRANSACTIONS = MetricSpec(
    "gearshift_kafka_transactions_total",
    "counter",
    "Transactions by how they ended: committed or aborted.",
    ("outcome",),
    by=_WORKER,
)

_NAMED_HERE = tuple(one for one in list(globals().values()) if isinstance(one, MetricSpec))
GATEWAY_FIGURES = tuple(one for one in _NAMED_HERE if one.by != _WORKER)
"""Those that the gateway alone exposes."""
KAFKA_FIGURES = tuple(one for one in _NAMED_HERE if one.by == _WORKER)
"""Those of a gateway that takes frames from Kafka, besides."""
ALL_FIGURES = (*GATEWAY_FIGURES, *KAFKA_FIGURES, *SERVICE_FIGURES)
"""Every metric whose name begins with ``gearshift_``."""


def markdown_table() -> str:
    """The metrics as a Markdown table, one row each."""
    rows = ["| metric | kind | labels | exposed by | meaning |", "|---|---|---|---|---|"]
    for one in ALL_FIGURES:
        text = one.text + (f" Only with {one.needs}." if one.needs else "")
        labels, by = ", ".join(one.labels) or "–", ", ".join(one.by)
        rows.append(f"| `{one.name}` | {one.kind} | {labels} | {by} | {text} |")
    return "\n".join(rows) + "\n"
