"""The first step of a run: sealed here without a contract, held to the seal with one."""

from __future__ import annotations

from typing import Any

import pytest

from components.experiments.document import Contract
from components.experiments.seal import seal
from foundation.errors import ConfigurationError, SealBroken
from pipelines.training import admission
from pipelines.training.admission import admit_run
from pipelines.training.parameters import PLAIN, arguments_of, flat_parameters
from pipelines.training.stages import STAGES, stage_options

CONTRACT = Contract("keep accuracy", "it holds", "retained >= 0.9", "anna")
VERSIONS = {"code_version": "c1", "data_version": "d1", "ladder_version": "l1"}


def arguments(**given: Any) -> dict[str, Any]:
    """The pipeline's arguments as the Kubeflow UI sends them: defaults, and what was changed."""
    found = {name: default for name, (default, _) in PLAIN.items() if name != "registry_folder"}
    found |= {name: one.default for name, one in flat_parameters().items()}
    assert set(given) <= set(found)
    return found | given


def sealed(**settings: Any) -> dict[str, Any]:
    """The parameter ``contract`` of a launch with these settings."""
    configuration = {"inputs": {"data": "", "ladder": "coco"}, **stage_options(settings)}
    one = seal(
        "mine", "mine.1", CONTRACT, configuration, {}, "http://data/set.zip", VERSIONS, "now", {}
    )
    return {"content": one.content, "sha256": one.sha256, "run_id": "", "tracking_uri": ""}


def test_a_launch_with_the_defaults_is_one_of_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "bob")
    contract, source, ladder, *rest, floors = admit_run(arguments())
    options = dict(zip(STAGES, rest[3:], strict=True))
    assert floors == {}
    assert (source, ladder, rest[:3]) == ("", "", ["", "", ""])
    assert options == stage_options({})
    content = contract["content"]
    assert content["contract"]["author"] == "bob"
    assert content["contract"]["expected"] == "retained >= 0.95 and latency_ratio <= 0.42"
    assert (content["experiment"], content["overrides"]) == ("baseline", {})
    assert int(content["attempt"].removeprefix("baseline.")) > 0


def test_the_author_is_whoever_is_named_then_the_namespace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(admission, "_NAMESPACE", tmp_path / "namespace")
    (tmp_path / "namespace").write_text("team-vision\n")
    for given, expected in (({}, "team-vision"), ({"author": "anna"}, "anna")):
        contract = admit_run(arguments(**given))[0]
        assert contract["content"]["contract"]["author"] == expected


def test_what_was_changed_is_sealed_as_an_override() -> None:
    # Every number arrives as a float, as the UI has it.
    settings = {"clone": {"hidden": 16.0}, "gate": {"protect": ["person=0.99"]}}
    contract, *_, floors = found = admit_run(arguments(clone_seeds=3.0, settings=settings))
    clone = dict(zip(STAGES, found[6:-1], strict=True))["clone"]
    assert floors == {"person": 0.99}
    assert (clone["seeds"], clone["hidden"]) == (3, 16)
    overrides = {"clone.seeds": 3, "clone.hidden": 16, "gate.protect": ["person=0.99"]}
    assert contract["content"]["overrides"] == overrides


def test_a_contract_alone_runs_what_was_sealed() -> None:
    contract = sealed(clone={"seeds": 3, "hidden": 16})
    admitted, source, ladder, *rest, _ = admit_run(arguments(contract=contract))
    assert admitted == contract
    assert (source, ladder, rest[:3]) == ("http://data/set.zip", "coco", ["c1", "d1", "l1"])
    clone = dict(zip(STAGES, rest[3:], strict=True))["clone"]
    assert (clone["seeds"], clone["hidden"]) == (3, 16)


def test_a_contract_and_its_own_arguments_agree() -> None:
    contract = sealed(clone={"seeds": 3, "hidden": 16})
    own = arguments_of(contract["content"]["configuration"])
    assert admit_run(arguments(contract=contract, **own))[0] == contract


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"clone_seeds": 7}, "clone.seeds is 7, sealed was 3"),
        ({"settings": {"clone": {"hidden": 8}}}, "clone.hidden is 8, sealed was 32"),
        ({"source": "elsewhere"}, "the source is 'elsewhere'"),
        ({"code_version": "c2"}, "code_version is of version 'c2'"),
    ],
)
def test_what_differs_from_the_seal_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SealBroken, match=words):
        admit_run(arguments(contract=sealed(clone={"seeds": 3}), **given))


def test_a_broken_seal_and_a_value_out_of_range_are_refused() -> None:
    with pytest.raises(SealBroken):
        admit_run(arguments(contract={**sealed(), "sha256": "0" * 64}))
    with pytest.raises(ConfigurationError, match="at least 1"):
        admit_run(arguments(clone_seeds=0))
