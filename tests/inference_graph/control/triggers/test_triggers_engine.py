"""Deciding and launching, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from processes import environment, until
from trigger_samples import NOON, config, kubeflow, python, row, write_log
from webhook_server import webhook_server

from foundation.audit_log import AuditLog, read_entries, verify
from foundation.errors import ConfigurationError, InvalidInput
from inference_graph.control.triggers.audit import AUDIT_FILE, LaunchOutcome, read_audit
from inference_graph.control.triggers.config import (
    KubeflowLaunch,
    Launch,
    Limits,
    ScheduleRule,
    TriggersConfig,
    VolumeRule,
)
from inference_graph.control.triggers.engine import Triggers
from inference_graph.control.triggers.evidence import Evidence
from inference_graph.control.triggers.launch import Slot
from inference_graph.control.triggers.watch import watch


def asks(key: str = "k", rule: str = "r") -> Evidence:
    return Evidence(rule, "request", True, key, "somebody asked", {"n": 1})


def outcome(given: TriggersConfig, number: int = 0) -> LaunchOutcome:
    """The outcome of a launch, once it is there."""

    def ended() -> bool:
        return len(read_audit(given.state).outcomes) > number

    until(ended)
    return read_audit(given.state).outcomes[number]


class TestDeciding:
    def test_the_same_evidence_never_fires_twice(self, tmp_path: Path) -> None:
        triggers = Triggers(config(tmp_path))
        first = triggers.decide(asks(), "anna", NOON)
        assert (first.fired, first.reason) == (True, "somebody asked")
        outcome(triggers.config)
        later = NOON + timedelta(days=30)
        again = triggers.decide(asks(), "bert", later)
        assert (again.fired, again.verdict, again.launch) == (False, "known", "")
        assert f"launch {first.launch} of 2026-11-21 12:00 UTC was for this" in again.reason
        assert triggers.decide(asks("other"), "bert", later).fired
        outcome(triggers.config, 1)

    def test_what_is_not_met_does_not_fire(self, tmp_path: Path) -> None:
        triggers = Triggers(config(tmp_path))
        decision = triggers.decide(Evidence("r", "volume", False, "", "too few"), "rules", NOON)
        assert (decision.verdict, decision.reason) == ("not met", "too few")

    def test_the_cool_down(self, tmp_path: Path) -> None:
        triggers = Triggers(config(tmp_path, limits=Limits(cooldown_hours=6, per_day=100)))
        assert triggers.decide(asks("a"), "anna", NOON).fired
        outcome(triggers.config)
        early = triggers.decide(asks("b"), "anna", NOON + timedelta(hours=5, minutes=59))
        assert (early.verdict, "lasts until 2026-11-21 18:00 UTC" in early.reason) == (
            "cool-down",
            True,
        )
        # What was refused may fire later: it never did.
        assert triggers.decide(asks("b"), "anna", NOON + timedelta(hours=6)).fired
        outcome(triggers.config, 1)

    def test_the_daily_cap(self, tmp_path: Path) -> None:
        triggers = Triggers(config(tmp_path, limits=Limits(cooldown_hours=0, per_day=2)))
        for number in range(2):
            assert triggers.decide(asks(f"k{number}"), "anna", NOON).fired
            outcome(triggers.config, number)
        third = triggers.decide(asks("k2"), "anna", NOON + timedelta(hours=11))
        assert (third.verdict, "2 launches today" in third.reason) == ("daily cap", True)
        assert triggers.decide(asks("k2"), "anna", NOON + timedelta(hours=12)).fired
        outcome(triggers.config, 2)

    def test_one_at_a_time_over_processes(self, tmp_path: Path) -> None:
        go = tmp_path / "go"
        wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)"
        given = config(tmp_path, command=python(wait))
        assert Triggers(given).decide(asks("a"), "anna", NOON).fired
        busy = Triggers(given).decide(asks("b"), "anna", NOON)
        assert (busy.verdict, "still runs" in busy.reason) == ("busy", True)
        go.touch()
        assert outcome(given).outcome == "succeeded"

        def free() -> bool:
            return Triggers(given).decide(asks("b"), "anna", NOON).fired

        until(free)
        outcome(given, 1)

    def test_many_at_once_launch_one(self, tmp_path: Path) -> None:
        go = tmp_path / "go"
        wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)"
        given = config(tmp_path, command=python(wait))
        decisions: list[Any] = []

        def ask(number: int) -> None:
            decisions.append(Triggers(given).decide(asks(f"k{number}"), "anna", NOON))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        go.touch()
        assert sorted(one.verdict for one in decisions) == ["busy"] * 7 + ["fired"]
        outcome(given)
        assert len(read_audit(given.state).launches) == 1


class TestAudit:
    def test_launches_and_outcomes_are_in_the_audit_log_too(self, tmp_path: Path) -> None:
        given, log = config(tmp_path), AuditLog(tmp_path / "audit.jsonl")
        decision = Triggers(given, log).decide(asks(), "anna", NOON)
        assert not Triggers(given, log).decide(asks(), "bert", NOON).fired  # and not recorded
        ended = outcome(given)
        launch, end = until(lambda: (found := read_entries(log.path))[1:] and found)
        assert (launch.who, launch.what, launch.about) == ("anna", "trigger.launch", "r")
        assert launch.figures["launch"] == end.about == decision.launch
        assert (launch.figures["reason"], launch.figures["n"]) == ("somebody asked", 1)
        assert (end.what, end.figures["outcome"]) == ("trigger.outcome", ended.outcome)
        assert verify(log.path).sound

    def test_each_decision_is_a_line_with_who_when_and_why(self, tmp_path: Path) -> None:
        given = config(tmp_path)
        decision = Triggers(given).decide(asks(), "anna", NOON)
        outcome(given)
        lines = [json.loads(line) for line in (given.state / AUDIT_FILE).read_text().splitlines()]
        assert lines[0] == {
            "kind": "decision",
            "time": "2026-11-21T12:00:00+00:00",
            "decision": decision.decision,
            "rule": "r",
            "when": "request",
            "key": "k",
            "who": "anna",
            "verdict": "fired",
            "fired": True,
            "reason": "somebody asked",
            "figures": {"n": 1},
            "launch": decision.launch,
        }
        assert (lines[1]["kind"], lines[1]["launch"]) == ("outcome", decision.launch)
        assert (lines[1]["outcome"], lines[1]["detail"]) == ("succeeded", "exit code 0")
        assert read_audit(given.state).decisions == (decision,)

    def test_the_same_refusal_is_written_once(self, tmp_path: Path) -> None:
        given = config(tmp_path, limits=Limits(cooldown_hours=6))
        triggers = Triggers(given)
        triggers.decide(asks("a"), "rules", NOON)
        outcome(given)
        for minute in range(5):
            triggers.decide(asks("b"), "rules", NOON + timedelta(minutes=minute))
            no = Evidence("r", "request", False, "", f"{minute} of 9 frames")
            if minute == 3:
                triggers.decide(no, "rules", NOON + timedelta(minutes=minute))
        verdicts = [one.verdict for one in read_audit(given.state).decisions]
        assert verdicts == ["fired", "cool-down", "not met", "cool-down"]

    def test_a_launch_that_vanished_is_reported(self, tmp_path: Path) -> None:
        given = config(tmp_path, command=python("import time; time.sleep(600)"))
        decision = Triggers(given).decide(asks("a"), "anna", NOON)
        # The runner and its command.
        until(lambda: len(pids_with(decision.launch)) == 2)
        for process in pids_with(decision.launch):
            os.kill(process, signal.SIGKILL)

        short = config(tmp_path)

        def fired() -> bool:
            return Triggers(short).decide(asks("b"), "anna", NOON).fired

        until(fired)
        first = read_audit(given.state).outcomes[0]
        assert (first.launch, first.outcome) == (decision.launch, "unknown")
        assert outcome(given, 1).outcome == "succeeded"

    def test_a_runner_that_is_asked_to_end_ends_its_command(self, tmp_path: Path) -> None:
        alive = tmp_path / "alive"
        code = (
            f"import os, time; open({str(alive)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
        )
        given = config(tmp_path, command=python(code))
        decision = Triggers(given).decide(asks(), "anna", NOON)
        command = int(until(lambda: alive.exists() and alive.read_text()))
        (runner,) = (pid for pid in pids_with(decision.launch) if pid != command)
        os.kill(runner, signal.SIGTERM)
        assert outcome(given).outcome == "ended"
        until(lambda: not Path(f"/proc/{command}").exists())

    def test_a_damaged_line_is_named(self, tmp_path: Path) -> None:
        given = config(tmp_path)
        given.state.mkdir()
        (given.state / AUDIT_FILE).write_text('{"kind": "decision"}\n')
        with pytest.raises(InvalidInput, match="audit.jsonl line 1 is none of an audit"):
            Triggers(given).decide(asks(), "anna", NOON)


def free(given: TriggersConfig) -> bool:
    """Whether the slot is free."""
    with Slot(given.state) as slot:
        return slot.free


def pids_with(launch: str) -> list[int]:
    """Processes that have a launch in their command or environment."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            words = (one / "cmdline").read_bytes() + (one / "environ").read_bytes()
        except OSError:
            continue
        if launch.encode() in words:
            found.append(int(one.name))
    return found


