"""``python -m dashboards.grafana``: write the dashboards and what Grafana needs to find them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dashboards.grafana.files import write_grafana
from foundation.command_line import run_command

_HERE = Path(__file__).resolve().parents[2] / "manifests" / "monitoring" / "grafana"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; exit code 1 and one line on stderr if that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.grafana", description="Write Grafana's dashboards."
    )
    parser.add_argument("--out", type=Path, default=_HERE, help="folder (default: %(default)s)")
    out = parser.parse_args(arguments).out

    def command() -> None:
        for path in write_grafana(out):
            print(path)

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
