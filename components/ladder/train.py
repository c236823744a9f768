"""Training one rung of the sample ladder.

YOLOv8 from scratch with Ultralytics' own network and loss; the loop is ours because Ultralytics'
trainer augments on the CPU for longer than a small network trains there. AdamW under a cosine
schedule, an exponential moving average of the weights, bf16 autocast where the processor has it.
"""

from __future__ import annotations

import copy
import math
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ultralytics.nn.tasks import DetectionModel

from components.ladder.batches import load_or_render, training_batch
from components.parallel import Progress, no_progress
from components.scenes.sprites import CATEGORY_IDS, CATEGORY_NAMES
from foundation.errors import ConfigurationError, InvalidInput
from foundation.path_roles import InputText
from foundation.storage import atomic_path, sha256_file

ARCHITECTURES = {"nano": "yolov8n", "small": "yolov8s", "large": "yolov8l"}
"""The network of each rung, by Ultralytics' names."""

CHECKPOINT_ERRORS = (
    OSError, EOFError, KeyError, AttributeError, TypeError, RuntimeError, pickle.UnpicklingError,
)  # fmt: skip
"""What opening a file that is no checkpoint, or one of another network, ends in."""


@dataclass(frozen=True)
class LadderTrainConfig:
    """How a rung is trained.

    Attributes:
        rung: which rung of the ladder.
        iterations: images seen in all, repeats counted.
        frames: different frames to draw them from.
        batch: images per step.
        learning_rate: AdamW's peak rate.
        weight_decay: on weights of two or more dimensions only.
        ema_decay: final decay of the moving average of the weights.
        height: rows of the network's input; a multiple of 32.
        width: columns of the network's input; a multiple of 32.
        seed: entropy of frames, batches and initial weights.
        checkpoint_every: steps between checkpoints.
        threads: processor threads of torch.
        device: "auto" takes a GPU if there is one.
        start_from: checkpoint of an earlier run, whose weights this one goes on from under a
            schedule of its own; empty starts from random weights.
    """

    rung: str = "nano"
    iterations: int = 48_000
    frames: int = 16_000
    batch: int = 16
    learning_rate: float = 1.5e-3
    weight_decay: float = 5e-4
    ema_decay: float = 0.998
    height: int = 192
    width: int = 256
    seed: int = 1_000
    checkpoint_every: int = 200
    threads: int = 2
    device: str = "auto"
    start_from: InputText = ""

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value makes no sense."""
        if self.rung not in ARCHITECTURES:
            raise ConfigurationError(
                f"rung {self.rung!r} is not on the ladder; choose one of {', '.join(ARCHITECTURES)}"
            )
        if self.height % 32 or self.width % 32:
            raise ConfigurationError(
                f"input {self.height}x{self.width} does not suit the network; "
                "height and width must be multiples of 32"
            )
        if self.iterations < self.batch:
            raise ConfigurationError(
                f"{self.iterations} iterations are less than one batch of {self.batch}; "
                "raise --iterations"
            )

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.iterations // self.batch


@dataclass(frozen=True)
class StepReport:
    """Progress of a training run: the smoothed loss per image and the speed in images/s."""

    step: int
    steps: int
    loss: float
    images_per_second: float


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over 100 steps, then a cosine from 1 down to 0.02."""
    warm = min(1.0, (step + 1) / 100)
    return warm * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * step / steps)))


