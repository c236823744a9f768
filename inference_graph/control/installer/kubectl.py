"""Runs ``kubectl``; what goes wrong becomes one line that states what to do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from foundation.errors import (
    AccessError,
    ConfigurationError,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    GearshiftError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from foundation.yaml_text import write_yaml
from inference_graph.control.manifests.names import Document

_PROGRAM = "kubectl"
_SECONDS = 30.0
_REQUEST_SECONDS = 20
"""One request's; a command may make several."""
_STREAMING = frozenset({"exec", "wait", "rollout", "delete", "cp"})
"""Commands that last as long as they take: no bound for one request."""
_KLOG = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d")


_FAILURES: tuple[tuple[str, type[GearshiftError], str], ...] = (
    (
        r'context "([^"]*)" does not exist|no context exists with the name: "([^"]*)"',
        ConfigurationError,
        "the kubeconfig has no context {0}; list them with `kubectl config get-contexts`",
    ),
    (
        r"executable (\S+) not found",
        ConfigurationError,
        "the kubeconfig asks {0} for credentials, which is not installed; install it",
    ),
    (
        r"(?:localhost|127\.0\.0\.1|\[::1\]):8080",
        Unavailable,
        "no cluster is configured; name a --kubeconfig or --context, or make a cluster "
        "(`kind create cluster`)",
    ),
    (
        r"You must be logged in|\(Unauthorized\)|Unauthorized$",
        AccessError,
        "the cluster does not accept the credentials of the kubeconfig; log in again",
    ),
    (
        r"new content in namespace (\S+) because it is being terminated",
        Conflict,
        "the namespace {0} is being deleted; run it again when it is gone, or name another "
        "--namespace",
    ),
    (
        r"\(Forbidden\): (.*)|[Ff]orbidden: (.*)",
        Forbidden,
        "the cluster does not allow it: {0}; ask its administrator",
    ),
    (
        r'no matches for kind "([^"]+)" in version "([^"]+)"',
        NotFound,
        "the cluster does not know {0} of {1}; `gearshift cluster check` says what to install",
    ),
    (
        r"the server doesn't have a resource type \"([^\"]+)\"",
        NotFound,
        "the cluster does not know {0}; `gearshift cluster check` says what to install",
    ),
    (
        r"x509: (.*)",
        Unavailable,
        "the API server's certificate is refused ({0}); correct the kubeconfig",
    ),
    (
        r"(?:Unable to connect to the server|The connection to the server|couldn't get current "
        r"server API group list|i/o timeout|connection refused|no such host|no route to host|"
        r"Client\.Timeout|context deadline exceeded|TLS handshake timeout|unexpected EOF|"
        r"net/http|ServiceUnavailable|timeout awaiting)",
        Unavailable,
        "the API server does not answer ({line}); check the cluster and `kubectl cluster-info`",
    ),
    (r"AlreadyExists|already exists", Conflict, "{line}; run it again"),
    (
        r"timed out waiting",
        DeadlineExceeded,
        "{line}; see what it waits for with `kubectl describe`, then run it again",
    ),
    (
        r"error loading config file|yaml: |invalid configuration",
        ConfigurationError,
        "the kubeconfig cannot be used ({line}); correct it",
    ),
    (r"admission webhook|is invalid|\(Invalid\)|BadRequest", InvalidInput, "{line}"),
)
"""What kubectl writes, the error it is, and the line for the user."""


@dataclass(frozen=True)
class CommandResult:
    """What a command answered.

    Attributes:
        code: its exit code.
        out: standard output.
        err: standard error.
    """

    code: int
    out: str
    err: str


def _unseen(command: str) -> None:
    del command


