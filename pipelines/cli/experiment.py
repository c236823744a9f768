"""``gearshift experiment``: what is tried and why, what differs, what came of it.

Launching is in ``pipelines.cli.experiment_runs``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from foundation.path_roles import RESULT_FILE
from pipelines.cli.console import (
    Json,
    argument,
    configured_by,
    group,
    notes,
    option,
    show,
)

if TYPE_CHECKING:
    from components.experiments.ledger import Ledger

experiment = group(
    """The experiment ledger: intent, inheritance, diff, and a score at the end. Begin with `list`.

    1. `new slow --extends baseline --set refine.learning_rate=1e-4 --objective "keep accuracy"
    --hypothesis "smaller steps forget less" --expect "retained >= 0.96"` writes a small file.

    2. `run slow` seals what it promises, runs it, and holds the report against it; `queue slow`
    does so beside the terminal, `run slow --on cluster` on Kubeflow.

    3. `show slow`, `diff baseline slow`, `search "accuracy"` and `score` show the results.
    """
)

URL_VARIABLE, TOKEN_VARIABLE = "GEARSHIFT_KUBEFLOW", "GEARSHIFT_KUBEFLOW_TOKEN_FILE"
CONFIG = "components.experiments.ledger:LedgerConfig"

Name = Annotated[str, argument(help="Name of an experiment.")]
Where = Annotated[
    list[str] | None,
    option(
        metavar="FIELD OP VALUE",
        help="Only these: outcome=missed, tag=ppo, refine.fleets>=24, retained<0.95; repeatable.",
    ),
]
Last = Annotated[int, option(min=1, help="Show so many at most.")]
Sort = Annotated[
    str,
    option(
        metavar="[-]FIELD",
        help="A field, an option or a metric: ended, refine.fleets, retained; - greatest first.",
    ),
]


@experiment.command()
@configured_by(CONFIG)
def new(
    config: Any,
    name: Annotated[str, argument(help="Its name; the file's name too.")],
    extends: Annotated[str, option(help="Its parent; without one it starts from the defaults.")] = (
        ""
    ),
    settings: Annotated[
        list[str] | None,
        option("--set", metavar="STAGE.OPTION=VALUE", help="What differs; repeatable."),
    ] = None,
    objective: Annotated[str, option(help="What it is for; others' objectives group with it.")] = (
        ""
    ),
    hypothesis: Annotated[str, option(help="What is believed, and why.")] = "",
    expect: Annotated[
        str, option(metavar="EXPRESSION", help="`retained >= 0.985 and latency_ratio <= 0.4`.")
    ] = "",
    author: Annotated[
        str, option(envvar="GEARSHIFT_AUTHOR", help="Who says so; the user of this machine.")
    ] = "",
    tag: Annotated[list[str] | None, option(help="A word to find it by; repeatable.")] = None,
    note: Annotated[str, option(help="Whatever else is worth saying.")] = "",
    as_json: Json = False,
) -> None:
    """Write a new experiment: its parent, only what differs, and what is promised.

    The contract (objective, hypothesis, expect) may be written into the file later, but nothing is
    launched without it. Options that can be set: `gearshift pipeline options`, and
    `inputs.data`, `inputs.ladder`.

    Example: `gearshift experiment new slow-rate --extends baseline --set refine.learning_rate=5e-4
    --objective "keep accuracy" --hypothesis "..." --expect "retained >= 0.96"`
    """
    from components.experiments.document import Contract
    from foundation.errors import ConfigurationError

    contract = None
    promised = {"objective": objective, "hypothesis": hypothesis, "expect": expect}
    if any(promised.values()):
        missing = [f"--{key}" for key, text in promised.items() if not text]
        if missing:
            raise ConfigurationError(f"the contract lacks {', '.join(missing)}; give all three")
        contract = Contract(objective, hypothesis, expect, author or _user())
    ledger = opened(config)
    made = ledger.new(name, extends, settings or (), contract=contract, tags=tag or (), notes=note)
    if as_json:
        show({"name": made.name, "file": made.file, "changes": dict(made.changes)}, as_json)
        return
    print(made.file)
    if contract is None:
        notes.print("it has no contract yet; write one into the file before you launch it")


@experiment.command("list")
@configured_by(CONFIG)
def list_(
    config: Any, where: Where = None, sort: Sort = "", last: Last = 100, as_json: Json = False
) -> None:
    """List experiments with what they promise and what came of it.

    Example: `gearshift experiment list --where outcome=missed --sort -retained --last 10`
    """
    from components.experiments.query import Question

    _list(opened(config), Question("", tuple(where or ()), last, sort=sort), as_json)


@experiment.command()
@configured_by(CONFIG)
def search(
    config: Any,
    words: Annotated[str, argument(help="Words of intent, parameters or outcome.")],
    where: Where = None,
    sort: Sort = "",
    last: Last = 100,
    as_json: Json = False,
) -> None:
    """Find experiments by what they wanted, what they set and what came of it; the best first.

    Words are found in any inflection: "deadline misses" finds "missed its deadline". Where none has
    all the words, those with any of them are shown.

    Example: `gearshift experiment search "all experiments that tried to cut deadline misses"`
    """
    from components.experiments.query import Question

    _list(opened(config), Question(words, tuple(where or ()), last, sort=sort), as_json)


@experiment.command("show")
@configured_by(CONFIG)
def show_(
    config: Any,
    name: Name,
    everything: Annotated[bool, option("--all", help="Defaults as well.")] = False,
    as_json: Json = False,
) -> None:
    """Show an experiment: its contract, its configuration with who set each value, its launches.

    Example: `gearshift experiment show shorter-leash --all`
    """
    from pipelines.experiments.display import print_experiment
    from pipelines.experiments.views import experiment_view

    view = experiment_view(opened(config), name)
    if as_json:
        show(view, as_json)
    else:
        print_experiment(view, everything)


@experiment.command()
@configured_by(CONFIG)
def diff(
    config: Any,
    first: Name,
    second: Name,
    everything: Annotated[bool, option("--all", help="What they share as well.")] = False,
    markdown: Annotated[bool, option("--markdown", help="As a table in Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """Show what two experiments do not share, red and green, and what came of each.

    Results are those of their last finished launches; --all shows every metric of the reports.

    Example: `gearshift experiment diff baseline shorter-leash`
    """
    from components.experiments.export import differences_markdown
    from components.experiments.results import result_differences
    from pipelines.experiments.display import print_differences
    from pipelines.experiments.views import difference_view

    ledger = opened(config)
    if as_json:
        show(difference_view(ledger, first, second, everything), as_json)
        return
    found = ledger.differences(first, second)
    results = result_differences(ledger, first, second, everything)
    if markdown:
        print(differences_markdown(first, second, found, results), end="")
    else:
        shared = ledger.resolved(first) if everything else {}
        print_differences(first, second, found, shared, results)


@experiment.command()
@configured_by(CONFIG)
def tree(
    config: Any,
    root: Annotated[str, argument(help="Only this one and its descendants.")] = "",
    as_json: Json = False,
) -> None:
    """Show who extends whom, with what came of each.

    Example: `gearshift experiment tree baseline`
    """
    from components.experiments.tree import tree_view
    from pipelines.experiments.display import print_tree

    view = tree_view(opened(config), root)
    if as_json:
        show({"tree": view}, as_json)
    else:
        print_tree(view)


@experiment.command()
@configured_by(CONFIG)
def score(
    config: Any,
    name: Annotated[str, argument(help="One experiment; all authors without it.")] = "",
    as_json: Json = False,
) -> None:
    """Show how often hypotheses hold, by author and objective; or score one experiment again.

    Scoring again reads the figures and the seal of the last launch, and verifies the seal.

    Example: `gearshift experiment score` and `gearshift experiment score baseline`
    """
    from components.experiments.scoreboard import scoreboard
    from pipelines.experiments.display import print_scoreboard
    from pipelines.experiments.views import score_again, scoreboard_view

    ledger = opened(config)
    if name:
        show(score_again(ledger, name), as_json)
    elif as_json:
        show(scoreboard_view(scoreboard(ledger.index)), as_json)
    else:
        print_scoreboard(scoreboard(ledger.index))


@experiment.command()
@configured_by(CONFIG)
def verify(
    config: Any,
    name: Annotated[str, argument(help="One experiment; every launch without it.")] = "",
    as_json: Json = False,
) -> None:
    """Verify the seals: against their hashes, the journal, MLflow, and the files as they are now.

    Exit code 1 when a seal is broken. A file that was edited after it was sealed is reported, and
    is no broken seal: what was promised stands in the seal.

    Example: `gearshift experiment verify baseline`
    """
    from components.experiments.verify import verify as run
    from foundation.errors import SealBroken

    ledger = opened(config)
    attempts = ledger.attempts(name) if name else ledger.index.attempts()
    if name:
        ledger.experiment(name)
    found = [
        one
        for one in run(ledger, attempts)
        if not name or one.attempt in {attempt.attempt for attempt in attempts}
    ]
    if as_json:
        show({"seals": found}, as_json)
    for one in found if not as_json else ():
        print(f"{one.attempt}: {one.verdict}{': ' + one.detail if one.detail else ''}")
    if not found and not as_json:
        print("nothing was launched yet")
    broken = [one.attempt for one in found if one.verdict == "broken"]
    if broken:
        raise SealBroken(f"broken: {', '.join(broken)}; nothing that they promise can be relied on")


@experiment.command()
@configured_by(CONFIG)
def export(
    config: Any,
    out: Annotated[
        Path | None, option(help="File (.csv, .md); standard output without it."), RESULT_FILE
    ] = None,
    where: Where = None,
    words: Annotated[str, option(help="Only what these words find.")] = "",
    markdown: Annotated[bool, option("--markdown", help="Markdown in place of CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Write the list as CSV or Markdown: intent, what was set, expected and actual outcome.

    Example: `gearshift experiment export --where "objective~deadline" --out deadlines.md`
    """
    from components.experiments.export import rows_csv, rows_markdown
    from components.experiments.query import Question
    from foundation.storage import atomic_path

    rows = opened(config).find(Question(words, tuple(where or ()))).rows
    if as_json and out is None:
        show({"experiments": [row._asdict() for row in rows]}, as_json)
        return
    as_table = markdown or (out is not None and out.suffix == ".md")
    text = rows_markdown(rows) if as_table else rows_csv(rows)
    if out is None:
        print(text, end="")
        return
    with atomic_path(out) as partial:
        partial.write_text(text, encoding="utf-8")
    if as_json:
        show({"file": out, "experiments": len(rows)}, as_json)
    else:
        print(out)


