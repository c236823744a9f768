"""A wider, deeper YOLOv8 that begins with the function of a narrower one.

Net2Net (Chen, Goodfellow, Shlens: arXiv 1511.05641): a channel of the wider layer repeats one of
the narrower, and the next layer splits that channel's weights among the repeats. The shares are
random, so that repeats learn apart. A block that only the deeper network has starts without
influence: the layer that gathers the blocks gives it a weight of zero. What the small network
learned counts for the large one, which then learns on from there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ultralytics.nn.modules import SPPF, C2f, Concat, Conv, Detect
from ultralytics.nn.modules.block import Bottleneck
from ultralytics.nn.tasks import DetectionModel

from foundation.errors import InvalidInput


def grow(small: DetectionModel, large: DetectionModel) -> None:
    """Give a network the function of a smaller one of the same layout.

    Args:
        small: with trained weights and statistics of its batch normalisation.
        large: of the same classes, nowhere narrower or shallower; in place. Torch's generator
            draws the shares of repeated channels.

    Raises:
        InvalidInput: ``large`` cannot hold ``small``.
    """
    if len(small.model) != len(large.model) or small.model[-1].nc != large.model[-1].nc:
        raise InvalidInput("only a network of the same layout and classes can be grown")
    outputs: list[torch.Tensor] = []
    before = torch.arange(3)
    with torch.no_grad():
        for old, new in zip(small.model, large.model, strict=True):
            sources = [old.f] if isinstance(old.f, int) else list(old.f)
            inputs = [before if at == -1 else outputs[at] for at in sources]
            before = _layer(old, new, inputs)
            outputs.append(before)


def _layer(
    old: torch.nn.Module, new: torch.nn.Module, inputs: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Grow one layer; of which channel of the old layer each output of the new one is a repeat."""
    if isinstance(old, Conv):
        return _convolution(old, new, inputs[0])
    if isinstance(old, C2f):
        return _blocks(old, new, inputs[0])
    if isinstance(old, SPPF):
        hidden = _convolution(old.cv1, new.cv1, inputs[0])
        pooled = _beside([hidden] * 4, old.cv1.conv.out_channels)
        return _convolution(old.cv2, new.cv2, pooled)
    if isinstance(old, Concat):
        return _beside(inputs, *(int(one.max()) + 1 for one in inputs))
    if isinstance(old, Detect):
        for name in ("cv2", "cv3"):
            branches = zip(getattr(old, name), getattr(new, name), inputs, strict=True)
            for narrow, wide, repeats in branches:
                for first, second in zip(narrow, wide, strict=True):
                    grown = _convolution if isinstance(first, Conv) else _last
                    repeats = grown(first, second, repeats)
        return torch.empty(0, dtype=torch.int64)
    return inputs[0]  # enlarges the picture, channel by channel


def _blocks(old: C2f, new: C2f, inputs: torch.Tensor) -> torch.Tensor:
    """A C2f block: two halves, a chain of bottlenecks, and a layer that gathers them all."""
    if len(new.m) < len(old.m):
        raise InvalidInput("only a network that is nowhere shallower can be grown to")
    half, width = _spread(old.c, new.c), old.c
    both = torch.cat([half, half + width])
    _convolution(old.cv1, new.cv1, inputs, outputs=both)
    for narrow, wide in zip(old.m, new.m, strict=False):
        _bottleneck(narrow, wide, half)
    gathered = _beside([half] * (2 + len(old.m)), width)
    return _convolution(old.cv2, new.cv2, gathered)


def _bottleneck(old: Bottleneck, new: Bottleneck, repeats: torch.Tensor) -> None:
    hidden = _convolution(old.cv1, new.cv1, repeats)
    # What a bottleneck adds to its input has to repeat as the input does.
    _convolution(old.cv2, new.cv2, hidden, outputs=repeats)


def _convolution(
    old: Conv, new: Conv, inputs: torch.Tensor, *, outputs: torch.Tensor | None = None
) -> torch.Tensor:
    """A convolution with its batch normalisation."""
    if outputs is None:
        outputs = _spread(old.conv.out_channels, new.conv.out_channels)
    _kernel(old.conv, new.conv, inputs, outputs)
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(new.bn, name).copy_(getattr(old.bn, name)[outputs])
    return outputs


def _last(old: torch.nn.Conv2d, new: torch.nn.Conv2d, inputs: torch.Tensor) -> torch.Tensor:
    """The last convolution of a branch: the same outputs, and a bias of its own."""
    outputs = torch.arange(old.out_channels)
    _kernel(old, new, inputs, outputs)
    new.load_state_dict({"weight": new.weight, "bias": old.bias})
    return outputs


def _kernel(
    old: torch.nn.Conv2d, new: torch.nn.Conv2d, inputs: torch.Tensor, outputs: torch.Tensor
) -> None:
    """Split each weight of the old layer among the new one's repeats of that input.

    Args:
        old: the layer with the weights.
        new: the layer that gets them; in place.
        inputs: int64; the old channel that each of the new layer's first inputs repeats. Inputs
            after those have no influence.
        outputs: int64, for each new output.
    """
    known = len(inputs)
    if known > new.in_channels or old.kernel_size != new.kernel_size:
        raise InvalidInput("only a network that is nowhere narrower can be grown to")
    shares = torch.rand(len(outputs), known) + 1e-3
    sums = torch.zeros(len(outputs), old.in_channels).index_add_(1, inputs, shares)
    shares /= sums[:, inputs]
    new.weight.zero_()
    new.weight[:, :known] = old.weight[outputs][:, inputs] * shares[:, :, None, None]


def _spread(old: int, new: int) -> torch.Tensor:
    """Which of the old channels each new one repeats: int64 ``[new]``."""
    if new < old:
        raise InvalidInput("only a network that is nowhere narrower can be grown to")
    return torch.arange(new) % old


def _beside(parts: Sequence[torch.Tensor], *widths: int) -> torch.Tensor:
    """The channels of layers laid beside each other; one width stands for all."""
    every = widths * len(parts) if len(widths) == 1 else widths
    before, found = 0, []
    for part, width in zip(parts, every, strict=True):
        found.append(part + before)
        before += width
    return torch.cat(found)
