"""The state of a rollout: a small JSON file that controller, command line and dashboard share.

::

    <folder>/state.json      written by the controller; by the command line to start one
    <folder>/orders.jsonl    requests of people: promote, promote-all or abort; append-only
    <folder>/audit.jsonl     who did what, when
    <folder>/files/          the new revisions, as they were given
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from foundation.audit_log import check_actor
from foundation.errors import GateRefused, GearshiftError, InvalidInput, StorageError
from foundation.file_lock import try_file_lock
from foundation.json_lines import Line, appending, read_lines
from foundation.storage import atomic_path, sync
from inference_graph.control.rollout.plan import RolloutPlan

STATE_FILE = "state.json"
ORDERS_FILE = "orders.jsonl"
FILES = "files"
_LOCK = "controller.lock"
_TIMES = ("started", "since", "updated", "waiting_since")

Phase = Literal["starting", "step", "promoting", "promoted", "rolling back", "rolled back"]
Order = Literal["promote", "promote-all", "abort"]
ENDED: tuple[Phase, ...] = ("promoted", "rolled back")


@dataclass(frozen=True)
class RolloutState:
    """The state of a rollout.

    Attributes:
        rollout: its id.
        model: a rung, or "policy".
        source: the new revision: a file, or for a cluster a ``storageUri``.
        sha256: digest of that file; empty for one that only the cluster can read.
        who: started it.
        plan: how it goes.
        started: when; aware.
        phase: what is being done.
        step: index into the plan's steps whose traffic flows; -1 before the first.
        target: step that the traffic is being moved to; None where it is not.
        since: when the traffic of this step began to flow.
        updated: when this was written.
        stable: revision in use, first 12 digits of its digest; empty until known.
        canary: the new one's.
        service: name of the service that the new revision is, as the log names it.
        sentence: the result of the last analysis, and at the end why it ended so.
        waiting: what is missing until what was asked for is done; empty where nothing is.
        waiting_since: when this began to be missing.
        failure: why the controller's last attempt failed, for example a cluster that does not
            answer; it tries again. Empty after an attempt that did not fail.
        findings: the last analysis' numbers by metric.
        frames_left: frames, of a policy segments, until the step is decided at the present pace;
            None where that cannot be foreseen.
        orders: how many orders of ``orders.jsonl`` are carried out.
    """

    rollout: str
    model: str
    source: str
    sha256: str
    who: str
    plan: RolloutPlan
    started: datetime
    phase: Phase = "starting"
    step: int = -1
    target: int | None = None
    since: datetime | None = None
    updated: datetime | None = None
    stable: str = ""
    canary: str = ""
    service: str = ""
    sentence: str = ""
    waiting: str = ""
    waiting_since: datetime | None = None
    failure: str = ""
    findings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    orders: int = 0
    frames_left: int | None = None

    @property
    def weight(self) -> int:
        """The canary's share of the traffic as it was last in force, per cent."""
        if self.phase == "promoted":
            return 100
        if self.phase == "rolled back":
            return 0
        step = self.step - 1 if self.phase == "promoting" else self.step
        return self.plan.steps[step] if step >= 0 else 0

    @property
    def goal(self) -> int:
        """The share that the traffic is being moved to, per cent; ``weight`` where it is not."""
        if self.phase == "promoting":
            return 100
        if self.phase == "rolling back":
            return 0
        return self.weight if self.target is None else self.plan.steps[self.target]

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.phase in ENDED


def read_state(folder: Path) -> RolloutState | None:
    """The rollout of a folder, the last one where none runs; None where there was none.

    Raises:
        InvalidInput: the file is broken.
        StorageError: it cannot be read.
    """
    path = folder / STATE_FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        plan = content.pop("plan")
        for name in _TIMES:
            text = content.get(name)
            content[name] = None if text is None else datetime.fromisoformat(text)
        if content["phase"] not in get_args(Phase):
            raise ValueError(content["phase"])
        known = {one.name for one in fields(RolloutState)}
        given = {name: value for name, value in content.items() if name in known}
        state = RolloutState(plan=RolloutPlan(**{**plan, "steps": tuple(plan["steps"])}), **given)
        _check(state)
        return state
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check the folder") from error
    except (ValueError, KeyError, TypeError, AttributeError, GearshiftError) as error:
        raise InvalidInput(
            f"{path} is no state of a rollout ({type(error).__name__}); restore or remove it"
        ) from error


