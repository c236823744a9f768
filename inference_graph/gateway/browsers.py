"""Clients in a web page: which pages may ask, and how a WebSocket of theirs brings its token.

A browser's WebSocket cannot set the header ``Authorization``. It offers the token as a subprotocol,
``new WebSocket(url, ["gearshift.v1", "bearer." + token])``, or names a ticket in the address. A
server that has the token gets the ticket by ``POST /v1/tickets`` and hands it to its page, which
then never sees the token.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping

from cryptography.fernet import Fernet, InvalidToken
from fastapi import APIRouter, FastAPI, Request, WebSocket
from pydantic import BaseModel, Field
from starlette.middleware.cors import CORSMiddleware

from foundation.errors import AccessError, Forbidden, InvalidInput
from inference_graph.gateway.access import Client, Role, bearer_token
from inference_graph.gateway.parameters import StreamParameters
from inference_graph.gateway.problems import problems
from inference_graph.gateway.runtime import Runtime
from serving_kit.foreign_pages import why_foreign

SUBPROTOCOL = "gearshift.v1"
_BEARER = "bearer."
TICKET_SECONDS = 30
"""How long a ticket can be used; only to connect, not for the stream's length."""
_METHODS, _HEADERS = ("GET", "POST"), ("Authorization", "Content-Type")
"""What pages may send: frames, feedback, and questions; operating is no page's business."""
_EXPOSED = ("Retry-After", "WWW-Authenticate")


class Ticket(BaseModel):
    """Lets one stream in."""

    ticket: str = Field(description="For `/v1/stream?ticket=…`; it can be used once.")
    expires_in: int = Field(description="Seconds until it can no longer be used.")


class Tickets:
    """Bearer tokens encrypted for a short time, each good for one stream.

    A ticket holds its token, so that a stream is checked by the same rules however its token came,
    and ends when that token is taken away. Gateways with the same secret accept each other's.
    """

    def __init__(self, secret: str | None) -> None:
        """Make and accept tickets.

        Args:
            secret: what the key is derived from; a random key without it.
        """
        given = secrets.token_bytes(32) if secret is None else secret.encode()
        key = hashlib.sha256(b"gearshift ticket\0" + given).digest()
        self._fernet = Fernet(base64.urlsafe_b64encode(key))
        self._used: OrderedDict[str, float] = OrderedDict()

    def issue(self, token: str) -> Ticket:
        """A ticket for a token; empty where the gateway asks for none."""
        ticket = self._fernet.encrypt(token.encode()).decode()
        return Ticket(ticket=ticket, expires_in=TICKET_SECONDS)

    def redeem(self, ticket: str) -> str:
        """The token of a ticket, which cannot be used again.

        Raises:
            AccessError: it is none of this gateway's, too old, or was used before.
        """
        try:
            token = self._fernet.decrypt(ticket.encode(), ttl=TICKET_SECONDS).decode()
        except (InvalidToken, UnicodeError) as error:
            raise AccessError("the ticket is unknown or expired; get a new one") from error
        now = time.monotonic()
        while self._used and next(iter(self._used.values())) < now:
            self._used.popitem(last=False)
        # Base64 may be written in several ways; the digest of what it stands for is one.
        digest = hashlib.sha256(base64.urlsafe_b64decode(ticket)).hexdigest()
        if digest in self._used:
            raise AccessError("the ticket was used before; get a new one for each stream")
        self._used[digest] = now + TICKET_SECONDS + 1
        return token


def ticket_routes(runtime: Runtime, tickets: Tickets) -> APIRouter:
    """The route, bound to a running gateway."""
    router = APIRouter(tags=["frames"])
    allowed = runtime.guard(Role.STREAM)

    @router.post(
        "/v1/tickets",
        summary="Get a ticket that opens one stream",
        status_code=201,
        responses=problems(401, 403, 429),
    )
    async def ticket(request: Request, client: Client = allowed) -> Ticket:
        """For pages: a server asks with its token, and the page connects with the ticket."""
        runtime.frame_limit.take(client.name, "tickets and frames")
        return tickets.issue(bearer_token(request.headers.get("authorization", "")))

    return router


def stream_headers(
    socket: WebSocket, given: StreamParameters, tickets: Tickets
) -> Mapping[str, str]:
    """The headers of a stream's request, with its token wherever that came.

    Raises:
        AccessError: a ticket that cannot be used.
        InvalidInput: a token among the subprotocols, and not the gateway's own protocol.
    """
    offered = socket.scope.get("subprotocols", ())
    tokens = [one.removeprefix(_BEARER) for one in offered if one.startswith(_BEARER)]
    if tokens and SUBPROTOCOL not in offered:
        # One of those offered has to be accepted, and a token must not be sent back.
        raise InvalidInput(f"no subprotocol of the gateway is offered; add {SUBPROTOCOL!r}")
    if given.ticket is not None:
        tokens = [tickets.redeem(given.ticket)]
    headers = dict(socket.headers)
    if tokens and tokens[0]:
        headers["authorization"] = f"Bearer {tokens[0]}"
    return headers


def accepted_protocol(socket: WebSocket) -> str | None:
    """The subprotocol of an accepted stream."""
    return SUBPROTOCOL if SUBPROTOCOL in socket.scope.get("subprotocols", ()) else None


def check_origin(headers: Mapping[str, str], origins: Collection[str]) -> None:
    """Refuse a stream of another host's page; browsers leave that to the server.

    Args:
        headers: of the request, names in lower case.
        origins: pages that are allowed besides the gateway's own.

    Raises:
        Forbidden: it is not on the list.
    """
    origin = headers.get("origin")
    foreign = None if origin is None else why_foreign(headers, None, origins)
    if foreign is not None:
        raise Forbidden(f"{foreign}; the operator can allow it with the option origins")


def allow_pages(app: FastAPI, origins: Collection[str]) -> None:
    """Let the pages of these origins read answers (CORS)."""
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=_METHODS,
            allow_headers=_HEADERS,
            expose_headers=_EXPOSED,
            allow_private_network=True,
        )
