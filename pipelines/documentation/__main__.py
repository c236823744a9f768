"""``python -m pipelines.documentation``: write what the documentation takes from the code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.command_line import run_command

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; exit code 1 and one line on stderr if that fails."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.documentation", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("reference", help="pages of docs/reference, from the code")
    for name, text in (
        ("headline", "the README's table, from a report"),
        ("pictures", "the GIF and the screenshots of docs/media; needs Chromium"),
    ):
        part = parts.add_parser(name, help=text)
        part.add_argument("--runs", type=Path, default=Path("runs/demo"), help="a demo's results")
    given = parser.parse_args(arguments)

    def command() -> None:
        if given.part == "reference":
            from pipelines.documentation.reference import write_reference

            print(*write_reference(ROOT / "docs" / "reference"), sep="\n")
        elif given.part == "headline":
            from pipelines.documentation.headline import write_headline

            print(write_headline(ROOT / "README.md", given.runs / "report.json"))
        else:
            from pipelines.documentation.pictures import write_pictures

            print(*write_pictures(ROOT / "docs" / "media", given.runs), sep="\n")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
