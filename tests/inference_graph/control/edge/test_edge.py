from __future__ import annotations

import hashlib
import io
import json
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from edge_samples import climbing_policy, small_ladder
from gateway_samples import SIZE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import MakeDetector, MakePolicy, drawn
from typer.testing import CliRunner

from foundation.errors import (
    ConfigurationError,
    GearshiftError,
    InvalidInput,
    ModelError,
    SchemaMismatch,
    StorageError,
    VideoError,
)
from foundation.signing.keys import new_key
from foundation.signing.trust import revoke_key, trust_key
from foundation.storage import sha256_file
from inference_graph.contract import LADDER
from inference_graph.control.edge import bundle as bundle_module
from inference_graph.control.edge.bundle import Bundle, BundleSummary, read_bundle, write_bundle
from inference_graph.control.edge.cameras import camera_frames
from inference_graph.control.edge.config import EdgeConfig
from inference_graph.control.edge.run import EdgeRun, EdgeSummary, run_edge
from inference_graph.detector import Detector
from inference_graph.local_video import files as video_io
from inference_graph.prediction_log.reader import read_log
from inference_graph.prediction_log.session_files import read_sessions
from inference_graph.prediction_log.writer import PredictionLog


@pytest.fixture
def packed(make_policy: MakePolicy, make_detector: MakeDetector, tmp_path: Path) -> Any:
    policy, ladder = climbing_policy(make_policy), small_ladder(make_detector)

    def pack(name: str = "edge.tar", key: Path | None = None, **options: Any) -> BundleSummary:
        config = EdgeConfig(**({"threads": 1} | options))
        return write_bundle(tmp_path / name, None if config.always else policy, ladder, config, key)

    return pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine frames."""
    place = tmp_path / "frames"
    place.mkdir()
    for number in range(9):
        cv2.imwrite(str(place / f"{number:03d}.png"), drawn(*SIZE, seed=number))
    return place


def routed(
    bundle: Bundle, camera: Path | str, out: Path, **options: Any
) -> tuple[EdgeSummary, list[dict[str, Any]]]:
    answers: list[dict[str, Any]] = []
    run = EdgeRun("robot-7", **options)
    summary = run_edge(bundle, str(camera), out, run, on_answer=lambda one: answers.append({**one}))
    return summary, answers


class TestBundle:
    def test_the_same_inputs_give_the_same_bytes(self, packed: Any, tmp_path: Path) -> None:
        first, second = packed("a.tar", latency_weight=0.25), packed("b.tar", latency_weight=0.25)
        assert first.sha256 == second.sha256 == sha256_file(tmp_path / "a.tar")
        assert packed("c.tar", latency_weight=0.5).sha256 != first.sha256
        with tarfile.open(tmp_path / "a.tar") as tar:
            members = tar.getmembers()
        assert [one.name for one in members] == [
            "bundle.json",
            "bundle.json.sha256",
            "policy.onnx",
            *(f"ladder/{rung}.onnx" for rung in LADDER),
        ]
        assert {(one.mtime, one.uid, one.gid, one.mode) for one in members} == {(0, 0, 0, 0o644)}
        bundle = read_bundle(tmp_path / "a.tar")
        assert bundle.config == EdgeConfig(latency_weight=0.25, threads=1)
        assert {rung: bundle.rung(rung).revision for rung in LADDER} == first.ladder
        policy = bundle.policy()
        assert policy is not None and policy.revision == first.policy

    @settings(
        max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_no_byte_can_be_changed(self, packed: Any, tmp_path: Path, data: st.DataObject) -> None:
        path = tmp_path / "edge.tar"
        if not path.exists():
            packed()
        sound = path.read_bytes()
        content = bytearray(sound)
        # Headers are few among the bytes; half of the changes shall meet one.
        at = data.draw(st.integers(0, len(sound) - 1) | st.integers(0, 700))
        content[at] ^= data.draw(st.integers(1, 255))
        changed = tmp_path / "changed.tar"
        changed.write_bytes(content)
        before = read_bundle(path)
        try:
            after = read_bundle(changed)
        except GearshiftError:
            return
        # Padding and names of owners do not count; what is used is the same.
        assert (after.config, after.files) == (before.config, before.files)

    def test_a_bundle_that_was_cut_short(self, packed: Any, tmp_path: Path) -> None:
        packed()
        content = (tmp_path / "edge.tar").read_bytes().rstrip(b"\0")  # the end is padding
        for length in (0, 100, 512, 5000, len(content) // 2, len(content) * 3 // 4):
            (tmp_path / "cut.tar").write_bytes(content[:length])
            with pytest.raises(InvalidInput):
                read_bundle(tmp_path / "cut.tar")
        with pytest.raises(StorageError):
            read_bundle(tmp_path / "none.tar")

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("../evil.onnx", tarfile.REGTYPE),
            ("/etc/passwd", tarfile.REGTYPE),
            ("policy.onnx", tarfile.SYMTYPE),
            ("policy.onnx", tarfile.REGTYPE),  # a second one
            ("extra", tarfile.DIRTYPE),
        ],
    )
    def test_other_members_are_refused(
        self, packed: Any, tmp_path: Path, name: str, kind: bytes
    ) -> None:
        packed()
        with tarfile.open(tmp_path / "edge.tar", "a") as tar:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry, io.BytesIO(b""))
        with pytest.raises(InvalidInput, match="which no bundle does"):
            read_bundle(tmp_path / "edge.tar")

    def test_a_signature_holds_the_whole_bundle(
        self, packed: Any, tmp_path: Path, make_policy: MakePolicy
    ) -> None:
        private, public = new_key("release", tmp_path)
        trust = tmp_path / "trust.json"
        trust_key(trust, public)
        packed("plain.tar")
        with pytest.raises(ModelError, match="is not signed"):
            read_bundle(tmp_path / "plain.tar", trust)
        assert packed("signed.tar", private).signed_by
        assert read_bundle(tmp_path / "signed.tar", trust).signed_by == "release"
        # Another policy with a list that names it rightly, under the signature of the first.
        with tarfile.open(tmp_path / "signed.tar") as tar:
            files = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
        other = make_policy(bias=(0, 0, 9), name="other.onnx").read_bytes()
        listed = json.loads(files["bundle.json"])
        listed["files"]["policy.onnx"] = bundle_module._facts(other)
        text = json.dumps(listed).encode()
        digest = hashlib.sha256(text).hexdigest().encode()
        files |= {"policy.onnx": other, "bundle.json": text, "bundle.json.sha256": digest}
        with tarfile.open(tmp_path / "forged.tar", "w") as tar:
            for name, content in files.items():
                bundle_module._add(tar, name, content)
        assert read_bundle(tmp_path / "forged.tar").policy()  # whole, but not signed
        with pytest.raises(ModelError, match="it was changed"):
            read_bundle(tmp_path / "forged.tar", trust)
        revoke_key(trust, "release", "lost")
        with pytest.raises(ModelError, match="was revoked"):
            read_bundle(tmp_path / "signed.tar", trust)

    def test_what_cannot_be_packed_or_run(
        self, packed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for policy, always in ((None, None), (tmp_path / "p.onnx", "nano")):
            with pytest.raises(ConfigurationError, match="either a policy"):
                write_bundle(tmp_path / "x.tar", policy, {}, EdgeConfig(always=always))
        with pytest.raises(ConfigurationError, match="lacks nano, small, large"):
            write_bundle(tmp_path / "x.tar", None, {}, EdgeConfig(always="nano"))
        (tmp_path / "bad.onnx").write_bytes(b"no network")
        bad = dict.fromkeys(LADDER, tmp_path / "bad.onnx")
        with pytest.raises(ModelError):
            write_bundle(tmp_path / "x.tar", None, bad, EdgeConfig(always="nano"))
        assert not (tmp_path / "x.tar").exists()
        packed("y.tar")
        older = [one.name for one in fields(EdgeConfig) if one.name != "reopen_seconds"]
        with monkeypatch.context() as patched:
            patched.setattr(bundle_module, "EdgeConfig", make_dataclass("Older", older))
            with pytest.raises(InvalidInput, match="sets reopen_seconds.* a newer one packed it"):
                read_bundle(tmp_path / "y.tar")
        with monkeypatch.context() as patched:
            patched.setattr("feature_transformer.makers.MAKERS", {})
            with pytest.raises(SchemaMismatch, match="pack it with the version that runs it"):
                read_bundle(tmp_path / "y.tar")
        monkeypatch.setattr(bundle_module, "FORMAT", 2)
        with pytest.raises(InvalidInput, match="has format 1, this program reads 2"):
            read_bundle(tmp_path / "y.tar")

    def test_configuration_out_of_range(self) -> None:
        for options in ({"always": "huge"}, {"log_mb": 0}, {"image_share": 2.0}):
            with pytest.raises(ConfigurationError):
                EdgeConfig(**options)  # type: ignore[arg-type]


class TestRun:
    def test_frames_are_routed_in_process_without_a_network(
        self, packed: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        packed(observation_share=1.0, image_share=1.0, statistics_share=1.0, track=False)
        bundle = read_bundle(tmp_path / "edge.tar")

        made = socket.socket

        def no_network(family: int = socket.AF_INET, *given: Any, **named: Any) -> socket.socket:
            if family == socket.AF_UNIX:  # to the process that decodes
                return made(family, *given, **named)
            raise AssertionError("a network was asked")

        monkeypatch.setattr(socket, "socket", no_network)
        summary, answers = routed(
            bundle, folder, tmp_path / "log", session="s", tags={"condition": "fog"}
        )
        # The policy takes the rungs in turn, for it sees which one looked before.
        assert [one["answered_by"] for one in answers] == list(LADDER) * 3
        assert [len(one["detections"]) for one in answers] == [1, 2, 3] * 3
        assert (summary.frames, summary.failed, summary.rows_lost) == (9, 0, 0)
        assert summary.shares == dict.fromkeys(LADDER, 1 / 3)
        rows = read_log(str(tmp_path / "log")).to_pylist()
        assert [row["event_id"] for row in rows] == [one["event_id"] for one in answers]
        assert [row["rung"] for row in rows] == list(LADDER) * 3
        first = rows[0]
        assert (first["session"], first["client"], first["condition"]) == ("s", "robot-7", "fog")
        assert dict(first["tags"])["bundle"] == bundle.revision
        assert first["image"] and first["observation"] and first["blur"] is not None
        (session,) = read_sessions(str(tmp_path / "log")).values()
        assert (session.session, session.frames, session.client) == ("s", 9, "robot-7")
        assert list((tmp_path / "log").glob("predictions/**/*.parquet")) == []  # that is a sync's

    def test_answers_hold_the_classes_that_are_asked_for(
        self, packed: Any, folder: Path, tmp_path: Path
    ) -> None:
        packed(track=False)
        bundle = read_bundle(tmp_path / "edge.tar")
        names = {
            one["name"]
            for answer in routed(bundle, folder, tmp_path / "all")[1]
            for one in answer["detections"]
        }
        kept = min(names)
        found = [
            {one["name"] for one in answer["detections"]}
            for answer in routed(bundle, folder, tmp_path / "one", classes=kept)[1]
        ]
        assert set().union(*found) == {kept}
        with pytest.raises(InvalidInput, match="classes: 'persn' is not known; did you mean"):
            routed(bundle, folder, tmp_path / "none", classes="persn")

    def test_answers_are_fused_and_tracks_answer_frames(
        self, packed: Any, folder: Path, tmp_path: Path
    ) -> None:
        """Nano, small and large look in turn, and see one, two and three objects."""
        packed(reuse_frames=1, reuse_doubt=9.0)
        bundle = read_bundle(tmp_path / "edge.tar")
        summary, answers = routed(bundle, folder, tmp_path / "log")
        expected = ["nano", "reuse", "small", "reuse", "large", "reuse", "nano", "reuse", "small"]
        assert [one["answered_by"] for one in answers] == expected
        tracks = [[(seen["track"], seen["age"]) for seen in one["detections"]] for one in answers]
        assert tracks[:4] == [[(0, 0)], [(0, 1)], [(0, 0), (1, 0)], [(0, 1), (1, 1)]]
        assert summary.shares["reuse"] == 4 / 9
        rows = read_log(str(tmp_path / "log")).to_pylist()
        assert [row["answered_by"] for row in rows] == expected
        assert [row["revision"] == "" for row in rows] == [one == "reuse" for one in expected]

    def test_the_policy_says_when_tracks_answer(
        self, make_policy: MakePolicy, make_detector: MakeDetector, folder: Path, tmp_path: Path
    ) -> None:
        policy = climbing_policy(make_policy, **{"gearshift.reuse": '{"longest": 2, "doubt": 9.0}'})
        for reuse_frames, expected in (
            (None, ["nano", "reuse", "reuse", "small", "reuse"]),
            (0, ["nano", "small", "large", "nano", "small"]),
        ):
            config = EdgeConfig(threads=1, reuse_frames=reuse_frames)
            bundle = tmp_path / f"{reuse_frames}.tar"
            write_bundle(bundle, policy, small_ladder(make_detector), config, None)
            _, answers = routed(
                read_bundle(bundle), folder, tmp_path / f"log-{reuse_frames}", max_frames=5
            )
            assert [one["answered_by"] for one in answers] == expected

    def test_a_video_is_a_camera_and_a_run_can_be_short(self, packed: Any, tmp_path: Path) -> None:
        video = tmp_path / "v.mp4"
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25, SIZE[::-1])
        for number in range(5):
            writer.write(drawn(*SIZE, seed=number))
        writer.release()
        packed(always="small")
        bundle = read_bundle(tmp_path / "edge.tar")
        assert routed(bundle, video, tmp_path / "a")[0].frames == 5
        summary, answers = routed(bundle, video, tmp_path / "b", max_frames=2)
        assert [one["answered_by"] for one in answers] == ["small", "small"]
        assert summary.session.startswith("robot-7-")

    def test_an_answer_is_logged_and_given_before_the_reference_looks(
        self, packed: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        packed(always="nano", shadow_share=1.0, statistics_share=0.0, image_share=0.0)
        order: list[str] = []
        detect, append, amend = Detector.detect, PredictionLog.append, PredictionLog.amend

        def noted(name: str, done: Callable[..., Any]) -> Callable[..., Any]:
            def call(one: Any, *given: Any, **named: Any) -> Any:
                order.append(one.config.rung if name == "look" else name)
                return done(one, *given, **named)

            return call

        monkeypatch.setattr(Detector, "detect", noted("look", detect))
        monkeypatch.setattr(PredictionLog, "append", noted("row", append))
        monkeypatch.setattr(PredictionLog, "amend", noted("amended", amend))
        bundle = read_bundle(tmp_path / "edge.tar")
        run = EdgeRun("robot-7", max_frames=2)
        reported = lambda record: order.append("answer")  # noqa: E731
        run_edge(bundle, str(folder), tmp_path / "log", run, on_answer=reported)
        assert order[-10:] == ["nano", "row", "answer", "large", "amended"] * 2

    def test_the_reference_looks_beside(self, packed: Any, folder: Path, tmp_path: Path) -> None:
        packed(always="nano", shadow_share=1.0)
        routed(read_bundle(tmp_path / "edge.tar"), folder, tmp_path / "log")
        rows = read_log(str(tmp_path / "log"), columns=["shadow", "shadow_scores", "agreement"])
        assert rows["shadow"].to_pylist() == [True] * 9
        assert all(len(scores) == 3 for scores in rows["shadow_scores"].to_pylist())
        # Nano sees one of large's three objects: precision 1, recall 1/3, so F1 is 1/2.
        assert np.allclose(rows["agreement"].to_pylist(), 0.5)

    def test_a_rung_that_fails_is_replaced_by_its_neighbour(
        self, packed: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        packed(always="nano")
        failing = {"nano"}
        sound = Detector.detect

        def detect(self: Detector, frame: Any) -> Any:
            if self.config.rung in failing:
                raise ModelError("out of memory")
            return sound(self, frame)

        bundle = read_bundle(tmp_path / "edge.tar")
        monkeypatch.setattr(Detector, "detect", detect)
        summary, answers = routed(bundle, folder, tmp_path / "a")
        assert {(one["rung"], one["answered_by"], one["fallback"]) for one in answers} == {
            ("nano", "small", "failed")
        }
        assert (summary.frames, summary.fallbacks) == (9, 9)
        failing |= set(LADDER)
        summary, answers = routed(bundle, folder, tmp_path / "b")
        assert (answers, summary.failed, summary.frames) == ([], 9, 0)
        rows = read_log(str(tmp_path / "b"), columns=["error"])
        assert rows["error"].to_pylist() == ["out of memory"] * 9

    def test_the_log_stays_within_its_size_and_states_what_it_lost(
        self, packed: Any, folder: Path, tmp_path: Path
    ) -> None:
        packed(always="nano", observation_share=1.0, log_mb=1)
        bundle = read_bundle(tmp_path / "edge.tar")
        # Two MB of an earlier run wait for a sync.
        full = tmp_path / "log" / "journal" / "predictions" / "old.journal"
        full.parent.mkdir(parents=True)
        full.write_bytes(bytes(2 << 20))
        summary, answers = routed(bundle, folder, tmp_path / "log")
        assert (len(answers), summary.rows_lost) == (9, 9)  # answers go on
        reported: list[str] = []
        run_edge(bundle, str(folder), tmp_path / "log", EdgeRun("robot-7"), report=reported.append)
        assert len(reported) == 1 and "it has reached its limit" in reported[0]
        assert "bring the log to its place, or raise the limit" in reported[0]
        assert summary.log_bytes == 2 << 20
        assert read_log(str(tmp_path / "log")).num_rows == 0
        full.unlink()
        assert routed(bundle, folder, tmp_path / "log")[0].rows_lost == 0
        assert read_log(str(tmp_path / "log")).num_rows == 9


class _Camera:
    """A capture that gives numbered frames as fast as it is asked to, then none."""

    def __init__(self, count: int, step: threading.Semaphore | None = None) -> None:
        self.count, self.step, self.given = count, step, 0

    def isOpened(self) -> bool:  # noqa: N802  # OpenCV's name
        return self.count > 0

    def read(self) -> tuple[bool, Any]:
        if self.step is not None:
            self.step.acquire()
        if self.given >= self.count:
            return False, None
        self.given += 1
        return True, np.full((*SIZE, 3), self.given, np.uint8)

    def get(self, name: int) -> float:
        return 0.0

    def set(self, name: int, value: float) -> bool:
        return False

    def release(self) -> None:
        pass


class TestCameras:
    def test_who_is_slower_gets_the_newest_frame(self, monkeypatch: pytest.MonkeyPatch) -> None:
        steps = threading.Semaphore(1)
        camera = _Camera(6, steps)
        monkeypatch.setattr(video_io.cv2, "VideoCapture", lambda source: camera)
        stop = threading.Event()
        frames = camera_frames("0", stop, 1)
        first = next(frames)
        assert (int(first.frame[0, 0, 0]), first.dropped, first.cut) == (1, 0, False)
        steps.release(4)
        while camera.given < 5:
            stop.wait(0.01)
        seen = [next(frames)]
        while int(seen[-1].frame[0, 0, 0]) < 5:
            seen.append(next(frames))
        assert sum(one.dropped for one in seen) + len(seen) == 4
        stop.set()
        steps.release(9)
        assert list(frames) == []

    def test_a_camera_that_comes_back_is_a_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = iter([_Camera(1), _Camera(0), _Camera(1)])
        monkeypatch.setattr(video_io.cv2, "VideoCapture", lambda source: next(given))
        stop = threading.Event()
        frames: Iterator[Any] = camera_frames("rtsp://camera", stop, 0.01)
        assert [next(frames).cut, next(frames).cut] == [False, True]
        stop.set()
        assert list(frames) == []

    def test_sources_without_a_frame(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        stop = threading.Event()
        with pytest.raises(VideoError, match="holds no jpeg"):
            list(camera_frames(str(tmp_path), stop, 1))
        with pytest.raises(VideoError, match="no video"):
            list(camera_frames(str(tmp_path / "none.mp4"), stop, 1))
        (tmp_path / "a.png").write_bytes(b"x")
        with pytest.raises(VideoError, match=r"a\.png is no frame"):
            list(camera_frames(str(tmp_path), stop, 1))
        monkeypatch.setattr(video_io.cv2, "VideoCapture", lambda source: _Camera(0))
        with pytest.raises(VideoError, match="check that the camera"):
            list(camera_frames("7", stop, 1))

    def test_pictures_of_another_size_begin_anew(self, folder: Path) -> None:
        cv2.imwrite(str(folder / "004.png"), drawn(60, 80))
        cuts = [one.cut for one in camera_frames(str(folder), threading.Event(), 1)]
        assert cuts == [False] * 4 + [True, True] + [False] * 3


def test_the_command_line_packs_runs_and_syncs(
    folder: Path, tmp_path: Path, make_policy: MakePolicy, make_detector: MakeDetector
) -> None:
    import gearshift

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(gearshift.app, [str(one) for one in arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    ladder = tmp_path / "ladder"  # an input's folder takes no output
    ladder.mkdir()
    for path in small_ladder(make_detector).values():
        path.rename(ladder / path.name)
    out = tmp_path / "edge.tar"
    private, public = new_key("release", tmp_path)
    run("key", "trust", public, "--trust", tmp_path / "trust.json")
    packed = run(
        "bundle",
        "--policy",
        climbing_policy(make_policy),
        "--ladder",
        ladder,
        "--key",
        private,
        "--out",
        out,
        "--threads",
        1,
        "--json",
    )
    given = ("--bundle", out, "--trust", tmp_path / "trust.json")
    checked = json.loads(run("edge", "check", given[1], *given[2:], "--json"))
    assert checked["signed_by"] == "release"
    assert json.loads(packed)["bytes"] == out.stat().st_size
    options = ("--camera", folder, "--out", tmp_path / "log", "--device", "drone-3")
    lines = run("edge", "run", *given, *options, "--tag", "condition=fog", "--json").splitlines()
    assert [json.loads(line)["answered_by"] for line in lines] == list(LADDER) * 3
    reported = json.loads(
        run("edge", "sync", "--log", tmp_path / "log", "--to", tmp_path / "platform", "--json")
    )
    assert (reported["rows"], reported["sessions"], reported["left_bytes"]) == (9, 1, 0)
    # The command line's options count instead of what was packed; answers are kept beside.
    other = (folder, "--always", "nano", "--out", tmp_path / "log2", "--max-frames", 2)
    run("edge", "run", *given, *other, "--answers", tmp_path / "answers.jsonl")
    kept = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [one["answered_by"] for one in kept] == ["nano", "nano"]
    # With a network, the run itself brings what it logged.
    run("edge", "run", *given, *options, "--sync-to", tmp_path / "platform", "--max-frames", 4)
    rows = read_log(str(tmp_path / "platform"), columns=["client", "condition"]).to_pylist()
    assert len(rows) == 13
    assert {row["client"] for row in rows} == {"drone-3"}
