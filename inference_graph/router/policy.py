"""The policy: an ONNX network from observations to rungs, bound to one schema and ladder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_transformer.makers import MAKERS, ObservationMaker
from feature_transformer.observation import OBSERVATION_SIZE
from foundation.errors import ConfigurationError, InvalidInput, ModelError, SchemaMismatch
from inference_graph.contract import (
    CARD_KEY,
    LADDER,
    LADDER_KEY,
    LATENCY_WEIGHT_KEY,
    POLICY_ACTION,
    POLICY_INPUT,
    POLICY_PROBABILITIES,
    REUSE_KEY,
    SCHEMA_HASH_KEY,
    USES_FRAME_KEY,
)
from inference_graph.operators import POLICY_OPERATORS
from inference_graph.sessions import OpenModel, open_model, run
from inference_graph.tracking.reuse import ReuseConfig


class Policy:
    """A loaded policy; :meth:`decide` may be called from several threads.

    Attributes:
        maker: who makes what it sees.
        latency_weight: the operating point it was released for.
        reuse: when a stream's tracks may answer a frame in place of a rung.
        uses_frame: whether it reads the frame's own part of the observation, or the context alone.
        card: where it comes from; empty when the file does not state it.
        revision: first 12 hexadecimal digits of the SHA-256 of its file.
        sha256: the whole digest.
    """

    def __init__(
        self,
        path: Path,
        threads: int = 1,
        sha256: str | None = None,
        data: bytes | None = None,
        trust: Path | None = None,
        signature: bytes | None = None,
        task: str = "",
    ) -> None:
        """Load a policy and run it once.

        Args:
            path: the ONNX file.
            threads: threads of one decision; the network is small, so more than one costs.
            sha256: digest the file must have; not checked without it.
            data: what the file holds, where it did not come from a disk.
            trust: trust file; a policy that none of its keys signed is refused.
            signature: content of its signature, where it does not lie beside the file.
            task: the task that it must be for; any that is known without it.

        Raises:
            SchemaMismatch: made for another task, observation schema or ladder.
            ModelError: no ONNX, notes missing, operators or tensors that are no policy's, or not
                signed as it must be.
            ConfigurationError: an unusable trust file.
        """
        model = open_model(
            path,
            threads,
            sha256=sha256,
            data=data,
            trust=trust,
            signature=signature,
            operators=POLICY_OPERATORS,
        )
        self.maker = _maker(model, task)
        self._model = model
        self.latency_weight = _latency_weight(model)
        self.reuse = _reuse(model)
        self.uses_frame = _uses_frame(model)
        self.card: Mapping[str, Any] = _card(model)
        self.sha256 = model.sha256
        self.revision = model.revision
        self._check_tensors()

    def decide(
        self, observations: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Choose a rung for each observation.

        Args:
            observations: float32 [n, OBSERVATION_SIZE].

        Returns:
            Actions int64 [n], indices into the ladder, and probabilities float32 [n, 3].

        Raises:
            InvalidInput: observations of another shape or type.
            ModelError: the runtime failed.
        """
        if observations.shape != (len(observations), OBSERVATION_SIZE):
            raise InvalidInput(
                f"observations have shape {list(observations.shape)}; the policy takes "
                f"[n, {OBSERVATION_SIZE}]"
            )
        if observations.dtype != np.float32:
            raise InvalidInput(f"observations are {observations.dtype}; the policy takes float32")
        actions: Any
        probabilities: Any
        actions, probabilities = run(
            self._model, (POLICY_ACTION, POLICY_PROBABILITIES), {POLICY_INPUT: observations}
        )
        if (
            actions.shape != (len(observations),)
            or actions.dtype != np.int64
            or probabilities.shape != (len(observations), len(LADDER))
            or probabilities.dtype != np.float32
            or not np.isfinite(probabilities).all()
            or not ((actions >= 0) & (actions < len(LADDER))).all()
        ):
            raise ModelError(
                f"{self._model.path} answers {len(observations)} observations with {POLICY_ACTION} "
                f"{actions.dtype} {list(actions.shape)} and {POLICY_PROBABILITIES} "
                f"{probabilities.dtype} {list(probabilities.shape)}, or with what is no rung; a "
                f"policy gives one of {len(LADDER)} rungs and their probabilities for each"
            )
        return actions, probabilities

    def _check_tensors(self) -> None:
        session, path = self._model.session, self._model.path
        names = {tensor.name for tensor in session.get_outputs()}
        inputs = [tensor.name for tensor in session.get_inputs()]
        if inputs != [POLICY_INPUT] or not {POLICY_ACTION, POLICY_PROBABILITIES} <= names:
            raise ModelError(
                f"{path} takes {inputs} and gives {sorted(names)}; a policy takes "
                f"{POLICY_INPUT} and gives {POLICY_ACTION} and {POLICY_PROBABILITIES}"
            )
        # Two rows prove that the number of rows is free; declared shapes may be symbolic.
        _, probabilities = self.decide(np.zeros((2, OBSERVATION_SIZE), np.float32))
        if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
            raise ModelError(f"{path} gives {POLICY_PROBABILITIES} that do not sum to 1")


