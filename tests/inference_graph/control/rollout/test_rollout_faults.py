"""One fault at each write of a rollout on a cluster, to the API, the gateway and the files.

A rollout is run over the double of KServe and its controllers, once for each write and kind of
fault. However it continues, it has to end at 0 or 100 %, leave nothing behind, and report what is
true.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from campaign import runs
from rollout_world import FAULTS, Faults, World

from inference_graph.control.rollout.policy_files import PolicyFiles
from inference_graph.control.rollout.services import storage
from inference_graph.control.rollout.state import give_order


def ended(
    folder: Path, model: str, at: int = 0, fault: str = "", abort: bool = False
) -> tuple[World, str]:
    """A rollout that has met a fault and has ended, as it should."""
    with pytest.MonkeyPatch.context() as patch:
        world = World(folder, patch, model)
        world.faults = Faults(at, fault, world.folder / "state.json")
        world.gateways.faults = world.faults
        phase = world.run(abort)
        world.check(phase)
    return world, phase


@cache
def writes(model: str) -> list[str]:
    """What a rollout without a fault writes, in order."""
    with TemporaryDirectory() as folder:
        world, phase = ended(Path(folder), model)
    assert phase == "promoted"
    return world.faults.made


@pytest.mark.campaign
@pytest.mark.parametrize("abort", [False, True], ids=["goes on", "aborted"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("model", ["small", "policy"])
def test_a_fault_at_any_write_leaves_nothing_behind(
    model: str, fault: str, abort: bool, tmp_path: Path
) -> None:
    made, stride = writes(model), runs(16, 1)
    first = 1 + (FAULTS.index(fault) * 2 + abort * 5) % stride  # others for each kind
    phases = set()
    for at in range(first, len(made) + 1, stride):
        try:
            phases.add(ended(tmp_path / str(at), model, at, fault, abort)[1])
        except (AssertionError, LookupError, TypeError) as error:
            raise AssertionError(f"at write {at} of {made}: {error}") from error
    if not abort and "state" not in fault:
        assert phases == {"promoted"}


def test_two_controllers_with_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one ends, and the first one's canary keeps its share."""
    world = World(tmp_path / "first", monkeypatch, "small")
    first, folder = world.controller(), tmp_path / "second"
    world.tick_until(first, world.folder, "step")
    world.start(folder, "pvc://gearshift-models/policy-3")
    before, writes = world.specs(), len(world.cluster.writes)
    state = world.controller(folder).tick()
    assert state is not None and state.phase == "rolled back"
    assert "small-canary belongs to another rollout; end that one" in state.sentence
    assert (world.specs(), len(world.cluster.writes)) == (before, writes)
    world.check(world.run())


def test_a_canary_that_is_still_being_deleted_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, "small")
    key = ("inferenceservices", "small-canary")
    left = copy.deepcopy(world.cluster.objects["inferenceservices", "small"])
    left["metadata"] |= {"name": "small-canary", "deletionTimestamp": "2026-11-21T00:00:00Z"}
    world.cluster.objects[key] = left
    state = world.controller().tick()
    assert state is not None
    assert state.waiting == "the previous InferenceService small-canary is being deleted"
    del world.cluster.objects[key]
    world.check(world.run())


def test_a_canary_that_someone_removed_is_made_again_without_traffic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, "small")
    controller = world.controller()
    world.tick_until(controller, world.folder, "step")
    del world.cluster.objects["inferenceservices", "small-canary"]
    world.cluster.kserve.step()
    controller.tick()
    nodes = world.cluster.objects["inferencegraphs", "gearshift"]["spec"]["nodes"]
    assert ("inferenceservices", "small-canary") in world.cluster.objects
    assert "canary-small" not in nodes
    assert world.tick_until(controller, world.folder, "step").weight == 50


def test_streams_take_a_policy_whose_source_was_away_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that did not answer once must not leave gateways with two policies."""
    world = World(tmp_path, monkeypatch, "policy")
    controller = world.controller()
    world.tick_until(controller, world.folder, "step")
    monkeypatch.setattr(PolicyFiles, "reads", lambda files, uri: False)
    world.check(world.run())


def test_what_another_person_deployed_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, "small")
    controller = world.controller()
    world.tick_until(controller, world.folder, "step")
    service = copy.deepcopy(world.cluster.objects["inferenceservices", "small"])
    service["spec"]["predictor"]["model"]["storageUri"] = "pvc://gearshift-models/fixed"
    world.cluster.put("inferenceservices", service)
    give_order(world.folder, "abort", "ben", "")
    world.tick_until(controller, world.folder, "rolled back")
    service = world.cluster.objects["inferenceservices", "small"]
    assert storage(service) == "pvc://gearshift-models/fixed"
