"""``gearshift ladder resize``: a rung at another input size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from foundation.path_roles import READ
from pipelines.cli.console import Json, OutFile, argument, option, show


def resize(
    weights: Annotated[Path, argument(help="ONNX file of `gearshift ladder export`."), READ],
    out: OutFile,
    height: Annotated[int, option(help="Rows that the network looks at, a multiple of 32.")],
    width: Annotated[int, option(help="Columns, likewise.")],
    rung: Annotated[
        Literal["nano", "small", "large"], option(help="Its place in the ladder.")
    ] = "nano",
    as_json: Json = False,
) -> None:
    """Write the same weights at another input size, without their checkpoint.

    A larger input sees smaller objects and takes longer, in proportion to its pixels. Measure the
    ladder again afterwards (`gearshift ladder check`, `gearshift ladder card`), and profile anew.

    Example: `gearshift ladder resize ladder/nano.onnx --height 320 --width 320 --out my/nano.onnx`
    """
    from components.ladder.resize import resize_rung

    show(resize_rung(weights, out, rung, height, width), as_json)
