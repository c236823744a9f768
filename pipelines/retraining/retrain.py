"""Retraining: old and new data, a challenger, and a release only of what is better.

::

    log ── harvest ──┐
    feedback ────────┼─ join ── training pipeline ── gate ─┐
    old data ────────┘                                     ├─ release.json · or a refusal
    champion ────────────────────── challenge ─────────────┘

The training pipeline is the one of ``pipelines.training.pipeline``, with its gate and its
registry. The champion stays as it is; a release is a file that names the new policy, for a
rollout to take up, and on request the gateway is asked to take the policy at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from components.data.dataset import load_dataset
from components.data.harvest import HarvestConfig, harvest
from components.data.ingest import IngestConfig, ingest
from components.data.join import Part, join, joined_from
from components.data.split import load_split
from components.drift.window import time_of
from components.evaluation.challenge import (
    CHALLENGE_FILE,
    ChallengeConfig,
    ChallengeSummary,
    challenge,
)
from components.evaluation.report_schema import REPORT_FILE, REPORT_PAGE
from components.evaluation.retraining_page import write_retraining
from components.feedback.merge import MergeSummary, merge_feedback
from components.feedback.store import FeedbackConfig, open_store
from components.policy.files import POLICY_FILE
from components.policy.registry_marks import mark_version
from components.profiling.replay import PARTS
from foundation.audit_log import audit_of_environment, operator
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, GateRefused, InvalidInput
from foundation.path_roles import InputPath, InputText, KeptFolder
from foundation.signing import signature_file
from foundation.signing.keys import PrivateKey, read_private_key
from foundation.signing.signature import sign_file
from foundation.storage import atomic_path
from inference_graph.clients.policy import swap_policy
from inference_graph.contract import LADDER, REFERENCE
from inference_graph.control.rollout.controller import start
from inference_graph.control.rollout.plan import POLICY, RolloutPlan
from inference_graph.router import Policy
from inference_graph.tasks.rung import task_of
from pipelines.ladder_files import ladder_files
from pipelines.local import StepEvent
from pipelines.training.run import RUN_FILE, TrainingRun, run_training

RELEASE_FILE = "release.json"
EVALUATION_PAGE = "evaluation.html"
_SPLIT_FILE = "split.json"
_WHO = "gearshift retrain"
_REGISTRATION = "registration/registration.json"

Bar = Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]
Display = Callable[[], AbstractContextManager[Callable[[StepEvent], None]]]


@configuration
class RetrainConfig(HarvestConfig, ChallengeConfig):
    """What is learned from, and when the new policy takes over.

    Attributes:
        champion: the policy in use, an ONNX file.
        data: what it learned from: COCO-format folder, zip or URL; without it the data of the run
            whose folder the champion lies in.
        log: folder or bucket (s3://, gs://) of the prediction log.
        since: take frames of the log from this time on, ISO 8601 (UTC where it names no zone).
        until: take frames before this time; to the end without it.
        feedback: folder of the feedback store; what was approved there is learned from, too.
        swap: address of a gateway that is asked to take a released policy at once.
        key: private key that signs a released policy; see `gearshift key`.
        rollout: folder of rollouts; a released policy begins one there, step by step, in place of
            `swap`. Of a running `gearshift up` it is `rollout` in the state folder.
    """

    champion: InputPath = Path("runs/demo/policy.onnx")
    data: InputText = ""
    log: InputText = "runs/up/log"
    since: str = ""
    until: str = ""
    feedback: KeptFolder = Path("runs/feedback")
    swap: str = ""
    key: InputPath | None = None
    rollout: KeptFolder | None = None

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value is out of range."""
        ChallengeConfig.__post_init__(self)
        start, end = time_of(self.since, "since"), time_of(self.until, "until")
        if start is not None and end is not None and start >= end:
            raise ConfigurationError(f"since {self.since} is not before until {self.until}")
        if self.swap and self.rollout is not None:
            raise ConfigurationError(
                "swap and rollout are both given; a policy takes over at once or step by step"
            )


@dataclass(frozen=True)
class Retraining:
    """What a retraining came to.

    Attributes:
        out: results folder.
        released: whether the challenger may take over.
        outcome: one sentence: released as what, or refused and why.
        champion: revision of the policy in use.
        challenger: revision of the new one.
        old_change: accuracy retained on held-out old data, challenger less champion; None where it
            could not be measured.
        new_change: likewise on new data.
        report: the comparison, as a page.
        swapped: address of the gateway that took the policy; empty if none was asked.
        rollout: id of the rollout that began; empty if none was asked for.
        run: the training pipeline's run.
    """

    out: Path
    released: bool
    outcome: str
    champion: str
    challenger: str
    old_change: float | None
    new_change: float | None
    report: Path
    swapped: str
    rollout: str
    run: TrainingRun


def retrain(
    config: RetrainConfig,
    out: Path,
    ladder: str,
    settings: Mapping[str, Mapping[str, Any]],
    bar: Bar,
    display: Display,
    token: str | None = None,
) -> Retraining:
    """Train a challenger on old and new data, compare it, and release it or report why not.

    Args:
        config: what to learn from.
        out: results folder; the training pipeline's results lie there too.
        ladder: folder of the rungs' weights; empty takes the sample ladder.
        settings: options of the training pipeline's stages, where they differ from the defaults.
        bar: makes a progress bar with a label.
        display: makes a display of the pipeline's steps.
        token: access token for the gateway of ``config.swap``.

    Raises:
        ConfigurationError: no old data is known, or a setting is wrong.
        InvalidInput: the log kept no frame of the window.
        ModelError: the champion is no policy of this schema and ladder.
        ConfigurationError: ``config.key`` is no private key, or its password is missing.
        StepFailed: a step of the training pipeline failed.
        StorageError: something could not be written.
    """
    champion = Policy(config.champion, task=task_of(ladder_files(ladder)[REFERENCE]))
    # Before hours of training: a key that is missing, or locked, would leave a release unsigned.
    key = None if config.key is None else read_private_key(config.key)
    release = out / RELEASE_FILE
    release.unlink(missing_ok=True)  # of an earlier call: nothing is released yet
    old, parts = _old_data(config, champion, out, bar)
    with bar("harvest") as progress:
        harvested = harvest(
            config.log,
            ladder_files(ladder)[REFERENCE],
            out / "harvest",
            _part_of(HarvestConfig, config),
            time_of(config.since, "since"),
            time_of(config.until, "until"),
            progress,
        )
    new, merged = _with_feedback(config, out, ladder)
    join([Part("old", old, parts), Part("new", new, {})], out / "data")
    with display() as on_event:
        run = run_training(str(out / "data"), ladder, out, settings, on_event, kind="retraining")
    challenger = Policy(out / POLICY_FILE)
    data = load_dataset(run.dataset)
    came_from = [joined_from(image) for image in data.images]
    groups = {
        name: data.image_ids[[whose == name for whose in came_from]] for name in ("old", "new")
    }
    report = json.loads((out / REPORT_FILE).read_text(encoding="utf-8"))
    with bar("challenge") as progress:
        compared = challenge(
            run.dataset,
            run.detections,
            out / "replay",
            groups,
            champion,
            challenger,
            sum(report["router_ms"].values()),
            out / CHALLENGE_FILE,
            _part_of(ChallengeConfig, config),
            progress,
        )
    released = run.passed and compared.verdict.passed
    outcome = _outcome(run, compared, champion, challenger)
    comparison = {
        "released": released,
        "outcome": outcome,
        "gate_passed": run.passed,
        "old_data_held_out_from_champion": bool(parts),
        "harvest": json.loads(json.dumps(asdict(harvested), default=str)),
        "feedback": None if merged is None else asdict(merged),
        **json.loads((out / CHALLENGE_FILE).read_text(encoding="utf-8")),
    }
    _report(out, report, comparison)
    if run.passed:
        _mark(out, released)
    swapped = begun = ""
    if released:
        _release(out, champion, challenger, comparison, key)
        if config.swap:
            swapped = swap_policy(config.swap, out / POLICY_FILE, token, champion.revision).gateway
        if config.rollout is not None:
            try:
                begun = start(
                    config.rollout, POLICY, str(out / POLICY_FILE), RolloutPlan(), _WHO
                ).rollout
            except GateRefused as error:  # another one runs; the release stays to be taken up
                outcome = f"{outcome}; no rollout began: {error}"
    return Retraining(
        out=out,
        released=released,
        outcome=outcome,
        champion=champion.revision,
        challenger=challenger.revision,
        old_change=_known(compared.old.change),
        new_change=_known(compared.new.change),
        report=out / REPORT_PAGE,
        swapped=swapped,
        rollout=begun,
        run=run,
    )


def _part_of(config: type[Any], whole: RetrainConfig) -> Any:
    return config(**{field.name: getattr(whole, field.name) for field in fields(config)})


def _old_data(
    config: RetrainConfig, champion: Policy, out: Path, bar: Bar
) -> tuple[Path, Mapping[str, str]]:
    """Folder of the old data, and the part of each picture, by digest, in the champion's run."""
    trained_on, parts = _champions_data(config.champion.resolve().parent, champion)
    if not config.data:
        if trained_on is None:
            raise ConfigurationError(
                f"what {config.champion} learned from is not known: it does not lie in the folder "
                "of its run; name its data with --data"
            )
        return trained_on, parts
    with bar("old data") as progress:
        ingest(config.data, out / "old", IngestConfig(), progress)
    return out / "old", parts


def _champions_data(run: Path, champion: Policy) -> tuple[Path | None, Mapping[str, str]]:
    try:
        report = json.loads((run / REPORT_FILE).read_text(encoding="utf-8"))
        record = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
        if report["policy"]["sha256"] != champion.sha256:
            return None, {}
        folder = Path(record["result"]["dataset"])
        split = load_split(run / _SPLIT_FILE)
    except (OSError, ValueError, KeyError, TypeError, InvalidInput):
        return None, {}  # another folder than a run's
    if not folder.is_dir():
        return None, {}
    data = load_dataset(folder)
    part_of = {int(number): name for name in PARTS for number in split.part(name)}
    return folder, {
        image.sha256: part_of[image.id]
        for image in data.images
        if image.sha256 is not None and image.id in part_of
    }


def _with_feedback(
    config: RetrainConfig, out: Path, ladder: str
) -> tuple[Path, MergeSummary | None]:
    if not config.feedback.is_dir():
        return out / "harvest", None
    store = open_store(
        FeedbackConfig(store=config.feedback, log=config.log), ladder_files(ladder)[LADDER[0]]
    )
    return out / "new", merge_feedback(store, out / "harvest", out / "new")


def _outcome(
    run: TrainingRun, compared: ChallengeSummary, champion: Policy, challenger: Policy
) -> str:
    if run.passed and compared.verdict.passed:
        return (
            f"released: {challenger.revision} keeps {compared.new.change:+.1%} of large's accuracy "
            f"more than {champion.revision} on new frames, {compared.old.change:+.1%} on old ones"
        )
    reasons = [] if run.passed else [run.outcome]
    if not compared.verdict.passed:
        reasons.append(f"the champion stays: {compared.verdict.refusal}")
    return f"refused: {'; '.join(reasons)}"


def _report(out: Path, report: dict[str, Any], comparison: Mapping[str, Any]) -> None:
    """One report.json holds everything; the comparison's page stands before the evaluation's."""
    (out / REPORT_PAGE).replace(out / EVALUATION_PAGE)
    with atomic_path(out / REPORT_FILE) as partial:
        partial.write_text(
            json.dumps({**report, "challenge": comparison}, indent=1) + "\n", "utf-8"
        )
    write_retraining(comparison, out / REPORT_PAGE, EVALUATION_PAGE)


def _mark(out: Path, released: bool) -> None:
    """Record the outcome in the registry, which has every policy that the gate let in."""
    entry = json.loads((out / _REGISTRATION).read_text(encoding="utf-8"))
    verdict = "released" if released else "refused"
    mark_version(entry["tracking_uri"], entry["name"], entry["version"], verdict)


def _release(
    out: Path,
    champion: Policy,
    challenger: Policy,
    comparison: Mapping[str, Any],
    key: PrivateKey | None,
) -> None:
    """Sign the policy if there is a key, then name it: what is named may be taken up at once."""
    figures = {
        "replaces": champion.revision,
        "sha256": challenger.sha256,
        "why": comparison["outcome"],
    }
    if key is not None:
        figures["key_id"] = key.public.key_id
    audit_of_environment().record(operator(), "policy.release", challenger.revision, figures)
    signature_file(out / POLICY_FILE).unlink(missing_ok=True)
    if key is not None:
        sign_file(out / POLICY_FILE, key)
    content = {
        "policy": str((out / POLICY_FILE).resolve()),
        "revision": challenger.revision,
        "sha256": challenger.sha256,
        "latency_weight": challenger.latency_weight,
        "replaces": {"revision": champion.revision, "sha256": champion.sha256},
        "outcome": comparison["outcome"],
        "report": str((out / REPORT_PAGE).resolve()),
    }
    with atomic_path(out / RELEASE_FILE) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _known(value: float) -> float | None:
    return None if value != value else value
