"""What hands and clocks do to a rollout on a cluster, in each of its phases."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rollout_samples import table
from rollout_world import Faults, World

from foundation.errors import InvalidInput
from inference_graph.control.rollout import controller as room
from inference_graph.control.rollout.audit import history
from inference_graph.control.rollout.controller import Controller
from inference_graph.control.rollout.services import storage
from inference_graph.control.rollout.state import ORDERS_FILE, STATE_FILE, give_order, read_state

SMALL, CANARY = ("inferenceservices", "small"), ("inferenceservices", "small-canary")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch, "small")


def at(world: World, phase: str) -> Controller:
    """A controller whose rollout has got there."""
    controller = world.controller()
    reached: dict[str, Callable[[], bool]] = {
        "moving": lambda: read(world)["target"] is not None,
        "step": lambda: True,
        "promoting": lambda: read(world)["phase"] == "promoting",
        "changed": lambda: storage(world.cluster.objects[SMALL]) == world.source,
    }
    if phase != "moving":
        world.tick_until(controller, world.folder, "step")
    if phase not in ("moving", "step"):
        give_order(world.folder, "promote", "ben", "")
    for _ in range(99):
        if reached[phase]():
            return controller
        controller.tick()
        world.cluster.kserve.step()
    raise AssertionError(f"it never gets there: {read(world)}")


def read(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world.folder / STATE_FILE).read_text())
    return found


def nodes(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.cluster.objects["inferencegraphs", "gearshift"]["spec"]["nodes"]
    return found


def end(world: World, controller: Controller) -> str:
    for _ in range(400):
        state = controller.tick()
        world.cluster.kserve.step()
        if state is not None and state.ended:
            return state.phase
        if state is not None and state.phase == "step" and not state.waiting:
            give_order(world.folder, "promote", "ben", "")
    raise AssertionError(f"it never ends: {read(world)}")


@pytest.mark.parametrize("abort", [False, True], ids=["goes on", "aborted"])
@pytest.mark.parametrize("phase", ["moving", "step", "promoting", "changed"])
def test_a_canary_that_someone_removes_gets_no_more_requests_and_leaves_nothing(
    world: World, phase: str, abort: bool
) -> None:
    controller = at(world, phase)
    del world.cluster.objects[CANARY]
    if abort:
        give_order(world.folder, "abort", "ben", "")
    controller.tick()
    world.cluster.kserve.step()
    assert "canary-small" not in nodes(world) or CANARY in world.cluster.objects
    if not abort and phase in ("moving", "promoting"):
        give_order(world.folder, "abort", "ben", "nothing is left to promote")
    ended = end(world, controller)
    assert ended == (
        "promoted" if phase == "changed" or (phase, abort) == ("step", False) else "rolled back"
    )
    world.cluster.kserve.lost.clear()  # until the graph is changed, nothing can answer
    world.check(ended)


def test_orders_in_one_moment_go_to_the_last_step_at_most(world: World) -> None:
    controller = at(world, "step")
    for order in ("promote", "promote", "promote-all", "promote"):
        give_order(world.folder, order, "ben", "")  # type: ignore[arg-type]
    state = controller.tick()
    assert state is not None and state.phase == "promoting"
    assert end(world, controller) == "promoted"
    world.check("promoted")


def test_an_abort_counts_whatever_became_of_the_orders_before(world: World) -> None:
    controller = at(world, "step")
    for _ in range(3):
        give_order(world.folder, "abort", "ben", "")
    lines = (world.folder / ORDERS_FILE).read_text().splitlines()
    content = read(world)
    # Three orders were carried out, and the file was replaced: one line of before, one new one.
    (world.folder / STATE_FILE).write_text(json.dumps(content | {"orders": 3}))
    promote = json.dumps(json.loads(lines[0]) | {"order": "promote"})
    (world.folder / ORDERS_FILE).write_text(f"{promote}\n")
    state = controller.tick()
    assert state is not None and (state.phase, state.target, state.orders) == ("step", None, 1)
    (world.folder / STATE_FILE).write_text(json.dumps(content | {"orders": 3}))
    (world.folder / ORDERS_FILE).write_text(f"{promote}\n{lines[0]}\n")
    assert end(world, controller) == "rolled back"
    world.check("rolled back")


@pytest.mark.parametrize(
    ("fields", "who"),
    [
        ({"who": "\n", "reason": "a\nb"}, "unknown"),
        ({"who": "x" * 999, "reason": "y" * 99_999}, "x" * 128),
        ({"who": None, "reason": "\ud800"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_an_order_that_a_hand_wrote_is_carried_out_and_recorded(
    world: World, fields: dict[str, Any], who: str
) -> None:
    controller = at(world, "step")
    line = {"rollout": world.rollout.rollout, "order": "abort", **fields}
    odd = {"rollout": world.rollout.rollout, "order": "dance", "who": "ben", "reason": ""}
    (world.folder / ORDERS_FILE).write_text(f"{json.dumps(odd)}\n{json.dumps(line)}\n")
    assert end(world, controller) == "rolled back"
    world.check("rolled back")
    assert [one["who"] for one in history(world.folder) if one["action"] == "abort"] == [who]


def test_who_cannot_be_recorded_gives_no_order(world: World) -> None:
    with pytest.raises(InvalidInput, match="1 to 128 printable"):
        give_order(world.folder, "abort", "x" * 129, "")
    assert not (world.folder / ORDERS_FILE).read_text()


@pytest.mark.parametrize(
    "edit",
    [
        {"step": 7},
        {"step": "0"},
        {"target": 2},
        {"orders": -1},
        {"since": "2026-11-21T00:00:00"},
        {"source": None},
    ],
    ids=str,
)
def test_a_state_that_a_hand_broke_is_rolled_back(world: World, edit: dict[str, Any]) -> None:
    controller = at(world, "step")
    (world.folder / STATE_FILE).write_text(json.dumps(read(world) | edit))
    with pytest.raises(InvalidInput, match="no state of a rollout"):
        read_state(world.folder)
    assert end(world, controller) == "rolled back"
    assert "its state is lost" in read(world)["sentence"]
    world.check("rolled back")


def test_a_digest_that_someone_took_away_is_written_again(world: World) -> None:
    controller = at(world, "changed")
    world.faults = Faults(0, "", world.folder / STATE_FILE)
    service = copy.deepcopy(world.cluster.objects[SMALL])
    model = service["spec"]["predictor"]["model"]
    model["args"] = [word for word in model["args"] if not word.startswith("--sha256=")]
    world.cluster.put("inferenceservices", service)
    assert end(world, controller) == "promoted"
    world.check("promoted")


def test_a_clock_that_is_set_back_does_not_stop_the_analysis(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[datetime, datetime]] = []

    def read_log(url: str, begin: datetime, end: datetime, columns: object) -> Any:
        reads.append((begin, end))
        return table()

    controller = at(world, "step")
    monkeypatch.setattr(room, "read_log", read_log)
    ahead = datetime.now(UTC) + timedelta(days=1)
    for since in (ahead.isoformat(), None):
        (world.folder / STATE_FILE).write_text(json.dumps(read(world) | {"since": since}))
        state = controller.tick()
        assert state is not None and state.since is not None and state.since <= datetime.now(UTC)
    # Within the step: what was read until then lies ahead, too.
    past = datetime.now(UTC) - timedelta(hours=1)
    (world.folder / STATE_FILE).write_text(json.dumps(read(world) | {"since": past.isoformat()}))
    controller.tick()
    controller._read_until = ahead
    reads.clear()
    controller.tick()
    ((begin, until),) = reads
    assert begin < until <= datetime.now(UTC)


def test_a_clock_that_is_set_back_does_not_lengthen_the_wait(world: World) -> None:
    controller = at(world, "step")
    world.cluster.kserve.starts = lambda name, template: False
    give_order(world.folder, "promote", "ben", "")
    for _ in range(20):
        controller.tick()
        world.cluster.kserve.step()
    waits = read(world)
    assert waits["waiting"]
    ahead = datetime.now(UTC) + timedelta(days=1)
    edited = waits | {"waiting_since": ahead.isoformat()}
    (world.folder / STATE_FILE).write_text(json.dumps(edited))
    controller.tick()
    assert datetime.fromisoformat(read(world)["waiting_since"]) <= datetime.now(UTC)
