from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from components.data.image_facts import FactsCache, cache_folder, facts_of_frame
from foundation.errors import ImageError


def test_facts_of_a_ramp() -> None:
    """Grey falls from left to right in the upper half and rises in the lower one."""
    ramp = np.repeat(np.arange(9, dtype=np.uint8)[None, :] * 20, 8, axis=0)
    ramp[:4] = ramp[:4, ::-1]
    frame = cv2.cvtColor(ramp, cv2.COLOR_GRAY2BGR)
    facts = facts_of_frame(frame, "ab")
    assert facts.dhash == "ff" * 4 + "00" * 4
    assert facts.brightness == pytest.approx(80 / 255, abs=1e-4)
    assert (facts.width, facts.height, facts.sha256) == (9, 8, "ab")


def test_the_cache_remembers(tmp_path: Path) -> None:
    ok, data = cv2.imencode(".png", np.full((6, 5, 3), 51, np.uint8))
    content = data.tobytes()
    with FactsCache(tmp_path / "deep" / "facts.sqlite") as cache:
        facts, known = cache.look(content)
        assert (facts.brightness, facts.width, known) == (0.2, 5, False)
        with pytest.raises(ImageError):
            cache.look(content[:-20])
    with FactsCache(tmp_path / "deep" / "facts.sqlite") as cache:
        assert cache.look(content) == (facts, True)
    assert facts.sha256 == hashlib.sha256(content).hexdigest()


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEARSHIFT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/gearshift")
    monkeypatch.setenv("GEARSHIFT_CACHE", "/else")
    assert cache_folder() == Path("/else")
    assert cache_folder("here") == Path("here")
