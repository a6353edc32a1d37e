"""A few shapes as SVG text: pictures that a slider redraws at once and whose marks answer to a pointer."""

import html
from collections.abc import Iterable

import numpy as np

INK, SOFT, LINE = "#1b1f24", "#57606a", "#c3c9d1"
RADIUS = 5  # of a marker [pixels]
_OUTLINES: dict[str, list[tuple[float, float]]] = {  # matplotlib's letter -> corners at radius 1
    "s": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "^": [(0, -1.1), (1, 0.8), (-1, 0.8)],
    "v": [(0, 1.1), (1, -0.8), (-1, -0.8)],
    "D": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
    "P": [(-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4),
          (0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)],
}  # fmt: skip


def document(width: int, height: int, parts: Iterable[str], alt: str) -> str:
    """A whole SVG on white, so that it reads in a dark page too.

    Args:
        width: of it [pixels].
        height: likewise.
        parts: what stands in it.
        alt: what is seen.
    """
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="{html.escape(alt)}" style="max-width: 100%; height: auto" '
        'font-family="system-ui, sans-serif" font-size="13">'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{"".join(parts)}</svg>'
    )


def line(points: np.ndarray, color: str = INK, width: float = 1.0, dashes: str = "") -> str:
    """A line through points (N, 2); it is broken where a point is nan."""
    words, pen = [], "M"
    for x, y in points:
        if np.isnan(x):
            pen = "M"
            continue
        words.append(f"{pen}{x:.1f},{y:.1f}")
        pen = "L"
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="{" ".join(words)}" fill="none" stroke="{color}" stroke-width="{width:g}"{dashed}/>'


def arrow(start: np.ndarray, end: np.ndarray, color: str) -> str:
    """A line with a head at its end; nothing where both are one point."""
    way = np.asarray(end, dtype=float) - np.asarray(start, dtype=float)
    length = np.hypot(*way)
    if length < 1e-9:
        return ""
    along = way / length
    across = np.array([-along[1], along[0]])
    corners = [end, end - 10 * along + 5 * across, end - 10 * along - 5 * across]
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    shaft = line(np.array([start, end - 8 * along]), color, 2.5)
    return f'{shaft}<polygon points="{head}" fill="{color}"/>'


def mark(kind: str, at: Iterable[float], color: str, *, filled: bool = True, said: str = "") -> str:
    """A marker.

    Args:
        kind: one of matplotlib's letters: o, s, ^, v, D, P or x.
        at: x and y [pixels].
        color: its own; what is hollow has it as its edge.
        filled: or white inside.
        said: what is told when it is pointed at; "" for nothing.
    """
    x, y = at
    size = RADIUS
    title = f"<title>{html.escape(said)}</title>" if said else ""
    look = f'fill="{color if filled else "#ffffff"}" stroke="{INK if filled else color}" stroke-width="0.8"'
    if kind == "o":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" {look}>{title}</circle>'
    if kind == "x":
        arms = f"M{x - size:.1f},{y - size:.1f}l{2 * size:g},{2 * size:g}m0,{-2 * size:g}l{-2 * size:g},{2 * size:g}"
        return f'<path d="{arms}" stroke="{color}" stroke-width="2.5" fill="none">{title}</path>'
    corners = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in _OUTLINES[kind])
    return f'<polygon points="{corners}" {look}>{title}</polygon>'


def words(at: Iterable[float], text: str, anchor: str = "start", color: str = INK) -> str:
    """A line of text.

    Args:
        at: x and y of its base line [pixels].
        text: as it is to be read.
        anchor: start, middle or end.
        color: of the text.
    """
    x, y = at
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{html.escape(text)}</text>'
