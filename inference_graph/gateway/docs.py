"""The documentation page, made of the OpenAPI document alone: it needs no other host."""

from __future__ import annotations

import html
import json
from typing import Any

from fastapi import FastAPI

from inference_graph.gateway import stream

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1c20; background: #fff }}
@media (prefers-color-scheme: dark) {{ body {{ color: #e4e6ea; background: #16181c }}
  pre, code {{ background: #24272d }} }}
h2 {{ margin-top: 2.5rem; border-bottom: 1px solid #8886 }}
code, pre {{ font: 14px/1.45 ui-monospace, monospace; background: #f1f2f4; border-radius: 4px }}
code {{ padding: .1em .3em }} pre {{ padding: .8rem; overflow-x: auto }}
table {{ border-collapse: collapse }} td, th {{ text-align: left; padding: .2rem 1rem .2rem 0;
  vertical-align: top }}
</style></head><body>
<h1>{title}</h1><p>{about}</p>
<p>The same as a document for programs: <a href="openapi.json">openapi.json</a></p>
{more}
{operations}
</body></html>"""
_STREAM = """<h2>WS <code>/v1/stream</code></h2>
<p>Query: <code>session</code>, <code>latency_weight</code>, <code>deadline_ms</code>, all
optional. Token: the header <code>Authorization: Bearer TOKEN</code>, role stream.</p>
<pre>{stream}</pre>"""


def docs_page(app: FastAPI) -> str:
    """The page of the gateway, as HTML."""
    return operations_page(app, _STREAM.format(stream=html.escape(stream.__doc__ or "")))


def operations_page(app: FastAPI, more: str = "") -> str:
    """The page of an application, as HTML.

    Args:
        app: whose OpenAPI document is shown.
        more: HTML of what that document cannot say.
    """
    document = app.openapi()
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return _PAGE.format(
        title=html.escape(document["info"]["title"]),
        about=html.escape(document["info"].get("description", "")),
        more=more,
        operations="\n".join(operations),
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{html.escape(part['name'])}</code></td>"
        f"<td>{html.escape(part.get('description', ''))}</td></tr>"
        for part in operation.get("parameters", ())
    ]
    body = operation.get("requestBody", {}).get("content", {})
    kinds = ", ".join(f"<code>{html.escape(kind)}</code>" for kind in body)
    schema = body.get("application/json", {}).get("schema")
    answers = [
        f"<tr><td>{html.escape(status)}</td><td>{html.escape(answer['description'])}</td></tr>"
        for status, answer in operation["responses"].items()
    ]
    return "".join(
        (
            f"<h2>{method.upper()} <code>{html.escape(path)}</code></h2>",
            f"<p>{html.escape(operation.get('summary', ''))}. ",
            f"{html.escape(operation.get('description', ''))}</p>",
            f"<h3>Parameters</h3><table>{''.join(rows)}</table>" if rows else "",
            f"<h3>Body</h3><p>{kinds}</p>" if body else "",
            f"<pre>{html.escape(json.dumps(schema, indent=1))}</pre>" if schema else "",
            f"<h3>Answers</h3><table>{''.join(answers)}</table>",
        )
    )
