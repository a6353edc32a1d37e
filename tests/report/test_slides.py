"""Decks and handouts: what a slide shows, what is left out, and nothing that asks a network."""

import base64
import io
import json
import re
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import chromium
import nbformat
import pytest

from kdnb import paths
from kdnb.data import assets
from kdnb.errors import MissingAsset
from kdnb.report import slides

TYPES = {"slide", "subslide", "fragment", "notes", "skip", "-"}
IN_DECKS = [name for deck in slides.DECKS.values() for name in deck.notebooks]
SOLUTION = "the answer is 42"


def markdown(source, kind):
    return nbformat.v4.new_markdown_cell(source, metadata={"slideshow": {"slide_type": kind}})


def code(kind, *outputs):
    return nbformat.v4.new_code_cell(
        "spoken = 'source'", metadata={"slideshow": {"slide_type": kind}}, outputs=list(outputs)
    )


def output(**data):
    return nbformat.v4.new_output("display_data", data={name.replace("_", "/"): one for name, one in data.items()})


TOY = nbformat.v4.new_notebook(
    cells=[
        markdown("# 99 · Why?\n\nA question with $\\alpha$. See [10](10_entropy_of_targets.ipynb).", "slide"),
        markdown(f"{slides.LEADER} the evening</summary>\n\nAsk first.\n\n</details>", "notes"),
        markdown("## Result\n\nFirst paragraph.\n\n$$H = 0$$\n\nSaid aloud.\n\n**Bold.** A lead. More of it.", "slide"),
        code("-", output(image_png="iVBORw0KGgo=", text_plain="<Image>")),
        code("subslide", output(text_plain="Guess 1 sign: no guess yet. Here: below (n = 3).")),
        code("-", output(**{"application/vnd.jupyter.widget-view+json": "{}"})),
        markdown(SOLUTION, "skip"),
    ]
)


class Asked(HTMLParser):
    """Every address that a page asks for by itself, and its visible text by the class of the nearest aside."""

    def __init__(self, page):
        super().__init__()
        self.addresses, self.aside, self.text, self.silent = [], "", {"": "", "notes": ""}, False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        of = dict(attrs)
        self.addresses += [of[name] for name in ("src", "href") if name in of and tag != "a"]
        self.aside = "notes" if tag == "aside" else self.aside
        self.silent = tag in ("style", "script")

    def handle_endtag(self, tag):
        self.aside = "" if tag == "aside" else self.aside
        self.silent = False

    def handle_data(self, data):
        if self.silent:
            self.addresses += re.findall(r"(?:url\(|@import|from|require\()\s*[\"']?([^\"')\s]+)", data)
        else:
            self.text[self.aside] += data


@pytest.fixture(scope="module")
def deck():
    return slides.slides("Toy & deck", [TOY])


@pytest.mark.slow
def test_a_deck_asks_for_reveal_js_beside_it_and_nothing_else(deck):
    asked = [address for address in Asked(deck).addresses if not address.startswith("data:")]
    assert {address.removeprefix("reveal.js/") for address in asked} == set(slides.SERVED) - {"LICENSE"}
    assert not re.search(r"<script[^>]+https?:|<link[^>]+https?:|cdnjs|unpkg", deck)


@pytest.mark.slow
def test_a_slide_shows_the_short_of_it_and_the_notes_have_the_rest(deck):
    read = Asked(deck)
    shown, said = read.text[""], read.text["notes"]
    for words in ("Why?", "A question", "First paragraph.", "Bold. A lead.", "1 sign: below (n = 3)."):
        assert words in shown
    for words in ("Said aloud.", "More of it.", "Ask first."):
        assert words in said
        assert words not in shown
    assert SOLUTION not in deck
    assert "spoken" not in deck  # the code
    assert deck.count("<math") >= 2
    assert "10_entropy_of_targets.ipynb" not in deck
    assert deck.count("data:image/png;base64,iVBORw0KGgo=") == 1
    assert len(re.findall(r"<section\b", deck)) == 2 + 3  # two slides, of one and of two pages
    assert "<title>Toy &amp; deck</title>" in deck


@pytest.mark.slow
def test_a_handout_has_every_text_and_no_answer_of_the_leader_s():
    page = slides.handout(slides.Deck("Toy", ()), [TOY])
    text = Asked(page).text[""]
    for words in ("First paragraph.", "Said aloud.", "More of it."):
        assert words in text
    assert "Ask first." not in page
    assert SOLUTION not in page
    assert "<script" not in page
    assert "@media print" in page


def test_reveal_js_is_put_beside_the_decks(tmp_path, monkeypatch):
    for name in (*slides.SERVED, "dist/theme/black.css"):
        (tmp_path / "asset" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "asset" / name).write_text(name, encoding="utf-8")
    monkeypatch.setattr(assets, "asset", lambda name: tmp_path / "asset")
    monkeypatch.setattr(paths, "SLIDES", tmp_path / "slides")
    folder = slides.serve()
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == set(slides.SERVED)


def test_an_unknown_deck_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "SLIDES", tmp_path / "slides")
    with pytest.raises(ValueError, match="unknown deck 'deviation'; did you mean 'deviations'"):
        slides.build(["two_things", "deviation"])
    assert not (tmp_path / "slides").exists()


