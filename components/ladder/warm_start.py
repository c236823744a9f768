"""Weights that a training run begins with: of an earlier run, or of an exported rung."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.tasks import DetectionModel

from foundation.errors import InvalidInput
from foundation.storage import sha256_file

_BESIDE_WEIGHTS = 1 << 24
"""Bytes of an export that are no weights, at most."""


def find_start(place: Path, rung: str) -> Path:
    """The file to start a rung from: ``place`` itself, or the rung's file in that folder.

    Raises:
        InvalidInput: a folder without ``<rung>.pt`` and ``<rung>.onnx``.
    """
    if not place.is_dir():
        return place
    for name in (f"{rung}.pt", f"{rung}.onnx"):
        if (place / name).is_file():
            return place / name
    raise InvalidInput(f"{place} has neither {rung}.pt nor {rung}.onnx to start from")


def load_exported(model: DetectionModel, path: Path) -> None:
    """Give a network the weights of its export, whose batch normalisation is folded away.

    Each folded layer keeps its function: the kernel stays and the normalisation after it adds the
    bias. :func:`normalise` then makes that hold for batches as well.

    Args:
        model: of the same architecture and classes; in place.
        path: what :func:`components.ladder.export.export_rung` wrote.

    Raises:
        InvalidInput: it is no such file of this architecture.
    """
    try:
        state = model.state_dict()
        largest = sum(one.nbytes for one in state.values())
        if path.stat().st_size > 2 * largest + _BESIDE_WEIGHTS:
            raise ValueError("it is longer than the network's weights")
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        found = _tensors(onnx.load(str(path), load_external_data=False), shapes)
        for name, layer in model.named_modules():
            if isinstance(layer, Conv):
                bias = found.pop(f"{name}.conv.bias")
                found |= {
                    f"{name}.bn.bias": bias,
                    f"{name}.bn.weight": torch.ones_like(bias),
                    f"{name}.bn.running_mean": torch.zeros_like(bias),
                    f"{name}.bn.running_var": torch.full_like(bias, 1.0 - layer.bn.eps),
                }
        # The last layer's fixed kernel and the counts of batches are the architecture's.
        fixed = {name for name in state if ".dfl." in name or name.endswith("num_batches_tracked")}
        state = {name: found[name] if name not in fixed else state[name] for name in state}
        model.load_state_dict(state)
    except Exception as error:  # onnx raises whatever its parser meets
        raise InvalidInput(
            f"{path} is no export of {model.yaml['yaml_file']} ({error!r:.120}); give what "
            "gearshift ladder export wrote for the same rung"
        ) from error


def normalise(model: DetectionModel, batches: Iterable[torch.Tensor]) -> None:
    """Set each batch normalisation to the statistics of batches; what the network does stays.

    An export has no statistics, and training divides by those of the batch: without this the
    first step would see another function than the export's.

    Args:
        model: after :func:`load_exported`; in place.
        batches: images float32 ``[B, 3, h, w]`` RGB 0..1, on the model's device.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Conv)]
    sums = {layer: torch.zeros(2, layer.bn.num_features, dtype=torch.float64) for layer in layers}
    counts = dict.fromkeys(layers, 0)

    def note(layer: Conv) -> Any:
        def hook(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
            values = output.detach().double().transpose(0, 1).flatten(1).cpu()
            sums[layer] += torch.stack([values.sum(1), values.square().sum(1)])
            counts[layer] += values.shape[1]

        return hook

    hooks = [layer.conv.register_forward_hook(note(layer)) for layer in layers]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for images in batches:
                model(images)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    for layer in layers:
        mean, square = sums[layer] / counts[layer]
        deviation = (square - mean.square()).clamp(min=0).add(layer.bn.eps).sqrt()
        norm = layer.bn
        with torch.no_grad():
            norm.bias.add_(mean.to(norm.bias))
            norm.weight.copy_(deviation)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(deviation.square() - norm.eps)


def recipe_beside(path: Path) -> Mapping[str, Any]:
    """The recipe of an exported rung, from the card in its folder; empty without one."""
    card = path.with_name("card.json")
    if not card.is_file():
        return {}
    try:
        rungs = json.loads(card.read_text("utf-8"))["rungs"]
        digest = sha256_file(path)
        recipe: Any = next((one["recipe"] for one in rungs.values() if one["sha256"] == digest), {})
        return recipe if isinstance(recipe, Mapping) else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _tensors(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, torch.Tensor]:
    """Kernels and biases by name; kernels that are stored as int8 are scaled back."""
    if any(one.data_location == onnx.TensorProto.EXTERNAL for one in model.graph.initializer):
        raise ValueError("it names weights of other files")
    stored = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:  # an export keeps equal tensors once
        if node.op_type == "Identity" and node.input[0] in stored:
            stored[node.output[0]] = stored[node.input[0]]
    values: dict[str, np.ndarray] = {}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        kernel, *bias = node.input[1:]
        if kernel in stored:
            values[kernel] = stored[kernel]
        else:
            whole, scale = stored[f"{kernel}.int8"], stored[f"{kernel}.scale"]
            # Others would be repeated to any size.
            if whole.shape != shapes[kernel] or scale.shape != whole.shape[:1]:
                raise ValueError(f"{kernel} has another shape")
            values[kernel] = whole.astype(np.float32) * scale[:, None, None, None]
        if bias:
            values[f"{kernel.removesuffix('.weight')}.bias"] = stored[bias[0]]
    if not all(value.dtype == np.float32 and np.isfinite(value).all() for value in values.values()):
        raise ValueError("it has weights that are no finite float32")
    return {name: torch.from_numpy(np.array(value)) for name, value in values.items()}
