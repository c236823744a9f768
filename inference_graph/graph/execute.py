"""Running a request through an InferenceGraph by the rules of KServe 0.20's graph router.

Each rule, and where it comes from. "Measured": KServe 0.20's own router was asked. "Source":
``cmd/router/main.go`` of KServe's repository, read in revisions before 0.20, and the tests beside
it, read in later ones too. "CRD": the field's description there and in the SDK.

Every node
    * A step is a POST of the request's bytes, ``Content-Type: application/json`` unless a header
      pattern forwards the caller's. (source)
    * A step that cannot be reached fails the whole request with 500, Soft or Hard. (source)
    * The error is ``{"error": "Failed to process request", "cause": …}``. (source)
    * A nested node's failure is 500 in the node around it, so an unmatched Switch is 404 at the
      root and 500 below. (measured)
    * The answer has none of the steps' headers; ``application/json`` if its body is JSON. (source)
Sequence
    * A step gets the node's own input unless its ``data`` is exactly ``$response``. (measured)
    * A status outside 200..299 of a Hard step stops the node with that status and body; of a Soft
      one (the default: measured) it is passed over; the last step's is the node's. (source)
    * An unmet condition stops the node with 200 and the last answer; if that is no JSON, which
      for the first step is always so, with 500 and ``invalid response``. (measured; source)
    * ``mapPredictionsToInstances`` sends ``predictions`` of the request, wherever it comes from,
      as ``instances``, and nothing else of it; a request without a list of predictions, or whose
      ``instances`` are no list, is sent as it is. (measured)
Switch
    * The first step whose condition exists in the input, and null and false exist, gets that same
      input (measured); its status and body are the node's. (source)
    * No match, or an input that is no JSON: 404, ``None of the routes matched with the switch
      condition`` (measured; source). A step without condition matches nothing. (source)
Ensemble
    * All steps at once; the answer is 200 and their answers by step name, by position without
      one. (measured) KServe reads and writes them anew, which rounds numbers to 64-bit floats;
      here they are copied (ours).
    * The first Hard step in the manifest's order with a status outside 200..299 gives its status
      and body; other statuses are not reported. (source)
    * Any step whose body is no JSON object is 500, Soft or Hard; ``null`` passes, as Go's decoder
      lets it. (measured; source)
Splitter
    * A step is drawn by its weight in per cent. (source) Some releases draw from 0..100 and
      leave one request in 101 without a step and without an answer (source); here none is.
Timeouts
    * ``routerTimeouts.serviceClient`` is for one call of one step, and its failure is 500.
      (source) ``timeout`` is Knative's limit for a whole request, answered by 504. (CRD)
    * After ``routerTimeouts.serverWrite`` KServe closes the connection without an answer
      (source: TestServerTimeout); here it is a 504 too, so that the caller learns why.
What still runs when an answer is decided is cancelled here; KServe lets it run to its end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from foundation.errors import GearshiftError
from foundation.http_client import CallFailed, HttpClient
from inference_graph.graph.conditions import Condition
from inference_graph.graph.headers import HeaderPatterns, Headers, RawHeaders
from inference_graph.graph.json_body import Body, go_kind, merged, predictions_as_instances
from inference_graph.graph.spec import ROOT, GraphStep, InferenceGraphSpec, Node, RouterType

logger = logging.getLogger(__name__)

LARGEST_ANSWER = 64 * 2**20
"""Bytes of one step's answer; a step that answers without end must not fill the memory."""

_UNMATCHED = "None of the routes matched with the switch condition"