class TestLaunching:
    def test_no_shell_reads_the_command_and_it_knows_why(self, tmp_path: Path) -> None:
        out = tmp_path / "out.json"
        code = (
            "import json, os, sys; json.dump([sys.argv[1:], os.environ['GEARSHIFT_TRIGGER_RULE'],"
            f" os.environ['GEARSHIFT_TRIGGER_REASON']], open({str(out)!r}, 'w')); print('hello')"
        )
        hostile = "; touch /tmp/x && $(id) `id` | cat"
        given = config(tmp_path, command=(*python(code), hostile))
        decision = Triggers(given).decide(asks(rule="a 'rule'"), "anna", NOON)
        assert outcome(given).outcome == "succeeded"
        assert json.loads(out.read_text()) == [[hostile], "a 'rule'", "somebody asked"]
        log = given.state / "launches" / f"{decision.launch}.log"
        assert log.read_text().startswith("hello\n")

    @pytest.mark.parametrize(
        ("command", "hours", "word", "detail"),
        [
            (python("raise SystemExit(3)"), 1.0, "failed", "exit code 3"),
            (("no-such-program",), 1.0, "failed", "there is no program 'no-such-program'"),
            (python("import time; time.sleep(600)"), 0.0003, "timed out", "ended after"),
        ],
    )
    def test_how_it_ended_is_reported(
        self,
        tmp_path: Path,
        command: tuple[str, ...],
        hours: float,
        word: str,
        detail: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with webhook_server() as webhook:
            monkeypatch.setenv("GEARSHIFT_WEBHOOK", webhook.url)
            limits = Limits(cooldown_hours=0, per_day=9, timeout_hours=hours)
            given = config(tmp_path, command=command, limits=limits)
            decision = Triggers(given).decide(asks(), "anna", NOON)
            found = outcome(given)
            assert (found.launch, found.outcome) == (decision.launch, word)
            assert detail in found.detail and found.seconds >= 0
            (reported,) = webhook.wait(1)
        assert reported.body["title"] == f"A triggered launch {word}"
        assert reported.body["fields"]["reason"] == "somebody asked"

    def test_it_outlives_who_started_it(self, tmp_path: Path) -> None:
        go = tmp_path / "go"
        wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)"
        given = config(tmp_path, command=python(wait))
        program = (
            "import sys; from pathlib import Path; from trigger_samples import config, NOON\n"
            "from inference_graph.control.triggers.engine import Triggers\n"
            "from inference_graph.control.triggers.evidence import Evidence\n"
            f"given = config(Path({str(tmp_path)!r}), command={given.launch.command!r})\n"
            "asks = Evidence('r', 'request', True, 'k', 'why')\n"
            "assert Triggers(given).decide(asks, 'anna', NOON).fired\n"
        )
        subprocess.run(
            [sys.executable, "-c", program],
            env=environment(),
            check=True,
            timeout=120,
        )
        assert Triggers(given).decide(asks("b"), "anna", NOON).verdict == "busy"
        go.touch()
        assert outcome(given).outcome == "succeeded"


