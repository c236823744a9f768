from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from foundation.errors import ConfigurationError
from inference_graph.control.triggers.config import (
    AccuracyRule,
    AlertRule,
    DriftRule,
    KubeflowLaunch,
    LatencyRule,
    Launch,
    Limits,
    ScheduleRule,
    VolumeRule,
)
from inference_graph.control.triggers.cron import latest_due
from inference_graph.control.triggers.read_config import read_triggers

WHOLE: dict[str, Any] = {
    "log": "s3://bucket/log",
    "drift": "there/drift",
    "state": "there",
    "limits": {"cooldown_hours": 1, "per_day": 3, "timeout_hours": 0.5},
    "launch": {"command": ["gearshift", "retrain"]},
    "rules": [
        {"name": "new data", "when": "volume", "images": 500, "approved": 10},
        {"name": "accuracy", "when": "accuracy", "retained_below": 0.93, "certain": False},
        {"name": "drift", "when": "drift", "decisions": ["watch", "retrain"]},
        {"name": "slow", "when": "latency", "p95_ms": 100},
        {"name": "weekly", "when": "schedule", "cron": "0 3 * * mon"},
        {"name": "alerted", "when": "alert", "alerts": ["GearshiftAccuracyLow"]},
    ],
}


def read(tmp_path: Path, document: Any, log: str = "") -> Any:
    file = tmp_path / "triggers.yaml"
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return read_triggers(file, log)


def test_every_field_finds_its_place(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE, "elsewhere")
    assert found.rules == (
        VolumeRule("new data", images=500, approved=10),
        AccuracyRule("accuracy", 0.93, certain=False),
        DriftRule("drift", ("watch", "retrain")),
        LatencyRule("slow", 100.0),
        ScheduleRule("weekly", "0 3 * * mon"),
        AlertRule("alerted", ("GearshiftAccuracyLow",)),
    )
    assert found.limits == Limits(1.0, 3, 0.5)
    assert found.launch == Launch(("gearshift", "retrain"))
    assert (found.log, found.state) == ("s3://bucket/log", Path("there"))


def test_a_short_file_has_defaults(tmp_path: Path) -> None:
    kubeflow = {"url": "http://ml-pipeline:8888", "pipeline_id": "p", "parameters": {"a": 1}}
    found = read(tmp_path, {"launch": {"kubeflow": kubeflow}, "rules": []}, "elsewhere")
    assert found.launch.kubeflow == KubeflowLaunch(
        "http://ml-pipeline:8888", "p", parameters={"a": 1}
    )
    assert (found.log, found.limits, found.rules) == ("elsewhere", Limits(), ())


def changed(**changes: Any) -> dict[str, Any]:
    return {**WHOLE, **changes}


