"""An issuer's public keys (RFC 7517): fetched, kept, and fetched again when they are rotated."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt

from foundation.errors import ConfigurationError, Unavailable
from serving_kit.foreign_pages import is_loopback

_log = logging.getLogger(__name__)

_DISCOVERY = "/.well-known/openid-configuration"
_TIMEOUT = 5.0
"""Seconds in which all documents of the issuer have to be there, however they drip."""
_LATE = 5.0
"""Seconds after which a request waits for keys that should have been fetched again meanwhile."""
_LIMIT = 1024 * 1024
"""Bytes of a document of the issuer at most."""
_PLAIN = "identity"
_SHORTEST = 2048
"""Bits of an RSA key at least (RFC 7518, section 3.3)."""
_PAUSE = 5.0
"""Seconds between two attempts at least: whoever sends made-up key ids must not flood an issuer."""
_LONGEST = 86_400.0
"""Seconds for which keys count whose issuer does not answer any more."""


KEY_ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA",),
    "Ed448": ("EdDSA",),
}
"""What a key of a kind or curve can check. Public-key signatures only: with a shared secret whoever
checks could sign as well."""

_FAILURES = (
    OSError,
    httpx.HTTPError,
    httpx.InvalidURL,
    ValueError,
    RecursionError,
    jwt.PyJWTError,
    ConfigurationError,
)


@dataclass(frozen=True)
class IssuerKey:
    """A public key of an issuer.

    Attributes:
        public: the key, as PyJWT takes it.
        algorithms: those it can check, and that the issuer states it is for.
    """

    public: Any
    algorithms: frozenset[str]


Keys = dict[str | None, tuple[IssuerKey, ...]]
"""By their id, which keys of several kinds may share (RFC 7517, section 4.5)."""


class UnknownKey(jwt.PyJWTError):
    """The issuer has no such key."""


class Jwks:
    """Keys by their id; all methods may be called from any thread.

    Attributes:
        generation: counts up when the keys have changed.
    """

    def __init__(self, issuer: str, source: str | None, refresh_seconds: float) -> None:
        """Read the file, or try once to fetch; an issuer that is silent now may answer later.

        Args:
            issuer: its URL.
            source: file or URL of the keys; found by discovery without it.
            refresh_seconds: how long fetched keys are taken for the newest.

        Raises:
            ConfigurationError: a file that cannot be read, or holds no key.
        """
        self.generation = 0
        self._issuer = issuer
        self._source = source
        self._refresh = refresh_seconds
        self._keys: Keys = {}
        self._text = b""
        self._fetched = self._tried = -_LONGEST
        self._failure = "it was not asked yet"
        self._failing = False
        self._fetching: asyncio.Future[None] | None = None
        self._turn = threading.Lock()
        self._turn.acquire()
        if _on_event_loop() and not self._is_file:
            threading.Thread(target=self._take, name="issuer-keys", daemon=True).start()
        else:
            self._take()
        if not self._keys and self._is_file:
            raise ConfigurationError(f"oidc_jwks {self._source}: {self._failure}")

    def key(self, name: str | None, algorithm: str) -> tuple[IssuerKey, int]:
        """A key of the issuer, and the generation it is of.

        Args:
            name: its id; may be left out where there is only one key.
            algorithm: that it must be for.

        Raises:
            UnknownKey: there is none, also after asking the issuer again.
            Unavailable: the issuer does not answer, and no keys of it are known.
        """
        self.keep_fresh()
        if not self._find(name):
            self._renew(wait=True)
        generation, keys = self.generation, self._find(name)
        if not self._keys or self._too_old:
            raise Unavailable(f"the keys of {self._issuer} cannot be had now ({self._failure})")
        if not keys:
            raise UnknownKey("the issuer has no such key")
        for key in keys:
            if algorithm in key.algorithms:
                return key, generation
        raise UnknownKey("its key is for something else")

    def still_counts(self, generation: int) -> bool:
        """Whether what keys of this generation verified does: they are the newest, not too old."""
        return generation == self.generation and not self._too_old

    def keep_fresh(self) -> None:
        """Fetch again what is old, in a thread; what counts meanwhile are the keys there are."""
        if time.monotonic() - self._fetched > self._refresh:
            self._renew(wait=False)

    async def ready_for(self, name: str | None) -> None:
        """Wait for keys that a token needs: one that is not known, or ones that are too old.

        While the issuer fails, old ones are not waited for. All who wait, wait for one fetch.
        """
        overdue = time.monotonic() - self._fetched > self._refresh + _LATE
        if self._just_tried or not (not self._find(name) or (overdue and not self._failing)):
            return
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.ensure_future(asyncio.to_thread(self._renew, True))
        await asyncio.wait((self._fetching,), timeout=2 * _TIMEOUT)

    @property
    def _too_old(self) -> bool:
        return time.monotonic() - self._fetched > _LONGEST

    @property
    def _is_file(self) -> bool:
        return self._source is not None and "://" not in self._source

    def _find(self, name: str | None) -> tuple[IssuerKey, ...]:
        keys = self._keys
        if name is None and len(keys) == 1:
            return next(iter(keys.values()))
        return () if name is None else keys.get(name, ())

    def _renew(self, wait: bool) -> None:
        """Fetch again, unless that was tried just now; who waits for it may, but no event loop."""
        wait = wait and not _on_event_loop()
        if self._just_tried or not self._turn.acquire(wait, 2 * _TIMEOUT if wait else -1):
            return
        if self._just_tried:  # by the one that was waited for
            self._turn.release()
        elif wait:
            self._take()
        else:
            threading.Thread(target=self._take, name="issuer-keys", daemon=True).start()

    @property
    def _just_tried(self) -> bool:
        return time.monotonic() - self._tried < _PAUSE

    def _take(self) -> None:
        """Fetch, and let go of the turn."""
        try:
            text = self._read()
            keys = _parsed(text)
        except _FAILURES as error:
            self._failing = True
            self._failure = (str(error) or type(error).__name__).splitlines()[0][:200]
            _log.warning("the keys of %s stay as they were: %s", self._issuer, self._failure)
        else:
            if text != self._text:
                self._keys, self._text = keys, text
                self.generation += 1
            if not keys:
                self._failure = "it holds no public key"
                _log.warning("no token of %s is valid: %s", self._issuer, self._failure)
            self._failing = False
            self._fetched = time.monotonic()
        finally:
            self._tried = time.monotonic()
            self._turn.release()

    def _read(self) -> bytes:
        if self._source is not None and self._is_file:
            return Path(self._source).read_bytes()
        with asyncio.Runner() as runner:  # a thread has none; only a loop can end a request
            return runner.run(self._ask_issuer())

    async def _ask_issuer(self) -> bytes:
        try:
            async with asyncio.timeout(_TIMEOUT), httpx.AsyncClient(timeout=_TIMEOUT) as http:
                return await self._documents(http)
        except TimeoutError:
            raise ValueError(f"it did not answer whole within {_TIMEOUT:g} s") from None

    async def _documents(self, http: httpx.AsyncClient) -> bytes:
        if self._source is not None:
            return await _get(http, self._source)
        found: Any = json.loads(await _get(http, self._issuer.rstrip("/") + _DISCOVERY))
        if not isinstance(found, dict) or found.get("issuer") != self._issuer:
            raise ValueError("its discovery document is another issuer's")
        place = str(found.get("jwks_uri"))
        check_url(place, "jwks_uri")
        return await _get(http, place)


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def check_url(url: str, name: str) -> None:
    """Refuse an address that others on the way could answer for: neither https nor this machine.

    Raises:
        ConfigurationError: names the option.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise ConfigurationError(f"{name} is {url[:80]!r}; give an https:// URL") from None
    if parts.scheme == "https" and host:
        return
    if parts.scheme == "http" and is_loopback(host):
        return
    raise ConfigurationError(f"{name} is {url[:80]!r}; give an https:// URL")


