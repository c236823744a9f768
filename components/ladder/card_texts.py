"""Paragraphs of a ladder's model card, for the sample ladder and for a user's own."""

from __future__ import annotations

SAMPLE_USE = (
    "# Model card: the sample ladder",
    "",
    "Three YOLOv8 detectors, trained from scratch by this project, that the offline default of",
    "Gearshift routes between.",
    "",
    "## Intended use",
    "",
    "Trying Gearshift out, teaching, and testing without a network: every number of the demo",
    "comes from these files. They are not meant for photographs, nor for any decision about",
    "people.",
    "",
)
OWN_USE = (
    "# Model card: a ladder",
    "",
    "Three detectors that Gearshift routes between.",
    "",
    "## Intended use",
    "",
    "Their files do not say who trained them, on what and for what; write it here.",
    "",
)
COMPRESSED = (
    "Weights are int8 with one scale per output channel; they are folded back to float32 when",
    "the file is loaded.",
    "",
)
SAMPLE_DATA = (
    "Frames are drawn by `components/scenes`: streets",
    "in perspective with occlusion, distance, clutter, light and noise, by day (seven in ten),",
    "night, in fog, rain and motion blur. No photograph was used, and no pretrained weight.",
    "The held-out frames come from a seed that training never used.",
)
SAMPLE_LIMITS = (
    "## Limits",
    "",
    "- Sample scenes only. On photographs these detectors find next to nothing; a gate that",
    "  refuses a policy learned there is the right outcome.",
    "- Objects of which less than two fifths can be seen are not annotated, so they are not",
    "  learned.",
    "- The scenes know one style of drawing; the accuracy says nothing about another one.",
    "",
)
OWN_LIMITS = (
    "## Limits",
    "",
    "- The figures hold for frames like those they were measured on. Whether a detector had seen",
    "  these in its training does not show in its file.",
    "",
)
