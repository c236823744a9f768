"""Requests that are wrong in every way a client could think of, drawn from a seed."""

from __future__ import annotations

import base64
import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
from png_bombs import png_bomb
from tiny_models import drawn

from inference_graph.prediction_log.events import REQUEST_TYPE, RESPONSE_TYPE

LIMIT, PIXELS = 200_000, 1_000_000
"""Bytes of a body and pixels of an image that the gateway asked shall allow."""

JSON = "application/json"
IMAGES = {
    f"image/{name}": cv2.imencode(f".{name}", drawn(96, 128))[1].tobytes()
    for name in ("jpeg", "png", "webp", "bmp")
}
_KNOWN = {
    "event_id": "e" * 32,
    "kind": "correct",
    "boxes": [[0.0, 0.0, 1.0, 1.0]],
    "labels": [0],
    "note": "x",
}
_PREDICTION = {
    "variant": "nano",
    "revision": "a" * 12,
    "boxes": [[0.0, 0.0, 1.0, 1.0]],
    "scores": [0.5],
    "labels": [0],
}
_JUNK: tuple[Any, ...] = (
    None, "x", [], {}, [[]], [[[0]]], float("nan"), float("inf"), -float("inf"), -1e308, 1e30,
    2**70, -(2**70), "\u0000", {"a": 1}, [None], "9" * 1000, [1, 2, 3, 4],
)  # fmt: skip


@dataclass(frozen=True)
class Malformed:
    """A request, and the statuses that fit it."""

    path: str
    statuses: tuple[int, ...]
    content: bytes = b""
    kind: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    chunked: bool = False


def drawn_requests(count: int, seed: int) -> Iterator[Malformed]:
    """So many of them, of each family about the same number."""
    rng = random.Random(seed)
    for index in range(count):
        yield FAMILIES[index % len(FAMILIES)](rng)


def malformed_image(rng: random.Random) -> bytes:
    """An image that is cut short, damaged or declares more than it may."""
    return rng.choice((truncated, damaged, bomb, large_header))(rng).content


def truncated(rng: random.Random) -> Malformed:
    kind, data = rng.choice(list(IMAGES.items()))
    return Malformed("/v1/detect", (400,), data[: rng.randrange(len(data) - 1)], kind)


def damaged(rng: random.Random) -> Malformed:
    kind, data = rng.choice(list(IMAGES.items()))
    return Malformed("/v1/detect", (400, 415), rng.randbytes(16) + data[16:], kind)


def bomb(rng: random.Random) -> Malformed:
    """A few bytes of png that declare up to 2^31 pixels a side."""
    width, height = (int(2 ** rng.uniform(5, 31)) for _ in range(2))
    status = 413 if width * height > PIXELS else 400
    return Malformed("/v1/detect", (status,), png_bomb(width, height), "image/png")


def large_header(rng: random.Random) -> Malformed:
    """A whole jpeg or bmp whose header was changed to declare more pixels than it has."""
    width, height = rng.randrange(1001, 65_500), rng.randrange(1001, 65_500)
    if rng.random() < 0.5:
        data = bytearray(IMAGES["image/jpeg"])
        place = data.index(b"\xff\xc0")  # start of frame: length, precision, height, width
        data[place + 5 : place + 9] = struct.pack(">HH", height, width)
        return Malformed("/v1/detect", (413,), bytes(data), "image/jpeg")
    data = bytearray(IMAGES["image/bmp"])
    data[18:26] = struct.pack("<ii", width, height * rng.choice((1, -1)))
    return Malformed("/v1/detect", (413,), bytes(data), "image/bmp")


def longer_than_allowed(rng: random.Random) -> Malformed:
    size = LIMIT + rng.randrange(17_000, 120_000)  # beyond the envelope of a form
    kind = rng.choice(("image/jpeg", "multipart/form-data; boundary=x", "image/png"))
    return Malformed("/v1/detect", (413,), bytes(size), kind, chunked=rng.random() < 0.5)


def broken_json(rng: random.Random) -> Malformed:
    """A document that is cut, has bytes too much, or is nested without end."""
    path, document, statuses = rng.choice(
        (
            ("/v1/detect", {"image": {"b64": "AAAA"}, "tags": {"a": "b"}}, (400,)),
            ("/v1/feedback", _KNOWN, (400, 404)),
        )
    )
    text = bytearray(json.dumps(document).encode())
    place = rng.randrange(len(text))
    way = rng.randrange(5)
    if way == 0:
        del text[place:]
    elif way == 1:
        text[place:place] = rng.randbytes(rng.randrange(1, 9))
    elif way == 2:
        text[place] = rng.randrange(256)
    elif way == 3:
        text = bytearray(rng.choice((b"[", b'{"a":', b'{"image":')) * rng.randrange(1, 6000))
    else:
        del text[place : place + rng.randrange(1, 12)]
    return Malformed(path, statuses, bytes(text))


def wrong_document(rng: random.Random) -> Malformed:
    """A field of the wrong type, or one too many, in a detection's document."""
    document: dict[str, Any] = {"image": {"b64": "AAAA"}, "tags": {"a": "b"}}
    way = rng.randrange(4)
    if way == 0:
        document["image"] = rng.choice(_JUNK)
    elif way == 1:
        document["image"]["b64"] = rng.choice(_JUNK)
    elif way == 2:
        document["tags"] = rng.choice([junk for junk in _JUNK if junk != {}])
    else:
        document[rng.choice(("instances", "inputs", "images", "x"))] = rng.choice(_JUNK)
    return Malformed("/v1/detect", (400,), json.dumps(document).encode())


