from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
import pytest
from replay_samples import learnable_replay, replay_of
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor

from components.policy.environment import EnvironmentConfig, ReplayEnvironment, steps_per_second
from components.profiling.replay import Replay
from feature_transformer.observation import (
    FRAME_SLICE,
    LOAD_SLICE,
    LOOK_SLICE,
    OBSERVATION_SIZE,
    PREFERENCE_INDEX,
    Look,
    context_features,
    frame_features,
    look_features,
    observation,
)
from foundation.errors import ConfigurationError

NANO, SMALL, LARGE = 0, 1, 2


def environment(replay: Replay, *sizes: int, **more: Any) -> ReplayEnvironment:
    """Fleets of the given sizes at a latency weight of 1."""
    config = EnvironmentConfig(fleets=1, fleet_sizes=sizes, **more)
    return ReplayEnvironment(replay, config, seed=0, latency_weight=1.0)


def loads(observations: np.ndarray) -> list[list[float]]:
    return np.round(observations[:, LOAD_SLICE] * 100, 3).tolist()  # back to milliseconds


def test_queues_by_hand() -> None:
    """Three cameras share rungs of 10, 20 and 50 ms; frames come every 30 ms, wait 60 at most."""
    # A frame's reward is 0.1, 0.2 or 0.3 less its latency over large's 50 ms.
    world = environment(replay_of([1]), 3, frame_interval_ms=30.0, deadline_ms=60.0)
    assert loads(world.reset()) == [[0, 0, 0]]
    steps = [
        # Rung, reward, queues that the next decision sees.
        # All large: they would wait 0, 50 and 100 ms; the third is dropped at the deadline.
        (LARGE, 0.3 - 50 / 50, [0, 0, 50]),
        (LARGE, 0.3 - 100 / 50, [0, 0, 100]),
        (LARGE, -60 / 50, [0, 0, 70]),  # 100 ms of work less the 30 that passed
        # Large has 70 ms of work, so the first is dropped; on nano the third waits for the second.
        (LARGE, -60 / 50, [0, 0, 70]),
        (NANO, 0.1 - 10 / 50, [10, 0, 70]),
        (NANO, 0.1 - 20 / 50, [0, 0, 40]),
        # Waits of 40, and of 90 for the second; small is free.
        (LARGE, 0.3 - 90 / 50, [0, 0, 90]),
        (LARGE, -60 / 50, [0, 0, 90]),
        (SMALL, 0.2 - 20 / 50, [0, 0, 60]),
        # A wait of exactly the deadline is served.
        (LARGE, 0.3 - 110 / 50, [0, 0, 110]),
    ]
    for rung, reward, queues in steps:
        seen, rewards, _, _ = world.step(np.array([rung]))
        np.testing.assert_allclose(rewards, [reward], rtol=1e-6)
        assert loads(seen) == [queues]
    assert world.dropped == 3


def test_fleets_do_not_share_queues_and_a_camera_alone_never_waits() -> None:
    world = environment(replay_of([1]), 1, 2, frame_interval_ms=60.0, deadline_ms=500.0)
    world.reset()
    seen, rewards, _, _ = world.step(np.full(2, LARGE))
    np.testing.assert_allclose(rewards, [0.3 - 1, 0.3 - 1], rtol=1e-6)
    assert loads(seen) == [[0, 0, 0], [0, 0, 50]]
    seen, rewards, _, _ = world.step(np.full(2, LARGE))
    np.testing.assert_allclose(rewards, [0.3 - 1, 0.3 - 2], rtol=1e-6)
    assert loads(seen) == [[0, 0, 0], [0, 0, 40]]


def test_rungs_that_share_a_processor_wait_for_each_other() -> None:
    world = environment(
        replay_of([1]), 3, frame_interval_ms=30.0, deadline_ms=500.0, shared_processor=True
    )
    world.reset()
    for rung, wait, left in ((NANO, 0, 10), (LARGE, 10, 60), (SMALL, 60, 50)):
        seen, rewards, _, _ = world.step(np.array([rung]))
        own = (10, 20, 50)[rung]
        np.testing.assert_allclose(rewards, 0.1 * (rung + 1) - (wait + own) / 50, rtol=1e-5)
        assert loads(seen) == [[left] * 3]  # at the end 80 ms of work less the 30 that passed