def has_fast_bf16() -> bool:
    """Whether this processor multiplies bf16 in hardware."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _pick_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _optimiser(model: torch.nn.Module, config: LadderTrainConfig) -> torch.optim.AdamW:
    weights = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def _load_weights(model: DetectionModel, checkpoint: Path) -> Mapping[str, Any]:
    """Give the model the weights of a checkpoint; its recipe, with its SHA-256, comes back."""
    try:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=False)
        model.load_state_dict(stored["model"].float().state_dict())
    except CHECKPOINT_ERRORS as error:
        raise InvalidInput(
            f"{checkpoint} holds no weights of {model.yaml['yaml_file']} with {len(CATEGORY_IDS)} "
            f"classes ({error!r:.120}); give what gearshift ladder train wrote for "
            "the same rung"
        ) from error
    return {**stored.get("gearshift", {}), "sha256": sha256_file(checkpoint)}


@torch.no_grad()
def _update_average(
    average: torch.nn.Module, model: torch.nn.Module, step: int, decay: float
) -> None:
    """Move the average towards the model; early on it follows faster (Ultralytics' ramp)."""
    keep = decay * (1.0 - math.exp(-step / 200))
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.dtype.is_floating_point:
            value.mul_(keep).add_(current[name].detach(), alpha=1.0 - keep)
        else:
            value.copy_(current[name])


def train_rung(
    config: LadderTrainConfig,
    out: Path,
    cache: Path,
    *,
    on_render: Progress = no_progress,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> Path:
    """Train a rung, or continue where a run with the same configuration was cut off.

    Args:
        config: the recipe.
        out: folder for the checkpoint and the result.
        cache: folder for the rendered frames, shared by all rungs.
        on_render: called while frames are rendered, with frames done and in all.
        on_step: called after every step.

    Returns:
        ``<out>/<rung>.pt``, a checkpoint that Ultralytics' ``YOLO`` opens.

    Raises:
        ConfigurationError: a checkpoint of another recipe is in the way.
        InvalidInput: ``start_from`` is no checkpoint of this rung.
        StorageError: the disk is full.
    """
    out.mkdir(parents=True, exist_ok=True)
    final, unfinished = out / f"{config.rung}.pt", out / f"{config.rung}.checkpoint"
    frames = load_or_render(
        cache, frames=config.frames, seed=config.seed, height=config.height, width=config.width,
        workers=config.threads, progress=on_render,
    )  # fmt: skip
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    device = _pick_device(config.device)
    bf16 = device.type == "cuda" or has_fast_bf16()
    model = DetectionModel(
        f"{ARCHITECTURES[config.rung]}.yaml", nc=len(CATEGORY_IDS), verbose=False
    )
    model.names = dict(enumerate(CATEGORY_NAMES))
    model.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)  # Ultralytics' own loss gains
    earlier = _load_weights(model, Path(config.start_from)) if config.start_from else {}
    model = model.to(device, memory_format=torch.channels_last).train()
    average = copy.deepcopy(model).eval()
    optimiser = _optimiser(model, config)
    first, loss_mean = 0, 0.0
    if unfinished.is_file():
        state = torch.load(unfinished, map_location=device, weights_only=True)
        if state["config"] != asdict(config):
            raise ConfigurationError(
                f"{unfinished} belongs to a run with another configuration; "
                "finish that one, or remove the file to start anew"
            )
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first, loss_mean = state["step"], state["loss"]
    started = time.perf_counter()
    for step in range(first, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(step, config.steps)
        drawn = training_batch(frames, config.batch, np.random.default_rng((config.seed, step, 2)))
        batch: dict[str, Any] = {
            name: torch.from_numpy(value).to(device) for name, value in drawn.items()
        }
        batch["img"] = batch["img"].to(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = model(batch)[0].sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        _update_average(average, model, step, config.ema_decay)
        per_image = loss.item() / config.batch
        loss_mean = per_image if step == 0 else 0.98 * loss_mean + 0.02 * per_image
        speed = (step + 1 - first) * config.batch / (time.perf_counter() - started)
        on_step(StepReport(step + 1, config.steps, loss_mean, speed))
        if (step + 1) % config.checkpoint_every == 0:
            with atomic_path(unfinished) as partial:
                torch.save(
                    {"config": asdict(config), "model": model.state_dict(),
                     "average": average.state_dict(), "optimiser": optimiser.state_dict(),
                     "step": step + 1, "loss": loss_mean},
                    partial,
                )  # fmt: skip
    with atomic_path(final) as partial:
        recipe = {**asdict(config), "start_from": earlier}
        torch.save({"model": average.cpu(), "train_args": {}, "gearshift": recipe}, partial)
    unfinished.unlink(missing_ok=True)
    return final