def wrong_feedback(rng: random.Random) -> Malformed:
    """Boxes and labels of wrong dtypes and shapes, not a number, out of range."""
    body = json.loads(json.dumps(_KNOWN))
    way = rng.randrange(6)
    if way == 0:
        body["boxes"][0][rng.randrange(4)] = rng.choice(_JUNK)
    elif way == 1:
        body["boxes"][0] = [0.0] * rng.choice((0, 1, 2, 3, 5, 8))
    elif way == 2:
        body["labels"] = [rng.choice(_JUNK)] * rng.randrange(1, 4)
    elif way == 3:
        body["boxes"] *= rng.randrange(2, 400)
    elif way == 4:
        body[rng.choice(("kind", "note"))] = rng.choice([one for one in _JUNK if one != "x"])
        if isinstance(body["note"], str) and len(body["note"]) <= 500:
            body["kind"] = "x"
    else:
        body["event_id"] = rng.choice(("", "a b", "é", "x" * 201, None, 5, ["e"]))
    return Malformed("/v1/feedback", (400,), json.dumps(body).encode())


def wrong_event(rng: random.Random) -> Malformed:
    """An event without its attributes, or with a prediction of wrong shapes and dtypes."""
    prediction = json.loads(json.dumps(_PREDICTION))
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "e",
        "ce-type": RESPONSE_TYPE,
        "ce-inferenceservicename": "nano",
    }
    way = rng.randrange(5)
    if way == 0:
        prediction["boxes"] = [[0.0] * rng.choice((1, 2, 3, 5, 6))] * rng.choice((1, 2, 3))
    elif way == 1:
        prediction["scores"] = [rng.choice((float("nan"), 1e300, "x", None, [1], {}))]
    elif way == 2:
        prediction["labels"] = [rng.choice((0.5, "x", None, 2**40, True, [0], {}))]
    elif way == 3:
        headers[rng.choice(list(headers))] = rng.choice(("", "a b", "?", "../" * 40, "x" * 300))
        # Another name of the service is a name.
        headers["ce-specversion"] = rng.choice(("", "0.3", "2"))
    else:
        headers["ce-type"] = rng.choice((REQUEST_TYPE, RESPONSE_TYPE))
        text = json.dumps({"predictions": [prediction]}).encode()
        return Malformed("/v1/events", (400,), text[: rng.randrange(len(text))], headers=headers)
    content = json.dumps({"predictions": [prediction]}).encode()
    return Malformed("/v1/events", (400,), content, headers=headers)


def wrong_media(rng: random.Random) -> Malformed:
    kind = rng.choice(("text/plain", "", "video/mp4", "*/*", "image", "application/xml", "x" * 300))
    return Malformed(rng.choice(("/v1/detect", "/v1/feedback")), (415,), b"abc", kind)


def wrong_parameter(rng: random.Random) -> Malformed:
    name = rng.choice(("latency_weight", "deadline_ms"))
    value = rng.choice(("nan", "-1", "inf", "-inf", "x", "", "1e999", "0x10", "%00", "1,5", "[]"))
    if name == "latency_weight" and rng.random() < 0.3:
        value = f"{10 ** rng.uniform(6.1, 300):g}"
    data = IMAGES["image/jpeg"]
    return Malformed(f"/v1/detect?{name}={value}", (400, 422), data, "image/jpeg")


def wrong_form(rng: random.Random) -> Malformed:
    """A form that is cut short, without the file, or with a damaged one."""
    name = rng.choice(("image", "picture", "", "image\x00"))
    data = rng.choice((IMAGES["image/jpeg"], b"no image", rng.randbytes(200)))
    if name == "image" and data is IMAGES["image/jpeg"]:
        data = data[: len(data) // 2]
    form = (
        f'--x\r\ncontent-disposition: form-data; name="{name}"; filename="a"\r\n\r\n'.encode()
        + data
        + b"\r\n--x--\r\n"
    )
    if rng.random() < 0.5:
        form = form[: rng.randrange(len(form))]
    boundary = rng.choice(("x", "x", "y", "", "x" * 300))
    return Malformed("/v1/detect", (400,), form, f"multipart/form-data; boundary={boundary}")


def wrong_place(rng: random.Random) -> Malformed:
    path = rng.choice(
        ("/v1/detect", "/v1/feedback", "/healthz", "/v2/models/nano/infer", "/", "/v1//detect",
         "/v1/models/nano:predict", "/v1/stream", "/%ff%fe", "/..%2fetc/passwd", "/metrics")
    )  # fmt: skip
    method = rng.choice(("DELETE", "PUT", "PATCH", "TRACE", "PROPFIND"))
    return Malformed(path, (404, 405), b"abc", method=method)


def wrong_base64(rng: random.Random) -> Malformed:
    """An image in JSON that is no base64, or whose bytes are no image."""
    text = base64.b64encode(malformed_image(rng)).decode()
    if rng.random() < 0.5:
        text = text[:-1] + rng.choice(("&", "é", " ", "\n", "=="))
    document = {"image": {"b64": text}}
    return Malformed("/v1/detect", (400, 413, 415), json.dumps(document).encode())


FAMILIES: tuple[Callable[[random.Random], Malformed], ...] = (
    truncated, damaged, bomb, large_header, longer_than_allowed, broken_json, wrong_document,
    wrong_feedback, wrong_event, wrong_media, wrong_parameter, wrong_form, wrong_place,
    wrong_base64,
)  # fmt: skip
