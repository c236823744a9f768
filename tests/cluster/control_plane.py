"""etcd, the API server, its controllers and the scheduler as processes of this machine."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from processes import closed_port
from tools import program

Document = dict[str, Any]

_ADMIN = "system:masters"
_START = 120.0
_LIFE = timedelta(days=2)


@dataclass(frozen=True)
class Cluster:
    """A running control plane.

    Attributes:
        folder: of its files and of its processes' output, ``<process>.log``.
        url: of the API server.
        kubeconfig: file of the administrator.
        authority: certificate that signs what serves here, and its key.
        client: asks the API server as the administrator.
    """

    folder: Path
    url: str
    kubeconfig: Path
    authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]
    client: httpx.Client

    def ask(
        self, path: str, body: Any = None, method: str = "GET", kind: str = "application/json"
    ) -> Document:
        """What the API server answers to a request; :class:`httpx.HTTPStatusError` for a no."""
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": kind}
        try:
            answer = self.client.request(method, path, content=content, headers=headers)
        except httpx.RemoteProtocolError:
            if method != "GET":
                raise
            # The server closed a connection that was kept alive, as it was used again.
            answer = self.client.get(path, headers=headers)
        if answer.is_error:
            raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
        return dict(answer.json())

    def find(self, path: str) -> Document | None:
        """An object; None where there is none."""
        try:
            return self.ask(path)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 404:
                return None
            raise

    def change(self, path: str, patch: Mapping[str, Any]) -> Document:
        """Merge a patch into an object."""
        return self.ask(path, patch, "PATCH", "application/merge-patch+json")

    def kubectl(self, *words: str, check: bool = True, text: str | None = None) -> str:
        """What ``kubectl`` prints, errors and all."""
        command = [program("kubectl"), f"--kubeconfig={self.kubeconfig}", *words]
        ran = subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        if check and ran.returncode:
            raise AssertionError(f"kubectl {' '.join(words)}: {ran.stdout}")
        return ran.stdout

    def apply(self, documents: Sequence[Mapping[str, Any]], *words: str) -> str:
        """Server-side apply, as a person does it: conflicts are errors."""
        text = yaml.safe_dump_all(documents)
        return self.kubectl("apply", "--server-side", "-f", "-", *words, text=text)

    def account_config(self, account: str, namespace: str) -> Path:
        """A kubeconfig with a token of a service account, and with nothing else."""
        token = self.kubectl("create", "token", account, "-n", namespace).strip()
        path = self.folder / f"{namespace}-{account}.yaml"
        path.write_text(_kubeconfig(self.url, self.folder / "ca.crt", token))
        return path

    def certificate(self, name: str) -> tuple[bytes, bytes]:
        """A certificate for ``127.0.0.1`` and a name, and its key, both PEM."""
        return _signed(self.authority, name)


def wait(what: str, done: Callable[[], Any], seconds: float = _START, pause: float = 0.2) -> Any:
    """What ``done`` answers once it answers something; an error of this name in the end."""
    end = time.monotonic() + seconds
    while not (found := done()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not in {seconds:g} s")
        time.sleep(pause)
    return found


@contextmanager
def process(
    folder: Path, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes to a log, and ends with the block."""
    with (folder / f"{name}.log").open("ab") as log:
        running = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


@contextmanager
def control_plane(folder: Path) -> Iterator[Cluster]:
    """A control plane with nothing in it; nodes and pods are others' affair."""
    authority = _authority(folder)
    admin = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{admin},admin,admin,{_ADMIN}\n")
    (folder / "tokens.csv").chmod(0o600)
    _account_keys(folder)
    for name, content in zip(("api.crt", "api.key"), _signed(authority, "kubernetes"), strict=True):
        (folder / name).write_bytes(content)
    store, peers, port = closed_port(), closed_port(), closed_port()
    url = f"https://127.0.0.1:{port}"
    kubeconfig = folder / "admin.yaml"
    kubeconfig.write_text(_kubeconfig(url, folder / "ca.crt", admin))
    client = httpx.Client(
        base_url=url,
        timeout=60,
        headers={"Authorization": f"Bearer {admin}"},
        verify=ssl.create_default_context(cafile=str(folder / "ca.crt")),
    )
    cluster = Cluster(folder, url, kubeconfig, authority, client)
    store_url = f"http://127.0.0.1:{store}"
    peer = f"http://127.0.0.1:{peers}"
    etcd_command = [
        program("etcd"),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={store_url}",
        f"--advertise-client-urls={store_url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
    ]
    api_command = [
        program("kube-apiserver"),
        f"--etcd-servers={store_url}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--tls-cert-file={folder / 'api.crt'}",
        f"--tls-private-key-file={folder / 'api.key'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        # It asks a kubelet for `kubectl exec` and `kubectl logs`.
        f"--kubelet-client-certificate={folder / 'api.crt'}",
        f"--kubelet-client-key={folder / 'api.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
        f"--service-account-key-file={folder / 'accounts.pub'}",
    ]
    common = [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0"]
    controllers_command = [
        program("kube-controller-manager"),
        *common,
        "--use-service-account-credentials",
        f"--service-account-private-key-file={folder / 'accounts.key'}",
        f"--root-ca-file={folder / 'ca.crt'}",
        # No kubelet renews the nodes' leases, and no pod shall be evicted for that.
        "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller",
    ]
    with (
        client,
        process(folder, "etcd", etcd_command),
        process(folder, "kube-apiserver", api_command) as api,
    ):

        def answers() -> bool:
            if api.poll() is not None:
                message = (folder / "kube-apiserver.log").read_text(errors="replace")[-2000:]
                raise AssertionError(f"kube-apiserver ended: {message}")
            try:
                return client.get("/readyz").text == "ok"
            except httpx.TransportError:
                return False

        wait("kube-apiserver", answers)
        with (
            process(folder, "kube-controller-manager", controllers_command),
            process(folder, "kube-scheduler", [program("kube-scheduler"), *common]),
        ):
            default = "/api/v1/namespaces/default/serviceaccounts/default"
            wait("the controllers", lambda: cluster.find(default))
            yield cluster


def _kubeconfig(url: str, authority: Path, token: str) -> str:
    data = base64.b64encode(authority.read_bytes()).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [
            {"name": "test", "cluster": {"server": url, "certificate-authority-data": data}}
        ],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    return str(yaml.safe_dump(content))


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test cluster")])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return made, key


def _signed(
    authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey], name: str
) -> tuple[bytes, bytes]:
    certificate, signing = authority
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost"), x509.DNSName(name)]
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
        .sign(signing, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), _private(key)


def _account_keys(folder: Path) -> None:
    """The pair that signs and checks the tokens of service accounts."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "accounts.key").write_bytes(_private(key))
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "accounts.pub").write_bytes(public)


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
