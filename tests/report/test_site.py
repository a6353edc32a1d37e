"""The report as a folder: small first page, numbers that lead to runs and cells, hovers, no half-written folder."""

import re
from html.parser import HTMLParser

import pytest

from kdnb import files, paths
from kdnb.report import contents, executed, glossary, site
from kdnb.report.hypertext import Targets, finished

pytestmark = pytest.mark.slow


def text_of(markup):
    return re.sub(r"<[^>]*>", "", markup)


def test_the_first_page_answers_in_less_than_300_kb(written):
    page = written.page("index.html")
    assert len(page.encode()) < 300_000
    effect = written.ledger.set_index("id").effect["H3.1"]
    assert f"Label smoothing moves it by {effect:+.3f} nats [" in text_of(page)
    assert text_of(page).index("moves it by") < text_of(page).index("What lies where")


def test_every_number_of_a_table_leads_to_a_run_and_the_table_to_its_cell(written):
    page = written.page("tasks/rt.html")
    table = re.search(r"<caption>Test entropy .*?</table>", page, re.DOTALL).group()
    rows = re.findall(r"<tr><td>.*?</tr>", table, re.DOTALL)
    assert len(rows) == 4
    for row in rows:
        (address, ours) = re.search(r'<td class="number"><a href="\.\./runs/([^"]+)\.html">([\d.]+)</a>', row).groups()
        of = written.study.table[written.study.table.run_id == address]
        arm = written.study.table[written.study.table.arm == of.arm.iloc[0]]
        assert ours == f"{arm.entropy.mean():.3f}"
        assert re.findall(r'title="([^"]+)"', row)[-2:] == arm.run_id.tolist()
    made = re.search(r'Made in <a href="\.\./notebooks/(10_[^"#]+\.html)#([^"]+)">notebook 10_\w+, cell table<', page)
    assert f'id="{made[2]}"' in written.page(f"notebooks/{made[1]}")


def test_a_claim_leads_to_the_cell_that_tells_of_it(written):
    row = re.search(r'<tr id="rt-H3\.1">.*?</tr>', written.page("tasks/rt.html"), re.DOTALL).group()
    assert re.search(r'href="\.\./notebooks/10_[^"#]+\.html#10_[^"]+-claims"[^>]*>10</a></td></tr>$', row)
    ledger = written.page("ledger.html")
    assert 'href="tasks/rt.html#rt-H3.1"' in ledger
    effect = written.ledger.set_index("id").effect["H3.1"]
    assert f">{effect:+.3f} nats</a>" in ledger


def test_a_runs_page_has_what_made_it(written):
    run = written.study.run("ls_small", 0)
    run_id = run.run_id
    page = written.page(f"runs/{run_id}.html")
    text = text_of(page)
    assert "commit</th><td>abc1234" in page
    for field in ("lr", "epochs", "batch_size"):
        assert f"<th>{field}</th><td>{getattr(run.config, field)}</td>" in page
    for split in run.logits:
        assert f"{run.metrics[split]['entropy']:.3f}" in text
    assert 'href="../tasks/rt.html#rt-H3.1">claim H3.1 on rt: ' in page
    assert "tables of rt: LS small" in text
    named = written.page(f"runs/{next(iter(written.study.runs))}.html")
    assert re.search(r'href="\.\./notebooks/10_[^"]+-made">notebook 10_entropy_of_targets, cell made<', named)
    assert re.search(r"from 0\.600 at step 0 to 0\.450 at step 3", text)


def test_a_notebook_is_read_without_running_it(written):
    (name,) = (path.name for path in (written.site / "notebooks").iterdir())
    page = written.page(f"notebooks/{name}")
    assert page.count("<h1>") == 1
    assert "<mfrac>" in page
    assert "<code>$HOME</code>" in page
    assert '<span title="not in this report">30</span>' in page  # nobody executed it
    assert f'href="../notebooks/{name}">the page itself</a>' in page
    assert 'href="../glossary.html">glossary</a>' in page
    assert "kdnb run 10_entropy_of_targets -p profile=toy" in page
    for hidden in ("the worked answer", "print(run_id)"):
        before = page[: page.index(hidden.partition("(")[0])]
        assert before.count("<details") - before.count("</details>") >= 1, hidden


class Hovers(HTMLParser):
    """The words of a page's hovers, and the text in which none may stand."""

    def __init__(self, page):
        super().__init__()
        self.open, self.words, self.quiet = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "img", "br", "input"):
            self.open.append(tag)
        if tag == "abbr":
            self.words.append((dict(attrs)["title"], [*self.open]))

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass


