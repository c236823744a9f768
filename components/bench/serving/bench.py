"""The serving benchmark: the whole platform on this machine, measured from its clients' side."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cv2

from components.bench.serving.clips import EncodedClip, encoded_clips
from components.bench.serving.detectors import PLAIN, time_detectors
from components.bench.serving.faults import kill_rungs
from components.bench.serving.memory import soak
from components.bench.serving.paths import Addresses, time_paths
from components.bench.serving.settings import BenchServing, BenchServingConfig
from components.data.dataset import Dataset, load_dataset
from components.ladder.resize import resize_rung
from components.parallel import Progress
from components.profiling.machine import library_versions, machine_facts
from components.profiling.rungs import InferenceConfig, open_ladder
from components.scenes.writer import write_scenes
from feature_transformer.image import decode
from foundation.errors import Unavailable
from foundation.event_loop import run
from inference_graph.contract import REFERENCE
from inference_graph.control.embedded.config import UpConfig
from inference_graph.control.embedded.platform import Platform, free_ports
from inference_graph.control.embedded.processes import gateway_service
from inference_graph.control.embedded.supervisor import Service, Supervisor, ready_of
from inference_graph.router import Policy

_READY_SECONDS = 60.0
_COMPARED_SECONDS = 180.0
"""The same of detectors that are compared with fp32 first, all rungs at once."""
_DETECTOR_FRAMES = 32

Bar = Callable[[str], AbstractContextManager[Progress]]


def bench_serving(
    policy: Path, ladder: Mapping[str, Path], config: BenchServingConfig, bar: Bar
) -> BenchServing:
    """Start everything, stream drawn clips, ask every way, kill rungs, watch memory.

    Shadows are off: they take time from the frames after them, which is a price of its own.

    Args:
        policy: the policy's ONNX file.
        ladder: the ONNX file of each rung, all in one folder.
        config: how long and on what is measured.
        bar: makes a progress bar with a label.

    Raises:
        InvalidInput: policy or weights are missing.
        Unavailable: a service does not start or does not answer.
    """
    cv2.setNumThreads(1)  # as in the services
    with tempfile.TemporaryDirectory(prefix="gearshift-bench-") as folder:
        place = Path(folder)
        with bar("scenes") as progress:
            write_scenes(config.scenes, place / "scenes", progress)
        dataset = load_dataset(place / "scenes")
        if config.input_side:
            side = config.input_side
            sized = {rung: place / "ladder" / f"{rung}.onnx" for rung in ladder}
            for rung, path in sized.items():
                resize_rung(ladder[rung], path, rung, side, side)
            ladder = sized
        clips = encoded_clips(dataset)
        up = UpConfig(
            policy=policy,
            ladder=next(iter(ladder.values())).parent,
            overlay="cpu",
            state=place / "up",
            port=0,
            graph_port=0,
            open_access=True,
            shadow_share=0.0,
        )
        with Platform(up) as platform:
            with bar("start") as progress:
                platform.start(lambda states: progress(ready_of(states), len(states)))
            results = dict(_parts(platform, policy, ladder, dataset, clips, config, bar, place))
    detail = {part: result.pop("detail") for part, result in results.items()}
    figures = {name: value for result in results.values() for name, value in result.items()}
    machine = {**machine_facts(), **library_versions()}
    return BenchServing(**figures, detail=detail, machine=machine)


def _parts(
    platform: Platform,
    policy: Path,
    ladder: Mapping[str, Path],
    dataset: Dataset,
    clips: Sequence[EncodedClip],
    config: BenchServingConfig,
    bar: Bar,
    place: Path,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part that is asked for, by name."""
    detectors = open_ladder(ladder, InferenceConfig())
    with bar("paths") as progress, _fixed_gateway(platform.rungs, REFERENCE, place) as fixed:
        addresses = Addresses(platform.gateway, fixed, platform.graph)
        yield (
            "paths",
            run(time_paths(dataset, clips, addresses, Policy(policy), detectors, progress)),
        )
    del detectors
    if config.detector_seconds:
        frames = [decode(data) for clip in clips for data in clip.frames][:_DETECTOR_FRAMES]
        images = dataset.path_of(clips[0].indexes[0]).parent
        others_running = _other_detectors(ladder, images, place)
        with bar("detectors") as progress, others_running as (others, left_out):
            timed = run(
                time_detectors(
                    {PLAIN: platform.rungs, **others},
                    ladder,
                    frames,
                    config.detector_seconds,
                    config.callers,
                    progress,
                )
            )
        timed["detail"]["left_out"] = left_out
        yield "detectors", timed
    if config.soak_seconds:
        with bar("memory") as progress:
            yield "memory", run(soak(platform, clips, config.soak_seconds, progress))
    if config.kill_frames:
        with bar("kills") as progress:
            yield (
                "kills",
                kill_rungs(
                    platform,
                    lambda rung: _fixed_gateway(platform.rungs, rung, place),
                    clips,
                    config.kill_frames,
                    config.kill_deadline_ms,
                    progress,
                ),
            )


@contextlib.contextmanager
def _other_detectors(
    ladder: Mapping[str, Path], images: Path, place: Path
) -> Iterator[tuple[Mapping[str, Mapping[str, str]], Mapping[str, str]]]:
    """Every rung once more on each other provider of a CPU, compared with fp32 on the images.

    Yields gRPC addresses by both, and why a provider was left out.
    """
    if importlib.util.find_spec("openvino") is None:
        yield {}, {"openvino": "it is not installed"}
        return
    with contextlib.closing(free_ports()) as ports:
        places = {rung: (next(ports), next(ports)) for rung in ladder}
    services = [
        Service(
            f"{rung}-openvino",
            (
                sys.executable,
                "-m",
                "inference_graph.detector",
                f"--rung={rung}",
                f"--weights={ladder[rung]}",
                "--provider=openvino",
                f"--check-frames={images}",
                "--host=127.0.0.1",
                f"--http-port={http}",
                f"--grpc-port={grpc}",
            ),
            f"http://127.0.0.1:{http}/v2/health/ready",
        )
        for rung, (http, grpc) in places.items()
    ]
    with Supervisor(services, place / "openvino-logs") as supervisor:
        supervisor.start()
        try:
            supervisor.wait_ready(_COMPARED_SECONDS)
        except Unavailable as error:  # most likely it does not agree with fp32
            supervisor.stop()
            yield {}, {"openvino": str(error)}
            return
        yield {"openvino": {rung: f"127.0.0.1:{grpc}" for rung, (_, grpc) in places.items()}}, {}


@contextlib.contextmanager
def _fixed_gateway(rungs: Mapping[str, str], rung: str, place: Path) -> Iterator[str]:
    """A second gateway over the same rungs that sends every frame to one; yields its URL."""
    with contextlib.closing(free_ports()) as ports:
        url = f"http://127.0.0.1:{next(ports)}"
    options = {
        "always": rung,
        "open_access": "true",
        "shadow_share": 0,
        "log_url": place / f"{rung}-log",
    }
    service = gateway_service(f"gateway-{rung}", url, rungs, options)
    with Supervisor([service], place / f"{rung}-logs") as supervisor:
        supervisor.start()
        supervisor.wait_ready(_READY_SECONDS)
        yield url
