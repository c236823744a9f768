from __future__ import annotations

import numpy as np
import pytest
import torch
from replay_samples import COUNT, learnable_replay

from components.policy.fleet import with_price
from components.policy.network import (
    Critic,
    RungLogits,
    Summary,
)
from components.profiling.replay import observations_of
from feature_transformer.observation import (
    FRAME_SLICE,
    LOAD_SLICE,
    LOOK_SLICE,
    OBSERVATION_SIZE,
    PREFERENCE_INDEX,
    context_features,
    frame_features,
    observation,
)


def network_of(seed: int, spread: float = 1.7) -> RungLogits:
    """A network whose predictions differ much from frame to frame."""
    torch.manual_seed(seed)
    network = RungLogits(members=2, hidden=16, uses_frame=True)
    network.set_latency([5.0, 12.0, 50.0])
    with torch.no_grad():
        for parameter in network.quality.parameters():
            parameter.mul_(spread)
    return network.eval()


def random_observations(count: int, seed: int = 0, loaded: bool = False) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    seen = rng.random((count, OBSERVATION_SIZE), np.float32)
    seen[:, LOAD_SLICE] = rng.uniform(0, 3, (count, 3)) if loaded else 0.0
    return torch.from_numpy(seen)


@pytest.mark.parametrize("seed", range(3))
def test_a_higher_weight_of_latency_never_picks_a_dearer_rung(seed: int) -> None:
    network, seen = network_of(seed), random_observations(300, seed)
    chosen = []
    for reported in np.linspace(-4, 1, 26):
        seen[:, PREFERENCE_INDEX] = float(reported)
        with torch.no_grad():
            chosen.append(network(seen).argmax(dim=1).numpy())
    table = np.array(chosen)
    assert (np.diff(table, axis=0) <= 0).all()
    assert len(np.unique(table[0])) > 1  # for nothing, predictions alone decide
    assert table[-1].mean() < table[0].mean()


def test_under_load_it_never_picks_a_longer_wait_for_a_higher_weight() -> None:
    network, seen = network_of(5), random_observations(300, 5, loaded=True)
    expected = np.array([0.1, 0.24, 1.0]) + seen[:, LOAD_SLICE].numpy() * (100 / 50)
    waits = []
    for reported in np.linspace(-4, 1, 26):
        seen[:, PREFERENCE_INDEX] = float(reported)
        with torch.no_grad():
            chosen = network(seen).argmax(dim=1).numpy()
        waits.append(expected[np.arange(300), chosen])
    assert (np.diff(np.array(waits), axis=0) <= 1e-6).all()
    assert (np.array(waits[-1]) == expected.min(axis=1)).mean() > 0.8


def test_logits_by_hand() -> None:
    network = network_of(0, spread=0.0)  # predicts a quality of 0 for every rung
    with torch.no_grad():
        network.log_sharpness.fill_(np.log(2.0))
    seen = torch.zeros(1, OBSERVATION_SIZE)
    seen[0, PREFERENCE_INDEX] = -1.0  # a weight of 0.1
    seen[0, LOAD_SLICE] = torch.tensor([0.5, 0.0, 0.0])  # nano's queue: 50 ms, large's unit
    with torch.no_grad():
        found = network(seen)[0]
    expected = [-2 * 0.1 * (0.1 + 1.0), -2 * 0.1 * 0.24, -2 * 0.1 * 1.0]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def responding(seed: int) -> RungLogits:
    """A network that has learned some response to load."""
    network = network_of(seed)
    with torch.no_grad():
        for parameter in network.load_response.parameters():
            parameter.normal_()
    return network


def test_empty_queues_are_no_reason() -> None:
    seen = random_observations(200)
    with torch.no_grad():
        plain, learned = network_of(3)(seen), responding(3)(seen)
        torch.testing.assert_close(learned, plain)
        seen[:, LOAD_SLICE] = 1.0
        assert (responding(3)(seen) - network_of(3)(seen)).abs().max() > 0.1


