from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chain_samples import LATENCY_MS, OBSERVE_MS, PRICE, Artifacts, write_profile
from coco_samples import write_ladder

from components.data.dataset import SCENE_TYPES, load_dataset
from components.data.split import load_split
from components.evaluation.average_precision import match_detections
from components.policy.label import PROFILE_FILE, LabelConfig, LabelSummary, label
from components.profiling.detections import load_profiles
from components.profiling.profile import ProfileConfig, profile_rung
from components.profiling.replay import PARTS, Replay, load_replay
from components.profiling.timing import TimingConfig, load_timings, time_ladder
from feature_transformer.observation import Look, frame_features, look_features
from foundation.errors import ConfigurationError, InvalidInput
from inference_graph.contract import LADDER

CONFIG = LabelConfig(quality_weight=2.0, latency_weight=0.3, cost_weight=0.1)


def labelled(a: Artifacts, out: Path, config: LabelConfig = CONFIG) -> tuple[Replay, LabelSummary]:
    summary = label(a.dataset, a.detections, a.timings, a.observations, a.split, out, config)
    return load_replay(out), summary


@pytest.fixture(scope="module")
def made(
    prepared: Artifacts, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Replay, LabelSummary, Path]:
    out = tmp_path_factory.mktemp("label") / "replay"
    return *labelled(prepared, out), out


def test_frames_come_in_clips_and_know_their_part(
    made: tuple[Replay, LabelSummary, Path], prepared: Artifacts
) -> None:
    replay, data = made[0], load_dataset(prepared.dataset)
    assert sorted(replay.image_ids.tolist()) == sorted(data.image_ids.tolist())
    parts = load_split(prepared.split)
    for first, past in replay.clip_bounds.tolist():
        images = [data.images[i] for i in data.index_of(replay.image_ids[first:past].tolist())]
        assert len({image.clip for image in images}) == 1
        assert [image.frame_index for image in images] == list(range(6))
        (part,) = set(replay.parts[first:past].tolist())
        assert {image.id for image in images} <= set(parts.part(PARTS[part]).tolist())
    kinds = [data.images[i].scene_type for i in data.index_of(replay.image_ids.tolist())]
    assert [SCENE_TYPES[kind] for kind in replay.scene_types] == kinds


def test_quality_is_the_contribution_within_the_part(
    made: tuple[Replay, LabelSummary, Path], prepared: Artifacts
) -> None:
    replay, data = made[0], load_dataset(prepared.dataset)
    found = load_profiles(prepared.detections)
    parts = load_split(prepared.split)
    for names in (("train", "validation"), ("test",)):
        ids = np.sort(np.concatenate([parts.part(name) for name in names])).tolist()
        matched = match_detections(
            data.subset(ids), [found[rung].select(ids) for rung in LADDER], found["nano"].classes
        )
        expected = dict(zip(ids, matched.contributions(), strict=True))
        mine = replay.part(*names)
        np.testing.assert_allclose(
            mine.quality, [expected[image] for image in mine.image_ids.tolist()], rtol=1e-5
        )
    means = replay.quality.mean(axis=0)
    assert means[0] < means[1] < means[2]


def test_what_is_judged_does_not_touch_what_is_learned(
    made: tuple[Replay, LabelSummary, Path], prepared: Artifacts, tmp_path: Path
) -> None:
    """Other detections on the held-out frames, the same labels to learn from."""
    data = load_dataset(prepared.dataset)
    held_out = set(load_split(prepared.split).test.tolist())
    other = replace(prepared, detections={rung: tmp_path / rung for rung in LADDER})
    learn = [image for image in data.image_ids.tolist() if image not in held_out]
    for rung in LADDER:
        write_profile(tmp_path / rung, data, rung, seed=77)
    changed, _ = labelled(other, tmp_path / "changed")
    # Frames to learn from get the detections they had.
    for rung in LADDER:
        _splice(prepared.detections[rung], tmp_path / rung, learn)
    spliced, _ = labelled(other, tmp_path / "spliced")
    first = made[0]
    judged = np.isin(first.image_ids, list(held_out))
    np.testing.assert_array_equal(first.quality[~judged], spliced.quality[~judged])
    assert (first.quality[judged] != spliced.quality[judged]).any()
    assert (first.quality[~judged] != changed.quality[~judged]).any()


def _splice(source: Path, target: Path, image_ids: list[int]) -> None:
    """Give these images the detections of another profile."""
    for name in ("detections.parquet", "images.parquet"):
        ours, theirs = pd.read_parquet(target / name), pd.read_parquet(source / name)
        schema = pq.read_schema(target / name)
        kept = ours[~ours.image_id.isin(image_ids)]
        both = pd.concat([kept, theirs[theirs.image_id.isin(image_ids)]])
        both = both.sort_values("image_id", kind="stable")
        table = pa.Table.from_pandas(both, schema=schema.remove_metadata(), preserve_index=False)
        pq.write_table(table.replace_schema_metadata(schema.metadata), target / name)


def test_observations_and_looks_are_those_of_serving(
    made: tuple[Replay, LabelSummary, Path], prepared: Artifacts
) -> None:
    replay, data = made[0], load_dataset(prepared.dataset)
    found = list(load_profiles(prepared.detections).values())
    for row in (0, 17, len(replay) - 1):
        (index,) = data.index_of([int(replay.image_ids[row])]).tolist()
        np.testing.assert_array_equal(replay.frames[row], frame_features(data.read(index)))
        for rung, rows in enumerate(found):
            one = rows.of(index)
            look = Look(rung, one.boxes, one.scores, one.labels, 160, 128)
            np.testing.assert_array_equal(replay.looks[row, rung], look_features(look))


