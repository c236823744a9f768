"""From figures to a decision: no drift, harmless drift, harmful drift, or too little data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from components.drift.comparison import FigureComparison, compare
from components.drift.config import DriftConfig
from components.drift.frames import Frames
from components.drift.harm import Harm, measure_harm
from components.drift.reference import Reference
from components.drift.thinning import spacing_of
from inference_graph.control.drift_state import WORDS, Decision
from inference_graph.prediction_log.retained import Retained


@dataclass(frozen=True)
class Findings:
    """Findings about a window of answers.

    Attributes:
        decision: see ``inference_graph.control.drift_state``.
        sentence: the decision and its reason.
        evidence: what it rests on, a line each.
        comparisons: every figure.
        harm: accuracy retained.
        spacing: frames of a stream between two independent ones, of reference and window.
        notes: what else has to be known to read the figures.
    """

    decision: Decision
    sentence: str
    evidence: tuple[str, ...]
    comparisons: tuple[FigureComparison, ...]
    harm: Harm
    spacing: tuple[int, int]
    notes: tuple[str, ...]


def examine(reference: Reference, window: Frames, config: DriftConfig) -> Findings:
    """Compare a window with the reference, and decide.

    Args:
        reference: what is usual.
        window: what is examined.
        config: how.

    Raises:
        ConfigurationError: alibi-detect is asked for and not installed.
    """
    usual = reference.frames
    spacing = (
        (config.spacing, config.spacing)
        if config.spacing
        else (spacing_of(usual), spacing_of(window))
    )
    notes = tuple(_notes(usual, window))
    comparisons = compare(usual, window, spacing, config, reference.class_names, not notes)
    share = config.alpha / (1 + sum(one.ran for one in comparisons))
    harm = measure_harm(usual, window, spacing, share)
    decision = _decide(comparisons, harm, config)
    return Findings(
        decision=decision,
        sentence=_sentence(decision, comparisons, harm, window, config),
        evidence=tuple(_evidence(decision, comparisons, harm)),
        comparisons=comparisons,
        harm=harm,
        spacing=spacing,
        notes=notes,
    )


def _decide(comparisons: Sequence[FigureComparison], harm: Harm, config: DriftConfig) -> Decision:
    if not any(one.ran for one in comparisons):
        return "unknown"
    if harm.alarms(config.tolerance):
        return "retrain"
    if not any(one.drifted for one in comparisons):
        return "none"
    return "retrain" if harm.hurts(config.tolerance) else "watch"


def _sentence(
    decision: Decision,
    comparisons: Sequence[FigureComparison],
    harm: Harm,
    window: Frames,
    config: DriftConfig,
) -> str:
    word = WORDS[decision].capitalize()
    if decision == "unknown":
        most = max((one.window_frames for one in comparisons), default=0)
        return (
            f"{word}: of {len(window):,} answers at most {most} count as independent, a test needs "
            f"{config.least}; widen the window."
        )
    moved = [one.name.replace("_", " ") for one in comparisons if one.drifted]
    change = f"{_listed(moved)} moved" if moved else "no figure moved"
    if decision == "none":
        return f"{word}: {change} beyond what chance explains."
    if decision == "retrain":
        return (
            f"{word}: {change}, and accuracy retained fell from {harm.reference.share:.1%} to "
            f"{harm.window.share:.1%} ({_points(harm)})."
        )
    if math.isnan(harm.loss):
        return (
            f"{word} as far as is known: {change}; no shadow has looked, so nobody knows of harm."
        )
    if math.isnan(harm.low):
        return f"{word} as far as is known: {change}; too few shadows have looked to tell of harm."
    if harm.high < config.tolerance:
        return f"{word}: {change}; accuracy retained lost less than {config.tolerance:.1%}."
    return f"{word}: {change}; a loss of accuracy retained is not shown ({_points(harm)})."


def _evidence(decision: Decision, comparisons: Sequence[FigureComparison], harm: Harm) -> list[str]:
    lines = [
        f"{one.name.replace('_', ' ')}: {one.change} ({one.method}, statistic "
        f"{one.statistic:.3g}, p {one.p_value:.2g}, counts from {one.level:.2g} down; "
        f"{one.reference_frames} and {one.window_frames} independent frames)"
        for one in comparisons
        if one.drifted
    ]
    if decision != "unknown" and harm.loss == harm.loss:
        lines.append(
            f"accuracy retained: {_share(harm.reference)} became {_share(harm.window)}"
            + ("" if math.isnan(harm.low) else f"; {_points(harm)}, p {harm.p_value:.2g}")
        )
    return lines


def _notes(usual: Frames, window: Frames) -> list[str]:
    """What makes routing shares incomparable."""
    notes = []
    revisions = usual.policy_revision, window.policy_revision
    if all(revisions) and revisions[0] != revisions[1]:
        notes.append(
            f"The reference is of policy {revisions[0]}, the window was routed by {revisions[1]}: "
            "routing shares are not compared."
        )
    weights = usual.latency_weight, window.latency_weight
    if all(w == w for w in weights) and not math.isclose(*weights, rel_tol=1e-3):
        notes.append(
            f"The reference is at latency weight {weights[0]:.4g}, the window at {weights[1]:.4g}: "
            "routing shares are not compared."
        )
    return notes


def _points(harm: Harm) -> str:
    return (
        f"loss {100 * harm.loss:.1f} points, 95 % interval {100 * harm.low:.1f} to "
        f"{100 * harm.high:.1f}"
    )


def _share(kept: Retained) -> str:
    interval = "" if math.isnan(kept.low) else f" ({kept.low:.1%} to {kept.high:.1%})"
    return f"{kept.share:.1%}{interval}, {kept.shadowed} shadows in {kept.clusters} {kept.unit}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
