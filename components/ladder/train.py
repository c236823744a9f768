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
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from ultralytics.nn.tasks import DetectionModel

from components.ladder.batches import cut_out, draw_windows, sample, targets
from components.ladder.growth import grow
from components.ladder.input_size import check_input_size
from components.ladder.pool import FramePool, load_or_render
from components.ladder.warm_start import find_start, load_exported, normalise, recipe_beside
from components.parallel import Progress, no_progress
from components.scenes.sprites import CATEGORY_IDS, CATEGORY_NAMES
from components.scenes.streets import WORLDS
from components.ultralytics_log import quiet_ultralytics
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, InvalidInput
from foundation.path_roles import InputText
from foundation.storage import atomic_path, sha256_file

ARCHITECTURES = {"nano": "yolov8n", "small": "yolov8s", "large": "yolov8l"}
"""The network of each rung, by Ultralytics' names."""

RECIPE_KEY = "gearshift"
"""Where a checkpoint keeps its recipe."""

CHECKPOINT_ERRORS = (
    OSError,
    EOFError,
    KeyError,
    AttributeError,
    TypeError,
    RuntimeError,
    pickle.UnpicklingError,
)
"""What opening a file that is no checkpoint, or one of another network, ends in."""


SERVED_SIZES = {"nano": (192, 256), "small": (256, 320), "large": (320, 416)}
"""Height and width of each rung's input as it serves."""

_NORMALISING = 8
"""Batches from which the statistics of an exported rung are taken."""

_BESIDE_THE_RECIPE = ("threads", "device", "checkpoint_every")
"""Settings that a run may change where it goes on."""


@configuration
class LadderTrainConfig:
    """How a rung is trained.

    Attributes:
        rung: which rung of the ladder.
        iterations: images seen in all, repeats counted.
        frames: different frames to cut them from.
        world: "plain", or "streets" with look-alikes and distant crowds.
        batch: images per step.
        learning_rate: AdamW's peak rate.
        weight_decay: on weights of two or more dimensions only.
        ema_decay: final decay of the moving average of the weights.
        height: rows of the input as it serves, a multiple of 32; 0 takes the rung's usual size.
        width: columns of the input as it serves; 0 takes the rung's usual size.
        crop: side of the square crops that training begins on, a multiple of 32.
        crop_share: share of the iterations on crops; the rest is at the size that serves.
        seed: entropy of frames, batches and initial weights.
        checkpoint_every: steps between checkpoints.
        threads: processor threads of torch, and rendering processes.
        device: "auto" takes a GPU if there is one.
        start_from: checkpoint of an earlier run, or an exported rung (.onnx), whose weights this
            one goes on from under a schedule of its own; one of a smaller rung is grown to this
            one's size. Or a folder with those of each rung. Empty starts from random weights.
    """

    rung: str = "nano"
    iterations: Annotated[int, Field(ge=1)] = 200_000
    frames: Annotated[int, Field(ge=1)] = 10_000
    world: str = "plain"
    batch: Annotated[int, Field(ge=1)] = 16
    learning_rate: Annotated[float, Field(ge=0)] = 1.5e-3
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    ema_decay: Annotated[float, Field(ge=0, le=1)] = 0.998
    height: Annotated[int, Field(ge=0)] = 0
    width: Annotated[int, Field(ge=0)] = 0
    crop: Annotated[int, Field(ge=32)] = 160
    crop_share: Annotated[float, Field(ge=0, le=1)] = 0.85
    seed: Annotated[int, Field(ge=0)] = 1_000
    checkpoint_every: Annotated[int, Field(ge=1)] = 200
    threads: Annotated[int, Field(ge=1)] = 2
    device: str = "auto"
    start_from: InputText = ""

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value makes no sense."""
        if self.rung not in ARCHITECTURES:
            raise ConfigurationError(
                f"rung {self.rung!r} is not on the ladder; choose one of {', '.join(ARCHITECTURES)}"
            )
        if self.world not in WORLDS:
            raise ConfigurationError(
                f"world {self.world!r} is unknown; choose one of {', '.join(WORLDS)}"
            )
        check_input_size(*self.served)
        check_input_size(self.crop, self.crop)
        if self.iterations < self.batch:
            raise ConfigurationError(
                f"{self.iterations} iterations are less than one batch of {self.batch}; "
                "raise --iterations"
            )

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.iterations // self.batch

    @property
    def served(self) -> tuple[int, int]:
        """Height and width of the input as it serves."""
        height, width = SERVED_SIZES[self.rung]
        return self.height or height, self.width or width

    def size_at(self, step: int) -> tuple[int, int]:
        """Height and width of a step's batch."""
        on_crops = step < round(self.crop_share * self.steps)
        return (self.crop, self.crop) if on_crops else self.served

    def recipe(self) -> dict[str, Any]:
        """What decides the weights, as it is kept beside them."""
        chosen = {k: v for k, v in asdict(self).items() if k not in _BESIDE_THE_RECIPE}
        return chosen | dict(zip(("height", "width"), self.served, strict=True))


