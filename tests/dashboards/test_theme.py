"""Colours that every reader can distinguish, and stand out from what is behind them."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from dashboard_samples import ROOT

from dashboards.widgets.theme import (
    INKS,
    RUNG_COLOURS,
    RUNG_DASHES,
    RUNG_MARKERS,
    RUNG_PATTERNS,
    Scheme,
    lone_marks,
)

# G. Machado, M. Oliveira, L. Fernandes, A Physiologically-based Model for Simulation of Color
# Vision Deficiency, 2009, severity 1.0, in linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                        [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                        [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                        [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
SCHEMES: tuple[Scheme, Scheme] = ("light", "dark")


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(colour: str, ground: str) -> float:
    """WCAG 2.2's contrast ratio."""
    lights = sorted(float(linear(one) @ (0.2126, 0.7152, 0.0722)) for one in (colour, ground))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* under D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    scaled = xyz @ np.clip(rgb, 0, 1) / (0.9505, 1.0, 1.089)
    f = np.where(scaled > 216 / 24389, np.cbrt(scaled), (24389 / 27 * scaled + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_colours_stand_out_from_the_card(scheme: Scheme) -> None:
    ink = INKS[scheme]
    for colour in (*RUNG_COLOURS[scheme].values(), ink.accent, ink.good, ink.bad, ink.reference):
        assert contrast(colour, ink.card) >= 3.0, colour
    assert contrast(ink.text, ink.card) >= 4.5


def test_small_grey_text_can_be_read() -> None:
    css = (ROOT / "dashboards" / "assets" / "gearshift.css").read_text("utf-8")
    for scheme, grounds in (("light", ["#ffffff"]), ("dark", ["#242424", "#2e2e2e"])):
        found = re.search(rf'scheme="{scheme}"\] {{ --mantine-color-dimmed: (#[0-9a-f]{{6}})', css)
        assert found is not None
        assert all(contrast(found[1], ground) >= 4.5 for ground in grounds)


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_rungs_are_distinguished(scheme: Scheme, deficiency: str) -> None:
    seen = {r: lab(DEFICIENCIES[deficiency] @ linear(c)) for r, c in RUNG_COLOURS[scheme].items()}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 15, (one, other)


@pytest.mark.parametrize("looks", [RUNG_DASHES, RUNG_MARKERS, RUNG_PATTERNS])
def test_not_by_colour_alone(looks: dict[str, str]) -> None:
    assert len(set(looks.values())) == 4


@pytest.mark.parametrize(
    ("values", "marked"),
    [
        ([], []),
        ([0.5], [0]),
        ([math.nan, 0.5, math.nan], [1]),
        ([0.1, 0.2, math.nan, 0.3], [3]),
        ([0.1, math.nan, 0.3, 0.4], [0]),
        ([0.1, 0.2], []),
    ],
)
def test_a_value_without_neighbours_is_marked(values: list[float], marked: list[int]) -> None:
    look = lone_marks(values, "square")
    assert np.flatnonzero(look["marker"]["size"]).tolist() == marked
    assert look["marker"]["symbol"] == "square" and "markers" in look["mode"]
