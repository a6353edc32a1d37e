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


def test_every_route_starts_at_the_first_page():
    lines = [line for line in course.markdown().splitlines() if line.startswith("- **")]
    assert [line.partition(":** ")[2].partition(" ")[0] for line in lines] == [PAGES[START.stem].link] * 3


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


def box_of(name):
    """A leader's box, and the sentences of the page that ask something of the group."""
    texts = [
        "".join(cell["source"]) for cell in cells(paths.NOTEBOOKS / f"{name}.ipynb") if cell["cell_type"] == "markdown"
    ]
    (box,) = [text for text in texts if "<summary>For the one who leads" in text]
    return box, "\n".join(text for text in texts if text != box)


@pytest.mark.parametrize("name", PAGES)
def test_a_box_has_the_answer_the_misunderstanding_and_a_word_on_every_question(name):
    box, page = box_of(name)
    for part in ("The answer in a sentence", "The usual misunderstanding: ", "guesses", " for exercise"):
        assert part in box or (part == " for exercise" and " for the exercise" in box), part
    folded = re.split(r"(?:To discuss|For the group)(?=[,:])", box)
    assert len(folded) == 2, "one paragraph answers the questions"
    listed = re.findall(r"^(\d)\. ", page.partition("### To discuss")[2].partition("\n## ")[0], re.MULTILINE)
    asked = len(listed) + len(re.findall(r"\*\*To discuss:\*\*|^\*For the group:\*", page, re.MULTILINE))
    answers = re.findall(r"(?:^|[ ,])(\d|[Ff]irst|first question|Second|Last): ", folded[1])
    assert len(answers) == asked or (asked == 1 and not answers)


@pytest.fixture(scope="module")
def verdicts():
    """What the committed runs say today to a claim, by its id: a box speaks of the page's default task."""
    from kdnb.analysis import statistics
    from kdnb.analysis.ledger import ledger
    from kdnb.experiment import tables
    from kdnb.studies import registry
    from kdnb.studies.dark_knowledge import born_again
    from kdnb.studies.dark_knowledge.grids import GENERATIONS
    from kdnb.studies.two_effects import runs

    registry.grids()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "paired_bootstrap", lambda *_: statistics.NO_BOOTSTRAP)  # no verdict hangs on it
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", paths.ROOT / "outputs" / "reference" / "runs")
        patch.setattr(paths, "SIMULATIONS_REFERENCE", paths.ROOT / "outputs" / "reference" / "simulations")
        rooms = registry.ledger(tables.study("rt", "cpu"), ("H3", "H4"), {})
        effects = registry.ledger(None, ("H18.1", "H18.2", "H18.7", "H18.8"), runs.evidence("rt", "cpu"))
        born = ledger(registry.chapters(), {GENERATIONS: born_again.study("digits", "cpu")}, ("H11",))
        drawn = registry.simulated_ledger(("H7", "H9", "H10", "H12", "H13", "H14"))
    tables_of = [rows[rows.verdict != "no runs"] for rows in (rooms, effects, born, drawn)]
    return {row.id: row.verdict for rows in tables_of for row in rows.itertuples()}


SAYS = re.compile(r"(H\d+\.\d+[a-z]?) (holds|fails|is undecided)")


@pytest.mark.slow
def test_a_box_says_of_a_claim_what_the_runs_say(verdicts):
    said = {(name, *found) for name in PAGES for found in SAYS.findall(box_of(name)[0])}
    assert len(said) > 20
    amiss = {one for one in said if verdicts[one[1]] != one[2].removeprefix("is ")}
    assert not amiss, "the box has grown old"


def test_a_page_without_a_leader_s_box_is_refused(tmp_path):
    one = shutil.copy(START, tmp_path / "00_x.ipynb")
    notebook = json.loads(one.read_text(encoding="utf-8"))
    notebook["cells"][0]["source"] = ["# 00 · What?\n", "\n", "| Before this page | nothing |\n"]
    notebook["cells"][1]["source"] = ["No box.\n"]
    one.write_text(json.dumps(notebook), encoding="utf-8")
    with pytest.raises(ValueError, match=r"00_x\.ipynb: expected in its first cells .* a leader.s box"):
        course.page(one)
