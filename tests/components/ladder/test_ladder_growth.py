from __future__ import annotations

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from components.ladder.growth import grow
from components.ladder.train import ARCHITECTURES
from foundation.errors import InvalidInput


def network(rung: str, classes: int = 9) -> DetectionModel:
    """A network whose batch normalisation has learned something."""
    model = DetectionModel(f"{ARCHITECTURES[rung]}.yaml", nc=classes, verbose=False).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0.0, 0.1)
            layer.running_var.uniform_(0.5, 2.0)
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_(0.0, 0.1)
    return model


@pytest.mark.parametrize(("from_", "to"), [("nano", "small"), ("small", "large"), ("nano", "nano")])
def test_a_grown_network_answers_as_the_small_one(from_: str, to: str) -> None:
    torch.manual_seed(5)
    small, large = network(from_), network(to)
    image = torch.rand(2, 3, 96, 128)
    with torch.no_grad():
        wanted, before = small(image)[0], large(image)[0]
        grow(small, large)
        found = large(image)[0]
    for part in (slice(0, 4), slice(4, None)):  # boxes in pixels, scores
        off, off_before = ((one - wanted)[:, part].abs().max() for one in (found, before))
        assert off < 1e-3 * off_before


def test_repeated_channels_and_new_blocks_learn_apart() -> None:
    torch.manual_seed(5)
    small, large = network("nano"), network("small")
    grow(small, large)
    large(torch.rand(2, 3, 64, 64))[0].square().mean().backward()
    kernel = large.model[1].conv.weight  # outputs 0 and 32 repeat output 0 of nano
    assert not torch.allclose(kernel.grad[0], kernel.grad[32], rtol=0.1)
    deep = network("large")
    grow(small, deep)
    deep(torch.rand(2, 3, 64, 64))[0].square().mean().backward()
    # Of the three parts that nano has too, and two blocks of large alone.
    gathering = deep.model[2].cv2.conv.weight
    parts = 3 * deep.model[2].c
    assert not gathering[:, parts:].abs().max()
    assert float(gathering.grad[:, parts:].abs().max()) > 0.0


@pytest.mark.parametrize(
    ("from_", "to"), [(network("small"), network("nano")), (network("nano"), network("small", 3))]
)
def test_a_network_that_cannot_hold_the_other_is_refused(
    from_: DetectionModel, to: DetectionModel
) -> None:
    with pytest.raises(InvalidInput, match="can be grown"):
        grow(from_, to)
