"""``kubectl exec`` over a WebSocket: Kubernetes' protocol v5.channel.k8s.io.

The first byte of every message is its channel: 0 standard input, 1 output, 2 error, 3 the Status at
the end, and 255 closes the channel that the next byte names.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import Any
from urllib.parse import parse_qsl

_IN, _OUT, _ERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255


async def run_exec(server: Any, scope: Any, receive: Any, send: Any) -> None:
    """Run the command on this machine, the server's folder in place of ``/models``."""
    words = parse_qsl(scope["query_string"].decode())
    command = [value for name, value in words if name == "command"]
    server.commands.append(command)
    await receive()  # websocket.connect
    await send({"type": "websocket.accept", "subprotocol": "v5.channel.k8s.io"})
    stdin = b""
    if ("stdin", "true") in words:
        while True:
            message = await receive()
            data = message.get("bytes") or b""
            if message["type"] == "websocket.disconnect" or data[:2] == bytes((_CLOSE, _IN)):
                break
            if data[:1] == bytes((_IN,)):
                stdin += data[1:]
    local = [one.replace("/models", str(server.folder)) for one in command]
    process = await asyncio.to_thread(subprocess.run, local, input=stdin, capture_output=True)
    out, err = process.stdout, process.stderr
    for channel, data in ((_OUT, out), (_ERR, err)):
        if data:
            await send({"type": "websocket.send", "bytes": bytes((channel,)) + data})
    status: dict[str, Any] = {"metadata": {}, "status": "Success"}
    if process.returncode:
        status = {
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": f"command terminated with non-zero exit code: exit {process.returncode}",
            "details": {"causes": [{"reason": "ExitCode", "message": str(process.returncode)}]},
        }
    data = bytes((_STATUS,)) + json.dumps(status).encode()
    await send({"type": "websocket.send", "bytes": data})
    await send({"type": "websocket.close", "code": 1000})
