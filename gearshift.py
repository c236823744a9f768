"""The command line: each verb is one function that calls one room.

Rooms are imported where they are called, so that ``gearshift --help`` answers at once.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from foundation.path_roles import KEPT_FILE, KEPT_FOLDER, READ, RESULT_FILE, PathRole
from pipelines.cli.audit import audit
from pipelines.cli.cluster_install import cluster
from pipelines.cli.console import (
    Json,
    Ladder,
    OutFile,
    OutFolder,
    RunFolder,
    Settings,
    Workplace,
    configured_by,
    explained_by,
    group,
    notes,
    progress_bar,
    progress_bars,
    show,
)
from pipelines.cli.delivery import send, upload
from pipelines.cli.demo_drift import demo_drift
from pipelines.cli.drift import drift
from pipelines.cli.edge import bundle, edge
from pipelines.cli.experiment_runs import experiment
from pipelines.cli.feedback import feedback
from pipelines.cli.keys import key, sign
from pipelines.cli.ladder import resize
from pipelines.cli.policy import policy, retrain
from pipelines.cli.rollout import bench_rollout, rollout
from pipelines.cli.triggers import triggers

app = group("The right-sized detector for every frame.")
data = group("Data sets: read, examine and divide them.")
ladder = group("The three detectors: train, export and describe them.")
pipeline = group("The training pipeline: for a cluster, or on this machine.")
graph = group("InferenceGraphs outside KServe.")
token = group("Access tokens of the gateway.")
notify = group("Messages to Slack-compatible and generic webhooks.")
bench = group("Measure what has to be fast.")
app.add_typer(data, name="data")
app.add_typer(ladder, name="ladder")
app.add_typer(pipeline, name="pipeline")
app.add_typer(graph, name="graph")
app.add_typer(token, name="token")
app.add_typer(notify, name="notify")
app.add_typer(bench, name="bench")
app.add_typer(drift, name="drift")
app.add_typer(experiment, name="experiment")
app.add_typer(feedback, name="feedback")
app.add_typer(triggers, name="triggers")
app.add_typer(policy, name="policy")
app.add_typer(audit, name="audit")
app.add_typer(key, name="key")
app.add_typer(edge, name="edge")
app.add_typer(rollout, name="rollout")
app.add_typer(cluster, name="cluster")
app.command("demo drift")(demo_drift)
app.command()(retrain)
ladder.command()(resize)
app.command()(sign)
app.command()(bundle)
pipeline.command()(upload)
notify.command()(send)
bench.command("rollout")(bench_rollout)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not have every character
            stream.reconfigure(errors="backslashreplace")
    app()


@app.command()
@configured_by("components.scenes.writer:ScenesConfig")
def scenes(config: Any, out: OutFolder, as_json: Json = False) -> None:
    """Render sample street scenes with COCO annotations.

    Example: `gearshift scenes --frames 200 --clips 5 --condition rain --out scenes`
    """
    from components.scenes.writer import write_scenes

    with progress_bar("frames") as progress:
        summary = write_scenes(config, out, progress)
    show(summary, as_json)


@data.command()
@configured_by("components.data.ingest:IngestConfig")
def ingest(
    config: Any,
    source: Annotated[
        str,
        typer.Argument(
            help="COCO-format folder, zip or its URL; `coco2017`: COCO's val2017, fetched once."
        ),
        READ,
    ],
    out: OutFolder,
    as_json: Json = False,
) -> None:
    """Read COCO-format data into a canonical data set folder, checking everything once.

    Downloads are kept in the cache, resume where they broke off, and for coco2017 can come from
    a mirror (`--coco-address`, or $GEARSHIFT_COCO_ADDRESS).

    Examples: `gearshift data ingest coco128.zip --out data/coco128 --on-invalid drop` and
    `gearshift data ingest coco2017 --limit 500 --out data/coco500`
    """
    from components.data.ingest import ingest as run

    with progress_bar("images") as progress:
        summary = run(source, out, config, progress)
    show(summary, as_json)


@data.command()
@configured_by("components.data.validate:ValidateConfig")
def validate(
    config: Any,
    dataset: Annotated[Path, typer.Argument(help="Folder that ingest or scenes made."), READ],
    out: OutFolder,
    ladder: Ladder = "",
    as_json: Json = False,
) -> None:
    """Examine a data set: refuse what is useless, report what is odd.

    Example: `gearshift data validate data/coco128 --out data/coco128-report`
    """
    from components.data.classes import Classes
    from components.data.validate import validate as run
    from components.profiling.rungs import InferenceConfig, open_rung
    from inference_graph.contract import LADDER
    from pipelines.ladder_files import ladder_files

    rung = open_rung(LADDER[0], ladder_files(ladder)[LADDER[0]], InferenceConfig())
    with progress_bar("images") as progress:
        summary = run(dataset, out, config, Classes.of(rung), progress)
    show(summary, as_json)


@data.command()
@configured_by("components.data.split:SplitConfig")
def split(
    config: Any,
    dataset: Annotated[Path, typer.Argument(help="Folder that ingest or scenes made."), READ],
    out: OutFile,
    as_json: Json = False,
) -> None:
    """Divide a data set by clips into training, validation and test parts.

    Example: `gearshift data split data/coco128 --out data/coco128-split.json --test 0.3
    --validation 0.1 --train 0.6`
    """
    from components.data.split import split as run

    show(run(dataset, out, config), as_json)


@ladder.command()
@configured_by("components.ladder.train:LadderTrainConfig")
def train(
    config: Any,
    out: Annotated[
        Path,
        typer.Option(help="Folder of the checkpoints; what is there already is gone on with."),
        PathRole("workplace", sign=("nano.pt", "")),
    ],
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder for rendered frames, shared by the rungs."),
        KEPT_FOLDER,
    ] = None,
) -> None:
    """Train one rung of the sample ladder; goes on where an interrupted run stopped.

    Example: `gearshift ladder train --rung nano --out runs/ladder`
    """
    from components.ladder.train import StepReport, train_rung

    place = cache or out / "frames"
    with progress_bars("frames", "steps") as (rendered, stepped):

        def on_step(report: StepReport) -> None:
            stepped(report.step, report.steps)

        weights = train_rung(config, out, place, on_render=rendered, on_step=on_step)
    print(weights)


@ladder.command()
@configured_by("components.ladder.export:ExportConfig")
def export(
    config: Any,
    weights: Annotated[
        Path, typer.Argument(help="Any Ultralytics detection checkpoint (.pt)."), READ
    ],
    out: OutFile,
    as_json: Json = False,
) -> None:
    """Export a checkpoint, official COCO weights included, to an ONNX file that serves.

    Opening a .pt runs the code it holds, so give only files that you trust. The official three
    need no export by hand: say `--weights coco` where a verb takes a ladder.

    Example: `gearshift ladder export yolov8n.pt --height 640 --width 640 --out ladder/nano.onnx`
    """
    from components.ladder.export import export_rung

    show(export_rung(weights, out, config), as_json)


@ladder.command()
@configured_by("components.ladder.card:CardConfig")
def card(
    config: Any,
    scenes: Annotated[Path, typer.Option(help="Held-out scenes, of a seed of their own."), READ],
    ladder: Ladder = "",
    checkpoints: Annotated[
        Path | None, typer.Option(help="Folder with <rung>.pt, to compare the exports with."), READ
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the ladder on held-out scenes and write its model card beside the weights.

    Example: `gearshift ladder card --scenes runs/held-out --checkpoints runs/ladder`
    """
    from components.ladder.card import write_card
    from pipelines.ladder_files import SAMPLE_LADDER

    place = Path(ladder) if ladder else SAMPLE_LADDER
    with progress_bar("frames") as progress:
        written = write_card(place, scenes, checkpoints, config, progress)
    if as_json:
        show(written, as_json)
    else:
        print(place / "MODEL_CARD.md")


