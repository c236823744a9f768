"""An older policy as the start of a new one: its network, read back from the ONNX file."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper

from components.policy.network import RungLogits
from foundation.errors import InvalidInput, ModelError

_PREFIX = "logits."
_FIRST = "quality.weights.0"


def network_of(file: Path) -> RungLogits:
    """The network of an exported policy.

    Raises:
        InvalidInput: there is no such file.
        ModelError: it is no policy that the clone or refine stage exported.
    """
    if not file.is_file():
        raise InvalidInput(f"there is no file {file}; name an older policy's ONNX file")
    try:
        stored = {
            tensor.name.removeprefix(_PREFIX): torch.from_numpy(
                numpy_helper.to_array(tensor).copy()
            )
            for tensor in onnx.load(str(file), load_external_data=False).graph.initializer
        }
        members, inputs, hidden = stored[_FIRST].shape
        network = RungLogits(members, hidden, 0.0, uses_frame=False)
        if inputs != network.summary.size:
            network = RungLogits(members, hidden, 0.0, uses_frame=True)
        # The export folds the response to load into other tensors; a new policy learns its own.
        own = network.state_dict()
        wanted = [name for name in own if name.startswith(("quality.", "summary."))]
        network.load_state_dict({**own, **{name: stored[name] for name in wanted}})
    except Exception as error:  # whatever the file holds, onnx and torch raise errors of their own
        raise ModelError(
            f"{file} is no policy that gearshift trained ({type(error).__name__}); name its "
            "policy.onnx"
        ) from error
    return network.eval()


def take_over(older: RungLogits, network: RungLogits) -> None:
    """Copy the older network's weights where the shapes agree: all of them, or none.

    The scale of the inputs goes with the weights, which mean nothing without it.
    """
    if older.shape == network.shape:
        network.quality.load_state_dict(older.quality.state_dict())
        network.summary.load_state_dict(older.summary.state_dict())
