"""A rollout whose state file is broken or gone, found again by the record of its actions."""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path

from foundation.errors import InvalidInput
from foundation.json_lines import appending
from inference_graph.control.rollout.audit import history
from inference_graph.control.rollout.plan import RolloutPlan
from inference_graph.control.rollout.state import ORDERS_FILE, RolloutState, read_state


def unfinished_rollout(folder: Path) -> RolloutState | None:
    """The newest rollout of a folder that was started and not ended.

    How far it got is not known, so its step is the last one: it can be rolled back from there.

    Args:
        folder: of the rollouts, whose state file is broken or gone.

    Returns:
        None where every rollout that was started has ended, or the state is there by now.

    Raises:
        InvalidInput: the record is broken.
        StorageError: the files cannot be read.
    """
    with appending(folder / ORDERS_FILE):  # a rollout that is being started has a record first
        with contextlib.suppress(InvalidInput):
            if read_state(folder) is not None:
                return None
        lines = history(folder)
    started = [line for line in lines if line["action"] == "start"]
    if not started:
        return None
    first = started[-1]
    own = [line["action"] for line in lines if line["rollout"] == first["rollout"]]
    if own[-1] in ("promoted", "rolled back"):
        return None
    figures = first["figures"]
    plan = RolloutPlan(steps=tuple(figures["steps"]))
    return RolloutState(
        first["rollout"],
        first["model"],
        figures["source"],
        figures["sha256"],
        first["who"],
        plan,
        datetime.fromisoformat(first["time"]),
        step=len(plan.steps) - 1,
        canary=figures["sha256"][:12],
    )
