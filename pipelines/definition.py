"""What ends every pipeline's definition: descriptions for the Kubeflow UI, and the YAML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

from foundation.storage import atomic_path


def described(
    function: Callable[..., Any], name: str, description: str, parameters: Mapping[str, str]
) -> Any:
    """A function as KFP's pipeline of that name, with the docstring that KFP reads.

    Args:
        function: makes the tasks.
        name: of the pipeline.
        description: what it does.
        parameters: what each parameter of the function means.
    """
    lines = "\n".join(f"    {parameter}: {text}" for parameter, text in parameters.items())
    function.__doc__ = f"{description}\n\nArgs:\n{lines}\n"
    return dsl.pipeline(name=name, description=description)(function)


def write_pipeline(pipeline: Any, folder: Path) -> Path:
    """Write a pipeline into a folder as YAML for the Kubeflow UI; returns the file.

    Raises:
        StorageError: the folder cannot be written.
    """
    file = folder / f"{pipeline.name}.yaml"
    with atomic_path(file) as partial:
        compiler.Compiler().compile(pipeline, str(partial))
    return file
