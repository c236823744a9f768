"""What a policy sees of an image whose text is read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from feature_transformer.makers import MAKERS, maker_of_schema
from feature_transformer.observation import FRAME_FEATURES, SCHEMA_HASH
from feature_transformer.speech_features import SPEECH_SCHEMA_HASH
from feature_transformer.text_features import TEXT_SCHEMA_HASH, text_features
from foundation.errors import ImageError, SchemaMismatch


def page(height: int = 120, width: int = 200, size: float = 1.0) -> np.ndarray:
    drawn = np.full((height, width, 3), 255, np.uint8)
    for row in range(3):
        place = (10, int(30 * size) * (row + 1))
        cv2.putText(drawn, "milk 4.20", place, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 2)
    return drawn


def numbers(frame: np.ndarray) -> tuple[float, ...]:
    sharpness, noise, fineness, skew = text_features(frame)[-4:].tolist()
    return sharpness, noise, fineness, skew


def test_each_number_moves_with_what_it_is_named_for() -> None:
    plain = numbers(page())
    assert numbers(cv2.GaussianBlur(page(), (0, 0), 2))[0] < 0.5 * plain[0]
    rng = np.random.default_rng(0)
    for sigma in (4.0, 8.0):
        noisy = np.full((120, 200, 3), 128, np.float64) + rng.normal(0, sigma, (120, 200, 1))
        # The three channels are alike, so grey has the very same noise.
        assert numbers(noisy.round().astype(np.uint8))[1] * 16 == pytest.approx(sigma, rel=0.1)
    assert numbers(page(size=0.4))[2] > plain[2] > numbers(page(240, 400, 2.0))[2]
    turn = cv2.getRotationMatrix2D((100, 60), 15, 1)
    tilted = cv2.warpAffine(page(), turn, (200, 120), borderValue=(255, 255, 255))
    assert plain[3] < 0.1 and numbers(tilted)[3] == pytest.approx(15 / 45, abs=0.12)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (900, 2, 3), (64, 64, 3)])
def test_any_frame_gives_finite_numbers_in_range(shape: tuple[int, ...]) -> None:
    for frame in (np.zeros(shape, np.uint8), np.random.default_rng(1).integers(0, 256, shape)):
        seen = text_features(frame.astype(np.uint8))
        assert seen.shape == (FRAME_FEATURES,) and seen.dtype == np.float32
        assert np.isfinite(seen).all() and seen.min() >= 0 and seen.max() <= 1


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ImageError):
        text_features(np.zeros((4, 4), np.uint8))


def test_a_schema_tells_its_task() -> None:
    assert {task: maker.schema_hash for task, maker in MAKERS.items()} == {
        "detection": SCHEMA_HASH,
        "ocr": TEXT_SCHEMA_HASH,
        "speech": SPEECH_SCHEMA_HASH,
    }
    assert maker_of_schema(TEXT_SCHEMA_HASH).task == "ocr"
    # Changing it makes every trained policy of the task unusable.
    assert TEXT_SCHEMA_HASH.startswith("66309901786f")
    with pytest.raises(SchemaMismatch, match="000000000000 is none of"):
        maker_of_schema("0" * 64)