def test_latency_cost_and_reward_by_hand(
    made: tuple[Replay, LabelSummary, Path], prepared: Artifacts
) -> None:
    replay, summary, _ = made
    slower = 1 + 0.1 * ((replay.image_ids - 1) % 3)  # ids count from 1
    expected = slower[:, None] * np.array(LATENCY_MS)
    np.testing.assert_allclose(replay.latency_ms, expected, rtol=1e-6)
    np.testing.assert_allclose(replay.cost_usd, expected * PRICE / 3.6, rtol=1e-5)
    assert replay.observe_ms.tolist() == [OBSERVE_MS]
    unit = expected[:, 2].mean()
    # Cost over large's is the same ratio as latency's here.
    reward = 2.0 * replay.quality - (0.3 + 0.1) * expected / unit
    np.testing.assert_allclose(replay.reward(0.3), reward, atol=1e-5)
    best = reward.argmax(axis=1)
    for index, rung in enumerate(LADDER):
        assert summary.optimal_shares[rung] == pytest.approx(np.mean(best == index))
        assert summary.mean_latency_ms[rung] == pytest.approx(expected[:, index].mean(), rel=1e-5)
        assert summary.mean_quality[rung] == pytest.approx(float(replay.quality[:, index].mean()))
    assert summary.frames == len(replay) == 72


def test_the_profile_has_a_row_for_every_image_and_rung(
    made: tuple[Replay, LabelSummary, Path],
) -> None:
    replay, _, out = made
    table = pd.read_parquet(out / PROFILE_FILE)
    assert len(table) == 72 * 3
    assert table.rung.tolist() == [*LADDER] * 72
    assert table.image_id.tolist() == np.repeat(replay.image_ids, 3).tolist()
    assert (table.groupby("image_id").optimal.sum() == 1).all()
    best = table.loc[table.groupby("image_id").reward.idxmax()]
    assert best.optimal.all()
    np.testing.assert_allclose(table.quality, replay.quality.reshape(-1))
    np.testing.assert_allclose(table.cost_usd_per_million, replay.cost_usd.reshape(-1))
    np.testing.assert_allclose(table.reward, replay.reward(0.3).reshape(-1))
    assert set(table.part) == set(PARTS)
    assert set(table.scene_type) <= set(SCENE_TYPES)
    assert table.file_name.str.startswith("clip-").all()
    assert sorted(path.name for path in out.iterdir()) == ["profile.parquet", "replay.npz"]


def test_it_runs_on_what_profile_and_timing_write(prepared: Artifacts, tmp_path: Path) -> None:
    """Real detectors, real measurements: three classes of the scenes' nine."""
    ladder = write_ladder(tmp_path / "ladder")
    data = load_dataset(prepared.dataset)
    for rung, weights in ladder.items():
        profile_rung(prepared.dataset, weights, rung, tmp_path / rung, ProfileConfig(threads=1))
    time_ladder(
        prepared.dataset,
        ladder,
        tmp_path / "timings.json",
        TimingConfig(images=4, repeats=2, warmup=1, threads=1),
    )
    replay, summary = labelled(
        replace(
            prepared,
            detections={rung: tmp_path / rung for rung in LADDER},
            timings=tmp_path / "timings.json",
        ),
        tmp_path / "replay",
    )
    assert summary.frames == len(data)
    times = load_timings(tmp_path / "timings.json")
    np.testing.assert_array_equal(replay.latency_ms, times.latencies(replay.image_ids))
    assert np.isfinite(replay.quality).all()
    assert (replay.looks[:, :, 0] == 1).all()


def test_artifacts_that_do_not_belong_together_are_refused(
    prepared: Artifacts, tmp_path: Path
) -> None:
    out = tmp_path / "replay"
    backwards = dict(reversed(prepared.detections.items()))
    with pytest.raises(InvalidInput, match="detections of large, small, nano were given"):
        labelled(replace(prepared, detections=backwards), out)
    swapped = {**prepared.detections, "small": prepared.detections["large"]}
    with pytest.raises(InvalidInput, match="is the profile of large, not of small"):
        labelled(replace(prepared, detections=swapped), out)
    with pytest.raises(InvalidInput, match="holds no timings"):
        labelled(replace(prepared, timings=prepared.split), out)
    with pytest.raises(InvalidInput, match="holds no observations"):
        labelled(replace(prepared, observations=prepared.split), out)
    with pytest.raises(InvalidInput, match="holds no split"):
        labelled(replace(prepared, split=prepared.timings), out)
    fewer = tmp_path / "fewer"
    shutil.copytree(prepared.dataset, fewer)
    payload = json.loads((fewer / "annotations.json").read_text())
    gone = payload["images"].pop()["id"]
    payload["annotations"] = [row for row in payload["annotations"] if row["image_id"] != gone]
    (fewer / "annotations.json").write_text(json.dumps(payload))
    with pytest.raises(InvalidInput, match="was made on another data set"):
        labelled(replace(prepared, dataset=fewer), out)
    assert not out.exists()


@pytest.mark.parametrize(
    "bad", [{"quality_weight": 0.0}, {"latency_weight": 0.0}, {"cost_weight": -0.1}]
)
def test_weights_that_no_reward_can_have_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        LabelConfig(**bad)
