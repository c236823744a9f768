"""The controller: reads the log at intervals, and moves a rollout on, or back.

::

    starting ── ready ── step 5 % ── passed ── 25 % ── passed ── 50 % ── passed ── promoting ── promoted
        │                   └────────── breached, undecided, aborted ──────────┐
        └── not ready ─────────────────────────────────────────────────── rolling back ── rolled back

What it is about to do is written before it is done, so after a crash the next controller continues.
"""  # noqa: E501  # the picture

from __future__ import annotations

import contextlib
import math
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from foundation.audit_log import AuditLog
from foundation.errors import (
    AccessError,
    ConfigurationError,
    GearshiftError,
    InvalidInput,
    ModelError,
    StorageError,
    Unavailable,
)
from foundation.signing import signature_file
from foundation.storage import atomic_path, sha256_file
from inference_graph.control.rollout.analysis import Analysis, StepAnalysis, effect
from inference_graph.control.rollout.audit import CONTROLLER, Action, note
from inference_graph.control.rollout.lost_state import unfinished_rollout
from inference_graph.control.rollout.plan import FULL, MODELS, POLICY, RolloutPlan, shadow_shares
from inference_graph.control.rollout.rows import COLUMNS, Arms
from inference_graph.control.rollout.state import (
    FILES,
    RolloutState,
    begin,
    new_orders,
    read_state,
    write_state,
)
from inference_graph.control.rollout.traffic import AlreadyPromoted, Pending, TrafficControl
from inference_graph.detector import DetectorConfig
from inference_graph.prediction_log.reader import read_log
from inference_graph.tasks.rung import ENGINE_SUFFIX, open_rung_file, rung_files

_LATELY = timedelta(hours=1)
_LATE = timedelta(seconds=90)
"""Rows are read again for so long: a shadow, or a detector's events, may delay one."""


def start(
    folder: Path, model: str, source: str, plan: RolloutPlan, who: str, sha256: str = ""
) -> RolloutState:
    """Request a rollout; the controller of the folder carries it out.

    Args:
        folder: of the rollouts.
        model: a rung, or "policy".
        source: the new revision: a file, which is copied, or a URI that the cluster reads.
        plan: its steps and limits.
        who: requests it.
        sha256: digest of the file; needed with a URI, because the log names revisions by it.

    Raises:
        ConfigurationError: no such model, or a URI without digest.
        InvalidInput: no such file.
        ModelError: it names an engine that cannot be opened.
        GateRefused: a rollout is under way.
        StorageError: the folder cannot be written.
    """
    if model not in MODELS:
        raise ConfigurationError(f"model is {model!r}; give one of {', '.join(MODELS)}")
    rollout, digest = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}", sha256.lower()
    kept: Path | None = None
    if "://" not in source:
        kept, digest = _kept(folder / FILES / rollout, model, Path(source))
        source = str(kept)
    elif not re.fullmatch("[0-9a-f]{64}", digest):
        raise ConfigurationError(
            f"the log names revisions by their file's digest, which {source} lacks; give "
            "--sha256 with 64 hexadecimal digits"
        )
    state = RolloutState(
        rollout,
        model,
        source,
        digest,
        who,
        plan,
        datetime.now(UTC),
        updated=datetime.now(UTC),
        sentence="waits for the controller",
    )
    figures = {"source": source, "sha256": digest, "steps": list(plan.steps)}
    detail = f"{model} to {digest[:12]}"
    try:
        begin(folder, state, lambda: note(folder, who, "start", rollout, model, detail, figures))
    except BaseException:
        if kept is not None:
            shutil.rmtree(kept.parent, ignore_errors=True)
        raise
    return state


