"""Pictures are small, and refuse a folder that is no demo's."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from foundation.errors import InvalidInput
from pipelines.documentation.pictures import video_as_gif, write_pictures


def test_a_video_becomes_a_small_gif_of_every_other_frame(tmp_path: Path) -> None:
    file = tmp_path / "street.mp4"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 10, (640, 320))
    for number in range(8):
        frame = np.full((320, 640, 3), 90, np.uint8)
        cv2.rectangle(frame, (40 * number, 100), (40 * number + 60, 160), (0, 0, 255), -1)
        writer.write(frame)
    writer.release()
    gif = video_as_gif(file)
    picture = Image.open(io.BytesIO(gif))
    assert (picture.n_frames, picture.size) == (4, (480, 240)) and len(gif) < 30_000
    red = []
    for number in range(4):
        picture.seek(number)
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        red.append(np.nonzero(pixels[97, :, 0] - pixels[97, :, 1] > 90)[0].mean())
    assert np.allclose(np.diff(red), 60, atol=3)  # 80 pixels in two frames, at three quarters


def test_results_without_a_policy_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no policy\.onnx; name the results"):
        write_pictures(tmp_path / "media", tmp_path)
    assert not (tmp_path / "media").exists()
