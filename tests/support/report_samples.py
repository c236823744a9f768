"""A whole evaluation report in few lines, to be changed by each test."""

from __future__ import annotations

from typing import Any

from components.evaluation.report_schema import Report

SHARES = {"nano": 0.5, "small": 0.3, "large": 0.2}


def estimate(value: float, half: float = 0.01) -> dict[str, float]:
    """A figure with an interval around it."""
    return {"value": value, "low": value - half, "high": value + half}


def row(name: str, retained: float, latency_ratio: float) -> dict[str, Any]:
    """One way to route, on a large rung of 100 ms."""
    mean = 100 * latency_ratio
    return {
        "name": name,
        "map": 0.7 * retained,
        "retained": retained,
        "retained_interval": [retained - 0.01, retained + 0.01],
        "mean_ms": mean,
        "p50_ms": mean,
        "p95_ms": mean,
        "p99_ms": mean,
        "latency_ratio": latency_ratio,
        "fps": 1e3 / mean,
        "usd_per_million": mean,
        "setting": "",
        "shares": SHARES,
    }


def report_content() -> dict[str, Any]:
    """A report that the gate's defaults let pass."""
    group = {"frames": 10, "shares": SHARES, "latency_ratio": 0.24}
    figures = {"retained": 0.97, "latency_ratio": 0.24, "gap_share": 0.5}
    rows = [
        row("always-large", 1.0, 1.0),
        row("always-small", 0.96, 0.22),
        row("always-nano", 0.8, 0.1),
        row("object-count", 0.965, 0.24),
        row("bc", 0.972, 0.24),
        row("gearshift", 0.97, 0.24),
        row("oracle", 0.99, 0.24),
    ]
    return {
        "rows": rows,
        **figures,
        "gap_share_interval": [0.4, 0.6],
        "lift": {"over_hull": estimate(0.02), "over_rule": estimate(0.005), "rule": "object-count"},
        "gap_shares": [{"latency_ratio": 0.2, "share": estimate(0.5)}],
        "mean_gap_share": estimate(0.5),
        "certified": 0.96,
        "guarantee": {
            "asked": 0.95,
            "confidence": 0.95,
            "latency_weight": 0.1,
            "latency_ratio": 0.24,
        },
        "tracked": {
            "tracker_ms": 0.2,
            "rows": rows,
            "over_hull": estimate(0.03),
            "over_tracked_hull": estimate(0.02),
            "reuse": {
                "longest": 1,
                "doubt": 0.3,
                "share": 0.2,
                "row": row("gearshift", 0.965, 0.2),
                "over_tracked_hull": estimate(0.025),
            },
        },
        "gears": {rung: {"share": share, "gain": 0.01} for rung, share in SHARES.items()},
        "classes": {
            "person": {"objects": 50, "ap": 0.7, "retained": 0.98},
            "dog": {"objects": 3, "ap": 0.5, "retained": None},
        },
        "curve": [{**figures, "latency_weight": 0.1, "certified": 0.96}],
        "latency_weight": 0.1,
        "router_ms": {"observe": 0.4, "decide": 0.05},
        "seeds": [figures, figures],
        "apgr": {"gearshift": 0.8},
        "at_equal_latency": {
            "random-mix": 0.95,
            "object-count": 0.965,
            "bc": 0.972,
            "oracle": 0.99,
        },
        "scene_types": {
            "sparse": {"retained": 0.99, **group},
            "moderate": {"retained": 0.96, **group},
            "dense": {"retained": 0.94, **group},
        },
        "conditions": {"day": {"retained": 0.97, **group}},
        "labels": {
            "confusion": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            "balanced_accuracy": 1.0,
            "majority_balanced_accuracy": 1 / 3,
            "mean_regret": 0.0,
            "mean_regret_of_rung": dict.fromkeys(SHARES, 0.1),
        },
        "fleets": [
            {"cameras": 1, "name": "bc", "reward": 0.5, "dropped": 0.0},
            {"cameras": 1, "name": "gearshift", "reward": 0.5, "dropped": 0.0},
        ],
        "load": {"cameras": 8, "price": 1.0, "over_price": estimate(0.002)},
        "points": {
            "object-count": [{"name": "count", "latency_ratio": 0.24, "retained": 0.965}],
            "gearshift": [],
            "oracle": [],
        },
        "hull": [{"latency_ratio": 0.1, "retained": 0.8}, {"latency_ratio": 1.0, "retained": 1.0}],
        "oracle_hull": [{"latency_ratio": 0.1, "retained": 0.9}],
        "refinement": {
            "seeds": [0, 1],
            "released": 1,
            "parity": [0.5, 1.0],
            "refined": [True, False],
            "explained_variance": [-1.0, 0.3],
            "clone_reward": [0.1, 0.1],
            "refined_reward": [0.1, 0.1],
            "clone_fleet_reward": [0.1, 0.1],
            "refined_fleet_reward": [0.1, 0.1],
        },
        "policy": {"sha256": "0" * 64, "revision": "0" * 12},
        "measurement": {"price_per_hour_usd": 0.36},
        "data": {
            "frames": {"learn": 60, "judge": 30},
            "clips": {"learn": 6, "judge": 3},
            "objects_judged": 53,
        },
        "config": {"bootstrap": 40, "confidence": 0.95},
    }


def report() -> Report:
    """The same, as types."""
    return Report.model_validate(report_content())
