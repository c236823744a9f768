"""Reference pages, generated from the code that they describe."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from foundation.storage import atomic_path
from inference_graph.contract import LADDER
from inference_graph.gateway.app import build_app
from inference_graph.gateway.settings import GatewaySettings
from inference_graph.metric_names import markdown_table
from pipelines.cli.app import root_command
from pipelines.training.stages import STAGES, as_setting, described_options

COMMAND = "python -m pipelines.documentation reference"
ENVIRONMENT: Mapping[str, str] = {
    "GEARSHIFT_AUDIT": "audit log; `runs/audit.jsonl` without it",
    "GEARSHIFT_AUTHOR": "who proposes an experiment; the user of the machine without it",
    "GEARSHIFT_CACHE": "folder for downloads and facts of images; the user's cache without it",
    "GEARSHIFT_COCO_ADDRESS": "mirror of COCO's archives",
    "GEARSHIFT_EVENT_KEY": "key that replicas of a gateway share, for feedback and tickets",
    "GEARSHIFT_KAFKA_KEY_PASSWORD": "password of the key of `gearshift kafka route --private-key`",
    "GEARSHIFT_KAFKA_PASSWORD": "password at Kafka's brokers",
    "GEARSHIFT_KAFKA_USERNAME": "name at Kafka's brokers",
    "GEARSHIFT_KEY": "private key that signs",
    "GEARSHIFT_KEY_PASSWORD": "its password",
    "GEARSHIFT_KFP_TOKEN": "bearer token of `gearshift pipeline upload` and `drift schedule`",
    "GEARSHIFT_KUBEFLOW": "URL of Kubeflow Pipelines",
    "GEARSHIFT_KUBEFLOW_TOKEN_FILE": "file with its token",
    "GEARSHIFT_LOGGER_TOKEN": "token of the detectors' events at the gateway",
    "GEARSHIFT_PODS_TRACKING_URI": "MLflow's tracking URI, as a cluster's pods reach it",
    "GEARSHIFT_REVIEWER": "who decides on feedback",
    "GEARSHIFT_ROLLOUTS": "folder of the rollouts",
    "GEARSHIFT_SLACK_WEBHOOK": "webhook that takes Slack's messages",
    "GEARSHIFT_TOKEN": "access token of the gateway",
    "GEARSHIFT_TRUST": "trust file; models that none of its keys signed are refused",
    "GEARSHIFT_WEBHOOK": "webhook that takes plain JSON",
    "GEARSHIFT_WEBHOOK_TOKEN": "its bearer token",
    "GEARSHIFT_WEIGHTS_ADDRESS": "mirror of Ultralytics' weights",
    "GEARSHIFT_WHO": "who acts, in the audit log; account and host without it",
}
"""Variables that people set."""

_ANY_GATEWAY = GatewaySettings(
    rungs=dict.fromkeys(LADDER, "127.0.0.1:1"), always=LADDER[0], open_access=True
)


def write_reference(folder: Path) -> list[Path]:
    """Write every page.

    Args:
        folder: where they go; made if it is missing.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, page in PAGES.items():
        with atomic_path(folder / f"{name}.md") as partial:
            partial.write_text(page(), encoding="utf-8")
        files.append(folder / f"{name}.md")
    return files


def cli_page() -> str:
    """Every verb with its arguments and options."""
    root = root_command()
    sections = [section for section in _verbs(root, None, ("gearshift",)) if section]
    return _page(
        "Command line",
        "Every verb takes `--help`; those whose result is data take `--json`. Exit codes: 0 done, "
        "1 refused or failed, with one line on standard error, 2 a mistyped command, "
        "130 interrupted.",
        *sections,
    )