@pytest.mark.parametrize("name", ["index.html", "ledger.html", "tables.html", "tasks/rt.html"])
def test_a_terms_first_mention_has_its_meaning_and_no_other(written, name):
    hovers = Hovers(written.page(name)).words
    titles = [title for title, _ in hovers]
    assert titles
    assert len(titles) == len(set(titles))
    assert set(titles) <= {f"{term.term}: {term.meaning}" for term in glossary.terms()}
    assert all(not {"code", "pre", "h1", "h2", "th", "nav"} & set(inside) for _, inside in hovers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("LS and label smoothing, KD", ["LS", "label smoothing", "KD"]),
        ("Run it: a run is stored", ["run"]),
        ("standard deviation, deviation", ["deviation"]),
        ("ls of LSTM, KDs, students' seeds", ["KDs", "students", "seeds"]),
        ("word-level KD", ["word-level KD"]),
    ],
)
def test_mentions_are_whole_words_and_nouns(text, words):
    assert [text[start:end] for start, end, _ in glossary.mentions(text)] == words


def test_a_page_without_terms_or_runs_stays_as_it_is_but_for_what_scrolls():
    page = "<!doctype html><p class=x>a &lt; b &#60; c &amp; d<br/><b>x</b><!-- note --><style>a > b{}</style>"
    assert finished(page, Targets()) == page
    assert finished("<table><tr><td>1</table>", Targets()).startswith('<div class="scroll" role="group" tabindex="0"')
    assert finished('<img src="data:,">', Targets()).count("alt=") == 1


def test_markup_in_a_run_stays_text(written):
    """A name of a run that is none, a term inside of an attribute: neither becomes a link."""
    page = '<p title="the entropy of rt-erm-small-s0-0123456789ab">rt-erm-small-s0-0123456789ab &lt;b&gt;</p>'
    assert finished(page, Targets({"rt-erm-small-s0-0123456789ac": "x"})) == page
    linked = finished(page, Targets({"rt-erm-small-s0-0123456789ab": 'x"y'}))
    assert '<a href="x&quot;y">rt-erm-small-s0-0123456789ab</a> &lt;b&gt;' in linked


def test_the_cell_that_prints_most_of_the_numbers_is_named():
    def page(name, task, **shows):
        given = {"task": task} if task else {}
        return executed.Executed(
            name=name, notebook=name, parameters=given, title="", seconds=None, body="", shows=shows
        )

    pages = [page("a", "mrpc", x="0.312 0.418 0.500"), page("b", "", y="0.312 and 0.4180"), page("c", "rt", z="0.312")]
    assert executed.printing(pages, ["0.312", "0.418", "0.500"], "mrpc").anchor == "a-x"
    assert executed.printing(pages, ["0.312", "0.418"], "rt").anchor == "c-z"
    assert executed.printing(pages, ["0.312", "0.418", "0.7"], "headline") is None  # one of three
    assert executed.naming([page("a", "rt", x="H3.1" + "0 " + "1H3.1", y="(H3.1)")], "H3.1", "rt").anchor == "a-y"
    assert executed.naming([page("a", "rt", x="H3.1" + "a")], "H3.1", "rt") is None


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "site"
    files.write_folder(folder, lambda new: (new / "a").write_text("1"))
    files.write_folder(folder, lambda new: (new / "b").write_text("2"))
    assert [path.name for path in folder.iterdir()] == ["b"]

    def fails(new):
        (new / "c").write_text("3")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        files.write_folder(folder, fails)
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert [path.name for path in folder.iterdir()] == ["b"]


def test_without_runs_no_folder_is_written(store):
    from kdnb.errors import NoRuns
    from kdnb.report import report

    with pytest.raises(NoRuns):
        report.write("demo")
    assert not paths.SITE.exists()


def test_a_record_that_is_no_classification_run_has_its_page_too(store):
    """What a drawn claim rests on: named on the ledger, in the list of runs, and told on a page that leads back."""
    name = "missingdigit-0123456789ab"
    row = {"id": "H11.1", "statement": "a claim", "run_ids": [name], "effect": "+1.0 points", "verdict": "holds"}
    record = {
        "config": {"kind": "missingdigit", "tau": 20.0},
        "metrics": {"rows": [903, 894], "cost": {"seconds": 9.6}},
    }
    nothing = {"between": [], "own": [], "studies": [], "notebooks": [], "notes": {}, "runs": {}}
    told = contents.Contents(profile="toy", lead={}, drawn=[row], records={name: record}, **nothing)
    site.write(told)
    assert f'href="runs/{name}.html">+1.0 points</a>' in (paths.SITE / "ledger.html").read_text(encoding="utf-8")
    assert f'href="runs/{name}.html">{name}</a>' in (paths.SITE / "runs.html").read_text(encoding="utf-8")
    page = (paths.SITE / "runs" / f"{name}.html").read_text(encoding="utf-8")
    assert "<th>rows</th><td>903, 894</td>" in page
    assert "<th>tau</th><td>20</td>" in page
    assert 'href="../ledger.html#drawn-H11.1">claim H11.1: a claim</a>' in page


def test_a_record_that_is_gone_is_no_link(store):
    assert contents._records({"missingdigit-0123456789ab"}) == {}
