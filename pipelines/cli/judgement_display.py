"""What a policy comes to on stored clips, as a table for people."""

from __future__ import annotations

from rich.table import Table

from components.evaluation.judge import Judgement
from components.evaluation.report_schema import Estimate
from pipelines.cli.terminal import PlainConsole


def show_judgement(found: Judgement) -> None:
    """Print the policy beside every way to route that is none, then what it is worth."""
    table = Table(
        title=f"policy {found.policy} on {found.clips} test clips ({found.frames} frames); "
        "95 % intervals over clips"
    )
    table.add_column("")
    for title in ("latency", "retained", "retained, tracked", "policy's lead"):
        table.add_column(title, justify="right")
    ours = (("gearshift", found.released), ("gearshift, reusing", found.reuse))
    tracked = (_interval(found.tracked.retained), _interval(found.reuse.retained))
    for (name, one), followed in zip(ours, tracked, strict=True):
        plain = _interval(one.retained) if name == "gearshift" else ""
        table.add_row(name, f"{one.latency_ratio:.3f}", plain, followed, "")
    for name, baseline in found.baselines.items():
        table.add_row(
            name,
            f"{baseline.latency_ratio:.3f}",
            _interval(baseline.retained),
            _interval(baseline.tracked),
            _interval(baseline.lead, "+"),
        )
    out = PlainConsole(highlight=False)
    out.print(table)
    shares = ", ".join(f"{rung} {share:.1%}" for rung, share in found.released.shares.items())
    reused = 1 - sum(found.reuse.shares.values())
    gaps = ", ".join(f"{at}: {_interval(share)}" for at, share in found.gap_shares.items())
    for line in (
        "latency is the mean over large's, router and tracker billed; retained is mAP50-95 over "
        "untracked large's",
        f"lift over the hull {_interval(found.lift.over_hull, '+')}; tracked, over the tracked "
        f"hull {_interval(found.tracked.over_hull, '+')}; reusing "
        f"{_interval(found.reuse.over_hull, '+')}",
        f"lift over {found.lift.rule}, the best rule on the tune clips, "
        f"{_interval(found.lift.over_rule, '+')}",
        f"frames: {shares}; reusing, {reused:.1%} are answered by tracks",
        f"share of the gap at latency {gaps}; mean {_interval(found.mean_gap_share)}, which is "
        f"{_interval(found.of_own_answers)} of what a router that knows every rung's answer to the "
        "frame reaches",
        f"certified to retain {_certified(found.released.certified)}; tracked "
        f"{_certified(found.tracked.certified)}; reusing {_certified(found.reuse.certified)}",
    ):
        out.print(line, soft_wrap=True, markup=False)


def _interval(one: Estimate, sign: str = "") -> str:
    if one.value is None:
        return "-"
    value = f"{one.value:{sign}.3f}"
    return value if one.low is None else f"{value} ({one.low:{sign}.3f} to {one.high:{sign}.3f})"


def _certified(floor: float | None) -> str:
    return "nothing" if floor is None else f"{floor:.3f}"
