"""``gearshift triggers``: rules that launch a retraining, and what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from foundation.path_roles import READ
from pipelines.cli.console import Json, argument, group, notes, option, show

if TYPE_CHECKING:
    from inference_graph.control.triggers.audit import RuleDecision
    from inference_graph.control.triggers.engine import Triggers

triggers = group("Rules that launch a retraining: check them, follow them, look back.")

File = Annotated[Path, argument(help="File of the triggers."), READ]
Log = Annotated[str, option(help="Prediction log, where the file names none."), READ]
_DEFAULT = Path("triggers.yaml")
_LOG = "runs/up/log"


@triggers.command()
def check(file: File = _DEFAULT, log: Log = _LOG, as_json: Json = False) -> None:
    """Weigh every rule now, and launch what is due.

    A launch is a process of its own: this command does not wait for it. Run it by cron or as a
    CronJob, or let `triggers run` do it again and again. docs/feedback.md describes the file.

    Example: `gearshift triggers check triggers.yaml --log runs/up/log`
    """
    decisions = _opened(file, log).check()
    if as_json:
        show({"decisions": [one.line() for one in decisions]}, as_json)
        return
    for one in decisions:
        print(_sentence(one))
    if not decisions:
        print(f"{file}: every rule waits for alerts; there is nothing to weigh")


@triggers.command()
def run(
    file: File = _DEFAULT,
    log: Log = _LOG,
    every_seconds: Annotated[
        float, option(min=1, max=86_400, help="Pause between two checks.")
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Weigh the rules again and again, until Ctrl-C; prints what is new.

    `gearshift up --triggers FILE` does the same beside the services.

    Example: `gearshift triggers run triggers.yaml --every-seconds 300`
    """
    import json

    from inference_graph.control.triggers.watch import watch
    from pipelines.cli.interrupts import until_interrupted

    def report(one: RuleDecision) -> None:
        print(json.dumps(one.line()) if as_json else _sentence(one), flush=True)

    def warn(text: str) -> None:
        notes.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)

    with until_interrupted() as ending:
        watch(_opened(file, log), every_seconds, ending, report, warn)
    raise KeyboardInterrupt


@triggers.command()
def history(
    file: File = _DEFAULT,
    last: Annotated[int, option(min=1, help="Show so many, the newest.")] = 20,
    as_json: Json = False,
) -> None:
    """Show what was decided and launched, with who, when and why; the newest last.

    Example: `gearshift triggers history triggers.yaml --last 5`
    """
    from inference_graph.control.triggers.audit import read_audit

    audit = read_audit(_opened(file, "").config.state)
    shown = audit.decisions[-last:]
    outcomes = {one.launch: one for one in audit.outcomes}
    if as_json:
        launches = {one.launch for one in shown if one.fired}
        lines = [outcomes[launch].line() for launch in outcomes if launch in launches]
        show({"decisions": [one.line() for one in shown], "outcomes": lines}, as_json)
        return
    for one in shown:
        print(f"{one.time:%Y-%m-%d %H:%M:%S} {one.who}: {_sentence(one)}")
        if one.fired:
            outcome = outcomes.get(one.launch)
            became = "it has no outcome yet"
            if outcome is not None:
                became = f"{outcome.outcome} after {outcome.seconds:g} s: {outcome.detail}"
            print(f"    launch {one.launch}: {became}")
    if not shown:
        print("nothing was decided yet")


def _opened(file: Path, log: str) -> Triggers:
    from foundation.audit_log import audit_of_environment
    from inference_graph.control.triggers.engine import Triggers
    from inference_graph.control.triggers.read_config import read_triggers

    return Triggers(read_triggers(file, log), audit_of_environment())


def _sentence(one: RuleDecision) -> str:
    what = f"launched {one.launch}" if one.fired else one.verdict
    return f"{one.rule}: {what}: {one.reason}"
