"""Names and numbers that the manifests and the programs around them share.

The manifests are the source; ``tests/manifests/test_names.py`` holds these to them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

Document = dict[str, Any]

MANIFESTS = Path(__file__).resolve().parents[3] / "manifests"
"""The kustomize tree."""
MODELS = "/mnt/models"
"""Where KServe's storage initializer puts what ``storageUri`` names."""
POLICY_FILE = "policy.onnx"
GRPC_PORT = 8081
ROUTER = "router"
GATEWAY = "gateway"
DASHBOARD = "dashboard"
DATABASE = "postgres"
GRAPH = "gearshift"
"""The InferenceGraph."""
GPU = "nvidia.com/gpu"
MODEL_LABEL, ROLLOUT_LABEL = "gearshift/model", "gearshift/rollout"
"""Labels of an InferenceService, which KServe gives its pods: which rung, or the router, it serves,
as its own name or as that one's canary; and of a canary the rollout that it belongs to."""
PART_OF = {"app.kubernetes.io/part-of": "gearshift"}
"""Label of every object that is installed: without it an object is somebody else's."""
CANARY_SUFFIX = "-canary"
"""Behind the name of an InferenceService: its canary's."""
S3_SECRET = "gearshift-s3"
"""Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and with s3.json, which grants them."""
MLFLOW_SECRET = "gearshift-mlflow"
"""Secret with the key ``backend-store-uri``: postgresql://NAME:PASSWORD@HOST/DATABASE."""
SCRAPE_SECRET = "gearshift-scrape"
"""Secret with a token of the role watch, under the key ``token``."""
EVENTS_SECRET = "gearshift-events"
"""Secret with a token of the role events, under the key ``token``, and under ``url`` the address
that detectors post their requests and answers to."""
OPERATE_SECRET = "gearshift-operate"
"""Secret with a token of the role operate, under the key ``token``."""
