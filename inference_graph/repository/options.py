"""Options of a server that loads models by request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inference_graph.detector.providers import Provider


@dataclass(frozen=True)
class RepositoryOptions:
    """Where models are loaded from and how rungs are run.

    Attributes:
        models_dir: folder of the models, each in a folder of its name.
        trust: trust file; a model that none of its keys signed is refused. $GEARSHIFT_TRUST
            without it, and not checked where that is not set.
        provider: what computes; all but cpu are compared with fp32 on the CPU before they serve.
        threads: CPU threads of one inference.
        threads_beside: CPU threads of an inference that begins while another runs, or while most
            requests overlap.
    """

    models_dir: Path = Path("/mnt/agent/models")
    trust: Path | None = None
    provider: Provider = "cpu"
    threads: int = 2
    threads_beside: int = 1
