"""``triggers.yaml``: the rules, what they launch, and how often at most.

::

    log: runs/up/log                       # the prediction log the rules look at
    drift: runs/drift                      # folder of the drift check, with state.json
    feedback: runs/feedback/decisions.jsonl
    state: runs/triggers                   # audit.jsonl, and what launches print
    limits: {cooldown_hours: 6, per_day: 2, timeout_hours: 12}
    launch:
      command: [gearshift, retrain, --log, runs/up/log]     # or kubeflow: {...}
    rules:
      - {name: new data, when: volume, images: 500}
      - {name: accuracy, when: accuracy, retained_below: 0.93}
      - {name: drift, when: drift}
      - {name: slow, when: latency, p95_ms: 250}
      - {name: weekly, when: schedule, cron: 0 3 * * mon}
      - {name: alerted by Prometheus, when: alert, alerts: [GearshiftAccuracyLow]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from foundation.addresses import split_address
from foundation.configuration import Share, configuration
from foundation.errors import ConfigurationError
from inference_graph.control.triggers.cron import latest_due

_HOURS = 24 * 365.0


@configuration
class Rule:
    """What every rule has.

    Attributes:
        name: unique among the rules; stands in the audit.
    """

    when: ClassVar[str] = ""
    name: str

    def __post_init__(self) -> None:
        """Refuse a name that is none.

        Raises:
            ConfigurationError: it is empty, or longer than 100 characters.
        """
        if not self.name.strip() or len(self.name) > 100 or not self.name.isprintable():
            raise ConfigurationError(f"name is {self.name[:40]!r}; give 1 to 100 characters")


@configuration
class VolumeRule(Rule):
    """Enough data came since the last launch; everything that is asked for has to be there.

    Attributes:
        frames: answers in the log.
        images: answers whose frame the log keeps, which is what retraining can learn from.
        approved: pieces of feedback that were approved.
    """

    when: ClassVar[str] = "volume"
    frames: Annotated[int, Field(ge=0, le=10**12)] = 0
    images: Annotated[int, Field(ge=0, le=10**12)] = 0
    approved: Annotated[int, Field(ge=0, le=10**12)] = 0

    def __post_init__(self) -> None:
        """Refuse a rule that asks for nothing."""
        super().__post_init__()
        if not (self.frames or self.images or self.approved):
            raise ConfigurationError("nothing is asked for; give frames, images or approved")


@configuration
class AccuracyRule(Rule):
    """Too little of the reference's accuracy was retained, as the shadow measures it.

    Attributes:
        retained_below: the floor, 0 to 1.
        hours: length of the window that is looked at; it never reaches behind the last launch.
        shadowed: frames the shadow has to have looked at.
        certain: whether the whole 95 % interval has to lie below the floor.
    """

    when: ClassVar[str] = "accuracy"
    retained_below: Share = 0.9
    hours: Annotated[float, Field(ge=0.01, le=_HOURS)] = 24.0
    shadowed: Annotated[int, Field(ge=2, le=10**9)] = 200
    certain: bool = True


@configuration
class LatencyRule(Rule):
    """Answers took too long.

    Attributes:
        p95_ms: the ceiling of the 95th percentile, milliseconds from arrival to answer.
        hours: length of the window that is looked at; it never reaches behind the last launch.
        frames: answers that have to be in it.
    """

    when: ClassVar[str] = "latency"
    p95_ms: Annotated[float, Field(ge=0.1, le=10**7)] = 250.0
    hours: Annotated[float, Field(ge=0.01, le=_HOURS)] = 1.0
    frames: Annotated[int, Field(ge=2, le=10**9)] = 1000


@configuration
class DriftRule(Rule):
    """The last drift check decided so.

    Attributes:
        decisions: of "none", "watch", "retrain" and "unknown".
        max_age_hours: an older check does not count.
    """

    when: ClassVar[str] = "drift"
    decisions: tuple[Literal["none", "watch", "retrain", "unknown"], ...] = ("retrain",)
    max_age_hours: Annotated[float, Field(ge=0.01, le=_HOURS)] = 24.0

    def __post_init__(self) -> None:
        """Refuse a rule without a decision."""
        super().__post_init__()
        if not self.decisions:
            raise ConfigurationError("decisions is empty; give for example [retrain]")


@configuration
class ScheduleRule(Rule):
    """It is time.

    Attributes:
        cron: minute, hour, day of the month, month, day of the week, all in UTC.
        catch_up_hours: a time that was missed is made good for so long.
    """

    when: ClassVar[str] = "schedule"
    cron: str = ""
    catch_up_hours: Annotated[float, Field(ge=0.02, le=_HOURS)] = 1.0

    def __post_init__(self) -> None:
        """Refuse a schedule that cannot be read."""
        super().__post_init__()
        if latest_due(self.cron, datetime.now(UTC)) is None:
            raise ConfigurationError(f"cron {self.cron[:60]!r} never comes; check day and month")


@configuration
class AlertRule(Rule):
    """Alertmanager, or Prometheus itself, posted an alert.

    Attributes:
        alerts: names of the alerts that count.
    """

    when: ClassVar[str] = "alert"
    alerts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a rule that nothing meets."""
        super().__post_init__()
        if not self.alerts:
            raise ConfigurationError("alerts is empty; give for example [GearshiftAccuracyLow]")


