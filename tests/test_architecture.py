"""docs/architecture.md, its picture and CHANGELOG.md: what they name exists, what the picture shows is so."""

import ast
import re
from functools import cache
from xml.etree import ElementTree

import pytest

from kdnb import paths

ROOT, PACKAGE = paths.ROOT, paths.ROOT / "kdnb"
ARCHITECTURE, CONTRIBUTING, CHANGELOG = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("docs/architecture.md", "CONTRIBUTING.md", "CHANGELOG.md")
)
PAGES = {"docs/architecture.md": ARCHITECTURE, "CONTRIBUTING.md": CONTRIBUTING, "CHANGELOG.md": CHANGELOG}
NAMED = sorted(set(re.findall(r"`(kdnb/[\w/]+\.py)(?::([\w.]+))?`", ARCHITECTURE + CONTRIBUTING)))
MOVED = re.findall(r"^\| `(kdnb\.[\w.]+)` \| `(kdnb\.[\w.]+)` \|$", CHANGELOG, re.MULTILINE)
ROOM_ROWS = dict(re.findall(r"^\| `(kdnb/\*\.py|\w+/)` \| (.*?) \|", ARCHITECTURE, re.MULTILINE))
GROUND = "kdnb"  # what lies in no room
PICTURE = ElementTree.parse(ROOT / "docs" / "architecture.svg").getroot()


@cache
def defined(file):
    """Names that a file defines, those inside its classes behind a dot."""
    names = set()
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        names |= own_names(node)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner}" for part in node.body for inner in own_names(part)}
    return names


def own_names(node):
    """Names that one statement binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def file_of(room):
    """The folder of a room as the page spells it."""
    return PACKAGE if room == "kdnb/*.py" else PACKAGE / room


def ranks():
    """The rooms in the order that tests/test_structure.py holds, what lies in none of them first."""
    text = (ROOT / "tests" / "test_structure.py").read_text(encoding="utf-8")
    rooms = ast.literal_eval(re.search(r"^ROOMS = (\[.*?^\])", text, re.MULTILINE | re.DOTALL)[1])
    return [GROUND, *(room for room in rooms if (PACKAGE / room).is_dir())]


def imports():
    """(room, room it imports from), read from the lines of the code."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE).parts
        here = inside[0] if len(inside) > 1 else GROUND
        text = path.read_text(encoding="utf-8")
        names = re.findall(r"^ *(?:from|import) kdnb\.(\w+)", text, re.MULTILINE)
        for listed in re.findall(r"^ *from kdnb import (.+)$", text, re.MULTILINE):
            names += re.findall(r"\w+", listed)
        there = {name if (PACKAGE / name).is_dir() else GROUND for name in names}
        found |= {(here, other) for other in there if other != here}
    return found


def test_enough_is_named():
    assert len(NAMED) > 30
    assert len(MOVED) >= 20


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda value: value or "file")
def test_a_file_and_what_it_is_said_to_define_exist(file, name):
    assert (ROOT / file).is_file()
    assert not name or name in defined(file)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]) if "://" not in link]
    assert links
    assert not [link for link in links if not ((ROOT / page).parent / link).exists()]


def test_make_has_the_targets_that_the_pages_name():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", "".join(PAGES.values()), re.MULTILINE))
    assert {"docs", "lint", "quick", "test"} <= named
    assert named <= targets


def test_make_quick_runs_all_but_the_slow_tests_and_make_test_all():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipes = dict(re.findall(r"^([a-z-]+):[^\n]*\n((?:\t[^\n]*\n)+)", makefile, re.MULTILINE))
    quick, every = (recipes[target].splitlines()[-1].strip() for target in ("quick", "test"))
    assert quick == '$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"'
    assert every == "$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder"


@pytest.mark.parametrize(("before", "now"), MOVED)
def test_what_moved_lies_where_the_changelog_says(before, now):
    module, _, name = now.rpartition(".")
    assert name in defined(f"{module.replace('.', '/')}.py")
    assert not (ROOT / f"{before.rpartition('.')[0].replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("room", ROOM_ROWS)
def test_a_room_holds_the_modules_it_is_said_to_hold(room):
    named = re.findall(r"`(\w+)`", ROOM_ROWS[room])
    assert not [name for name in named if not (file_of(room) / f"{name}.py").is_file()]


def test_every_room_has_a_row_in_rank_order():
    assert [GROUND if room == "kdnb/*.py" else room.rstrip("/") for room in ROOM_ROWS] == ranks()


def test_the_picture_has_the_rooms_in_rank_order():
    boxes = [node for node in PICTURE.iter() if "data-room" in node.attrib]
    assert [box.get("data-room") for box in boxes] == ranks(), "run `make docs`"
    heights = [float(box.find("{*}rect").get("y")) for box in boxes]
    assert heights == sorted(set(heights))


def test_the_picture_has_the_imports_of_the_code():
    arrows = [(node.get("data-from"), node.get("data-to")) for node in PICTURE.iter() if "data-from" in node.attrib]
    assert len(arrows) == len(set(arrows))
    assert set(arrows) == imports(), "run `make docs`"
    assert len(arrows) == len(
        [node for node in PICTURE.findall(".//{*}path") if "import" in node.get("class", "").split()]
    )
