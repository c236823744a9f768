"""Every alert fires at its numbers, and not just below; judged by Prometheus itself.

The series are written by hand in promtool's notation, one value a minute: ``0+19x120`` grows by 19
a minute for two hours. promtool's clock begins at 1970, so a timestamp is the minute times 60.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from foundation.errors import ConfigurationError
from inference_graph.control.monitoring.alerts import alert_rules
from inference_graph.control.monitoring.objectives import Objectives
from inference_graph.control.monitoring.rules import rule_groups, rules_text

pytestmark = pytest.mark.promtool

RUNBOOKS = Path(__file__).resolve().parents[4] / "manifests" / "monitoring" / "runbooks"
SHARES = "gearshift_routing_decisions_total"
MET = "gearshift_objective_frames_total"
UP = 'up{job="gearshift-gateway",instance="g"}'

Series = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """An alert, series under which it fires, and changes of them under which it does not."""

    alert: str
    at: str
    series: Series
    says: tuple[str, str]
    severity: str = "warning"
    labels: Mapping[str, str] = field(default_factory=dict)
    quiet: tuple[tuple[str, Series], ...] = ()


def routed(nano: float, small: float, large: float) -> Series:
    shares = {"nano": nano, "small": small, "large": large}
    return {f'{SHARES}{{rung="{rung}"}}': f"0+{number}x240" for rung, number in shares.items()}


def answered(good: str, bad: str) -> Series:
    return {
        f'{MET}{{source="stream",met="true"}}': good,
        f'{MET}{{source="stream",met="false"}}': bad,
    }


def looks(agreement: float, each_minute: float) -> Series:
    """Of every ten answers nine are not large's own."""
    return {
        "gearshift_shadow_agreement_ratio_count": f"0+{each_minute}x240",
        "gearshift_shadow_agreement_ratio_sum": f"0+{agreement * each_minute:g}x240",
        'gearshift_answers_total{rung="nano"}': "0+40x240",
        'gearshift_answers_total{rung="small"}': "0+50x240",
        'gearshift_answers_total{rung="large"}': "0+10x240",
    }


