"""Debian's Chromium, driven by Playwright: what tests in a browser share, and why they are skipped."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
LACKING = [name for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]
LACKING += [] if Path(CHROMIUM).exists() else ["chromium"]
needed = pytest.mark.skipif(
    bool(LACKING), reason=f"not installed here: {', '.join(LACKING)}; Python packages of .[dev], Debian's chromium"
)
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


def watched(context):
    """A tab of a context; what is said on its console and what addresses are asked for, by windows it opens too."""
    found = SimpleNamespace(tab=context.new_page(), said=[], asked=[])
    context.on("console", lambda message: found.said.append(message.text))
    context.on("weberror", lambda error: found.said.append(str(error.error)))
    context.on("request", lambda request: found.asked.append(request.url))
    return found


def schemes(asked):
    """Of addresses: file, data, http, ..."""
    return {urlsplit(address).scheme for address in asked}


def serious_faults(tab, rules=()):
    """What axe finds amiss on a page: rule and the first place, of serious faults.

    Args:
        tab: that shows it.
        rules: to be held to alone, () for all.
    """
    from axe_playwright_python.sync_playwright import Axe

    options = {"preload": False, "resultTypes": ["violations"]} | ({"runOnly": [*rules]} if rules else {})
    result = Axe().run(tab, options=options).response
    assert result["passes"] or result["inapplicable"], "axe looked at nothing"
    return [(one["id"], one["nodes"][0]["html"]) for one in result["violations"] if one["impact"] in SERIOUS]
