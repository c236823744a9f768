"""An S3 server of the test's own: moto's, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def s3_server(patched: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """Host and port of a server; its keys go into the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patched.setenv(name, "testing")
    patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        yield moto.get_host_and_port()
    finally:
        moto.stop()


def make_bucket(server: str, name: str, folder: Path | None = None, prefix: str = "") -> Any:
    """Make a bucket at host:port, with a folder's files under a prefix; returns boto3's client."""
    s3 = boto3.client("s3", endpoint_url=f"http://{server}", region_name="us-east-1")
    s3.create_bucket(Bucket=name)
    for file in sorted(folder.rglob("*")) if folder else ():
        if file.is_file():
            s3.upload_file(str(file), name, f"{prefix}/{file.relative_to(folder)}")
    return s3
