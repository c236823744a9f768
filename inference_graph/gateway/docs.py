"""The documentation page ``/docs``: the OpenAPI document, readable and to try out.

The page holds the document and needs no other host, so it works on a machine without a network.
"""

from __future__ import annotations

import html
import inspect
import json
from typing import Any

from fastapi import FastAPI

from inference_graph.gateway import stream
from inference_graph.gateway.docs_page import PAGE
from inference_graph.gateway.parameters import StreamParameters

TAGS: list[dict[str, Any]] = [
    {"name": "frames", "description": "Detect objects on images and streams."},
    {"name": "feedback", "description": "Say whether an answer was right."},
    {"name": "health", "description": "For probes and Prometheus."},
    {"name": "policy", "description": "Which policy decides.", "x-operators": True},
    {"name": "canaries", "description": "New revisions, step by step.", "x-operators": True},
    {"name": "triggers", "description": "Launch a retraining.", "x-operators": True},
    {"name": "log", "description": "Rows of devices and of KServe.", "x-operators": True},
]
"""Groups of operations in the page's order; those for operators stand apart."""

_STREAM = """<section id="stream"><h3><b>WS</b> <code>/v1/stream</code></h3>
<p>A stream of frames, answered in order. A token comes in the header <code>Authorization: Bearer
TOKEN</code> (role stream); a web page offers the subprotocols <code>gearshift.v1</code> and
<code>bearer.TOKEN</code>, or names a ticket.</p>
<table><caption>Query parameters, all optional</caption><tbody>{rows}</tbody></table>
<h4>JavaScript</h4>
<pre>const socket = new WebSocket("ws://127.0.0.1:8600/v1/stream?confidence=0.5",
                             ["gearshift.v1", "bearer." + token]);
socket.onopen = () =&gt; socket.send(jpeg);           // a Blob or an ArrayBuffer
socket.onmessage = (event) =&gt; console.log(JSON.parse(event.data).detections);</pre>
<h4>Python</h4>
<pre>from inference_graph.clients.gateway import StreamClient

async with StreamClient("http://127.0.0.1:8600", token) as client:
    async for message in client.stream(frames):
        print(message["frame"], message["detections"])</pre>
<h4>Messages</h4><pre>{messages}</pre></section>"""


def docs_page(app: FastAPI) -> str:
    """The page of the gateway, as HTML."""
    rows = "".join(
        f"<tr><th><code>{name}</code></th><td>{html.escape(field.description or '')}</td></tr>"
        for name, field in StreamParameters.model_fields.items()
    )
    messages = html.escape(inspect.cleandoc(stream.__doc__ or ""))
    return operations_page(app, _STREAM.format(rows=rows, messages=messages))


def operations_page(app: FastAPI, more: str = "") -> str:
    """The page of an application, as HTML.

    Args:
        app: whose OpenAPI document is shown.
        more: HTML of what that document cannot hold; it stands behind the first group.
    """
    document = app.openapi()
    # "<" could end the script element that holds the document.
    embedded = json.dumps(document).replace("<", "\\u003c")
    title = html.escape(document["info"]["title"])
    about = html.escape(document["info"].get("description", ""))
    parts = {"@title@": title, "@about@": about, "@more@": more, "@document@": embedded}
    page = PAGE
    for name, text in parts.items():
        page = page.replace(name, text)
    return page
