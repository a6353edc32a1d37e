"""The site in a browser: every link lands, nothing is asked of a network, the console is silent, axe finds no fault."""

from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import chromium
import pytest
from command import last_json

pytestmark = [pytest.mark.slow, chromium.needed]
PAPER = 718  # pixels between the margins of A4 as Chromium prints it


@pytest.fixture(scope="module")
def pages(written):
    """One page of each kind: file in the site."""
    folders = ("notebooks", "runs", "tasks")
    first = [sorted((written.site / folder).iterdir())[0].relative_to(written.site).as_posix() for folder in folders]
    return [*sorted(path.name for path in written.site.glob("*.html")), *first]


@pytest.fixture(scope="module")
def visits(browser, written, pages):
    """What each page asked for, said on the console, links to and names, in a window as wide as a telephone."""
    seen = chromium.watched(browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark"))
    found = {}
    for name in pages:
        seen.said.clear(), seen.asked.clear()
        seen.tab.goto((written.site / name).as_uri())
        facts = seen.tab.evaluate(
            """() => ({
                links: [...document.querySelectorAll('a[href]')].map(a => a.href),
                ids: [...document.querySelectorAll('[id]')].map(e => e.id),
                wide: document.documentElement.scrollWidth,
                paper: getComputedStyle(document.body).backgroundColor,
                pictures: [...document.images].map(image => [image.alt, image.naturalWidth]),
            })"""
        )
        found[name] = {**facts, "said": [*seen.said], "asked": [*seen.asked]}
    seen.tab.close()
    return found


def test_nothing_is_asked_of_a_network_and_the_console_is_silent(visits):
    for name, visit in visits.items():
        assert visit["said"] == [], name
        assert chromium.schemes(visit["asked"]) <= {"file", "data"}, name
        if name != "explorer.html":  # has its own style within
            assert any(address.endswith("/style.css") for address in visit["asked"]), name


def test_every_link_resolves_in_the_file_system(visits, written):
    anchors = {}
    for name, visit in visits.items():
        assert visit["links"], name
        for address in visit["links"]:
            if urlsplit(address).scheme != "file":
                continue
            file, anchor = urldefrag(address)
            path = Path(unquote(urlsplit(file).path))
            assert path.is_file(), (name, address)
            if anchor:
                text = anchors.setdefault(path, path.read_text(encoding="utf-8"))
                assert f'id="{unquote(anchor)}"' in text, (name, address)
        assert len(visit["ids"]) == len(set(visit["ids"])), name


def test_every_page_leads_to_the_explorer_and_that_leads_back(visits, written):
    """The same page as in docs/, with a way back."""
    for name, visit in visits.items():
        to = "index.html" if name == "explorer.html" else "explorer.html"
        assert (written.site / to).as_uri() in visit["links"], name


def test_each_page_fits_a_telephone_and_its_pictures_are_there(visits):
    for name, visit in visits.items():
        assert visit["wide"] == 390, name
        assert all(alt and width for alt, width in visit["pictures"]), name
    assert visits["index.html"]["paper"] != "rgb(255, 255, 255)"  # the style sheet and its dark colors apply


@pytest.mark.parametrize("scheme", chromium.SCHEMES)
def test_axe_finds_no_serious_fault(browser, written, pages, scheme):
    """Every rule in the light scheme; in the dark one what hangs on color."""
    tab = browser.new_context(color_scheme=scheme).new_page()
    for name in pages:
        if name in ("tables.html", "runs.html", "glossary.html", "notebooks.html", "explorer.html"):
            continue  # made of the same parts as the others; the explorer is looked at where it comes from
        if scheme == "dark" and not name.startswith(("ledger", "notebooks/")):
            continue  # these two have every color
        tab.goto((written.site / name).as_uri())
        tab.evaluate("document.querySelectorAll('tbody tr:nth-child(n+4)').forEach(row => row.remove())")  # all alike
        rules = ("color-contrast", "link-in-text-block") if scheme == "dark" else ()
        assert chromium.serious_faults(tab, rules) == [], name
    tab.close()


@pytest.mark.parametrize("scheme", chromium.SCHEMES)
def test_the_page_of_own_data_is_silent_fits_a_telephone_and_has_no_fault(browser, kdnb, tmp_path, scheme):
    path = tmp_path / "a file of many words.csv"
    path.write_text("text,label\n" + "".join(f"word{i} sign{i % 2} {'wide ' * 60},{i % 2}\n" for i in range(60)))
    words = ["compare", "--data", path, "--text", "text", "--label", "label", "--profile", "toy", "--epochs", "1"]
    out = kdnb(*words, "--seeds", "0", "--arms", "erm_small,ls_small,kd_self", "--json")[1]
    for width in (390, 1280):
        seen = chromium.watched(browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme))
        seen.tab.goto(Path(last_json(out)["report"]).as_uri())
        assert seen.tab.evaluate("document.documentElement.scrollWidth") == width
        assert chromium.schemes(seen.asked) <= {"file", "data"}
        assert chromium.serious_faults(seen.tab) == []
        assert seen.said == []
        seen.tab.close()


def test_axe_would_find_one(browser):
    """Grey on grey, and a picture without words."""
    tab = browser.new_page()
    tab.set_content("<html lang=en><title>t</title><p style='color: #999; background: #aaa'>text</p><img src='data:,'>")
    assert {rule for rule, _ in chromium.serious_faults(tab)} == {"color-contrast", "image-alt"}
    tab.close()


def test_on_paper_all_is_unfolded_and_black_on_white_and_nothing_is_cut_off(browser, written, pages):
    """In the dark scheme, in which paper is white all the same; code and the menu are left out."""
    tab = browser.new_context(viewport={"width": PAPER, "height": 1000}, color_scheme="dark").new_page()
    tab.emulate_media(media="print")
    for name in pages:
        if name == "explorer.html":
            continue  # for a screen alone
        tab.goto((written.site / name).as_uri())
        facts = tab.evaluate(
            """() => ({
                colors: [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color],
                wide: document.documentElement.scrollWidth,
                menu: document.querySelector('header nav').checkVisibility(),
                folded: [...document.querySelectorAll('details > :not(summary)')]
                    .filter(part => !part.closest('details.code') && !part.checkVisibility())
                    .map(part => part.outerHTML.slice(0, 200)),
            })"""
        )
        black_on_white = ["rgb(255, 255, 255)", "rgb(27, 31, 36)"]
        assert facts == {"colors": black_on_white, "wide": PAPER, "menu": False, "folded": []}, name
    assert tab.pdf(format="A4").startswith(b"%PDF-")
    tab.close()


def test_the_one_file_is_silent_too(browser, written):
    seen = chromium.watched(browser.new_context())
    seen.tab.goto((written.outputs / "report.html").as_uri())
    assert seen.said == []
    assert chromium.schemes(seen.asked) <= {"file", "data"}
    seen.tab.close()
