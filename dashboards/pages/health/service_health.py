"""How the gateway and its rungs are: ``/readyz`` and ``/metrics``, read with short timeouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from foundation.errors import Unavailable
from foundation.metrics import MetricSpec
from foundation.service_client import service_client
from inference_graph import metric_names as words
from inference_graph.contract import LADDER

_SECONDS = 3.0
_Series = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class RungHealth:
    """One rung, as the gateway sees it.

    Attributes:
        name: the rung.
        used: whether frames go to it; None where the gateway does not report it.
        circuit: as the gateway reports it, with the reason; empty where it does not.
        waiting: frames asked of it and not answered yet.
        wait_ms: the wait in the policy's observation.
        answers: frames it has answered since the gateway began.
    """

    name: str
    used: bool | None
    circuit: str
    waiting: int | None
    wait_ms: float | None
    answers: int | None


@dataclass(frozen=True)
class GatewayHealth:
    """The gateway.

    Attributes:
        ready: whether frames are answered.
        detail: why they are not; empty where they are.
        rungs: those it knows.
        streams: open now; None where the figures could not be read, as are the next four.
        frames: answered since it began.
        fallbacks: of those, by another rung than the chosen one.
        dropped: frames of streams for which a newer one was taken.
        errors: frames without an answer, by no fault of the client.
        failing: what the log fails at now.
        unread: why the figures could not be read; empty if they were.
    """

    ready: bool
    detail: str
    rungs: tuple[RungHealth, ...]
    streams: int | None
    frames: int | None
    fallbacks: int | None
    dropped: int | None
    errors: int | None
    failing: tuple[str, ...]
    unread: str


def read_gateway(url: str, token: str = "") -> GatewayHealth:
    """Ask a gateway how it is.

    Args:
        url: its address.
        token: access token with the role ``watch``, for its figures.

    Raises:
        Unavailable: it does not answer, or is no gateway.
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with client(url, headers) as http:
        try:
            answer = http.get("/readyz")
            content = answer.json()
            ready = answer.status_code == 200
            circuits = content["rungs"] if ready else {}
            detail = "" if ready else str(content["detail"])
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the gateway at {url} does not answer ({reason(error)}); "
                "start it with gearshift up --open-access"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(
                f"what answers at {url} is no gateway; give its address with --gateway-url"
            ) from error
        try:
            figures = http.get("/metrics")
            unread = _refusal(figures)
            series = {} if unread else _series(figures.text)
        except (httpx.HTTPError, ValueError) as error:
            unread, series = f"the gateway's figures cannot be read ({reason(error)})", {}
    return _health(ready, detail, circuits, series, unread)


def circuit_state(circuit: str) -> str:
    """The state of a circuit as ``/readyz`` names it, without the reason of the last failure.

    A closed circuit keeps the reason of a failure that did not open it: ``closed: timed out``.
    """
    return circuit.partition(":")[0].strip()


def client(url: str, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """A client of a service nearby, with short timeouts."""
    return service_client(url, _SECONDS, headers)


def reason(error: Exception) -> str:
    """An error in a few words."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _refusal(answer: httpx.Response) -> str:
    if answer.status_code in (401, 403):
        return (
            "the gateway shows its figures to the role watch only; put such a token into "
            "GEARSHIFT_TOKEN and start the dashboard again"
        )
    if answer.status_code != 200:
        return f"the gateway answered {answer.status_code} when asked for its figures"
    return ""


def _series(text: str) -> dict[str, _Series]:
    """Values by metric, then by the values of the labels in the order the metric names them."""
    known = {figure.name: figure.labels for figure in words.GATEWAY_FIGURES}
    found: dict[str, _Series] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in known:
                key = tuple(sample.labels.get(label, "") for label in known[sample.name])
                found.setdefault(sample.name, {})[key] = float(sample.value)
    return found


def _health(
    ready: bool,
    detail: str,
    circuits: Mapping[str, Any],
    series: Mapping[str, _Series],
    unread: str,
) -> GatewayHealth:
    def total(figure: MetricSpec) -> int | None:
        values = series.get(figure.name)
        return round(sum(values.values())) if values is not None else None

    codes = series.get(words.FRAME_ERRORS.name)
    failing = series.get(words.LOG_FAILING.name, {})
    return GatewayHealth(
        ready=ready,
        detail=detail,
        rungs=tuple(_rungs(circuits, series)),
        streams=total(words.STREAMS),
        frames=total(words.ANSWERS),
        fallbacks=total(words.FALLBACKS),
        dropped=total(words.DROPPED),
        errors=None
        if codes is None
        else round(sum(count for (code,), count in codes.items() if code.startswith("5"))),
        failing=tuple(activity for (activity,), bad in failing.items() if bad),
        unread=unread,
    )


def _rungs(circuits: Mapping[str, Any], series: Mapping[str, _Series]) -> Iterator[RungHealth]:
    def of(figure: MetricSpec, rung: str) -> float | None:
        return series.get(figure.name, {}).get((rung,))

    for rung in LADDER:
        up, circuit = of(words.RUNG_UP, rung), str(circuits.get(rung, ""))
        if up is None and not circuit:
            continue  # a gateway need not have every rung
        waiting, wait, answers = (
            of(figure, rung) for figure in (words.RUNG_QUEUE, words.RUNG_WAIT, words.ANSWERS)
        )
        yield RungHealth(
            name=rung,
            used=circuit_state(circuit) in ("healthy", "closed") if circuit else bool(up),
            circuit=circuit,
            waiting=None if waiting is None else round(waiting),
            wait_ms=None if wait is None else wait * 1e3,
            answers=None if answers is None else round(answers),
        )
