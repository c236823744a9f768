"""What may lie in a ledger's folder beside experiments: it is left out, said, and stops nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from experiment_samples import small_ledger, write

from components.experiments.files import experiment_files
from components.experiments.query import Question

pytestmark = pytest.mark.usefixtures("no_shipped")

NO_NAME = "is no name of an experiment; give 1 to 80 of A-Z a-z 0-9 _ -"


def test_names_that_are_no_experiments_are_left_out_and_said(tmp_path: Path) -> None:
    write(tmp_path, "base")
    place = tmp_path / "experiments"
    odd = ["a b", "naïve", "x" * 81, "x" * 250, "a.b", "-a", "two\nlines", "\x1b[31m"]
    for name in odd:
        (place / f"{name}.yaml").write_text("")
    (place / "..b.yml").write_text("")  # hidden, as an editor's
    (place / "notes.txt").write_text("")
    undecodable = os.fsencode(place) + b"/latin-\xe9"
    os.mkdir(undecodable)
    (place / os.fsdecode(undecodable) / "inside.yaml").write_text("")
    ledger = small_ledger(tmp_path)
    assert [row.name for row in ledger.find(Question()).rows] == ["base"]
    told = ledger.left_out
    assert len(told) == len(odd) + 1 and all(line.isprintable() for line in told)
    assert sum(NO_NAME in line for line in told) == len(odd)
    assert f"{place}/a b.yaml is left out: 'a b' {NO_NAME}" in told
    assert [line for line in told if "inside" in line and "no valid Unicode" in line]
    assert ledger.refresh() == 0  # none is read again and again
    for path in place.glob("*.yaml"):
        if path.name != "base.yaml":
            path.unlink()
    ledger.refresh()
    assert len(ledger.left_out) == 1
    for number in range(30):
        (place / f"no name {number}.yaml").touch()
    ledger.refresh()
    assert len(ledger.left_out) == 11 and ledger.left_out[-1] == "21 more are left out"
    ledger.close()


def test_folders_links_and_pipes_of_an_experiments_name_are_shown_as_broken(
    tmp_path: Path,
) -> None:
    write(tmp_path, "base")
    place = tmp_path / "experiments"
    (place / "folder.yaml").mkdir()
    (place / "nowhere.yaml").symlink_to(tmp_path / "gone.yaml")
    (place / "circle.yaml").symlink_to("circle.yaml")
    os.mkfifo(place / "pipe.yaml")
    (place / "linked.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    (tmp_path / "elsewhere.yaml").write_text("extends: base")
    ledger = small_ledger(tmp_path)
    rows = {row.name: row for row in ledger.find(Question()).rows}
    assert (rows["linked"].parent, rows["linked"].error) == ("base", "")
    errors = {name: row.error for name, row in rows.items() if row.error}
    assert set(errors) == {"folder", "nowhere", "circle", "pipe"}
    assert all(f"cannot read {place / name}.yaml" in text for name, text in errors.items())
    assert ledger.left_out == [] and ledger.refresh() == 0
    ledger.close()


def test_a_link_back_up_is_not_followed_again(tmp_path: Path) -> None:
    write(tmp_path, "base")
    place = tmp_path / "experiments"
    (place / "more").mkdir()
    (place / "more" / "inside.yaml").write_text("")
    (place / "more" / "again").symlink_to(place, target_is_directory=True)
    (place / "circle").symlink_to("circle")
    files, left_out = experiment_files([place])
    assert [os.path.basename(path) for path in files] == ["base.yaml", "inside.yaml"]
    assert left_out == []


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "experiments").write_text("")
    ledger = small_ledger(tmp_path)
    assert ledger.left_out == [f"{tmp_path}/experiments is left out: Not a directory; check it"]
    ledger.close()