@pytest.mark.parametrize("name", IN_DECKS)
def test_every_cell_of_a_deck_has_its_place(name):
    """The title begins, the leader's box is spoken, solutions and "More" are left out, the main figures are in."""
    cells = json.loads((paths.NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    kinds = [cell["metadata"].get("slideshow", {}).get("slide_type") for cell in cells]
    assert set(kinds) <= TYPES
    assert kinds[:2] == ["slide", "notes"]
    late = False
    for cell, kind in zip(cells, kinds, strict=True):
        source = "".join(cell["source"])
        late = late or source.startswith(("## More", "## Solutions"))
        if late or "solution" in cell["metadata"].get("tags", []):
            assert kind == "skip"
        elif cell["cell_type"] == "code" and re.search(r"^(picture = )?figures\.save\(", source, re.MULTILINE):
            assert kind != "skip", source


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing of what it serves."""

    def log_message(self, *_):
        pass


@pytest.fixture
def address(deck, tmp_path, monkeypatch):
    """Where the toy deck is served, reveal.js beside it."""
    try:
        assets.asset("reveal.js")
    except MissingAsset as error:
        pytest.skip(f"reveal.js is not here: {error}")
    monkeypatch.setattr(paths, "SLIDES", tmp_path)
    slides.serve()
    (tmp_path / "toy.html").write_text(deck, encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


OVERFLOWING = """() => {
    const slide = Reveal.getCurrentSlide(), box = slide.getBoundingClientRect();
    const parts = [...slide.querySelectorAll('*')].filter(one => !one.closest('aside') && one.checkVisibility());
    const hangs = part => {
        const own = part.getBoundingClientRect();
        return own.width * own.height > 0 && (own.bottom > box.bottom + 1 || own.right > box.right + 1);
    };
    const cut = part => part.scrollHeight > part.clientHeight + 1 && getComputedStyle(part).overflowY !== 'visible';
    return [slide, ...parts].filter(part => hangs(part) || cut(part)).map(part => part.outerHTML.slice(0, 120));
}"""


def with_pictures(name):
    """A notebook of a deck that nobody executed: a tall picture wherever it saves a figure, no other output."""
    from PIL import Image

    picture = io.BytesIO()
    Image.new("1", (1000, 1000)).save(picture, "png")
    read = nbformat.read(paths.NOTEBOOKS / f"{name}.ipynb", as_version=4)
    for cell in read.cells:
        if cell.cell_type == "code" and "figures.save(" in cell.source:
            cell.outputs = [output(image_png=base64.b64encode(picture.getvalue()).decode())]
    return read


def overflowing(tab, address, name):
    """Slide number -> what hangs out of it, or is cut off by its frame, at 1280 by 720."""
    tab.goto(f"{address}{name}.html")
    tab.wait_for_function("window.Reveal?.isReady()")
    found = {}
    for number in range(1, tab.evaluate("Reveal.getTotalSlides()") + 1):
        if amiss := tab.evaluate(OVERFLOWING):
            found[number] = amiss
        tab.evaluate("Reveal.next()")
    return found


@pytest.mark.slow
@chromium.needed
def test_no_text_and_no_figure_hangs_out_of_its_slide(browser, address):
    tab = browser.new_page(viewport={"width": 1280, "height": 720})
    for name, deck in slides.DECKS.items():
        page = slides.slides(deck.title, [with_pictures(one) for one in deck.notebooks])
        (paths.SLIDES / f"{name}.html").write_text(page, encoding="utf-8")
        assert overflowing(tab, address, name) == {}, name
    long = markdown("## Too much\n\n" + "- a line\n" * 40, "slide")
    (paths.SLIDES / "long.html").write_text(slides.slides("Long", [nbformat.v4.new_notebook(cells=[long])]))
    assert overflowing(tab, address, "long")
    tab.close()


@pytest.mark.slow
@chromium.needed
def test_a_deck_advances_by_key_and_its_speaker_s_window_with_it(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    context.set_default_timeout(20_000)
    seen = chromium.watched(context)
    seen.tab.goto(f"{address}toy.html")
    shown = seen.tab.locator(".slides section.present:not(.stack)")
    shown.get_by_role("heading", name="Why?").wait_for()
    with context.expect_page() as opened:
        seen.tab.keyboard.press("s")
    notes = opened.value
    notes.get_by_text("Ask first.").wait_for()
    assert not seen.tab.get_by_text("Ask first.").is_visible()  # nor does the audience read them

    for key, words in (
        ("ArrowRight", "First paragraph."),
        ("PageDown", "1 sign: below (n = 3)."),  # of a presenter's remote control
        ("PageUp", "First paragraph."),
        ("Space", "1 sign: below (n = 3)."),
    ):
        seen.tab.keyboard.press(key)
        shown.get_by_text(words).wait_for()
    seen.tab.keyboard.press("ArrowUp")
    notes.get_by_text("Said aloud.").wait_for()
    context.close()
    assert seen.said == []
    assert {one for one in seen.asked if not one.startswith((address, "data:", "about:", "blob:"))} == set()
