"""The site in a browser: every link lands, nothing is asked of a network, the console is silent, axe finds no fault."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from command import last_json

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
LACKING = [name for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]
LACKING += [] if Path(CHROMIUM).exists() else ["chromium"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(LACKING), reason=f"not installed here: {', '.join(LACKING)}; Python packages of .[dev], Debian's chromium"
    ),
]
SCHEMES = ("light", "dark")
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        started = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(written):
    """One page of each kind: file in the site."""
    folders = ("notebooks", "runs", "tasks")
    first = [sorted((written.site / folder).iterdir())[0].relative_to(written.site).as_posix() for folder in folders]
    return [*sorted(path.name for path in written.site.glob("*.html")), *first]


@pytest.fixture(scope="module")
def visits(browser, written, pages):
    """What each page asked for, said on the console, links to and names, in a window as wide as a telephone."""
    tab = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark").new_page()
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    found = {}
    for name in pages:
        said.clear(), asked.clear()
        tab.goto((written.site / name).as_uri())
        facts = tab.evaluate(
            """() => ({
                links: [...document.querySelectorAll('a[href]')].map(a => a.href),
                ids: [...document.querySelectorAll('[id]')].map(e => e.id),
                wide: document.documentElement.scrollWidth,
                paper: getComputedStyle(document.body).backgroundColor,
                pictures: [...document.images].map(image => [image.alt, image.naturalWidth]),
            })"""
        )
        found[name] = {**facts, "said": [*said], "asked": [*asked]}
    tab.close()
    return found


def test_nothing_is_asked_of_a_network_and_the_console_is_silent(visits):
    for name, visit in visits.items():
        assert visit["said"] == [], name
        assert {urlsplit(address).scheme for address in visit["asked"]} <= {"file", "data"}, name
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


def test_each_page_fits_a_telephone_and_its_pictures_are_there(visits):
    for name, visit in visits.items():
        assert visit["wide"] == 390, name
        assert all(alt and width for alt, width in visit["pictures"]), name
    assert visits["index.html"]["paper"] != "rgb(255, 255, 255)"  # the style sheet and its dark colors apply


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_no_serious_fault(browser, written, pages, scheme):
    """Every rule in the light scheme; in the dark one what hangs on color."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"preload": False, "resultTypes": ["violations"]}
    if scheme == "dark":
        options["runOnly"] = ["color-contrast", "link-in-text-block"]
    tab, axe = browser.new_context(color_scheme=scheme).new_page(), Axe()
    for name in pages:
        if name in ("tables.html", "runs.html", "glossary.html", "notebooks.html"):
            continue  # made of the same parts as the others
        if scheme == "dark" and not name.startswith(("ledger", "notebooks/")):
            continue  # these two have every color
        tab.goto((written.site / name).as_uri())
        tab.evaluate("document.querySelectorAll('tbody tr:nth-child(n+4)').forEach(row => row.remove())")  # all alike
        result = axe.run(tab, options=options).response
        faults = [
            (fault["id"], fault["nodes"][0]["html"]) for fault in result["violations"] if fault["impact"] in SERIOUS
        ]
        assert faults == [], name
        assert result["passes"] or result["inapplicable"], "axe looked at nothing"
    tab.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_of_own_data_is_silent_fits_a_telephone_and_has_no_fault(browser, kdnb, tmp_path, scheme):
    from axe_playwright_python.sync_playwright import Axe

    path = tmp_path / "a file of many words.csv"
    path.write_text("text,label\n" + "".join(f"word{i} sign{i % 2} {'wide ' * 60},{i % 2}\n" for i in range(60)))
    words = ["compare", "--data", path, "--text", "text", "--label", "label", "--profile", "toy", "--epochs", "1"]
    out = kdnb(*words, "--seeds", "0", "--arms", "erm_small,ls_small,kd_self", "--json")[1]
    for width in (390, 1280):
        said, asked = [], []
        tab = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme).new_page()
        tab.on("console", lambda message, said=said: said.append(message.text))
        tab.on("request", lambda request, asked=asked: asked.append(request.url))
        tab.goto(Path(last_json(out)["report"]).as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert {urlsplit(address).scheme for address in asked} <= {"file", "data"}
        result = Axe().run(tab, options={"preload": False, "resultTypes": ["violations"]}).response
        assert [(fault["id"], fault["nodes"][0]["html"]) for fault in result["violations"]] == []
        assert said == []
        tab.close()


def test_axe_would_find_one(browser, written):
    """Grey on grey, and a picture without words."""
    from axe_playwright_python.sync_playwright import Axe

    tab = browser.new_page()
    tab.set_content("<html lang=en><title>t</title><p style='color: #999; background: #aaa'>text</p><img src='data:,'>")
    found = {fault["id"] for fault in Axe().run(tab).response["violations"] if fault["impact"] in SERIOUS}
    assert found == {"color-contrast", "image-alt"}
    tab.close()


def test_the_one_file_is_silent_too(browser, written):
    tab, said, asked = browser.new_page(), [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((written.outputs / "report.html").as_uri())
    assert said == []
    assert {urlsplit(address).scheme for address in asked} <= {"file", "data"}
    tab.close()
