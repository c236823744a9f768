"""The expected outcome as an expression, and what it came to: met, missed or void.

``retained >= 0.985 and latency_ratio <= 0.4`` is read by Python's own parser and then held to a
short list of what may stand there: names of metrics, numbers, comparisons, ``and``, ``or``,
``not``, ``+ - * /`` and parentheses. Nothing is ever called or evaluated as Python.

The metrics are the numbers of the evaluate stage's ``report.json``, by path: ``retained``,
``router_ms.observe``, ``scene_types.dense.retained``. A list whose members have a name is read by
that name: ``rows.oracle.p95_ms``, ``fleets.gearshift.cameras_8.dropped``. A hyphen in a name is
written as an underscore. ``parent.`` before a metric is that of the parent experiment:
``gap_share > parent.gap_share``.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from foundation.errors import ConfigurationError
from foundation.nearest import unknown
from inference_graph.contract import LADDER

Verdict = Literal["met", "missed", "void"]

_LONGEST = 500
_ROWS = (
    *(f"always_{rung}" for rung in LADDER),
    "random_mix",
    "edge_density",
    "object_count",
    "cascade",
    "previous_frame",
    "oric",
    "tod",
    "ecore",
    "rams",
    "bc",
    "gearshift",
    "oracle",
)
_ROW_FIGURES = (
    "map",
    "retained",
    "mean_ms",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "latency_ratio",
    "fps",
    "usd_per_million",
    *(f"shares.{rung}" for rung in LADDER),
)
_GROUP_FIGURES = ("frames", "retained", "latency_ratio", *(f"shares.{rung}" for rung in LADDER))
_FLEET_ROWS = (
    *(f"always_{rung}" for rung in LADDER),
    "shortest_queue",
    "slack",
    "bc",
    "price",
    "gearshift",
)

METRICS: tuple[str, ...] = (
    "retained",
    "latency_ratio",
    "gap_share",
    "latency_weight",
    "router_ms.observe",
    "router_ms.decide",
    "certified",
    *(
        f"{figure}.{end}"
        for figure in (
            "mean_gap_share",
            "lift.over_hull",
            "lift.over_rule",
            "tracked.over_hull",
            "tracked.over_tracked_hull",
            "tracked.reuse.over_tracked_hull",
            "load.over_price",
        )
        for end in ("value", "low", "high")
    ),
    *(f"rows.{row}.{figure}" for row in _ROWS for figure in _ROW_FIGURES),
    *(f"apgr.{row}" for row in (*_ROWS[3:],)),
    *(f"at_equal_latency.{row}" for row in _ROWS[3:] if row != "gearshift"),
    *(
        f"scene_types.{kind}.{figure}"
        for kind in ("sparse", "moderate", "dense")
        for figure in _GROUP_FIGURES
    ),
    "labels.balanced_accuracy",
    "labels.majority_balanced_accuracy",
    "labels.mean_regret",
    *(f"labels.mean_regret_of_rung.{rung}" for rung in LADDER),
)
"""Metrics that every report has, as far as they exist for its data."""

_OPEN = (
    re.compile(rf"conditions\.\w+\.({'|'.join(map(re.escape, _GROUP_FIGURES))})"),
    re.compile(rf"fleets\.({'|'.join(_FLEET_ROWS)})\.cameras_\d+\.(reward|dropped)"),
    re.compile(r"data\.(frames|clips)\.(learn|judge)|data\.objects_judged"),
)
"""Metrics whose names hold what the data or an option decides: conditions, sizes of fleets."""
_EXAMPLES = (
    "conditions.night.retained",
    *(
        f"fleets.{row}.cameras_{size}.{figure}"
        for row in _FLEET_ROWS
        for size in (1, 4, 8)
        for figure in ("dropped", "reward")
    ),
)

_COMPARE: Mapping[type, tuple[str, Callable[[Any, Any], bool]]] = {
    ast.GtE: (">=", operator.ge),
    ast.Gt: (">", operator.gt),
    ast.LtE: ("<=", operator.le),
    ast.Lt: ("<", operator.lt),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
}
_COMPUTE: Mapping[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


PARENT = "parent."
"""Before a metric's name: the figure of the parent experiment's last finished launch."""


class _Missing(Exception):
    """A figure that the report does not have."""


@dataclass(frozen=True)
class Score:
    """An expectation compared with the figures.

    Attributes:
        verdict: met or missed; void where it cannot be decided.
        reason: one line: the figures that decided, or why it is void.
        figures: every metric that the expression names; None where the report lacks it.
    """

    verdict: Verdict
    reason: str
    figures: Mapping[str, float | None]


@dataclass(frozen=True)
class Expectation:
    """An expression that was read.

    Attributes:
        text: as it was written.
        metrics: the metrics it names, in the order of their first mention; the parent's have
            ``parent.`` before them.
    """

    text: str
    metrics: tuple[str, ...]

    @property
    def parent_metrics(self) -> tuple[str, ...]:
        """The metrics of the parent that it names, without ``parent.``."""
        return tuple(name.removeprefix(PARENT) for name in self.metrics if name.startswith(PARENT))

    @classmethod
    def read(cls, text: str) -> Expectation:
        """Read an expression that is true or false.

        Raises:
            ConfigurationError: it is none, or names an unknown metric; names the nearest one.
        """
        tree = _parse(text)
        if not _is_logical(tree):
            raise ConfigurationError(
                f"{text!r} is neither true nor false; compare, as in `retained >= 0.95`"
            )
        return cls(text, _checked(tree, text))

    def score(self, figures: Mapping[str, float | None]) -> Score:
        """Hold figures against the expectation.

        Args:
            figures: metrics by name, as ``metrics_of`` reads them.
        """
        used = {name: figures.get(name) for name in self.metrics}
        listed = ", ".join(f"{name} is {_shown(value)}" for name, value in used.items())
        try:
            held = bool(_value(_parse(self.text), used))
        except _Missing as missing:
            return Score("void", f"the report has no {missing}", used)
        except ZeroDivisionError:
            return Score("void", f"a division by zero; {listed}", used)
        return Score("met" if held else "missed", listed, used)


def read_formula(text: str) -> tuple[str, ...]:
    """The metrics of an expression that is a number, such as what a sweep maximises.

    Raises:
        ConfigurationError: it is none, or names an unknown metric.
    """
    tree = _parse(text)
    if _is_logical(tree):
        raise ConfigurationError(f"{text!r} is no number; name a metric, as in `retained`")
    metrics = _checked(tree, text)
    for name in metrics:
        if name.startswith(PARENT):
            raise ConfigurationError(
                f"{text!r} names {name}; a formula holds metrics of the run alone"
            )
    return metrics


def compute(text: str, figures: Mapping[str, float | None]) -> float | None:
    """The number that a formula comes to; None where a metric is missing."""
    try:
        value = float(_value(_parse(text), figures))
    except (_Missing, ZeroDivisionError):
        return None
    return value if math.isfinite(value) else None


def metrics_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Every metric of a ``report.json`` by name; what is null there is left out."""
    found: dict[str, float] = {}
    for name, value in _walk(report, ""):
        if is_metric(name):
            found[name] = value
    return found


