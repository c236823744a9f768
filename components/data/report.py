"""Stage report: a data set on one page, with pictures, for the Kubeflow UI and for browsers.

The page needs nothing from outside: numbers, anomalies with their pictures, slices by which the
data may be biased, how a split shares them out, and what is different from an earlier version.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from pydantic import Field

from components.data.dataset import PARTS, Dataset, load_dataset
from components.data.gallery import draw, examples_of
from components.data.overview import html_report, imbalance_chart
from components.data.slices import coded, slices_of
from components.data.split import load_split
from components.data.validate import STATISTICS_FILE, ValidateConfig, examine
from components.data.versions import VersionDifference, compare_data
from components.page import chart, html, paragraph, section, table
from components.parallel import Progress, no_progress
from foundation.configuration import configuration
from foundation.errors import InvalidInput
from foundation.storage import atomic_path

_PER_CASE = 6
"""Pictures of one case; a group of copies can have hundreds."""


@configuration
class ReportConfig:
    """What the data report shows.

    Attributes:
        pictures: of the first gallery, drawn at random.
        per_slice: pictures of each slice.
        per_anomaly: cases of each kind of anomaly.
        seed: of the draws.
    """

    pictures: Annotated[int, Field(ge=0, le=200)] = 12
    per_slice: Annotated[int, Field(ge=0, le=50)] = 3
    per_anomaly: Annotated[int, Field(ge=0, le=100)] = 8
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class ReportSummary:
    """What a report shows.

    Attributes:
        images: of the data set.
        pictures: that are on the page.
        anomalies: cases by kind.
        slices: number of slices of each kind.
        bytes: of the page.
    """

    images: int
    pictures: int
    anomalies: dict[str, int]
    slices: dict[str, int]
    bytes: int


@dataclass(frozen=True)
class _Figure:
    picture: Any
    words: str = ""


def write_report(
    folder: Path,
    out: Path,
    validation: Path | None = None,
    split: Path | None = None,
    earlier: Dataset | None = None,
    config: ReportConfig | None = None,
    progress: Progress = no_progress,
) -> ReportSummary:
    """Write the data report, one HTML file.

    The same data and configuration give the same page, byte for byte.

    Args:
        folder: canonical data set folder.
        out: the HTML file.
        validation: what the validate stage wrote of this data set; without it the data are
            examined here, without a ladder and a detector.
        split: what the split stage wrote.
        earlier: another version of the data; pictures of images that are gone are shown where it
            has any.
        config: what to show.
        progress: called with images examined and in all.

    Raises:
        AnnotationError: the folder is no data set, or the split is of another one.
        ImageError: a picture is missing or damaged, and the data had to be examined here.
        InvalidInput: the validation or the split cannot be read.
        StorageError: the disk is full.
    """
    config = config or ReportConfig()
    data = load_dataset(folder)
    if validation is None:
        statistics = examine(data, ValidateConfig(), progress=progress)
    else:
        statistics = _read(validation / STATISTICS_FILE)
    slices = slices_of(data)
    parts = [_style(), _pictures(data, config), _anomalies(data, statistics, config)]
    parts += [_slices(data, slices, split, config)]
    if split is not None:
        parts += [_imbalance(_read(split))]
    if earlier is not None:
        parts += [_comparison(earlier, data, compare_data(earlier, data), config)]
    text = html_report(statistics, *parts)
    with atomic_path(out) as partial:
        partial.write_text(text, encoding="utf-8")
    return ReportSummary(
        images=len(data),
        pictures=text.count("<img alt="),
        anomalies={one["kind"]: one["count"] for one in statistics["anomalies"]},
        slices={kind: len(set(names)) for kind, names in slices.items()},
        bytes=len(text.encode()),
    )


def _pictures(data: Dataset, config: ReportConfig) -> Markup:
    chosen = _drawn_from(np.arange(len(data)), config.pictures, config.seed)
    strip = _strip("pictures", "At random", (_Figure(draw(data, index)) for index in chosen))
    return section("Pictures", strip)


def _anomalies(data: Dataset, statistics: Mapping[str, Any], config: ReportConfig) -> Markup:
    strips = []
    for anomaly in statistics["anomalies"]:
        cases = list(examples_of(data, anomaly))[: config.per_anomaly]
        figures = [
            _Figure(draw(data, index, case.marked), case.words)
            for case in cases
            for index in case.images[:_PER_CASE]
        ]
        title = f"{anomaly['count']:,} {anomaly['meaning']}"
        strips.append(_strip(f"anomaly-{anomaly['kind']}", title, figures))
    return section("Anomalies", *(strips or [paragraph("There are none.")]))


def _slices(
    data: Dataset, slices: Mapping[str, Sequence[str]], split: Path | None, config: ReportConfig
) -> Markup:
    """Each kind of slice: images in all and by part, and pictures of each."""
    members: dict[str, NDArray[np.int64]] = {}
    if split is not None:
        divided = load_split(split)
        members = {part: data.index_of(divided.part(part)) for part in PARTS}
    folded: list[Markup] = []
    for kind, names in slices.items():
        different, found = coded(names)
        order = [name for name, _ in Counter(names).most_common()]
        codes = {name: different.index(name) for name in order}
        rows = [
            [name, f"{(found == code).sum():,}", f"{(found == code).mean():.1%}"]
            + [f"{(found[places] == code).mean():.1%}" for places in members.values()]
            for name, code in codes.items()
        ]
        header = [kind, "images", "share", *(f"of {part}" for part in members)]
        strips = [
            _strip(
                f"slice-{number}-{place}",
                f"{kind}: {name}",
                [
                    _Figure(draw(data, index))
                    for index in _drawn_from(
                        np.flatnonzero(found == codes[name]), config.per_slice, config.seed
                    )
                ],
            )
            for number, place, name in (
                (len(folded), place, one) for place, one in enumerate(order)
            )
        ]
        folded.append(
            html(
                "<h3>By {{ kind }}</h3>{{ table }}"
                "<details><summary>Pictures by {{ kind }}</summary>"
                "{% for strip in strips %}{{ strip }}{% endfor %}</details>",
                kind=kind,
                table=table(header, rows),
                strips=strips,
            )
        )
    return section("Slices", *folded)


def _imbalance(split: Mapping[str, Any]) -> Markup:
    counts = split.get("counts", {})
    ours, at_random = counts.get("imbalance", {}), counts.get("random_imbalance", {})
    explained = paragraph(
        "How far the worst part's shares of the slices are from the whole set's: total variation "
        "distance, 0 (the same) to 1 (nothing in common). At random: the mean of twenty splits "
        "that hand out the same clips."
    )
    rows = [(kind, f"{value:.3f}", f"{at_random[kind]:.3f}") for kind, value in ours.items()]
    return section(
        "Imbalance of the split",
        explained,
        chart(imbalance_chart(ours, at_random), "chart-imbalance"),
        table(("slices by", "this split", "at random"), rows),
    )


def _comparison(
    earlier: Dataset, data: Dataset, difference: VersionDifference, config: ReportConfig
) -> Markup:
    kinds = (
        ("added", data, difference.added),
        ("removed", earlier, difference.removed),
        ("changed", data, difference.changed),
        ("relabelled", data, difference.relabelled),
    )
    counts = table(("images", "how many"), [(kind, f"{len(names):,}") for kind, _, names in kinds])
    boxes = table(
        ("category", "boxes before", "boxes now"),
        [(name, f"{one:,}", f"{two:,}") for name, (one, two) in difference.categories.items()],
    )
    strips = []
    for kind, version, names in kinds:
        places = {image.file_name: index for index, image in enumerate(version.images)}
        figures = [_Figure(draw(version, places[name])) for name in names[: config.per_anomaly]]
        if figures:
            strips.append(_strip(f"version-{kind}", f"Images {kind}", figures))
    return section("Compared with the earlier version", counts, boxes, *strips)


def _style() -> Markup:
    return html(
        """<style>.strip { display: flex; gap: 1rem; overflow-x: auto; padding-bottom: .5rem;
  scroll-snap-type: x proximity; } .strip figure { margin: 0; flex: 0 0 min(20rem, 80vw);
  scroll-snap-align: start; } .strip img { width: 100%; height: auto; border-radius: 6px; }
