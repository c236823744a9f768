"""KServe's rules of routing, one case each: a graph, its steps' answers, a request, what comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from graph_services import Reply, Script, graph, run_graph, serving_steps
from processes import closed_port

IN = {"instances": ["in"]}
A = {"predictions": ["a"]}
B = {"predictions": ["b"]}
UNMATCHED = "None of the routes matched with the switch condition"


def failure(cause: str) -> dict[str, str]:
    return {"error": "Failed to process request", "cause": cause}


def step(service: str, **fields: Any) -> dict[str, Any]:
    """A step; ``@name`` is a service by name, ``>node`` a node, anything else an address."""
    kind = {"@": "serviceName", ">": "nodeName"}.get(service[0], "serviceUrl")
    return {kind: service.lstrip("@>"), **fields}


@dataclass(frozen=True)
class Rule:
    """``calls`` are the steps asked, in order, with the JSON they were sent."""

    says: str
    nodes: Mapping[str, Mapping[str, list[dict[str, Any]]]]
    status: int
    body: Any
    calls: list[tuple[str, Any]]
    steps: Mapping[str, Script] = field(default_factory=dict)
    request: Any = field(default_factory=lambda: IN)


OK: Mapping[str, Script] = {"a": Reply(A), "b": Reply(B)}
SOFT_LOSS: Mapping[str, Script] = {"a": Reply({"detail": "gone"}, 404), "b": Reply(B)}

SEQUENCE = [
    Rule(
        "a sequence's answer is its last step's",
        {"root": {"Sequence": [step("a"), step("b")]}},
        200,
        B,
        [("a", IN), ("b", IN)],
        OK,
    ),
    Rule(
        "$response is the answer before",
        {"root": {"Sequence": [step("a"), step("b", data="$response")]}},
        200,
        B,
        [("a", IN), ("b", A)],
        OK,
    ),
    Rule(
        "$request is the node's input",
        {"root": {"Sequence": [step("a"), step("b", data="$request")]}},
        200,
        B,
        [("a", IN), ("b", IN)],
        OK,
    ),
    Rule(
        "nothing but exactly $response is the answer before",
        {"root": {"Sequence": [step("a"), step("b", data="$response.predictions")]}},
        200,
        B,
        [("a", IN), ("b", IN)],
        OK,
    ),
    Rule(
        "$response of a first step is the node's input",
        {"root": {"Sequence": [step("a", data="$response")]}},
        200,
        A,
        [("a", IN)],
        OK,
    ),
    Rule(
        "a soft step's status is passed over, and its answer goes on",
        {"root": {"Sequence": [step("a"), step("b", data="$response")]}},
        200,
        B,
        [("a", IN), ("b", {"detail": "gone"})],
        SOFT_LOSS,
    ),
    Rule(
        "Soft may be written",
        {"root": {"Sequence": [step("a", dependency="Soft"), step("b")]}},
        200,
        B,
        [("a", IN), ("b", IN)],
        SOFT_LOSS,
    ),
    Rule(
        "a hard step's status and body end the sequence",
        {"root": {"Sequence": [step("a", dependency="Hard"), step("b")]}},
        404,
        {"detail": "gone"},
        [("a", IN)],
        SOFT_LOSS,
    ),
    Rule(
        "a soft last step's status is the sequence's",
        {"root": {"Sequence": [step("b"), step("a")]}},
        404,
        {"detail": "gone"},
        [("b", IN), ("a", IN)],
        SOFT_LOSS,
    ),
    Rule(
        "every status from 200 to 299 is a success for a hard step",
        {"root": {"Sequence": [step("a", dependency="Hard"), step("b")]}},
        200,
        B,
        [("a", IN), ("b", IN)],
        {"a": Reply(A, 207), "b": Reply(B)},
    ),
    Rule(
        "a met condition goes on",
        {"root": {"Sequence": [step("a"), step("b", condition="predictions.0")]}},
        200,
        B,
        [("a", IN), ("b", IN)],
        OK,
    ),
    Rule(
        "an unmet condition ends with 200 and the last answer",
        {"root": {"Sequence": [step("a"), step("b", condition="predictions.1")]}},
        200,
        A,
        [("a", IN)],
        OK,
    ),
    Rule(
        "an unmet condition ends with 200 even after a soft failure",
        {"root": {"Sequence": [step("a"), step("b", condition="predictions")]}},
        200,
        {"detail": "gone"},
        [("a", IN)],
        SOFT_LOSS,
    ),
    Rule(
        "a condition looks at the answer before, whatever data says",
        {"root": {"Sequence": [step("a"), step("b", data="$request", condition="instances")]}},
        200,
        A,
        [("a", IN)],
        OK,
    ),
    Rule(
        "a condition needs JSON to look at",
        {"root": {"Sequence": [step("a"), step("b", condition="predictions")]}},
        500,
        failure("invalid response"),
        [("a", IN)],
        {"a": Reply(b"text"), "b": Reply(B)},
    ),
    Rule(
        "a condition of a first step has nothing to look at",
        {"root": {"Sequence": [step("a", condition="instances")]}},
        500,
        failure("invalid response"),
        [],
        OK,
    ),
    Rule(
        "mapPredictionsToInstances renames the answer before",
        {
            "root": {
                "Sequence": [
                    step("a"),
                    step("b", data="$response", mapPredictionsToInstances=True),
                ]
            }
        },
        200,
        B,
        [("a", IN), ("b", {"instances": ["a"]})],
        {"a": Reply(A | {"model": "m", "instances": ["in"]}), "b": Reply(B)},
    ),
    *(
        Rule(
            f"predictions that are {name} are not renamed",
            {"root": {"Sequence": [step("a", mapPredictionsToInstances=True)]}},
            200,
            A,
            [("a", request)],
            OK,
            request,
        )
        for name, request in {
            "no list": {"predictions": {"x": 1}},
            "empty": {"predictions": [], "model": "m"},
            "beside instances that are no list": {"predictions": ["p"], "instances": 1},
        }.items()
    ),
    Rule(
        "mapPredictionsToInstances renames the node's input too",
        {"root": {"Sequence": [step("a", mapPredictionsToInstances=True)]}},
        200,
        A,
        [("a", {"instances": ["p"]})],
        OK,
        {"predictions": ["p"]},
    ),
    Rule(
        "without predictions there is nothing to rename",
        {"root": {"Sequence": [step("a", mapPredictionsToInstances=True)]}},
        200,
        A,
        [("a", IN)],
        OK,
    ),
    Rule(
        "mapPredictionsToInstances is a sequence's matter",
        {"root": {"Ensemble": [step("a", name="a", mapPredictionsToInstances=True)]}},
        200,
        {"a": A},
        [("a", {"predictions": ["p"]})],
        OK,
        {"predictions": ["p"]},
    ),
    Rule(
        "what is no JSON is passed along a sequence",
        {"root": {"Sequence": [step("a"), step("b", data="$response")]}},
        200,
        b"b text",
        [("a", IN), ("b", b"a text")],
        {"a": Reply(b"a text"), "b": Reply(b"b text")},
    ),
]

TO_A_OR_B = {"root": {"Switch": [step("a", condition="left"), step("b", condition="right")]}}

SWITCH = [
    Rule(
        "the first step whose condition exists gets the input as it is",
        TO_A_OR_B,
        200,
        A,
        [("a", {"right": 1, "left": 1})],
        OK,
        {"right": 1, "left": 1},
    ),
    Rule(
        "later conditions count when earlier ones do not",
        TO_A_OR_B,
        200,
        B,
        [("b", {"right": 1})],
        OK,
        {"right": 1},
    ),
    Rule(
        "false exists",
        TO_A_OR_B,
        200,
        A,
        [("a", {"left": False})],
        OK,
        {"left": False},
    ),
    Rule(
        "null exists",
        TO_A_OR_B,
        200,
        A,
        [("a", {"left": None})],
        OK,
        {"left": None},
    ),
    Rule(
        "equality is a query over the document in an array",
        {
            "root": {
                "Switch": [
                    step("a", condition='[@this].#(route.model=="nano")'),
                    step("b", condition='[@this].#(route.model=="large")'),
                ]
            }
        },
        200,
        B,
        [("b", {"route": {"model": "large"}})],
        OK,
        {"route": {"model": "large"}},
    ),
    Rule(
        "@this is always there",
        {"root": {"Switch": [step("a", condition="left"), step("b", condition="@this")]}},
        200,
        B,
        [("b", [])],
        OK,
        [],
    ),
    Rule(
        "no match at the root is 404",
        TO_A_OR_B,
        404,
        failure(UNMATCHED),
        [],
        OK,
    ),
    Rule(
        "no match below the root is 500",
        {"root": {"Sequence": [step(">fork")]}, "fork": TO_A_OR_B["root"]},
        500,
        failure(UNMATCHED),
        [],
        OK,
    ),
    Rule(
        "an input that is no JSON matches nothing, not even @this",
        {"root": {"Switch": [step("a", condition="@this")]}},
        404,
        failure(UNMATCHED),
        [],
        OK,
        b"{",
    ),
    Rule(
        "a step without condition matches nothing",
        {"root": {"Switch": [step("a")]}},
        404,
        failure(UNMATCHED),
        [],
        OK,
    ),
    Rule(
        "the step's status and body are the switch's, hard or soft",
        {"root": {"Switch": [step("a", condition="@this", dependency="Hard")]}},
        404,
        {"detail": "gone"},
        [("a", IN)],
        SOFT_LOSS,
    ),
    Rule(
        "$response means nothing to a switch",
        {"root": {"Switch": [step("a", condition="@this", data="$response")]}},
        200,
        A,
        [("a", IN)],
        OK,
    ),
]

ENSEMBLE = [
    Rule(
        "an ensemble's answer is its steps' answers by name, in the order of names",
        {"root": {"Ensemble": [step("b", name="two"), step("a", name="one")]}},
        200,
        b'{"one":{"predictions": ["a"]},"two":{"predictions": ["b"]}}',
        [("a", IN), ("b", IN)],
        OK,
    ),
    Rule(
        "a step without name goes by its position",
        {"root": {"Ensemble": [step("a"), step("b", name="two")]}},
        200,
        {"0": A, "two": B},
        [("a", IN), ("b", IN)],
        OK,
    ),
    Rule(
        "a soft step's failure stands among the answers, and the status is 200",
        {"root": {"Ensemble": [step("a", name="a"), step("b", name="b")]}},
        200,
        {"a": {"detail": "gone"}, "b": B},
        [("a", IN), ("b", IN)],
        SOFT_LOSS,
    ),
    Rule(
        "a hard step's status and body are the ensemble's",
        {"root": {"Ensemble": [step("b"), step("a", dependency="Hard")]}},
        404,
        {"detail": "gone"},
        [("a", IN), ("b", IN)],
        SOFT_LOSS,
    ),
    Rule(
        "the first hard step in the manifest's order decides",
        {"root": {"Ensemble": [step("a", dependency="Hard"), step("b", dependency="Hard")]}},
        404,
        {"detail": "gone"},
        [("a", IN), ("b", IN)],
        {"a": Reply({"detail": "gone"}, 404, after="b"), "b": Reply({}, 503)},
    ),
    Rule(
        "an array is no answer for an ensemble, even of a soft step",
        {"root": {"Ensemble": [step("a"), step("b")]}},
        500,
        failure("json: cannot unmarshal array into Go value of type map[string]interface {}"),
        [("a", IN), ("b", IN)],
        {"a": Reply([1], after="b"), "b": Reply(B)},
    ),
    Rule(
        "neither is a number",
        {"root": {"Ensemble": [step("a")]}},
        500,
        failure("json: cannot unmarshal number into Go value of type map[string]interface {}"),
        [("a", IN)],
        {"a": Reply(1.5)},
    ),
    Rule(
        "null is",
        {"root": {"Ensemble": [step("a", name="a")]}},
        200,
        {"a": None},
        [("a", IN)],
        {"a": Reply(None)},
    ),
    Rule(
        "conditions mean nothing to an ensemble",
        {"root": {"Ensemble": [step("a", name="a", condition="nowhere")]}},
        200,
        {"a": A},
        [("a", IN)],
        OK,
    ),
    Rule(
        "no digit of a number is lost",
        {"root": {"Ensemble": [step("a", name="a")]}},
        200,
        b'{"a":{"n":12345678901234567890,"x":0.1000}}',
        [("a", IN)],
        {"a": Reply(b' {"n":12345678901234567890,"x":0.1000}\n')},
    ),
]

NODES = [
    Rule(
        "a service by name is asked at its address",
        {"root": {"Sequence": [step("@a"), step("@b", data="$response")]}},
        200,
        B,
        [("a", IN), ("b", A)],
        OK,
    ),
    Rule(
        "a nested node's input is what its step was given",
        {
            "root": {"Sequence": [step("a"), step(">inner", data="$response")]},
            "inner": {"Sequence": [step("b"), step("b")]},
        },
        200,
        B,
        [("a", IN), ("b", A), ("b", A)],
        OK,
    ),
    Rule(
        "a nested node's status counts for a hard step",
        {
            "root": {"Sequence": [step(">inner", dependency="Hard"), step("b")]},
            "inner": {"Sequence": [step("a")]},
        },
        404,
        {"detail": "gone"},
        [("a", IN)],
        SOFT_LOSS,
    ),
    Rule(
        "an ensemble merges what a nested ensemble merged",
        {
            "root": {"Ensemble": [step(">inner", name="inner"), step("b", name="b")]},
            "inner": {"Ensemble": [step("a", name="a")]},
        },
        200,
        {"inner": {"a": A}, "b": B},
        [("a", IN), ("b", IN)],
        OK,
    ),
    Rule(
        "a splitter sends everything to a step of 100",
        {"root": {"Splitter": [step("a", weight=0), step("b", weight=100)]}},
        200,
        B,
        [("b", IN)],
        OK,
    ),
    Rule(
        "a splitter's step gives its status and body",
        {"root": {"Splitter": [step("a", weight=100)]}},
        404,
        {"detail": "gone"},
        [("a", IN)],
        SOFT_LOSS,
    ),
    Rule(
        "one node may be reached by two ways",
        {
            "root": {"Ensemble": [step(">both", name="x"), step(">both", name="y")]},
            "both": {"Sequence": [step("a")]},
        },
        200,
        {"x": A, "y": A},
        [("a", IN), ("a", IN)],
        OK,
    ),
    Rule(
        "a step that sends elsewhere is followed, with the body",
        {"root": {"Sequence": [step("a"), step("b")]}},
        200,
        B,
        [("a", IN), ("moved", IN), ("b", IN)],
        {
            "a": Reply({}, 307, {"Location": "/moved"}),
            "moved": Reply(A),
            "b": Reply(B),
        },
    ),
]


@pytest.mark.parametrize("rule", SEQUENCE + SWITCH + ENSEMBLE + NODES, ids=lambda rule: rule.says)
def test_rule(rule: Rule) -> None:
    with serving_steps(rule.steps) as steps:
        document = graph(deepcopy(rule.nodes))
        for node in document["spec"]["nodes"].values():
            for one in node["steps"]:
                if "serviceUrl" in one:
                    one["serviceUrl"] = steps.url(one["serviceUrl"])
        request = rule.request if isinstance(rule.request, bytes) else as_json(rule.request)
        (answer,) = run_graph(document, steps.url, request)
        calls = [(call.step, call.body) for call in steps.calls]
    expected = [
        (name, sent if isinstance(sent, bytes) else as_json(sent)) for name, sent in rule.calls
    ]
    in_order = "Ensemble" not in rule.nodes["root"]
    assert [(name, normal(body)) for name, body in (calls if in_order else sorted(calls))] == [
        (name, normal(body)) for name, body in expected
    ]
    assert answer.status == rule.status
    if isinstance(rule.body, bytes):
        assert answer.body == rule.body
    else:
        assert json.loads(answer.body) == rule.body
        assert answer.headers == {"Content-Type": "application/json"}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def normal(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


FAILING: list[tuple[str, Callable[[], Reply]]] = [
    ("hangs up", lambda: Reply(hang_up=True)),
    ("leads in a circle", lambda: Reply({}, 307, {"Location": "/a"})),
    ("leads nowhere", lambda: Reply({}, 307, {"Location": "ftp://nowhere/"})),
    ("answers too much", lambda: Reply(b"x" * 2000)),
    ("is packed and is not", lambda: Reply(b"plain", 200, {"Content-Encoding": "gzip"})),
]


@pytest.mark.parametrize("dependency", ["Soft", "Hard"])
@pytest.mark.parametrize("router", ["Sequence", "Switch", "Ensemble", "Splitter"])
def test_a_step_that_cannot_be_reached_fails_the_request(router: str, dependency: str) -> None:
    url = f"http://127.0.0.1:{closed_port()}/gone"
    fields = {"condition": "@this"} if router == "Switch" else {"weight": 100}
    document = graph({"root": {router: [step(url, dependency=dependency, **fields)]}})
    (answer,) = run_graph(document, str, b"{}")
    assert answer.status == 500
    reported = json.loads(answer.body)
    assert reported["error"] == "Failed to process request"
    assert reported["cause"].startswith(f'Post "{url}": ')


@pytest.mark.parametrize("reply", [make for _, make in FAILING], ids=[name for name, _ in FAILING])
def test_a_step_without_a_whole_answer_fails_the_request(reply: Callable[[], Reply]) -> None:
    with serving_steps({"a": reply(), "b": Reply(B)}) as steps:
        document = graph({"root": {"Sequence": [step(steps.url("a")), step(steps.url("b"))]}})
        (answer,) = run_graph(document, str, b"{}", largest_answer=1000)
        asked = {call.step for call in steps.calls}
    assert (answer.status, asked) == (500, {"a"})
    assert json.loads(answer.body)["cause"].startswith(f'Post "{steps.url("a")}": ')


def test_an_ensembles_answer_that_is_no_json_is_reported() -> None:
    for body in (b"text", b"", b'{"x": NaN}', b"[" * 100_000, b"\xef\xbb\xbf{}"):
        with serving_steps({"a": Reply(body)}) as steps:
            (answer,) = run_graph(
                graph({"root": {"Ensemble": [step(steps.url("a"), name="one")]}}), str, b"{}"
            )
        assert answer.status == 500
        assert json.loads(answer.body)["cause"].startswith("step 'one' answered no JSON: ")


def test_only_json_is_called_json() -> None:
    bodies = {b"{}": "application/json", b" null ": "application/json", b"": None}
    bodies |= {b"<html>": "text/plain; charset=utf-8", b"\xff\xd8": "application/octet-stream"}
    for body, expected in bodies.items():
        # The step's own word does not count.
        reply = Reply(body, 200, {"Content-Type": "text/html", "X-Step": "a"})
        with serving_steps({"a": reply}) as steps:
            (answer,) = run_graph(graph({"root": {"Sequence": [step(steps.url("a"))]}}), str, b"{}")
        assert answer.body == body
        assert answer.headers == ({} if expected is None else {"Content-Type": expected})


def test_the_deepest_graph_runs() -> None:
    nodes: dict[str, dict[str, list[dict[str, Any]]]] = {
        f"n{index}": {"Ensemble": [step(f">n{index + 1}", name="x")]} for index in range(1, 99)
    }
    with serving_steps({"a": Reply(A)}) as steps:
        nodes["root"] = {"Sequence": [step(">n1")]}
        nodes["n99"] = {"Switch": [step(steps.url("a"), condition="@this")]}
        (answer,) = run_graph(graph(nodes), str, b"{}")
    document = json.loads(answer.body)
    for _ in range(98):
        document = document["x"]
    assert (answer.status, document) == (200, A)
