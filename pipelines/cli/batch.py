"""``gearshift batch``: images and videos that lie somewhere, answered as fast as detectors are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from foundation.path_roles import READ, PathRole
from pipelines.cli.console import Json, Ladder, argument, configured_by, option, progress_bar, show

_RESULTS = PathRole("workplace", sign=("plan.json", '{\n "source_sha256": '))


@configured_by("components.batch.run:BatchConfig")
def batch(
    config: Any,
    source: Annotated[
        str, argument(help="Folder, zip, video, image, or s3:// or gs:// prefix."), READ
    ],
    out: Annotated[
        Path,
        option(help="Folder of the results; a run that was interrupted goes on in it."),
        _RESULTS,
    ],
    policy: Annotated[Path | None, option(help="The policy's ONNX file."), READ] = None,
    ladder: Ladder = "",
    as_json: Json = False,
) -> None:
    """Route and detect every image and every frame of every video, in whole batches.

    Results are JSON lines in `OUT/detections`, whose schema is docs/batch.schema.json. The same
    command goes on where a run ended. Images that cannot be decoded get a line with the reason.

    Example: `gearshift batch photos/ --out runs/photos --policy runs/demo/policy.onnx`
    """
    from components.batch.run import run_batch
    from pipelines.ladder_files import ladder_files

    with progress_bar("files") as progress:
        summary = run_batch(source, policy, ladder_files(ladder), out, config, progress)
    show(summary, as_json)
