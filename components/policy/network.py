"""The policy's network: what each rung's answer is expected to be worth, less what it costs.

The logit of a rung is ``sharpness * (predicted quality - latency weight * expected latency)``.
Only the first term is learned. The second is arithmetic on what the observation
already holds (operating point, queues) and on the rungs' measured latency, so one network serves
every operating point, and a higher price of latency can only move it towards cheaper rungs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from feature_transformer.context import LOAD_UNIT_MS, PREFERENCE_RANGE
from feature_transformer.observation import (
    FRAME_SLICE,
    LOAD_SLICE,
    LOOK_SLICE,
    PREFERENCE_INDEX,
    THUMBNAIL,
)
from inference_graph.contract import LADDER

_LOOK_SIZE = LOOK_SLICE.stop - LOOK_SLICE.start
_FRAME_SIZE = 4 + 2
_HIGHEST_WEIGHT = 10.0 ** PREFERENCE_RANGE[1]


class Summary(nn.Module):
    """Numbers of the observation that a small data set can teach something about, standardised.

    The look block: what the detector that was chosen for the frame before saw. A network may have
    six numbers of the frame's own pixels too: four edge densities, the thumbnail's mean and
    deviation. They add little to the look, and cost ten times as much to compute as the rest
    of the decision. A network on all 1024 thumbnail pixels learns 1,500 frames by heart.

    Float32 ``[n, 1048]`` to ``[n, 16]``, or ``[n, 22]`` with the frame's.

    Args:
        uses_frame: whether the frame's own numbers are among them.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, uses_frame: bool = False) -> None:
        super().__init__()
        self.uses_frame = uses_frame
        self.size = _LOOK_SIZE + _FRAME_SIZE * uses_frame
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("scale", torch.ones(self.size))

    def raw(self, observations: Tensor) -> Tensor:
        """The summary before standardising."""
        look = observations[:, LOOK_SLICE]
        if not self.uses_frame:
            return look
        frame = observations[:, FRAME_SLICE]
        pixels = frame[:, : THUMBNAIL * THUMBNAIL]
        mean = pixels.mean(dim=1, keepdim=True)
        spread = ((pixels - mean) ** 2).mean(dim=1, keepdim=True).sqrt()
        edges = frame[:, THUMBNAIL * THUMBNAIL :]
        return torch.cat([edges, mean, spread, look], dim=1)

    def fit(self, observations: Tensor) -> None:
        """Set mean and scale from training observations."""
        raw = self.raw(observations)
        self.mean.copy_(raw.mean(dim=0))
        self.scale.copy_(raw.std(dim=0).clamp_min(1e-3))

    def forward(self, observations: Tensor) -> Tensor:
        """Standardise, clipped to five deviations so that a strange frame stays a mild input."""
        return ((self.raw(observations) - self.mean) / self.scale).clamp(-5.0, 5.0)


class QualityEnsemble(nn.Module):
    """Several small networks side by side, each predicting the quality of every rung.

    Args:
        inputs: size of the summary.
        members: number of networks.
        hidden: width of their two hidden layers.
        dropout: dropout of the hidden layers while training.
    """

    def __init__(self, inputs: int, members: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.members, self.hidden = members, hidden
        sizes = (inputs, hidden, hidden, len(LADDER))
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(members, a, b) / a**0.5) for a, b in pairwise(sizes)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(members, 1, b)) for b in sizes[1:])
        self.dropout = nn.Dropout(dropout)

    def forward(self, summary: Tensor) -> Tensor:
        """Every member's predictions ``[members, n, 3]``.

        Args:
            summary: ``[n, inputs]`` for all members alike, or ``[members, n, inputs]``.
        """
        values = summary
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.matmul(values, weight) + bias
            if layer < last:
                values = self.dropout(torch.nn.functional.silu(values))
        return values


class LoadResponse(nn.Module):
    """What the rungs' queues change beyond the wait itself: exactly nothing while all are empty.

    A frame's own wait is in the logits by arithmetic. What no profile shows is what a decision
    does to the frames that come after it, of this camera and of others; the queues hint at how
    many there are. Loads ``[..., n, 3]`` to a change of the rewards and a change of the latencies,
    both ``[..., n, 3]``.

    Args:
        hidden: width of the hidden layer.
    """

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        rungs = len(LADDER)
        last = nn.Linear(hidden, 2 * rungs, bias=False)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(nn.Linear(rungs, hidden), nn.Tanh(), last)

    def forward(self, load: Tensor) -> tuple[Tensor, Tensor]:
        """The two changes, as differences to empty queues."""
        change = self.layers(load) - self.layers(torch.zeros_like(load))
        return change[..., : len(LADDER)], change[..., len(LADDER) :]


