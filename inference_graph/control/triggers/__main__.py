"""``python -m inference_graph.control.triggers``: the process of one launch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.command_line import run_command
from inference_graph.control.triggers.runner import run_launch


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one launch; exit code 1 and one line on stderr if it cannot even be recorded."""
    parser = argparse.ArgumentParser(
        prog="python -m inference_graph.control.triggers",
        description="Do one launch that `gearshift triggers` or the gateway decided on.",
    )
    parser.add_argument("spec", type=Path, help="what to do, as it was written down")
    parser.add_argument(
        "--slot", type=int, required=True, help="inherited descriptor of the lock that is held"
    )
    parsed = parser.parse_args(arguments)
    return run_command(lambda: print(run_launch(parsed.spec, parsed.slot).line()))


if __name__ == "__main__":
    sys.exit(main())