@experiment.command()
@configured_by(CONFIG)
def rebuild(config: Any, as_json: Json = False) -> None:
    """Make the index anew from the YAML files and MLflow; it holds nothing that they do not.

    Example: `gearshift experiment rebuild`
    """
    ledger = opened(config)
    launches = ledger.rebuild()
    show({"experiments": len(ledger.known), "launches": launches}, as_json)


def opened(config: Any) -> Ledger:
    """The ledger, up to date with its files and with Kubeflow, lost launches marked."""
    from components.experiments.launches import note_interrupted
    from pipelines.experiments.kubeflow import ClusterConfig, look
    from pipelines.experiments.schema import open_ledger

    ledger = open_ledger(config)
    for line in ledger.left_out:
        notes.print(line, markup=False, soft_wrap=True)
    note_interrupted(ledger)
    token = os.environ.get(TOKEN_VARIABLE)
    known = ClusterConfig(os.environ.get(URL_VARIABLE, ""), Path(token) if token else None)
    for trouble in look(ledger, known):
        notes.print(f"as it was last known: {trouble}", style="dim", markup=False, soft_wrap=True)
    return ledger


def _list(ledger: Ledger, question: Any, as_json: bool) -> None:
    from pipelines.experiments.display import print_rows

    found = ledger.find(question)
    if as_json:
        rows = [row._asdict() for row in found.rows]
        show({"all_words": found.all_words, "total": found.total, "experiments": rows}, as_json)
        return
    if not found.all_words and found.rows:
        notes.print("none has all of these words; these have some of them")
    print_rows(found.rows)
    if len(found.rows) < found.total:
        notes.print(f"{len(found.rows):,} of {found.total:,}; --last shows more")


def _user() -> str:
    import getpass

    return getpass.getuser()
