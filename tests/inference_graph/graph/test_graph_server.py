"""The graph over HTTP: paths, methods, limits, readiness, and a process that ends on a signal."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from graph_services import Reply, Steps, graph, serving_app, serving_steps
from processes import closed_port, environment

from foundation.errors import ConfigurationError
from foundation.http_client import HttpClient
from inference_graph.graph import GraphExecutor, build_app, load_graph, serve_graph


@contextmanager
def served(document: Any, **options: Any) -> Iterator[httpx.Client]:
    def make(client: HttpClient) -> Any:
        return build_app(GraphExecutor(load_graph(document), str, client, ["^X-"]), **options)

    with (
        serving_app(make) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60, verify=False) as client,
    ):
        yield client


def one_step(steps: Steps, name: str = "a", **spec: Any) -> dict[str, Any]:
    return graph({"root": {"Sequence": [{"serviceUrl": steps.url(name)}]}}, **spec)


def test_a_post_on_any_path_runs_the_graph() -> None:
    scripts = {"a": Reply({"ok": 1}, 207, {"X-Step": "a"}), "plain": Reply(b"text")}
    with serving_steps(scripts) as steps:
        with served(one_step(steps)) as client:
            for path in ("/", "/v1/models/graph:predict", "/healthz/", "/v2/health/ready"):
                answer = client.post(path, json={"at": path}, headers={"x-id": "5"})
                assert (answer.status_code, answer.json()) == (207, {"ok": 1})
                assert answer.headers["content-type"] == "application/json"
                assert "x-step" not in answer.headers
                assert steps.calls[-1].json == {"at": path}
                assert dict(steps.calls[-1].headers)["X-Id"] == "5"
            assert client.post("/", content=b"\xff no JSON").status_code == 207
            assert steps.calls[-1].body == b"\xff no JSON"
        with served(one_step(steps, "plain")) as client:
            answer = client.post("/", json={})
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_an_unmatched_switch_is_404_in_kserves_words() -> None:
    document = graph({"root": {"Switch": [{"serviceUrl": "http://a", "condition": "no"}]}})
    with served(document) as client:
        answer = client.post("/", json={})
    assert answer.status_code == 404
    assert answer.json() == {
        "error": "Failed to process request",
        "cause": "None of the routes matched with the switch condition",
    }


def test_every_method_runs_the_graph_as_kserves_router_does() -> None:
    with serving_steps({"a": Reply({"ok": 1})}) as steps, served(one_step(steps)) as client:
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = client.request(method, "/v1/models/graph:predict", content=method)
            assert (answer.status_code, answer.json()) == (200, {"ok": 1})
            assert steps.calls[-1].body == method.encode()  # the step gets a POST all the same
        assert client.get("/").json() == {"ok": 1}
        assert steps.calls[-1].body == b""


def test_readiness() -> None:
    document = graph({"root": {"Sequence": [{"serviceUrl": "http://a"}]}})
    reported: list[bool] = []
    with served(document, stopping=lambda: bool(reported)) as client:
        for method in ("GET", "HEAD", "POST"):
            for path in ("/healthz", "/readyz"):
                answer = client.request(method, path)
                assert (answer.status_code, answer.content) == (200, b"")
        reported.append(True)
        answer = client.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "shutting down\n")


def test_a_body_has_a_limit() -> None:
    with serving_steps({"a": Reply()}) as steps, served(one_step(steps), largest_body=10) as client:
        assert client.post("/", content=b"x" * 10).status_code == 200
        declared = client.post("/", content=b"x" * 11)
        chunked = client.post("/", content=iter([b"x" * 6, b"x" * 6]))
        for answer in (declared, chunked):
            assert answer.status_code == 413
            assert answer.json()["cause"] == "the request has more than 10 bytes"
        assert client.post("/", content=b"{}").status_code == 200
        assert [len(call.body) for call in steps.calls] == [10, 2]


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    document = graph(
        {"root": {"Sequence": [{"serviceUrl": "http://a"}]}}, routerTimeouts={"serverRead": 1}
    )
    with served(document) as client:
        address = (client.base_url.host, client.base_url.port or 80)
        with socket.create_connection(address, timeout=30) as half:
            half.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
            answer = b""
            while part := half.recv(4096):
                answer += part
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"did not arrive within 1 s" in answer
        with socket.create_connection(address, timeout=30) as gone:
            gone.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        assert client.get("/readyz").status_code == 200


def test_many_requests_are_in_work_at_once_and_no_more() -> None:
    meeting, free = threading.Barrier(20), threading.Event()
    scripts = {
        "met": Reply({"met": 1}, wait=lambda: meeting.wait(30)),
        "slow": Reply({"late": 1}, wait=lambda: free.wait(30)),
    }
    with serving_steps(scripts) as steps, ThreadPoolExecutor(20) as pool:
        with served(one_step(steps, "met"), most_requests=20) as client:
            answers = list(pool.map(lambda _: client.post("/", json={}), range(20)))
            assert {answer.status_code for answer in answers} == {200}
        with served(one_step(steps, "slow"), most_requests=2) as client:
            waiting = [pool.submit(client.post, "/", json={}) for _ in range(2)]
            while sum(call.step == "slow" for call in steps.calls) < 2:
                free.wait(0.02)
            refused = client.post("/", json={})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert "2 requests are in work already" in refused.json()["cause"]
            assert client.get("/readyz").status_code == 200
            free.set()
            assert [one.result().status_code for one in waiting] == [200, 200]
            assert client.post("/", json={}).status_code == 200


def test_a_websocket_is_not_spoken() -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    document = graph({"root": {"Sequence": [{"serviceUrl": "http://a"}]}})
    with served(document) as client:
        url = str(client.base_url).replace("http", "ws")
        with pytest.raises(InvalidStatus, match="403"):
            connect(url)


def test_limits_are_at_least_one() -> None:
    document = graph({"root": {"Sequence": [{"serviceUrl": "http://a"}]}})
    executor = GraphExecutor(load_graph(document), str, HttpClient(3.0))
    with pytest.raises(ConfigurationError, match="largest_body is 0"):
        build_app(executor, largest_body=0)
    with pytest.raises(ConfigurationError, match="most_requests is -1"):
        build_app(executor, most_requests=-1)


SERVE = """
import sys
from pathlib import Path
from inference_graph.graph import serve_graph
path, url = sys.argv[1:]
serve_graph(Path(path), 0, services={"a": url}, on_ready=lambda url: print(url, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_ends_when_asked_and_answers_first(number: int, tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(graph({"root": {"Sequence": [{"serviceName": "a"}]}})))
    asked, free = threading.Event(), threading.Event()

    def script(request: Any) -> Reply:
        asked.set()
        return Reply({"done": True}, wait=lambda: free.wait(30))

    with serving_steps({"v1": script}) as steps, ThreadPoolExecutor(1) as pool:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(path), steps.url("").rstrip("/")],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
            request = pool.submit(httpx.post, url, json={}, timeout=60, trust_env=False)
            assert asked.wait(30)
            process.send_signal(number)
            free.set()
            answer = request.result()
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
    assert (answer.status_code, answer.json()) == (200, {"done": True})
    assert (process.returncode, out, err) == (0, "ended\n", "")


def test_what_cannot_be_served_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(graph({"root": {"Sequence": [{"serviceUrl": "http://a"}]}})))
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigurationError, match="cannot listen on 127.0.0.1:"),
    ):
        serve_graph(path, taken.getsockname()[1])
    with pytest.raises(ConfigurationError, match="cannot listen on 127.0.0.1:70000"):
        serve_graph(path, 70000)
    with pytest.raises(ConfigurationError, match="is no regular expression"):
        serve_graph(path, closed_port(), header_patterns=["("])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        serve_graph(tmp_path / "none.yaml", 0)