RULES: Mapping[str, type[Rule]] = {
    kind.when: kind
    for kind in (VolumeRule, AccuracyRule, LatencyRule, DriftRule, ScheduleRule, AlertRule)
}


@configuration
class Limits:
    """How often something is launched at most, whatever the rules are.

    Attributes:
        cooldown_hours: pause after a launch.
        per_day: launches a day (UTC).
        timeout_hours: a launch that takes longer is ended.
    """

    cooldown_hours: Annotated[float, Field(ge=0, le=_HOURS)] = 6.0
    per_day: Annotated[int, Field(ge=1, le=1000)] = 2
    timeout_hours: Annotated[float, Field(ge=0.0001, le=_HOURS)] = 12.0


@configuration
class KubeflowLaunch:
    """A run of a pipeline that Kubeflow has.

    Attributes:
        url: of the Pipelines API, for example http://ml-pipeline.kubeflow:8888.
        pipeline_id: which pipeline.
        version_id: which of its versions; the default one without it.
        experiment_id: where the run is listed; without it, the experiment of that name.
        experiment: its name; it is made where there is none. The default one without either.
        namespace: of that experiment and so of its runs, where Kubeflow serves several users.
        parameters: of the run.
        token_file: file with a bearer token; no token without it.
        poll_seconds: how often its state is asked for.
    """

    url: str
    pipeline_id: str
    version_id: str = ""
    experiment_id: str = ""
    experiment: str = ""
    namespace: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    token_file: Path | None = None
    poll_seconds: Annotated[float, Field(ge=0.05, le=3600)] = 30.0

    def __post_init__(self) -> None:
        """Refuse what is no address."""
        if not (self.url.startswith(("http://", "https://")) and split_address(self.url).hostname):
            raise ConfigurationError(f"url is {self.url!r}; give one as http://ml-pipeline:8888")
        if not self.pipeline_id:
            raise ConfigurationError("pipeline_id is empty; give the id that Kubeflow shows")
        if self.namespace and not (self.experiment or self.experiment_id):
            raise ConfigurationError(
                "namespace has no experiment; where Kubeflow serves several users, a run needs one"
            )


@configuration
class Launch:
    """What is launched: one of the two.

    Attributes:
        command: program and arguments; no shell reads them.
        kubeflow: a run on Kubeflow.
    """

    command: tuple[str, ...] = ()
    kubeflow: KubeflowLaunch | None = None

    def __post_init__(self) -> None:
        """Refuse both, and neither."""
        if bool(self.command) == (self.kubeflow is not None):
            raise ConfigurationError("give either command or kubeflow")


@configuration
class TriggersConfig:
    """Everything in ``triggers.yaml``.

    Attributes:
        launch: what is launched.
        rules: when.
        log: folder or bucket of the prediction log; `gearshift up` fills in its own without it.
        drift: folder of the drift check.
        feedback: file of the reviewers' decisions.
        state: folder for the audit and what launches print.
        limits: how often at most.
    """

    launch: Launch
    rules: tuple[Rule, ...]
    log: str = ""
    drift: Path = Path("runs/drift")
    feedback: Path = Path("runs/feedback/decisions.jsonl")
    state: Path = Path("runs/triggers")
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse rules of the same name."""
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(f"rules: two are called {twice[0]!r}; give each its own name")
