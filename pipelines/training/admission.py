"""The first step of a run: under which contract it runs, and what every stage gets.

A contract that was sealed elsewhere decides what runs: an argument that was left at its default
takes what was sealed, any other one has to agree with it. Without a contract the run is sealed
here, as a launch of the shipped baseline under the name of whoever launched it.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from components.evaluation.gate import GateConfig
from components.experiments.document import Contract
from components.experiments.ledger import SHIPPED
from components.experiments.seal import Seal, admit, opened, seal
from pipelines.options import build, merge
from pipelines.training.parameters import flat_parameters, options_from
from pipelines.training.stages import STAGES, stage_defaults

BASELINE = "baseline"
_VERSIONS = ("code_version", "data_version", "ladder_version")
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Kubernetes writes a pod's namespace there; Kubeflow gives every user one of their own."""


def admit_run(given: Mapping[str, Any]) -> tuple[Any, ...]:
    """Seal a run, or check that it runs what was sealed.

    Args:
        given: the pipeline's arguments by name.

    Returns:
        contract, source, ladder, the three versions, then the options of every stage, in the order
        of the step's outputs.

    Raises:
        ConfigurationError: an argument is unknown or out of range.
        SealBroken: the seal is broken, or of another configuration; names what differs.
    """
    contract = dict(given["contract"])
    flat = flat_parameters()
    if contract:
        sealed = opened(contract.get("content"), str(contract.get("sha256")))
        configuration = sealed.content["configuration"]
        given = _as_sealed(given, sealed)
        changed: dict[str, Any] = {}
        for name, one in flat.items():
            if given[name] != one.default:
                changed = merge(changed, {one.stage: {one.option.name: given[name]}})
        promised = {stage: configuration.get(stage, {}) for stage in STAGES}
        options = merge(merge(promised, given["settings"]), changed)
    else:
        options = options_from({name: given[name] for name in flat}, given["settings"])
        sealed = _sealed_baseline(given, options)
        contract = {"content": sealed.content, "sha256": sealed.sha256}
    versions = {name: given[name] for name in _VERSIONS}
    promise = admit(contract, options, given["source"], versions).contract
    print(f"{sealed.attempt} by {promise.author}: {promise.expected}")
    stages = (options[stage] for stage in STAGES)
    # Apart from the gate's options, so that another threshold alone does not refine anew.
    floors = build(GateConfig, options["gate"], "gate").floors
    return (contract, given["source"], given["ladder"], *versions.values(), *stages, floors)


def _as_sealed(given: Mapping[str, Any], sealed: Seal) -> dict[str, Any]:
    """The arguments; source, ladder and versions that were left empty are those of the seal."""
    inputs = sealed.content["configuration"].get("inputs", {})
    known = {"source": sealed.content["source"], "ladder": inputs.get("ladder", "")}
    known |= sealed.content["versions"]
    return {name: value or known.get(name, value) for name, value in given.items()}


def _sealed_baseline(given: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]) -> Seal:
    """The seal of a launch of the shipped baseline."""
    shipped = yaml.safe_load((SHIPPED / f"{BASELINE}.yaml").read_text(encoding="utf-8"))
    contract = replace(Contract(**shipped["contract"]), author=given["author"] or _user())
    inputs = {"data": given["source"], "ladder": given["ladder"]}
    overrides = {
        f"{stage}.{name}": value
        for stage, chosen in options.items()
        for name, value in chosen.items()
        if value != stage_defaults(stage)[name]
    }
    return seal(
        BASELINE,
        f"{BASELINE}.{time.time_ns() // 1_000_000}",  # no ledger counts the launches here
        contract,
        {"inputs": inputs, **options},
        overrides,
        given["source"],
        {name: given[name] for name in _VERSIONS},
        datetime.now(UTC).isoformat(timespec="milliseconds"),
        {},
    )


def _user() -> str:
    """Whose run it is: the namespace on a cluster, else this account."""
    with suppress(OSError):
        namespace = _NAMESPACE.read_text(encoding="utf-8").strip()
        if namespace:
            return namespace
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