# The graph of a Gearshift cluster, with services that only echo.
GEARSHIFT = """
apiVersion: serving.kserve.io/v1alpha1
kind: InferenceGraph
metadata: {name: gearshift}
spec:
  nodes:
    root:
      routerType: Sequence
      steps:
        - {name: route, serviceName: router, dependency: Hard}
        - {name: detect, nodeName: detect, data: $response, dependency: Hard}
    detect:
      routerType: Switch
      steps:
        - {name: sampled, nodeName: sampled, condition: "[@this].#(route.shadow==true)"}
        - {name: plain, nodeName: plain, condition: "@this"}
    plain:
      routerType: Ensemble
      steps:
        - {name: primary, nodeName: models}
    sampled:
      routerType: Ensemble
      steps:
        - {name: primary, nodeName: models, dependency: Hard}
        - {name: reference, serviceName: large, dependency: Soft}
    models:
      routerType: Switch
      steps:
        - {name: nano, serviceName: nano, condition: '[@this].#(route.model=="nano")'}
        - {name: small, serviceName: small, condition: '[@this].#(route.model=="small")'}
        - {name: large, serviceName: large, condition: '@this'}
"""


def route(request: Any) -> Reply:
    if not request.get("instances"):
        return Reply({"error": "instances: missing"}, 400)
    model, shadow = request.get("want", "nano"), request.get("shadow", False)
    return Reply(request | {"route": {"model": model, "shadow": shadow}})


