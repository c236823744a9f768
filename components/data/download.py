"""A file from the web, kept in a cache folder and resumed where it broke off."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx

from components.parallel import Progress
from foundation.addresses import split_address
from foundation.errors import InvalidInput, StorageError
from foundation.file_lock import file_lock

_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class DownloadConfig:
    """Patience and limits of a download.

    Attributes:
        max_bytes: larger files are refused.
        attempts: tries in a row that may bring nothing new.
        timeout_s: seconds without a byte after which a try has failed.
        pause_s: seconds before the second try; doubled before each further one.
        secure: whether only https will do, also where the server sends the caller on; needed for
            what runs when it is opened. A server on this very machine may use http.
    """

    max_bytes: int = 64 << 30
    attempts: int = 5
    timeout_s: float = 30.0
    pause_s: float = 1.0
    secure: bool = False


def download(
    url: str,
    folder: Path,
    config: DownloadConfig | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch ``url`` into ``folder`` and return the file.

    A file that is there already is revalidated (ETag, Last-Modified) and used unchanged when the
    server reports it or cannot be reached. A download that breaks off goes on where it stopped, in
    this call or the next one, provided that the server's copy is still the same (If-Range).

    Args:
        url: http or https.
        folder: the cache; each URL gets a folder of its own in it.
        config: patience and limits.
        progress: called with bytes done and in all (0 while unknown).

    Raises:
        InvalidInput: no http(s) URL, the server refuses, the file is too large, or the connection
            keeps failing.
        StorageError: the folder cannot be written or the disk is full.
    """
    if not re.match(r"https?://[^/]", url):
        raise InvalidInput(f"{url}: not an http:// or https:// address; give one of these")
    if config and config.secure and not _is_secure(url, url):
        raise InvalidInput(f"{url}: only https will do for such a file; give an https:// address")
    place = folder / hashlib.sha256(url.encode()).hexdigest()[:16]
    try:
        place.mkdir(parents=True, exist_ok=True)
        with file_lock(place / "lock"):
            return _Download(url, place, config or DownloadConfig(), progress).run()
    except OSError as error:
        raise StorageError(
            f"cannot store the download of {url} in {place}: {error.strerror or error}; "
            "free some space or choose another folder with --cache"
        ) from error


def forget(file: Path) -> None:
    """Remove a file that ``download`` returned and that turned out to be something else.

    Otherwise a server that answers "unchanged", or does not answer, would bring it back.
    """
    for name in ("data", "data.json"):
        file.with_name(name).unlink(missing_ok=True)


class _Broken(Exception):
    """A try that failed in a way that another may not."""


