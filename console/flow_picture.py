"""The flow as a picture: senders, the edge, archives and applications, with rates on the arrows.

flow_nodes.py says what is shown. `picture` computes places only; templates/_flow.svg.html draws them. There
are two forms: `wide` for screens, `tall` for phones. Coordinates are those of the SVG.
"""

from dataclasses import dataclass

from console.flow_nodes import FlowNode, rate, senders_of, short_title, targets_of, words_of
from console.snapshot import Snapshot

GAP = 18
SMALL, LARGE = 56, 100


@dataclass(frozen=True, slots=True)
class Box:
    """A box with a title and lines. `kind`: ok, wait, bad, off; `badge` is its word."""

    x: float
    y: float
    width: float
    height: float
    icon: str
    title: str
    badge: str = ""
    kind: str = "off"
    lines: tuple[str, ...] = ()
    link: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """An arrow with its label. `kind`: move, still, bad, wait; `strength` 1 to 4 by the rate."""

    path: str
    label: str
    x: float
    y: float
    kind: str
    strength: int = 1
    is_result: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """What to draw, and the same in words for people who cannot see it."""

    form: str
    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    words: str


def picture(seen: Snapshot, edge: str, unregistered: int | None, *, form: str) -> Picture:
    """Return the picture of a snapshot in one of both forms."""
    sources, targets = senders_of(seen), targets_of(seen)
    received = sum(one.rate for one in sources)
    lines = [f"{rate(received)} received"]
    if unregistered:
        lines.append(f"{unregistered:,} not registered yet")
    kind, badge = ("ok", "listens") if seen.view.receivers else ("bad", "not connected")
    centre = FlowNode("edge", edge, received, badge, kind, tuple(lines))
    words = words_of(edge, sources, targets, received)
    return (_wide if form == "wide" else _tall)(centre, sources, targets, words)


def _arrow_kind(node: FlowNode, per_minute: float) -> str:
    if node.stops:
        return node.kind
    return "move" if per_minute else "still"


def _label(node: FlowNode, per_minute: float) -> str:
    return node.stops or rate(per_minute)


def _strength(per_minute: float) -> int:
    return 1 + sum(per_minute > bound for bound in (30, 300, 3000))


# ---- from left to right --------------------------------------------------------------------------------

_WIDE, _SIDE, _EDGE_X, _EDGE_WIDTH, _RIGHT = 1120, 230, 420, 250, 850


def _wide(centre: FlowNode, sources: list[FlowNode], targets: list[FlowNode], words: str) -> Picture:
    left = len(sources) * (SMALL + GAP) - GAP
    right = len(targets) * (LARGE + GAP) - GAP
    height = max(left, right, 160) + 8
    edge_height = min(max(height - 8, 130), 190)
    edge = Box(
        _EDGE_X,
        (height - edge_height) / 2,
        _EDGE_WIDTH,
        edge_height,
        "edge",
        centre.title,
        centre.badge,
        centre.kind,
        centre.lines,
    )
    boxes, arrows = [edge], []
    for number, node in enumerate(sources):
        y = (height - left) / 2 + number * (SMALL + GAP)
        boxes.append(_box(node, 4, y, _SIDE, SMALL))
        at, to = y + SMALL / 2, _port(edge, number, len(sources))
        arrows.append(_across((_SIDE + 4, at), (_EDGE_X - 8, to), node, label_at=0.42))
    ports = sum(1 + node.has_results for node in targets)
    port = 0
    for number, node in enumerate(targets):
        y = (height - right) / 2 + number * (LARGE + GAP)
        boxes.append(_box(node, _RIGHT, y, _WIDE - _RIGHT - 4, LARGE))
        spread = 20 if node.has_results else 0
        at, leaves = y + LARGE / 2 - spread, _port(edge, port, ports)
        arrows.append(_across((_EDGE_X + _EDGE_WIDTH, leaves), (_RIGHT - 8, at), node, label_at=0.55))
        port += 1
        if node.has_results:
            back = _port(edge, port, ports)
            port += 1
            begin, end = (_RIGHT, y + LARGE / 2 + spread), (_EDGE_X + _EDGE_WIDTH + 8, back)
            arrows.append(_across(begin, end, node, label_at=0.45, is_result=True))
    return Picture("wide", _WIDE, height, tuple(boxes), tuple(arrows), words)


