"""The filters of the templates: times, ages, sizes, counts, UIDs. All return text or escaped markup.

{{ row.at | time }}         a <time> that a script shows in the viewer's zone, with UTC on hover
{{ row.at | age }}          3 min ago, counted on by a script
{{ seconds | span }}        4.2 s
{{ size | bytes }}          1.4 GiB
{{ count | count }}         12,345
{{ uid | uid }}             …3.4567, whole on hover
{{ text | commands }}       a sentence: `code`, and times that are marked (console/views/sentence.py)
{{ text | plain }}          without control and direction characters; for whatever a peer chose
"""

from datetime import UTC, datetime, timedelta

from markupsafe import Markup, escape

from console.views.sentence import parts
from gateway.database.tables.activity import printable
from gateway.times import span as span_of

UID_END = 14
PLAIN_MOST = 300
SENTENCE_MOST = 2000
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_NONE = "\N{EN DASH}"
_WHOLE = 100


def time(when: datetime | None, form: str = "seconds") -> Markup:
    """Return a <time> with UTC as its text; a script shows local time. `form`: seconds, minutes or date."""
    if when is None:
        return Markup('<span class="none">{}</span>').format(_NONE)
    utc = when.astimezone(UTC)
    text = utc.strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}" title="{}" data-form="{}">{}</time>').format(
        utc.isoformat(timespec="milliseconds"), text, form, text
    )


def age(when: datetime | None) -> Markup:
    """Return a <time> with how long ago it was."""
    if when is None:
        return Markup('<span class="none">{}</span>').format(_NONE)
    utc = when.astimezone(UTC)
    seconds = max((datetime.now(UTC) - utc).total_seconds(), 0)
    return Markup('<time datetime="{}" title="{}" data-form="age">{} ago</time>').format(
        utc.isoformat(timespec="milliseconds"), utc.strftime("%Y-%m-%d %H:%M:%S UTC"), span_of(seconds)
    )


def span(seconds: float | timedelta | None) -> str:
    """Return a duration: 35 ms, 4.2 s, 3 min, 5 h, 2 d."""
    if seconds is None:
        return _NONE
    return span_of(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)


def bytes_(size: float | None) -> str:
    """Return a size in a binary unit."""
    if size is None:
        return _NONE
    for unit in _UNITS:
        if size < _STEP or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" or size >= _WHOLE else f"{size:.1f} {unit}"
        size /= _STEP
    raise AssertionError("the last unit ends the loop")


def count(number: float | None) -> str:
    """Return a number with separators; a rate below 10 with one decimal place."""
    if number is None:
        return _NONE
    if isinstance(number, float) and not number.is_integer() and abs(number) < 10:  # noqa: PLR2004  one digit
        return f"{number:.1f}"
    return f"{round(number):,}"


def uid(text: str | None, end: int = UID_END) -> Markup:
    """Return the end of a UID, by which those of one study differ; the whole on hover."""
    if not text:
        return Markup('<span class="none">{}</span>').format(_NONE)
    whole = plain(text)
    short = whole if len(whole) <= end + 1 else f"…{whole[-end:]}"
    return Markup('<span class="uid" title="{}">{}</span>').format(whole, short)


def plain(text: object, most: int = PLAIN_MOST) -> str:
    """Return a text without control and direction characters, shortened. It still has to be escaped."""
    return "" if text is None else printable(str(text), most)


def commands(text: str) -> Markup:
    """Return a text in which what stands between backticks is code, and a marked time is a <time>."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else _with_times(part)
        for number, part in enumerate(plain(text, SENTENCE_MOST).split("`"))
    )


def _with_times(text: str) -> Markup:
    return Markup("").join(
        escape(part) if isinstance(part, str) else time(part) for part in parts(text, SENTENCE_MOST)
    )


FILTERS = {
    "time": time,
    "age": age,
    "span": span,
    "bytes": bytes_,
    "count": count,
    "uid": uid,
    "plain": plain,
    "commands": commands,
}