@dataclass(frozen=True)
class StepReport:
    """Progress of a rung: the smoothed loss per image and the speed in images/s."""

    rung: str
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


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" takes a GPU if there is one.

    Raises ConfigurationError for a device that torch does not know or cannot use here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for CUDA
        raise ConfigurationError(
            f"device {name!r} cannot be used ({str(error).splitlines()[0]:.120}); "
            "give auto, cpu or cuda"
        ) from error
    return device


def _optimiser(model: torch.nn.Module, config: LadderTrainConfig) -> torch.optim.AdamW:
    weights = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    on_gpu = next(model.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=on_gpu)


def _network(rung: str) -> DetectionModel:
    with quiet_ultralytics():
        model = DetectionModel(f"{ARCHITECTURES[rung]}.yaml", nc=len(CATEGORY_IDS), verbose=False)
    model.names = dict(enumerate(CATEGORY_NAMES))
    model.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)  # Ultralytics' own loss gains
    return model


def _start_from(checkpoint: Path, model: DetectionModel, rung: str) -> Mapping[str, Any]:
    """Give a rung's network the weights of its own checkpoint or export, or of a smaller rung's.

    Returns the recipe and SHA-256 of the file.
    """
    rungs = list(ARCHITECTURES)
    error: InvalidInput | None = None
    for one in reversed(rungs[: rungs.index(rung) + 1]):
        source = model if one == rung else _network(one)
        try:
            earlier = _load_weights(source, checkpoint)
        except InvalidInput as refused:
            error = error or refused
            continue
        if source is not model:
            grow(source, model)
        return earlier
    assert error is not None  # the rung itself was tried
    raise error


def _load_weights(model: DetectionModel, checkpoint: Path) -> Mapping[str, Any]:
    """Give the model the weights of a checkpoint or an export; return its recipe and SHA-256."""
    if checkpoint.suffix == ".onnx":
        load_exported(model, checkpoint)
        return {**recipe_beside(checkpoint), "sha256": sha256_file(checkpoint)}
    try:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=False)
        model.load_state_dict(stored["model"].float().state_dict())
    except CHECKPOINT_ERRORS as error:
        raise InvalidInput(
            f"{checkpoint} holds no weights of {model.yaml['yaml_file']} with {len(CATEGORY_IDS)} "
            f"classes ({error!r:.120}); give what gearshift ladder train wrote for "
            "the same rung or a smaller one"
        ) from error
    return {**stored.get(RECIPE_KEY, {}), "sha256": sha256_file(checkpoint)}