def _maker(model: OpenModel, task: str) -> ObservationMaker:
    """Who makes what the policy sees; refuses another schema, task or ladder."""
    schema = model.metadata.get(SCHEMA_HASH_KEY)
    if schema is None:
        raise ModelError(f"{model.path} is no policy: it does not name its observation schema")
    known = [maker for maker in MAKERS.values() if task in ("", maker.task)]
    maker = next((maker for maker in known if maker.schema_hash == schema), None)
    if maker is None:
        other = next((one.task for one in MAKERS.values() if one.schema_hash == schema), "")
        if other:
            raise SchemaMismatch(
                f"{model.path} is a policy for {other}, and these rungs are for {task}; "
                f"name a policy that was trained for {task}"
            )
        built = ", ".join(f"{one.schema_hash[:12]} for {one.task}" for one in known)
        raise SchemaMismatch(
            f"{model.path} was trained on observation schema {schema[:12]}, this program builds "
            f"{built}; train it again or use the version it was made with"
        )
    ladder = _json(model, LADDER_KEY)
    if ladder != list(LADDER):
        raise SchemaMismatch(
            f"{model.path} routes among {str(ladder)[:80]}, this program among {list(LADDER)}; "
            "train it again for this ladder"
        )
    return maker


def _latency_weight(model: OpenModel) -> float:
    text = model.metadata.get(LATENCY_WEIGHT_KEY, "nothing")
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or weight < 0:
        raise ModelError(
            f"{model.path}: {LATENCY_WEIGHT_KEY} is {text[:40]}, not a number of at least 0; "
            "export the policy again"
        )
    return weight


def _reuse(model: OpenModel) -> ReuseConfig:
    if REUSE_KEY not in model.metadata:
        return ReuseConfig()
    stated = _json(model, REUSE_KEY)
    try:
        longest, doubt = stated["longest"], stated["doubt"]
        if type(longest) is not int or type(doubt) not in (int, float):
            raise TypeError("no numbers")
        return ReuseConfig(longest=longest, doubt=float(doubt))
    except (KeyError, TypeError, OverflowError, ConfigurationError) as error:
        raise ModelError(
            f"{model.path} states {REUSE_KEY} as {str(stated)[:80]!r}; a policy gives frames in a "
            "row as longest, and doubt"
        ) from error


def _uses_frame(model: OpenModel) -> bool:
    found = _json(model, USES_FRAME_KEY) if USES_FRAME_KEY in model.metadata else True
    if not isinstance(found, bool):
        raise ModelError(
            f"{model.path}: {USES_FRAME_KEY} is neither true nor false; export the policy again"
        )
    return found


def _card(model: OpenModel) -> Mapping[str, Any]:
    card = _json(model, CARD_KEY) if CARD_KEY in model.metadata else {}
    if not isinstance(card, dict):
        raise ModelError(f"{model.path}: {CARD_KEY} is no JSON object; export the policy again")
    return card


def _json(model: OpenModel, key: str) -> Any:
    try:
        return json.loads(model.metadata.get(key, ""))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{model.path}: {key} is no JSON; export the policy again") from error
