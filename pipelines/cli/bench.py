"""``gearshift bench``: what has to be fast, or right, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from foundation.path_roles import READ
from pipelines.cli.console import (
    Json,
    Ladder,
    Workplace,
    configured_by,
    group,
    option,
    progress_bar,
    show,
)

bench = group("Measure what has to be fast.")


@bench.command("observe")
@configured_by("components.bench.routing:BenchObserveConfig")
def bench_observe(
    config: Any,
    policy: Annotated[Path | None, option(help="Time this policy's decision too."), READ] = None,
    as_json: Json = False,
) -> None:
    """Time observation, decision and tracker on one core.

    Example: `gearshift bench observe --policy runs/demo/policy.onnx --json`
    """
    from components.bench.routing import bench_observe as run

    show(run(policy, config), as_json)


@bench.command("faults")
@configured_by("components.bench.data_faults:BenchFaultsConfig")
def bench_faults(
    config: Any,
    ladder: Ladder = "",
    rung: Annotated[
        Literal["nano", "small", "large"], option(help="Rung that labels are compared with.")
    ] = "small",
    as_json: Json = False,
) -> None:
    """Plant faults of every kind in sample scenes, and count how many the data stages find.

    Example: `gearshift bench faults --seed 7 --json`
    """
    from components.bench.data_faults import bench_faults as run
    from components.profiling.rungs import InferenceConfig, open_rung
    from pipelines.ladder_files import ladder_files

    detector = open_rung(rung, ladder_files(ladder)[rung], InferenceConfig())
    with progress_bar("kinds") as progress:
        rows = run(detector, config, progress)
    show({row.kind: row for row in rows}, as_json)


@bench.command("collapse")
@configured_by("components.bench.value_collapse:BenchCollapseConfig")
def bench_collapse(
    config: Any,
    replay: Annotated[Path, option(help="Folder of the label stage."), READ] = Path(
        "runs/demo/replay"
    ),
    as_json: Json = False,
) -> None:
    """Run PPO from a clone with a fitted and with an untrained critic: rewards at each update.

    Example: `gearshift bench collapse --replay runs/demo/replay --json`
    """
    from components.bench.value_collapse import bench_collapse as run
    from components.profiling.replay import load_replay

    with progress_bar("collapse") as progress:
        found = run(load_replay(replay), config, progress)
    show(found, as_json)


@bench.command("env")
@configured_by("components.policy.environment:EnvironmentConfig")
def bench_env(
    config: Any,
    replay: Annotated[Path, option(help="Folder of the label stage."), READ] = Path(
        "runs/demo/replay"
    ),
    steps: Annotated[int, option(min=1, help="Steps of all cameras together.")] = 1000,
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
    policy: Annotated[Path, option(help="The policy's ONNX file."), READ] = Path(
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


@bench.command("floods")
@configured_by("components.bench.floods.bench:BenchFloodsConfig")
def bench_floods(config: Any, ladder: Ladder = "", as_json: Json = False) -> None:
    """Measure a good stream beside hostile clients: pings, fragments, headers, slow uploads, ...

    Each flood's p99 is compared with that of the same stream alone before and behind it, for the
    hostile clients' own token and for another one. With the defaults it takes six minutes.

    Example: `gearshift bench floods --json`
    """
    from components.bench.floods.bench import bench_floods as run
    from pipelines.ladder_files import ladder_files

    with progress_bar("floods") as progress:
        found = run(ladder_files(ladder), config, progress)
    show(found, as_json)


@bench.command("streams")
@configured_by("pipelines.streams.bench:BenchStreamsConfig")
def bench_streams(
    config: Any,
    policy: Annotated[
        Path | None, option(help="The policy's ONNX file; all frames go to nano without it."), READ
    ] = None,
    ladder: Ladder = "",
    quick: Annotated[bool, option("--quick", help="A little of everything, in a minute.")] = False,
    as_json: Json = False,
) -> None:
    """Start a Kafka broker and workers, kill them again and again, and count what became of frames.

    It measures throughput against the gateway's, the added milliseconds and the worker's memory as
    well. With the defaults it takes half an hour. Needs the extra `streams`, Java and Maven.

    Example: `gearshift bench streams --quick --json`
    """
    from dataclasses import replace

    from pipelines.ladder_files import ladder_files
    from pipelines.streams.bench import QUICK
    from pipelines.streams.bench import bench_streams as run

    wanted = replace(config, **QUICK) if quick else config
    show(run(policy, ladder_files(ladder), wanted, progress_bar), as_json)


@bench.command("data")
@configured_by("components.bench.data_speed:BenchDataConfig")
def bench_data(
    config: Any, out: Workplace = Path("runs/bench-data"), as_json: Json = False
) -> None:
    """Time the data stages, kill them, and compare a small set with a large one.

    `--large 123000 --kills 40` measures at COCO's size; `--images 400 --small 100 --large 400
    --kills 1` is a trial of a minute. A run that was ended goes on with the next measurement.

    Example: `gearshift bench data --json`
    """
    from components.bench.data_speed import bench_data as run
    from pipelines.versions import code_version

    with progress_bar("measurements") as progress:
        found = run(config, out, progress, code_version())
    show(found, as_json)


@bench.command("drift")
@configured_by("components.bench.drift:BenchDriftConfig")
def bench_drift(
    config: Any,
    policy: Annotated[Path, option(help="The policy's ONNX file."), READ] = Path(
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
