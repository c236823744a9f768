"""The arrays of a stored part: types, sizes and what they say of each other are checked.

A folder of clips may come from anywhere. No more is read than the arrays' own headers state, and
those have limits; nothing is unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from foundation.errors import InvalidInput
from foundation.regular_file import open_regular

Arrays = Mapping[str, NDArray[Any]]

_FRAMES, _OBJECTS, _BOXES, _CLASSES = 1 << 18, 1 << 21, 1 << 25, 1 << 12
"""Most frames, objects, detections of a rung, and classes of a part."""
_LONGEST_NAME = 256
_LARGEST_SIDE = 1 << 16
_NAMES = "<U"


@dataclass(frozen=True)
class _Form:
    """What an array has to be: its type, how many entries at most, its shape with -1 for those."""

    dtype: str
    most: int
    shape: tuple[int, ...] = (-1,)

    def fits(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        if len(shape) != len(self.shape):
            return False
        for entries, wanted in zip(shape, self.shape, strict=True):
            if not 0 <= entries <= self.most if wanted < 0 else entries != wanted:
                return False
        if self.dtype == _NAMES:
            return dtype.kind == "U" and dtype.itemsize <= 4 * _LONGEST_NAME
        return dtype.str == self.dtype


_FORMS: Mapping[str, _Form] = {
    "size": _Form("<i8", 1, (1, 2)),
    "clips": _Form("<i4", _FRAMES),
    "scene_types": _Form("|u1", _FRAMES),
    "conditions": _Form("|u1", _FRAMES),
    "objects": _Form("<u2", _FRAMES),
    "object_boxes": _Form("<f4", _OBJECTS, (-1, 4)),
    "object_categories": _Form("<i4", _OBJECTS),
    "categories": _Form("<i4", _CLASSES),
    "category_names": _Form(_NAMES, _CLASSES),
    "digests": _Form("<u8", _FRAMES),
    "class_names": _Form(_NAMES, _CLASSES),
    "class_categories": _Form("<i4", _CLASSES),
}
_RUNG_FORMS: Mapping[str, _Form] = {
    "counts": _Form("<u2", _FRAMES),
    "boxes": _Form("<u2", _BOXES, (4, -1)),
    "scores": _Form("<u2", _BOXES),
    "labels": _Form("|u1", _BOXES),
}
_LATER = ("digests",)
"""Parts of earlier versions lack them."""


def read_arrays(file: Path, rungs: Sequence[str]) -> Arrays:
    """Read a part.

    Args:
        file: the ``.npz``.
        rungs: whose detections it holds.

    Raises:
        InvalidInput: it is none, or its arrays contradict each other; states which.
    """
    forms = dict(_FORMS)
    for rung in rungs:
        forms |= {f"{rung}_{name}": form for name, form in _RUNG_FORMS.items()}
    try:
        with open_regular(file) as stream, ZipFile(stream) as archive:
            there = set(archive.namelist())
            arrays = {
                name: _array(archive, name, form)
                for name, form in forms.items()
                if name not in _LATER or f"{name}.npy" in there
            }
        _check(arrays, rungs)
    except Exception as error:  # zipfile, zlib and NumPy raise whatever a broken file makes them
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InvalidInput(f"{file} is broken ({reason}); make the clips again") from error
    return arrays


def _array(archive: ZipFile, name: str, form: _Form) -> NDArray[Any]:
    """One array, read only when its header states what it has to be."""
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"{name} is of format {version}")
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(stream)
        if not form.fits(shape, dtype):
            raise ValueError(f"{name} is {dtype} {list(shape)}")
        data = stream.read(math.prod(shape) * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if by_column else "C")


def _check(arrays: Arrays, rungs: Sequence[str]) -> None:
    """Raise ValueError where arrays that belong together do not."""
    frames, objects = len(arrays["clips"]), int(arrays["objects"].sum(dtype=np.int64))
    classes = len(arrays["class_names"])
    lengths = dict.fromkeys(("scene_types", "conditions", "objects"), frames)
    lengths |= {"object_boxes": objects, "object_categories": objects}
    lengths |= {"category_names": len(arrays["categories"]), "class_categories": classes}
    lengths |= dict.fromkeys(set(_LATER) & set(arrays), frames)
    for rung in rungs:
        found = int(arrays[f"{rung}_counts"].sum(dtype=np.int64))
        lengths |= {f"{rung}_counts": frames, f"{rung}_scores": found, f"{rung}_labels": found}
        if arrays[f"{rung}_boxes"].shape[1] != found:
            raise ValueError(f"{rung}_boxes are not as many as {rung}_counts state")
        if (arrays[f"{rung}_labels"] >= classes).any():
            raise ValueError(f"{rung}_labels has more classes than class_names")
    for name, length in lengths.items():
        if len(arrays[name]) != length:
            raise ValueError(f"{name} has {len(arrays[name])} entries, not {length}")
    clips = arrays["clips"]
    if not frames or clips[0] != 0 or not np.isin(np.diff(clips), (0, 1)).all():
        raise ValueError("clips are not numbered from 0, frame by frame")
    if not ((arrays["size"] > 0) & (arrays["size"] < _LARGEST_SIDE)).all():
        raise ValueError(f"size is {arrays['size'].tolist()}")
    if not np.isfinite(arrays["object_boxes"]).all():
        raise ValueError("object_boxes are not finite")