def _check(state: RolloutState) -> None:
    """Refuse what no controller writes, as a hand may, before one stumbles over it.

    Raises:
        ValueError: names the field.
    """
    steps = range(len(state.plan.steps))
    for name, known in (
        ("step", state.step in range(-1, len(steps))),
        ("target", state.target is None or state.target in steps),
        ("orders", isinstance(state.orders, int) and state.orders >= 0),
        *((name, _is_aware(getattr(state, name))) for name in _TIMES),
        *((name, isinstance(getattr(state, name), str)) for name in ("source", "sha256", "canary")),
    ):
        if not known:
            raise ValueError(name)


def _is_aware(time: datetime | None) -> bool:
    return time is None or time.tzinfo is not None


def write_state(folder: Path, state: RolloutState) -> None:
    """Store a state, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    with atomic_path(folder / STATE_FILE) as partial:
        partial.write_text(json.dumps(state_content(state), indent=1) + "\n", encoding="utf-8")
        sync(partial)  # or a power cut could leave the new name with an empty file


def state_content(state: RolloutState) -> dict[str, Any]:
    """A state in types that JSON knows, with the canary's share as ``weight``, and ``goal``."""
    content = {
        **asdict(state),
        "weight": state.weight,
        "goal": state.goal,
        "findings": dict(state.findings),
    }
    for name in _TIMES:
        time = content[name]
        content[name] = None if time is None else time.isoformat()
    content["plan"] = {**content["plan"], "steps": list(state.plan.steps)}
    return content


def begin(folder: Path, state: RolloutState, record: Callable[[], None]) -> None:
    """Store the state of a new rollout, unless one is under way.

    Args:
        folder: of the rollouts.
        state: of the new one.
        record: called before the state is stored: no rollout begins without its record.

    Raises:
        GateRefused: one is.
        InvalidInput: the file there is broken.
        StorageError: it cannot be written.
    """
    with appending(folder / ORDERS_FILE) as (orders, _):  # of two that start, one comes first
        before = read_state(folder)
        if before is not None and not before.ended:
            raise GateRefused(
                f"rollout {before.rollout} of {before.model} is under way in {folder}; wait for "
                "its end, or end it with gearshift rollout abort"
            )
        record()
        write_state(folder, replace(state, orders=len(orders)))


def give_order(folder: Path, order: Order, who: str, reason: str) -> RolloutState:
    """Ask the controller for something; it is carried out at its next tick.

    Returns:
        The rollout's state now.

    Raises:
        GateRefused: no rollout is under way.
        InvalidInput: the files are broken, or ``who`` is nothing that can be recorded.
        StorageError: it cannot be written.
    """
    check_actor(who)
    with appending(folder / ORDERS_FILE) as (_, append):
        state = read_state(folder)
        if state is None or state.ended:
            raise GateRefused(f"no rollout is under way in {folder}; start one")
        append({"rollout": state.rollout, "order": order, "who": who, "reason": reason})
    return state


def new_orders(folder: Path, state: RolloutState) -> tuple[dict[int, Line], int]:
    """Orders of a rollout that are not carried out yet, by line, and how many lines there are.

    Where these are fewer than were carried out, the file is another one. Which of its orders are
    new is not known then, so only those to abort count.

    Raises:
        InvalidInput: a line is no JSON object.
        StorageError: the file cannot be read.
    """
    lines = read_lines(folder / ORDERS_FILE)
    other = len(lines) < state.orders
    own = {
        number: line
        for number, line in enumerate(lines)
        if line.get("rollout") == state.rollout
        and (line.get("order") == "abort" if other else number >= state.orders)
    }
    return own, len(lines)


@contextmanager
def controlling(folder: Path) -> Iterator[bool]:
    """Be the only controller of a folder while the block runs; yields whether one is.

    Raises:
        StorageError: the folder cannot be written.
    """
    with try_file_lock(folder / _LOCK) as stream:
        yield stream is not None