def configuration_page() -> str:
    """The options of every stage, and the environment variables."""
    sections = ["## Environment\n\n" + _table(("variable", "meaning"), ENVIRONMENT.items())]
    for stage in STAGES:
        rows = [
            (one.name, f"`{as_setting(one.default)}`" if as_setting(one.default) else "–", one.help)
            for one in described_options(stage)
        ]
        named = [(f"{stage}.{name}", default, text) for name, default, text in rows]
        sections.append(f"## {stage}\n\n" + _table(("option", "default", "meaning"), named))
    return _page(
        "Configuration",
        "Options of the training pipeline: `--set STAGE.OPTION=VALUE` on the command line, "
        "`set:` in an experiment's file, parameters of the compiled pipeline. Options of the "
        "services stand with their verbs in [the command line](cli.md).",
        *sections,
    )


def metrics_page() -> str:
    """Every metric."""
    return _page(
        "Metrics",
        "What `/metrics` of the services exposes; alerts and Grafana's dashboards are written "
        "from the same names.",
        markdown_table(),
    )


def api_page() -> str:
    """Every request of the gateway, from its OpenAPI document."""
    document = build_app(_ANY_GATEWAY).openapi()
    sections = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            text = inspect.cleandoc(operation.get("description", ""))
            parts = [f"## {method.upper()} {path}", f"{operation.get('summary', '')}.", text]
            parameters = [
                (one["name"], one["in"], one.get("description", ""))
                for one in operation.get("parameters", ())
            ]
            if parameters:
                parts.append(_table(("parameter", "in", "meaning"), parameters))
            answers = [
                (code, answer.get("description", ""))
                for code, answer in operation["responses"].items()
            ]
            parts.append(_table(("status", "meaning"), answers, ()))
            sections.append("\n\n".join(part for part in parts if part))
    return _page(
        "Gateway API",
        "Every request, from the gateway's OpenAPI document (`/openapi.json`). "
        "[The API](../api.md) has examples and describes `/v1/stream`.",
        *sections,
    )


PAGES: Mapping[str, Callable[[], str]] = {
    "cli": cli_page,
    "api": api_page,
    "configuration": configuration_page,
    "metrics": metrics_page,
}
"""What makes each page, by the name of its file."""


def _page(title: str, about: str, *sections: str) -> str:
    head = f"<!-- Generated: {COMMAND} -->\n\n# {title}\n\n{about}\n\n"
    return head + "\n\n".join(section.strip() for section in sections) + "\n"


def _verbs(command: Any, parent: Any, words: tuple[str, ...]) -> Iterator[str]:
    """The sections of a command and of those below it."""
    context = command.make_context(words[-1], [], parent=parent, resilient_parsing=True)
    if not hasattr(command, "commands"):
        yield _verb(command, context, words)
        return
    if parent is not None:
        yield f"## {' '.join(words)}\n\n{_text(command.help)}"
    for name in command.list_commands(context):
        below = command.commands[name]
        if not hasattr(below, "commands"):
            _, below, _ = command.resolve_command(context, name.split())
        yield from _verbs(below, context, (*words, name))


def _verb(command: Any, context: Any, words: tuple[str, ...]) -> str:
    level = "##" if len(words) == 2 else "###"
    usage = " ".join((*words, *command.collect_usage_pieces(context)))
    parts = [f"{level} {' '.join(words)}", _text(command.help), f"```text\n{usage}\n```"]
    rows = []
    for one in command.params:
        argument = one.param_type_name == "argument"
        name = one.name if argument else ", ".join((*one.opts, *one.secondary_opts))
        notes = [_text(one.help or "")]
        if one.default not in (None, False, (), "") and one.show_default and not argument:
            notes.append(f"[default: {one.default}]")
        if one.envvar:
            notes.append(f"[${one.envvar}]")
        if one.required and not argument:
            notes.append("Required.")
        rows.append((name, " ".join(notes)))
    if rows:
        parts.append(_table(("", "meaning"), rows))
    return "\n\n".join(parts)


def _text(text: str | None) -> str:
    return inspect.cleandoc(text or "").replace("\f", "")


def _table(head: tuple[str, ...], rows: Any, code: tuple[int, ...] = (0,)) -> str:
    """A Markdown table; the columns of `code` are set as code."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [re.sub(r"\s+", " ", str(cell)).replace("|", "\\|") for cell in row]
        shown = [f"`{cell}`" if at in code else cell for at, cell in enumerate(cells)]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)