def test_the_response_to_load_by_hand() -> None:
    network = network_of(0, spread=0.0)
    with torch.no_grad():
        network.log_sharpness.fill_(0.0)
        first, _, last = network.load_response.layers
        first.weight.zero_()
        first.weight[0, 2] = 1.0  # one unit reads large's queue
        first.bias.fill_(0.5)
        last.weight.zero_()
        last.weight[2, 0] = -3.0  # large is worth less
        last.weight[3, 0] = 2.0  # nano costs more time
    seen = torch.zeros(1, OBSERVATION_SIZE)
    seen[0, PREFERENCE_INDEX] = -1.0
    seen[0, LOAD_SLICE] = torch.tensor([0.0, 0.0, 0.25])  # 25 ms, half of large's latency
    received = np.tanh(0.75) - np.tanh(0.5)
    with torch.no_grad():
        found = network(seen)[0]
    expected = [-0.1 * (0.1 + 2 * received), -0.1 * 0.24, -3 * received - 0.1 * (1.0 + 0.5)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_the_summary_by_hand() -> None:
    seen = torch.zeros(2, OBSERVATION_SIZE)
    seen[0, :512], seen[0, 512:1024] = 0.2, 0.6  # a thumbnail of two halves
    seen[0, 1024:1028] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    seen[0, LOOK_SLICE] = torch.arange(16.0)
    np.testing.assert_allclose(Summary().raw(seen)[0], np.arange(16.0))
    raw = Summary(uses_frame=True).raw(seen)
    np.testing.assert_allclose(raw[0, :4], [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(raw[0, 4:6], [0.4, 0.2], rtol=1e-5)  # mean, deviation
    np.testing.assert_allclose(raw[0, -16:], np.arange(16.0))
    assert not raw[1].any()


def test_the_summary_is_standardised_by_what_it_was_fitted_to() -> None:
    summary, seen = Summary(), random_observations(500)
    summary.fit(seen)
    found = summary(seen)
    np.testing.assert_allclose(found.mean(dim=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(found.std(dim=0), 1.0, atol=1e-2)
    strange = seen[:1].clone()
    strange[0, LOOK_SLICE] = 1e6
    assert summary(strange).abs().max() == 5.0


@pytest.mark.parametrize("uses_frame", [False, True])
def test_a_policy_reads_the_frame_only_where_it_is_asked_to(uses_frame: bool) -> None:
    torch.manual_seed(0)
    seen = random_observations(20)
    other = seen.clone()
    other[:, FRAME_SLICE] = 0.0
    for network in (RungLogits(2, 8, 0.0, uses_frame), Critic(uses_frame)):
        with torch.no_grad():
            moved = bool((network(seen) != network(other)).any())
        assert moved == uses_frame


def test_load_and_operating_point_do_not_reach_the_predicted_quality() -> None:
    network, seen = network_of(1), random_observations(20)
    other = seen.clone()
    other[:, LOAD_SLICE] = 2.0
    other[:, PREFERENCE_INDEX] = -3.0
    with torch.no_grad():
        one, two = (network.quality(network.summary(value)) for value in (seen, other))
    np.testing.assert_array_equal(one, two)


def test_observations_are_assembled_as_serving_assembles_them() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    found = observations_of(frame_features(frame)[None], np.zeros((1, 16), np.float32), -1.0)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(
        found[0], observation(frame, context_features(None, latency_weight=0.1))
    )
    replay = learnable_replay(clips=5, frames=2)
    reported = np.linspace(-2, 0, 10, dtype=np.float32)
    rows = observations_of(replay.frames, replay.looks[:, 2], reported)
    np.testing.assert_array_equal(rows[:, FRAME_SLICE], replay.frames)
    np.testing.assert_array_equal(rows[:, LOOK_SLICE][:, COUNT], replay.looks[:, 2, COUNT])
    np.testing.assert_array_equal(rows[:, PREFERENCE_INDEX], reported)
    assert not rows[:, LOAD_SLICE].any()


def test_the_critic_knows_queues_and_operating_point() -> None:
    torch.manual_seed(0)
    critic, seen = Critic(), random_observations(4)
    with torch.no_grad():
        base = critic(seen)
        assert base.shape == (4, 1)
        for column in (LOAD_SLICE.start, PREFERENCE_INDEX, LOOK_SLICE.start):
            moved = seen.clone()
            moved[:, column] += 0.5
            assert (critic(moved) != base).all()


def test_a_congestion_price_decides_as_the_rule_of_that_name() -> None:
    plain, priced = network_of(7), network_of(7)
    priced.congestion_price.fill_(3.0)
    seen = random_observations(400, 7, loaded=True)
    seen[:, PREFERENCE_INDEX] = torch.linspace(-3, 1, 400)

    def decide(observations: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return plain(torch.from_numpy(observations)).argmax(dim=1).numpy()

    with torch.no_grad():
        chosen = priced(seen).argmax(dim=1).numpy()
        unloaded = random_observations(50, 8)
        torch.testing.assert_close(priced(unloaded), plain(unloaded))
    np.testing.assert_array_equal(chosen, with_price(decide, 3.0)(seen.numpy()))
    assert (chosen != decide(seen.numpy())).any()
