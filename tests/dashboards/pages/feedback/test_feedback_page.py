"""Feedback in a real browser: looked at by everybody, decided by the reviewer who was named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from dashboard_samples import dashboard_config, served
from playwright.sync_api import Page, expect

from components.feedback.decisions import read_decisions
from foundation.errors import ConfigurationError
from inference_graph.prediction_log.feedback_row import Feedback
from inference_graph.prediction_log.row import PredictionRow
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Page]
Shoot = Callable[[Page, str], Path]
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
JPEG = cv2.imencode(".jpg", np.full((120, 160, 3), 90, np.uint8))[1].tobytes()


def write(folder: Path) -> None:
    """Anna's correction of a frame that large saw too, and Bert's whose frame is gone."""
    keys = [f"{int(NOON.timestamp() * 1000):012x}{number:020x}" for number in range(2)]
    with PredictionLog(LogConfig(str(folder / "log"))) as log:
        log.append(
            PredictionRow(
                event_id=keys[0],
                time=NOON,
                source="stream",
                rung="nano",
                answered_by="nano",
                width=160,
                height=120,
                boxes=[60, 10, 90, 50],
                scores=[0.9],
                labels=[0],
                shadow=True,
                shadow_boxes=[10, 10, 50, 50],
                shadow_scores=[0.9],
                shadow_labels=[2],
            )
        )
        box = {"boxes": [10, 10, 50, 50], "labels": [2], "kind": "correct", "time": NOON}
        log.append_feedback(
            Feedback(
                event_id=keys[0],
                client="anna",
                note="<b>a car</b>",
                width=160,
                height=120,
                image=JPEG,
                **box,
            )
        )
        log.append_feedback(Feedback(event_id=keys[1], client="bert", **box))


def test_a_reviewer_approves_and_rejects(
    tmp_path: Path, sample_ladder: Path, open_page: OpenPage, shoot: Shoot
) -> None:
    write(tmp_path)
    store = tmp_path / "store"
    config = dashboard_config(tmp_path, feedback=store, reviewer="zoe", ladder=sample_ladder)
    with served(config) as url:
        page = open_page(f"{url}/feedback", phone=True)
        expect(page.get_by_text("recorded under the name zoe")).to_be_visible()
        expect(page.get_by_text("“<b>a car</b>”")).to_be_visible()  # text, not markup
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        shoot(page, "feedback-phone")
        expect(page.get_by_role("img", name="anna: car")).to_be_visible()
        expect(page.get_by_role("img", name="Boxes of the answer of nano")).to_be_visible()
        expect(page.get_by_role("img", name="Boxes of the reference, large")).to_be_visible()
        expect(page.get_by_text("nano: person")).to_be_visible()
        expect(page.get_by_text("! unusable: its frame is not kept")).to_be_visible()
        approve = page.get_by_role("button", name="Approve")
        expect(approve).to_have_count(2)
        expect(approve.nth(0 if approve.nth(0).is_disabled() else 1)).to_be_disabled()
        page.locator("button:not([disabled])", has_text="Approve").click()
        expect(page.get_by_role("status")).to_contain_text("approved")
        expect(page.get_by_role("button", name="Reject")).to_have_count(1)
        page.get_by_role("button", name="Reject").click()
        expect(page.get_by_text("no reason given")).to_be_visible()
        page.get_by_label("Reason for").fill("nobody has the frame")
        page.get_by_role("button", name="Reject").click()
        expect(page.get_by_text("Nothing waits for a review")).to_be_visible()
        decisions = read_decisions(store)
        assert [(one.decision, one.reviewer, one.reason) for one in decisions] == [
            ("approved", "zoe", ""),
            ("rejected", "zoe", "nobody has the frame"),
        ]
        # A page elsewhere whose name resolves to this machine gets nothing.
        strange = httpx.get(f"{url}/feedback", headers={"host": "evil.example"}, trust_env=False)
        assert strange.status_code == 403


def test_without_a_reviewer_nothing_can_be_decided(
    tmp_path: Path, sample_ladder: Path, open_page: OpenPage
) -> None:
    write(tmp_path)
    config = dashboard_config(tmp_path, feedback=tmp_path / "store", ladder=sample_ladder)
    with served(config) as url:
        page = open_page(f"{url}/feedback")
        expect(page.get_by_text("start the dashboard with --reviewer NAME")).to_be_visible()
        expect(page.get_by_role("button", name="Approve")).to_have_count(0)
        callbacks = httpx.get(f"{url}/_dash-dependencies", trust_env=False).text
    assert "feedback-decide" not in callbacks
    assert not (tmp_path / "store").exists()


def test_a_reviewer_stays_on_this_machine(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="everybody who reaches it would decide as zoe"):
        dashboard_config(tmp_path, host="0.0.0.0", open_access=True, reviewer="zoe")