def _port(edge: Box, number: int, count: int) -> float:
    """Return where an arrow meets the edge: spread over its height."""
    return edge.y + edge.height * (number + 1) / (count + 1)


def _across(
    begin: tuple[float, float],
    end: tuple[float, float],
    node: FlowNode,
    *,
    label_at: float,
    is_result: bool = False,
) -> Arrow:
    (x1, y1), (x2, y2) = begin, end
    per_minute = node.result_rate if is_result else node.rate
    middle = (x1 + x2) / 2
    path = f"M{x1:.1f} {y1:.1f} C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    # a point of the cubic: its label stands on the line
    t = label_at
    y = y1 * ((1 - t) ** 3 + 3 * (1 - t) ** 2 * t) + y2 * (3 * (1 - t) * t**2 + t**3)
    x = x1 * (1 - t) ** 3 + 3 * middle * ((1 - t) ** 2 * t + (1 - t) * t**2) + x2 * t**3
    label = f"results {rate(per_minute)}" if is_result else _label(node, per_minute)
    kind = ("move" if per_minute else "still") if is_result else _arrow_kind(node, per_minute)
    return Arrow(path, label, x, y, kind, _strength(per_minute), is_result)


def _box(node: FlowNode, x: float, y: float, width: float, height: float) -> Box:
    lines = node.lines if node.badge or node.lines else ()
    return Box(x, y, width, height, node.icon, node.title, node.badge, node.kind, lines, node.link)


# ---- from top to bottom ---------------------------------------------------------------------------------

_TALL, _INSET, _DROP = 360, 34, 58


def _tall(centre: FlowNode, sources: list[FlowNode], targets: list[FlowNode], words: str) -> Picture:
    total = sum(node.rate for node in sources)
    names = ", ".join(node.title for node in sources[:3]) + (", …" if len(sources) > 3 else "")  # noqa: PLR2004
    senders = FlowNode("modality", short_title(names), total, lines=sources[0].lines)
    boxes = [_box(senders, 2, 2, _TALL - 4, SMALL)]
    y: float = 2 + SMALL
    arrows = [_down(_TALL / 2, y, y + _DROP - 8, senders, total)]
    y += _DROP
    boxes.append(
        Box(2, y, _TALL - 4, LARGE + 8, "edge", centre.title, centre.badge, centre.kind, centre.lines)
    )
    bottom = y + LARGE + 8
    y = bottom
    rail = _TALL - 12  # results go up along the right side
    right = _TALL - 26 if any(node.has_results for node in targets) else _TALL - 2
    for node in targets:
        y += _DROP - 14
        boxes.append(_box(node, _INSET + 30, y, right - _INSET - 30, LARGE))
        middle = y + LARGE / 2 - 12
        path = f"M{_INSET - 10} {bottom:.1f} V{middle:.1f} H{_INSET + 22}"
        kind = _arrow_kind(node, node.rate)
        label_y = y - 18
        arrows.append(Arrow(path, _label(node, node.rate), _INSET + 40, label_y, kind, _strength(node.rate)))
        if node.has_results:
            path = f"M{right} {middle + 24:.1f} H{rail} V{bottom + 8:.1f}"
            moves = "move" if node.result_rate else "still"
            label = f"results {rate(node.result_rate)}"
            arrows.append(Arrow(path, label, _TALL - 90, label_y, moves, 1, is_result=True))
        y += LARGE
    return Picture("tall", _TALL, y + 6, tuple(boxes), tuple(arrows), words)


def _down(x: float, y1: float, y2: float, node: FlowNode, per_minute: float) -> Arrow:
    path = f"M{x:.1f} {y1:.1f} V{y2:.1f}"
    kind = _arrow_kind(node, per_minute)
    return Arrow(path, rate(per_minute), x + 44, (y1 + y2) / 2, kind, _strength(per_minute))
