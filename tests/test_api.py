"""docs/api.md is what the code says: made anew it is the same, and what it tells of a function is true of it."""

import importlib
import inspect
import re
import sys

import pytest

from kdnb import paths

DOCS = paths.ROOT / "docs"
PAGE = (DOCS / "api.md").read_text(encoding="utf-8")
READ = ("core.store.write", "experiment.tables.curve_entropy", "analysis.statistics.interval", "files.write_atomically")


@pytest.fixture(scope="module")
def write_api():
    """The script that makes the page, as `make docs` finds what it shares with the other."""
    sys.path.insert(0, str(DOCS))
    try:
        yield importlib.import_module("write_api")
    finally:
        sys.path.remove(str(DOCS))


@pytest.mark.slow
def test_the_page_is_what_make_docs_makes(write_api):
    assert write_api.page() == PAGE, "run `make docs` and commit docs/api.md"


def test_it_is_made_without_importing_what_it_tells_of():
    for name in ("write_api", "draw_architecture"):
        text = (DOCS / f"{name}.py").read_text(encoding="utf-8")
        brought = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
        assert brought <= set(sys.stdlib_module_names) | {"draw_architecture"}


@pytest.mark.parametrize("name", READ)
def test_a_function_is_told_as_python_has_it(name):
    module, _, function = name.rpartition(".")
    told = re.search(rf"^### kdnb\.{re.escape(module)}\n(.*?)(?=^### )", PAGE, re.MULTILINE | re.DOTALL)[1]
    call = re.search(rf"^#### {function}\n\n```python\n(.*?)\n```", told, re.MULTILINE | re.DOTALL)[1]
    space = {}
    exec(f"from __future__ import annotations\ndef {call}: ...", {}, space)
    wanted = inspect.signature(getattr(importlib.import_module(f"kdnb.{module}"), function)).parameters.values()
    found = inspect.signature(space[function]).parameters.values()
    assert [(one.name, one.kind, one.default) for one in found] == [(one.name, one.kind, one.default) for one in wanted]


def test_every_module_and_link_is_there(write_api):
    headings = re.findall(r"^#{1,4} (.+)$", PAGE, re.MULTILINE)
    anchors = {write_api.anchor(heading) for heading in headings}
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert link in anchors if link.startswith("#") else (DOCS / link).exists(), link
    told = {heading.removeprefix("kdnb.") for heading in headings if heading.startswith("kdnb.")}
    for room in ("core", "data", "models", "experiment", "analysis", "sweeps"):
        files = {f"{room}.{path.stem}" for path in (paths.ROOT / "kdnb" / room).glob("[a-z]*.py")}
        assert files <= told


def test_a_docstring_becomes_lists_formulas_and_prose(write_api):
    docstring = """Mean loss [nats].

    H(p)   (a formula)

A sum * over_all <classes>, `a*b` as it is.

Args:
    logits: (N, K), long
        enough for two lines.
    labels: (N,).
Returns:
    A scalar.
Raises:
    ValueError: no."""
    assert "\n".join(write_api.told(docstring)).splitlines() == [
        "Mean loss [nats].",
        "",
        "```text",
        "H(p)   (a formula)",
        "```",
        "",
        r"A sum \* over_all \<classes>, `a*b` as it is.",
        "",
        "*Args*",
        "",
        "- `logits`: (N, K), long enough for two lines.",
        "- `labels`: (N,).",
        "",
        "*Returns* A scalar.",
        "",
        "*Raises* `ValueError`: no.",
    ]


def test_notebooks_are_named_by_what_their_code_uses(write_api):
    code = (
        "from kdnb.core import losses\nfrom kdnb.core.entropy import posterior as p\nlosses.kd_loss(p(z))\nother.kd()"
    )
    assert set(write_api.names_used(code)) == {"core.losses", "core.losses.kd_loss", "core.entropy.posterior"}
