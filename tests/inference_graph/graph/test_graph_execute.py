"""What no single rule shows: headers, weights, limits of time, steps at once, steps that die."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import Any

import pytest
from graph_services import Reply, graph, run_graph, serving_steps
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from foundation.errors import ConfigurationError, Unavailable
from foundation.http_client import HttpClient
from inference_graph.graph import GraphExecutor, ServiceUrls, load_graph
from inference_graph.graph.execute import drawn
from inference_graph.graph.headers import HeaderPatterns
from inference_graph.graph.spec import GraphStep

ZOE = "Zoë".encode().decode("latin-1")
"""What servers make of a name in UTF-8: a character for each byte."""
SENT = [
    ("authorization", "Bearer token"),
    ("x-request-id", "7"),
    ("X-TEAM", "a"),
    ("x-team", "b"),
    ("content-type", "application/json; v=1"),
    ("host", "elsewhere"),
    ("content-length", "999"),
    ("connection", "close"),
    ("x-name", ZOE),
]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), []),
        (("Authorization",), ["Authorization: Bearer token"]),
        # Found anywhere in the name, in Go's spelling of it.
        (("^X-", "Request"), ["X-Request-Id: 7", "X-Team: a", "X-Team: b", f"X-Name: {ZOE}"]),
        (("authorization",), []),
        (("(?i)authorization",), ["Authorization: Bearer token"]),
        # As in KServe's own test of patterns: "*" is "any number of", not "anything".
        (
            ("X-T*", "Auth*"),
            ["Authorization: Bearer token"]
            + ["X-Request-Id: 7", "X-Team: a", "X-Team: b", f"X-Name: {ZOE}"],
        ),
        (("Content-Type",), ["Content-Type: application/json; v=1"]),
        (("Host|Connection|Content-Length",), []),
    ],
    ids=str,
)
def test_headers_go_on_by_pattern(patterns: tuple[str, ...], expected: list[str]) -> None:
    with serving_steps({"a": Reply(), "b": Reply()}) as steps:
        nodes = {
            "root": {"Sequence": [{"serviceUrl": steps.url("a")}, {"nodeName": "in"}]},
            "in": {"Ensemble": [{"serviceUrl": steps.url("b")}]},
        }
        run_graph(graph(nodes), str, b"{}", headers=SENT, header_patterns=patterns)
        assert [call.step for call in steps.calls] == ["a", "b"]
        for call in steps.calls:
            names = ("Authorization", "X-", "Content-Type")
            got = [f"{key}: {value}" for key, value in call.headers if key.startswith(names)]
            kind = [line for line in expected if line.startswith("Content-Type")]
            added = [] if kind else ["Content-Type: application/json"]
            assert sorted(got) == sorted(expected + added)
            assert dict(call.headers)["Host"] == steps.url("a").split("/")[2]
            assert dict(call.headers)["Content-Length"] == "2"


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'X-\[0-9' is no regular expression"):
        run_graph(
            graph({"root": {"Sequence": [{"serviceUrl": "http://a"}]}}),
            str,
            header_patterns=("X-[0-9",),
        )


def test_one_callers_cookie_is_not_anothers() -> None:
    with serving_steps({"a": Reply({}, 200, {"Set-Cookie": "session=1; Path=/"})}) as steps:
        document = graph({"root": {"Sequence": [{"serviceUrl": steps.url("a")}]}})
        run_graph(document, str, b"{}", b"{}")
        assert len(steps.calls) == 2
        assert not any(key == "Cookie" for call in steps.calls for key, _ in call.headers)


@st.composite
def weights(draw: st.DrawFn) -> list[int]:
    cuts = sorted(draw(st.lists(st.integers(0, 100), max_size=4)))
    return [end - start for start, end in zip([0, *cuts], [*cuts, 100], strict=True)]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(shares=weights(), seed=st.integers(0, 2**32))
def test_a_splitter_draws_by_its_weights(shares: list[int], seed: int) -> None:
    steps = [
        GraphStep(str(index), service_url="http://a", weight=w) for index, w in enumerate(shares)
    ]
    rng = random.Random(seed)
    times = Counter(drawn(steps, rng).name for _ in range(2000))
    observed = [times[str(index)] for index, share in enumerate(shares) if share]
    assert sum(observed) == 2000  # a step of weight 0 is never drawn
    expected = [20.0 * share for share in shares if share]
    if len(observed) > 1:
        assert chisquare(observed, expected).pvalue > 1e-6


def test_the_injected_draws_decide() -> None:
    with serving_steps({"a": Reply({"a": 1}), "b": Reply({"b": 1})}) as steps:
        nodes = [
            {"serviceUrl": steps.url("a"), "weight": 30},
            {"serviceUrl": steps.url("b"), "weight": 70},
        ]
        document = graph({"root": {"Splitter": nodes}})
        answers = run_graph(document, str, *[b"{}"] * 60, rng=random.Random(3))
    points = random.Random(3)
    expected = ["a" if points.randrange(100) < 30 else "b" for _ in range(60)]
    assert [next(iter(json.loads(answer.body))) for answer in answers] == expected
    assert set(expected) == {"a", "b"}


LONG = threading.Event()


def slow() -> Reply:
    return Reply({"late": True}, wait=lambda: LONG.wait(20))


def test_header_bytes_that_are_no_text_are_replaced() -> None:
    assert HeaderPatterns(["^X-"]).chosen([("x-old", "Zo\xeb")]) == [("X-Old", "Zo\ufffd")]


@pytest.mark.parametrize(
    ("spec", "status", "cause"),
    [
        ({"routerTimeouts": {"serviceClient": 1}}, 500, "no answer within 1 s, the limit for one"),
        ({"timeout": 1}, 504, "no answer within 1 s, the limit for a request"),
        ({"routerTimeouts": {"serverWrite": 1}, "timeout": 9}, 504, "no answer within 1 s"),
        ({"timeout": 1, "routerTimeouts": {"serviceClient": 9}}, 504, "no answer within 1 s"),
    ],
    ids=["serviceClient", "timeout", "serverWrite", "both"],
)
@pytest.mark.parametrize("router", ["Sequence", "Ensemble"])
def test_a_late_step(router: str, spec: dict[str, Any], status: int, cause: str) -> None:
    with serving_steps({"a": slow(), "b": Reply()}) as steps:
        nodes = {"root": {router: [{"serviceUrl": steps.url(name)} for name in "ab"]}}
        start = time.monotonic()
        (answer,) = run_graph(graph(nodes, **spec), str, b"{}")
        assert 1 <= time.monotonic() - start < 15
    assert answer.status == status
    assert cause in json.loads(answer.body)["cause"]


def test_no_limit_is_no_limit() -> None:
    # Go reads 0 as none; the default of serverWrite is 60 s.
    client = HttpClient(3.0)
    document = graph(
        {"root": {"Sequence": [{"serviceUrl": "http://a"}]}},
        timeout=0,
        routerTimeouts={"serverWrite": 0, "serviceClient": 0},
    )
    executor = GraphExecutor(load_graph(document), str, client)
    assert (executor._limit, executor._call_limit) == (None, None)
    document["spec"].clear()
    document["spec"] |= graph({"root": {"Sequence": [{"serviceUrl": "http://a"}]}})["spec"]
    executor = GraphExecutor(load_graph(document), str, client)
    assert (executor._limit, executor._call_limit) == (60, None)


def test_the_steps_of_an_ensemble_run_at_once() -> None:
    meeting = threading.Barrier(3)
    reply = Reply({"met": True}, wait=lambda: meeting.wait(20))
    with serving_steps(dict.fromkeys("abc", reply)) as steps:
        nodes = {"root": {"Ensemble": [{"serviceUrl": steps.url(name)} for name in "abc"]}}
        (answer,) = run_graph(graph(nodes), str, b"{}")
    assert json.loads(answer.body) == {str(index): {"met": True} for index in range(3)}


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_an_ensemble_does_not_wait_for_what_no_longer_counts(order: str) -> None:
    with serving_steps({"a": slow(), "b": Reply(hang_up=True)}) as steps:
        nodes = {"root": {"Ensemble": [{"serviceUrl": steps.url(name)} for name in order]}}
        start = time.monotonic()
        (answer,) = run_graph(graph(nodes), str, b"{}")
        assert time.monotonic() - start < 15
    assert answer.status == 500


def test_a_hard_failure_does_not_wait_for_later_steps() -> None:
    with serving_steps({"a": slow(), "b": Reply({"detail": "no"}, 418)}) as steps:
        nodes = [{"serviceUrl": steps.url("b"), "dependency": "Hard"}]
        nodes.append({"serviceUrl": steps.url("a")})
        start = time.monotonic()
        (answer,) = run_graph(graph({"root": {"Ensemble": nodes}}), str, b"{}")
        assert time.monotonic() - start < 15
    assert (answer.status, json.loads(answer.body)) == (418, {"detail": "no"})


def test_many_requests_share_an_executor() -> None:
    meeting = threading.Barrier(40)

    def echo(request: Any) -> Reply:
        return Reply({"predictions": request["instances"]}, wait=lambda: meeting.wait(30))

    async def ask(document: Any) -> list[Any]:
        async with HttpClient(3.0) as client:
            executor = GraphExecutor(load_graph(document), str, client)
            bodies = [json.dumps({"instances": [index]}).encode() for index in range(40)]
            answers = await asyncio.gather(*(executor.run(body) for body in bodies))
        return [json.loads(answer.body)["predictions"] for answer in answers]

    with serving_steps({"echo": echo}) as steps:
        document = graph({"root": {"Sequence": [{"serviceUrl": steps.url("echo")}]}})
        assert asyncio.run(ask(document)) == [[index] for index in range(40)]


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    async def ask(document: Any) -> int:
        async with HttpClient(3.0) as client:
            executor = GraphExecutor(load_graph(document), str, client)
            before = len(asyncio.all_tasks())
            request = asyncio.create_task(executor.run(b"{}"))
            await asyncio.sleep(0.2)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            return len(asyncio.all_tasks()) - before

    with serving_steps({"a": slow(), "b": slow()}) as steps:
        nodes = {"root": {"Ensemble": [{"serviceUrl": steps.url(name)} for name in "ab"]}}
        assert asyncio.run(ask(graph(nodes))) == 0


SLEEPER = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        print("asked", flush=True)
        time.sleep(60)
server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def test_a_step_killed_at_work_fails_the_request_and_no_other() -> None:
    process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline())

    async def ask(document: Any) -> list[int]:
        async with HttpClient(3.0) as client:
            executor = GraphExecutor(load_graph(document), str, client)
            request = asyncio.create_task(executor.run(b'{"slow": 1}'))
            other = await executor.run(b"{}")
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "asked\n"
            os.kill(process.pid, signal.SIGKILL)
            killed = await asyncio.wait_for(request, 20)
            process.wait()
            after = await executor.run(b'{"slow": 1}')
            return [other.status, killed.status, after.status, (await executor.run(b"{}")).status]

    try:
        with serving_steps({"a": Reply()}) as steps:
            fork = [
                {"serviceUrl": f"http://127.0.0.1:{port}/", "condition": "slow"},
                {"serviceUrl": steps.url("a"), "condition": "@this"},
            ]
            assert asyncio.run(ask(graph({"root": {"Switch": fork}}))) == [200, 500, 500, 200]
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_services_have_addresses() -> None:
    urls = ServiceUrls({"a": "http://h:1", "b": "http://h:1/", "c": "https://h/x:predict"})
    assert [urls(name) for name in "abc"] == [
        "http://h:1/v1/models/a:predict",
        "http://h:1/v1/models/b:predict",
        "https://h/x:predict",
    ]
    with pytest.raises(ConfigurationError, match="no address for service 'd'; known are: a, b, c"):
        urls("d")
    for wrong in ("h:1", "grpc://h:1", ""):
        with pytest.raises(ConfigurationError, match="service 'a': "):
            ServiceUrls({"a": wrong})


def test_a_service_without_address_is_reported_at_once() -> None:
    document = graph({"root": {"Sequence": [{"serviceName": "a"}]}})
    with pytest.raises(ConfigurationError, match="no address for service 'a'; known are: none"):
        run_graph(document, ServiceUrls({}))


def test_a_service_may_move_and_may_be_gone() -> None:
    with serving_steps({"a": Reply({"at": "a"}), "b": Reply({"at": "b"})}) as steps:
        addresses = iter([steps.url("a"), steps.url("a"), steps.url("b")])

        def resolve(name: str) -> str:
            try:
                return next(addresses)
            except StopIteration:
                raise Unavailable(f"{name} is being started again") from None

        document = graph({"root": {"Sequence": [{"serviceName": "moving"}]}})
        first, second, third = run_graph(document, resolve, b"{}", b"{}", b"{}")
    assert json.loads(first.body) == {"at": "a"}
    assert json.loads(second.body) == {"at": "b"}
    assert third.status == 500
    assert "moving is being started again" in json.loads(third.body)["cause"]