async def _get(http: httpx.AsyncClient, url: str) -> bytes:
    """A document; redirects are not followed, for they could lead anywhere.

    It has to come uncompressed, so that what is read is all that it can become.
    """
    async with http.stream("GET", url, headers={"accept-encoding": _PLAIN}) as answer:
        if answer.status_code != 200:
            raise ValueError(f"{url} answers {answer.status_code}")
        if answer.headers.get("content-encoding", _PLAIN).lower() != _PLAIN:
            raise ValueError(f"{url} answers compressed, which was not asked for")
        parts = bytearray()
        async for part in answer.aiter_raw():
            parts += part
            if len(parts) > _LIMIT:
                raise ValueError(f"{url} answers more than {_LIMIT} bytes")
    return bytes(parts)


def _parsed(text: bytes) -> Keys:
    """Public keys that sign, by id; those of unknown kinds are skipped.

    A set that holds none is one: the issuer has withdrawn what it had.

    Raises:
        ValueError: the text is no set of keys.
    """
    content: Any = json.loads(text)
    listed = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is no set of keys")
    keys: Keys = {}
    for one in listed:
        key = _key(one) if isinstance(one, dict) else None
        if key is not None:
            keys[one.get("kid")] = (*keys.get(one.get("kid"), ()), key)
    return keys


def _key(stated: Mapping[str, Any]) -> IssuerKey | None:
    """A public key that checks signatures; None for every other one."""
    name, use, operations = stated.get("kid"), stated.get("use", "sig"), stated.get("key_ops")
    if not (name is None or isinstance(name, str)) or use != "sig":
        return None
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return None
    kind = stated.get("kty")
    able = frozenset(KEY_ALGORITHMS.get(str(kind if kind == "RSA" else stated.get("crv")), ()))
    algorithm = stated.get("alg")
    if not (algorithm is None or isinstance(algorithm, str)):
        return None
    algorithms = able if algorithm is None else able & {algorithm}
    if not algorithms:
        return None
    try:
        public = jwt.PyJWK(dict(stated), algorithm=min(algorithms)).key
    except Exception:  # one key, whatever its library makes of it, must not cost the others
        return None
    if not hasattr(public, "verify"):  # a private key
        return None
    if kind == "RSA" and public.key_size < _SHORTEST:
        return None
    return IssuerKey(public, algorithms)
