"""A dashboard on a real socket, and logs for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dashboards.app import build_app, open_server
from dashboards.config import DashboardConfig
from dashboards.sources import Sources
from serving_kit.listening import listen, url_of

ROOT = Path(__file__).resolve().parents[2]


def dashboard_config(folder: Path, **options: Any) -> DashboardConfig:
    """Log and runs below a folder, which need not be there; a free port, and a fast refresh."""
    given: dict[str, Any] = {
        "log": str(folder / "log"),
        "runs": folder / "runs",
        "port": 0,
        "refresh_seconds": 0.3,
    }
    return DashboardConfig(**(given | options))


@contextmanager
def served(config: DashboardConfig) -> Iterator[str]:
    """The URL of a dashboard that runs on a thread while the block does."""
    sources = Sources(config)
    with listen(config.host, config.port) as listening:
        server = open_server(listening, build_app(config, sources))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield url_of(server.socket)
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()
        sources.close()
