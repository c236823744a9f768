"""When two names mean the same class.

Names are compared in three forms, and the first in which they agree decides:

1. as they are written;
2. normalised: Unicode NFKC, case folded, without spaces, hyphens and underscores, so that
   ``Traffic_Light`` is ``traffic light``;
3. with the four names that COCO gave to classes of PASCAL VOC: ``aeroplane`` is ``airplane``,
   ``motorbike`` is ``motorcycle``, ``sofa`` is ``couch``, ``tvmonitor`` is ``tv``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

_SEPARATORS = str.maketrans("", "", " -_\t")
_COCO_NAMES = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def normalised(name: str) -> str:
    """A name without what tools write differently; the name itself where nothing would be left."""
    return unicodedata.normalize("NFKC", name).casefold().translate(_SEPARATORS) or name


def in_coco(name: str) -> str:
    """A name normalised, with COCO's in place of PASCAL VOC's."""
    plain = normalised(name)
    return _COCO_NAMES.get(plain, plain)


FORMS: tuple[Callable[[str], str], ...] = (str, normalised, in_coco)
"""The forms in which names are compared, one after the other."""
