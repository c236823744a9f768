from __future__ import annotations

import contextlib
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chain_samples import LATENCY_MS, OBSERVE_MS, PRICE, Artifacts, write_profile
from faster_coco_eval import COCO, COCOeval_faster
from onnx import helper
from report_samples import report_content

from components.data.dataset import dataset_to_coco, load_dataset
from components.data.split import load_split
from components.evaluation.evaluate import EvaluateConfig, EvaluateSummary, evaluate
from components.evaluation.gate import GateConfig, checklist
from components.evaluation.report import load_verdict, who_wins, write_report
from components.evaluation.report_schema import load_report, report_schema, without_nan
from components.evaluation.report_tables import add_gate
from components.evaluation.resamples import LEAST_GAP
from components.policy.closed_loop import route
from components.profiling.detections import load_profiles
from components.profiling.replay import load_replay
from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import sha256_file
from inference_graph.contract import LADDER, USES_FRAME_KEY
from inference_graph.router import Policy

NAMES = (
    "always-large", "always-small", "always-nano", "random-mix", "edge-density", "object-count",
    "cascade", "previous-frame", "oric", "tod", "ecore", "rams", "bc", "gearshift", "oracle",
)  # fmt: skip


@pytest.fixture(scope="module")
def report(chain: Artifacts) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((chain.report / "report.json").read_text())
    return found


@pytest.fixture(scope="module")
def rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in report["rows"]}


def test_the_report_has_the_rows_that_were_promised(report: dict[str, Any]) -> None:
    assert tuple(row["name"] for row in report["rows"]) == NAMES
    promised = {"name", "map", "retained", "mean_ms", "p95_ms", "fps", "usd_per_million"}
    for row in report["rows"]:
        assert promised <= set(row)
        assert 0 < row["map"] < 1 and row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["fps"] == pytest.approx(1000 / row["mean_ms"])
        assert row["usd_per_million"] == pytest.approx(row["mean_ms"] * PRICE / 3.6)
        low, high = row["retained_interval"]
        assert low <= high
    assert isinstance(report["gap_share"], float)
    assert len(report["curve"]) == 6
    assert all({"retained", "latency_ratio", "gap_share"} <= set(p) for p in report["curve"])


def test_the_file_is_strict_json(chain: Artifacts) -> None:
    text = (chain.report / "report.json").read_text()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(text, parse_constant=refuse)
    names = sorted(path.name for path in chain.report.iterdir())
    assert names == ["frames.json", "report.html", "report.json"]


def test_fixed_rungs_by_hand(report: dict[str, Any], rows: dict[str, dict[str, Any]]) -> None:
    for rung, milliseconds in zip(LADDER, LATENCY_MS, strict=True):
        # Frames take 1, 1.1 and 1.2 of it in turn, and whole clips of six are held out.
        row = rows[f"always-{rung}"]
        assert row["mean_ms"] == pytest.approx(1.1 * milliseconds, rel=1e-5)
        assert row["p50_ms"] == pytest.approx(1.1 * milliseconds, rel=1e-5)
        assert row["p99_ms"] == pytest.approx(1.2 * milliseconds, rel=1e-5)
        assert row["shares"][rung] == 1.0
    large = rows["always-large"]
    assert (large["retained"], large["latency_ratio"]) == (1.0, 1.0)
    assert large["retained_interval"] == [1.0, 1.0]
    assert rows["always-nano"]["map"] < rows["always-small"]["map"] < large["map"]


