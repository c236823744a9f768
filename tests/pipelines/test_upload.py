"""Uploading compiled pipelines, against a server that keeps what Kubeflow's would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from json_server import JsonHandler, json_server
from processes import closed_port

from foundation.errors import InvalidInput, Unavailable
from pipelines.upload import Uploaded, upload_pipelines


@contextmanager
def kubeflow() -> Iterator[tuple[str, dict[str, list[str]], list[str]]]:
    """A server that knows pipelines and their versions by name; and the tokens it was shown."""
    versions: dict[str, list[str]] = {}
    tokens: list[str] = []

    class Handler(JsonHandler):
        def do_GET(self) -> None:  # noqa: N802 # http.server's own name
            found = [{"pipeline_id": f"id-{name}", "display_name": name} for name in versions]
            wanted = parse_qs(urlsplit(self.path).query).get("filter", [""])[0]
            shown = [one for one in found if f'"{one["display_name"]}"' in wanted]
            self.answer({"pipelines": shown, "total_size": len(shown)})

        def do_POST(self) -> None:  # noqa: N802 # likewise
            self.rfile.read(int(self.headers["content-length"]))
            tokens.append(self.headers.get("authorization", ""))
            place = urlsplit(self.path)
            given = {key: values[0] for key, values in parse_qs(place.query).items()}
            if place.path.endswith("upload_version"):
                name, version = given["pipelineid"].removeprefix("id-"), given["name"]
                if version in versions[name]:
                    self.answer({"error": "already exists"}, 409)
                    return
                versions[name].append(version)
                self.answer({"pipeline_version_id": version})
            else:
                versions[given["name"]] = []
                self.answer({"pipeline_id": f"id-{given['name']}", "display_name": given["name"]})

    with json_server(Handler) as url:
        yield url, versions, tokens


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    for name in ("training", "monitoring"):
        (tmp_path / f"{name}.yaml").write_text("pipelineInfo: {}\n")
    return tmp_path


def test_each_file_becomes_a_version(compiled: Path) -> None:
    with kubeflow() as (url, versions, tokens):
        first = upload_pipelines(compiled, url, "1a2b", "secret")
        second = upload_pipelines(compiled, url, "3c4d")
        assert first == (Uploaded("monitoring", "1a2b", True), Uploaded("training", "1a2b", True))
        assert [one.created for one in second] == [False, False]
        assert versions == {"monitoring": ["1a2b", "3c4d"], "training": ["1a2b", "3c4d"]}
        assert "Bearer secret" in tokens
        with pytest.raises(InvalidInput, match="no version 1a2b is there yet"):
            upload_pipelines(compiled, url, "1a2b")


def test_what_cannot_be_uploaded(compiled: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="run gearshift pipeline compile first"):
        upload_pipelines(tmp_path / "empty", "http://127.0.0.1:1", "1")
    with pytest.raises(Unavailable, match="check the URL"):
        upload_pipelines(compiled, f"http://127.0.0.1:{closed_port()}", "1")
