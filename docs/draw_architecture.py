"""Draws docs/architecture.svg from the code: the rooms in rank order, and which of them imports from which.

`make docs` runs it. It reads the imports with ast and needs nothing but Python; the same code gives the same bytes.
Ranks are those that tests/test_structure.py holds.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kdnb"
RANKS = ROOT / "tests" / "test_structure.py"
PICTURE = ROOT / "docs" / "architecture.svg"
GROUND = "kdnb"  # the modules that lie in no room

ACROSS, DOWN = 106, 66  # from one room to the next [pixels]
WIDTH, HEIGHT = 184, 46  # of a room
INDENT, MARGIN = 26, 8  # where lines meet a room, the picture's edge
STYLE = """
  text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; font-size: 13px; fill: #1b1f24; }
  .name { font-size: 16px; font-weight: 600; }
  .room rect, .legend rect { fill: #e3eefa; stroke: #4878b0; stroke-width: 1.5; }
  .legend rect { fill: #f3f4f6; stroke: #7d8590; }
  path.import { fill: none; stroke: #7d8590; stroke-width: 1.3; marker-end: url(#head); }
  path.upward { stroke: #d1422f; stroke-width: 2; }
  .import circle { fill: #3b6ea8; }
  .upward circle { fill: #d1422f; }
  .import text { fill: #ffffff; font-size: 12px; font-weight: 600; text-anchor: middle; }
"""


def ranks() -> list[str]:
    """The rooms from the top: the modules that lie in none as one, then the folders."""
    for node in ast.parse(RANKS.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOMS":
            return [GROUND, *(name for name in ast.literal_eval(node.value) if (PACKAGE / name).is_dir())]
    raise LookupError(f"{RANKS} assigns no ROOMS")


def modules() -> dict[str, Path]:
    """Dotted name below kdnb -> file, the `__init__.py` left out: they hold a docstring alone."""
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in files}


def room(module: str) -> str:
    """The room of a module, by its dotted name."""
    return module.split(".")[0] if "." in module else GROUND


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of kdnb that a file imports, inside its functions too; some of them more than once."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [name for alias in node.names for name in (node.module or "", f"{node.module}.{alias.name}")]
        else:
            continue
        yield from (name.removeprefix("kdnb.") for name in names if name.removeprefix("kdnb.") in known)


def imports() -> Counter[tuple[str, str]]:
    """(room, room it imports from) -> pairs of modules."""
    known = modules()
    pairs = {(module, other) for module, path in known.items() for other in imported(path, known)}
    return Counter((room(a), room(b)) for a, b in pairs if room(a) != room(b))


def place(rank: int) -> tuple[int, int]:
    """Upper left corner of a room."""
    return MARGIN + rank * ACROSS, MARGIN + rank * DOWN


def drawn_room(name: str, rank: int) -> str:
    """A box with the room's name and size."""
    x, y = place(rank)
    inside = {module: path for module, path in modules().items() if room(module) == name}
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in inside.values())
    title = "kdnb/*.py" if name == GROUND else f"{name}/"
    words = f"{len(inside)} modules, {lines:,} lines"
    return (
        f'<g class="room" data-room="{name}"><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text class="name" x="{x + 12}" y="{y + 20}">{title}</text>'
        f'<text x="{x + 12}" y="{y + 38}">{words}</text></g>'
    )


def drawn_import(importer: str, other: str, count: int, order: list[str]) -> tuple[str, str]:
    """An arrow along the importer's row and the other room's column, and its count where they meet."""
    row, column = order.index(importer), order.index(other)
    upward = column > row
    x, y = place(row)
    to_x, to_y = place(column)
    middle, at = y + HEIGHT // 2, to_x + (WIDTH - INDENT if upward else INDENT)
    start, end = (x + WIDTH, to_y - 2) if upward else (x, to_y + HEIGHT + 2)
    kind = "import upward" if upward else "import"
    return (
        f'<path class="{kind}" d="M{start},{middle} H{at} V{end}"/>',
        f'<g class="{kind}" data-from="{importer}" data-to="{other}">'
        f"<title>{importer} imports from {other}: {count} pairs of modules</title>"
        f'<circle cx="{at}" cy="{middle}" r="12"/><text x="{at}" y="{middle + 4}">{count}</text></g>',
    )


def legend(order: list[str]) -> str:
    """What the numbers mean, in the corner that stays empty."""
    words = (
        "A room imports only from rooms above it.",
        "A number counts the pairs of modules by which the room",
        "to its right imports from the room at the end of its arrow.",
        "An arrow that led down would be red, above the diagonal.",
    )
    width = 400
    x, y = place(len(order) - 1)[0] + WIDTH - width, MARGIN
    lines = [f'<text x="{x + 14}" y="{y + 24 + 20 * i}">{line}</text>' for i, line in enumerate(words)]
    box = f'<rect x="{x}" y="{y}" width="{width}" height="{20 * len(words) + 18}" rx="6"/>'
    return f'<g class="legend">{box}{"".join(lines)}</g>'


def picture() -> str:
    """The SVG."""
    order, counts = ranks(), imports()
    right, bottom = place(len(order) - 1)
    width, height = right + WIDTH + MARGIN, bottom + HEIGHT + MARGIN
    pairs = sorted(counts, key=lambda pair: (order.index(pair[0]), order.index(pair[1])))
    arrows, numbers = zip(*(drawn_import(*pair, counts[pair], order) for pair in pairs), strict=True)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-labelledby="title about">',
        '<title id="title">The rooms of kdnb and their imports</title>',
        '<desc id="about">Boxes on a diagonal, a room each, in rank order; arrows lead from a room to those it '
        "imports from. Drawn by docs/draw_architecture.py.</desc>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" style="fill:#7d8590;stroke:none"/></marker></defs>',
        legend(order),
        *arrows,
        *numbers,
        *(drawn_room(name, rank) for rank, name in enumerate(order)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))
