"""``gearshift notify``: messages to webhooks."""

from __future__ import annotations

from typing import Annotated

from foundation.command_line import read_pairs
from pipelines.cli.console import Json, argument, group, option, show

notify = group("Messages to Slack-compatible and generic webhooks.")


@notify.command("test")
def notify_test(
    dry_run: Annotated[
        bool, option("--dry-run", help="Send nothing; show every form of the message.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send a test message to the webhooks that are set, and show exactly what was sent.

    Addresses are secrets, so they come from the environment and are never shown:
    $GEARSHIFT_SLACK_WEBHOOK (Slack, Mattermost, ...) and $GEARSHIFT_WEBHOOK (plain JSON, with
    $GEARSHIFT_WEBHOOK_TOKEN as its bearer token if there is one). Where they are set,
    `gearshift up --monitoring` sends alerts, `gearshift pipeline run` and `gearshift demo` results.

    Example: `gearshift notify test --dry-run`
    """
    from inference_graph.control.notifications.trial import send_trial, trial_text

    trials = send_trial(dry_run)
    if as_json:
        show({one.webhook: one for one in trials}, as_json)
    else:
        print(trial_text(trials))


@notify.command()
def send(
    title: Annotated[str, argument(help="One line.")],
    level: Annotated[
        str, option(help="good, warning or critical; or success, cancelled, failure.")
    ] = "good",
    text: Annotated[str, option(help="What happened, and what to do.")] = "",
    link: Annotated[str, option(help="Where to read on.")] = "",
    field: Annotated[
        list[str] | None, option(metavar="NAME=VALUE", help="Shown beside it; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send a message to the webhooks, as a CI does when a job ends.

    Without a webhook nothing is sent, and that is no error.

    Example: `gearshift notify send "Nightly retraining" --level failure --field commit=1a2b3c`
    """
    from inference_graph.control.notifications.say import say

    sent = say(title, level, text, link, read_pairs(field or (), "field"))
    if as_json:
        show({"sent_to": sent}, as_json)
    else:
        print(f"sent to {', '.join(sent)}" if sent else "no webhook is set; nothing was sent")
