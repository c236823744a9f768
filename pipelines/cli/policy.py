"""``gearshift policy`` and ``gearshift retrain``: a new policy, from its data to its use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from foundation.path_roles import READ
from pipelines.cli.console import (
    Json,
    Ladder,
    Protect,
    Settings,
    Workplace,
    argument,
    configured_by,
    group,
    option,
    progress_bar,
    read_settings,
    show,
)

policy = group("Judge a policy; see and change the one of a running gateway.")

Token = Annotated[
    str, option("--token", envvar="GEARSHIFT_TOKEN", help="Access token of the role operate.")
]
To = Annotated[str, option(help="URL of the gateway.")]
_GATEWAY = "http://127.0.0.1:8600"


@policy.command()
def swap(
    file: Annotated[Path, argument(help="The policy's ONNX file."), READ],
    to: To = _GATEWAY,
    replaces: Annotated[
        str, option(metavar="REVISION", help="Refuse unless this policy is in use now.")
    ] = "",
    access_token: Token = "",
    as_json: Json = False,
) -> None:
    """Have a running gateway decide by another policy; streams go on.

    The file is sent. The gateway checks it as at a start; what it refuses changes nothing. A
    restart of the gateway begins with its own file again.

    Example: `gearshift policy swap --to http://127.0.0.1:8600 runs/retrain/policy.onnx`
    """
    from inference_graph.clients.policy import swap_policy

    show(swap_policy(to, file, access_token or None, replaces), as_json)


@policy.command()
def frames(
    name: Annotated[
        str,
        argument(help="Results folder of a run; else a version or an alias in the model registry."),
        READ,
    ],
    runs: Annotated[
        Path, option(help="Results folder; mlflow.db in the folder around it is asked."), READ
    ] = Path("runs/demo"),
    tracking_uri: Annotated[str, option(help="MLflow's tracking URI, where it is another.")] = "",
    model_name: Annotated[
        str, option(help="Name of the policy in MLflow's model registry.")
    ] = "gearshift-policy",
    as_json: Json = False,
) -> None:
    """Show which frames of which data set a policy was learned from, and judged by.

    The data set's SHA-256 is a name that `gearshift data checkout` takes.

    Example: `gearshift policy frames released --json`
    """
    from components.policy.learned import frames_of
    from components.tracking import database_beside

    uri = tracking_uri or database_beside(runs)
    show(frames_of(name, uri, model_name), as_json)


@policy.command("show")
def show_(to: To = _GATEWAY, access_token: Token = "", as_json: Json = False) -> None:
    """Show which policy a running gateway uses.

    Example: `gearshift policy show --to http://127.0.0.1:8600`
    """
    from inference_graph.clients.policy import policy_in_use

    show(policy_in_use(to, access_token or None), as_json)


@policy.command()
@configured_by("components.evaluation.judge:JudgeConfig")
def judge(
    config: Any,
    file: Annotated[Path, argument(help="The policy's ONNX file."), READ],
    clips: Annotated[
        Path | None,
        option(help="Folder of `gearshift ladder clips`; else the sample ladder's."),
        READ,
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge a policy on stored test clips, against the hull and the rules tuned on the tune clips.

    No detector runs. Lift, shares of the gap, the certified floor, and the same with a tracker and
    with reuse, each with 95 % intervals over clips.

    Example: `gearshift policy judge runs/demo/policy.onnx --clips runs/clips --json`
    """
    from components.evaluation.judge import judge_policy
    from pipelines.cli.judgement_display import show_judgement
    from pipelines.ladder_files import SAMPLE_CLIPS, ladder_files

    # The shipped detections must be of the shipped weights; others name theirs in clips.json.
    ladder = ladder_files() if clips is None else None
    with progress_bar("judge") as progress:
        found = judge_policy(file, clips or SAMPLE_CLIPS, config, progress, ladder)
    if as_json:
        show(found, as_json)
    else:
        show_judgement(found)


@configured_by("pipelines.retraining.retrain:RetrainConfig")
def retrain(
    config: Any,
    out: Workplace = Path("runs/retrain"),
    ladder: Ladder = "",
    settings: Settings = None,
    protect: Protect = None,
    start: Annotated[
        Path | None,
        option(
            "--from",
            help="Start a policy for the new camera, ladder or task of --data and --ladder from "
            "this one; log and champion are not looked at.",
        ),
        READ,
    ] = None,
    access_token: Token = "",
    require_release: Annotated[
        bool, option("--require-release", help="Exit with 1 when the challenger is refused.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a challenger on old data and kept frames of the log; release it only if it is better.

    It learns from what the champion learned from and from the log's images, labelled by large,
    passes the same gate as any policy, and is compared with the champion on held-out frames of
    both: it must forget nothing and be better on what is new. `release.json` names a policy that
    was released; `report.html` states what decided. A refusal is a result, with exit code 0; see
    `--require-release`.

    With --from, it trains on --data from an older policy, and `transfer.json` states how many
    labelled frames that saves: what is reached from that policy and from nothing, by frames.

    Example: `gearshift retrain --champion runs/demo/policy.onnx --log runs/up/log
    --since 2026-05-04T18:00 --swap http://127.0.0.1:8600`, or `gearshift retrain
    --from runs/demo/policy.onnx --data new-camera.zip --out runs/new-camera`
    """
    from foundation.errors import GateRefused
    from pipelines.cli.step_display import step_display
    from pipelines.notices import notify_at_the_end
    from pipelines.retraining.retrain import retrain as run
    from pipelines.retraining.transfer import transfer

    with notify_at_the_end("gearshift retrain", out) as notify:
        chosen = read_settings(settings, protect)
        if start is not None:
            moved = transfer(start, config.data, out, ladder, chosen, progress_bar, step_display)
            notify(moved.run)
            show(moved, as_json)
            if require_release and not moved.run.passed:
                raise GateRefused(moved.outcome)
            return
        result = run(config, out, ladder, chosen, progress_bar, step_display, access_token or None)
        notify(result.run)
    show(result, as_json)
    if require_release and not result.released:
        raise GateRefused(result.outcome)
