"""Each shard of a bucket's prefix fetches the pictures of its own blocks and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from buckets import make_bucket, s3_server
from coco_samples import box_record, coco, image_record, write_folder

from components.data.shards.acquire import AcquireConfig, acquire


def test_a_shard_fetches_its_own_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [image_record(n) for n in range(1, 7)]
    boxes = [box_record(n, n, [1, 1, 8, 8]) for n in range(1, 7)]
    folder = write_folder(tmp_path / "coco", coco(images, boxes))
    pictures = {file.name: file.read_bytes() for file in folder.rglob("*.png")}
    with s3_server(monkeypatch) as (host, port):
        make_bucket(f"{host}:{port}", "photos", folder, "sets")
        source = f"s3://photos/sets?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        found = []
        for shard in (0, 1):
            config = AcquireConfig(block=2, cache=str(tmp_path / f"cache-{shard}"))
            out = tmp_path / f"shard-{shard}"
            taken = acquire(source, out, config, shard, 2)
            assert taken.made == len(taken.names)
            own = {file.name: file.read_bytes() for file in out.rglob("*.png")}
            assert own == {name: pictures[name] for name in own}
            there = (tmp_path / f"cache-{shard}" / "buckets").rglob("*.png")
            assert {one.name for one in there if one.stat().st_mtime} == own.keys()
            found.append(set(own))
            # Nothing has changed, so nothing is fetched or made again.
            assert acquire(source, out, config, shard, 2).made == 0
        assert sorted(map(len, found)) == [2, 4] and found[0] | found[1] == set(pictures)
        # Another shard on the same machine completes what the first one has listed.
        rest = acquire(source, tmp_path / "rest", config, 0, 1)
        assert len(rest.names) == rest.made == 3
        own = {file.name: file.read_bytes() for file in (tmp_path / "rest").rglob("*.png")}
        assert own == pictures
