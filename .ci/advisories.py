"""Hold the lock against an export of OSV's advisories, a file that is carried to where no net is.

    .venv/bin/python .ci/advisories.py PyPI.zip [requirements.lock]

The export is the archive of the ecosystem PyPI that osv.dev offers: one JSON file per advisory.
Prints a line for each advisory that a locked version falls under; exit code 1 if there is any.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

LEAST = 1000
"""Advisories of a whole export at least; there are many thousands."""


def locked(lock: Path) -> dict[str, set[Version]]:
    """Versions by package, of a file with lines ``name==version``, also those with markers."""
    found: dict[str, set[Version]] = {}
    for line in filter(None, map(str.strip, lock.read_text(encoding="utf-8").splitlines())):
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        found.setdefault(canonicalize_name(requirement.name), set()).add(Version(pin.version))
    return found


def advisories(export: Path) -> Iterator[dict[str, Any]]:
    """Every advisory that was not withdrawn."""
    with zipfile.ZipFile(export) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                advisory = json.loads(archive.read(name))
                if "withdrawn" not in advisory:
                    yield advisory


def affects(affected: dict[str, Any], version: Version) -> bool:
    """Whether a version is listed, or within a range (OSV schema, "affected" and its events)."""
    if str(version) in affected.get("versions", ()):
        return True
    return any(
        _within(one["events"], version)
        for one in affected.get("ranges", ())
        if one["type"] == "ECOSYSTEM"
    )


def _within(events: list[dict[str, str]], version: Version) -> bool:
    """The events in the order of their versions; the last one that was reached decides."""
    inside = False
    for kind, text in sorted(((k, v) for one in events for k, v in one.items()), key=_order):
        try:
            reached = text == "0" or version >= Version(text)
        except InvalidVersion:
            continue
        if reached:
            inside = kind == "introduced" or (kind == "last_affected" and version == Version(text))
    return inside


def _order(event: tuple[str, str]) -> tuple[Version, bool]:
    kind, text = event
    try:
        return Version("0" if text == "0" else text), kind == "introduced"
    except InvalidVersion:
        return Version("0"), False


def found_in(export: Path, lock: Path) -> tuple[int, list[str]]:
    """How many advisories were read, and a line for each that a locked version falls under."""
    versions, count, lines = locked(lock), 0, []
    for advisory in advisories(export):
        count += 1
        for affected in advisory.get("affected", ()):
            package = affected.get("package", {})
            name = canonicalize_name(package.get("name", ""))
            aliases = " ".join([advisory["id"], *advisory.get("aliases", ())])
            for version in versions.get(name, ()) if package.get("ecosystem") == "PyPI" else ():
                if affects(affected, version):
                    lines.append(f"{name}=={version}: {aliases}: {advisory.get('summary', '')}")
    return count, sorted(set(lines))


def main(arguments: list[str]) -> int:
    """Exit code 0: none; 1: some; 2: no export."""
    if not 1 <= len(arguments) <= 2:
        print(__doc__)
        return 2
    lock = Path(arguments[1]) if len(arguments) == 2 else Path("requirements.lock")
    count, lines = found_in(Path(arguments[0]), lock)
    print(*lines, sep="\n", end="\n" if lines else "")
    print(f"{len(lines)} of {count} advisories are about {lock}")
    if count < LEAST:
        print(f"error: fewer than {LEAST} advisories are no whole export", file=sys.stderr)
        return 2
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