def detector(name: str) -> Any:
    def answer(request: Any) -> Reply:
        seen = [{"variant": name, "image": one["image"]["b64"]} for one in request["instances"]]
        return Reply({"predictions": seen})

    return answer


def ask(client: httpx.Client, **body: Any) -> tuple[int, Any]:
    request = {"instances": [{"image": {"b64": "/9j/" * 30_000}}], **body}
    answer = client.post("/v1/models/gearshift:predict", json=request)
    return answer.status_code, answer.json()


def variants(answer: Any) -> Any:
    return {key: value["predictions"][0]["variant"] for key, value in answer.items()}


def test_the_graph_of_gearshift() -> None:
    rungs = {name: detector(name) for name in ("nano", "small", "large")}
    with serving_steps({"router": route, **rungs}) as steps:

        def make(client: HttpClient) -> Any:
            return build_app(GraphExecutor(load_graph(yaml.safe_load(GEARSHIFT)), where, client))

        def where(name: str) -> str:
            return dead.get(name, steps.url(name))

        dead: dict[str, str] = {}
        with (
            serving_app(make) as url,
            httpx.Client(base_url=url, trust_env=False, timeout=60, verify=False) as client,
        ):
            for rung in rungs:
                status, answer = ask(client, want=rung)
                assert (status, variants(answer)) == (200, {"primary": rung})
                assert answer["primary"]["predictions"][0]["image"] == "/9j/" * 30_000
                assert [call.step for call in steps.calls[-2:]] == ["router", rung]
                assert steps.calls[-1].json["route"] == {"model": rung, "shadow": False}
            # A rung the graph does not know is large's.
            assert variants(ask(client, want="huge")[1]) == {"primary": "large"}
            status, answer = ask(client, want="small", shadow=True)
            assert (status, variants(answer)) == (200, {"primary": "small", "reference": "large"})
            assert sorted(call.step for call in steps.calls[-2:]) == ["large", "small"]

            count = len(steps.calls)
            assert ask(client, instances=[]) == (400, {"error": "instances: missing"})
            assert len(steps.calls) == count + 1  # Hard: nothing was detected

            # A soft reference that answers an error stands in the answer; a dead one does not.
            steps.scripts["large"] = Reply({"error": "busy"}, 503)
            status, answer = ask(client, want="nano", shadow=True)
            assert status == 200
            assert answer["primary"]["predictions"][0]["variant"] == "nano"
            assert answer["reference"] == {"error": "busy"}
            steps.scripts["nano"] = Reply({"error": "busy"}, 503)
            assert ask(client, want="nano", shadow=True) == (503, {"error": "busy"})
            # Alone in its ensemble a rung is soft: the error stands in a 200.
            assert ask(client, want="nano") == (200, {"primary": {"error": "busy"}})

            dead["large"] = f"http://127.0.0.1:{closed_port()}/"
            status, answer = ask(client, want="small", shadow=True)
            assert (status, answer["error"]) == (500, "Failed to process request")
            assert dead["large"] in answer["cause"]
            assert variants(ask(client, want="small")[1]) == {"primary": "small"}
            steps.scripts["router"] = Reply(b"text")
            assert ask(client)[0] == 500
            assert json.loads(steps.calls[-1].body)["instances"]
