"""``gearshift pipeline upload`` and ``gearshift notify send``: what a CI calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from foundation.command_line import read_pairs
from foundation.path_roles import READ
from pipelines.cli.console import Json, argument, option, show


def upload(
    folder: Annotated[Path, argument(help="Where `gearshift pipeline compile` wrote."), READ],
    to: Annotated[str, option(help="URL of Kubeflow Pipelines.")],
    name: Annotated[str, option(help="Name of the new versions, for example a commit.")],
    access_token: Annotated[
        str, option("--token", envvar="GEARSHIFT_KFP_TOKEN", help="Bearer token.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Upload compiled pipelines to Kubeflow Pipelines, as new versions.

    Example: `gearshift pipeline upload build --to http://localhost:8888 --name 1.4`
    """
    from pipelines.upload import upload_pipelines

    uploaded = upload_pipelines(folder, to, name, access_token or None)
    show({one.pipeline: one.version for one in uploaded}, as_json)


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
) -> None:
    """Tell the webhooks something, as a CI does when a job ends.

    Where no webhook is set nobody is told, and that is no error.

    Example: `gearshift notify send "Nightly retraining" --level failure --field commit=1a2b3c`
    """
    from inference_graph.control.notifications.say import say

    told = say(title, level, text, link, read_pairs(field or (), "field"))
    print(f"told {', '.join(told)}" if told else "no webhook is set; nobody was told")