def test_reset_empties_the_queues_and_the_first_camera_begins() -> None:
    world = environment(replay_of([1]), 3, frame_interval_ms=1.0)
    world.reset()
    for left in (50, 100):
        seen, *_ = world.step(np.array([LARGE]))
        assert loads(seen) == [[0, 0, left]]
    assert loads(world.reset()) == [[0, 0, 0]]
    for left in (50, 100, 149):  # time passes after the third again
        seen, *_ = world.step(np.array([LARGE]))
        assert loads(seen) == [[0, 0, left]]


def test_the_observed_load_ends_at_a_second() -> None:
    world = environment(replay_of([1]), 30, frame_interval_ms=10.0, deadline_ms=5000.0)
    world.reset()
    for _ in range(30):
        seen, *_ = world.step(np.array([LARGE]))
    assert seen[0, LOAD_SLICE][LARGE] == 10.0


def test_a_look_is_the_chosen_rungs_and_a_clip_begins_without_one() -> None:
    replay = replay_of([3, 5])
    world = environment(replay, 1, 1, 1, 1, deadline_ms=1e6)
    seen = world.reset()
    rng = np.random.default_rng(1)
    ends = set()
    for _ in range(40):
        at = seen[:, 0].astype(int)  # a frame's first number is its position
        actions = rng.integers(0, 3, 4)
        seen, _, done, infos = world.step(actions)
        for camera in range(4):
            look = seen[camera, LOOK_SLICE][0]
            last = at[camera] in (2, 7)  # clips end with these frames
            assert bool(done[camera]) == last
            if last:
                assert look == 0.0
                assert int(seen[camera, 0]) in (0, 3)
                final = infos[camera]["terminal_observation"]
                assert final[LOOK_SLICE][0] == 100 * at[camera] + actions[camera] + 1
                ends.add(int(at[camera]))
            else:
                assert look == 100 * at[camera] + actions[camera] + 1
                assert int(seen[camera, 0]) == at[camera] + 1
                assert infos[camera] == {}
    assert ends == {2, 7}


def test_a_dropped_frame_leaves_no_look() -> None:
    world = environment(replay_of([50]), 2, frame_interval_ms=10.0, deadline_ms=20.0)
    world.reset()
    world.step(np.array([LARGE]))
    first, *_ = world.step(np.array([LARGE]))
    second, *_ = world.step(np.array([NANO]))
    assert first[0, LOOK_SLICE][0] > 0
    assert not second[0, LOOK_SLICE].any()


def test_observations_are_those_of_serving() -> None:
    rng = np.random.default_rng(0)
    frames = [cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (160, 120)) for _ in range(4)]
    looks = [
        [
            Look(
                rung,
                rng.uniform(0, 100, (4, 4)).astype(np.float32),
                np.sort(rng.random(4).astype(np.float32))[::-1],
                np.arange(4) % 3,
                160,
                120,
            )
            for rung in range(3)
        ]
        for _ in frames
    ]
    blank = replay_of([4])
    replay = Replay(
        **{
            **blank.__dict__,
            "frames": np.stack([frame_features(frame) for frame in frames]),
            "looks": np.array([[look_features(look) for look in row] for row in looks]),
        }
    )
    config = EnvironmentConfig(fleets=1, fleet_sizes=(2,), frame_interval_ms=5.0)
    world = ReplayEnvironment(replay, config, seed=3, latency_weight=0.03)

    def start_of(row: np.ndarray) -> int:
        return int(np.flatnonzero((replay.frames == row[FRAME_SLICE]).all(axis=1))[0])

    seen = world.reset()
    starts = []
    # Queues before each decision, and the rung it takes.
    for load, rung in (((0.0, 0.0, 0.0), LARGE), ((0.0, 0.0, 50.0), SMALL)):
        starts.append(start_of(seen[0]))
        context = context_features(None, load, latency_weight=0.03)
        np.testing.assert_array_equal(seen[0], observation(frames[starts[-1]], context))
        seen, *_ = world.step(np.array([rung]))
    load = (0.0, 20.0 - 5.0, 50.0 - 5.0)
    compared = 0
    for start, rung in zip(starts, (LARGE, SMALL), strict=True):
        if start < 3:  # else the clip ended
            context = context_features(looks[start][rung], load, latency_weight=0.03)
            np.testing.assert_array_equal(seen[0], observation(frames[start + 1], context))
            compared += 1
        seen, *_ = world.step(np.array([NANO]))
        load = (10.0, load[1], load[2])
    assert compared


