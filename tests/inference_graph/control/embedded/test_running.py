from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

import gearshift
from foundation.errors import GateRefused
from inference_graph.control.embedded.running import only_platform, require_free_ports


def test_a_second_platform_states_which_one_runs_and_changes_nothing(tmp_path: Path) -> None:
    state, policy = tmp_path / "up", tmp_path / "policy.onnx"
    policy.write_bytes(b"x")
    command = ["up", "--state", str(state), "--policy", str(policy), "--open-access"]
    with only_platform(state) as note_gateway:
        note_gateway("http://127.0.0.1:8611")
        before = sorted(state.rglob("*"))
        result = CliRunner().invoke(gearshift.app, command)
        words = " ".join(result.stderr.split())
        assert result.exit_code == 1
        assert f"pid {os.getpid()}, gateway http://127.0.0.1:8611" in words
        assert f"`kill {os.getpid()}`" in words and "--state" in words
        assert sorted(state.rglob("*")) == before
        (state / "up.lock").write_bytes(b"[]")
        with pytest.raises(GateRefused, match=f"runs on {state} already; use it, end it, or"):
            only_platform(state).__enter__()
    with only_platform(state):
        pass


def test_a_port_in_use_is_named_before_anything_starts() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(GateRefused, match=f":{port} .* another --graph-port"):
            require_free_ports("127.0.0.1", {"port": 0, "graph-port": port})
    require_free_ports("127.0.0.1", {"port": port})
