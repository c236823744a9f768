"""``python tests/cluster/policy.py FILE`` writes a policy that sends every frame to small."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tiny_models import save_policy

from feature_transformer.observation import OBSERVATION_SIZE

if __name__ == "__main__":
    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    save_policy(Path(sys.argv[1]), weights, (0.0, 9.0, 0.0))