@dataclass(frozen=True)
class Kubectl:
    """One cluster, and one namespace of it.

    Attributes:
        namespace: that commands are about unless they name another.
        context: of the kubeconfig; its current one without it.
        kubeconfig: the file; the usual one without it.
        on_command: called with every command before it runs, as it would be typed.
    """

    namespace: str
    context: str = ""
    kubeconfig: Path | None = None
    on_command: Callable[[str], None] = _unseen

    def command(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """The whole command line."""
        where = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        where += [f"--context={self.context}"] if self.context else []
        # The documents of a kustomization may be of several, and then kubectl takes no other.
        where += [] if "--kustomize" in arguments else ["--namespace", self.namespace]
        return (_PROGRAM, *where, *arguments)

    def line(self, arguments: Sequence[str]) -> str:
        """The same as it is typed."""
        return shlex.join(self.command(arguments))

    def run(
        self,
        arguments: Sequence[str],
        stdin: bytes | Path | None = None,
        seconds: float = _SECONDS,
        accepted: Sequence[int] = (0,),
    ) -> CommandResult:
        """Run a command.

        Args:
            arguments: behind ``kubectl``. Secrets belong on standard input, never here.
            stdin: bytes, or a file.
            seconds: how long it may take.
            accepted: exit codes that are no failure.

        Raises:
            ConfigurationError: kubectl is missing, or the kubeconfig unusable.
            Unavailable: the API server does not answer.
            DeadlineExceeded: nor within ``seconds``.
            AccessError: it does not know who asks.
            Forbidden: it does not allow this.
            InvalidInput: it refuses what it was given.
        """
        command = list(self.command(arguments))
        self.on_command(shlex.join(command))
        if arguments[0] not in _STREAMING:
            command.insert(1, f"--request-timeout={_REQUEST_SECONDS}s")
        answer = _answer(command, " ".join(arguments[:2]), stdin, seconds)
        if answer.code not in accepted:
            raise failure(answer.err or answer.out, arguments)
        return answer

    def apply(self, *documents: Document) -> str:
        """Apply documents; returns kubectl's line on each."""
        return self.run(("apply", "--filename=-"), yaml_input(documents)).out

    def read(self, *arguments: str) -> Document:
        """What ``kubectl get`` finds, as JSON; an empty document where there is nothing."""
        got = self.run(("get", *arguments, "--ignore-not-found", "--output=json")).out
        found: Document = json.loads(got) if got.strip() else {}
        return found

    def items(self, *arguments: str) -> list[Document]:
        """The objects of a list that ``kubectl get`` finds."""
        found: list[Document] = self.read(*arguments).get("items", [])
        return found


def yaml_text(documents: Sequence[Mapping[str, Any]]) -> str:
    """Documents as YAML, one after the other."""
    return "---\n".join(write_yaml(one, width=100) for one in documents)


def yaml_input(documents: Sequence[Mapping[str, Any]]) -> bytes:
    """The same for standard input."""
    return yaml_text(documents).encode()


def failure(text: str, arguments: Sequence[str]) -> GearshiftError:
    """The error that kubectl's output means.

    Args:
        text: what it wrote to standard error.
        arguments: of the command.
    """
    lines = [one for one in text.splitlines() if one.strip() and not _KLOG.match(one)]
    last = _plain(lines[-1] if lines else (text.splitlines() or ["no message"])[-1])
    whole = " ".join(text.split())
    for pattern, kind, message in _FAILURES:
        if found := re.search(pattern, last) or re.search(pattern, whole):
            named = [_plain(one) for one in found.groups() if one]
            return kind(message.format(*(named or [last]), line=last))
    return Unavailable(f"kubectl {arguments[0]} failed: {last}")


def _plain(text: str) -> str:
    text = re.sub(r"^(error: |Error from server ?(\(\w+\))?: )", "", " ".join(text.split()))
    return text[:300].rstrip(" .;")


def _answer(
    command: Sequence[str], name: str, stdin: bytes | Path | None, seconds: float
) -> CommandResult:
    source = _opened(stdin) if isinstance(stdin, Path) else None
    try:
        process = subprocess.Popen(
            command,
            stdin=source or (subprocess.DEVNULL if stdin is None else subprocess.PIPE),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a kubectl that started another ends with it
        )
    except FileNotFoundError as error:
        raise ConfigurationError(
            "kubectl is not installed, or not in PATH; install it: "
            "https://kubernetes.io/docs/tasks/tools"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"kubectl cannot be run: {error.strerror}; check it") from error
    finally:
        if source is not None:
            source.close()
    try:
        out, err = process.communicate(stdin if isinstance(stdin, bytes) else None, seconds)
    except subprocess.TimeoutExpired as error:
        _end(process)
        raise DeadlineExceeded(
            f"`kubectl {name}` did not end within {seconds:g} s; check that the API server "
            "answers: `kubectl cluster-info`"
        ) from error
    except BaseException:
        _end(process)
        raise
    return CommandResult(
        process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
    )


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}; check the path") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
