"""Find violations of WCAG 2.2 AA on a page with axe-core."""

import json
from collections.abc import Iterator
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
WIDTHS = (1280, 390)
THEMES = ("light", "dark")
VARIANTS = [(theme, width) for theme in THEMES for width in WIDTHS]
_OPTIONS = {"runOnly": {"type": "tag", "values": list(RULES)}, "resultTypes": ["violations"]}
_COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast"]}, "resultTypes": ["violations"]}
_SAME = {"exclude": [["tbody tr:nth-child(n+4)"], ["main li:nth-child(n+4)"]]}
"""Elements that repeat the rows before them: to check them would take most of the time."""


_TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  const scrolls = (one) => one !== null && one !== document.body &&
    (getComputedStyle(one).overflowX !== "visible" || scrolls(one.parentElement));
  if (document.documentElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll("body *")]
    .filter((one) => one.getBoundingClientRect().right > width + 1 && !scrolls(one.parentElement))
    .map((one) => `${one.outerHTML.slice(0, 120)} to ${Math.round(one.getBoundingClientRect().right)}`);
}"""


def too_wide(page: Page) -> list[str]:
    """Return the elements that make the page wider than its window."""
    found: list[str] = page.evaluate(_TOO_WIDE)
    return found


def violations(page: Page) -> Iterator[str]:
    """Yield what axe-core finds at each width: the rule, and the elements. A theme changes colours only."""
    for theme, width in VARIANTS:
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        found: dict[str, Any] = Axe().run(page, _SAME, _OPTIONS if theme == THEMES[0] else _COLOURS).response
        for one in found["violations"]:
            for node in one["nodes"]:
                why = " ".join(check["message"] for check in (*node["any"], *node["all"], *node["none"]))
                yield f"{theme} {width}: {one['id']}: {json.dumps(node['target'])} {why} {node['html'][:200]}"
