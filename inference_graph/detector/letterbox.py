"""Fitting a frame into a detector's input, and its boxes back, as Ultralytics' LetterBox does."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from feature_transformer.image import Frame

PADDING = 114
"""The grey that Ultralytics pads with."""


@dataclass(frozen=True)
class Letterbox:
    """How a frame lies centred in a detector's input.

    Attributes:
        frame_size: (height, width) of the frame in pixels.
        input_size: (height, width) of the detector's input.
        inner_size: (height, width) of the scaled frame within it.
        top: rows of padding above.
        left: columns of padding on the left.
    """

    frame_size: tuple[int, int]
    input_size: tuple[int, int]
    inner_size: tuple[int, int]
    top: int
    left: int

    @classmethod
    def fit(cls, frame_size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox:
        """The placement of ``LetterBox(new_shape=input_size, auto=False)`` of Ultralytics 8.4.

        Its rounding is kept to the pixel: each side is rounded and at least 1, and an odd
        padding puts the extra row or column below or on the right.
        """
        (height, width), (input_height, input_width) = frame_size, input_size
        gain = min(input_height / height, input_width / width)
        inner_height, inner_width = max(round(height * gain), 1), max(round(width * gain), 1)
        top = round((input_height - inner_height) / 2 - 0.1)
        left = round((input_width - inner_width) / 2 - 0.1)
        return cls(frame_size, input_size, (inner_height, inner_width), top, left)

    def apply(self, frame: Frame) -> Frame:
        """The frame scaled (bilinear) and padded: uint8 [input height, input width, 3]."""
        inner_height, inner_width = self.inner_size
        if self.frame_size != self.inner_size:
            resized = cv2.resize(frame, (inner_width, inner_height), interpolation=cv2.INTER_LINEAR)
        else:
            resized = frame
        if self.inner_size == self.input_size:
            return np.asarray(resized, np.uint8)
        bottom = self.input_size[0] - inner_height - self.top
        right = self.input_size[1] - inner_width - self.left
        padded = cv2.copyMakeBorder(
            resized,
            self.top,
            bottom,
            self.left,
            right,
            cv2.BORDER_CONSTANT,
            value=(PADDING, PADDING, PADDING),
        )
        return np.asarray(padded, np.uint8)

    def tensor(self, frame: Frame) -> npt.NDArray[np.float32]:
        """The frame as a detector's input: float32 [1, 3, input height, input width], RGB, 0..1."""
        blob = cv2.dnn.blobFromImage(self.apply(frame), 1 / 255, swapRB=True)
        return np.asarray(blob, np.float32)

    def boxes_to_frame(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Boxes from input pixels to frame pixels, clipped to the frame.

        Args:
            boxes: float32 [n, 4], corners x1, y1, x2, y2.

        Returns:
            float32 [n, 4].
        """
        (height, width), (inner_height, inner_width) = self.frame_size, self.inner_size
        shift = np.array([self.left, self.top, self.left, self.top], np.float32)
        gain = np.array([inner_width / width, inner_height / height] * 2, np.float32)
        limit = np.array([width, height, width, height], np.float32)
        return np.clip((boxes - shift) / gain, np.float32(0), limit)