class RungLogits(nn.Module):
    """Observations to one logit per rung: float32 ``[n, 1048]`` to ``[n, 3]``.

    Args:
        members: networks whose predictions are averaged; each is cloned on its own resample of
            the clips (bagging), because one alone follows the noise of its labels.
        hidden: width of the hidden layers.
        dropout: dropout of the hidden layers while training.
        uses_frame: see `Summary`.
    """

    latency_ratio: Tensor
    load_ratio: Tensor
    congestion_price: Tensor
    """How much dearer latency is for every 100 ms of work in the queues: what a frame's wait costs
    the frames behind it. One number, set by `components.policy.fleet.tuned_price`."""

    def __init__(
        self,
        members: int = 8,
        hidden: int = 32,
        dropout: float = 0.1,
        uses_frame: bool = False,
    ) -> None:
        super().__init__()
        self.summary = Summary(uses_frame)
        self.quality = QualityEnsemble(self.summary.size, members, hidden, dropout)
        self.load_response = LoadResponse()
        self.log_sharpness = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("latency_ratio", torch.zeros(len(LADDER)))
        self.register_buffer("load_ratio", torch.zeros(1))
        self.register_buffer("congestion_price", torch.zeros(1))

    @property
    def shape(self) -> dict[str, Any]:
        """What another network must be made with to take this one's state."""
        return {
            "members": self.quality.members,
            "hidden": self.quality.hidden,
            "uses_frame": self.summary.uses_frame,
        }

    def set_latency(self, latency_ms: Sequence[float]) -> None:
        """Take each rung's mean latency (milliseconds), cheapest first."""
        unit = float(latency_ms[-1])
        self.latency_ratio.copy_(torch.tensor([value / unit for value in latency_ms]))
        self.load_ratio.fill_(LOAD_UNIT_MS / unit)

    def logits(self, quality: Tensor, load: Tensor, latency_weight: Tensor) -> Tensor:
        """Logits from quality ``[..., n, 3]``, load ``[..., n, 3]`` and weight ``[..., n, 1]``."""
        worth, delay = self.load_response(load)
        latency = self.latency_ratio + load * self.load_ratio + delay
        dearer = 1 + self.congestion_price * load.sum(dim=-1, keepdim=True)
        reward = quality + worth - (latency_weight * dearer).clamp(max=_HIGHEST_WEIGHT) * latency
        return self.log_sharpness.clamp(0.0, 5.0).exp() * reward

    def forward(self, observations: Tensor) -> Tensor:
        """Logits, ``[n, 3]``; their order is that of the expected rewards."""
        weight = torch.pow(10.0, observations[:, PREFERENCE_INDEX : PREFERENCE_INDEX + 1])
        quality = self.quality(self.summary(observations)).mean(dim=0)
        return self.logits(quality, observations[:, LOAD_SLICE], weight)


class Critic(nn.Module):
    """Observations to the expected return, ``[n, 1048]`` to ``[n, 1]``.

    Args:
        uses_frame: see `Summary`.
        hidden: width of the hidden layers.
    """

    def __init__(self, uses_frame: bool = False, hidden: int = 64) -> None:
        super().__init__()
        self.summary = Summary(uses_frame)
        extra = len(LADDER) + 2
        self.value = nn.Sequential(
            nn.Linear(self.summary.size + extra, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Value of each observation."""
        preference = observations[:, PREFERENCE_INDEX : PREFERENCE_INDEX + 1]
        weight = torch.pow(10.0, preference)
        extra = torch.cat([observations[:, LOAD_SLICE], preference, weight], dim=1)
        return self.value(torch.cat([self.summary(observations), extra], dim=1))


class RoutingPolicy(ActorCriticPolicy):
    """Actor and critic as a stable-baselines3 policy with nothing shared between them.

    Args:
        args: stable-baselines3's own.
        members: see `RungLogits`.
        hidden: see `RungLogits`.
        uses_frame: see `Summary`.
        learns_quality: whether PPO may change the predicted qualities too, or the response to
            load alone.
        kwargs: stable-baselines3's own.
    """

    def __init__(
        self,
        *args: Any,
        members: int = 8,
        hidden: int = 32,
        uses_frame: bool = False,
        learns_quality: bool = False,
        **kwargs: Any,
    ) -> None:
        self._shape: dict[str, Any] = {
            "members": members,
            "hidden": hidden,
            "uses_frame": uses_frame,
        }
        self._learns_quality = learns_quality
        super().__init__(*args, **(kwargs | {"net_arch": [], "ortho_init": False}))

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        # PPO's ratio compares two passes of one network; dropout would make them differ by chance.
        self.action_net = RungLogits(**self._shape, dropout=0.0)
        self.value_net = Critic(self._shape["uses_frame"])
        self.action_net.quality.requires_grad_(self._learns_quality)
        self.action_net.log_sharpness.requires_grad_(self._learns_quality)
        self.optimizer = self.optimizer_class(
            self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )
