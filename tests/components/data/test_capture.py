"""Time of day and place: EXIF blocks as Pillow writes them, metadata, and neither."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from coco_samples import box_record, coco, image_record, write_folder
from PIL import Image

from components.data.capture import UNKNOWN, Capture, described_capture, place_of, read_capture
from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig, ingest


def picture(
    kind: str = "JPEG", taken: str = "", degrees: tuple[float, float] | None = None
) -> bytes:
    """A picture of noise; EXIF is written only where something is given."""
    image = Image.effect_noise((64, 48), 80).convert("RGB")
    exif = Image.Exif()
    exif[0x0110] = "camera"  # Pillow takes a block without for an empty one
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    if degrees:
        latitude, longitude = degrees
        gps = exif.get_ifd(0x8825)
        gps[1], gps[2] = "S" if latitude < 0 else "N", (abs(latitude), 0.0, 0.0)
        # Minutes and seconds, as phones write them.
        whole = abs(longitude)
        gps[3] = "W" if longitude < 0 else "E"
        gps[4] = (int(whole), int(whole % 1 * 60), whole * 3600 % 60)
    file = BytesIO()
    image.save(file, kind, **({"exif": exif} if taken or degrees else {}))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("taken", "degrees", "expected"),
    [
        ("2026:11:21 23:05:00", (52.52, 13.405), Capture("night", "52.5, 13.4")),
        ("2026:06:01 05:00:00", (-33.86, 151.21), Capture("morning", "-33.9, 151.2")),
        ("2026:06:01 11:00:00", (40.7, -74.0), Capture("midday", "40.7, -74.0")),
        ("2026:06:01 20:59:59", None, Capture("evening", UNKNOWN)),
        ("0000:00:00 00:00:00", (0.04, -0.04), Capture(UNKNOWN, "0.0, 0.0")),
        ("soon", None, Capture()),
        ("", None, Capture()),
    ],
)
def test_exif_states_when_and_where(
    kind: str, taken: str, degrees: tuple[float, float] | None, expected: Capture
) -> None:
    assert read_capture(picture(kind, taken, degrees)) == expected


def test_a_damaged_block_is_ignored() -> None:
    whole = picture(taken="2026:11:21 23:05:00", degrees=(52.52, 13.405))
    start = whole.index(b"Exif")
    for at in range(start, start + 300):
        assert read_capture(whole[:at] + b"\xff" * 8 + whole[at + 8 :])
        assert read_capture(whole[:at])
    assert read_capture(b"Exif\0\0II*\0" + b"\xff" * 40) == Capture()


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"attributes": {"timeofday": "dawn/dusk", "scene": "highway"}}, Capture("dawn/dusk")),
        ({"time_of_day": "night", "location": " Oslo "}, Capture("night", "Oslo")),
        ({"lat": 59.91, "lon": 10.75}, Capture(place="59.9, 10.8")),
        ({"attributes": {"taken": "2026-11-21T03:10:00Z"}, "place": 7}, Capture("night")),
        ({"date_captured": "2013-11-14 17:02:52"}, Capture()),  # the upload, in COCO's own files
        ({"latitude": 200.0, "longitude": 0.0}, Capture()),
        ({"attributes": None}, Capture()),
    ],
)
def test_metadata_state_when_and_where(record: dict[str, Any], expected: Capture) -> None:
    assert described_capture(record) == expected


def test_a_position_is_on_earth() -> None:
    assert place_of(float("nan"), 0.0) == UNKNOWN


def test_ingest_keeps_both_and_metadata_come_first(tmp_path: Path) -> None:
    images = [
        image_record(1, file_name="1.jpg"),
        image_record(2, file_name="2.jpg", attributes={"time_of_day": "dusk"}),
        image_record(3, file_name="3.jpg"),
    ]
    boxes = [box_record(n, n, [1, 1, 9, 9]) for n in (1, 2, 3)]
    root = write_folder(tmp_path / "source", coco(images, boxes))
    for number in (1, 2):
        content = picture(taken=f"2026:11:21 12:00:0{number}", degrees=(52.52, 13.405))
        (root / f"all/{number}.jpg").write_bytes(content)
    ingest(str(root), tmp_path / "data", IngestConfig(cache=str(tmp_path / "cache")))
    found = [(one.time_of_day, one.place) for one in load_dataset(tmp_path / "data").images]
    assert found == [("midday", "52.5, 13.4"), ("dusk", "52.5, 13.4"), (UNKNOWN, UNKNOWN)]
    again = ingest(str(root), tmp_path / "again", IngestConfig(cache=str(tmp_path / "cache")))
    assert again.decoded == 0
    assert load_dataset(tmp_path / "again").images == load_dataset(tmp_path / "data").images
