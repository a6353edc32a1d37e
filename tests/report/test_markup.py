"""What comes from data is text in notebooks and report, never markup; the report lets no script run."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import nbformat
import numpy as np
import pandas as pd
import pytest

from kdnb import paths
from kdnb.analysis import table_html
from kdnb.core import store
from kdnb.core.device import precision
from kdnb.data import splits as data
from kdnb.experiment import obtain, points
from kdnb.report import notebooks, report
from kdnb.report.notebooks import Step

SCRIPT = "<script>alert(1)</script>"
IMAGE = '<img src=x onerror="alert(2)">'
SAFE = "&lt;script&gt;alert(1)"


class Tags(HTMLParser):
    """The tags of a page and their attributes, as a browser would see them."""

    def __init__(self, page):
        super().__init__()
        self.found, self.attributes = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]


def check_no_markup(page):
    """No script element, no handler, no picture that is not inline."""
    tags = Tags(page)
    assert "script" not in tags.found
    assert not [item for item in tags.attributes if item[1].startswith("on")]
    assert not [item for item in tags.attributes if item[:2] == ("img", "src") and not item[2].startswith("data:")]


def planted_table():
    """Markup in a cell, a list, a column, a row label and the names of both axes."""
    table = pd.DataFrame({"text": [SCRIPT, IMAGE], SCRIPT: [0.25, 1.0], "ids": [[SCRIPT], []]}, index=[IMAGE, "a"])
    table.index.name = table.columns.name = SCRIPT
    return table


@pytest.mark.parametrize(
    "style",
    [
        lambda table: table.style,
        lambda table: table.style.format(precision=3, na_rep="–"),
        lambda table: table.style.format({SCRIPT: "{:.1%}"}).format("{}", subset=["text"]),
        lambda table: table.style.format(lambda value: value, subset=["text"]).set_caption(f"of {IMAGE}"),
        lambda table: table.set_index("text", append=True).style.hide(axis="columns", level=0),
    ],
)
def test_a_styled_table_shows_markup_as_text(style):
    shown = style(planted_table())
    page = table_html.escaped(shown).to_html()
    check_no_markup(page)
    assert SAFE in page
    assert "script" in Tags(shown.to_html()).found + Tags(style(planted_table()).to_html()).found  # pandas alone


def test_an_escaped_table_keeps_numbers_and_formats():
    table = pd.DataFrame({"a < b": [0.25, np.nan], "n": [1000, 2], "t": ["x & y", None]})
    shown = table.style.format({"a < b": "{:.1%}", "n": "{:,}"}, na_rep="–").hide().set_caption("a < b")
    text = re.findall(r"<t[dh][^>]*>([^<]*)</t", table_html.escaped(shown).to_html())
    assert text == ["a &lt; b", "n", "t", "25.0%", "1,000", "x &amp; y", "–", "2", "–"]
    assert shown.data.t[0] == "x & y"  # the table itself is as it was


@pytest.fixture(scope="module")
def executed(kernels, tmp_path_factory):
    """A notebook that shows planted data in every way ours do, executed."""
    folder = tmp_path_factory.mktemp("markup")
    kernel = {"name": "python3", "display_name": "", "language": "python"}
    sources = [
        "import pandas as pd, matplotlib.pyplot as plt\nfrom kdnb.analysis import figures\nfigures.start(profile)",
        f"text = {SCRIPT!r}\ntable = pd.DataFrame({{text: [text, {IMAGE!r}]}}, index=[text, 'a'])\nprint(text)\ntext",
        "table",
        "table.style.format(precision=3).set_caption(text)",
        "display(table.style.hide())",
        "table[text]",
        "figures.save(plt.figure(), 'markup', 'planted', table, text + ' seen', text)",
    ]
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    parameters = nbformat.v4.new_code_cell("profile: str = 'toy'", metadata={"tags": ["parameters"]})
    notebook.cells = [parameters, *map(nbformat.v4.new_code_cell, sources)]
    nbformat.write(notebook, folder / "planted.ipynb")
    return notebooks.run_notebook(folder / "planted.ipynb", folder / "copy.ipynb", {})


def html_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return [o.data["text/html"] for cell in cells for o in cell.get("outputs", []) if "text/html" in o.get("data", {})]


@pytest.mark.slow
def test_an_executed_notebook_holds_markup_of_data_as_text(executed):
    from nbconvert import HTMLExporter

    pages = html_outputs(executed)
    assert len(pages) == 3
    for page in pages:
        check_no_markup(page)
        assert SAFE in page
    page, _ = HTMLExporter(template_name="basic").from_filename(str(executed))
    check_no_markup(page)
    assert page.count(SAFE) >= 6


@pytest.fixture(scope="module")
def page(kernels, executed, tmp_path_factory):
    """The report of a store with a run that was made on a machine with markup for a name, and notebook 00 of it."""
    folder = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDNB_OUTPUTS", str(folder))
        for name, where in {"RUNS": "runs", "EXECUTED": "executed", "REPORT": "report.html"}.items():
            patch.setattr(paths, name, folder / where)
        patch.setattr(paths, "OUTPUTS", folder)
        splits = data.load("rt", "toy")
        wanted = points.compare_points("rt", "toy", splits.fingerprint, (0,), ["erm_small", "ls_small"])
        done = obtain.run_points(wanted, splits)
        whole = done[min(done)]
        cost = {**whole.metrics["cost"], "device": f"cpu {SCRIPT}{IMAGE}"}
        planted = replace(whole, metrics={**whole.metrics, "cost": cost})
        for file in store.folder(whole.run_id).iterdir():
            file.unlink()
        store.folder(whole.run_id).rmdir()
        store.save(planted)
        start = Step("00_start_here", {"task": "rt", "profile": "toy"})
        notebooks.run_notebook(notebooks.notebook_path(start.notebook), start.output, start.parameters)
        foreign = Step("30_kd_vs_ls", start.parameters).output  # stands in for a notebook of the study
        foreign.write_bytes(executed.read_bytes())
        return report.write("toy").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_report_holds_markup_of_data_as_text(page):
    check_no_markup(page)
    assert page.count(SAFE) >= 6


@pytest.mark.slow
def test_a_planted_run_is_shown_as_text(page):
    made = rf"<td>cpu [^<]*&lt;img src=x onerror=[^<]*&gt;, {precision()}</td>"  # where it was
    assert re.search(made, page)


@pytest.mark.slow
def test_the_report_permits_no_script_and_nothing_from_elsewhere(page):
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', page)
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    assert not {"script-src", "script-src-elem", "script-src-attr"} & set(rules)  # default-src stands for them
    assert rules["img-src"] == ["data:"]
    assert page.index("Content-Security-Policy") < page.index("<style>")


@pytest.mark.parametrize("path", sorted(paths.NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_escapes_its_tables_and_makes_no_html_of_its_own(path):
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert any("figures.start(profile)" in source for source in code)
    for source in code:
        assert not re.search(r"\bHTML\(|to_html|escape=|Markdown\(|Javascript", source)