def _kept(folder: Path, model: str, given: Path) -> tuple[Path, str]:
    """A copy of a new revision's files, and the digest that the log names it by."""
    if not given.is_file():
        raise InvalidInput(f"there is no file {given}; name the new revision's file")
    if model == POLICY and given.suffix == ENGINE_SUFFIX:
        raise ConfigurationError(f"{given} is no policy; give an ONNX file")
    own, *beside = rung_files(given)
    kept = (
        folder / f"{model}{ENGINE_SUFFIX if own.suffix == ENGINE_SUFFIX else '.onnx'}"
    ).resolve()
    for file, copy in ((own, kept), *((one, kept.with_name(one.name)) for one in beside)):
        with atomic_path(copy) as partial:
            shutil.copyfile(file, partial)
        if (signature := signature_file(file)).is_file():
            # Services that ask for one look beside the file.
            shutil.copyfile(signature, signature_file(copy))
    try:
        if kept.suffix == ENGINE_SUFFIX:
            # Its revision counts the models that this machine's packages bring.
            return kept, open_rung_file(DetectorConfig(kept, model)).sha256
        return kept, sha256_file(kept)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class Controller:
    """Moves the rollout of a folder; only one may at a time, see ``state.controlling``."""

    def __init__(
        self,
        folder: Path,
        log_url: str,
        traffic: TrafficControl,
        report: Callable[[str], None] = lambda text: None,
        audit: AuditLog | None = None,
    ) -> None:
        """A controller that has read nothing yet.

        Args:
            folder: of the rollouts.
            log_url: the prediction log.
            traffic: what moves it.
            report: called with each event, as text.
            audit: where it is recorded; the environment's audit log without it.
        """
        self._audit = audit
        self._folder, self._log_url, self._traffic, self._report = folder, log_url, traffic, report
        self._analysis: tuple[tuple[str, int, datetime], StepAnalysis] | None = None
        self._read_until: datetime | None = None
        self._read_once = False

    def tick(self) -> RolloutState | None:
        """Carry out what is due; None where no rollout is under way.

        Raises:
            Unavailable: the traffic cannot be moved now; the next call tries again.
            InvalidInput: the files of the folder are broken.
            StorageError: the log cannot be read, or the folder not be written.
        """
        state = self._current()
        if state is None or state.ended:
            return None
        try:
            return self._advanced(self._with_orders(state))
        except GearshiftError as error:
            self._store_failure(error)
            raise

    def _current(self) -> RolloutState | None:
        """The state of the folder; a rollout whose state is lost is rolled back."""
        lost = ""
        try:
            state = read_state(self._folder)
        except InvalidInput as error:
            state, lost = None, str(error)
        if state is None and (lost or not self._read_once):
            state = unfinished_rollout(self._folder)
            if state is not None:
                state = self._back(state, "its state is lost" + (f": {lost}" if lost else ""))
            elif lost:
                raise InvalidInput(lost)
        self._read_once = True
        return state

    def _advanced(self, state: RolloutState) -> RolloutState:
        try:
            if state.phase == "starting":
                state = self._prepared(state)
            elif state.target is not None:
                state = self._moved(state, state.target, state.sentence)
            elif state.phase == "step":
                state = self._followed(state)
            # No else: what was decided is done at once.
            if state.phase == "promoting":
                state = self._promoted(state)
            elif state.phase == "rolling back":
                state = self._withdrawn(state)
        except (Pending, InvalidInput, ModelError, AccessError) as reason:
            # A refusal is no reason to try for ever. What is being done may be stored already.
            state = self._waiting(read_state(self._folder) or state, str(reason))
        return state

    def _store_failure(self, error: GearshiftError) -> None:
        """Show it to those who read the state, where that can be written."""
        with contextlib.suppress(GearshiftError):
            state = read_state(self._folder)
            if state is not None and not state.ended:
                self._stored(state, failure=str(error))

    def _waiting(self, state: RolloutState, left: str) -> RolloutState:
        """Note what is missing; what makes no progress for too long is rolled back."""
        now = datetime.now(UTC)
        since = state.waiting_since
        if state.waiting != left or since is None or since > now:  # a clock that was set back
            self._report(f"rollout {state.rollout} of {state.model} waits: {left}")
            return self._stored(state, waiting=left, waiting_since=now)
        late = (now - since).total_seconds() > state.plan.ready_seconds
        if late and state.phase != "rolling back":
            seconds = f"{state.plan.ready_seconds:g} s"
            return self._back(state, f"nothing came of it within {seconds}: {left}")
        return self._stored(state)

    def _with_orders(self, state: RolloutState) -> RolloutState:
        orders, count = new_orders(self._folder, state)
        done = state.orders
        for number, line in orders.items():
            state = replace(state, orders=number + 1)
            if state.phase == "rolling back":
                continue
            who, why = _plain(line.get("who"), 128) or "unknown", _plain(line.get("reason"), 4000)
            order = line.get("order")
            if order == "abort":
                message = f"{who} ended it" + (f": {why}" if why else "")
                self._note(state, who, "abort", message)
                state = self._begun(state, phase="rolling back", sentence=message)
            elif state.phase == "step" and order in ("promote", "promote-all"):
                whole = order == "promote-all"
                message = f"{who} moved it on" + (f": {why}" if why else "")
                self._note(state, who, "promote", message)
                last = len(state.plan.steps) - 1
                now = state.step if state.target is None else state.target
                target = last if whole else min(now + 1, last)
                state = self._begun(state, target=target, sentence=message)
        return state if count == done else self._stored(state, orders=count)

    def _prepared(self, state: RolloutState) -> RolloutState:
        try:
            found = self._traffic.prepare(state)
            if not found.stable:
                found = replace(found, stable=self._stable(state))
        except (Unavailable, InvalidInput, ModelError) as error:
            return self._back(state, f"the new revision cannot be used: {error}")
        if found.stable == found.canary:
            return self._back(state, f"revision {found.canary} is in use already")
        return self._moved(replace(state, **vars(found)), 0, "it is ready")

    def _stable(self, state: RolloutState) -> str:
        """The revision in use, as the newest rows of the log have it."""
        since = datetime.now(UTC) - _LATELY
        column = "policy_revision" if state.model == POLICY else "revision"
        rows = read_log(self._log_url, since, None, ["answered_by", column]).to_pylist()
        for row in reversed(rows):
            revision = str(row[column] or "")
            own = state.model in (POLICY, row["answered_by"])
            if own and revision and not state.sha256.startswith(revision):
                return revision
        raise Unavailable(
            f"the log at {self._log_url} has no answer of {state.model} within the last hour, so "
            "nothing can be compared; start it when there is traffic"
        )

    def _followed(self, state: RolloutState) -> RolloutState:
        """Judge the step, after its traffic was restored where a restart has lost it."""
        try:
            flows = self._traffic.flows(state)
        except (Unavailable, AccessError):
            # The log still shows harm, and a decision is carried out when the traffic can be moved.
            state = self._judged(state)
            if state.phase == "step":
                raise
            return state
        return self._judged(state if flows else self._resumed(state))

    def _resumed(self, state: RolloutState) -> RolloutState:
        try:
            self._traffic.prepare(state)
        except (Unavailable, InvalidInput, ModelError) as error:
            return self._back(state, f"the new revision cannot be used any more: {error}")
        return self._moved(state, state.step, "it goes on after a restart")

    def _judged(self, state: RolloutState) -> RolloutState:
        if state.phase != "step":
            return state
        since, now = state.since, datetime.now(UTC)
        if since is None or since > now:  # set back, a clock would let no row count for so long
            since = now
            state = self._stored(state, since=now)
        lasted = (now - since).total_seconds()
        too_long = lasted > state.plan.max_hours * 3600
        limit = f"at {state.weight} % after {state.plan.max_hours:g} hours"
        try:
            found = self._analysed(state, since, now)
        except StorageError as error:
            if too_long:
                return self._back(state, f"{limit}: {error}")
            raise
        numbers = {
            one.metric: _known_numbers(asdict(one) | effect(one, state.plan))
            for one in found.findings
        }
        state = replace(state, findings=numbers, sentence=found.sentence, frames_left=found.left)
        if found.verdict == "breached":
            return self._back(state, f"at {state.weight} %: {found.sentence}")
        if found.verdict == "passed" and lasted >= state.plan.min_seconds:
            return self._moved(state, state.step + 1, found.sentence)
        if too_long:
            return self._back(state, f"{limit}: {found.sentence}")
        return self._stored(state)

    def _analysed(self, state: RolloutState, since: datetime, now: datetime) -> Analysis:
        since += timedelta(seconds=state.plan.settle_seconds)
        step = (state.rollout, state.step, since)
        if self._analysis is None or self._analysis[0] != step:
            self._analysis = step, StepAnalysis(state.plan, arms_of(state))
            self._read_until = None
        follower = self._analysis[1]
        begin = since
        if self._read_until is not None:
            begin = max(since, min(self._read_until, now) - _LATE)
        if begin < now:
            follower.add(read_log(self._log_url, begin, now, COLUMNS))
            self._read_until = now
        return follower.look()

    def _moved(self, state: RolloutState, step: int, why: str) -> RolloutState:
        """Shift the traffic to a step; the last one is the promotion."""
        weight = state.plan.steps[step]
        if weight == FULL:
            return self._begun(state, phase="promoting", step=step, sentence=why)
        if state.target != step or state.phase != "step":
            state = self._begun(state, phase="step", target=step, sentence=why)
        self._traffic.shift(replace(state, step=step), weight)
        # Written after it flows, or the analysis would count answers of the step before.
        figures = {"weight": weight, "findings": state.findings}
        message = f"{weight} % of the traffic: {why}"
        self._note(state, CONTROLLER, "shift", message, figures)
        self._report_on(state, message)
        return self._begun(state, step=step, since=datetime.now(UTC), sentence=why, findings={})

    def _back(self, state: RolloutState, why: str) -> RolloutState:
        figures = {"weight": state.weight, "findings": state.findings}
        self._note(state, CONTROLLER, "roll back", why, figures)
        return self._begun(state, phase="rolling back", sentence=why)

    def _promoted(self, state: RolloutState) -> RolloutState:
        self._traffic.promote(state)
        message = f"{state.canary} took the place of {state.stable}: {state.sentence}"
        self._note(state, CONTROLLER, "promoted", message)
        self._report_on(state, message)
        return self._begun(state, phase="promoted", sentence=message)

    def _withdrawn(self, state: RolloutState) -> RolloutState:
        try:
            self._traffic.withdraw(state)
        except AlreadyPromoted:
            message = f"{state.canary} is in use: the promotion was complete before the rollback"
            self._note(state, CONTROLLER, "promoted", message)
            self._report_on(state, message)
            return self._begun(state, phase="promoted", sentence=message)
        message = f"rolled back, {state.sentence}"
        self._note(state, CONTROLLER, "rolled back", message)
        self._report_on(state, message)
        return self._begun(state, phase="rolled back")

    def _note(
        self,
        state: RolloutState,
        who: str,
        action: Action,
        detail: str,
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        audit = self._audit
        note(self._folder, who, action, state.rollout, state.model, detail, figures, audit)

    def _report_on(self, state: RolloutState, message: str) -> None:
        self._report(f"rollout {state.rollout} of {state.model}: {message}")

    def _begun(self, state: RolloutState, **changes: Any) -> RolloutState:
        """Store a state in which nothing is waited for yet, nor moved but what is named."""
        state = replace(state, target=None, waiting="", waiting_since=None, frames_left=None)
        return self._stored(state, **changes)

    def _stored(self, state: RolloutState, **changes: Any) -> RolloutState:
        state = replace(state, **{"updated": datetime.now(UTC), "failure": "", **changes})
        write_state(self._folder, state)
        return state


def arms_of(state: RolloutState) -> Arms:
    """What the step of a rollout compares."""
    plan = state.plan
    weight = plan.steps[state.step]
    looks = shadow_shares(state.model, weight, plan.shadow_share)
    return Arms(
        state.model, state.stable, state.canary, weight, looks, plan.segment_frames, state.service
    )


def _plain(text: object, most: int) -> str:
    """A field of an order as it can be recorded, whoever wrote it there."""
    shown = "" if text is None else str(text)
    return "".join(one if one.isprintable() else " " for one in shown)[:most].strip()


def _known_numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has them, which knows no NaN and no tuples."""

    def known(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return [known(one) for one in value] if isinstance(value, tuple | list) else value

    return {name: known(value) for name, value in values.items()}