class _Download:
    """One URL on its way into its folder: ``part`` grows, then becomes ``data``."""

    def __init__(
        self, url: str, place: Path, config: DownloadConfig, progress: Progress | None
    ) -> None:
        self.url = url
        self.config = config
        self.progress = progress
        self.data = place / "data"
        self.part = place / "part"
        # What the server sent about the bytes in data, and of those in part.
        self.data_state = place / "data.json"
        self.part_state = place / "part.json"

    def run(self) -> Path:
        failures = 0
        while True:
            before = _size(self.part)
            try:
                self._try()
                return self.data
            except _Broken as error:
                if self.data.exists() and before == _size(self.part) == 0:
                    return self.data  # unreachable, but what was fetched before is whole
                failures = 1 if _size(self.part) > before else failures + 1
                if failures >= self.config.attempts:
                    raise InvalidInput(self._given_up(error, failures)) from error
                time.sleep(self.config.pause_s * 2 ** (failures - 1))

    def _given_up(self, error: _Broken, failures: int) -> str:
        size = _size(self.part)
        if not size:
            return (
                f"{self.url}: nothing came ({error}) after {failures} tries; "
                "check the network and the address"
            )
        return (
            f"{self.url}: the download broke off at {size} bytes ({error}) "
            f"after {failures} tries; run it again to go on from there"
        )

    def _try(self) -> None:
        offset = _size(self.part)
        headers = {"User-Agent": "gearshift"}
        validator = _validator(_read_state(self.part_state))
        if offset and validator:
            headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
        else:
            # Without a validator there is no way to know whether the rest belongs to the same file.
            offset = 0
            if self.data.exists():
                headers |= _conditions(_read_state(self.data_state))
        # Compressed bytes would be of another length than the server states, and not resumable.
        headers["Accept-Encoding"] = "identity"
        try:
            with (
                httpx.Client(
                    headers=headers,
                    timeout=self.config.timeout_s,
                    follow_redirects=True,
                    event_hooks={"response": [self._check_redirect]},
                ) as client,
                client.stream("GET", self.url) as response,
            ):
                if response.is_success:
                    self._receive(response, offset)
                else:
                    self._answer_error(response)
        except httpx.UnsupportedProtocol as error:
            raise InvalidInput(
                f"{self.url}: leads to another kind of address ({error}); give an http(s) address"
            ) from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise InvalidInput(f"{self.url}: no usable address ({error}); correct it") from error
        except httpx.HTTPError as error:
            raise _Broken(str(error) or type(error).__name__) from error

    def _check_redirect(self, response: httpx.Response) -> None:
        """Let a server send the caller on to an address without https only where that will do."""
        if not self.config.secure or not response.has_redirect_location:
            return
        origin = str(response.url)
        there = urljoin(origin, response.headers["location"])
        if not _is_secure(there, origin):
            raise InvalidInput(
                f"{origin}: sends on to {there}, and only https will do for such a file; "
                "give another address"
            )

    def _answer_error(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == 304 and self.data.exists():
            return
        if status == 416:
            self.part.unlink(missing_ok=True)  # the file has become shorter than our part
            raise _Broken("the server's file has changed")
        if status in _TRANSIENT:
            raise _Broken(f"HTTP {status}")
        raise InvalidInput(
            f"{self.url}: the server answers {status} {response.reason_phrase}; check the address"
        )

    def _receive(self, response: httpx.Response, offset: int) -> None:
        resumed = response.status_code == 206
        if resumed and not str(response.headers.get("Content-Range")).startswith(
            f"bytes {offset}-"
        ):
            self.part.unlink(missing_ok=True)
            raise _Broken("the server sent another range than asked for")
        done = offset if resumed else 0
        if not resumed:
            # Before the new state is noted: old bytes must never go by the new file's ETag.
            self.part.unlink(missing_ok=True)
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else 0
        self._limit(total)
        state = {key: response.headers.get(key) for key in ("ETag", "Last-Modified")}
        self.part_state.write_text(json.dumps({"url": self.url, **state}), encoding="utf-8")
        with self.part.open("ab") as stream:
            for chunk in response.iter_raw():
                stream.write(chunk)
                done += len(chunk)
                self._limit(done)
                if self.progress:
                    self.progress(done, total)
        if total and done < total:
            raise _Broken(f"{total - done} bytes are missing")
        os.replace(self.part, self.data)
        os.replace(self.part_state, self.data_state)

    def _limit(self, size: int) -> None:
        if size > self.config.max_bytes:
            self.part.unlink(missing_ok=True)
            raise InvalidInput(
                f"{self.url}: the file has more than the {self.config.max_bytes} bytes allowed; "
                "unpack a smaller part of it yourself and give the folder"
            )


def _is_secure(url: str, origin: str) -> bool:
    """Whether what comes cannot be changed on the way; ``origin`` is who sent us there."""
    there, here = split_address(url), split_address(origin)
    return there.scheme == "https" or {there.hostname, here.hostname} <= _THIS_MACHINE


def _validator(state: dict[str, Any]) -> str | None:
    """Return what If-Range may carry: a strong ETag, else the date of the last change."""
    etag = state.get("ETag")
    if etag and not etag.startswith("W/"):
        return str(etag)
    return state.get("Last-Modified")


def _conditions(state: dict[str, Any]) -> dict[str, str]:
    pairs = {"If-None-Match": state.get("ETag"), "If-Modified-Since": state.get("Last-Modified")}
    return {name: str(value) for name, value in pairs.items() if value}


def _read_state(file: Path) -> dict[str, Any]:
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
