"""The ledger's API refuses malformed requests in one sentence; none of them breaks it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from campaign import runs
from experiment_samples import schema
from fastapi.testclient import TestClient
from launch_samples import Pipeline, ledger_in

from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.query import Question
from foundation.errors import InvalidInput
from pipelines.experiments.api import ExperimentsApiConfig, build_app

_WORDS: tuple[str, ...] = (
    "", " ", "x", "\x00", "a\x00b", "'", '"', "\\", "%", "*", "-", "--", "-name", "name", "tag",
    "..", "../..", "/", "NEAR", "AND", 'a"b', "(", "é", "\ud800", "\u202e", "\n", "x" * 79,
    "x" * 5000, "nan", "inf", "-1", "1e999", str(2**63), str(-(2**64)), "9" * 5000, "true", "null",
    "base", "longer", "base.1", "base.99999999999999999999", "refine.timesteps", "retained",
    "outcome", '$."x"', "{}", "[]", "!!python/object:os.system", "&a [*a]", "2001-99-99", "0x",
)  # fmt: skip
_SIGNS = ("=", "!=", "<", "<=", ">", ">=", "~", "", " = ", "==")
_NAMES = ("name", "author", "tag", "outcome", "retained", "refine.timesteps", "refine.fleets", "x")
_JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, -(2**70), 10**400, 1e308, float("nan"), float("-inf"), [], {}, [[]],
    {"a": {"b": []}}, ["x", None], *_WORDS,
)  # fmt: skip


@pytest.fixture
def client(
    tmp_path: Path, pipeline: Pipeline, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    made = ledger_in(tmp_path, empty_mlflow)
    monkeypatch.setattr("pipelines.experiments.schema.experiment_schema", made._make_schema)
    for place in ("api_launches", "worker"):
        monkeypatch.setattr(f"pipelines.experiments.{place}.start_worker", lambda *_: None)
    monkeypatch.setattr("pipelines.experiments.api_launches.RateLimiter.take", lambda *_: None)
    made.close()
    config = ExperimentsApiConfig(tmp_path / "experiments", tmp_path / "ledger", open_access=True)
    app = build_app(config)
    with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as opened:
        yield opened


@pytest.mark.parametrize(
    ("where", "status"),
    [
        ("refine.timesteps=99999999999999999999", 400),
        ("refine.timesteps<-99999999999999999999", 400),
        ("retained>" + "9" * 400, 400),
        ("retained>0x" + "f" * 40, 400),
        ("retained>9223372036854775807", 200),
        ("name=a\x00b", 200),
        ("refine.timesteps=" + "[" * 5000, 200),
    ],
    ids=range(7),
)
def test_a_value_beyond_the_index_is_refused_or_finds_nothing(
    client: TestClient, where: str, status: int
) -> None:
    answer = client.get("/v1/experiments", params={"where": where})
    assert answer.status_code == status, answer.text
    assert status == 200 or "\n" not in answer.json()["detail"]


def test_a_text_that_is_no_unicode_is_refused(tmp_path: Path, no_shipped: None) -> None:
    ledger = Ledger(LedgerConfig(tmp_path / "experiments", tmp_path / "ledger"), schema)
    ledger.refresh()
    with pytest.raises(InvalidInput, match="no valid Unicode"):
        ledger.find(Question(where=("name=\udcff",)))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/experiments", {"name": "a", "set": {"refine.timesteps": 2**63}}),
        ("/v1/experiments", {"name": "a", "set": {"refine.timesteps": -(2**64)}}),
        ("/v1/experiments", {"name": "a", "set": {"clone.seeds": [1, 2**63]}}),
        ("/v1/experiments", {"name": "a", "set": {"refine.learning_rate": 10**400}}),
        ("/v1/experiments", {"name": "a", "set": {"inputs.data": "\ud800"}}),
        ("/v1/experiments", {"name": "a", "set": {"\ud800": 1}}),
        ("/v1/experiments", {"name": "a", "tags": ["\ud800"]}),
        ("/v1/experiments", {"name": "a", "tags": ["x" * 300_000]}),
        ("/v1/experiments", {"name": "a", "tags": ["\x85"]}),
        ("/v1/experiments", {"name": "a", "notes": "\ud800"}),
        ("/v1/experiments/base/sweeps", {"vary": ["refine.timesteps=1,9" + "9" * 30]}),
        ("/v1/experiments/base/sweeps", {"vary": ["clone.seeds=&a [1,2],[*a,*a]"]}),
        ("/v1/experiments/base/sweeps", {"vary": ["clone.seeds=" + "[" * 5000]}),
        ("/v1/experiments/base/sweeps", {"vary": ["clone.seeds=1,2"], "seed": 2**70}),
        ("/v1/experiments/base/sweeps", {"vary": ["clone.seeds=1,2"], "trials": 2**70}),
    ],
)
def test_a_body_with_what_no_index_holds_is_refused(
    client: TestClient, path: str, body: dict[str, Any]
) -> None:
    answer = client.post(path, content=json.dumps(body))
    assert 400 <= answer.status_code < 500, answer.text
    assert "\n" not in answer.json()["detail"]
    assert client.get("/v1/experiments").json()["total"] == 3, "nothing was written"


@pytest.mark.campaign
def test_no_malformed_request_breaks_the_api(client: TestClient) -> None:
    rng = random.Random(14)
    document = client.get("/openapi.json").json()
    routes = [
        (method, path, [one["name"] for one in facts.get("parameters", ()) if one["in"] == "query"])
        for path, methods in document["paths"].items()
        for method, facts in methods.items()
    ]
    for _ in range(runs(200, 2000)):
        method, path, names = rng.choice(routes)
        for place in ("{name}", "{attempt}"):
            path = path.replace(place, _quoted(rng.choice((*_WORDS, "base", "longer", "base.1"))))
        query = "&".join(
            f"{name}={_quoted(_value(rng, name))}" for name in names if rng.random() < 0.6
        )
        content = _body(rng) if method == "post" else None
        answer = client.request(
            method, f"{path}?{query}", content=content, headers={"content-type": "application/json"}
        )
        asked = f"{method} {path[:200]} {query[:300]} {str(content)[:300]}"
        assert answer.status_code < 500, f"{asked}: {answer.text}"
        if answer.status_code >= 400:
            assert "\n" not in answer.json()["detail"], asked


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _value(rng: random.Random, name: str) -> str:
    if name == "where" and rng.random() < 0.8:
        return rng.choice(_NAMES) + rng.choice(_SIGNS) + rng.choice(_WORDS)
    if name == "sort" and rng.random() < 0.5:
        return rng.choice(("", "-")) + rng.choice(_NAMES)
    return rng.choice(_WORDS)


def _body(rng: random.Random) -> bytes:
    body: dict[str, Any] = rng.choice(
        (
            {
                "name": f"n{rng.randrange(10**6)}",
                "extends": "base",
                "tags": ["x"],
                "notes": "x",
                "set": {"refine.timesteps": 3, "clone.seeds": [1], "inputs.data": "x"},
                "contract": {"objective": "o", "hypothesis": "h", "expected": "retained >= 0.9"},
            },
            {
                "vary": ["refine.learning_rate=1e-4..1e-2:log"],
                "trials": 2,
                "maximize": "retained",
                "seed": 0,
            },
        )
    )
    for _ in range(rng.randrange(3)):
        key, junk = rng.choice(list(body)), rng.choice(_JUNK)
        way = rng.randrange(3)
        if way == 0:
            body[key] = junk
        elif isinstance(body[key], dict):
            inner = rng.choice(list(body[key]) or ["x"])
            body[key][inner if way == 1 else rng.choice(_WORDS)] = junk
        elif isinstance(body[key], list):
            body[key].append(junk)
        else:
            body[rng.choice(_WORDS)] = junk
    text = json.dumps(body).encode("utf-8", "surrogatepass")
    if rng.random() < 0.15:
        place = rng.randrange(len(text))
        text = text[:place] + rng.randbytes(rng.randrange(9)) + text[place + rng.randrange(4) :]
    return text
