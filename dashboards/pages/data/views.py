"""The views of the page Data: what each tab shows of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
import numpy as np
import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component

from components.data.dataset import Dataset
from components.data.gallery import Picture, draw, examples_of
from components.data.overview import facts
from components.data.versions import compare_data
from dashboards.pages.data.found import KnownData
from dashboards.widgets.parts import empty_card
from dashboards.widgets.theme import GRAPH_CONFIG, figure, scheme_of
from feature_transformer.makers import DETECTION

CHOICE, STEP = "data-choice", "data-step"
"""Types of the ids of fields and of the buttons for the previous and the next pictures."""
_PAGE = 12
"""Pictures of a page of the gallery."""
_EVERY = "all"
Asked = Mapping[str, str]
"""What the address holds."""


def overview(known: KnownData, asked: Asked, others: Mapping[str, KnownData]) -> Component:
    """The main numbers and the categories; what validate wrote, else what can be counted."""
    data, statistics = known.data, known.statistics
    counts = Counter(data.category_ids.tolist())
    categories = [[one.name, f"{counts[one.id]:,}"] for one in data.categories if counts[one.id]]
    categories.sort(key=lambda row: -int(row[1].replace(",", "")))
    numbers = (
        [["images", f"{len(data):,}"], [_annotations(data), f"{len(data.boxes):,}"]]
        if statistics is None
        else [list(row) for row in facts(statistics)]
    )
    return dmc.SimpleGrid(
        [
            _card("Numbers", _table(("what", "value"), numbers)),
            _card("Categories", _table(("category", _annotations(data)), categories)),
        ],
        cols={"base": 1, "lg": 2},
    )


def pictures(known: KnownData, asked: Asked, others: Mapping[str, KnownData]) -> Component:
    """Pictures with their boxes, of one slice or of all."""
    slices = known.slices
    kind = asked.get("by", "") if asked.get("by") in slices else next(iter(slices))
    found = np.array(slices[kind])
    names = [_EVERY, *(name for name, _ in Counter(slices[kind]).most_common())]
    chosen = asked.get("slice", "") if asked.get("slice") in names else _EVERY
    places = np.flatnonzero(found == chosen) if chosen != _EVERY else np.arange(len(found))
    at = _at(asked, len(places), _PAGE)
    shown = [draw(known.data, int(index)) for index in places[at : at + _PAGE]]
    return dmc.Stack(
        [
            dmc.Group(
                [
                    _select("by", "Slices by", list(slices), kind),
                    _select("slice", "Slice", names, chosen),
                    *_steps(at, len(places), _PAGE, "pictures"),
                ]
            ),
            _grid([_picture(one) for one in shown]),
        ]
    )


def anomalies(known: KnownData, asked: Asked, others: Mapping[str, KnownData]) -> Component:
    """The kinds of anomaly, and the cases of one of them, one at a time."""
    statistics = known.statistics
    if statistics is None:
        return _not_there("The data were not validated", "validate", known, "-report")
    kinds = {one["kind"]: one for one in statistics["anomalies"]}
    if not kinds:
        return empty_card("Nothing is odd", "Validation found no anomaly of any kind.")
    kind = asked.get("kind", "") if asked.get("kind") in kinds else next(iter(kinds))
    cases = list(examples_of(known.data, kinds[kind]))
    at = _at(asked, len(cases), 1)
    case = cases[at] if cases else None
    drawn = [] if case is None else [draw(known.data, i, case.marked) for i in case.images]
    rows = [[one["meaning"], f"{one['count']:,}"] for one in kinds.values()]
    labels = [{"value": name, "label": name.replace("_", " ")} for name in kinds]
    listed = (
        f"{kinds[kind]['count']:,} {kinds[kind]['meaning']}; the first {len(cases)} are listed."
    )
    return dmc.Stack(
        [
            dmc.Group(
                [
                    _select("kind", "Kind of anomaly", labels, kind),
                    *_steps(at, len(cases), 1, "cases"),
                ]
            ),
            dmc.Text(listed, size="sm"),
            *([dmc.Text(case.words, size="sm", className="wraps")] if case and case.words else []),
            _grid([_picture(one) for one in drawn]),
            _card("All kinds", _table(("what", "how many"), rows)),
        ]
    )


def slices(known: KnownData, asked: Asked, others: Mapping[str, KnownData]) -> Component:
    """Shares of the slices, in all and by part, and how unevenly the split shares them out."""
    found = dict(known.slices)
    parts = np.array(found.pop("part", ()))
    names = [name for name in dict.fromkeys(("train", "validation", "test")) if name in parts]
    cards = []
    for kind, values in found.items():
        every = np.array(values)
        rows = [
            [name, f"{count:,}", f"{count / len(every):.1%}"]
            + [f"{(every[parts == part] == name).mean():.1%}" for part in names]
            for name, count in Counter(values).most_common()
        ]
        cards.append(_card(f"By {kind}", _table((kind, "images", "share", *names), rows)))
    measured = known.imbalance
    uneven = (
        _not_there("The data were not divided", "split", known, "-split.json")
        if measured is None
        else _imbalance(*measured, scheme=asked.get("scheme", ""))
    )
    return dmc.Stack([uneven, dmc.SimpleGrid(cards, cols={"base": 1, "lg": 2})])


def versions(known: KnownData, asked: Asked, others: Mapping[str, KnownData]) -> Component:
    """What is different from another data set."""
    names = [name for name, one in others.items() if one is not known]
    if not names:
        return empty_card(
            "There is no other data set",
            "A version is compared that lies beside this one:",
            [
                "gearshift data checkout VERSION --store STORE "
                f"--out {known.folder.with_name(f'{known.folder.name}-before')}"
            ],
        )
    name = asked.get("other", "") if asked.get("other") in names else names[0]
    other = others[name]
    difference = compare_data(other.data, known.data)
    groups = {
        "added": (known, difference.added),
        "removed": (other, difference.removed),
        "changed": (known, difference.changed),
        "relabelled": (known, difference.relabelled),
    }
    kinds = [
        {"value": kind, "label": f"{kind} ({len(files):,})"} for kind, (_, files) in groups.items()
    ]
    kind = asked.get("change", "") if asked.get("change") in groups else "added"
    version, files = groups[kind]
    at = _at(asked, len(files), _PAGE)
    places = {image.file_name: index for index, image in enumerate(version.data.images)}
    shown = [draw(version.data, places[file]) for file in files[at : at + _PAGE]]
    rows = [[name, f"{one:,}", f"{two:,}"] for name, (one, two) in difference.categories.items()]
    return dmc.Stack(
        [
            dmc.Group(
                [
                    _select("other", "Compared with", names, name),
                    _select("change", "Images", kinds, kind),
                    *_steps(at, len(files), _PAGE, "images"),
                ]
            ),
            _grid([_picture(one) for one in shown]),
            _card(
                f"{_annotations(known.data).capitalize()} by category",
                _table(("category", "before", "now"), rows),
            ),
        ]
    )


def _annotations(data: Dataset) -> str:
    """What a data set's annotations are called."""
    return "boxes" if data.task == DETECTION else "texts"