def test_the_policys_row_is_what_faster_coco_eval_computes(
    chain: Artifacts, report: dict[str, Any], rows: dict[str, dict[str, Any]]
) -> None:
    policy = Policy(chain.policies / "policy.onnx")
    judge = load_replay(chain.replay).part("test")
    choice = route(judge, lambda seen: policy.decide(seen)[0], policy.latency_weight)
    data, found = load_dataset(chain.dataset), list(load_profiles(chain.detections).values())
    held_out = data.subset(judge.image_ids.tolist())
    results = []
    for image, rung in zip(judge.image_ids.tolist(), choice.tolist(), strict=True):
        one = found[rung].select([image])
        for box, score, category in zip(one.boxes, one.scores, one.category_ids, strict=True):
            x1, y1, x2, y2 = box.astype(np.float64).tolist()
            results.append(
                {
                    "image_id": image,
                    "category_id": int(category),
                    "score": float(score),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(dataset_to_coco(held_out))
        eval_ = COCOeval_faster(truth, truth.loadRes(results), "bbox")
        eval_.evaluate()
        eval_.accumulate()
        eval_.summarize()
    row = rows["gearshift"]
    assert row["map"] == pytest.approx(float(eval_.stats[0]), abs=1e-9)
    assert row["retained"] == report["retained"] == row["map"] / rows["always-large"]["map"]
    router = sum(report["router_ms"].values())
    mean = float(judge.latency_ms[np.arange(len(judge)), choice].mean()) + router
    assert row["mean_ms"] == pytest.approx(mean, rel=1e-6)
    assert report["latency_ratio"] == pytest.approx(mean / (1.1 * 50), rel=1e-5)
    assert not policy.uses_frame  # what is not read is not made, and not billed
    assert 0 < report["router_ms"]["observe"] < router < 5
    for rung, share in row["shares"].items():
        assert share == pytest.approx(np.mean(choice == LADDER.index(rung)))


def test_the_gap_is_that_between_the_reports_own_hulls(report: dict[str, Any]) -> None:
    def at(line: list[dict[str, float]], ratio: float) -> float:
        xs, ys = ([p[key] for p in line] for key in ("latency_ratio", "retained"))
        return float(np.interp(ratio, xs, ys))

    for point in [report, *report["curve"]]:
        low = at(report["hull"], point["latency_ratio"])
        high = at(report["oracle_hull"], point["latency_ratio"])
        if point["gap_share"] is None:
            assert high - low <= LEAST_GAP
        else:
            assert point["gap_share"] == pytest.approx(
                (point["retained"] - low) / (high - low), abs=1e-6
            )
    low, high = report["gap_share_interval"]
    if low is None:  # no resample of so few clips has a gap
        assert high is None
    else:
        assert low <= report["gap_share"] <= high


def test_every_interval_holds_its_estimate(report: dict[str, Any]) -> None:
    found = [report["mean_gap_share"], *(one["share"] for one in report["gap_shares"])]
    found += [report["lift"]["over_hull"], report["lift"]["over_rule"]]
    found += [report["tracked"]["over_hull"], report["tracked"]["over_tracked_hull"]]
    for row in (*report["rows"], *report["tracked"]["rows"]):
        low, high = row["retained_interval"]
        found.append({"value": row["retained"], "low": low, "high": high})
    known = [one for one in found if one["low"] is not None]
    assert len(known) > 20
    for one in known:
        assert one["low"] <= one["value"] <= one["high"]


def test_the_lift_is_that_over_the_reports_own_lines(
    report: dict[str, Any], rows: dict[str, dict[str, Any]]
) -> None:
    xs, ys = ([p[key] for p in report["hull"]] for key in ("latency_ratio", "retained"))
    hull = float(np.interp(report["latency_ratio"], xs, ys))
    assert report["lift"]["over_hull"]["value"] == pytest.approx(report["retained"] - hull)
    rule = report["lift"]["rule"]
    assert rule in NAMES[4:12]
    assert report["lift"]["over_rule"]["value"] == pytest.approx(
        report["retained"] - report["at_equal_latency"][rule]
    )


def test_every_way_to_route_stands_there_with_a_tracker_too(
    report: dict[str, Any], rows: dict[str, dict[str, Any]]
) -> None:
    tracked = report["tracked"]
    assert {row["name"] for row in tracked["rows"]} == set(NAMES) - {"oracle"}
    for row in tracked["rows"]:
        without = rows[row["name"]]
        assert row["shares"] == without["shares"]
        assert row["mean_ms"] == pytest.approx(without["mean_ms"] + tracked["tracker_ms"])


def test_the_published_schema_is_that_of_the_types(report: dict[str, Any]) -> None:
    published = Path(__file__).parents[3] / "docs" / "report.schema.json"
    assert published.read_text() == report_schema(), "write it again from report_schema()"
    jsonschema.validate(report, json.loads(published.read_text()))


def test_alternatives_stand_at_the_policys_latency(
    report: dict[str, Any], rows: dict[str, dict[str, Any]]
) -> None:
    ours = rows["gearshift"]["mean_ms"]
    for name in ("random-mix", "oracle"):
        assert rows[name]["mean_ms"] == pytest.approx(ours, rel=0.1)
        # Frames are whole: half of the dearest one's share of the mean is what may be missing.
        step = 1.2 * LATENCY_MS[-1] / report["data"]["frames"]["judge"]
        assert rows[name]["mean_ms"] == pytest.approx(ours, abs=step / 2)
    assert set(report["at_equal_latency"]) == set(NAMES) - {
        "always-large",
        "always-small",
        "always-nano",
        "gearshift",
    }
    assert report["at_equal_latency"]["oracle"] >= report["at_equal_latency"]["random-mix"]
    assert set(report["apgr"]) == set(NAMES) - {"always-large", "always-small", "always-nano"}


def test_groups_and_labels_count_every_frame(chain: Artifacts, report: dict[str, Any]) -> None:
    held_out = load_split(chain.split).test
    frames = report["data"]["frames"]
    assert frames == {"learn": 72 - len(held_out), "judge": len(held_out)}
    for groups in ("scene_types", "conditions"):
        assert sum(group["frames"] for group in report[groups].values()) == len(held_out)
        for group in report[groups].values():
            assert sum(group["shares"].values()) == pytest.approx(1.0)
    assert np.sum(report["labels"]["confusion"]) == len(held_out)
    counted = load_dataset(chain.dataset).subset(held_out.tolist())
    assert report["data"]["objects_judged"] == len(counted.boxes)
    assert {(row["cameras"], row["name"]) for row in report["fleets"]} == {
        (size, name)
        for size in (1, 4)
        for name in (
            "always-nano",
            "always-small",
            "always-large",
            "shortest-queue",
            "slack",
            "bc",
            "price",
            "gearshift",
        )
    }


def test_the_report_states_what_it_judged(chain: Artifacts, report: dict[str, Any]) -> None:
    assert report["policy"]["sha256"] == sha256_file(chain.policies / "policy.onnx")
    assert report["refinement"]["seeds"] == [0, 1]
    assert len(report["seeds"]) == 2
    assert report["measurement"]["machine"] == {"cpu": "made by hand"}
    assert report["config"]["bootstrap"] == 40


class Links(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "poster", "srcset"):
                self.found.append((tag, value or ""))
            if name == "id":
                self.ids.append(value or "")


def test_the_page_needs_nothing_from_outside(chain: Artifacts, report: dict[str, Any]) -> None:
    text = (chain.report / "report.html").read_text()
    links = Links()
    links.feed(text)
    assert [tag for tag, value in links.found if not value.startswith("data:")] == []
    assert [tag for tag, _ in links.found] == ["img"] * 3
    assert {"pareto", "curve", "shares", "confusion"} <= set(links.ids)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    body = text[text.index("<main>") :]
    for name in NAMES:
        assert f">{name}</th>" in body
    assert f"{report['retained']:.1%}" in body


def again(chain: Artifacts, out: Path, **changed: Any) -> EvaluateSummary:
    parts = {**chain.__dict__, **changed}
    return evaluate(
        parts["dataset"],
        parts["detections"],
        parts["timings"],
        parts["replay"],
        parts["policies"],
        out,
        EvaluateConfig(points=2, bootstrap=10, fleet_sizes=(1,)),
    )


def test_the_summary_is_the_reports_headline(
    chain: Artifacts, report: dict[str, Any], tmp_path: Path
) -> None:
    summary = again(chain, tmp_path / "report")
    assert summary.retained == pytest.approx(report["retained"])
    assert summary.frames == report["data"]["frames"]["judge"]
    assert summary.clips == report["data"]["clips"]["judge"]


def test_a_policy_that_reads_the_frame_pays_for_its_observation(
    chain: Artifacts, tmp_path: Path
) -> None:
    shutil.copytree(chain.policies, tmp_path / "policies")
    path = tmp_path / "policies" / "policy.onnx"
    model = onnx.load(str(path))
    notes = {note.key: note.value for note in model.metadata_props}
    helper.set_model_props(model, notes | {USES_FRAME_KEY: "true"})
    onnx.save(model, str(path))
    summary = again(chain, tmp_path / "report", policies=tmp_path / "policies")
    found = load_report(tmp_path / "report" / "report.json").router_ms
    assert found.observe > OBSERVE_MS
    assert summary.router_ms == found.observe + found.decide


def test_without_anything_to_retain_it_reports_it(chain: Artifacts, tmp_path: Path) -> None:
    data = load_dataset(chain.dataset)
    blind = {rung: tmp_path / rung for rung in LADDER}
    for rung, path in blind.items():
        write_profile(path, data.subset([]), rung)  # only to have its facts
        write_profile(tmp_path / f"{rung}-seen", data, rung)
        for name in ("detections.parquet", "images.parquet"):
            _blinded(tmp_path / f"{rung}-seen" / name, path / name)
    again(chain, tmp_path / "report", detections=blind)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["retained"] is None and report["gap_share"] is None
    assert report["lift"]["over_hull"] == {"value": None, "low": None, "high": None}
    assert "so no accuracy can be retained" in (tmp_path / "report" / "report.html").read_text()
    # What could not be measured has not been shown to suffice.
    found = checklist(load_report(tmp_path / "report" / "report.json"), GateConfig())
    refused = {check.name for check in found if not check.passed}
    assert {"retained", "lift_over_hull_low", "above_clone"} <= refused


def _blinded(source: Path, target: Path) -> None:
    """The same images, with no detection."""
    table = pq.read_table(source)
    if "score" in table.column_names:
        table = table.slice(0, 0)
    else:
        none = pa.array([0] * len(table), pa.int32())
        table = table.set_column(1, table.schema.field(1), none)
    pq.write_table(table, target)


def test_policies_without_their_summary_are_refused(chain: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"summary.json is missing or broken; run the refine"):
        again(chain, tmp_path / "report", policies=tmp_path)


def judged(retained: float, cheapest: float = 0.1, frames: int = 30) -> dict[str, Any]:
    """What `who_wins` reads: at latency 0.24 cascade keeps 0.97, from ``cheapest`` on."""
    content = report_content()
    values = {"random-mix": 0.95, "cascade": 0.97, "bc": None, "oracle": 0.99}
    point = {"name": "", "retained": 0.9}
    content["points"] = {
        name: [{**point, "latency_ratio": cheapest if name == "cascade" else 0.1}]
        for name in values
    }
    content["data"]["frames"]["judge"] = frames
    return content | {"at_equal_latency": values, "retained": retained}


def test_who_wins_by_hand() -> None:
    assert who_wins(judged(0.98)) == (
        "Ahead of every alternative at its own latency; the next is cascade, which keeps 97.0%."
    )
    behind = who_wins(judged(0.96))
    assert behind.startswith("At this latency cascade wins: it keeps 97.0%, the policy 96.0%.")


def test_nothing_that_is_dearer_wins_at_this_latency() -> None:
    # The policy stands at 0.24; cascade begins at 0.9 of large's latency.
    found = who_wins(judged(0.96, cheapest=0.9))
    assert found.endswith("the next is random-mix, which keeps 95.0%.")


def test_stills_teach_nothing_about_movement() -> None:
    content = judged(0.96, frames=3)  # of three clips
    content["at_equal_latency"]["previous-frame"] = 0.98
    content["points"]["previous-frame"] = content["points"]["bc"]
    assert who_wins(content) == (
        "At this latency previous-frame wins: it keeps 98.0%, the policy 96.0%."
    )
    content["data"]["frames"]["judge"] = 30
    assert who_wins(content).endswith(
        "So little moved that an old answer was nearly as good as a new one."
    )


@pytest.mark.parametrize(
    ("low", "refined", "earns"),
    [(0.001, True, True), (0.0, True, False), (None, True, False), (0.001, False, False)],
)
def test_ppo_earns_its_place_only_above_the_price(
    low: float | None, refined: bool, earns: bool
) -> None:
    load = {"cameras": 8, "price": 0.3, "over_price": {"value": 0.002, "low": low, "high": 0.01}}
    verdict = load_verdict(load, refined)
    assert verdict.startswith(f"PPO {'earns' if earns else 'does not earn'} its place")
    assert ("the clone with its price was kept" in verdict) == (not refined)


@pytest.mark.parametrize("passed", [True, False])
def test_the_page_has_the_gates_words_and_stars_no_release(passed: bool, tmp_path: Path) -> None:
    content = report_content()
    check = {"name": "lift_over_hull_low", "value": -0.01, "relation": ">", "threshold": 0.0}
    path = tmp_path / "report.html"
    write_report(content, path)
    before = path.read_text()
    add_gate(path, {"passed": passed, "checks": [check | {"passed": passed}]})
    after = path.read_text()
    assert "Release gate" not in before
    assert f"Release gate: {'passed' if passed else 'refused'}" in after
    assert "lift_over_hull_low" in after
    for page in (before, after):
        assert "released" not in page[page.index("<main>") :]


def test_a_figure_that_does_not_exist_is_null() -> None:
    assert without_nan({"a": float("nan"), "b": (1.0, float("inf")), "c": [{"d": 2}]}) == {
        "a": None,
        "b": [1.0, None],
        "c": [{"d": 2}],
    }


@pytest.mark.parametrize(
    "bad",
    [
        {"points": 1},
        {"bootstrap": 5},
        {"lowest_latency_weight": 0.0},
        {"lowest_latency_weight": 1.0, "highest_latency_weight": 0.5},
    ],
)
def test_values_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        EvaluateConfig(**bad)
