"""The pictures of the documentation: a routed street, the dashboard and a report in a browser."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import cv2

from components.scenes.writer import CLIPS_FOLDER, ScenesConfig, write_scenes
from foundation.errors import InvalidInput, Unavailable
from foundation.service_client import probe
from foundation.storage import atomic_path
from inference_graph.local_video.route import RouteVideoConfig, route_video
from pipelines.ladder_files import ladder_files

LATENCY_WEIGHTS = (None, 0.02, 0.005)
"""Operating points that are tried; the policy's own first."""
_STREETS = 8
_OBJECTS = 4
"""Objects in the median frame of a street worth showing."""
_FRAMES, _EVERY, _WIDTH, _COLOURS = 60, 2, 480, 128
_LAPTOP = {"width": 1280, "height": 800}


def write_pictures(media: Path, runs: Path) -> list[Path]:
    """Write street.gif, dashboard.png and report.png.

    Args:
        media: where they go; made if it is missing.
        runs: results of `gearshift demo`.

    Returns:
        The files.

    Raises:
        InvalidInput: the results lack a policy or a report.
        Unavailable: there is no Chromium, or the dashboard does not start.
    """
    for name in ("policy.onnx", "report.html"):
        if not (runs / name).is_file():
            raise InvalidInput(f"{runs} has no {name}; name the results of gearshift demo (--runs)")
    media.mkdir(parents=True, exist_ok=True)
    street = media / "street.gif"
    _write(street, _street(runs / "policy.onnx"))
    files = [street]
    with _browser() as page, _dashboard(runs) as address:
        page.goto(f"{address}/policies")
        page.wait_for_selector(".js-plotly-plot .xtick", timeout=120_000)
        page.wait_for_timeout(2_000)
        files.append(_screenshot(page, media / "dashboard.png"))
        page.goto((runs / "report.html").resolve().as_uri())
        page.wait_for_selector(".js-plotly-plot .xtick", timeout=120_000)
        files.append(_screenshot(page, media / "report.png"))
    return files


def _street(policy: Path) -> bytes:
    """The street with objects and the most rungs and changes between them, as a GIF."""
    with TemporaryDirectory() as folder:
        scenes = Path(folder) / "scenes"
        config = ScenesConfig(
            clips=_STREETS, clip_frames=_FRAMES, condition="day", seed=2, world="plain"
        )
        write_scenes(config, scenes)
        best: tuple[bool, int, int] = (False, 0, 0)
        chosen = scenes
        for place, clip in enumerate(sorted((scenes / CLIPS_FOLDER).glob("*.mp4"))):
            for weight in LATENCY_WEIGHTS:
                out = Path(folder) / f"{place}-{weight}.mp4"
                options = RouteVideoConfig(latency_weight=weight, reference_repeats=3)
                records: list[Mapping[str, Any]] = []
                files = ladder_files("")
                route_video(str(clip), policy, files, out, options, on_record=records.append)
                rungs = [record["rung"] for record in records]
                busy = median(len(record["detections"]) for record in records) >= _OBJECTS
                score = (busy, len(set(rungs)), sum(a != b for a, b in pairwise(rungs)))
                if score > best:
                    best, chosen = score, out
        return video_as_gif(chosen)


def video_as_gif(video: Path) -> bytes:
    """A video, smaller, as a GIF with one palette."""
    from PIL import Image

    capture, frames = cv2.VideoCapture(str(video)), []
    number = 0
    while True:
        got, frame = capture.read()
        if not got:
            break
        if number % _EVERY == 0:
            height = round(frame.shape[0] * _WIDTH / frame.shape[1])
            small = cv2.resize(frame, (_WIDTH, height), interpolation=cv2.INTER_AREA)
            frames.append(Image.fromarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB)))
        number += 1
    capture.release()
    # One palette for all frames, so that what does not move does not flicker.
    palette = frames[len(frames) // 2].quantize(_COLOURS)
    shown = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    held = io.BytesIO()
    shown[0].save(
        held, "GIF", save_all=True, append_images=shown[1:], duration=140, loop=0, optimize=True
    )
    return held.getvalue()


@contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        raise Unavailable("pictures need Chromium; install it (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser.new_page(viewport=_LAPTOP, reduced_motion="reduce")  # type: ignore[arg-type]
        browser.close()


@contextmanager
def _dashboard(runs: Path) -> Iterator[str]:
    """The address of a dashboard of these results."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    program = "import sys; from pipelines.cli.app import app; app(sys.argv[1:])"
    options = ["--runs", str(runs), "--log", str(runs / "up" / "log"), "--port", str(port)]
    process = subprocess.Popen([sys.executable, "-c", program, "dashboard", *options])
    try:
        for _ in range(600):
            answer = probe(address, 10)
            if answer is not None and answer.is_success:
                break
            if process.poll() is not None:
                raise Unavailable("the dashboard ended while starting")
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _screenshot(page: Any, file: Path) -> Path:
    from PIL import Image

    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    held = io.BytesIO()
    picture.quantize(128).save(held, "PNG", optimize=True)
    _write(file, held.getvalue())
    return file


def _write(file: Path, content: bytes) -> None:
    with atomic_path(file) as partial:
        partial.write_bytes(content)
