"""The runbook as a page of the exporter, because a hospital may have no other place for it.

The text is docs/operate/runbook.md: in the repository there, in an installed package beside this file.
"""

import html
import re
from functools import cache
from pathlib import Path

PLACES = (
    Path(__file__).with_name("runbook.md"),
    Path(__file__).parents[2] / "docs" / "operate" / "runbook.md",
)


def text() -> str:
    """Return the runbook; a sentence about it if this installation lacks it."""
    for place in PLACES:
        if place.exists():
            return place.read_text(encoding="utf-8")
    return "# Runbook\n\nThis installation lacks it: see docs/operate/runbook.md of the project.\n"


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and Sphinx make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@cache
def page() -> str:
    """Return the runbook as HTML: the text as it is, with an anchor at each heading."""
    lines = []
    for line in text().splitlines():
        escaped = html.escape(line)
        if line.startswith("#"):
            escaped = f'<b id="{anchor(line.lstrip("#"))}">{escaped}</b>'
        lines.append(escaped)
    return "<!doctype html><title>Runbook</title><pre>" + "\n".join(lines) + "</pre>\n"
