"""What stands under a figure says on what it rests."""

from __future__ import annotations

import pytest

from dashboards.widgets.wording import compared_words, few
from inference_graph.prediction_log.retained import Retained, retained

TEN_LOOKS_OF_TWO_MINUTES = retained([(5, 5.0), (5, 4.0)], large_share=0.5)
ONE_MINUTE = retained([(7, 6.0)], large_share=0.0, unit="minutes")
NONE = retained([], large_share=0.2)


@pytest.mark.parametrize(
    ("kept", "answered", "unlike_large", "wanted"),
    [
        (NONE, 0, 0, "no frame was answered"),
        (retained([], large_share=1.0), 12, 12 - 12, "large answered every frame"),
        (NONE, 1_500, 1_200, "0 of 1,200 frames compared"),
        (
            ONE_MINUTE,
            40,
            40,
            "no interval: 7 of 40 frames compared, all in one minute of one session",
        ),
        # Mean 0.9, half of all frames large's: 0.95. se^2 = 2 * (0.5^2 + 0.5^2) / 10^2 = 0.01, and
        # t(1) is 12.706: the interval goes from 0.95 - 0.5 * 12.706 * 0.1 to 1.
        (
            TEN_LOOKS_OF_TWO_MINUTES,
            400,
            200,
            "95 % interval 31.5 % to 100.0 %, 10 of 200 frames compared",
        ),
    ],
)
def test_an_agreement_says_on_what_it_rests(
    kept: Retained, answered: int, unlike_large: int, wanted: str
) -> None:
    assert compared_words(kept, answered, unlike_large) == wanted


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [(0, ""), (1, "from only 1 frame; "), (99, "from only 99 frames; "), (100, "")],
)
def test_a_figure_of_few_frames_says_so(frames: int, wanted: str) -> None:
    assert few(frames) == wanted