.strip figure:target { outline: 3px solid #c77f00; outline-offset: 2px; }
.strip figcaption { overflow-wrap: anywhere; } .strip a { padding-right: .8rem; }
h3 { font-size: 1rem; margin-bottom: .4rem; } summary { cursor: pointer; padding: .4rem 0; }
a { color: #1c64a8; } @media (prefers-color-scheme: dark) { a { color: #8fc1ef; } }</style>"""
    )


def _strip(name: str, title: str, figures: Iterable[_Figure]) -> Markup:
    """Pictures side by side, each with links to its neighbours."""
    return html(
        """<div id="{{ name }}"><h3>{{ title }}</h3>
<div class="strip" tabindex="0" role="region" aria-label="{{ title }}">
{%- for one in figures %}<figure id="{{ name }}-{{ loop.index }}">
{%- if one.picture.source %}<img alt="{{ one.picture.words }}" src="{{ one.picture.source }}">
{%- else %}<p>The picture cannot be read.</p>{% endif %}
<figcaption><b>{{ one.picture.file_name }}</b> (image {{ one.picture.image_id }})<br>
{{ one.words or one.picture.words }}
{%- if loop.length > 1 %}<br><span>{{ loop.index }} of {{ loop.length }}</span>
{% if not loop.first %}<a href="#{{ name }}-{{ loop.index - 1 }}">‹ previous</a> {% endif %}
{%- if not loop.last %}<a href="#{{ name }}-{{ loop.index + 1 }}">next ›</a>{% endif %}{% endif %}
</figcaption></figure>{% endfor %}</div></div>""",
        name=name,
        title=title,
        figures=list(figures),
    )


def _drawn_from(places: NDArray[np.int64], count: int, seed: int) -> list[int]:
    """So many of the places, in order; spread over them by chance."""
    chosen = np.random.default_rng(seed).permutation(places)[:count]
    found: list[int] = np.sort(chosen).tolist()
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{file} is missing or broken ({type(error).__name__}); run its stage again"
        ) from error
    return content
