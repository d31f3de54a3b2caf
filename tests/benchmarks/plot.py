"""Draws how cost grows, as an SVG that loads nothing: `docs/pictures/growth.svg`."""

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_WIDTH, _HEIGHT = 470, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 40, 84
_COLORS = ("#1f6feb", "#d1495b", "#2a9d4a", "#e09f3e", "#7b5ea7")


class Panel(NamedTuple):
    """Lines over sizes, on a logarithmic scale: of each its cost by size."""

    title: str
    unit: str
    lines: "Mapping[str, Mapping[int, float]]"


def draw(panels: "Sequence[Panel]", measured: str) -> str:
    """Return a picture with two panels in a row."""
    width, height = 2 * _WIDTH, math.ceil(len(panels) / 2) * _HEIGHT
    style = 'font-family="sans-serif" font-size="12" fill="#57606a"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {style}>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, panel in enumerate(panels):
        x, y = number % 2 * _WIDTH, number // 2 * _HEIGHT
        parts.append(f'<g transform="translate({x},{y})">{"".join(_panel(panel, measured))}</g>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, measured: str) -> "Iterator[str]":
    sizes = sorted({size for points in panel.lines.values() for size in points})
    top = _round_up(max(cost for points in panel.lines.values() for cost in points.values()))
    right, down = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def at(size: int, cost: float) -> tuple[float, float]:
        share = math.log(size / sizes[0]) / math.log(sizes[-1] / sizes[0])
        return _LEFT + (right - _LEFT) * share, down - (down - _TOP) * cost / top

    yield f'<text x="{_LEFT}" y="20" font-size="14" fill="#1f2328">{panel.title}, {measured}</text>'
    for cost in (0, top / 2, top):
        y = at(sizes[0], cost)[1]
        yield f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#d0d7de"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{cost:g}</text>'
    free = float("inf")
    for size in reversed(sizes):
        x = at(size, 0)[0]
        if x > free:
            continue  # no room for its label
        free = x - 40
        anchor = "start" if size == sizes[0] else "end" if size == sizes[-1] else "middle"
        yield f'<text x="{x:.1f}" y="{down + 16}" text-anchor="{anchor}">{_short(size)}</text>'
    yield f'<text x="{right}" y="{down + 32}" text-anchor="end">{panel.unit}</text>'
    x = float(_LEFT)
    for (name, points), color in zip(panel.lines.items(), _COLORS, strict=False):
        placed = [at(size, cost) for size, cost in points.items()]
        joined = " ".join(f"{px:.1f},{py:.1f}" for px, py in placed)
        yield f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="2"/>'
        yield from (f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{color}"/>' for px, py in placed)
        yield f'<path d="M{x:.0f} {down + 54}h14" stroke="{color}" stroke-width="3"/>'
        yield f'<text x="{x + 18:.0f}" y="{down + 58}">{name}</text>'
        x += 34 + 6.4 * len(name)


def _short(size: int) -> str:
    return f"{size // 1000}k" if size >= 1000 else str(size)


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 4, 6, 8, 10, 20, ... that is not below."""
    step = 10.0 ** math.floor(math.log10(value))
    return next(step * digit for digit in (1, 2, 4, 6, 8, 10) if step * digit >= value)
