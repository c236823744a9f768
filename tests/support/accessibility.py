"""What a page must have for those who do not see it, or do not use a mouse."""

from __future__ import annotations

from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from playwright.sync_api import Page

LIGHT_TEXT, DARK_TEXT = "rgb(55, 65, 81)", "rgb(209, 213, 219)"
"""``INKS[...].text`` as browsers write it."""

_CHECK = r"""() => {
    const faults = [];
    const shown = e => e.getClientRects().length && getComputedStyle(e).visibility === 'visible';
    const named = e => {
        const by = (e.getAttribute('aria-labelledby') || '').split(' ')
            .map(id => document.getElementById(id)?.textContent || '').join('');
        const labels = e.labels ? [...e.labels].map(l => l.textContent).join('') : '';
        return (e.getAttribute('aria-label') || by || labels || e.textContent ||
                e.title || e.alt || '').trim();
    };
    if (document.documentElement.lang !== 'en') faults.push('no language');
    for (const e of document.querySelectorAll(
            'input:not([type=hidden]), select, textarea, button, a[href], [role=button]')) {
        if (shown(e) && !named(e) && !e.closest('[aria-hidden=true]'))
            faults.push('no name: ' + e.outerHTML.slice(0, 160));
    }
    for (const e of document.querySelectorAll('img'))
        if (!e.hasAttribute('alt')) faults.push('no alt: ' + e.outerHTML.slice(0, 80));
    const levels = [...document.querySelectorAll('h1,h2,h3,h4')].filter(shown)
        .map(e => +e.tagName[1]);
    if (levels.filter(l => l === 1).length !== 1) faults.push('not one h1: ' + levels);
    if (levels.some((l, i) => i && l > levels[i - 1] + 1)) faults.push('skipped: ' + levels);
    for (const e of document.querySelectorAll('[role=figure]')) {
        const words = document.getElementById(e.getAttribute('aria-describedby'));
        if (shown(e) && !(words?.textContent || '').trim()) faults.push('no words: ' + e.id);
    }
    const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
    const twice = ids.filter((id, i) => ids.indexOf(id) !== i);
    if (twice.length) faults.push('twice: ' + twice);
    if (!document.querySelector('main')) faults.push('no main');

    const light = c => c.map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const parsed = text => (text.match(/[\d.]+/g) || [0, 0, 0]).map(Number);
    const ground = e => {
        for (let at = e; at; at = at.parentElement) {
            const c = parsed(getComputedStyle(at).backgroundColor);
            if (c.length < 4 || c[3] > 0.99) return c;
        }
        return [255, 255, 255];
    };
    for (const e of document.querySelectorAll('main *, header *, nav *')) {
        const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
        if (!own || !shown(e) || e.closest('svg, [aria-hidden=true], :disabled')) continue;
        if (e.closest('.ag-root-wrapper') || e.clientHeight <= 1) continue;
        const style = getComputedStyle(e);
        const [a, b] = [light(parsed(style.color)), light(ground(e))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        const needed = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
        if (ratio < needed - 0.01)
            faults.push(`contrast ${ratio.toFixed(2)}: ${e.textContent.trim().slice(0, 50)}`);
    }
    return faults;
}"""


_AXE = """async () => {
    const found = await axe.run(document, {resultTypes: ['violations']});
    return found.violations
        .filter(rule => ['serious', 'critical'].includes(rule.impact))
        .flatMap(rule => rule.nodes.map(node => `axe ${rule.id}: ${node.html.slice(0, 160)}`));
}"""


def faults_of(page: Page) -> list[str]:
    """What is missing: names, alternative texts, order of headings, contrast by WCAG 2.2 AA.

    With axe-core, if its package is installed, of serious and critical impact.
    """
    found: list[Any] = page.evaluate(_CHECK)
    return [str(fault) for fault in found] + axe_faults_of(page)


def axe_faults_of(page: Page) -> list[str]:
    """Violations of serious and critical impact that axe-core finds, if its package is there."""
    if find_spec("axe_playwright_python") is None:
        return []
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    found: list[Any] = page.evaluate(_AXE)
    return [str(fault) for fault in found]


def too_wide(page: Page) -> int:
    """Pixels that must be scrolled sideways to see the whole page."""
    width: int = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return width


def chart_text(page: Page, chart: str) -> str:
    """Colour of the words in a chart, as the browser has it."""
    page.wait_for_selector(f"#{chart} .xtick text")
    colour: str = page.evaluate(
        "id => getComputedStyle(document.querySelector(`#${id} .xtick text`)).fill", chart
    )
    return colour