@ladder.command()
def check(ladder: Ladder = "") -> None:
    """Hold the weights against their card: digests, rising accuracy, faithful exports.

    Example: `gearshift ladder check --ladder my-ladder`
    """
    from components.ladder.check import check_ladder
    from pipelines.ladder_files import SAMPLE_LADDER

    place = Path(ladder) if ladder else SAMPLE_LADDER
    check_ladder(place)
    print(f"{place}: as its card says")


@pipeline.command("compile")
@configured_by("pipelines.placement:PlacementConfig")
def compile_(
    config: Any,
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder of the pipelines; other files in it stay."),
        PathRole("workplace", sign=("gearshift-training.yaml", "# PIPELINE DEFINITION\n")),
    ],
) -> None:
    """Write the pipelines, training and drift, as YAML for the Kubeflow UI.

    Example: `gearshift pipeline compile --image registry.example/gearshift:1 --gpus 1 --out build`
    """
    from pipelines.drift.pipeline import compile_monitoring
    from pipelines.training.pipeline import compile_pipeline

    print(compile_pipeline(config, out))
    print(compile_monitoring(config, out))


@pipeline.command()
@explained_by("pipelines.training.pipeline:settings_help")
def run(
    data: Annotated[
        str,
        typer.Option(
            help="COCO-format folder, zip or URL; `coco2017`: COCO's val2017, fetched once; "
            "sample scenes without it."
        ),
        READ,
    ] = "",
    out: RunFolder = Path("runs/pipeline"),
    ladder: Ladder = "",
    settings: Settings = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Reuse no earlier result.")] = False,
    require_gate: Annotated[
        bool, typer.Option("--require-gate", help="Exit with 1 when the gate refuses.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the training pipeline on this machine, up to a registered policy or a refusal.

    Steps whose code, data and options are unchanged are not run again. Exit code 0 means that
    the run ended, registered or refused; see `--require-gate`.

    The run is a launch of the shipped experiment `baseline`: its contract is sealed with these
    settings first, and scored last. A change that you believe in deserves a hypothesis of its own:
    `gearshift experiment --help`.

    With internet, real photographs and detectors that know them: `--data coco2017 --weights coco`
    (downloads 1.2 GB once; `--set ingest.limit=500` takes the first 500 photographs, a trial that
    two cores can do). Mirrors: `--set ingest.coco_address=URL` or $GEARSHIFT_COCO_ADDRESS, and
    $GEARSHIFT_WEIGHTS_ADDRESS, which has to speak https, for opening a checkpoint runs its code.

    Example: `gearshift pipeline run --data coco128.zip --out runs/coco128
    --set split.test=0.3 --set split.train=0.55 --set clone.seeds=3`
    """
    from foundation.errors import GateRefused
    from pipelines.cli.step_display import step_display
    from pipelines.notices import told_at_the_end
    from pipelines.options import parse_settings
    from pipelines.training.pipeline import STAGES
    from pipelines.training.run import run_training

    chosen = parse_settings(settings or (), STAGES)
    with told_at_the_end("gearshift pipeline run", out) as tell:
        with step_display() as on_event:
            result = run_training(data, ladder, out, chosen, on_event, reuse=not fresh)
        tell(result)
    notes.print(result.outcome, markup=False, soft_wrap=True)
    show(result, as_json)
    if require_gate and not result.passed:
        raise GateRefused(result.outcome)


@app.command()
@configured_by("inference_graph.local_video.route:RouteVideoConfig")
def route(
    config: Any,
    video: Annotated[str, typer.Argument(help="Anything OpenCV opens: a file or a URL."), READ],
    policy: Annotated[Path | None, typer.Option(help="The policy's ONNX file."), READ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The annotated video (.mp4)."), RESULT_FILE
    ] = None,
    ladder: Ladder = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line per frame, and nothing else.")
    ] = False,
) -> None:
    """Route a video frame by frame, and draw what each chosen detector saw.

    Example: `gearshift route street.mp4 --policy runs/demo/policy.onnx --out routed.mp4 --json`
    """
    import json

    from inference_graph.local_video.route import route_video
    from pipelines.ladder_files import ladder_files

    def print_line(record: Any) -> None:
        print(json.dumps(record, separators=(",", ":")))

    with progress_bar("frames") as progress:
        summary = route_video(
            video, policy, ladder_files(ladder), out, config, progress,
            print_line if as_json else None,
        )  # fmt: skip
    if not as_json:
        show(summary, as_json)
    elif summary.lost:
        notes.print(f"{video}: {summary.lost} frames could not be read", markup=False)


@bench.command("observe")
@configured_by("components.bench.routing:BenchObserveConfig")
def bench_observe(
    config: Any,
    policy: Annotated[
        Path | None, typer.Option(help="Time this policy's decision too."), READ
    ] = None,
    as_json: Json = False,
) -> None:
    """Time observation and decision on one core.

    Example: `gearshift bench observe --policy runs/demo/policy.onnx --json`
    """
    from components.bench.routing import bench_observe as run

    show(run(policy, config), as_json)


@bench.command("env")
@configured_by("components.policy.environment:EnvironmentConfig")
def bench_env(
    config: Any,
    replay: Annotated[Path, typer.Option(help="Folder of the label stage."), READ] = Path(
        "runs/demo/replay"
    ),
    steps: Annotated[int, typer.Option(min=1, help="Steps of all cameras together.")] = 1000,
    as_json: Json = False,
) -> None:
    """Count the steps per second of the replay environment, in one process.

    Example: `gearshift bench env --replay runs/demo/replay --json`
    """
    from components.policy.environment import ReplayEnvironment, steps_per_second
    from components.profiling.replay import load_replay

    environment = ReplayEnvironment(load_replay(replay), config, seed=0)
    speed = steps_per_second(environment, steps, (0, 1, 2))
    show({"cameras": environment.num_envs, "steps_per_second": speed}, as_json)


@bench.command("serving")
@configured_by("components.bench.serving.settings:BenchServingConfig")
def bench_serving(
    config: Any,
    policy: Annotated[Path, typer.Option(help="The policy's ONNX file."), READ] = Path(
        "runs/demo/policy.onnx"
    ),
    ladder: Ladder = "",
    as_json: Json = False,
) -> None:
    """Start the whole platform and measure the stream, the graph, the detectors, and failures.

    With the defaults it takes a quarter of an hour, ten minutes of it for the gateway's memory.

    Example: `gearshift bench serving --soak-seconds 60 --json`
    """
    from components.bench.serving.bench import bench_serving as run
    from pipelines.ladder_files import ladder_files

    show(run(policy, ladder_files(ladder), config, progress_bar), as_json)


@bench.command("drift")
@configured_by("components.bench.drift:BenchDriftConfig")
def bench_drift(
    config: Any,
    policy: Annotated[Path, typer.Option(help="The policy's ONNX file."), READ] = Path(
        "runs/demo/policy.onnx"
    ),
    ladder: Ladder = "",
    out: Workplace = Path("runs/bench-drift"),
    as_json: Json = False,
) -> None:
    """Count false alarms, missed drift and needless retraining on sample scenes.

    Scenes are rendered and detected once and kept in --out; with the defaults the first run takes
    some ten minutes on two cores. Needs the extra `drift`.

    Example: `gearshift bench drift --json`
    """
    from components.bench.drift import bench_drift as run
    from pipelines.ladder_files import ladder_files

    with progress_bar("drift") as progress:
        found = run(policy, ladder_files(ladder), out, config, progress)
    show(found, as_json)


@bench.command("dashboard")
@configured_by("dashboards.bench:BenchDashboardConfig")
def bench_dashboard(config: Any, as_json: Json = False) -> None:
    """Write a large log to a temporary folder, and time how the dashboard opens and filters it.

    Example: `gearshift bench dashboard --rows 10000000 --json`
    """
    from dashboards.config import check_installed

    check_installed()
    from dashboards.bench import bench_dashboard as run

    with progress_bar("hours") as progress:
        found = run(config, progress)
    show(found, as_json)


@bench.command("ledger")
@configured_by("pipelines.experiments.bench:BenchLedgerConfig")
def bench_ledger(config: Any, as_json: Json = False) -> None:
    """Write a large ledger to a temporary folder, and time listing, searching and comparing.

    Example: `gearshift bench ledger --experiments 10000 --json`
    """
    from pipelines.experiments.bench import bench_ledger as run

    with progress_bar("experiments") as progress:
        found = run(config, progress)
    show(found, as_json)


@app.command()
@configured_by("dashboards.config:DashboardConfig")
def dashboard(config: Any) -> None:
    """Show where frames go, what that saves and what accuracy it costs, in a browser.

    It reads the prediction log, the runs and MLflow, and writes nothing, unless `--reviewer NAME`
    says whose decisions on feedback it keeps. The log may be growing, or not be there yet.
    Needs the extra `dashboard`; ends with Ctrl-C.

    Example: `gearshift dashboard --log runs/up/log --runs runs/demo`
    """
    from dashboards.config import check_installed

    check_installed()
    from dashboards.app import serve_dashboard

    serve_dashboard(config, lambda url: notes.print(f"dashboard at {url}"))


@app.command()
@configured_by("pipelines.cli.platform_display:PlatformOptions")
def up(config: Any, as_json: Json = False) -> None:
    """Start every service of the manifests on this machine, the graph and the gateway.

    It shows how each of them is until Ctrl-C, which stops them all. Logs lie in the state folder.
    Each stream session becomes an MLflow run soon after its end; `--experiment ""` records none.
    With `--monitoring` a Prometheus watches all of it, and tells its alerts to the webhooks that
    `gearshift notify test` knows.

    Example: `gearshift up --policy runs/demo/policy.onnx --open-access`
    """
    from pipelines.cli.platform_display import run_platform

    run_platform(config, as_json)


@app.command()
@configured_by("inference_graph.clients.stream:StreamOptions")
def stream(
    config: Any,
    source: Annotated[str, typer.Argument(help="Video file, camera number, or rtsp:// URL."), READ],
    to: Annotated[str, typer.Option(help="URL of the gateway.")] = "http://127.0.0.1:8600",
    access_token: Annotated[
        str, typer.Option("--token", envvar="GEARSHIFT_TOKEN", help="Access token.")
    ] = "",
    answers: Annotated[
        Path | None,
        typer.Option(help="File for the answers, one JSON object per line."),
        RESULT_FILE,
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Kept in the log; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Stream a video, a camera or a network stream to a gateway.

    Example: `gearshift stream street.mp4 --to http://127.0.0.1:8600 --answers answers.jsonl`
    """
    from pipelines.cli.platform_display import stream_to

    summary = stream_to(source, to, access_token or None, config, tag or (), answers)
    show(summary, as_json)


@graph.command("serve")
def graph_serve(
    manifest: Annotated[Path, typer.Argument(help="YAML file with one InferenceGraph."), READ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8601,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    service: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=URL",
            help="Address of an InferenceService that a step names; without a path it gets V1's.",
        ),
    ] = None,
    propagate_header: Annotated[
        list[str] | None,
        typer.Option(metavar="REGEX", help="Headers that the steps get too; repeatable."),
    ] = None,
) -> None:
    """Serve an InferenceGraph with KServe's routing, on this machine, until Ctrl-C.

    Example: `gearshift graph serve graph.yaml --port 8601 --service nano=http://127.0.0.1:8080`
    """
    from inference_graph.graph.__main__ import service_addresses
    from inference_graph.graph.server import serve_graph

    serve_graph(
        manifest, port, host, service_addresses(service or ()), propagate_header or (),
        lambda url: notes.print(f"serving {manifest} at {url}"),
    )  # fmt: skip


@app.command()
@configured_by("inference_graph.control.manifests.parts:ManifestOptions")
def manifests(
    config: Any,
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder of the manifests; other files in it stay."),
        PathRole(
            "workplace",
            sign=("base/kustomization.yaml", "# Written from the ladder by inference_graph"),
        ),
    ],
    as_json: Json = False,
) -> None:
    """Write the Kubernetes manifests: the whole platform for a laptop, GKE, on premises, one node.

    Install one with `kubectl apply -k deploy/overlays/onprem`; docs/install.md says what it needs.

    Example: `gearshift manifests --namespace vision --hostname vision.example --out deploy`
    """
    from inference_graph.control.manifests.writer import write_manifests

    show({"out": out, "files": len(write_manifests(out, config))}, as_json)


@app.command()
@configured_by("inference_graph.control.monitoring.objectives:Objectives")
def rules(
    config: Any,
    out: Annotated[Path, typer.Option(help="The rules file."), RESULT_FILE] = Path("rules.yaml"),
) -> None:
    """Write the recording rules and alerts for Prometheus, with your own objectives.

    `gearshift up --monitoring --rules FILE` and any Prometheus take the file as it is; for the
    Prometheus operator it is the spec of a PrometheusRule.

    Example: `gearshift rules --routing-floor 0 --latency-target 0.999 --out rules.yaml`
    """
    from foundation.storage import atomic_path
    from inference_graph.control.monitoring.rules import rules_text

    with atomic_path(out) as partial:
        partial.write_text(rules_text(config), encoding="utf-8")
    print(out)


@notify.command("test")
def notify_test(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing; show every form of the message.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send a test message to the webhooks that are set, and show exactly what was sent.

    Addresses are secrets, so they come from the environment and are never shown:
    $GEARSHIFT_SLACK_WEBHOOK (Slack, Mattermost, ...) and $GEARSHIFT_WEBHOOK (plain JSON, with
    $GEARSHIFT_WEBHOOK_TOKEN as its bearer token if there is one). Where they are set,
    `gearshift up --monitoring` tells alerts, `gearshift pipeline run` and `gearshift demo` results.

    Example: `gearshift notify test --dry-run`
    """
    from inference_graph.control.notifications.trial import send_trial, trial_text

    trials = send_trial(dry_run)
    if as_json:
        show({one.webhook: one for one in trials}, as_json)
    else:
        print(trial_text(trials))


@app.command()
def sessions(
    log: Annotated[str, typer.Option(help="Prediction log: a folder, s3:// or gs://."), READ],
    tracking_uri: Annotated[
        str, typer.Option(help="MLflow's tracking URI.")
    ] = "sqlite:///mlflow.db",
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "gearshift-sessions",
    as_json: Json = False,
) -> None:
    """Make an MLflow run of every stream session in a log that has none yet.

    Example: `gearshift sessions --log runs/up/log --tracking-uri sqlite:///mlflow.db`
    """
    from components.evaluation.stream_sessions import record_sessions

    show({"recorded": record_sessions(log, tracking_uri, experiment)}, as_json)


@token.command("add")
def token_add(
    name: Annotated[str, typer.Argument(help="Whose token it is; stands in the log.")],
    role: Annotated[
        list[str],
        typer.Option(
            help="stream, feedback, operate, watch, events, sync or experiment; repeatable."
        ),
    ],
    tokens: Annotated[Path, typer.Option(help="File of the tokens."), KEPT_FILE] = Path(
        "tokens.jsonl"
    ),
) -> None:
    """Make an access token; its digest is kept in the file, the token is shown this once.

    Example: `gearshift token add robot-7 --role stream --role feedback`
    """
    from foundation.audit_log import audit_of_environment
    from inference_graph.gateway.access import add_token

    print(add_token(tokens, name, role, audit_of_environment()))


@token.command("remove")
def token_remove(
    name: Annotated[str, typer.Argument(help="Whose tokens are taken away.")],
    tokens: Annotated[Path, typer.Option(help="File of the tokens."), KEPT_FILE] = Path(
        "tokens.jsonl"
    ),
) -> None:
    """Take all tokens of a name out of the file; a running gateway follows within a second.

    Example: `gearshift token remove robot-7`
    """
    from foundation.audit_log import audit_of_environment
    from inference_graph.gateway.access import remove_tokens

    removed = remove_tokens(tokens, name, audit_of_environment())
    notes.print(f"{removed} removed", markup=False)


@app.command()
@configured_by("pipelines.training.demo:DemoConfig")
def demo(
    config: Any,
    out: RunFolder = Path("runs/demo"),
    ladder: Ladder = "",
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Run everything on the sample: scenes, pipeline, gate, and a routed video.

    Example: `gearshift demo --out runs/demo`
    """
    from pipelines.cli.step_display import show_demo, step_display
    from pipelines.notices import told_at_the_end
    from pipelines.options import parse_settings
    from pipelines.training.demo import run_demo
    from pipelines.training.pipeline import STAGES

    chosen = parse_settings(settings or (), STAGES)
    with told_at_the_end("gearshift demo", out) as tell:
        result = run_demo(config, out, ladder, chosen, progress_bar, step_display)
        tell(result.run)
    if as_json:
        show(result, as_json)
    else:
        show_demo(result)


if __name__ == "__main__":
    main()
