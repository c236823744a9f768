"""Each step as a component of its own: its YAML, a README and metadata beside it.

The layout and the keys of the metadata are those of the kubeflow/pipelines-components repository,
so that a catalogue can take the folders as they are.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from kfp import compiler
from kfp.dsl.base_component import BaseComponent

from foundation.storage import atomic_path

FOLDER = "components"
_STABILITY = "beta"


def components_of(modules: Sequence[ModuleType]) -> Iterator[BaseComponent]:
    """The components that modules define, each once, in the order of their names."""
    found = {
        one.name: one
        for module in modules
        for one in vars(module).values()
        if isinstance(one, BaseComponent)
    }
    yield from (found[name] for name in sorted(found))


def write_components(modules: Sequence[ModuleType], tag: str, out: Path) -> list[Path]:
    """Write ``components/TAG/NAME/`` for every component.

    Args:
        modules: where they are defined.
        tag: what they are for: training, drift, data.
        out: folder of the compiled pipelines.

    Returns:
        The folders.

    Raises:
        StorageError: they cannot be written.
    """
    folders = []
    for component in components_of(modules):
        folder = out / FOLDER / tag / component.name.replace("-", "_")
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "component.yaml") as partial:
            compiler.Compiler().compile(component, str(partial))
        metadata = _metadata(component, tag)
        for name, text in {
            "README.md": _readme(component, metadata),
            "metadata.yaml": "---\n" + yaml.safe_dump(metadata, sort_keys=False),
        }.items():
            with atomic_path(folder / name) as partial:
                partial.write_text(text, encoding="utf-8")
        folders.append(folder)
    return folders


def _metadata(component: BaseComponent, tag: str) -> dict[str, Any]:
    return {
        "name": component.name.replace("-", "_"),
        "stability": _STABILITY,
        "dependencies": {
            "kubeflow": [{"name": "Pipelines", "version": f">={version('kfp')}"}],
            "external_services": [],
        },
        "tags": [tag],
        "lastVerified": datetime.now(UTC).strftime("%Y-%m-%dT00:00:00Z"),
    }


def _readme(component: BaseComponent, metadata: dict[str, Any]) -> str:
    spec = component.component_spec
    texts = _output_texts(component)
    inputs = [
        (name, _type(one.type), _default(one), one.description or "")
        for name, one in (spec.inputs or {}).items()
    ]
    outputs = [
        (name, _type(one.type), one.description or texts.get(name, f"options of {name}."))
        for name, one in (spec.outputs or {}).items()
    ]
    (needs,) = metadata["dependencies"]["kubeflow"]
    return "\n".join(
        [
            f"# {component.name.replace('-', ' ').capitalize()}",
            "",
            "## Overview",
            "",
            (spec.description or "").strip(),
            "",
            "## Inputs",
            "",
            *_table(("Parameter", "Type", "Default", "Description"), inputs),
            "",
            "## Outputs",
            "",
            *_table(("Name", "Type", "Description"), outputs),
            "",
            "## Metadata",
            "",
            f"- **Name**: {metadata['name']}",
            f"- **Stability**: {metadata['stability']}",
            f"- **Dependencies**: Kubeflow {needs['name']} {needs['version']}",
            f"- **Tags**: {', '.join(metadata['tags'])}",
            f"- **Last verified**: {metadata['lastVerified']}",
            "",
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return [line(head), line(["---"] * len(head)), *(line(row) for row in rows)]


def _type(name: str) -> str:
    return f"`{name.removeprefix('system.').partition('@')[0]}`"


def _default(one: Any) -> str:
    return f"`{one.default}`" if one.optional else "required"


def _output_texts(component: BaseComponent) -> dict[str, str]:
    """Texts of the outputs, which stand in the docstring's "Args" and which KFP leaves out."""
    document = inspect.getdoc(getattr(component, "python_func", None)) or ""
    return dict(re.findall(r"^    (\w+): (.+)$", document, re.MULTILINE)) | {
        "Output": "what the step says it came to."
    }