class TestKubeflow:
    @staticmethod
    def launch(folder: Path, url: str, **more: Any) -> TriggersConfig:
        options: dict[str, Any] = {"url": url, "pipeline_id": "p", "poll_seconds": 0.05}
        target = KubeflowLaunch(**(options | more))
        return config(folder, launch=Launch(kubeflow=target))

    def test_a_run_is_made_and_followed(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("secret\n")
        with kubeflow() as server:
            given = self.launch(
                tmp_path,
                server.url + "/",
                version_id="v",
                experiment_id="e",
                parameters={"hours": 6},
                token_file=tmp_path / "token",
            )
            decision = Triggers(given).decide(asks(), "anna", NOON)
            found = outcome(given)
        assert (found.outcome, found.detail) == ("succeeded", "run run-1: succeeded")
        assert server.created == [
            {
                "display_name": f"trigger-{decision.launch}",
                "description": "r: somebody asked",
                "experiment_id": "e",
                "pipeline_version_reference": {"pipeline_id": "p", "pipeline_version_id": "v"},
                "runtime_config": {"parameters": {"hours": 6}},
            }
        ]
        assert server.tokens == ["Bearer secret"]

    def test_a_run_of_one_user_of_several_is_of_an_experiment_of_theirs(
        self, tmp_path: Path
    ) -> None:
        """Kubeflow then has no default experiment, and knows a run's namespace by its own."""
        with kubeflow() as server:
            server.experiments.append(
                {"display_name": "gearshift", "namespace": "others", "experiment_id": "theirs"}
            )
            for place in ("first", "second"):
                given = self.launch(
                    tmp_path / place, server.url, experiment="gearshift", namespace="fleet"
                )
                Triggers(given).decide(asks(), "anna", NOON)
                assert outcome(given).outcome == "succeeded"
        made = [one for one in server.experiments if one["namespace"] == "fleet"]
        assert [one["display_name"] for one in made] == ["gearshift"]  # once
        assert [one["experiment_id"] for one in server.created] == [made[0]["experiment_id"]] * 2
        with pytest.raises(ConfigurationError, match="namespace has no experiment"):
            self.launch(tmp_path, server.url, namespace="fleet")

    def test_a_run_that_fails_states_why(self, tmp_path: Path) -> None:
        with kubeflow() as server:
            server.states = ["RUNNING", "FAILED"]
            given = self.launch(tmp_path, server.url)
            Triggers(given).decide(asks(), "anna", NOON)
            found = outcome(given)
        assert (found.outcome, found.detail) == (
            "failed",
            "run run-1: failed: the step clone failed",
        )

    def test_a_run_that_is_refused_or_cannot_be_asked_for(self, tmp_path: Path) -> None:
        with kubeflow() as server:
            server.refuse = 404
            given = self.launch(tmp_path, server.url)
            Triggers(given).decide(asks("a"), "anna", NOON)
            refused = outcome(given)
        assert refused.outcome == "failed"
        assert "answers 404 to POST /apis/v2beta1/runs" in refused.detail
        assert "no such pipeline" in refused.detail
        away = self.launch(tmp_path / "away", server.url)
        Triggers(away).decide(asks("b"), "anna", NOON)
        assert "Kubeflow does not answer" in outcome(away).detail

    def test_a_run_whose_runner_is_gone_is_followed_on(self, tmp_path: Path) -> None:
        with kubeflow() as server:
            server.states = ["RUNNING"]
            given = self.launch(tmp_path, server.url)
            decision = Triggers(given).decide(asks("a"), "anna", NOON)
            run = given.state / "launches" / f"{decision.launch}.run"
            until(run.exists)
            for process in pids_with(decision.launch):
                os.kill(process, signal.SIGKILL)
            # A process that was killed keeps its slot for a moment after its name is gone.
            until(lambda: free(given))
            # The slot is free, but the run goes on.
            assert Triggers(given).decide(asks("b"), "anna", NOON).verdict == "busy"
            server.states = ["SUCCEEDED"]
            found = outcome(given)
        assert (found.launch, found.detail) == (decision.launch, "run run-1: succeeded")
        assert len(server.created) == 1

    def test_a_run_that_takes_too_long_is_ended(self, tmp_path: Path) -> None:
        with kubeflow() as server:
            server.states = ["RUNNING"]
            given = self.launch(tmp_path, server.url)
            given = TriggersConfig(**{**vars(given), "limits": Limits(0, 9, timeout_hours=0.0003)})
            Triggers(given).decide(asks(), "anna", NOON)
            assert outcome(given).outcome == "timed out"
        assert server.terminated == ["/apis/v2beta1/runs/run-1:terminate"]


class TestChecking:
    def test_each_rule_is_weighed_and_one_launches(self, tmp_path: Path) -> None:
        given = config(
            tmp_path,
            VolumeRule("much", frames=3),
            VolumeRule("more", frames=4),
            ScheduleRule("noon", "0 12 * * *"),
            limits=Limits(cooldown_hours=1),
        )
        before = NOON - timedelta(minutes=1)
        write_log(tmp_path, [row(number, time=before) for number in range(3)])
        decisions = Triggers(given).check(NOON)
        assert [(one.rule, one.verdict) for one in decisions] == [
            ("much", "fired"),
            ("more", "not met"),
            ("noon", decisions[2].verdict),
        ]
        assert decisions[2].verdict in ("busy", "cool-down")
        outcome(given)
        again = Triggers(given).check(NOON + timedelta(minutes=1))
        assert [one.verdict for one in again] == ["not met", "not met", "cool-down"]

    def test_the_loop_tells_news_once_and_survives_failures(self, tmp_path: Path) -> None:
        given = config(tmp_path, VolumeRule("much", frames=2))
        ending = threading.Event()
        news: list[str] = []
        failures: list[str] = []
        arguments = (
            Triggers(given),
            0.05,
            ending,
            lambda one: news.append(one.verdict),
            failures.append,
        )
        thread = threading.Thread(target=watch, args=arguments)
        given.state.mkdir()
        broken = given.state / AUDIT_FILE
        broken.write_text("x\n")
        thread.start()
        try:
            until(lambda: failures)
            broken.unlink()
            until(lambda: news)
            write_log(tmp_path, [row(number) for number in range(2)])
            until(lambda: "fired" in news)
            outcome(given)
        finally:
            ending.set()
            thread.join()
        assert (len(failures), news[:2]) == (1, ["not met", "fired"])


def test_triggers_import_no_framework() -> None:
    code = (
        "import sys, inference_graph.control.triggers.__main__\n"
        "import inference_graph.control.triggers.watch\n"
        "heavy = {'kfp', 'torch', 'pandas', 'mlflow', 'kserve', 'fastapi'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, timeout=120)