def _walk(value: Any, where: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            word = re.sub(r"\W", "_", str(name))
            yield from _walk(inner, f"{where}.{word}" if where else word)
    elif isinstance(value, list) and value and all(_is_named(one) for one in value):
        for one in value:
            word = re.sub(r"\W", "_", str(one["name"]))
            if "cameras" in one:
                word = f"{word}.cameras_{one['cameras']}"
            rest = {key: inner for key, inner in one.items() if key not in ("name", "cameras")}
            yield from _walk(rest, f"{where}.{word}")
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield where, float(value)


def _is_named(one: Any) -> bool:
    return isinstance(one, Mapping) and isinstance(one.get("name"), str)


def is_metric(name: str) -> bool:
    """Whether a report may have a metric of this name."""
    return name in _KNOWN or any(pattern.fullmatch(name) for pattern in _OPEN)


_KNOWN = frozenset(METRICS)


def _parse(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise ConfigurationError(f"the expression is longer than {_LONGEST} characters")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or str(error)
        raise ConfigurationError(
            f"{text!r} cannot be read ({reason}); write for example "
            "`retained >= 0.95 and latency_ratio <= 0.4`"
        ) from error


def _is_logical(tree: ast.expr) -> bool:
    if isinstance(tree, ast.UnaryOp):
        return isinstance(tree.op, ast.Not)
    return isinstance(tree, ast.Compare | ast.BoolOp)


def _checked(tree: ast.expr, text: str) -> tuple[str, ...]:
    """The metrics of an expression that holds nothing but what may stand there."""
    names: dict[str, None] = {}

    def look(node: ast.expr, logical: bool) -> None:
        if _is_logical(node) != logical:
            kind = "a comparison" if logical else "a number"
            raise ConfigurationError(f"{text!r}: `{ast.unparse(node)}` is not {kind}")
        if isinstance(node, ast.BoolOp):
            for part in node.values:
                look(part, True)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            look(node.operand, True)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            look(node.operand, False)
        elif isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
            for part in (node.left, *node.comparators):
                look(part, False)
        elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTE:
            look(node.left, False)
            look(node.right, False)
        elif isinstance(node, ast.Constant) and _is_number(node.value):
            pass
        elif isinstance(node, ast.Name | ast.Attribute) and (name := _dotted(node)):
            own = name.removeprefix(PARENT)
            if not is_metric(own):
                raise ConfigurationError(
                    f"{text!r}: the metric {unknown(own, (*METRICS, *_EXAMPLES))}"
                )
            names[name] = None
        else:
            raise ConfigurationError(
                f"{text!r}: `{ast.unparse(node)[:60]}` may not stand there; use metrics, numbers, "
                "comparisons, and, or, not, + - * /"
            )

    look(tree, _is_logical(tree))
    if not names:
        raise ConfigurationError(f"{text!r} names no metric; write for example `retained >= 0.95`")
    return tuple(names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        start = _dotted(node.value)
        return f"{start}.{node.attr}" if start else ""
    return ""


def _value(node: ast.expr, figures: Mapping[str, float | None]) -> Any:
    if isinstance(node, ast.BoolOp):
        # All of them, in order: what cannot be measured makes the whole void, whatever the rest.
        held = [_value(part, figures) for part in node.values]
        return all(held) if isinstance(node.op, ast.And) else any(held)
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, figures)
        if isinstance(node.op, ast.Not):
            return not value
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Compare):
        values = [_value(part, figures) for part in (node.left, *node.comparators)]
        return all(
            _COMPARE[type(op)][1](first, second)
            for op, first, second in zip(node.ops, values, values[1:], strict=False)
        )
    if isinstance(node, ast.BinOp):
        return _COMPUTE[type(node.op)](_value(node.left, figures), _value(node.right, figures))
    if isinstance(node, ast.Constant):
        return node.value
    name = _dotted(node)
    found = figures.get(name)
    if found is None or not math.isfinite(found):
        raise _Missing(name)
    return found


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"
