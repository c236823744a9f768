"""The pages in the order of the navigation."""

from __future__ import annotations

from dashboards import experiments, explore, feedback, health, live, policies
from dashboards.page import Page

PAGES: tuple[Page, ...] = (
    live.PAGE,
    explore.PAGE,
    policies.PAGE,
    experiments.PAGE,
    feedback.PAGE,
    health.PAGE,
)
