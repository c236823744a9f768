from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from drift_samples import NOON, Streets, write_log, write_reference

from components.drift.embedding import EMBEDDING, embed
from components.drift.frames import STATISTICS, frames_of
from components.drift.reference import REFERENCE_FILE, load_reference
from components.drift.window import WindowConfig, load_rows, read_rows, save_rows
from foundation.errors import ConfigurationError, InvalidInput, SchemaMismatch
from inference_graph.prediction_log.row import PredictionRow
from inference_graph.prediction_log.writer import LogConfig, PredictionLog


def test_an_embedding_is_the_thumbnail_at_a_quarter_and_the_edges() -> None:
    seen = np.zeros((1, 1028), np.float32)
    seen[0, :1024].reshape(32, 32)[4:8, 8:12] = 0.5  # the second row's third cell
    seen[0, :1024].reshape(32, 32)[0, 0] = 0.16  # one pixel of sixteen
    seen[0, 1024:] = [0.1, 0.2, 0.3, 0.4]
    found = embed(seen)
    assert found.shape == (1, EMBEDDING)
    cells = found[0, :64].reshape(8, 8)
    assert cells[1, 2] == pytest.approx(0.5)
    assert cells[0, 0] == pytest.approx(0.01)
    assert np.count_nonzero(cells) == 2
    assert found[0, 64:].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


def rows_of(tmp_path: Path, rows: list[PredictionRow]) -> list[pa.Table]:
    with PredictionLog(LogConfig(url=str(tmp_path), observation_share=1.0)) as log:
        for row in rows:
            log.append(row)
    return read_rows(str(tmp_path), None, None, 0).tables


def test_rows_of_the_log_become_frames(tmp_path: Path) -> None:
    def at(number: int, key: str, **fields: object) -> PredictionRow:
        time = NOON + timedelta(seconds=number)
        return PredictionRow(event_id=key, time=time, source="stream", **fields)  # type: ignore[arg-type]  # one field each

    box = np.float32([[0, 0, 5, 5]])
    seen = np.full(1048, 0.25, np.float32)
    found = frames_of(
        rows_of(
            tmp_path,
            [
                at(3, "c", session="b", answered_by="large", policy_revision="p"),
                at(
                    1,
                    "a",
                    session="b",
                    answered_by="nano",
                    brightness=0.5,
                    blur=30.0,
                    boxes=np.repeat(box, 3, 0),
                    scores=[0.9, 0.5, 0.2],
                    labels=[1, 1, 0],
                    agreement=0.8,
                    shadow=True,
                    observation=seen,
                    policy_revision="q",
                ),
                at(2, "b", client="robot", answered_by="small", policy_revision="p"),
                at(4, "d", session="b", error="no rung answered"),
            ],
        )
    )
    assert len(found) == 3  # the one without an answer is left out
    assert found.stream.tolist() == [0, 1, 1]  # client robot, then session b in order of time
    assert found.place.tolist() == [0, 0, 1]
    assert found.rung.tolist() == [1, 0, 2]
    assert found.objects.tolist() == [0, 2, 0]  # scores from 0.25 on
    assert found.confidence[1] == pytest.approx(0.7)
    assert math.isnan(found.confidence[0])
    assert found.classes.tolist() == [[0, 0], [0, 2], [0, 0]]
    assert found.agreement[1:].tolist() == pytest.approx([0.8, 1.0])  # large agrees with itself
    assert math.isnan(found.agreement[0])
    assert found.statistics[1, STATISTICS.index("blur")] == 30.0
    assert np.isnan(found.statistics[1, STATISTICS.index("noise")])
    assert found.embedding[1].tolist() == pytest.approx([0.25] * EMBEDDING)
    assert np.isnan(found.embedding[0]).all()
    assert found.policy_revision == "p"


def test_a_window_is_read_by_time_session_and_condition(tmp_path: Path) -> None:
    write_log(tmp_path, Streets(count=4, frames=10, seed=1))
    write_log(
        tmp_path,
        Streets(count=2, frames=10, seed=2),
        NOON + timedelta(hours=3),
        tags={"condition": "night"},
    )

    def count(window: WindowConfig, most: int = 0) -> int:
        since, until = window.bounds(NOON + timedelta(hours=4))
        return len(read_rows(str(tmp_path), since, until, most, window.only))

    assert count(WindowConfig(hours=0)) == 60
    assert count(WindowConfig(hours=2)) == 20
    assert count(WindowConfig(since="2026-11-21T12:00:02", until="2026-11-21T12:00:03")) == 10
    assert count(WindowConfig(since="2026-11-21T14:00:02+02:00", hours=0)) == 40
    assert count(WindowConfig(hours=0, condition="night")) == 20
    assert count(WindowConfig(hours=0, session="street-1-002")) == 10
    rows = read_rows(str(tmp_path), None, None, 25)
    assert (len(rows), rows.left_out) == (25, 35)
    assert min(table["time"][0].as_py() for table in rows.tables) >= NOON + timedelta(seconds=3.5)
    save_rows(rows, tmp_path / "kept")
    again = load_rows(tmp_path / "kept")
    assert again.left_out == 35
    assert frames_of(again.tables).embedding.tolist() == frames_of(rows.tables).embedding.tolist()
    with pytest.raises(InvalidInput, match="holds no window of a log"):
        load_rows(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"since": "yesterday"}, "since is 'yesterday'; give a time such as"),
        ({"hours": -1}, "hours is -1"),
        ({"since": "2026-11-21", "until": "2026-11-20"}, "is not before until"),
    ],
)
def test_windows_that_are_none_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        WindowConfig(**options)  # type: ignore[arg-type]  # values by name


def test_a_log_serves_as_reference_too(tmp_path: Path) -> None:
    write_log(tmp_path, Streets(count=6, frames=2))
    since = NOON + timedelta(seconds=0.4)
    found = load_reference(str(tmp_path), since, None)
    assert len(found.frames) == 8
    assert found.frames.held_out.all()


def test_a_reference_is_found_in_its_run_and_broken_ones_are_refused(tmp_path: Path) -> None:
    path = write_reference(tmp_path / "run", Streets(count=6, frames=2))
    for place in (path, path.parent):
        found = load_reference(str(place))
        assert len(found.frames) == 12
        assert found.class_names == ("person", "car", "bus")
        assert found.frames.held_out.sum() == 6
    with pytest.raises(InvalidInput, match="no reference: give --reference"):
        load_reference("")
    with pytest.raises(InvalidInput, match=f"no reference at .*; give {REFERENCE_FILE}"):
        load_reference(str(tmp_path / "nothing"))
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(InvalidInput, match="is no drift reference"):
        load_reference(str(tmp_path / "broken.parquet"))
    other = write_reference(tmp_path / "other", Streets(count=2), schema_hash="0" * 64)
    with pytest.raises(SchemaMismatch, match="observation schema 000000000000, version 1"):
        load_reference(str(other))


def test_an_empty_log_states_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no answer; send frames"):
        read_rows(str(tmp_path / "log"), None, None, 0)
