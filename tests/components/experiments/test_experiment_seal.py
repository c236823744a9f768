"""Seals: canonical, verified, and a change afterwards is always found out."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from experiment_samples import CONTRACT
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from components.experiments.document import Contract
from components.experiments.journal import JOURNAL_FILE, enter, read_journal
from components.experiments.seal import Seal, admit, canonical, opened, seal
from foundation.errors import ConfigurationError, InvalidInput, SealBroken

STAGES = {"refine": {"timesteps": 100, "rate": 3e-4, "sizes": [1, 4]}, "clone": {"seeds": 5}}
VERSIONS = {"code_version": "c1", "data_version": "d1", "ladder_version": "l1"}


def sealed(contract: Contract = CONTRACT, **configuration: Any) -> Seal:
    return seal(
        "one",
        "one.1",
        contract,
        {**STAGES, **configuration},
        {},
        "scenes",
        VERSIONS,
        "2026-11-21T12:00:00.000+00:00",
        {},
    )


def parameter(one: Seal) -> dict[str, Any]:
    return {"content": copy.deepcopy(dict(one.content)), "sha256": one.sha256}


def test_the_canonical_text_is_rfc_8785s() -> None:
    # The example of the RFC, section 3.2.2, and KFP's floats.
    numbers = [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001]
    text = canonical({"numbers": numbers, "literals": [None, True, False]})
    assert text == (
        b'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27]}'
    )
    assert canonical({"b": 5.0, "a": 1}) == canonical({"a": 1.0, "b": 5}) == b'{"a":1,"b":5}'
    with pytest.raises(InvalidInput, match="cannot be sealed"):
        canonical({"a": float("nan")})


def test_a_seal_is_the_digest_of_its_content() -> None:
    one = sealed()
    assert one.sha256 == hashlib.sha256(canonical(one.content)).hexdigest()
    again = opened(json.loads(json.dumps(one.content)), one.sha256)
    assert (again.contract, again.attempt) == (CONTRACT, "one.1")


def test_the_pipeline_lets_in_exactly_what_was_sealed() -> None:
    one = parameter(sealed())
    floats = {
        "refine": {"timesteps": 100.0, "rate": 3e-4, "sizes": [1.0, 4.0]},
        "clone": {"seeds": 5.0},
    }
    assert admit(one, floats, "scenes", VERSIONS).attempt == "one.1"
    with pytest.raises(ConfigurationError, match="no sealed contract"):
        admit({}, STAGES, "scenes", VERSIONS)
    for stages, source, versions, words in (
        ({**STAGES, "clone": {"seeds": 6}}, "scenes", VERSIONS, "clone.seeds is 6, sealed was 5"),
        ({**STAGES, "clone": {}}, "scenes", VERSIONS, "clone.seeds is None"),
        ({**STAGES, "gate": {"retained": 0}}, "scenes", VERSIONS, "gate.retained is 0"),
        (STAGES, "other", VERSIONS, "the source is 'other', sealed was 'scenes'"),
        (STAGES, "scenes", {**VERSIONS, "code_version": "c2"}, "code_version is of version 'c2'"),
    ):
        with pytest.raises(SealBroken, match=words):
            admit(one, stages, source, versions)
    with pytest.raises(ConfigurationError, match="did you mean 'content'"):
        admit({**one, "contnet": 1}, STAGES, "scenes", VERSIONS)


_LEAVES = st.none() | st.booleans() | st.integers(-99, 99) | st.floats(-9, 9) | st.text(max_size=9)
_PATHS = st.sampled_from(
    [
        ("contract", "objective"),
        ("contract", "hypothesis"),
        ("contract", "expected"),
        ("contract", "author"),
        ("configuration", "refine", "timesteps"),
        ("configuration", "refine", "rate"),
        ("configuration", "refine", "sizes"),
        ("configuration", "clone", "seeds"),
        ("experiment",),
        ("attempt",),
        ("source",),
        ("sealed_at",),
        ("format",),
        ("versions", "code_version"),
        ("overrides", "new"),
        ("plan", "trials"),
        ("new",),
    ]
)


@settings(max_examples=300, deadline=None)
@given(path=_PATHS, value=_LEAVES | st.lists(_LEAVES, max_size=3), remove=st.booleans())
def test_a_sealed_contract_that_was_changed_is_always_found_out(
    path: tuple[str, ...], value: Any, remove: bool
) -> None:
    one = parameter(sealed())
    content = one["content"]
    *rooms, name = path
    place = content
    for room in rooms:
        place = place[room]
    if remove:
        assume(name in place)
        del place[name]
    else:
        assume(name not in place or canonical(place[name]) != canonical(value))
        place[name] = value
    with pytest.raises(SealBroken):
        opened(content, one["sha256"])
    with pytest.raises(SealBroken):
        admit(one, STAGES, "scenes", VERSIONS)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_journal_that_was_changed_is_always_found_out(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    for _ in range(4):
        enter(folder, "one", lambda name: (_named(name), f"run-{name}"))
    assert [one.attempt for one in read_journal(folder)] == ["one.1", "one.2", "one.3", "one.4"]
    file = folder / JOURNAL_FILE
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    number = data.draw(st.integers(0, 3))
    how = data.draw(st.sampled_from(["change", "remove", "swap"]))
    if how == "change":
        field = data.draw(st.sampled_from(["attempt", "sha256", "sealed_at", "run_id", "link"]))
        lines[number][field] = "0" + lines[number][field]
    elif how == "remove":
        assume(number < 3)  # the newest line may be missing only together with its run
        del lines[number]
    else:
        assume(number < 3)
        lines[number], lines[number + 1] = lines[number + 1], lines[number]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SealBroken, match="line"):
        read_journal(folder)


def _named(name: str) -> Seal:
    return seal("one", name, CONTRACT, STAGES, {}, "", VERSIONS, f"2026-{name}", {})


def test_nothing_is_entered_when_sealing_fails(tmp_path: Path) -> None:
    def fail(name: str) -> tuple[Seal, str]:
        raise InvalidInput("MLflow is away")

    with pytest.raises(InvalidInput):
        enter(tmp_path, "one", fail)
    assert read_journal(tmp_path) == ()


def test_nothing_is_entered_behind_a_line_that_is_no_seal(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_text('{"experiment": "one"}\n')
    with pytest.raises(SealBroken, match="without link"):
        enter(tmp_path, "one", lambda name: (_named(name), "run"))
    assert (tmp_path / JOURNAL_FILE).read_text() == '{"experiment": "one"}\n'
