"""The check of the lock without a network, on advisories written by hand."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def advisories() -> ModuleType:
    spec = importlib.util.spec_from_file_location("advisories", ROOT / ".ci" / "advisories.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def export(folder: Path, *records: dict[str, Any]) -> Path:
    path = folder / "PyPI.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, record in enumerate(records):
            archive.writestr(f"{number}.json", json.dumps({"id": f"X-{number}"} | record))
    return path


def about(name: str, **affected: Any) -> dict[str, Any]:
    return {"affected": [{"package": {"ecosystem": "PyPI", "name": name}, **affected}]}


def events(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"type": "ECOSYSTEM", "events": [{kind: version} for kind, version in pairs]}]


@pytest.mark.parametrize(
    ("version", "pairs", "hit"),
    [
        ("1.0", [("introduced", "0"), ("fixed", "1.1")], True),
        ("1.1", [("introduced", "0"), ("fixed", "1.1")], False),
        ("1.10", [("introduced", "1.9"), ("fixed", "1.11")], True),  # versions, not texts
        ("1.8", [("introduced", "1.9")], False),
        ("2.0", [("introduced", "0"), ("last_affected", "2.0")], True),
        ("2.0.1", [("introduced", "0"), ("last_affected", "2.0")], False),
        ("3.0", [("introduced", "0"), ("fixed", "1"), ("introduced", "3"), ("fixed", "4")], True),
        ("2.0", [("introduced", "0"), ("fixed", "1"), ("introduced", "3"), ("fixed", "4")], False),
        ("2.0rc1", [("introduced", "0"), ("fixed", "2.0")], True),
    ],
)
def test_ranges(
    advisories: ModuleType, tmp_path: Path, version: str, pairs: list[tuple[str, str]], hit: bool
) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"other==1\nsome-package=={version}\n")
    path = export(tmp_path, about("Some_Package", ranges=events(*reversed(pairs))))
    count, lines = advisories.found_in(path, lock)
    assert (count, len(lines)) == (1, int(hit))


def test_lists_aliases_and_what_is_passed_over(
    advisories: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "lock"
    lock.write_text("a==1.0 ; python_version < '3.12'\na==1.1 ; python_version >= '3.12'\nb==2.0\n")
    hit = about("a", versions=["0.9", "1.0"]) | {"aliases": ["CVE-1"], "summary": "bad"}
    foreign = about("a", versions=["1.0"])
    foreign["affected"][0]["package"]["ecosystem"] = "npm"
    gone = about("a", versions=["1.0"]) | {"withdrawn": "2026-01-01T00:00:00Z"}
    commits = about("b", ranges=[{"type": "GIT", "events": [{"introduced": "0"}]}])
    path = export(tmp_path, hit, foreign, gone, commits, about("b", versions=["1.0"]), {})
    assert advisories.found_in(path, lock) == (5, ["a==1.0: X-0 CVE-1: bad"])
    assert advisories.main([str(path), str(lock)]) == 2  # six files are no export
    advisories.LEAST = 5
    assert advisories.main([str(path), str(lock)]) == 1
    assert "1 of 5 advisories are about" in capsys.readouterr().out
    lock.write_text("b==2.0\n")
    assert advisories.main([str(path), str(lock)]) == 0
    assert advisories.main([]) == 2


def test_the_lock_itself_can_be_read(advisories: ModuleType) -> None:
    versions = advisories.locked(ROOT / "requirements.lock")
    assert {str(one) for one in versions["kfp"]} == {"2.17.3"}
    assert len(versions) > 200
