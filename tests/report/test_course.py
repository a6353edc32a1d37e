"""The map in notebook 00 is that of the notebooks, and its routes can be walked."""

import json
import re
import shutil
from graphlib import TopologicalSorter

import pytest

from kdnb import paths
from kdnb.report import course

START = paths.NOTEBOOKS / "00_start_here.ipynb"
PAGES = course.pages()


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def test_the_map_in_00_is_the_one_that_is_made():
    (cell,) = (cell for cell in cells(START) if cell["id"] == "map")
    assert "".join(cell["source"]) == course.markdown(), "python -m kdnb.report.course"


def test_the_map_links_every_notebook_and_nothing_else():
    linked = set(re.findall(r"\(([^)]+\.ipynb)\)", course.markdown()))
    assert linked == {path.name for path in paths.NOTEBOOKS.glob("*.ipynb")}


def test_nothing_is_read_before_itself():
    order = list(TopologicalSorter({name: page.before for name, page in PAGES.items()}).static_order())
    assert order[0] == START.stem
    assert set(order) == set(PAGES)
    assert [name for name, page in PAGES.items() if not page.before] == [START.stem]


@pytest.mark.parametrize("route", course.ROUTES)
def test_a_route_reads_first_what_is_to_be_read_first(route):
    read = {START.stem}
    for name in course.ROUTES[route]:
        assert set(PAGES[name].before) <= read, name
        read.add(name)


@pytest.mark.parametrize("name", PAGES)
def test_an_evening_is_as_long_as_its_page_says(name):
    assert 40 <= PAGES[name].minutes <= 50
    opening = "\n".join("".join(cell["source"]) for cell in cells(paths.NOTEBOOKS / f"{name}.ipynb")[:2])
    said = re.search(r"(?:To read: |about )(\d+) minutes(?: to read)?", opening)
    assert not said or int(said[1]) == PAGES[name].minutes


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_its_question_and_what_comes_next(name):
    assert re.fullmatch(rf"{name[:2]} · .+\?", PAGES[name].title)
    opening = "".join(cells(paths.NOTEBOOKS / f"{name}.ipynb")[0]["source"])
    assert re.search(r"^\| Next \| .*\.ipynb\)", opening, re.MULTILINE)
    for row in ("Time", "Hardware"):
        assert f"\n| {row} | " in opening


def test_a_page_without_a_leader_s_box_is_refused(tmp_path):
    one = shutil.copy(START, tmp_path / "00_x.ipynb")
    notebook = json.loads(one.read_text(encoding="utf-8"))
    notebook["cells"][0]["source"] = ["# 00 · What?\n", "\n", "| Before this page | nothing |\n"]
    notebook["cells"][1]["source"] = ["No box.\n"]
    one.write_text(json.dumps(notebook), encoding="utf-8")
    with pytest.raises(ValueError, match=r"00_x\.ipynb: expected in its first cells .* a leader.s box"):
        course.page(one)