@dataclass(frozen=True)
class GraphAnswer:
    """What the graph answers.

    Attributes:
        status: HTTP status.
        body: as a step sent it, or the merged answers of an Ensemble, or the error.
        headers: ``Content-Type``.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]


class _Result(NamedTuple):
    status: int
    body: Body


class _Failure(Exception):
    """The router cannot go on; the status counts at the root only."""

    def __init__(self, cause: str, status: int = 500) -> None:
        super().__init__(cause)
        self.status = status


class GraphExecutor:
    """Runs requests through one graph; many at once."""

    def __init__(
        self,
        spec: InferenceGraphSpec,
        resolve: Callable[[str], str],
        client: HttpClient,
        header_patterns: Sequence[str] = (),
        *,
        rng: random.Random | None = None,
        largest_answer: int = LARGEST_ANSWER,
    ) -> None:
        """Prepare a graph.

        Args:
            spec: the graph.
            resolve: from a ``serviceName`` to the address to POST to; asked once now, and again
                for every call, so a service may move.
            client: calls the steps; its owner closes it.
            header_patterns: regular expressions over the names of headers that go on to steps.
            rng: draws a Splitter's steps; seeded by the system without it.
            largest_answer: bytes of one step's answer at most; a larger one fails the request.

        Raises:
            ConfigurationError: a service without address, or a pattern that is no regular
                expression.
        """
        self.spec = spec
        self._resolve = resolve
        self._client = client
        self._patterns = HeaderPatterns(header_patterns)
        self._rng = rng or random.Random()
        self._largest_answer = largest_answer
        self._call_limit = _limit(spec.timeouts.service_client)
        self._limit = min(
            (one for one in map(_limit, (spec.timeout, spec.timeouts.server_write)) if one),
            default=None,
        )
        for name in sorted(spec.service_names):
            resolve(name)
        self._conditions = {path: Condition(path) for path in spec.conditions}

    async def run(self, body: bytes, headers: Headers = ()) -> GraphAnswer:
        """Answer one request; whatever a step does, this raises nothing but a cancellation.

        Args:
            body: the request's bytes; JSON, if routing reads it.
            headers: the request's headers, a value for each pair.
        """
        going_on = self._patterns.chosen(headers)
        try:
            async with asyncio.timeout(self._limit):
                result = await self._node(self.spec.nodes[ROOT], Body(body), going_on)
        except _Failure as failure:
            logger.warning("graph %s: %s", self.spec.name, failure)
            return failed(failure.status, str(failure))
        except TimeoutError:
            cause = f"no answer within {self._limit} s, the limit for a request to this graph"
            logger.warning("graph %s: %s", self.spec.name, cause)
            return failed(504, cause)
        return GraphAnswer(result.status, result.body.data, _content_type(result.body))

    async def _node(self, node: Node, body: Body, headers: RawHeaders) -> _Result:
        match node.router_type:
            case RouterType.SEQUENCE:
                return await self._sequence(node.steps, body, headers)
            case RouterType.SWITCH:
                return await self._step(self._matching(node.steps, body), body, headers)
            case RouterType.SPLITTER:
                return await self._step(drawn(node.steps, self._rng), body, headers)
            case RouterType.ENSEMBLE:
                return await self._ensemble(node.steps, body, headers)

    async def _sequence(
        self, steps: Iterable[GraphStep], body: Body, headers: RawHeaders
    ) -> _Result:
        last: _Result | None = None
        for step in steps:
            request = last.body if last and step.data == "$response" else body
            if step.condition:
                if last is None or not last.body.is_json:
                    raise _Failure("invalid response")
                if not self._conditions[step.condition].exists(last.body.document):
                    return _Result(200, last.body)
            if step.map_predictions:
                request = predictions_as_instances(request)
            last = await self._step(step, request, headers)
            if step.hard and not _succeeded(last):
                break
        if last is None:
            raise _Failure("the node has no steps")
        return last

    def _matching(self, steps: Iterable[GraphStep], body: Body) -> GraphStep:
        if body.is_json:
            for step in steps:
                if step.condition and self._conditions[step.condition].exists(body.document):
                    return step
        raise _Failure(_UNMATCHED, 404)

    async def _ensemble(
        self, steps: Sequence[GraphStep], body: Body, headers: RawHeaders
    ) -> _Result:
        tasks = [asyncio.create_task(self._member(step, body, headers)) for step in steps]
        answers: dict[str, Body] = {}
        try:
            for index, (step, task) in enumerate(zip(steps, tasks, strict=True)):
                # A later step's failure decides at once, while an earlier step is waited for.
                await _first_failure_or(task, tasks)
                result = task.result()
                if step.hard and not _succeeded(result):
                    return result
                answers[step.name or str(index)] = result.body
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return _Result(200, Body(merged(answers)))

    async def _member(self, step: GraphStep, body: Body, headers: RawHeaders) -> _Result:
        result = await self._step(step, body, headers)
        try:
            document = result.body.document
        except ValueError as error:
            raise _Failure(f"step {step.name!r} answered no JSON: {error}") from None
        if document is not None and not isinstance(document, dict):
            raise _Failure(
                f"json: cannot unmarshal {go_kind(document)} into Go value of type "
                "map[string]interface {}"
            )
        return result

    async def _step(self, step: GraphStep, body: Body, headers: RawHeaders) -> _Result:
        if not step.node_name:
            return await self._call(step, body, headers)
        try:
            return await self._node(self.spec.nodes[step.node_name], body, headers)
        except _Failure as failure:
            raise _Failure(str(failure)) from failure

    async def _call(self, step: GraphStep, body: Body, headers: RawHeaders) -> _Result:
        if not any(name == "Content-Type" for name, _ in headers):
            headers = [*headers, ("Content-Type", "application/json")]
        url = step.service_url
        try:
            url = url or self._resolve(step.service_name)
            async with asyncio.timeout(self._call_limit):
                answer = await self._client.call(
                    "POST", url, body.data, headers, self._largest_answer
                )
                return _Result(answer.status, Body(answer.body))
        except TimeoutError:
            cause = f"no answer within {self._call_limit} s, the limit for one step"
        except (CallFailed, GearshiftError) as error:
            cause = str(error)
        raise _Failure(f'Post "{url}": {cause}')


def drawn(steps: Sequence[GraphStep], rng: random.Random) -> GraphStep:
    """Draw a Splitter's step by the weights, which add up to 100."""
    ends = accumulate(step.weight or 0 for step in steps)
    point = rng.randrange(100)
    return next(step for step, end in zip(steps, ends, strict=True) if point < end)


def failed(status: int, cause: str) -> GraphAnswer:
    """The router's error, in KServe's form."""
    body = json.dumps({"error": "Failed to process request", "cause": cause}).encode()
    return GraphAnswer(status, body, {"Content-Type": "application/json"})


async def _first_failure_or(
    wanted: asyncio.Task[_Result], tasks: Iterable[asyncio.Task[_Result]]
) -> None:
    """Wait for one task, or raise the failure of any that fails before it is done."""
    waiting = set(tasks)
    while True:
        for task in tasks:
            if task.done():
                waiting.discard(task)
                if (failure := task.exception()) is not None:
                    raise failure
        if wanted.done():
            return
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)


def _succeeded(result: _Result) -> bool:
    return 200 <= result.status <= 299


def _limit(seconds: int | None) -> int | None:
    """Go reads no limit from a timeout that is not positive."""
    return seconds if seconds and seconds > 0 else None


def _content_type(body: Body) -> Mapping[str, str]:
    if body.is_json:
        return {"Content-Type": "application/json"}
    if not body.data:
        return {}
    # Go guesses from the content; what no one declared is never handed on as a page.
    try:
        body.data.decode()
    except UnicodeDecodeError:
        return {"Content-Type": "application/octet-stream"}
    return {"Content-Type": "text/plain; charset=utf-8"}
