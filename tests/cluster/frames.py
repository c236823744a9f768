"""Frames, one after the other, to a graph and a gateway of a cluster, as a client would send them.

``python tests/cluster/frames.py --graph URL --gateway URL --token TOKEN --seconds 60`` exits with 1
if one of them was lost, or answered by another status than 200.
"""

from __future__ import annotations

import argparse
import base64
import sys
import time
from collections import Counter
from collections.abc import Iterator

import cv2
import httpx
import numpy as np


def main(words: list[str]) -> int:
    """Send frames, and print how many got which answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("graph", "gateway", "token"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--each-second", type=float, default=20.0)
    given = parser.parse_args(words)
    picture = frame()
    body = {"instances": [{"image": {"b64": base64.b64encode(picture).decode()}}]}
    bearer = {"Authorization": f"Bearer {given.token}", "Content-Type": "image/jpeg"}
    reported: Counter[str] = Counter()
    with httpx.Client(timeout=30) as client:
        for number in paced(given.each_second, given.seconds):
            graph = number % 2 == 0
            try:
                if graph:
                    answer = client.post(given.graph, json=body)
                else:
                    url = f"{given.gateway}/v1/detect"
                    answer = client.post(url, content=picture, headers=bearer)
                message = str(answer.status_code)
            except httpx.TransportError as error:
                message = type(error).__name__
            reported[f"{'graph' if graph else 'gateway'} {message}"] += 1
    print(dict(reported))
    return 0 if reported and {one.split()[1] for one in reported} == {"200"} else 1


def frame() -> bytes:
    """A picture with something in it."""
    picture = np.full((240, 320, 3), 90, np.uint8)
    cv2.rectangle(picture, (60, 80), (180, 200), (30, 60, 200), -1)
    return bytes(cv2.imencode(".jpg", picture)[1])


def paced(each_second: float, seconds: float) -> Iterator[int]:
    """Numbers, at a rate."""
    begun = time.monotonic()
    for number in range(round(each_second * seconds)):
        time.sleep(max(0.0, begun + number / each_second - time.monotonic()))
        yield number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
