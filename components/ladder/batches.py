"""Training batches: windows of the pool's frames, zoomed, mirrored, brightened.

A batch is a pure function of the seed and its number, so a run that was cut off continues with
exactly the batches it would have seen. The windows are drawn once for both places that cut them
out: OpenCV on a processor, bilinear sampling of a pool in the GPU's own memory there.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from components.ladder.pool import FRAME_SIZE, FramePool
from inference_graph.detector.letterbox import PADDING, Letterbox

_ZOOM = 0.35
"""Windows are magnified by up to e to this power, and shrunk by as much."""
_SHIFT = 0.08
"""A whole frame lies off its centre by up to this share of the input."""
_GAIN = 0.25
_LEAST_SEEN = 0.3
_LEAST_SIDE = 2.0
"""An object of which the window shows less, in share of its area or in pixels, is no target."""


@dataclass(frozen=True)
class Windows:
    """Which parts of which frames make a batch.

    Attributes:
        frames: int64 ``[B]``.
        matrices: float64 ``[B, 2, 3]`` from frame to input coordinates, edges counted, diagonal.
        gains: float32 ``[B]``, brightness.
        size: (height, width) of the input.
    """

    frames: np.ndarray
    matrices: np.ndarray
    gains: np.ndarray
    size: tuple[int, int]


def draw_windows(
    rng: np.random.Generator,
    count: int,
    frames: int,
    *,
    size: tuple[int, int],
    served: tuple[int, int],
) -> Windows:
    """Draw a batch's windows.

    Args:
        rng: the batch's own generator.
        count: images of the batch.
        frames: frames of the pool.
        size: (height, width) of the training input; smaller than ``served`` for crops.
        served: (height, width) at which the rung serves; it sets the scale of objects.
    """
    inner = Letterbox.fit(FRAME_SIZE, served).inner_size
    scale = inner[1] / FRAME_SIZE[1] * np.exp(rng.uniform(-_ZOOM, _ZOOM, count))
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    matrices = np.zeros((count, 2, 3))
    matrices[:, 0, 0], matrices[:, 1, 1] = mirror * scale, scale
    for axis, (length, extent) in enumerate(zip(size[::-1], FRAME_SIZE[::-1], strict=True)):
        # A window smaller than the frame lies anywhere within it, a larger one about its centre.
        room = np.maximum(extent * scale - length, 0.0) / 2
        shift = rng.uniform(-1.0, 1.0, count) * (room + _SHIFT * length)
        matrices[:, axis, 2] = length / 2 - matrices[:, axis, axis] * extent / 2 + shift
    return Windows(
        rng.integers(0, frames, count),
        matrices,
        rng.uniform(1 - _GAIN, 1 + _GAIN, count).astype(np.float32),
        size,
    )


def cut_out(pool: FramePool, windows: Windows) -> torch.Tensor:
    """The windows' pixels: float32 ``[B, 3, h, w]`` RGB 0..1, in channels-last memory."""
    height, width = windows.size
    images = np.empty((len(windows.frames), height, width, 3), np.float32)
    for image, index, matrix, gain in zip(
        images, windows.frames, windows.matrices, windows.gains, strict=True
    ):
        # OpenCV counts from the middle of the first pixel, boxes from its edge.
        centred = matrix.copy()
        centred[:, 2] += 0.5 * np.diag(matrix) - 0.5
        warped = cv2.warpAffine(
            pool.frame(int(index)),
            centred,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderValue=(PADDING,) * 3,
        )
        np.multiply(warped[:, :, ::-1], gain / 255, out=image)
    return torch.from_numpy(images.clip(0.0, 1.0, out=images)).permute(0, 3, 1, 2)


def sample(frames: torch.Tensor, windows: Windows) -> torch.Tensor:
    """`cut_out` on the device that holds the pool.

    Args:
        frames: uint8 ``[N, 480, 640, 3]`` BGR on that device.
        windows: what to cut out.
    """
    device, (height, width) = frames.device, windows.size
    matrices = torch.from_numpy(windows.matrices).to(device, torch.float32)
    axes = []
    for axis, (length, extent) in enumerate(((width, FRAME_SIZE[1]), (height, FRAME_SIZE[0]))):
        at = torch.arange(length, device=device) + 0.5
        source = (at - matrices[:, axis, 2:]) / matrices[:, axis, axis, None]
        axes.append(2 * source / extent - 1)
    grid = torch.stack(
        [
            axes[0][:, None, :].expand(-1, height, -1),
            axes[1][:, :, None].expand(-1, -1, width),
        ],
        dim=-1,
    )
    chosen = frames[torch.from_numpy(windows.frames).to(device)].flip(-1).permute(0, 3, 1, 2)
    # Outside a frame lies the padding's grey: the sampler fills with zero.
    pixels = torch.nn.functional.grid_sample(
        chosen.float() - PADDING, grid, mode="bilinear", align_corners=False
    )
    gains = torch.from_numpy(windows.gains).to(device)[:, None, None, None]
    return ((pixels + PADDING) * gains / 255).clamp(0.0, 1.0)


def targets(boxes: torch.Tensor, windows: Windows) -> dict[str, torch.Tensor]:
    """What is to be found in the windows, as Ultralytics' loss takes it.

    Args:
        boxes: float32 ``[N, K, 5]`` of the pool, on any device.
        windows: the batch.

    Returns:
        ``batch_idx`` float32 ``[M]``, ``cls`` float32 ``[M, 1]``, ``bboxes`` float32 ``[M, 4]``
        xywh relative to the input, in order of ``batch_idx``.
    """
    device, (height, width) = boxes.device, windows.size
    chosen = boxes[torch.from_numpy(windows.frames).to(device)]
    matrices = torch.from_numpy(windows.matrices).to(device, torch.float32)
    scale = torch.stack([matrices[:, 0, 0], matrices[:, 1, 1]], dim=1)[:, None, None]
    corners = chosen[..., 1:].unflatten(-1, (2, 2)) * scale + matrices[:, None, None, :, 2]
    low, high = corners.amin(dim=2), corners.amax(dim=2)  # a mirror swaps left and right
    limits = torch.tensor([width, height], dtype=torch.float32, device=device)
    inside_low, inside_high = low.clamp(min=0).minimum(limits), high.clamp(min=0).minimum(limits)
    extent = inside_high - inside_low
    kept = (
        (chosen[..., 0] >= 0)
        & (extent.amin(dim=-1) >= _LEAST_SIDE)
        & (extent.prod(dim=-1) > _LEAST_SEEN * (high - low).prod(dim=-1))
    )
    centre = (inside_low + inside_high) / 2
    return {
        "batch_idx": kept.nonzero()[:, 0].float(),
        "cls": chosen[..., :1][kept],
        "bboxes": torch.cat([centre / limits, extent / limits], dim=-1)[kept],
    }
