"""Services load only models that a trusted key signed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from gateway_samples import Rungs, gateway_settings, served
from tiny_models import MakeDetector, MakePolicy

from foundation.errors import ModelError
from foundation.signing import SIGNATURE_HEADER
from foundation.signing.signature import sign_file
from foundation.signing.trust import revoke_key, trust_key
from foundation.storage import sha256_file
from inference_graph.clients.policy import swap_policy
from inference_graph.detector import Detector, DetectorConfig
from inference_graph.gateway.rungs import open_rungs
from inference_graph.router import Policy


def test_router_and_detector_load_signed_files_only(
    keys: Any, trust: Path, make_policy: MakePolicy, make_detector: MakeDetector
) -> None:
    key, public = keys("release")
    trust_key(trust, public)
    policy, weights = make_policy(), make_detector([[20, 30, 20, 40, 0.1, 0.8]], name="nano.onnx")
    for load in (
        lambda: Policy(policy, trust=trust),
        lambda: Detector(DetectorConfig(weights, "nano", trust=trust)),
        lambda: open_rungs({"nano": str(weights)}, trust=trust),
    ):
        with pytest.raises(ModelError, match="is not signed"):
            load()
    sign_file(policy, key)
    sign_file(weights, key)
    assert Policy(policy, trust=trust).sha256 == sha256_file(policy)
    config = DetectorConfig(weights, "nano", threads=2, threads_beside=1, trust=trust)
    assert Detector(config).sha256 == sha256_file(weights)
    revoke_key(trust, "release", "lost")
    with pytest.raises(ModelError, match="was revoked"):
        Policy(policy, trust=trust)


def test_a_gateway_takes_signed_policies_only(
    rungs: Rungs, keys: Any, trust: Path, make_policy: MakePolicy
) -> None:
    key, public = keys("release")
    trust_key(trust, public)
    first, second = make_policy(name="a.onnx"), make_policy(bias=(0, 9, 0), name="b.onnx")
    with (
        pytest.raises(ModelError, match="is not signed"),
        served(gateway_settings(policy=first, trust=trust), rungs),
    ):
        pass
    sign_file(first, key)
    with served(gateway_settings(policy=first, trust=trust), rungs) as gateway:
        with pytest.raises(ModelError, match="is not signed"):
            swap_policy(gateway.url, second)
        sign_file(second, key)
        assert swap_policy(gateway.url, second).replaced == sha256_file(first)[:12]
        kind = {"content-type": "application/octet-stream"}
        for text, status in (
            ("?", 400),
            (base64.b64encode(b"{}").decode(), 422),
            ("A" * 40000, 431),
        ):
            answer = gateway.http.post(
                "/v1/policy", content=first.read_bytes(), headers=kind | {SIGNATURE_HEADER: text}
            )
            assert answer.status_code == status
        revoke_key(trust, "release", "lost")
        with pytest.raises(ModelError, match="was revoked"):
            swap_policy(gateway.url, first)
