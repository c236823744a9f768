"""Runs on Kubeflow Pipelines by its REST API (v2beta1); its own client would bring pandas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from foundation.errors import ConfigurationError, NotFound, PipelineError, Unavailable

_TIMEOUT = 30.0
_LARGEST = 4 * 1024 * 1024
RUNNING = ("", "RUNTIME_STATE_UNSPECIFIED", "PENDING", "RUNNING", "CANCELING", "PAUSED")
SUCCEEDED = ("SUCCEEDED", "SKIPPED")


class KubeflowRuns:
    """Runs of one pipeline."""

    def __init__(self, options: Mapping[str, Any], timeout: float = _TIMEOUT) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            options: fields of ``KubeflowLaunch``; who only asks needs ``url`` and ``token_file``.
            timeout: seconds to wait for an answer.
        """
        self._options = options
        self._timeout = timeout

    def create(self, name: str, description: str) -> str:
        """Start a run.

        Args:
            name: what it is called.
            description: why it was started.

        Returns:
            Its id.

        Raises:
            Unavailable: no server answers at the address.
            PipelineError: the run was refused.
            ConfigurationError: the token's file cannot be read.
        """
        options = self._options
        reference = {"pipeline_id": options["pipeline_id"]}
        if options["version_id"]:
            reference["pipeline_version_id"] = options["version_id"]
        body: dict[str, Any] = {
            "display_name": name,
            "description": description,
            "pipeline_version_reference": reference,
            # An empty one is left to the pipeline's default.
            "runtime_config": {
                "parameters": {
                    name: value for name, value in options["parameters"].items() if value != ""
                }
            },
        }
        if experiment := options["experiment_id"] or self._experiment():
            body["experiment_id"] = experiment
        answer = self._ask("POST", "/apis/v2beta1/runs", body)
        run_id = answer.get("run_id")
        if not isinstance(run_id, str) or not run_id:
            raise PipelineError("Kubeflow's answer names no run; see its API server's log")
        return run_id

    def _experiment(self) -> str:
        """Id of the experiment that the options name, which is made where there is none.

        A run is of its experiment's namespace; where Kubeflow serves several users, it has no
        default one.
        """
        name, namespace = self._options.get("experiment"), self._options.get("namespace")
        if not name:
            return ""
        alike = {"key": "name", "operation": "EQUALS", "string_value": name}
        query = {"filter": json.dumps({"predicates": [alike]}), "page_size": "1"}
        if namespace:
            query["namespace"] = namespace
        place = "/apis/v2beta1/experiments"
        known = self._ask("GET", place, None, query).get("experiments") or ()
        found = next((one for one in known if one.get("display_name") == name), None)
        if found is None:
            made = {"display_name": name} | ({"namespace": namespace} if namespace else {})
            found = self._ask("POST", place, made)
        experiment = found.get("experiment_id")
        if not isinstance(experiment, str) or not experiment:
            raise PipelineError("Kubeflow's answer names no experiment; see its API server's log")
        return experiment

    def state(self, run_id: str) -> tuple[str, str]:
        """State of a run in Kubeflow's word, and its error if it has one; raises as ``create``."""
        answer = self._ask("GET", f"/apis/v2beta1/runs/{run_id}", None)
        error = answer.get("error")
        message = error.get("message", "") if isinstance(error, dict) else ""
        return str(answer.get("state", "")), str(message)

    def get(self, run_id: str) -> dict[str, Any] | None:
        """All that is known of a run; None where it was deleted. Raises as ``create``."""
        try:
            return self._ask("GET", f"/apis/v2beta1/runs/{run_id}", None)
        except PipelineError as error:
            if isinstance(error.__cause__, NotFound):
                return None
            raise

    def terminate(self, run_id: str) -> None:
        """End a run; raises as ``create``."""
        self._ask("POST", f"/apis/v2beta1/runs/{run_id}:terminate", {})

    def _ask(
        self, method: str, path: str, body: Any, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        url = str(self._options["url"]).rstrip("/") + path
        headers = {"accept": "application/json"}
        token = self._options["token_file"]
        if token:
            headers["authorization"] = f"Bearer {_token(Path(token))}"
        try:
            with httpx.stream(
                method, url, params=query, json=body, headers=headers, timeout=self._timeout
            ) as answer:
                text = _start_of(answer)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"Kubeflow does not answer at {url}: {error}") from error
        if not answer.is_success:
            brief = " ".join(text[:500].decode("utf-8", "replace").split())[:200]
            missing = NotFound(path) if answer.status_code == 404 else None
            raise PipelineError(
                f"Kubeflow answers {answer.status_code} to {method} {path}: {brief}"
            ) from missing
        try:
            read = json.loads(text or b"{}")
        except ValueError as error:
            raise Unavailable(f"Kubeflow does not answer at {url}: {error}") from error
        return read if isinstance(read, dict) else {}


def _start_of(answer: httpx.Response) -> bytes:
    """What is answered, up to a limit."""
    read = bytearray()
    for part in answer.iter_bytes():
        read += part
        if len(read) >= _LARGEST:
            break
    return bytes(read[:_LARGEST])


def _token(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"cannot read the token in {file}; check the path") from error
