"""The table of the edges."""

from collections.abc import Iterable

from proof.edges.judge import SLOW, Row


def yes(value: object) -> str:
    """Return a word for a cell."""
    return "yes" if value else "NO"


def line(row: Row) -> str:
    """Return one row for the terminal."""
    verdict = "ok  " if row.good else "MISS"
    gone = "-" if row.gone_after is None else f"{row.gone_after:.0f} s"
    named = "-" if row.named_after is None else f"+{row.named_after:.0f} s"
    words = [
        f"{verdict} {row.name:40} {row.seconds:5.1f} s named {named:6}",
        f"cause {yes(row.cause):3} remedy {yes(row.remedy):3}",
        f"mended {yes(row.mended):3} gone {gone:5} green {', '.join(row.green) or 'no'}",
        f"     {row.said}",
    ]
    if row.note_only:
        words.append("     (a note only)")
    if row.seconds > SLOW:
        words.append(f"     diagnose took {row.seconds:.1f} s")
    if row.failed:
        words.append(f"     FAILED {row.failed}")
    return " ".join(words[:3]) + "\n" + "\n".join(words[3:])


def markdown(rows: Iterable[Row]) -> str:
    """Return the table for a page."""
    names = ("edge", "what diagnose said", "s", "cause named", "remedy named", "remedy mended it", "green")
    head = "| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|\n"
    lines = []
    for row in rows:
        said = row.said.replace("|", "/").replace("\n", " ")
        said = said + f" **{row.failed}**" if row.failed else said
        note = " (note)" if row.note_only else ""
        late = f" (+{row.named_after:.0f})" if row.named_after else ""
        cells = [
            f"{row.name}: {row.about}",
            said + note,
            f"{row.seconds:.1f}{late}",
            yes(row.cause),
            yes(row.remedy),
        ]
        lines.append("| " + " | ".join([*cells, yes(row.mended), ", ".join(row.green) or "no"]) + " |\n")
    return head + "".join(lines)


def summary(rows: list[Row]) -> str:
    """Return the figures that count."""
    named = sum(row.cause and row.remedy for row in rows)
    green = sum(bool(row.green) for row in rows)
    mended = sum(row.mended for row in rows)
    failed = sum(bool(row.failed) for row in rows)
    told = f"{named} named with cause and remedy, {mended} mended"
    return f"{len(rows)} edges: {told}, {green} green, {failed} not built"
