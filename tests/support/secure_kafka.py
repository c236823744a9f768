"""A broker with a plain listener for everybody, and one over TLS whose users need rights."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inference_graph.control.embedded.platform import free_ports
from pipelines.streams.local_broker import LocalBroker

PASSWORDS = {"worker": "correct horse", "stranger": "battery staple"}
"""The worker may do everything, the stranger nothing."""


class SecureBroker:
    """The broker, its address over TLS, and the authority that signed its certificate."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        keystore = folder / "broker.pem"
        _certificate(self.ca, keystore)
        with contextlib.closing(free_ports()) as ports:
            plain, controller, secure = (next(ports) for _ in range(3))
        self.secure = f"127.0.0.1:{secure}"
        users = " ".join(f'user_{name}="{word}"' for name, word in PASSWORDS.items())
        login = "org.apache.kafka.common.security.plain.PlainLoginModule"
        self.broker = LocalBroker(
            folder / "broker",
            (plain, controller),
            {"SECURE": ("SASL_SSL", secure)},
            {
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(keystore),
                "listener.name.secure.sasl.enabled.mechanisms": "PLAIN",
                "listener.name.secure.plain.sasl.jaas.config": f"{login} required {users};",
                "authorizer.class.name": (
                    "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
                ),
                "super.users": "User:ANONYMOUS;User:worker",
            },
        )

    def __enter__(self) -> SecureBroker:
        self.broker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.stop()


def _certificate(ca: Path, keystore: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    ca.write_bytes(pem)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    keystore.write_bytes(private + pem)
