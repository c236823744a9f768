"""``python -m flink.job``: prepares the frames of a Kafka topic, in Apache Flink.

Only what runs on Flink stands here: :mod:`inference_graph.streams.preparation` defines what becomes
of a frame and :mod:`inference_graph.streams.minutes` what is known of a minute. Tables of Flink's
Kafka connector carry headers and times of the messages; its Python streams do not.

All that a frame becomes goes through one sink, so one transaction of Kafka holds it, and it is
committed with the checkpoint that holds the frame's offset and its camera's state.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyflink.common import Configuration, Instant, Row, Types
from pyflink.datastream import KeyedProcessFunction, StreamExecutionEnvironment
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.table import Schema, StreamTableEnvironment

from flink.config import JobConfig, connector_options, parse
from foundation.command_line import read_options, run_command
from foundation.errors import GearshiftError, Unavailable
from inference_graph.streams.config import BrokerConfig
from inference_graph.streams.dead_letters import dead_letter
from inference_graph.streams.messages import (
    FrameMessage,
    OutgoingMessage,
    read_frame,
    read_headers,
)
from inference_graph.streams.minutes import MINUTE_MS, CameraState, minute_message
from inference_graph.streams.preparation import PreparationConfig, prepare, prepared_message
from inference_graph.streams.uncommitted import HeldMessage

_BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
_PUBLISHED = Types.ROW_NAMED(
    ["target", "k", "v", "headers", "kafka_time"],
    [Types.STRING(), _BYTES, _BYTES, Types.MAP(Types.STRING(), _BYTES), Types.INSTANT()],
)
_COLUMNS = (
    ("target", "STRING"),
    ("k", "BYTES"),
    ("v", "BYTES"),
    ("headers", "MAP<STRING, BYTES>"),
    ("kafka_time", "TIMESTAMP_LTZ(3)"),
)
_TRANSACTION_SECONDS = 300
"""Of a job that does not come back, readers wait so long for what it left open."""


class PrepareCamera(KeyedProcessFunction):
    """Prepares the frames of one camera after the other, and closes its minutes."""

    def __init__(self, job: JobConfig, preparation: PreparationConfig) -> None:
        """Hold what every task needs.

        Args:
            job: topics.
            preparation: how frames are prepared.
        """
        self._job = job
        self._preparation = preparation
        self._source = f"/gearshift/{job.group}"

    def open(self, runtime_context: Any) -> None:
        """Find the state and the counters of this task."""
        self._state = runtime_context.get_state(ValueStateDescriptor("camera", Types.STRING()))
        group = runtime_context.get_metrics_group()
        names = ("published", "repeats", "refused", "late")
        self._counters = {name: group.counter(f"frames_{name}") for name in names}

    def process_element(self, value: Any, ctx: Any) -> Iterator[Row]:
        """Publish what a message becomes."""
        key, content, headers, came, partition, offset = value
        place = (self._job.frames, partition)
        size = len(content or b"")
        given = list((headers or {}).items())
        message = HeldMessage(place, offset, size, key, content, given)
        came_ms = came.to_epoch_milli()
        try:
            limit = self._preparation.max_bytes
            frame = read_frame(key, content, read_headers(given), limit)
        except GearshiftError as error:
            self._counters["refused"].inc()
            yield _row(dead_letter(self._job.dead_letters, message, error), came_ms)
            return
        for one in self._prepare(frame, message, came_ms, ctx.timer_service()):
            yield _row(one, came_ms)

    def _prepare(
        self, frame: FrameMessage, message: HeldMessage, came_ms: int, timers: Any
    ) -> Iterator[OutgoingMessage]:
        kept = self._state.value()
        state = CameraState.model_validate_json(kept) if kept else CameraState()
        minute = state.minute_of(frame, came_ms, timers.current_watermark())
        if minute is None:
            self._counters["late"].inc()
        else:
            timers.register_event_time_timer(minute + MINUTE_MS)
        try:
            if frame.is_reference:
                state.count(minute, "references")
                headers = [(name, text or b"") for name, text in message.headers or ()]
                yield OutgoingMessage(self._job.prepared, message.key, message.value, headers)
            else:
                prepared = prepare(frame.data, self._preparation)
                if state.add(minute, frame, prepared, self._preparation):
                    self._counters["published"].inc()
                    yield prepared_message(self._job.prepared, frame, prepared)
                else:
                    self._counters["repeats"].inc()
        except Unavailable:
            raise  # nothing is wrong with the frame: the task is tried again from its checkpoint
        except GearshiftError as error:
            self._counters["refused"].inc()
            state.count(minute, "refused")
            yield dead_letter(self._job.dead_letters, message, error)
        self._state.update(state.model_dump_json())

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[Row]:
        """Publish a minute that is over."""
        kept = self._state.value()
        if kept is None:
            return
        state = CameraState.model_validate_json(kept)
        event = state.close(timestamp - MINUTE_MS)
        self._state.update(state.model_dump_json())
        if event is not None:
            yield _row(minute_message(self._job.minutes, event, self._source), timestamp)


def _row(message: OutgoingMessage, milliseconds: int) -> Row:
    time = Instant.of_epoch_milli(milliseconds)
    return Row(message.topic, message.key, message.value, dict(message.headers), time)


def _camera(row: Row) -> str:
    """Messages of one key have one state; it need not be text."""
    return (row[0] or b"").hex()


def build(job: JobConfig, brokers: BrokerConfig, preparation: PreparationConfig) -> Any:
    """The job as a statement set, ready to be executed.

    Args:
        job: topics and state.
        brokers: how they are reached.
        preparation: how frames are prepared.

    Raises:
        ConfigurationError: no broker is named, or a secret is missing.
    """
    kafka = connector_options(brokers)
    environment = StreamExecutionEnvironment.get_execution_environment(_configuration(job))
    tables = StreamTableEnvironment.create(environment)
    source = kafka | {
        "connector": "kafka",
        "topic": job.frames,
        "properties.group.id": job.group,
        "properties.isolation.level": "read_committed",
        "properties.auto.offset.reset": "earliest",
        "scan.startup.mode": "group-offsets",
        "scan.watermark.idle-timeout": f"{job.idle_seconds} s",
        **({"scan.bounded.mode": "latest-offset"} if job.bounded else {}),
        **_RAW,
    }
    # Minutes close by the times at which frames were published: no camera's clock moves them.
    tables.execute_sql(f"""CREATE TABLE frames (
        k BYTES, v BYTES, headers MAP<STRING, BYTES> METADATA VIRTUAL,
        kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
        place_of INT METADATA FROM 'partition' VIRTUAL,
        offset_of BIGINT METADATA FROM 'offset' VIRTUAL,
        WATERMARK FOR kafka_time AS kafka_time - {_interval(job.out_of_order_seconds)}
        ) WITH ({_options(source)})""")
    sink = kafka | {
        "connector": "kafka",
        "topic": f"{job.prepared};{job.minutes};{job.dead_letters}",
        "sink.delivery-guarantee": "exactly-once",
        "sink.transactional-id-prefix": job.group,
        "properties.transaction.timeout.ms": str(_TRANSACTION_SECONDS * 1000),
        "properties.max.request.size": str(preparation.max_bytes + 2**20),
        **_RAW,
    }
    tables.execute_sql(f"""CREATE TABLE published (
        target STRING METADATA FROM 'topic', k BYTES, v BYTES,
        headers MAP<STRING, BYTES> METADATA, kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
        ) WITH ({_options(sink)})""")
    frames = tables.to_data_stream(tables.from_path("frames"))
    prepared = (
        frames.key_by(_camera, Types.STRING())
        .process(PrepareCamera(job, preparation), _PUBLISHED)
        .name("prepare")
        .uid("prepare")
    )
    schema = Schema.new_builder()
    for name, kind in _COLUMNS:
        schema = schema.column(name, kind)
    statements = tables.create_statement_set()
    statements.add_insert("published", tables.from_data_stream(prepared, schema.build()))
    return statements


_RAW = {
    "key.format": "raw",
    "key.fields": "k",
    "value.format": "raw",
    "value.fields-include": "EXCEPT_KEY",
}


def _configuration(job: JobConfig) -> Configuration:
    settings = {
        "pipeline.name": "gearshift-preparation",
        "execution.checkpointing.interval": f"{int(job.checkpoint_seconds * 1000)} ms",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "python.fn-execution.bundle.time": "20",
        "python.fn-execution.bundle.size": "50",
        "table.exec.sink.not-null-enforcer": "DROP",
    }
    if job.parallelism:
        settings["parallelism.default"] = str(job.parallelism)
    if job.jar is not None:
        settings["pipeline.jars"] = job.jar.resolve().as_uri()
        settings["python.executable"] = sys.executable
        # A mini cluster has no one to wait for.
        settings["restart-strategy.type"] = "exponential-delay"
        settings["restart-strategy.exponential-delay.max-backoff"] = "5 s"
    if job.checkpoints:
        place = job.checkpoints
        url = place if "://" in place else Path(place).resolve().as_uri()
        settings["execution.checkpointing.dir"] = url
        if last := newest_checkpoint(job.checkpoints):
            settings["execution.state-recovery.path"] = last.as_uri()
    configuration = Configuration()
    for name, value in settings.items():
        configuration.set_string(name, value)
    return configuration


def newest_checkpoint(folder: str) -> Path | None:
    """The newest whole checkpoint below a folder of this machine; None for a bucket.

    On a cluster Flink's operator resumes a job; this is for the mini cluster, which forgets.
    """
    if "://" in folder:
        return None
    found = Path(folder).resolve().glob("*/chk-*/_metadata")
    newest = max(found, key=lambda file: file.stat().st_mtime_ns, default=None)
    return None if newest is None else newest.parent


def _interval(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    return f"INTERVAL '{days} {timedelta(seconds=rest)}' DAY TO SECOND"


def _options(options: dict[str, str]) -> str:
    quoted = ((name, value.replace("'", "''")) for name, value in options.items())
    return ", ".join(f"'{name}' = '{value}'" for name, value in quoted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job until it ends; exit code 1 and one line on stderr if it cannot start."""
    given = parse(arguments)

    def command() -> None:
        job = read_options(given, JobConfig)
        brokers = read_options(given, BrokerConfig)
        result = build(job, brokers, read_options(given, PreparationConfig)).execute()
        print(f"started {datetime.now(UTC):%H:%M:%S}", file=sys.stderr, flush=True)
        if job.jar is not None:
            result.wait()

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
