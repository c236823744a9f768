"""The pages in the order of the navigation."""

from __future__ import annotations

from dashboards.page import Page
from dashboards.pages.data import page as data
from dashboards.pages.experiments import page as experiments
from dashboards.pages.explore import page as explore
from dashboards.pages.feedback import page as feedback
from dashboards.pages.health import page as health
from dashboards.pages.live import page as live
from dashboards.pages.policies import page as policies
from dashboards.pages.texts import page as texts

PAGES: tuple[Page, ...] = (
    live.PAGE,
    explore.PAGE,
    texts.PAGE,
    policies.PAGE,
    experiments.PAGE,
    data.PAGE,
    feedback.PAGE,
    health.PAGE,
)