def with_rule(**fields: Any) -> dict[str, Any]:
    return changed(rules=[{"name": "r", **fields}])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (changed(rulez=[]), "rulez: 'rulez' is not known; did you mean 'rules'?"),
        (changed(zzz=1), "'zzz' is not known; choose from launch, rules, log"),
        (changed(limits={"cooldown": 1}), "did you mean 'cooldown_hours'?"),
        (changed(limits={"per_day": 0}), "limits: per_day is 0; give 1 to 1000"),
        (changed(limits={"per_day": 1.5}), "limits.per_day is 1.5; give a whole number"),
        (changed(limits={"per_day": True}), "limits.per_day is True; give a whole number"),
        (changed(limits=[]), "limits is no mapping"),
        (changed(limits=None), "limits is no mapping"),
        (changed(log=5), "log is 5; give a text"),
        (changed(launch={}), "launch: give either command or kubeflow"),
        (changed(launch={"command": "gearshift retrain"}), "launch.command is 'gearshift retrain'"),
        (changed(launch={"command": [1]}), "launch.command[0] is 1; give a text"),
        (
            changed(launch={"command": ["x"], "kubeflow": {"url": "http://k", "pipeline_id": "p"}}),
            "either command or kubeflow",
        ),
        (changed(launch={"kubeflow": {"url": "k", "pipeline_id": "p"}}), "url is 'k'"),
        (changed(launch={"kubeflow": {"url": "http://k"}}), "pipeline_id is missing"),
        ({"rules": []}, "launch is missing"),
        (changed(rules={}), "rules is {}; give a list"),
        (changed(rules=[1]), "rules[0] is no mapping"),
        (changed(rules=[WHOLE["rules"][0]] * 2), "two are called 'new data'"),
        (with_rule(), "rules[0]: when is missing; choose of volume, accuracy"),
        (with_rule(when="volumes"), "did you mean 'volume'?"),
        (with_rule(when="volume"), "nothing is asked for"),
        (with_rule(when="volume", image=5), "did you mean 'images'?"),
        (with_rule(when="volume", images=-1), "images is -1"),
        (with_rule(when="accuracy", retained_below=93), "retained_below is 93.0; give 0 to 1"),
        (with_rule(when="accuracy", retained_below="x"), "retained_below is 'x'; give a number"),
        (with_rule(when="accuracy", retained_below=float("nan")), "give a number"),
        (with_rule(when="accuracy", certain="yes"), "give true or false"),
        (with_rule(when="drift", decisions=["retrian"]), "did you mean 'retrain'?"),
        (with_rule(when="drift", decisions=[]), "decisions is empty"),
        (with_rule(when="schedule", cron="0 3 * *"), "has 4 fields"),
        (with_rule(when="alert"), "alerts is empty"),
        (changed(rules=[{"name": "", "when": "drift"}]), "name is ''"),
        (changed(rules=[{"when": "drift"}]), "name is missing"),
        ("[1, 2]", "the file is no mapping"),
        ("", "the file is no mapping"),
        ("a: [", "is no YAML"),
        ("!!python/object/apply:os.system [true]", "is no YAML"),
        ("a: &a [*a]", "is not known"),
        ("x" * 1_100_000, "longer than"),
        ("\x00", "is no YAML"),
    ],
)
def test_a_slip_names_its_place_and_the_nearest_right_name(
    tmp_path: Path, document: Any, words: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, document)
    text = str(refused.value)
    assert words in text and "\n" not in text and text.startswith(str(tmp_path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_triggers(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("cron", "now", "latest"),
    [
        # 2026-11-21 is a Saturday.
        ("0 3 * * *", "2026-11-21 12:00", "2026-11-21 03:00"),
        ("0 3 * * *", "2026-11-21 02:59", "2026-11-20 03:00"),
        ("0 3 * * mon", "2026-11-21 12:00", "2026-11-16 03:00"),
        ("30 4 * * 7", "2026-11-21 12:00", "2026-11-15 04:30"),
        ("*/15 * * * *", "2026-11-21 12:44", "2026-11-21 12:30"),
        ("5/20 8-10 * * *", "2026-11-21 10:44", "2026-11-21 10:25"),
        ("0 0 1,15 * *", "2026-11-21 12:00", "2026-11-15 00:00"),
        ("0 0 31 * *", "2026-11-21 12:00", "2026-10-31 00:00"),
        ("0 0 29 feb *", "2026-11-21 12:00", "2024-02-29 00:00"),
        ("0 0 29 2 *", "2103-11-21 12:00", "2096-02-29 00:00"),  # 2100 has none
        # Either of the two days is enough: Friday the 20th, or a Thirteenth.
        ("0 0 13 * fri", "2026-11-21 12:00", "2026-11-20 00:00"),
        ("0 0 13 * fri", "2026-11-19 12:00", "2026-11-13 00:00"),
        ("59 23 31 dec *", "2027-01-01 00:00", "2026-12-31 23:59"),
        ("0 12 * * 1-5", "2026-11-21 12:00", "2026-11-20 12:00"),
    ],
)
def test_when_it_was_last_due(cron: str, now: str, latest: str) -> None:
    def moment(text: str) -> datetime:
        return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)

    assert latest_due(cron, moment(now)) == moment(latest)


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "a * * * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "0 0 31 feb *",
        "-1 * * * *",
        "1.5 * * * *",
        "* * * * monday",
        "1,,2 * * * *",
    ],
)
def test_what_is_no_schedule(cron: str) -> None:
    with pytest.raises(ConfigurationError, match="cron"):
        ScheduleRule("r", cron)
