"""The data pipeline: what the Kubeflow UI gets to see, and a run of its shards on this machine."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml
from coco_samples import box_record, coco, image_record, write_folder
from kfp import dsl

from components.data.shards.prepare import PrepareConfig, StageOptions, prepare
from components.data.validate import ValidateConfig
from pipelines.data import steps
from pipelines.data.pipeline import data_pipeline
from pipelines.definition import write_pipeline
from pipelines.options import defaults_of
from pipelines.placement import PlacementConfig

EACH_SHARD = {"acquire", "validate", "anomalies", "convert", "observe"}
TOGETHER = {"split", "report", "version"}


def test_the_eight_stages_are_tasks_and_five_of_them_run_in_every_shard(tmp_path: Path) -> None:
    file = write_pipeline(data_pipeline(PlacementConfig(image="shop/gearshift:7"), 5), tmp_path)
    spec: dict[str, Any] = next(iter(yaml.safe_load_all(file.read_text("utf-8"))))
    tasks = spec["root"]["dag"]["tasks"]
    (loop,) = [name for name in tasks if name.startswith("for-loop")]
    assert set(tasks) - {loop} == TOGETHER
    items = tasks[loop]["parameterIterator"]["items"]["raw"]
    assert json.loads(items) == [0, 1, 2, 3, 4]
    inner = spec["components"][tasks[loop]["componentRef"]["name"]]["dag"]["tasks"]
    assert set(inner) == EACH_SHARD
    for name in EACH_SHARD | TOGETHER:
        found = spec["components"][f"comp-{name}"]["outputDefinitions"]["artifacts"]
        types = {one["artifactType"]["schemaTitle"] for one in found.values()}
        assert types - {"system.Metrics"}, name
        container = spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
        assert container["image"] == "shop/gearshift:7"
    assert inner["acquire"]["cachingOptions"] == {"enableCache": True}


class Shelf:
    """Where the artifacts of steps lie that are called one by one, as KFP's local runner would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: dict[tuple[str, int], Any] = {}

    def run(self, step: Any, number: int, **given: Any) -> None:
        for name, kind in (step.component_spec.outputs or {}).items():
            if name != "Output":
                artifact = dsl.Artifact(name=name, uri=str(self.root / f"{number}/{name}"))
                artifact.schema_title = kind.type
                Path(artifact.path).parent.mkdir(parents=True, exist_ok=True)
                given[name] = self.made[name, number] = artifact
        step.python_func(code_version="1", **given)

    def all(self, name: str) -> list[Any]:
        return [self.made[name, shard] for shard in range(2)]


def test_the_steps_of_two_shards_make_what_one_process_makes(tmp_path: Path) -> None:
    draw = random.Random(5)
    images = [image_record(n) for n in range(1, 13)]
    boxes = [box_record(k, draw.randint(1, 12), [k, 1, 5, 9]) for k in range(1, 40)]
    source = write_folder(tmp_path / "source", coco(images, boxes))
    options: dict[str, Any] = {"block": 3, "cache": str(tmp_path / "cache"), "workers": 1}
    checks = {**defaults_of(ValidateConfig), "min_images": 1}
    store = str(tmp_path / "store")
    shelf = Shelf(tmp_path / "artifacts")
    cut = {"source": str(source), "shards": 2, "options": options, "data_version": ""}
    for shard in range(2):
        shelf.run(steps.acquire, shard, shard=shard, **cut)
        shelf.run(steps.validate, shard, acquired=shelf.made["acquired", shard], options=options)
        validated = {"validated": shelf.made["validated", shard]}
        shelf.run(steps.anomalies, shard, options=checks, **validated)
        shelf.run(steps.convert, shard, **validated)
        shelf.run(steps.observe, shard, options={}, **validated)
    joined = {name: shelf.all(name) for name in ("validated", "labels", "observed")}
    found = shelf.all("found")
    shelf.run(steps.split, 0, options={}, **joined)
    divided = {name: shelf.made[name, 0] for name in ("dataset", "parts")}
    shelf.run(steps.report, 0, found=found, options=checks, **divided)
    shelf.run(steps.version, 0, dataset=shelf.made["dataset", 0], store=store, message="")
    out = tmp_path / "here"
    config = PrepareConfig(shards=1, store=store, **options)
    summary = prepare(str(source), out, config, StageOptions(validate=ValidateConfig(min_images=1)))
    assert shelf.made["pointer", 0].metadata["version"] == summary.version
    for name, place in {
        "dataset": out / "dataset",
        "yolo": out / "yolo",
        "parts": out / "split.json",
        "observations": out / "observations.npz",
        "validation": out / "report",
        "page": out / "report.html",
    }.items():
        assert contents(Path(shelf.made[name, 0].path)) == contents(place), name


def contents(place: Path) -> dict[str, bytes]:
    files = [place] if place.is_file() else [one for one in place.rglob("*") if one.is_file()]
    return {file.relative_to(place).as_posix(): file.read_bytes() for file in files}
