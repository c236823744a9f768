"""The ledger's API: tokens and their role, what it answers, and its document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from launch_samples import Pipeline, ledger_in

from components.experiments.locks import attempt_folder
from foundation.errors import ConfigurationError
from inference_graph.gateway.access import Role, add_token
from pipelines.experiments.api import ExperimentsApiConfig, build_app
from pipelines.experiments.launch import launch_here
from pipelines.experiments.schema import PLACES, experiment_schema, open_ledger

_TEXTS = ("'str'", "str,", "Path")


@pytest.fixture
def config(
    tmp_path: Path, pipeline: Pipeline, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> ExperimentsApiConfig:
    made = ledger_in(tmp_path, empty_mlflow)
    monkeypatch.setattr("pipelines.experiments.schema.experiment_schema", made._make_schema)
    monkeypatch.setattr("pipelines.experiments.api_launches.start_worker", lambda ledger: None)
    made.close()
    return ExperimentsApiConfig(
        tmp_path / "experiments", tmp_path / "ledger", tokens=tmp_path / "tokens.jsonl"
    )


@pytest.fixture
def client(config: ExperimentsApiConfig, tmp_path: Path) -> Iterator[TestClient]:
    token = add_token(tmp_path / "tokens.jsonl", "cleo", ["experiment"])
    others = [role for role in Role if role != Role.EXPERIMENT]
    (tmp_path / "other").write_text(add_token(tmp_path / "tokens.jsonl", "cam", others))
    with TestClient(build_app(config), headers={"authorization": f"Bearer {token}"}) as opened:
        yield opened


def test_only_who_has_the_role_may_ask(client: TestClient, tmp_path: Path) -> None:
    other = (tmp_path / "other").read_text()
    document = client.get("/openapi.json").json()
    asked = 0
    for path, methods in document["paths"].items():
        if not path.startswith("/v1"):
            continue
        for method in methods:
            url = path.replace("{name}", "base").replace("{attempt}", "base.1")
            query = {"first": "base", "second": "longer"}
            body = {"name": "x", "vary": ["clone.seeds=1,2"]} if method == "post" else None
            bare = client.request(
                method, url, params=query, json=body, headers={"authorization": ""}
            )
            assert bare.status_code in (401, 422), path
            forbidden = client.request(
                method, url, params=query, json=body, headers={"authorization": f"Bearer {other}"}
            )
            assert forbidden.status_code in (403, 422)
            asked += bare.status_code == 401 and forbidden.status_code == 403
            assert methods[method]["security"] and methods[method]["summary"]
    assert asked >= 14
    assert client.get("/healthz", headers={"authorization": ""}).status_code == 200
    page = client.get("/docs").text
    assert "/v1/experiments/{name}/launches" in page and "http://" not in page


def test_files_of_other_names_are_left_out_and_said(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/v1/experiments").json()["left_out"] == []
    (tmp_path / "experiments" / "no name.yaml").write_text("")
    found = client.get("/v1/experiments").json()
    assert [one["name"] for one in found["experiments"]] == ["base", "idea", "longer"]
    assert len(found["left_out"]) == 1 and "no name.yaml is left out" in found["left_out"][0]


def test_an_experiment_is_written_launched_and_scored(
    client: TestClient, config: ExperimentsApiConfig, pipeline: Pipeline
) -> None:
    promise = {"objective": "keep accuracy", "hypothesis": "h", "expected": "retained >= 0.9"}
    body = {
        "name": "mine",
        "extends": "longer",
        "set": {"refine.learning_rate": 1e-3},
        "contract": promise,
    }
    made = client.post("/v1/experiments", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["contract"]["author"] == "cleo"
    assert made.json()["configuration"]["refine.timesteps"] == {"value": 200, "from": "longer"}
    launched = client.post("/v1/experiments/mine/launches")
    assert (launched.status_code, launched.json()["state"]) == (202, "queued")
    ended = client.post("/v1/launches/mine.1/cancel").json()
    assert ended["state"] == "cancelled"
    assert client.post("/v1/launches/mine.1/resume").json()["state"] == "queued"
    ledger = open_ledger(config.kept)
    launch_here(ledger, ledger.index.attempt("mine.1"))  # as the worker does
    out = Path(ledger.index.attempt("mine.1").out)
    (out / "logs").mkdir()
    (out / "logs" / "refine.log").write_text("step 1\n")
    ledger.close()
    reported = client.get("/v1/launches/mine.1").json()
    assert (reported["verdict"], reported["reason"]) == ("met", "retained is 1")
    assert client.get("/v1/launches", params={"state": "succeeded"}).json()[0] | {
        "steps": [],
        "log": "",
    } == reported | {"steps": []}
    assert client.get("/v1/launches/mine.1/log").text == "step 1\n"
    assert client.get("/v1/launches/mine.1/log", params={"step": "../x"}).status_code == 404
    found = client.get(
        "/v1/experiments", params={"words": "keeping accuracy", "where": "outcome=met"}
    ).json()
    assert [one["name"] for one in found["experiments"]] == ["mine"]
    page = client.get("/v1/experiments", params={"sort": "-name", "limit": 1, "offset": 1}).json()
    assert ([one["name"] for one in page["experiments"]], page["total"]) == (["longer"], 4)
    diff = client.get("/v1/diff", params={"first": "base", "second": "mine"}).json()
    assert [one["path"] for one in diff["differences"]] == [
        "refine.timesteps",
        "refine.learning_rate",
    ]
    assert client.get("/v1/tree", params={"root": "mine"}).json()[0]["outcome"] == "met"
    assert client.get("/v1/scores").json()["authors"][0]["name"] == "cleo"
    assert client.get("/v1/seals").json() == [
        {"attempt": "mine.1", "verdict": "intact", "detail": ""}
    ]
    assert client.get("/v1/export").text.startswith("name,parent")
    assert client.get("/v1/export", params={"form": "markdown"}).text.startswith("| name |")
    assert client.post("/v1/experiments/mine/score").json()["verdict"] == "met"
    sweep = {"vary": ["refine.learning_rate=1e-4..1e-2:log"], "trials": 2, "maximize": "retained"}
    assert client.post("/v1/experiments/mine/sweeps", json=sweep).json()["attempt"] == "mine.2"
    assert attempt_folder(config.ledger, "mine.1").is_dir()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("post", "/v1/experiments/idea/launches", None, 400, "has no contract"),
        ("post", "/v1/experiments/longr/launches", None, 404, "did you mean 'longer'"),
        ("get", "/v1/experiments/longr", None, 404, "did you mean 'longer'"),
        ("get", "/v1/experiments?where=autor=x", None, 400, "did you mean 'author'"),
        ("get", "/v1/launches/base.7", None, 404, "no launch"),
        ("get", "/v1/launches/..%2f..%2fx", None, 404, ""),
        ("post", "/v1/experiments", {"name": "x", "set": {"clone.sedes": 1}}, 400, "clone.seeds"),
        ("post", "/v1/experiments", {"name": "../x"}, 400, "no name"),
        ("post", "/v1/experiments", {"name": "x", "sets": {}}, 422, "extra"),
        ("post", "/v1/experiments", {"name": "base"}, 400, "already"),
        (
            "post",
            "/v1/experiments",
            {"name": "x", "set": {"inputs.data": "http://10.0.0.1/x.zip"}},
            403,
            "inputs.data names a place",
        ),
        (
            "post",
            "/v1/experiments",
            {"name": "x", "set": {"inputs": {"ladder": "/etc"}}},
            403,
            "inputs.ladder names a place",
        ),
        (
            "post",
            "/v1/experiments/base/sweeps",
            {"vary": [" inputs.data =a,b"]},
            403,
            "inputs.data names a place",
        ),
    ],
)
def test_refusals_are_one_sentence(
    client: TestClient, method: str, path: str, body: object, status: int, words: str
) -> None:
    answer = client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"].lower() or words in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize("value", ["http://10.0.0.1/x", None])
def test_no_client_chooses_a_place(client: TestClient, value: str | None) -> None:
    """However an option is written: nothing is stored, so nothing is fetched or launched."""
    before = client.get("/v1/experiments").json()["total"]
    schema = experiment_schema()  # the ledger of these tests has only some of its options
    for place in PLACES:
        stage, _, option = place.partition(".")
        assert set(schema.flat({place: "x"})) == {place}
        assert set(schema.flat({stage: {option: "x"}})) == {place}
        written = [place, f" {place} ", place.upper(), f"{stage}..{option}", f"{place}."]
        for given in (*({key: value} for key in written), {stage: {option: value}}):
            made = client.post("/v1/experiments", json={"name": "x", "set": given})
            assert made.status_code in (400, 403, 422), (given, made.text)
        if place.startswith("inputs.") and value is not None:
            assert made.json()["detail"].startswith(f"{place} names a place")
    for method in (client.put, client.patch, client.delete):
        assert method("/v1/experiments/base").status_code == 405
    assert client.get("/v1/experiments").json()["total"] == before
    assert client.get("/v1/launches").json() == []


def test_every_option_that_is_a_text_is_known_as_a_place_or_as_none() -> None:
    words = {
        "scenes.condition",
        "scenes.world",
        "ingest.annotations",
        "spot_check.providers",
        "compare_rungs.providers",
        "profile.providers",
        "time.providers",
        "time.price_source",
        "gate.protect",
        "register.experiment",
        "register.model_name",
    }
    keys = experiment_schema().keys.values()
    texts = {one.path for one in keys if any(kind in str(one.annotation) for kind in _TEXTS)}
    assert texts == words | PLACES


def test_who_may_ask_has_to_be_settled(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not settled"):
        ExperimentsApiConfig()
    with pytest.raises(ConfigurationError, match="would let the network in"):
        ExperimentsApiConfig(host="0.0.0.0", open_access=True)