View = Callable[[KnownData, Asked, Mapping[str, KnownData]], Component]
VIEWS: Mapping[str, tuple[str, View]] = {
    "overview": ("Overview", overview),
    "pictures": ("Pictures", pictures),
    "anomalies": ("Anomalies", anomalies),
    "slices": ("Slices and split", slices),
    "versions": ("Comparison", versions),
}
"""Label and content of each tab."""


def _imbalance(ours: Mapping[str, float], at_random: Mapping[str, float], scheme: str) -> Component:
    drawn = figure(
        scheme_of(scheme),
        barmode="group",
        yaxis={"title": "distance of the worst part", "rangemode": "tozero"},
    )
    for name, values in (("at random", at_random), ("this split", ours)):
        drawn.add_trace(go.Bar(x=list(values), y=list(values.values()), name=name))
    rows = [[kind, f"{one:.3f}", f"{at_random.get(kind, 0):.3f}"] for kind, one in ours.items()]
    words = "; ".join(f"{kind} {one}, at random {other}" for kind, one, other in rows)
    return _card(
        "Imbalance of the split",
        dmc.Text(
            "How far the worst part's shares of the slices are from the whole set's: total "
            "variation distance, 0 to 1; at random, the mean of twenty splits.",
            size="sm",
        ),
        html.Div(
            [
                dcc.Graph(id="data-imbalance", figure=drawn, config=dict(GRAPH_CONFIG)),
                dmc.VisuallyHidden(words, id="data-imbalance-words"),
            ],
            role="figure",
            **{"aria-label": "Imbalance", "aria-describedby": "data-imbalance-words"},
        ),
        _table(("slices by", "this split", "at random"), rows),
    )


def _not_there(title: str, stage: str, known: KnownData, ending: str) -> Component:
    out = known.folder.with_name(f"{known.folder.name}{ending}")
    command = f"gearshift data {stage} {known.folder} --out {out}"
    return empty_card(title, "This writes what is missing:", [command])


def _at(asked: Asked, count: int, step: int) -> int:
    """The first one shown: as the address states, within what there is."""
    text = asked.get("at", "")
    wanted = int(text) if text.isdecimal() and len(text) < 10 else 0
    return min(wanted, max(count - 1, 0)) // step * step


def _steps(at: int, count: int, step: int, what: str) -> list[Component]:
    last = min(at + step, count)
    words = f"{at + 1} to {last} of {count:,}" if step > 1 else f"{at + 1} of {count:,}"
    return [
        dmc.Button(
            label,
            id={"type": STEP, "to": str(to)},
            variant="default",
            size="xs",
            disabled=not 0 <= to < count,
            **{"aria-label": f"{label} {what}"},
        )
        for label, to in (("Previous", at - step), ("Next", at + step))
    ] + [dmc.Text(words if count else f"no {what}", size="sm")]


def _select(name: str, label: str, choices: Sequence[Any], value: str) -> Component:
    return dmc.Select(
        id={"type": CHOICE, "name": name},
        data=list(choices),
        value=value,
        allowDeselect=False,
        size="sm",
        w=210,
        **{"aria-label": label},
    )


def _grid(shown: Sequence[Component]) -> Component:
    return dmc.SimpleGrid(list(shown), cols={"base": 1, "sm": 2, "lg": 3}, spacing="sm")


def _picture(one: Picture) -> Component:
    picture = (
        html.Img(src=one.source, alt=one.words, style={"width": "100%", "borderRadius": "6px"})
        if one.source
        else dmc.Text("The picture cannot be read.", size="sm")
    )
    return html.Figure(
        [
            picture,
            html.Figcaption(
                dmc.Text(f"{one.file_name} (image {one.image_id}): {one.words}", size="xs"),
                className="wraps",
            ),
        ],
        style={"margin": 0},
    )


def _card(title: str, *content: Component) -> Component:
    return dmc.Card([dmc.Title(title, order=2, size="h5"), *content], withBorder=True, padding="sm")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Component:
    return html.Div(
        dmc.Table(data={"head": list(head), "body": [list(row) for row in rows]}),
        style={"overflowX": "auto"},
        role="region",
        tabIndex="0",  # whoever has no pointer scrolls it by the arrow keys
        **{"aria-label": f"Table by {head[0]}"},
    )
