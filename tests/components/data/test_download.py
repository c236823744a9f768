from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from coco_samples import sample_payload, write_folder
from file_server import FileServer, serving

from components.data.download import DownloadConfig, download, forget
from components.data.ingest import IngestConfig, ingest
from foundation.errors import InvalidInput

QUICK = DownloadConfig(attempts=3, timeout_s=5, pause_s=0.01)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


def test_a_broken_download_goes_on(server: FileServer, tmp_path: Path) -> None:
    server.breaks = [120_000]
    seen: list[tuple[int, int]] = []
    file = download(server.url, tmp_path, QUICK, lambda done, total: seen.append((done, total)))
    assert file.read_bytes() == server.content
    assert server.asked == [None, "bytes=120000-"]
    assert server.answered == [200, 206]
    assert seen[-1] == (300_000, 300_000)
    assert (120_000, 300_000) in seen


def test_a_second_call_asks_whether_it_changed(server: FileServer, tmp_path: Path) -> None:
    first = download(server.url, tmp_path, QUICK)
    assert download(server.url, tmp_path, QUICK) == first
    assert server.answered == [200, 304]
    server.content = b"other" * 1000
    assert download(server.url, tmp_path, QUICK).read_bytes() == server.content
    assert server.answered == [200, 304, 200]


def test_a_copy_serves_when_no_server_answers(server: FileServer, tmp_path: Path) -> None:
    first = download(server.url, tmp_path, QUICK)
    server.failures = [503]
    assert download(server.url, tmp_path, QUICK) == first


def test_the_next_call_goes_on_after_giving_up(server: FileServer, tmp_path: Path) -> None:
    server.breaks = [50_000, 0, 0, 0]
    with pytest.raises(InvalidInput, match="broke off at 50000 bytes .* run it again"):
        download(server.url, tmp_path, QUICK)
    server.breaks = []
    assert download(server.url, tmp_path, QUICK).read_bytes() == server.content
    assert server.asked[-1] == "bytes=50000-"


def test_a_changed_file_starts_over(server: FileServer, tmp_path: Path) -> None:
    server.breaks = [50_000, 0, 0, 0]
    with pytest.raises(InvalidInput):
        download(server.url, tmp_path, QUICK)
    server.content, server.breaks = server.content[::-1], []
    assert download(server.url, tmp_path, QUICK).read_bytes() == server.content
    assert server.answered[-1] == 200


def test_without_validators_nothing_is_pieced_together(server: FileServer, tmp_path: Path) -> None:
    server.validators = False
    server.breaks = [50_000]
    assert download(server.url, tmp_path, QUICK).read_bytes() == server.content
    assert server.asked == [None, None]


def test_refusals(server: FileServer, tmp_path: Path) -> None:
    server.failures = [404]
    with pytest.raises(InvalidInput, match="answers 404 .* check the address"):
        download(server.url, tmp_path, QUICK)
    server.failures = [500, 503, 500]
    with pytest.raises(InvalidInput, match="HTTP 500.* after 3 tries"):
        download(server.url, tmp_path, QUICK)
    server.failures = [503, 503, 503]
    with pytest.raises(InvalidInput, match="nothing came .HTTP 503. .* check the network"):
        download(server.url, tmp_path, QUICK)
    with pytest.raises(InvalidInput, match="more than the 1000 bytes allowed"):
        download(server.url, tmp_path, DownloadConfig(max_bytes=1000))
    for url in ("file:///etc/passwd", "ftp://somewhere/data.zip", "http://"):
        with pytest.raises(InvalidInput, match="not an http"):
            download(url, tmp_path, QUICK)
    with pytest.raises(InvalidInput, match="no usable address"):
        download("http://[::1/data.zip", tmp_path, QUICK)


def test_a_data_set_from_the_web(server: FileServer, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", sample_payload(3))
    packed = shutil.make_archive(str(tmp_path / "data"), "zip", source)
    server.content = Path(packed).read_bytes()
    server.breaks = [len(server.content) // 2]
    config = IngestConfig(cache=str(tmp_path / "cache"), workers=1)
    summary = ingest(server.url, tmp_path / "out", config)
    assert (summary.images, summary.annotations) == (3, 6)
    assert server.answered == [200, 206]
    local = ingest(str(source), tmp_path / "local", config)
    assert (local.source_sha256, local.decoded) == (summary.source_sha256, 0)


def test_what_was_forgotten_is_fetched_anew(server: FileServer, tmp_path: Path) -> None:
    forget(download(server.url, tmp_path, QUICK))
    assert download(server.url, tmp_path, QUICK).read_bytes() == server.content
    assert server.answered == [200, 200]


def test_only_https_will_do_where_security_matters(server: FileServer, tmp_path: Path) -> None:
    secure = DownloadConfig(attempts=1, secure=True)
    # This very machine may use http, also when it sends on to itself.
    server.sends_on["/other"] = server.url
    assert download(f"{server.address}/other", tmp_path, secure).read_bytes() == server.content
    server.sends_on["/away"] = "http://mirror.example.test/weights.pt"
    with pytest.raises(InvalidInput, match="away: sends on to http://mirror.* only https"):
        download(f"{server.address}/away", tmp_path, secure)
    with pytest.raises(InvalidInput, match="only https will do"):
        download("http://mirror.example.test/weights.pt", tmp_path, secure)


def test_a_page_instead_of_a_zip_does_not_stay(server: FileServer, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", sample_payload(3))
    packed = Path(shutil.make_archive(str(tmp_path / "data"), "zip", source)).read_bytes()
    server.content = b"<html>please log in</html>"
    config = IngestConfig(cache=str(tmp_path / "cache"), workers=1)
    with pytest.raises(InvalidInput, match=r"what came from http.*data\.zip cannot be used"):
        ingest(server.url, tmp_path / "out", config)
    assert not list((tmp_path / "cache").rglob("data"))
    server.content = packed
    assert ingest(server.url, tmp_path / "out", config).images == 3
