"""The policy that a launch trained, in MLflow: named, described, and linked with the launch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.experiments.attempt import Attempt
from components.experiments.records import Records, launch_note, log_inputs
from components.experiments.seal import Seal
from components.tracking import NOTE_TAG, SQLITE

_RESULTS_TAG = "gearshift.results"
_REGISTRATION = Path("registration", "registration.json")
"""As ``components.policy.register`` writes them, whose imports a ledger does without."""


def link_policy_run(records: Records, attempt: Attempt, sealed: Seal, out: Path) -> str:
    """Give the policy's run the launch's name, options and versions, and link both.

    Args:
        records: where launches are written down.
        attempt: the launch, ended.
        sealed: its seal.
        out: its results folder.

    Returns:
        The policy's run; empty where the pipeline logged none.

    Raises:
        StorageError: MLflow cannot be reached or written to.
    """
    options = sealed.content["configuration"].get("register", {})
    uri = options.get("tracking_uri", "")
    if not uri or (uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file()):
        return ""
    registry = records if uri == records.tracking_uri else Records(uri, out)
    with registry.connected() as client:
        found = client.get_experiment_by_name(options.get("experiment", ""))
        runs = [] if found is None else _runs_of(client, found.experiment_id, out)
        if not runs:
            return ""
        run = runs[0]
        run_id = str(run.info.run_id)
        launch = _link(records, attempt, registry)
        client.set_tag(run_id, "mlflow.runName", f"{attempt.attempt} policy")
        client.set_tag(run_id, "gearshift.attempt", attempt.attempt)
        client.set_tag(run_id, "gearshift.launch_run", attempt.run_id)
        client.set_tag(run_id, "gearshift.seal", sealed.sha256)
        card = str(run.data.tags.get(NOTE_TAG, "")).partition("\n\nTrained by ")[0]
        client.set_tag(run_id, NOTE_TAG, f"{card}\n\nTrained by {launch}.")
        log_inputs(client, run_id, sealed)
        version = _version(out, run_id)
        link = f"#/experiments/{found.experiment_id}/runs/{run_id}"
    with records.connected() as client:
        client.set_tag(attempt.run_id, "gearshift.policy_run", run_id)
        client.set_tag(attempt.run_id, "gearshift.policy_tracking_uri", uri)
        policy = f"[policy]({link})" if registry is records else f"policy: run {run_id} at {uri}"
        if version:
            name = f"{version['name']} version {version['version']}"
            client.set_tag(attempt.run_id, "gearshift.policy_version", name)
            policy += f", registered as {name}"
        client.set_tag(attempt.run_id, NOTE_TAG, f"{launch_note(attempt, sealed)}\n\n{policy}")
    return run_id


def _runs_of(client: Any, experiment: str, out: Path) -> list[Any]:
    """The newest run of a results folder, if there is one."""
    place = str(out.resolve()).replace("'", "\\'")
    return list(
        client.search_runs(
            [experiment],
            f"tags.`{_RESULTS_TAG}` = '{place}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
    )


def _link(records: Records, attempt: Attempt, registry: Records) -> str:
    if registry is not records:
        return f"launch {attempt.attempt}, run {attempt.run_id} at {records.tracking_uri}"
    with records.connected() as client:
        experiment = client.get_run(attempt.run_id).info.experiment_id
    return f"[launch {attempt.attempt}](#/experiments/{experiment}/runs/{attempt.run_id})"


def _version(out: Path, run_id: str) -> Mapping[str, Any]:
    """The registered version of a run; empty where the gate refused it."""
    try:
        found: Mapping[str, Any] = json.loads((out / _REGISTRATION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if found.get("run_id") == run_id else {}
