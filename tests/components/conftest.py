"""Tests share the machine: one thread each, for whatever library computes."""

from __future__ import annotations

import sys

import cv2
import pytest


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    cv2.setNumThreads(1)
    torch = sys.modules.get("torch")  # most tests here do without it, and it loads for seconds
    if torch is not None:
        torch.set_num_threads(1)