CASES = (
    Case(
        "GearshiftRoutingUnbalanced",
        "90m",
        routed(19, 40, 41),
        (
            "nano gets few frames",
            "nano got 19% of the frames of the last hour; 20% are expected of every rung.",
        ),
        labels={"rung": "nano"},
        quiet=(
            ("90m", routed(21, 39, 40)),
            ("90m", routed(0.19, 0.40, 0.41)),  # 60 frames an hour are too few
            ("14m", routed(19, 40, 41)),
        ),
    ),
    # 1 % may be late. Six good hours, then an hour of 15 %: more than 14.4 times as many.
    Case(
        "GearshiftLatencyBudgetBurnsFast",
        "420m",
        answered("0+100x360 36085+85x60", "0x360 15+15x60"),
        (
            "Answers are too slow",
            "15% of the answers were over the latency objective; at this rate the budget of 30 "
            "days (target 0.99) is gone within days.",
        ),
        severity="critical",
        quiet=(
            ("420m", answered("0+100x360 36086+86x60", "0x360 14+14x60")),
            # An hour ago it was bad; the five minutes show that it is over.
            ("420m", answered("0+100x300 30085+85x50 34350+100x10", "0x300 15+15x50 765x10")),
        ),
    ),
    # Neither hour is bad enough, but six are: 6.1 % against 6 %.
    Case(
        "GearshiftLatencyBudgetBurnsFast",
        "420m",
        answered("0+939x420", "0+61x420"),
        (
            "Answers are too slow",
            "6.1% of the answers were over the latency objective; at this rate the budget of 30 "
            "days (target 0.99) is gone within days.",
        ),
        severity="critical",
        quiet=(("420m", answered("0+941x420", "0+59x420")),),
    ),
    Case(
        "GearshiftLatencyBudgetBurnsSlow",
        "480m",
        answered("0+989x480", "0+11x480"),
        (
            "Answers are a little too slow, for days",
            "1.1% of the answers were over the latency objective for three days, which is more "
            "than the target of 0.99 allows.",
        ),
        quiet=(("480m", answered("0+991x480", "0+9x480")),),
    ),
    Case(
        "GearshiftFramesFail",
        "30m",
        {
            **routed(300, 300, 389),
            'gearshift_frame_errors_total{code="503"}': "0+5x60",
            'gearshift_frame_errors_total{code="504"}': "0+6x60",
        },
        ("Frames are not answered", "1.1% of the frames failed with a code of 500 or more."),
        severity="critical",
        quiet=(
            ("30m", {'gearshift_frame_errors_total{code="504"}': "0+4x60"}),
            # What clients do wrong is not counted.
            (
                "30m",
                {
                    'gearshift_frame_errors_total{code="503"}': "0x60",
                    'gearshift_frame_errors_total{code="400"}': "0+500x60",
                },
            ),
            ("5m", {}),
        ),
    ),
    Case(
        "GearshiftServiceErrors",
        "30m",
        {
            'gearshift_requests_total{model="nano",protocol="grpc",code="503"}': "0+11x60",
            'gearshift_requests_total{model="nano",protocol="grpc",code="200"}': "0+989x60",
            'gearshift_requests_total{model="small",protocol="grpc",code="200"}': "0+10x60",
        },
        ("nano answers with errors", "1.1% of the requests to nano failed."),
        labels={"model": "nano"},
        quiet=(
            (
                "30m",
                {'gearshift_requests_total{model="nano",protocol="grpc",code="503"}': "0+9x60"},
            ),
        ),
    ),
    Case(
        "GearshiftFramesDropped",
        "60m",
        {"gearshift_frames_dropped_total": "0+21x120", **routed(26, 26, 27)},
        (
            "Streams send faster than they are answered",
            "21% of the frames were dropped for a newer one.",
        ),
        quiet=(
            ("60m", {"gearshift_frames_dropped_total": "0+19x120"}),
            ("60m", {"gearshift_frames_dropped_total": "0+0.3x120", **routed(0.3, 0.3, 0.4)}),
        ),
    ),
    # 1 - (1 - 0.75) * 90 / 100
    Case(
        "GearshiftAccuracyLow",
        "90m",
        looks(0.75, 2),
        (
            "The chosen rungs see less than large would",
            "77.5% of large's accuracy was retained within the last hour, as the shadow measures "
            "it; 80% are expected.",
        ),
        quiet=(("90m", looks(0.78, 2)), ("90m", looks(0.75, 1.6))),  # 0.802; 96 looks
    ),
    Case(
        "GearshiftRungDown",
        "8m",
        {'gearshift_rung_up{rung="small"}': "1x5 0x5", 'gearshift_rung_up{rung="nano"}': "1x10"},
        (
            "small is left alone",
            "No frames go to small, because it failed or was late; its neighbours answer in its "
            "place.",
        ),
        severity="critical",
        labels={"rung": "small"},
        quiet=(("8m", {'gearshift_rung_up{rung="small"}': "1x7 0x5"}),),
    ),
    Case(
        "GearshiftFallbacksHigh",
        "60m",
        {'gearshift_fallbacks_total{reason="late"}': "0+6x60", **routed(30, 30, 40)},
        (
            "Other rungs answer than the ones chosen",
            "6% of the frames were answered by another rung than the policy chose.",
        ),
        quiet=(("60m", {'gearshift_fallbacks_total{reason="late"}': "0+4x60"}),),
    ),
    Case(
        "GearshiftLogStalled",
        "5m",
        {'gearshift_log_last_flush_timestamp_seconds{instance="g"}': "0x10"},
        (
            "The prediction log does not reach the disk",
            "g last stored its rows 5m 0s ago; answers go on, and are lost for the log once its "
            "queue is full.",
        ),
        severity="critical",
        labels={"instance": "g"},
        quiet=(
            # Always a minute behind, and no more.
            ("5m", {'gearshift_log_last_flush_timestamp_seconds{instance="g"}': "-60+60x10"}),
            ("2m", {}),
        ),
    ),
    Case(
        "GearshiftLogRowsLost",
        "10m",
        {
            'gearshift_log_dropped_total{instance="g"}': "0x5 2x10",
            'gearshift_log_refused_total{instance="g"}': "0x5 1x10",
            'gearshift_log_set_aside_total{instance="g"}': "0x5 2x10",
        },
        (
            "Rows of the prediction log are lost",
            "5 rows or files of rows of the last ten minutes are in no log.",
        ),
        labels={"instance": "g"},
        quiet=(
            (
                "10m",
                {
                    'gearshift_log_dropped_total{instance="g"}': "7x15",
                    'gearshift_log_refused_total{instance="g"}': "0x15",
                    'gearshift_log_set_aside_total{instance="g"}': "3x15",
                },
            ),
        ),
    ),
    Case(
        "GearshiftLogUnpublished",
        "200m",
        {
            'gearshift_log_last_publication_timestamp_seconds{instance="g"}': "0x220",
            'gearshift_log_backlog_bytes{instance="g"}': "100x220",
        },
        (
            "The prediction log does not reach its place",
            "g last published 3h 20m 0s ago; rows wait on its local disk.",
        ),
        labels={"instance": "g"},
        quiet=(
            ("195m", {}),  # 121 minutes, then 75 more
            ("200m", {'gearshift_log_backlog_bytes{instance="g"}': "0x220"}),
        ),
    ),
    Case(
        "GearshiftKafkaDisconnected",
        "8m",
        {'gearshift_kafka_up{instance="w"}': "1x5 0x5"},
        (
            "A worker reads no frames from Kafka",
            "w is not connected to its brokers; its /readyz gives the reason.",
        ),
        severity="critical",
        labels={"instance": "w"},
        quiet=(("8m", {'gearshift_kafka_up{instance="w"}': "1x7 0x5"}),),
    ),
    # 60 messages a minute are settled by two workers, and 45 wait: 45 s.
    Case(
        "GearshiftKafkaLag",
        "20m",
        {
            'gearshift_kafka_lag_messages{instance="w",topic="frames"}': "40x30",
            'gearshift_kafka_lag_messages{instance="v",topic="frames"}': "5x30",
            'gearshift_kafka_messages_total{instance="w",outcome="answered"}': "0+48x30",
            'gearshift_kafka_messages_total{instance="v",outcome="skipped"}': "0+12x30",
        },
        (
            "Frames wait in Kafka",
            "At the present rate the workers need 45s for the messages that wait; 30 s are "
            "allowed.",
        ),
        quiet=(
            ("20m", {'gearshift_kafka_lag_messages{instance="w",topic="frames"}': "24x30"}),
            ("5m", {}),
            # Nothing comes and nothing waits.
            (
                "20m",
                {
                    'gearshift_kafka_lag_messages{instance="w",topic="frames"}': "0x30",
                    'gearshift_kafka_lag_messages{instance="v",topic="frames"}': "0x30",
                    'gearshift_kafka_messages_total{instance="w",outcome="answered"}': "0x30",
                    'gearshift_kafka_messages_total{instance="v",outcome="skipped"}': "0x30",
                },
            ),
        ),
    ),
    Case(
        "GearshiftKafkaLag",
        "20m",
        {
            'gearshift_kafka_lag_messages{instance="w",topic="frames"}': "1x30",
            'gearshift_kafka_messages_total{instance="w",outcome="answered"}': "7x30",
        },
        (
            "Frames wait in Kafka",
            "At the present rate the workers need +Inf for the messages that wait; 30 s are "
            "allowed.",
        ),
    ),
    # Of 100 answers a minute 6 are between 30 and 60 s old; the 95th is a sixth of the way.
    Case(
        "GearshiftKafkaFramesOld",
        "20m",
        {
            'gearshift_kafka_age_seconds_bucket{instance="w",le="30"}': "0+94x30",
            'gearshift_kafka_age_seconds_bucket{instance="w",le="60"}': "0+100x30",
            'gearshift_kafka_age_seconds_bucket{instance="w",le="+Inf"}': "0+100x30",
        },
        (
            "Frames from Kafka are answered late",
            "One answer of twenty comes 35s or more after its frame was captured; 30 s are "
            "allowed.",
        ),
        quiet=(
            ("20m", {'gearshift_kafka_age_seconds_bucket{instance="w",le="30"}': "0+96x30"}),
            ("5m", {}),
        ),
    ),
    Case(
        "GearshiftTargetDown",
        "8m",
        {UP: "1x10", 'up{job="gearshift-services",instance="s"}': "1x5 0x5"},
        (
            "gearshift-services cannot be watched",
            "s of gearshift-services does not answer Prometheus; the gateway says in /readyz "
            "whether frames are answered.",
        ),
        severity="critical",
        labels={"job": "gearshift-services", "instance": "s"},
        quiet=(
            ("8m", {'up{job="gearshift-services",instance="s"}': "1x7 0x5"}),
            ("8m", {'up{job="gearshift-services",instance="s"}': "1x10", 'up{job="x"}': "0x10"}),
        ),
    ),
    Case(
        "GearshiftTargetDown",
        "3m",
        {'up{job="gearshift-services",instance="s"}': "1x10"},
        (
            "gearshift-gateway cannot be watched",
            " of gearshift-gateway does not answer Prometheus; the gateway says in /readyz "
            "whether frames are answered.",
        ),
        severity="critical",
        labels={"job": "gearshift-gateway"},
        quiet=(("3m", {UP: "1x10"}),),
    ),
)


