"""The dashboard of those who run it: services, queues, the prediction log, machines."""

from __future__ import annotations

from dashboards.grafana.panels import GrafanaDashboard, Graph, PanelRow, Query
from dashboards.grafana.queries import WINDOW, age, mean, now, quantile, rate, value
from foundation import metrics as service
from inference_graph import metric_names as words

_STAGES = service.STAGE_SECONDS
_JOB = 'job=~"gearshift-.+"'

_RUNS = PanelRow(
    "What runs",
    (
        Graph(
            "Rungs in use",
            (Query(value("min", words.RUNG_UP, "rung"), "{{rung}}"),),
            "bool_yes_no",
            "Whether the gateway sends frames there.",
        ),
        Graph(
            "Versions",
            (
                Query(
                    value("count", service.BUILD, "component", "version"),
                    "{{component}} {{version}}",
                ),
            ),
            "short",
            "Processes by component and version; two versions at once are a rollout.",
        ),
        Graph(
            "Policy and weights",
            (
                Query(
                    value("max", service.POLICY, "revision", "latency_weight"),
                    "policy {{revision}} at {{latency_weight}}",
                ),
                Query(value("max", service.RUNG, "rung", "revision"), "{{rung}} {{revision}}"),
            ),
            "short",
            "Revisions are the start of a file's SHA-256.",
        ),
    ),
)
_REQUESTS = PanelRow(
    "Requests",
    (
        Graph(
            "Requests by model and code",
            (Query(rate(service.REQUESTS, "model", "code"), "{{model}} {{code}}"),),
            "reqps",
            "Answers of the KServe services, REST and gRPC.",
        ),
        Graph(
            "p95 of a request",
            (
                Query(
                    quantile(service.REQUEST_SECONDS, 0.95, "model", "protocol"),
                    "{{model}} {{protocol}}",
                ),
            ),
            "s",
            "From the last byte of the request to the answer.",
        ),
        Graph(
            "p95 of a detector's stages",
            (
                Query(
                    quantile(_STAGES["detector"], 0.95, "model", "stage"),
                    "{{model}} {{stage}}",
                ),
            ),
            "s",
            "Queue, decoding and the network itself, by rung.",
        ),
        Graph(
            "p95 of the transformer's stages",
            (Query(quantile(_STAGES["transformer"], 0.95, "stage"), "{{stage}}"),),
            "s",
            "The way of the InferenceGraph: decode, observe, and the router's decision.",
        ),
        Graph(
            "p95 of a decision",
            (Query(quantile(_STAGES["router"], 0.95, "stage"), "{{stage}}"),),
            "s",
            "What the policy takes in the router.",
        ),
        Graph(
            "Images of one inference",
            (Query(mean(service.BATCH_IMAGES, "model"), "{{model}}"),),
            "short",
            "Mean size of a batch.",
        ),
    ),
)
_QUEUES = PanelRow(
    "Queues",
    (
        Graph(
            "Frames at the rungs",
            (Query(value("sum", words.RUNG_QUEUE, "rung"), "{{rung}}"),),
            "short",
            "Asked by the gateway and not answered yet.",
        ),
        Graph(
            "Wait the policy is told of",
            (Query(value("max", words.RUNG_WAIT, "rung"), "{{rung}}"),),
            "s",
            "Expected wait before each rung; the policy avoids long ones.",
        ),
        Graph(
            "Waiting for a worker",
            tuple(
                Query(value("sum", figure, "model"), f"{name} {{{{model}}}}")
                for name, figure in service.WAITING.items()
            ),
            "short",
            "Requests in the services' own queues.",
        ),
    ),
)
_LOG = PanelRow(
    "Prediction log",
    (
        Graph(
            "Rows of the log",
            tuple(
                Query(rate(figure), name)
                for name, figure in (
                    ("taken", words.LOG_ACCEPTED),
                    ("on the disk", words.LOG_STORED),
                    ("published", words.LOG_PUBLISHED),
                )
            ),
            "rowsps",
            "Published in bursts, every hour; the other two should be one line.",
        ),
        Graph(
            "Rows that are in no log",
            tuple(
                Query(rate(figure), name)
                for name, figure in (
                    ("dropped", words.LOG_DROPPED),
                    ("refused", words.LOG_REFUSED),
                    ("set aside", words.LOG_SET_ASIDE),
                    ("damaged", words.LOG_DAMAGED_ROWS),
                    ("came twice", words.LOG_DUPLICATES),
                    ("outages", words.LOG_OUTAGES),
                )
            ),
            "rowsps",
            "Those that came twice are no loss: they are stored once.",
        ),
        Graph(
            "Failing now",
            (Query(value("max", words.LOG_FAILING, "activity"), "{{activity}}"),),
            "bool_yes_no",
            "The gateway's log names the reason.",
        ),
        Graph(
            "Since the log last did its work",
            (
                Query(age(words.LOG_FLUSHED), "stored"),
                Query(age(words.LOG_PUBLICATION), "published"),
            ),
            "s",
            "Stored every second; published when an hour ends.",
        ),
        Graph(
            "Rows that wait in memory",
            (Query(now(words.LOG_WAITING.name), "{{instance}}"),),
            "short",
            "They are lost if the gateway is killed.",
        ),
        Graph(
            "Backlog on the local disk",
            (Query(now(words.LOG_BACKLOG.name), "{{instance}}"),),
            "bytes",
            "They outlive a kill, and wait for the log's place.",
        ),
    ),
)
_KAFKA = PanelRow(
    "Frames from Kafka",
    (
        Graph(
            "Messages settled",
            (Query(rate(words.KAFKA_MESSAGES, "outcome"), "{{outcome}}"),),
            "short",
            "Each second, by what became of them.",
        ),
        Graph(
            "Lag",
            (
                Query(value("sum", words.KAFKA_LAG, "topic"), "{{topic}}"),
                Query(value("sum", words.KAFKA_HELD), "held by workers"),
            ),
            "short",
            "Messages that are not committed.",
        ),
        Graph(
            "Age of an answer: p95",
            (Query(quantile(words.KAFKA_AGE, 0.95), "p95"),),
            "s",
            "From the time a camera stamped on a frame to its answer.",
        ),
        Graph(
            "Workers",
            (
                Query(value("sum", words.KAFKA_UP), "connected"),
                Query(value("sum", words.KAFKA_PAUSED), "paused"),
            ),
            "short",
            "A paused worker holds enough messages already.",
        ),
        Graph(
            "Rebalances, aborted transactions, clocks ahead",
            (
                Query(f"sum(rate({now(words.KAFKA_REBALANCES.name)}[{WINDOW}]))", "rebalances"),
                Query(rate(words.KAFKA_TRANSACTIONS, "outcome"), "transactions {{outcome}}"),
                Query(
                    f"sum(rate({now(words.KAFKA_CLOCK_AHEAD.name)}[{WINDOW}]))",
                    "frames from the future",
                ),
            ),
            "short",
            "Each second.",
        ),
    ),
)
_MACHINES = PanelRow(
    "Machines",
    (
        Graph(
            "Cores used",
            (
                Query(
                    f"rate({now('process_cpu_seconds_total', _JOB)}[{WINDOW}])",
                    "{{job}} {{service}} {{component}}",
                ),
            ),
            "short",
            "Of every process.",
        ),
        Graph(
            "Memory",
            (
                Query(
                    now("process_resident_memory_bytes", _JOB), "{{job}} {{service}} {{component}}"
                ),
            ),
            "bytes",
            "Resident, of every process.",
        ),
        Graph(
            "GPU: busy",
            (Query(value("max", service.GPU_BUSY, "gpu", "model_name"), "{{gpu}} {{model_name}}"),),
            "percentunit",
            "Empty without a GPU.",
        ),
        Graph(
            "GPU: memory",
            (
                Query(
                    value("max", service.GPU_MEMORY_USED, "gpu", "model_name"),
                    "{{gpu}} {{model_name}} used",
                ),
                Query(
                    value("max", service.GPU_MEMORY, "gpu", "model_name"), "{{gpu}} {{model_name}}"
                ),
            ),
            "bytes",
            "Empty without a GPU.",
        ),
    ),
)


def services_page() -> GrafanaDashboard:
    """The dashboard."""
    return GrafanaDashboard(
        "gearshift-services",
        "Gearshift: services",
        "What runs, how busy it is, and whether the prediction log is well.",
        (_RUNS, _REQUESTS, _QUEUES, _LOG, _KAFKA, _MACHINES),
    )
