"""Sentences of the gateway with times in them: the page shows each in the zone of its viewer."""

import re
from datetime import datetime

_MARKED = re.compile("\u27e6([0-9T:.+-]{19,40})\u27e7", re.ASCII)
LONGEST = 400


def marked(when: datetime) -> str:
    """Return a time as `parts` finds it again; for gateway/search/verdict.py, and for `moments_as`."""
    return f"\u27e6{when.isoformat()}\u27e7"


def parts(text: str, longest: int = LONGEST) -> list[str | datetime]:
    """Return the texts and times of a sentence, in order. A text that only looks like a time stays a text."""
    found: list[str | datetime] = []
    end = 0
    for match in _MARKED.finditer(text[:longest]):
        try:
            when = datetime.fromisoformat(match[1])
        except ValueError:
            continue
        if when.tzinfo is not None:
            found += [text[end : match.start()], when]
            end = match.end()
    rest = text[end:]
    return [*found, rest if len(rest) <= longest else f"{rest[: longest - 1]}…"]
