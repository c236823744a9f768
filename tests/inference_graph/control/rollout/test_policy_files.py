"""A promoted policy and its signature are two files; a kill may come between any two writes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from gateway_samples import gateway_settings
from tiny_models import MakePolicy

from foundation.errors import StorageError
from foundation.signing import signature_file
from foundation.signing.signature import sign_file
from foundation.signing.trust import trust_key
from foundation.storage import sha256_file
from inference_graph.control.rollout import policy_files as room
from inference_graph.control.rollout.policy_files import PolicyFiles
from inference_graph.gateway.policy_in_use import PolicyInUse
from inference_graph.sessions import check_source


class Killed(BaseException):
    """In place of SIGKILL."""


class Kills:
    """Ends the process before its n-th change of a name in the folder."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self._count(patch, room, "atomic_path")
        self._count(patch, Path, "unlink")

    def _count(self, patch: pytest.MonkeyPatch, place: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(place, name)

        def counted(*given: Any, **more: Any) -> Any:
            self.left -= ".partial" not in given[0].name  # else atomic_path's own
            if self.left == 0:
                raise Killed
            return real(*given, **more)

        patch.setattr(place, name, counted)


def test_a_gateway_starts_with_the_old_or_the_new_policy_wherever_the_controller_is_killed(
    keys: Any, trust: Path, make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, public = keys("release")
    trust_key(trust, public)
    policies = [make_policy(bias=bias, name=f"{bias[1]}.onnx") for bias in ((0, 1, 0), (0, 9, 0))]
    for policy in policies:
        sign_file(policy, key)
    old, new = policies
    kept = tmp_path / "promoted" / "policy.onnx"
    files = PolicyFiles(promoted=kept)

    def used() -> str:
        return check_source(kept, kept.read_bytes(), None, trust, None)

    kills = Kills(monkeypatch)
    digests = {sha256_file(old), sha256_file(new)}
    seen, whole = set(), 0
    for first, second, then in product(range(1, 6), range(1, 6), (old, new)):
        kills.left = 0
        files.keep(old)
        assert {one.name for one in kept.parent.iterdir()} == {kept.name, f"{kept.name}.sig"}
        for at, policy in ((first, new), (second, then)):  # then: rolled back, or tried again
            kills.left = at
            try:
                files.keep(policy)
                whole += 1
            except Killed:
                pass
            seen.add(used())
            assert seen <= digests
    assert whole and seen == digests
    started = PolicyInUse(gateway_settings(policy=old, promoted=kept, trust=trust)).policy
    assert started is not None and started.sha256 == used()


def test_a_signature_of_the_policy_before_does_not_stay_beside_one_without(
    keys: Any, make_policy: MakePolicy, tmp_path: Path
) -> None:
    key, _ = keys("release")
    signed, plain = make_policy(name="a.onnx"), make_policy(bias=(0, 9, 0), name="b.onnx")
    sign_file(signed, key)
    kept = tmp_path / "promoted" / "policy.onnx"
    files = PolicyFiles(promoted=kept)
    files.keep(signed)
    files.keep(plain)
    assert files.kept() == sha256_file(plain)
    assert not signature_file(kept).exists()


def test_a_folder_that_cannot_be_written_is_named(make_policy: MakePolicy, tmp_path: Path) -> None:
    (tmp_path / "promoted").touch()
    with pytest.raises(StorageError, match="promoted"):
        PolicyFiles(promoted=tmp_path / "promoted" / "policy.onnx").keep(make_policy())
