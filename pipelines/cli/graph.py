"""``gearshift graph``: InferenceGraphs outside KServe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from foundation.path_roles import READ
from pipelines.cli.console import Json, announcing, argument, group, option

graph = group("InferenceGraphs outside KServe.")


@graph.command("serve")
def graph_serve(
    manifest: Annotated[Path, argument(help="YAML file with one InferenceGraph."), READ],
    port: Annotated[int, option(min=0, max=65535, help="0 takes a free one.")] = 8601,
    host: Annotated[str, option(help="Address to listen on.")] = "127.0.0.1",
    service: Annotated[
        list[str] | None,
        option(
            metavar="NAME=URL",
            help="Address of an InferenceService that a step names; without a path it gets V1's.",
        ),
    ] = None,
    propagate_header: Annotated[
        list[str] | None,
        option(metavar="REGEX", help="Headers that the steps get too; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve an InferenceGraph with KServe's routing, on this machine, until Ctrl-C.

    Example: `gearshift graph serve graph.yaml --port 8601 --service nano=http://127.0.0.1:8080`
    """
    from foundation.command_line import read_pairs
    from inference_graph.graph.server import serve_graph

    serve_graph(
        manifest,
        port,
        host,
        read_pairs(service or (), "service", "URL"),
        propagate_header or (),
        announcing(f"serving {manifest}", as_json),
    )
