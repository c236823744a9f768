"""The ledger: lists, words, filters, differences, the tree, and files that change under it."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from experiment_samples import CONTRACT, attempt, contract, schema, small_ledger, write

from components.experiments.export import differences_markdown, rows_csv, rows_markdown
from components.experiments.ledger import SHIPPED, Ledger, LedgerConfig
from components.experiments.locks import held, holder
from components.experiments.outcome import Expectation
from components.experiments.query import Question
from components.experiments.records import _attempt, _tags
from components.experiments.resolve import plain
from components.experiments.results import result_differences
from components.experiments.scoreboard import Tally, scoreboard
from components.experiments.tree import tree_view
from foundation.errors import ConfigurationError, GearshiftError, NotFound, StorageError
from pipelines.experiments.schema import experiment_schema

pytestmark = pytest.mark.usefixtures("no_shipped")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    write(tmp_path, "base", contract=contract(objective="keep accuracy", author="bert"))
    write(
        tmp_path,
        "longer",
        extends="base",
        contract=contract(),
        tags=["ppo"],
        set={"refine": {"timesteps": 200}},
    )
    write(
        tmp_path,
        "leash",
        extends="longer",
        contract=contract(hypothesis="a weak leash = free"),
        set={"refine": {"learning_rate": 1e-3, "timesteps": 100}},
    )
    write(tmp_path, "idea", extends="base", notes="night frames first")
    made = small_ledger(tmp_path)
    made.index.put_attempts(
        [
            attempt(
                "base", 1, verdict="met", reason="retained is 0.97", figures={"retained": 0.97}
            ),
            attempt("longer", 1, verdict="met", figures={"retained": 0.96}),
            attempt(
                "longer", 2, verdict="missed", figures={"retained": 0.94}, reason="retained is 0.94"
            ),
            attempt("leash", 1, state="failed", verdict="void", failing_step="refine"),
        ]
    )
    return made


def names(ledger: Ledger, words: str = "", *where: str) -> list[str]:
    return [row.name for row in ledger.find(Question(words, where)).rows]


def test_a_list_has_intent_and_outcome(ledger: Ledger) -> None:
    rows = {row.name: row for row in ledger.find(Question()).rows}
    assert [(row.state, row.outcome) for row in rows.values()] == [
        ("succeeded", "met"),
        ("no contract", ""),
        ("failed", "void"),
        ("succeeded", "missed"),
    ]
    assert rows["longer"].attempt == "longer.2" and rows["longer"].tags == ("ppo",)
    assert rows["leash"].changes == {"refine.learning_rate": 1e-3, "refine.timesteps": 100}


def test_words_are_found_in_any_inflection(ledger: Ledger) -> None:
    assert set(names(ledger, "all experiments that tried to cut deadline misses")) == {
        "longer",
        "leash",
    }
    assert names(ledger, "missed its deadline")[0] == "longer"  # the outcome has the word as well
    assert names(ledger, "nights") == ["idea"]
    assert names(ledger, "learning rate") == ["leash"]
    assert names(ledger, "base")[0] == "base"
    assert names(ledger, 'night" OR "x') == ["idea"]  # no syntax of the index's own
    found = ledger.find(Question("night queues"))
    assert not found.all_words and {row.name for row in found.rows} == {"base", "idea", "longer"}
    assert names(ledger, "nowhere") == []


def test_filters_read_the_resolved_configuration(ledger: Ledger) -> None:
    assert names(ledger, "", "refine.timesteps=100") == ["base", "idea", "leash"]  # two inherit it
    assert names(ledger, "", "refine.timesteps>=200") == ["longer"]
    assert names(ledger, "", "refine.learning_rate<=5e-4", "parent=base") == ["idea", "longer"]
    assert names(ledger, "", "retained<0.95") == ["longer"]
    assert names(ledger, "", "outcome=void") == ["leash"]
    assert names(ledger, "", "tag=ppo") == ["longer"]
    assert names(ledger, "", "hypothesis~WEAK") == ["leash"]
    assert names(ledger, "deadline", "state!=failed") == ["longer"]
    for text, words in (
        ("outcom=met", "did you mean 'outcome'"),
        ("refine.timestep=1", "did you mean 'refine.timesteps'"),
        ("outcome", "is not understood"),
        ("retained=high", "give a number"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            names(ledger, "", text)


def test_sorted_and_in_pages(ledger: Ledger) -> None:
    def page(sort: str, words: str = "", limit: int = 9, offset: int = 0) -> list[str]:
        found = ledger.find(Question(words, (), limit, offset, sort))
        assert found.total == (4 if not words else 2)
        return [row.name for row in found.rows]

    # Who has no figure comes last, whichever way.
    assert page("retained") == ["longer", "base", "idea", "leash"]
    assert page("-retained") == ["base", "longer", "idea", "leash"]
    assert page("-refine.timesteps") == ["longer", "base", "idea", "leash"]
    assert page("-outcome") == ["leash", "longer", "base", "idea"]  # void, missed, met, none
    assert page("-name") == ["longer", "leash", "idea", "base"]
    assert page("-name", limit=2) == ["longer", "leash"]
    assert page("-name", limit=2, offset=2) == ["idea", "base"]
    assert page("-name", limit=2, offset=9) == []
    assert page("", "deadline misses", 1) == ["longer"]
    assert page("-name", "deadline misses", 1, 1) == ["leash"]
    assert page("author", "deadline misses") == ["leash", "longer"]
    with pytest.raises(ConfigurationError, match="sort by 'retaned' is not known; did you mean"):
        page("retaned")


def test_differences_and_origins(ledger: Ledger) -> None:
    found = ledger.differences("longer", "leash")
    assert [(one.path, one.first, one.second) for one in found] == [
        ("refine.timesteps", 200, 100),
        ("refine.learning_rate", 3e-4, 1e-3),
    ]
    assert ledger.differences("base", "idea") == ()
    assert ledger.resolved("leash")["refine.timesteps"].origin == "leash"
    assert differences_markdown(
        "longer", "leash", found[:1], result_differences(ledger, "longer", "leash")
    ).splitlines()[2] == ("| refine.timesteps | 200 | 100 |")
    with pytest.raises(NotFound, match="did you mean 'leash'"):
        ledger.differences("leach", "base")


def test_files_that_come_change_and_go(ledger: Ledger, tmp_path: Path) -> None:
    assert ledger.refresh() == 0
    file = write(tmp_path, "base", contract=contract(), set={"clone": {"seeds": 2}})
    os.utime(file, ns=(1, 1))
    assert ledger.refresh() == 1
    assert names(ledger, "", "clone.seeds=2") == ["base", "idea", "leash", "longer"]
    file.write_text("set: {clone: {sedes: 1}}")
    ledger.refresh()
    (row,) = (row for row in ledger.find(Question()).rows if row.name == "base")
    assert "did you mean 'clone.seeds'" in row.error
    with pytest.raises(ConfigurationError, match="sedes"):
        ledger.experiment("base")
    with pytest.raises(ConfigurationError, match="extends 'base' is not known"):
        ledger.resolved("longer")
    file.unlink()
    ledger.refresh()
    assert "base" not in names(ledger)
    (one, *_) = tree_view(ledger)
    assert one["missing_parent"] == "base"
    assert ledger.attempts("base")  # what was launched stays


def test_a_circle_is_shown_and_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", extends="b")
    write(tmp_path, "b", extends="a")
    ledger = small_ledger(tmp_path)
    assert names(ledger) == ["a", "b"]
    with pytest.raises(ConfigurationError, match="a extends b extends a; end it"):
        ledger.resolved("a")
    assert [one["name"] for one in tree_view(ledger)] == ["a"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (tmp_path / "experiments" / "more").mkdir()
    (tmp_path / "experiments" / "more" / "a.yaml").write_text("")
    with pytest.raises(ConfigurationError, match="are the same experiment; rename one"):
        small_ledger(tmp_path)


def test_the_tree(ledger: Ledger) -> None:
    (root,) = tree_view(ledger)
    assert root["name"] == "base"
    assert [child["name"] for child in root["children"]] == ["idea", "longer"]
    assert tree_view(ledger, "longer")[0]["children"][0]["name"] == "leash"
    with pytest.raises(NotFound):
        tree_view(ledger, "nothing")


def test_new_ones_are_checked_before_they_are_written(ledger: Ledger, tmp_path: Path) -> None:
    made = ledger.new(
        "mine", "leash", ["refine.timesteps=1_000", "clone.seeds=1"], contract=CONTRACT
    )
    assert made.file == tmp_path / "experiments" / "mine.yaml"
    assert plain(ledger.resolved("mine"))["refine.timesteps"] == 1000
    for name, extends, settings, words in (
        ("mine", "", [], "already"),
        ("MINE", "", [], "experiment mine already"),
        ("other", "leach", [], "did you mean 'leash'"),
        ("other", "base", ["clone.sedes=1"], "did you mean"),
        ("other", "base", ["refine.timesteps=0"], "give 1 to"),
        ("../other", "base", [], "no name"),
    ):
        with pytest.raises(GearshiftError, match=words):
            ledger.new(name, extends, settings)
    assert len(list((tmp_path / "experiments").iterdir())) == 5


def test_each_contract_counts_once(ledger: Ledger) -> None:
    board = scoreboard(ledger.index)
    assert board.authors == (Tally("anna", missed=1, void=1), Tally("bert", met=1))
    assert board.objectives == (
        Tally("cut deadline misses", missed=1, void=1),
        Tally("keep accuracy", met=1),
    )
    assert (board.authors[0].share, Tally("x", void=2).share) == (0.0, None)
    assert Tally("x", met=3, missed=1).share == 0.75


def test_exports(ledger: Ledger) -> None:
    ledger.new("odd", "base", contract=contract_of_formula())
    rows = ledger.find(Question()).rows
    read = list(csv.DictReader(io.StringIO(rows_csv(rows))))
    assert [row["name"] for row in read] == ["base", "idea", "leash", "longer", "odd"]
    assert read[3]["retained"] == "0.94" and read[3]["changes"] == "refine.timesteps=200"
    assert read[4]["objective"] == "'=1+1"  # no formula to a spreadsheet
    table = rows_markdown(rows).splitlines()
    assert len(table) == 7 and r"a \| b" in table[6]


def contract_of_formula() -> object:
    return type(CONTRACT)("=1+1", "a | b", "retained > 0", "anna")


def test_the_kernel_tells_who_runs(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / "lock"
    assert holder(lock) is None
    with held(lock) as mine:
        assert mine and holder(lock) == os.getpid()
        with held(lock) as other:
            assert not other
    assert holder(lock) is None


def test_the_shipped_experiments_are_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The baseline and its children resolve, state checkable contracts, and differ as declared."""
    monkeypatch.setattr("components.experiments.ledger.SHIPPED", SHIPPED)
    ledger = Ledger(LedgerConfig(SHIPPED, tmp_path / "ledger"), experiment_schema)
    ledger.refresh()
    rows = {row.name: row for row in ledger.find(Question()).rows}
    assert {name: row.parent for name, row in rows.items()} == {
        "baseline": "",
        "longer-refinement": "baseline",
        "shorter-leash": "longer-refinement",
    }
    assert all(row.state == "planned" and not row.error for row in rows.values())
    for row in rows.values():
        Expectation.read(row.expected)
        ledger.checked(row.name, {})
    # The baseline is the shipped defaults; its promise is no less than the gate's.
    values = plain(ledger.resolved("baseline"))
    assert values == ledger.schema.defaults
    met = {"retained": values["gate.retained"], "latency_ratio": values["gate.latency_ratio"]}
    assert Expectation.read(rows["baseline"].expected).score(met).verdict == "met"
    assert {one.path for one in ledger.differences("baseline", "shorter-leash")} == {
        "refine.timesteps",
        "refine.fleets",
        "refine.kl_coefficient",
    }


