"""The ladder's model card: what the committed rungs are, made from, and worth.

Every figure is measured when the card is written, on held-out scenes, with the file and the code
that serve. ``card.json`` is for programs (`components.ladder.check` compares the files with it),
``MODEL_CARD.md`` for people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from components.data.classes import Classes, match_dataset
from components.data.dataset import SCENE_TYPES, Dataset, load_dataset
from components.ladder.accuracy import Accuracy, detect_by_checkpoint, detect_by_file, measure
from components.ladder.card_texts import (
    COMPRESSED,
    OWN_LIMITS,
    OWN_USE,
    SAMPLE_DATA,
    SAMPLE_LIMITS,
    SAMPLE_USE,
)
from components.ladder.compare import (
    CompareConfig,
    LadderComparison,
    comparison_table,
    measure_pairs,
)
from components.ladder.official import ORIGIN_FILE
from components.ladder.train import ARCHITECTURES, RECIPE_KEY
from components.parallel import Progress, no_progress, part_of
from components.profiling.machine import library_versions
from components.profiling.rungs import open_ladder
from foundation.errors import ConfigurationError, ModelError
from foundation.storage import atomic_path, sha256_file
from inference_graph.contract import LADDER

CARD_FILE = "card.json"
CARD_PAGE = "MODEL_CARD.md"

DATASET_SHARE = ("description", "seed", "condition")
"""What the card states of the data, out of its ``info``."""

_KINDS = (("sparse", "up to 2"), ("moderate", "3 to 7"), ("dense", "8 and more"))


@dataclass(frozen=True)
class RungCard:
    """One rung of the ladder.

    Attributes:
        file: name of its ONNX file.
        bytes: size of the file.
        sha256: digest of the file.
        parameters: weights and biases of its convolutions.
        architecture: name of the network.
        input_size: (height, width) the network sees, pixels.
        map: accuracy of the file.
        checkpoint_map: accuracy of the PyTorch checkpoint it was exported from; None without one.
        checkpoint_sha256: digest of the checkpoint; None without one.
        recipe: how it was trained; empty where the checkpoint does not record it.
    """

    file: str
    bytes: int
    sha256: str
    parameters: int
    architecture: str
    input_size: tuple[int, int]
    map: Accuracy
    checkpoint_map: Accuracy | None
    checkpoint_sha256: str | None
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class LadderCard:
    """The whole card: the rungs, their classes, and what they were judged on.

    Attributes:
        rungs: by name, cheapest first.
        class_names: in class order.
        category_ids: COCO's id of each class.
        data: the held-out data set: where it comes from, frames and objects in all and by scene
            type.
        comparison: the networks at other input sizes, on some of the frames.
        settings: how the detectors ran.
        versions: of the libraries a detection goes through.
        licence: of the weights.
    """

    rungs: Mapping[str, RungCard]
    class_names: Sequence[str]
    category_ids: Sequence[int]
    data: Mapping[str, Any]
    comparison: LadderComparison
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    licence: str = "AGPL-3.0-or-later"


def write_card(
    ladder: Path,
    dataset: Path,
    checkpoints: Path | None = None,
    config: CompareConfig | None = None,
    progress: Progress = no_progress,
) -> LadderCard:
    """Measure a ladder and write ``card.json`` and ``MODEL_CARD.md`` into its folder.

    Args:
        ladder: folder with ``nano.onnx``, ``small.onnx`` and ``large.onnx``.
        dataset: canonical data set folder that no rung was trained on; sample scenes of a seed of
            their own.
        checkpoints: folder with ``<rung>.pt``; a rung without one goes without the figures of its
            PyTorch model.
        config: how the detectors run.
        progress: called with frames done and in all, over all models.

    Returns:
        What was written.

    Raises:
        ConfigurationError: a rung is missing, was trained on scenes of the data set's seed, or
            the weights are Ultralytics', whose card states where they come from; or there is a
            card that somebody else wrote.
        ModelError: weights cannot be used, or the rungs' classes differ.
        AnnotationError: the data set folder is broken.
        StorageError: the disk is full.
    """
    config = config or CompareConfig()
    if (ladder / ORIGIN_FILE).is_file():
        raise ConfigurationError(
            f"{ladder}: these are Ultralytics' weights, whose card tells of their origin and stays "
            "as it is; measure them with `gearshift pipeline run --data coco2017 --weights coco`"
        )
    _refuse_foreign(ladder)
    torch.set_num_threads(config.threads)
    data = load_dataset(dataset)
    files = {rung: ladder / f"{rung}.onnx" for rung in LADDER}
    missing = [file.name for file in files.values() if not file.is_file()]
    if missing:
        raise ConfigurationError(
            f"{ladder}: no {', '.join(missing)}; export the rungs there first "
            "(gearshift ladder export)"
        )
    detectors = open_ladder(files, config)
    sources = {
        rung: path
        for rung in LADDER
        if checkpoints is not None and (path := checkpoints / f"{rung}.pt").is_file()
    }
    recipes = {rung: _recipe(path) for rung, path in sources.items()}
    for rung, recipe in recipes.items():
        if recipe and recipe.get("seed") == data.info.get("seed"):
            raise ConfigurationError(
                f"{dataset}: its scenes have seed {recipe['seed']}, which {rung} was trained on; "
                "judge the ladder by scenes of another seed"
            )
    models = len(LADDER) + len(sources) + 1  # the comparison comes last
    parts = iter([part_of(progress, index, models) for index in range(models)])
    rungs = {}
    for rung, detector in detectors.items():
        classes = Classes.of(detector)
        exported = measure(data, detect_by_file(detector), classes, next(parts))
        original = None
        if rung in sources:
            from_torch = detect_by_checkpoint(sources[rung], detector)
            original = measure(data, from_torch, classes, next(parts))
        rungs[rung] = RungCard(
            file=files[rung].name,
            bytes=files[rung].stat().st_size,
            sha256=detector.sha256,
            parameters=count_parameters(files[rung]),
            architecture=ARCHITECTURES[rung],
            input_size=detector.input_size,
            map=exported,
            checkpoint_map=original,
            checkpoint_sha256=sha256_file(sources[rung]) if rung in sources else None,
            recipe=recipes.get(rung, {}),
        )
    first = detectors[LADDER[0]]
    card = LadderCard(
        rungs=rungs,
        class_names=first.class_names,
        category_ids=first.category_ids,
        data=_describe(data, Classes.of(first)),
        comparison=measure_pairs(data, files, config, next(parts)),
        settings=asdict(config),
        versions=library_versions(),
    )
    with atomic_path(ladder / CARD_FILE) as partial:
        partial.write_text(json.dumps(asdict(card), indent=1) + "\n", encoding="utf-8")
    with atomic_path(ladder / CARD_PAGE) as partial:
        partial.write_text(page(card), encoding="utf-8")
    return card


def _refuse_foreign(ladder: Path) -> None:
    """Refuse to replace a card that this program did not write."""
    for name, beginning in ((CARD_FILE, b'{\n "rungs": '), (CARD_PAGE, b"# Model card: ")):
        try:
            with (ladder / name).open("rb") as stream:
                own = stream.read(len(beginning)) == beginning
        except FileNotFoundError:
            continue
        except OSError:
            own = False
        if not own:
            raise ConfigurationError(
                f"{ladder / name} is not what gearshift ladder card wrote; move it away"
            )


def count_parameters(weights: Path) -> int:
    """Weights and biases of all convolutions of an ONNX file, compressed ones included."""
    graph = onnx.load(str(weights)).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    for node in graph.node:
        # Weights are unpacked by the one, and equal ones are shared by the other.
        if node.op_type in ("DequantizeLinear", "Identity") and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]]
    return sum(
        sizes.get(name, 0)
        for node in graph.node
        if node.op_type in ("Conv", "ConvTranspose")
        for name in node.input[1:]
    )


def _recipe(checkpoint: Path) -> Mapping[str, Any]:
    """How a checkpoint of this project was trained; empty for one of another origin."""
    try:
        # It holds a whole network, as every Ultralytics checkpoint does, and is the user's own.
        state = torch.load(checkpoint, map_location="cpu", weights_only=False)
    except Exception as error:  # a pickle raises whatever it likes
        raise ModelError(
            f"{checkpoint} is no checkpoint ({type(error).__name__}); "
            "give the folder that gearshift ladder train wrote"
        ) from error
    return dict(state.get(RECIPE_KEY) or {}) if isinstance(state, dict) else {}


def _describe(data: Dataset, classes: Classes) -> dict[str, Any]:
    match = match_dataset(data, classes)
    kinds = np.array([image.scene_type for image in data.images])
    return {
        **{key: data.info[key] for key in DATASET_SHARE if key in data.info},
        "frames": len(data),
        "objects": int(data.object_counts.sum()),
        "classes": {"renamed": dict(match.renamed), "not_counted": list(match.unknown)},
        "by_scene_type": {
            kind: {
                "frames": int((kinds == kind).sum()),
                "objects": int(data.object_counts[kinds == kind].sum()),
            }
            for kind in SCENE_TYPES
        },
    }


def page(card: LadderCard) -> str:
    """The card as Markdown."""
    data, recipes = card.data, [rung.recipe for rung in card.rungs.values() if rung.recipe]
    origin = ", ".join(f"{key} {data[key]}" for key in ("seed", "condition") if key in data)
    sample = len(recipes) == len(card.rungs)  # only this project's own training leaves a recipe
    lines = [
        *(SAMPLE_USE if sample else OWN_USE),
        "## Figures",
        "",
        f"mAP50-95 on {data['frames']:,} held-out frames with {data['objects']:,} objects "
        f"({data.get('description', 'a data set of your own')}{'; ' + origin if origin else ''}),",
        "by the ONNX file and the code that serve.",
        "",
        "| rung | network | all | sparse | moderate | dense | PyTorch, all | difference |",
        "|---|---|---|---|---|---|---|---|",
        *(_figures(name, rung) for name, rung in card.rungs.items()),
        "",
        "Scene types by annotated objects: "
        + "; ".join(_counts(data, *kind) for kind in _KINDS)
        + ".",
        "",
        "## Other input sizes",
        "",
        *comparison_table(card.comparison),
        "## Files",
        "",
        "| file | bytes | parameters | input | SHA-256 |",
        "|---|---|---|---|---|",
        *(
            f"| {rung.file} | {rung.bytes:,} | {rung.parameters:,} | "
            f"{rung.input_size[0]}×{rung.input_size[1]} | `{rung.sha256}` |"
            for rung in card.rungs.values()
        ),
        "",
        *(COMPRESSED if all(_is_compressed(rung) for rung in card.rungs.values()) else ()),
        "## Data",
        "",
        f"Classes (COCO's ids): {_classes(card)}.{_left_out(data)}",
        *(SAMPLE_DATA if sample else ()),
        "",
        *(_training(recipes) if recipes else []),
        *(SAMPLE_LIMITS if sample else OWN_LIMITS),
        "## Licence",
        "",
        f"{card.licence}: networks and training code are Ultralytics', which is AGPL-3.0.",
    ]
    return "\n".join(lines) + "\n"


def _figures(name: str, rung: RungCard) -> str:
    cells = [rung.map.overall, *(getattr(rung.map, kind) for kind in SCENE_TYPES)]
    original = rung.checkpoint_map.overall if rung.checkpoint_map else None
    measured = rung.map.overall
    difference = "–" if original is None or measured is None else f"{measured - original:+.4f}"
    numbers = " | ".join(_number(value) for value in (*cells, original))
    return f"| {name} | {rung.architecture} | {numbers} | {difference} |"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _counts(data: Mapping[str, Any], kind: str, meaning: str) -> str:
    group = data["by_scene_type"][kind]
    return f"{kind} {meaning} ({group['frames']:,} frames, {group['objects']:,} objects)"


def _is_compressed(rung: RungCard) -> bool:
    """Whether its file has fewer bytes than half precision would take."""
    return rung.bytes < 2 * rung.parameters


def _classes(card: LadderCard) -> str:
    pairs = zip(card.class_names, card.category_ids, strict=True)
    return ", ".join(f"{name} ({number})" for name, number in pairs)


def _left_out(data: Mapping[str, Any]) -> str:
    names = ", ".join(data.get("classes", {}).get("not_counted", ()))
    return f" Not counted, for no rung knows them: {names}." if names else ""


def _runs(recipe: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A checkpoint's trainings, each of which went on from the one before."""
    earlier = recipe.get("start_from")
    return [*(_runs(earlier) if earlier else []), recipe]


def _lineage(recipe: Mapping[str, Any]) -> str:
    """What the earlier trainings saw, and how fast they learned."""
    earlier = _runs(recipe)[:-1]
    runs = (f"{run['iterations']:,} at {run['learning_rate']}" for run in earlier)
    return ", ".join(runs) or "none"


def _training(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    left_out = {"rung", "threads", "device", "start_from"}
    keys = sorted({key for recipe in recipes for key in recipe} - left_out)
    head = " | ".join(str(recipe["rung"]) for recipe in recipes)
    rows = {key: [str(recipe.get(key, "–")) for recipe in recipes] for key in keys}
    rows["earlier runs: iterations, learning_rate"] = [_lineage(recipe) for recipe in recipes]
    rows["iterations of all runs"] = [
        f"{sum(run['iterations'] for run in _runs(recipe)):,}" for recipe in recipes
    ]
    return [
        "## Training",
        "",
        "AdamW under a cosine, moving average of the weights, zoom, shift, mirror and brightness;",
        "`iterations` counts images seen, repeats included, `frames` different ones.",
        "",
        f"| | {head} |",
        f"|---|{'---|' * len(recipes)}",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
        "",
    ]