def unit_test(case: Case, at: str, series: Series, fires: bool) -> dict[str, Any]:
    expected = {
        "exp_labels": {"severity": case.severity, **case.labels},
        "exp_annotations": {
            "summary": case.says[0],
            "description": case.says[1],
            "runbook_url": f"https://runbooks/{case.alert}.md",
        },
    }
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {
                "alertname": case.alert,
                "eval_time": at,
                "exp_alerts": [expected] if fires else [],
            }
        ],
    }


def promtool(folder: Path, objectives: Objectives, tests: list[dict[str, Any]]) -> None:
    (folder / "rules.yaml").write_text(rules_text(objectives))
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (folder / "tests.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_it_fires_and_not_just_below(case: Case, tmp_path: Path) -> None:
    tests = [unit_test(case, case.at, case.series, True)]
    tests += [unit_test(case, at, {**case.series, **change}, False) for at, change in case.quiet]
    promtool(tmp_path, replace(Objectives(), runbooks="https://runbooks"), tests)


def test_two_platforms_do_not_mix(tmp_path: Path) -> None:
    """With the operator's label, the one's silence does not hide behind the other's frames."""
    case = next(one for one in CASES if one.alert == "GearshiftRoutingUnbalanced")
    series = {
        f'{SHARES}{{namespace="{place}",rung="{rung}"}}': f"0+{number}x120"
        for place, shares in {
            "a": {"nano": 19, "small": 40, "large": 41},
            "b": {"nano": 400, "small": 300, "large": 300},
        }.items()
        for rung, number in shares.items()
    }
    one = replace(case, labels={"namespace": "a", "rung": "nano"})
    tests = [unit_test(one, "90m", series, True)]
    promtool(tmp_path, replace(Objectives(), runbooks="https://runbooks"), tests)


def test_a_canary_stands_beside_the_revision_in_use(tmp_path: Path) -> None:
    """Of 600 requests a minute 5 % are the canary's; a tenth of those fail, and it is slower."""

    def of(track: str, code: str = "", component: str = "predictor") -> str:
        more = f',code="{code}"' if code else ""
        return f'{{service="small",component="{component}",track="{track}"{more}}}'

    series = {
        f"gearshift_requests_total{of('stable', '200')}": "0+570x10",
        f"gearshift_requests_total{of('canary', '200')}": "0+27x10",
        f"gearshift_requests_total{of('canary', '503')}": "0+3x10",
        # A transformer is asked of the same frames; it must not count twice.
        f"gearshift_requests_total{of('stable', '200', 'transformer')}": "0+600x10",
        f"gearshift_request_seconds_sum{of('stable')}": "0+57x10",
        f"gearshift_request_seconds_count{of('stable')}": "0+570x10",
        f"gearshift_request_seconds_sum{of('canary')}": "0+6x10",
        f"gearshift_request_seconds_count{of('canary')}": "0+30x10",
    }
    expected = {
        "gearshift:service_requests:rate5m": {"stable": 9.5, "canary": 0.5},
        "gearshift:service_requests_failed:ratio_rate5m": {"stable": 0.0, "canary": 0.1},
        "gearshift:service_request_seconds:mean5m": {"stable": 0.1, "canary": 0.2},
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'round({name}{{service="small",track="{track}"}}, 0.0001)',
                "eval_time": "8m",
                "exp_samples": [
                    {"labels": f'{{service="small", track="{track}"}}', "value": value}
                ],
            }
            for name, values in expected.items()
            for track, value in values.items()
        ],
    }
    promtool(tmp_path, Objectives(), [test])


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rules_text(Objectives()))
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_has_its_runbook() -> None:
    names = {rule["alert"] for rule in alert_rules(Objectives())}
    assert names == {case.alert for case in CASES}
    assert names == {path.stem for path in RUNBOOKS.glob("*.md")}
    for name in names:
        text = (RUNBOOKS / f"{name}.md").read_text("utf-8")
        assert text.startswith(f"# {name}\n")
        for heading in ("## What it means", "## How to look", "## What to do"):
            assert heading in text, (name, heading)


