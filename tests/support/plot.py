"""Draw lines as SVG, without a library: time over load, with a logarithmic axis for the time."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 200, 40, 60
COLORS = ("#1f5fa8", "#6ea8e0", "#b3471d", "#e3a07f", "#3d7a3a", "#94c290")

Points = Sequence[tuple[float, float]]


def lines(title: str, x_name: str, y_name: str, series: Mapping[str, Points]) -> str:
    """Return an SVG with a line for each of `series`; x is linear from 0, y logarithmic."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [max(y, 1e-3) for points in series.values() for _, y in points]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    high = max(high, low + 1)
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + plot_width * x / max(xs)
        share = (math.log10(max(y, 1e-3)) - low) / (high - low)
        return round(across, 1), round(TOP + plot_height * (1 - share), 1)

    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    turned = f'transform="translate(18 {TOP + plot_height / 2}) rotate(-90)"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" fill="#222">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT, 24, title, size=15),
        _text(LEFT + plot_width / 2, HEIGHT - 16, x_name, anchor="middle"),
        f"<g {turned}>{_text(0, 0, y_name, anchor='middle')}</g>",
    ]
    for power in range(low, high + 1):
        _, at = place(0, 10.0**power)
        parts.append(f'<path d="M{LEFT} {at}H{LEFT + plot_width}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, at + 4, f"{10.0**power:g}", anchor="end"))
    for x in sorted(set(xs)):
        at, bottom = place(x, 10.0**low)
        parts.append(f'<path d="M{at} {bottom}v5" stroke="#222"/>')
        parts.append(_text(at, bottom + 20, f"{x:g}", anchor="middle"))
    for number, (name, points) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        placed = [place(x, y) for x, y in points]
        path = "L".join(f"{x} {y}" for x, y in placed)
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{color}"/>' for x, y in placed]
        beside = LEFT + plot_width + 16
        parts.append(f'<path d="M{beside} {TOP + 10 + 20 * number}h22" stroke="{color}" stroke-width="3"/>')
        parts.append(_text(beside + 30, TOP + 14 + 20 * number, name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'