def test_an_index_that_was_removed_is_made_anew(ledger: Ledger, tmp_path: Path) -> None:
    ledger.close()
    for file in (tmp_path / "ledger").glob("index.db*"):
        file.unlink()
    again = Ledger(LedgerConfig(tmp_path / "experiments", tmp_path / "ledger"), schema)
    assert again.refresh() == 4
    assert names(again, "nights") == ["idea"]


@pytest.mark.parametrize(
    "change",
    [
        {"exit_code": "x"},
        {"state": "sleeping"},
        {"attempt": "base"},
        {"attempt": "base.x"},
        {"attempt": "other.1"},
        {"overrides": "["},
        {"overrides": "[1]"},
        {"overrides": "[" * 100_000},
    ],
)
def test_a_run_whose_tags_were_changed_is_named(change: dict[str, str]) -> None:
    one = attempt("base", run_id="3f2a")
    tags = _tags(one)
    run = SimpleNamespace(
        data=SimpleNamespace(tags=tags, metrics=dict(one.figures)),
        info=SimpleNamespace(run_id=one.run_id),
    )
    assert _attempt(run) == one
    run.data.tags = tags | {f"gearshift.{name}": text for name, text in change.items()}
    with pytest.raises(StorageError, match=f"the run {one.run_id} has tags"):
        _attempt(run)


@pytest.mark.parametrize("order", [("sealed", "orphan"), ("orphan", "sealed")])
def test_of_two_runs_of_one_name_the_journal_s_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    """A kill between MLflow and the journal leaves a run whose name the next launch takes."""
    write(tmp_path, "base")
    made = small_ledger(tmp_path)
    (tmp_path / "ledger" / "seals.jsonl").write_text('{"attempt": "base.1", "run_id": "sealed"}\n')
    states = {"orphan": "queued", "sealed": "succeeded"}
    runs = [attempt("base", run_id=name, state=states[name]) for name in order]
    monkeypatch.setattr(made.records, "all", lambda: iter(runs))
    assert made.rebuild() == 1
    assert made.index.attempt("base.1").run_id == "sealed"
    made.close()
