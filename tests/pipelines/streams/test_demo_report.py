"""What the streams demo counts, of answers that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.streams.demo import SeenAnswer, SentFrame, StreamsDemo, StreamsDemoConfig
from pipelines.streams.demo_report import report_of, write_streams_report


def demo(answered: str, **given: Any) -> StreamsDemo:
    """Six frames of two cameras in turn, a second apart; answers 100 ms after the last of them."""
    names = ("a", "b")
    sent = [SentFrame(str(one), names[one % 2], float(one)) for one in range(6)]
    answers = [SeenAnswer(one, names[int(one) % 2], 5.1, "nano") for one in answered]
    return StreamsDemo(StreamsDemoConfig(cameras=2), False, sent, answers, **given)


def test_all_is_well() -> None:
    report = report_of(demo("103254"))
    assert (report["sent"], report["answered"]) == (6, 6)
    assert (report["doubled"], report["lost"], report["out_of_order"]) == (0, 0, 0)
    assert report["ms_p50"] == 2600.0  # 100, 1100, ... 5100


def test_each_fault_is_counted() -> None:
    report = report_of(demo("01320011"))  # 4 and 5 are lost, 0 and 1 come three times
    assert (report["doubled"], report["lost"]) == (4, 2)
    assert report["out_of_order"] == 4  # those of 0 and 1 after 2 and 3


def test_what_flink_dropped_and_what_cannot_be_used_is_not_lost() -> None:
    minutes = [{"camera": "a", "repeats": 2}, {"camera": "b", "repeats": 1}]
    report = report_of(demo("01", minutes=minutes, dead_letters=1))
    assert (report["repeats"], report["dead_letters"], report["lost"]) == (3, 1, 0)


def test_the_page_has_the_table_and_the_chart(tmp_path: Path) -> None:
    given = demo("012345", killed=3.0)
    report = report_of(given)
    text = write_streams_report(given, report, tmp_path).read_text()
    assert "out of order" in text and "worker killed" in text
    assert json.loads((tmp_path / "report.json").read_text()) == report