def test_operating_points_are_drawn_per_clip_over_the_whole_range() -> None:
    config = EnvironmentConfig(
        fleets=50, fleet_sizes=(1,), lowest_latency_weight=0.01, highest_latency_weight=1.0
    )
    world = ReplayEnvironment(replay_of([2, 2]), config, seed=0)
    reported = [world.reset()[:, PREFERENCE_INDEX]]
    for _ in range(20):
        seen, rewards, done, _ = world.step(np.full(50, LARGE))
        weight = 10.0 ** reported[-1]
        # Alone, a camera pays large's latency, which is the unit.
        np.testing.assert_allclose(rewards, 0.3 - weight, rtol=1e-4)
        reported.append(seen[:, PREFERENCE_INDEX])
        assert (reported[-1][~done] == reported[-2][~done]).all()
    drawn = np.unique(np.concatenate(reported))
    assert drawn.min() >= -2.0 and drawn.max() <= 0.0
    assert np.mean(drawn) == pytest.approx(-1.0, abs=0.1)  # even in the logarithm


def test_the_same_seed_gives_the_same_episodes() -> None:
    def rewards(seed: int) -> np.ndarray:
        world = ReplayEnvironment(learnable_replay(), EnvironmentConfig(fleets=2), seed)
        world.reset()
        return np.stack([world.step(np.arange(world.num_envs) % 3)[1] for _ in range(30)])

    np.testing.assert_array_equal(rewards(1), rewards(1))
    assert (rewards(1) != rewards(2)).any()


def test_stable_baselines_takes_it() -> None:
    world = environment(learnable_replay(), 1, 2)
    seen = world.reset()
    assert seen.shape == (2, OBSERVATION_SIZE) and seen.dtype == np.float32
    assert all(world.observation_space.contains(row) for row in seen)
    first = seen.copy()
    world.step(np.zeros(2, np.int64))
    np.testing.assert_array_equal(seen, first)  # what was handed out stays as it was
    checked = VecMonitor(VecCheckNan(environment(learnable_replay(), 1, 2), raise_exception=True))
    model = PPO("MlpPolicy", checked, n_steps=16, batch_size=24, n_epochs=1, seed=0, device="cpu")
    model.learn(96)
    assert model.num_timesteps == 96
    assert {round(info["l"]) for info in model.ep_info_buffer} <= set(range(1, 9))
    assert checked.get_attr("dropped") == [0, 0]
    assert checked.env_is_wrapped(VecMonitor) == [False, False]


def test_it_is_fast() -> None:
    """The demand is 100,000 decisions a second, of this process's time on a busy machine."""
    world = ReplayEnvironment(learnable_replay(), EnvironmentConfig(), seed=0)
    spent = []
    for _ in range(5):
        start = time.process_time()
        assert steps_per_second(world, 50, (0, 1, 2)) > 0
        spent.append(time.process_time() - start)
    assert 50 * world.num_envs / min(spent) > 100_000


@pytest.mark.parametrize(
    "bad",
    [
        {"fleets": 0},
        {"fleet_sizes": ()},
        {"fleet_sizes": (0, 1)},
        {"frame_interval_ms": 0.0},
        {"deadline_ms": -1.0},
        {"lowest_latency_weight": 0.0},
        {"lowest_latency_weight": 2.0, "highest_latency_weight": 1.0},
    ],
)
def test_values_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        EnvironmentConfig(**bad)