def test_what_is_off_is_left_out() -> None:
    off = replace(Objectives(), routing_floor=0.0, accuracy_floor=0.0)
    names = {rule["alert"] for rule in alert_rules(Objectives())}
    assert names - {rule["alert"] for rule in alert_rules(off)} == {
        "GearshiftRoutingUnbalanced",
        "GearshiftAccuracyLow",
    }


def test_another_target_has_another_budget(tmp_path: Path) -> None:
    """0.1 % may be late; 1.5 % is more than 14.4 times that, 1.4 % is not."""
    case = replace(
        next(one for one in CASES if one.alert == "GearshiftLatencyBudgetBurnsFast"),
        says=(
            "Answers are too slow",
            "1.5% of the answers were over the latency objective; at this rate the budget of 30 "
            "days (target 0.999) is gone within days.",
        ),
    )
    objectives = Objectives(latency_target=0.999, runbooks="https://runbooks")
    fast = answered("0+1000x360 360985+985x60", "0x360 15+15x60")
    slower = answered("0+1000x360 360986+986x60", "0x360 14+14x60")
    tests = [unit_test(case, "420m", fast, True), unit_test(case, "420m", slower, False)]
    promtool(tmp_path, objectives, tests)


def test_names_are_unique_and_rules_stand_before_their_readers() -> None:
    (group,) = rule_groups(Objectives())["groups"]
    recorded: list[str] = []
    known = {rule["record"] for rule in group["rules"] if "record" in rule}
    for rule in group["rules"]:
        used = {name for name in known if name in rule["expr"]}
        assert used <= set(recorded), rule
        recorded += [rule["record"]] if "record" in rule else []
    assert len(recorded) == len(set(recorded)) == len(known)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"routing_floor": 0.5}, "routing_floor is 0.5; give 0 to 0.33"),
        ({"latency_target": 1.0}, "latency_target is 1.0"),
        ({"error_ceiling": float("nan")}, "error_ceiling is nan"),
        ({"least_frames": 0}, "least_frames is 0"),
        ({"runbooks": "{{ $x }}"}, "runbooks is"),
    ],
)
def test_objectives_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("{", "\\{").replace("$", "\\$")):
        replace(Objectives(), **change)


def test_the_readme_lists_every_alert_with_its_severity() -> None:
    text = (RUNBOOKS.parent / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| (\w+) \|", text, re.MULTILINE)
    rules = alert_rules(Objectives())
    assert dict(listed) == {rule["alert"]: rule["labels"]["severity"] for rule in rules}
