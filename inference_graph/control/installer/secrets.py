"""The Secrets that pods need: generated where one is missing, never written over.

Tokens of the gateway are random; ``gearshift-tokens`` keeps their digests, and what has to present
one reads it from a Secret of its own. So an interrupted installation is taken up by reading what is
there: whatever token exists is among the digests in the end.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from foundation.addresses import split_address
from foundation.errors import ConfigurationError
from inference_graph.control.installer.kubectl import Kubectl
from inference_graph.control.installer.overlay import Overlay
from inference_graph.control.manifests.names import (
    DATABASE,
    EVENTS_SECRET,
    GATEWAY,
    MLFLOW_SECRET,
    OPERATE_SECRET,
    PART_OF,
    S3_SECRET,
    SCRAPE_SECRET,
    Document,
)
from inference_graph.gateway.access import Role, new_token, token_entry

TOKENS_SECRET = "gearshift-tokens"
TRIAL_SECRET = "gearshift-trial"
"""Its token sends the frames that show whether an installation answers."""
_FILE, _EVENT_KEY, _TOKEN = "tokens.jsonl", "event-key", "token"
_PRESENTED = {
    SCRAPE_SECRET: ("scrape", [Role.WATCH]),
    OPERATE_SECRET: ("rollout", [Role.OPERATE]),
    EVENTS_SECRET: ("logger", [Role.EVENTS]),
    TRIAL_SECRET: ("install", [Role.STREAM]),
}
"""Secrets of one token each: its name at the gateway, and its roles."""
_GIVEN = {
    MLFLOW_SECRET: (
        "kubectl -n {namespace} create secret generic gearshift-mlflow "
        "--from-file=backend-store-uri=FILE",
        "FILE holds postgresql://NAME:PASSWORD@HOST/DATABASE of your PostgreSQL",
    ),
    "gearshift-iap": (
        "kubectl -n {namespace} create secret generic gearshift-iap "
        "--from-file=client_id=FILE --from-file=client_secret=FILE",
        "an OAuth client for Identity-Aware Proxy",
    ),
}
"""Secrets that come from outside where the overlay does not bring what they belong to."""
_ANY = "kubectl -n {{namespace}} create secret generic {} --from-file=KEY=FILE"


@dataclass(frozen=True)
class Making:
    """What is missing of the Secrets.

    Attributes:
        created: Secrets that are not there.
        extended: ``gearshift-tokens`` as it is, and digests that it lacks; None if it lacks none.
        client_token: of the first client, which is shown once; empty if it has one.
    """

    created: tuple[Document, ...]
    extended: Document | None
    client_token: str


def generated(overlay: Overlay) -> list[str]:
    """Names of the Secrets that :func:`missing` makes for an overlay, in the order it does."""
    referred = set(overlay.secrets)
    made = [one for one in _PRESENTED if one in referred or one == TRIAL_SECRET]
    if S3_SECRET in referred:
        made.append(S3_SECRET)
    if MLFLOW_SECRET in referred and DATABASE in overlay.named("StatefulSet"):
        made.append(MLFLOW_SECRET)
    return [*made, TOKENS_SECRET]


def given(overlay: Overlay) -> dict[str, tuple[str, str]]:
    """Secrets that only the operator can make: by name the command, and what goes into it."""
    made = generated(overlay)
    return {
        name: (command.format(namespace=overlay.options.namespace), what)
        for name, needed in overlay.secrets.items()
        if needed and name not in made
        for command, what in [_GIVEN.get(name, (_ANY.format(name), "what the overlay refers to"))]
    }


def present(kubectl: Kubectl, names: Iterable[str]) -> dict[str, Document]:
    """Those of the named Secrets that are there, by name.

    Raises:
        Forbidden: they may not be read; and as ``Kubectl.run`` does.
    """
    found = kubectl.read("secret", *names)
    listed = found.get("items", [found] if found else [])
    return {one["metadata"]["name"]: one for one in listed}


def missing(overlay: Overlay, there: Mapping[str, Document], client: str) -> Making:
    """Make what is not there.

    Args:
        overlay: what needs them.
        there: the Secrets that are, by name.
        client: name of the first client's token.

    Raises:
        ConfigurationError: a Secret that is there cannot be used, or ``client`` is no name.
    """
    created = []
    entries = []
    for name in generated(overlay):
        if name == TOKENS_SECRET:
            continue
        content = _content(name, there[name]) if name in there else _new(name, overlay)
        if name not in there:
            created.append(_secret(name, content))
        if name in _PRESENTED:
            if _TOKEN not in content:
                raise ConfigurationError(f"the Secret {name} has no key {_TOKEN}; delete it first")
            entries.append(token_entry(content[_TOKEN], *_PRESENTED[name]))
    if TOKENS_SECRET in there:
        return Making(tuple(created), _extended(there[TOKENS_SECRET], entries), "")
    token = new_token()
    entries.insert(0, token_entry(token, client, [Role.STREAM]))
    lines = "".join(json.dumps(one) + "\n" for one in entries)
    tokens = _secret(TOKENS_SECRET, {_FILE: lines, _EVENT_KEY: secrets.token_hex(32)})
    return Making((*created, tokens), None, token)


def _extended(tokens: Document, entries: Iterable[Mapping[str, object]]) -> Document | None:
    content = _content(TOKENS_SECRET, tokens)
    if _FILE not in content:
        raise ConfigurationError(f"the Secret {TOKENS_SECRET} has no {_FILE}; delete it first")
    lines = content[_FILE]
    lacking = [json.dumps(one) for one in entries if str(one["sha256"]) not in lines]
    if not lacking:
        return None
    extended = copy.deepcopy(tokens)
    text = "\n".join([lines.rstrip("\n"), *lacking, ""])
    extended["data"][_FILE] = base64.b64encode(text.encode()).decode()
    # Its resourceVersion stays: a change that others made meanwhile is not overwritten.
    extended["metadata"].pop("managedFields", None)
    return extended


def _new(name: str, overlay: Overlay) -> dict[str, str]:
    if name == S3_SECRET:
        key, secret = secrets.token_hex(10), secrets.token_hex(20)
        identity = {
            "name": "gearshift",
            "credentials": [{"accessKey": key, "secretKey": secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        return {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "s3.json": json.dumps({"identities": [identity]}),
        }
    if name == MLFLOW_SECRET:
        password = secrets.token_hex(24)
        uri = f"postgresql://mlflow:{password}@{DATABASE}:5432/mlflow"
        return {"password": password, "backend-store-uri": uri}
    token = new_token()
    if name == EVENTS_SECRET:
        return {_TOKEN: token, "url": _addressed(overlay.options.events_url, token)}
    return {_TOKEN: token}


def _addressed(url: str, token: str) -> str:
    """The address of events with a token where it is the gateway's and has no credentials."""
    parts = split_address(url)
    if parts.username is not None or (parts.hostname or "").partition(".")[0] != GATEWAY:
        return url
    return url.replace("//", f"//logger:{token}@", 1)


def _secret(name: str, content: Mapping[str, str]) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": PART_OF},
        "type": "Opaque",
        "data": {key: base64.b64encode(one.encode()).decode() for key, one in content.items()},
    }


def _content(name: str, secret: Document) -> dict[str, str]:
    try:
        return {
            key: base64.b64decode(one, validate=True).decode()
            for key, one in (secret.get("data") or {}).items()
        }
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the Secret {name} holds something else than text; delete it first"
        ) from error
