"""``gearshift feedback``: users' feedback on answers, reviewed before it trains anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from foundation.path_roles import READ, RESULT_FILE
from pipelines.cli.console import (
    Json,
    Ladder,
    OutFolder,
    argument,
    configured_by,
    group,
    option,
    progress_bar,
    show,
)

if TYPE_CHECKING:
    from components.feedback.store import FeedbackConfig, FeedbackStore

feedback = group("Feedback on answers: review it, exchange it with annotation tools, merge it.")

_CONFIG = "components.feedback.store:FeedbackConfig"

Items = Annotated[
    list[str] | None, argument(help="Ids of items, or their first digits.", show_default=False)
]
State = Annotated[str, option(help="quarantined, approved or rejected; all without it.")]
User = Annotated[str, option(help="Only this user's.")]
Suspicious = Annotated[
    bool, option("--suspicious", help="Only what shows a sign that something is wrong.")
]
Reviewer = Annotated[
    str, option(envvar="GEARSHIFT_REVIEWER", help="Who decides; not the item's own user.")
]
Reason = Annotated[str, option(help="Why; needed to reject and to overrule.")]


@feedback.command("list")
@configured_by(_CONFIG)
def list_(
    config: Any,
    state: State = "",
    user: User = "",
    suspicious: Suspicious = False,
    ladder: Ladder = "",
    as_json: Json = False,
) -> None:
    """List feedback: where it stands, whose it is, and what speaks against it.

    Example: `gearshift feedback list --state quarantined --suspicious`
    """
    from components.feedback.listing import feedback_table

    store = _opened(config, ladder)
    described = [store.describe(item) for item in store.select(state, user, suspicious)]
    if as_json:
        show({"items": described}, as_json)
    else:
        print(feedback_table(described))


@feedback.command("show")
@configured_by(_CONFIG)
def show_(
    config: Any,
    item: Annotated[str, argument(help="Id of an item, or its first digits.")],
    picture: Annotated[
        Path | None,
        option(help="Draw the boxes on the frame and write it here (.jpg, .png)."),
        RESULT_FILE,
    ] = None,
    ladder: Ladder = "",
    as_json: Json = False,
) -> None:
    """Show all there is to know of one item, and its frame with the boxes drawn on it.

    On the left the user's boxes, on the right what the reference saw.

    Example: `gearshift feedback show 3f9a --picture look.jpg`
    """
    from components.feedback.picture import write_picture

    store = _opened(config, ladder)
    (found,) = store.find([item])
    if picture is not None:
        write_picture(store, found, picture)
    show(store.describe(found), as_json)


@feedback.command()
@configured_by(_CONFIG)
def review(
    config: Any,
    items: Items = None,
    approve: Annotated[bool, option("--approve", help="Let it into the training data.")] = False,
    reject: Annotated[bool, option("--reject", help="Keep it out for good.")] = False,
    everything: Annotated[
        bool, option("--all", help="Every quarantined item that shows no sign.")
    ] = False,
    user: User = "",
    reviewer: Reviewer = "",
    reason: Reason = "",
    ladder: Ladder = "",
    as_json: Json = False,
) -> None:
    """Approve or reject feedback; every decision is kept with who, when and why.

    Deciding the same twice changes nothing; another verdict overrules the one before. Nobody
    reviews their own feedback. `--all` takes only items without a sign (see `feedback list`).

    Example: `gearshift feedback review 3f9a 77c1 --approve --reviewer anna`
    """
    from components.feedback.decisions import decide
    from foundation.audit_log import audit_of_environment
    from foundation.errors import ConfigurationError

    if approve == reject:
        raise ConfigurationError("the verdict is not clear; give either --approve or --reject")
    if bool(items) == everything:
        raise ConfigurationError("nothing is chosen; give ids of items, or --all")
    store = _opened(config, ladder)
    if everything:
        chosen = [
            item for item in store.select("quarantined", user) if not store.signs[item.item_id]
        ]
    else:
        chosen = store.find(items or ())
    verdict = "approved" if approve else "rejected"
    audit = audit_of_environment()
    new = decide(config.store, chosen, verdict, reviewer, reason, audit=audit)  # type: ignore[arg-type]  # one of the two verdicts
    show({verdict: [one.item for one in new], "already": len(chosen) - len(new)}, as_json)


@feedback.command()
@configured_by(_CONFIG)
def check(config: Any, ladder: Ladder = "", as_json: Json = False) -> None:
    """Have the reference detector look at quarantined frames that it has not seen.

    What it finds is kept, and shows the reviewer which feedback is far from it.

    Example: `gearshift feedback check`
    """
    from components.feedback.reference import look
    from components.profiling.rungs import InferenceConfig, open_rung
    from inference_graph.contract import REFERENCE
    from pipelines.ladder_files import ladder_files

    store = _opened(config, ladder)
    waiting = [item for item in store.select("quarantined") if item.reference is None]
    looked = 0
    if waiting:
        detector = open_rung(REFERENCE, ladder_files(ladder)[REFERENCE], InferenceConfig())
        with progress_bar("frames") as progress:
            looked = look(config.store, waiting, store.pictures(waiting), detector, progress)
        store = _opened(config, ladder)
    far = [item.item_id for item in store.select("quarantined", suspicious=True)]
    show(
        {"looked_at": looked, "without_picture": len(waiting) - looked, "suspicious": far}, as_json
    )


@feedback.command("import")
@configured_by(_CONFIG)
def import_(
    config: Any,
    source: Annotated[
        Path,
        argument(help="COCO JSON of an annotation tool; or a COCO-format folder or zip."),
        READ,
    ],
    user: Annotated[str, option(help="Whose annotations they are.")],
    images: Annotated[
        Path | None, option(help="Folder of the pictures, where the source is a JSON file."), READ
    ] = None,
    rename: Annotated[
        list[str] | None,
        option(metavar="NAME=CLASS", help="What a category of the file is called; repeatable."),
    ] = None,
    drop_invalid: Annotated[
        bool, option("--drop-invalid", help="Leave broken records out instead of refusing all.")
    ] = False,
    ladder: Ladder = "",
    as_json: Json = False,
) -> None:
    """Take annotations from CVAT, Label Studio or another tool into quarantine.

    The file is in COCO format; its pictures and boxes pass the checks of `gearshift data ingest`.
    Categories are matched by name. The same import again adds nothing.

    Example: `gearshift feedback import annotations.json --images frames --user anna`
    """
    from components.data.ingest import IngestConfig
    from components.feedback.imports import import_annotations
    from foundation.command_line import read_pairs

    renamed = read_pairs(rename or (), "rename", "CLASS")
    reading = IngestConfig(on_invalid="drop" if drop_invalid else "error")
    with progress_bar("images") as progress:
        summary = import_annotations(
            config.store,
            source,
            images,
            user,
            _opened(config, ladder).classes,
            renamed,
            config.per_day,
            reading,
            progress,
        )
    show(summary, as_json)


@feedback.command()
@configured_by(_CONFIG)
def export(
    config: Any,
    out: OutFolder,
    items: Items = None,
    state: State = "",
    user: User = "",
    suspicious: Suspicious = False,
    ladder: Ladder = "",
    as_json: Json = False,
) -> None:
    """Write feedback with its frames as a COCO-format folder, for an annotation tool.

    What is corrected there comes back by `gearshift feedback import`.

    Example: `gearshift feedback export --state quarantined --suspicious --out to-annotate`
    """
    from components.feedback.export import export_feedback

    store = _opened(config, ladder)
    chosen = store.find(items) if items else store.select(state, user, suspicious)
    show(export_feedback(store, chosen, out), as_json)


@feedback.command()
@configured_by(_CONFIG)
def stats(config: Any, ladder: Ladder = "", as_json: Json = False) -> None:
    """Count feedback by state, user and sign.

    Example: `gearshift feedback stats --json`
    """
    show(_opened(config, ladder).statistics(), as_json)


@feedback.command()
@configured_by("components.feedback.merge:MergeOptions")
def merge(
    config: Any,
    dataset: Annotated[Path, argument(help="Folder that ingest or scenes made."), READ],
    out: OutFolder,
    ladder: Ladder = "",
    as_json: Json = False,
) -> None:
    """Write a data set with the approved feedback in it; the next retraining does the same.

    Example: `gearshift feedback merge runs/demo/data --out runs/with-feedback`
    """
    from components.feedback.merge import merge_feedback

    show(merge_feedback(_opened(config, ladder), dataset, out, config), as_json)


def _opened(config: FeedbackConfig, ladder: str) -> FeedbackStore:
    from components.feedback.store import open_store
    from inference_graph.contract import LADDER
    from pipelines.ladder_files import ladder_files

    return open_store(config, ladder_files(ladder)[LADDER[0]])