def _lists(model: torch.nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """A network's floating-point tensors, and its counters."""
    values = list(model.state_dict().values())
    floats = [value for value in values if value.dtype.is_floating_point]
    return floats, [value for value in values if not value.dtype.is_floating_point]


class _Run:
    """One rung's training: network, average, optimiser and where they stand."""

    def __init__(self, config: LadderTrainConfig, unfinished: Path, pool: FramePool) -> None:
        self.config, self._unfinished, self._pool = config, unfinished, pool
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.device = pick_device(config.device)
        self._bf16 = self.device.type == "cuda" or has_fast_bf16()
        model = _network(config.rung)
        start = find_start(Path(config.start_from), config.rung) if config.start_from else None
        self.earlier = _start_from(start, model, config.rung) if start else {}
        self._model = model.to(self.device, memory_format=torch.channels_last).train()
        self.step = 0
        self._boxes = torch.from_numpy(pool.boxes).to(self.device)
        self._frames: torch.Tensor | None = None
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            shards = (torch.from_numpy(np.array(shard)) for shard in pool.shards)
            self._frames = torch.cat([shard.to(self.device) for shard in shards])
        if start is not None and start.suffix == ".onnx" and not unfinished.is_file():
            normalise(model, (self._batch(step)["img"] for step in range(_NORMALISING)))
        self.average = copy.deepcopy(self._model).eval()
        self._optimiser = _optimiser(self._model, config)
        self._loss = torch.zeros((), device=self.device)
        if unfinished.is_file():
            self._restore()
        self._averaged, self._current = _lists(self.average), _lists(self._model)

    def _restore(self) -> None:
        state = torch.load(self._unfinished, map_location=self.device, weights_only=True)
        if state["recipe"] != self.config.recipe():
            raise ConfigurationError(
                f"{self._unfinished} belongs to a run with another configuration; "
                "finish that one, or remove the file to start anew"
            )
        self._model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self._loss = state["step"], state["loss"]

    def save(self) -> None:
        """Keep everything that the next step depends on."""
        with atomic_path(self._unfinished) as partial:
            torch.save(
                {
                    "recipe": self.config.recipe(),
                    "model": self._model.state_dict(),
                    "average": self.average.state_dict(),
                    "optimiser": self._optimiser.state_dict(),
                    "step": self.step,
                    "loss": self._loss,
                },
                partial,
            )

    @property
    def loss(self) -> float:
        """Loss per image, smoothed over the last fifty steps."""
        return float(self._loss)

    def _batch(self, step: int) -> dict[str, torch.Tensor]:
        config = self.config
        windows = draw_windows(
            np.random.default_rng((config.seed, step, 2)),
            config.batch,
            len(self._pool),
            size=config.size_at(step),
            served=config.served,
        )
        if self._frames is None:
            image = cut_out(self._pool, windows)
        else:
            image = sample(self._frames, windows)
        image = image.contiguous(memory_format=torch.channels_last)
        return {"img": image, **targets(self._boxes, windows)}

    def advance(self) -> None:
        """Take one step of the optimiser."""
        config, step = self.config, self.step
        for group in self._optimiser.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(step, config.steps)
        batch: dict[str, Any] = self._batch(step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            loss = self._model(batch)[0].sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 10.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        # Early on the average follows faster: Ultralytics' ramp.
        keep = config.ema_decay * (1.0 - math.exp(-step / 200))
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged[0], self._current[0], 1.0 - keep)
            torch._foreach_copy_(self._averaged[1], self._current[1])
        per_image = loss.detach() / config.batch
        self._loss = per_image if step == 0 else 0.98 * self._loss + 0.02 * per_image
        self.step += 1


def steps_done(config: LadderTrainConfig, out: Path) -> int:
    """Steps of a rung's training that lie in ``out``; all of them where it is finished.

    Raises:
        ConfigurationError: what is there is of another recipe, or no checkpoint of this training.
    """
    final, unfinished = out / f"{config.rung}.pt", out / f"{config.rung}.checkpoint"
    place = final if final.is_file() else unfinished
    if not place.is_file():
        return 0
    try:
        if place == unfinished:
            return int(torch.load(unfinished, mmap=True, weights_only=True)["step"])
        recipe = dict(torch.load(final, map_location="cpu", weights_only=False)[RECIPE_KEY])
    except (*CHECKPOINT_ERRORS, ValueError) as error:
        raise ConfigurationError(
            f"{place} is no checkpoint of this training ({type(error).__name__}); choose another "
            "folder, or move the file away"
        ) from error
    if {**recipe, "start_from": config.start_from} != config.recipe():
        raise ConfigurationError(
            f"{final} was trained by another recipe; choose another folder, or remove the file"
        )
    return config.steps


def frames_of(config: LadderTrainConfig, cache: Path, progress: Progress) -> FramePool:
    """The recipe's frames, from the cache or rendered into it."""
    return load_or_render(
        cache,
        world=config.world,
        frames=config.frames,
        seed=config.seed,
        workers=config.threads,
        progress=progress,
    )


def train_rung(
    config: LadderTrainConfig,
    out: Path,
    cache: Path,
    *,
    until: int | None = None,
    on_render: Progress = no_progress,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> Path | None:
    """Train a rung, or continue where a run of the same recipe was cut off.

    Args:
        config: the recipe.
        out: folder for the checkpoint and the result.
        cache: folder for the rendered frames, shared by all rungs.
        until: the step to stop at with a checkpoint; None goes to the end.
        on_render: called while frames are rendered, with frames done and in all.
        on_step: called after every step, on a GPU after every twentieth.

    Returns:
        ``<out>/<rung>.pt``, a checkpoint that Ultralytics' ``YOLO`` opens, of float16 weights;
        None where the run stops before its end.

    Raises:
        ConfigurationError: a checkpoint or result of another recipe is in the way.
        InvalidInput: ``start_from`` is no checkpoint of this rung.
        StorageError: the disk is full.
    """
    out.mkdir(parents=True, exist_ok=True)
    final, unfinished = out / f"{config.rung}.pt", out / f"{config.rung}.checkpoint"
    run = _Run(config, unfinished, frames_of(config, cache, on_render))
    first, last = run.step, min(config.steps if until is None else until, config.steps)
    report_every = 1 if run.device.type == "cpu" else 20
    started = time.perf_counter()
    while run.step < last:
        run.advance()
        if run.step % report_every == 0 or run.step == last:
            speed = (run.step - first) * config.batch / (time.perf_counter() - started)
            on_step(StepReport(config.rung, run.step, config.steps, run.loss, speed))
        if run.step % config.checkpoint_every == 0 or run.step == last:
            run.save()
    if run.step < config.steps:
        return None
    with atomic_path(final) as partial:
        recipe = {**config.recipe(), "start_from": run.earlier}
        state = {"model": run.average.cpu().half(), "train_args": {}, RECIPE_KEY: recipe}
        torch.save(state, partial)
    unfinished.unlink(missing_ok=True)
    return final
