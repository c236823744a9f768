"""The live table of ``gearshift up``."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from inference_graph.control.embedded.supervisor import DOWN, READY, ServiceState

_STYLE = {READY: "green", DOWN: "red"}


def status_table(states: Sequence[ServiceState]) -> Table:
    """One row per service: what it does, for how long, how often it fell, where it is."""
    table = Table(box=None, pad_edge=False)
    for heading in ("service", "state", "up", "restarts", "pid", "address"):
        table.add_column(
            heading, justify="right" if heading in ("up", "restarts", "pid") else "left"
        )
    for one in states:
        table.add_row(
            one.name,
            f"[{_STYLE.get(one.state, 'yellow')}]{one.state}",
            _lasting(one.seconds),
            str(one.restarts),
            str(one.pid or "–"),
            one.address,
        )
    return table


def _lasting(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
