"""The report: one file, no network, every link lands, formulas are MathML."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdnb import paths
from kdnb.experiment import tables
from kdnb.report import contents, report


@pytest.fixture(scope="module")
def page(written):
    return written.one_file


@pytest.mark.slow
def test_nothing_is_fetched(page):
    assert "<script" not in page
    assert "<link" not in page
    assert not re.findall(r'(?:src|srcset|poster|action)="(?!data:)', page)
    assert "@import" not in page
    assert "url(" not in page


@pytest.mark.slow
def test_every_link_inside_the_page_lands(page):
    ids = set(re.findall(r'\sid="([^"]+)"', page))
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links - ids == set()
    assert {link for link in links if link.startswith("rt-")}


@pytest.mark.slow
def test_every_run_of_the_study_stands_in_the_appendix(page, written):
    assert len(written.study.runs) == 8
    for run_id in written.study.runs:
        assert f'<tr id="{run_id}">' in page


@pytest.mark.slow
def test_the_first_page_answers_and_says_what_is_not_shown(page, written):
    """A sentence for each deciding claim, from the stored logits; claims stated before stand apart from others."""
    answer = text_of(re.search(r'<h2 id="answer">.*?</section>', page, re.DOTALL).group())
    ledger = written.ledger.set_index("id")
    assert f"Label smoothing moves it by {ledger.effect['H3.1']:+.3f} nats [" in answer
    assert f"(NLL {ledger.nll['H3.1']:+.3f} [" in answer
    assert "main effects of the two by two" in answer
    assert "Not shown" in answer
    stated, explored = (re.search(rf"<caption>{words}.*?</table>", page, re.DOTALL).group() for words in CAPTIONS)
    assert "<td>H3.1</td>" in stated
    assert "<td>H3.1</td>" not in explored
    assert "<td>H15.2a</td>" in explored


CAPTIONS = ("Claims stated before the runs", "Exploratory")


def text_of(markup):
    """What a reader sees of it."""
    return re.sub(r"<[^>]*>", "", markup).strip()


def stored(written, run_id):
    """Method and student of a run with its mean test entropy [nats] and accuracy, by numpy alone."""
    folder = written.outputs / "runs" / run_id
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    labels_of = written.outputs / "labels" / f"{config['data']}.npz"
    with np.load(folder / "arrays.npz") as arrays, np.load(labels_of) as labels:
        logits, labels = arrays["test"].astype(float), labels["test"]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    entropy = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(axis=1).mean()
    return config["method"], config["student"], {"entropy": entropy, "accuracy": (p.argmax(axis=1) == labels).mean()}


def cells_of(row):
    """The cells of a row as (markup, text)."""
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)
    return [(cell, text_of(cell)) for cell in cells]


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "scale", "digits"), [("entropy", 1, 3), ("accuracy", 100, 1)])
def test_the_tables_have_the_means_and_sds_of_the_stored_logits(page, written, metric, scale, digits):
    table = re.search(rf"<caption>Test {metric} .*?</table>", page, re.DOTALL).group()
    rows = [cells_of(row) for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)[1:]]
    assert len(rows) >= 4
    count = written.study.table.name.value_counts()
    for (_, name), (mean, shown), (_, sd), *_, (links, _) in rows:
        ids = re.findall(r'title="([^"]+)"', links)
        values = [scale * stored(written, run_id)[2][metric] for run_id in ids]
        rounding = 0.51 * 10**-digits
        assert len(ids) == count[name] >= 2, name
        assert float(shown) == pytest.approx(np.mean(values), abs=rounding), name
        assert float(sd) == pytest.approx(np.std(values, ddof=1), abs=rounding), name
        assert f'href="#{ids[0]}"' in mean


@pytest.mark.slow
def test_the_ledger_has_the_effects_of_the_stored_logits(page, written):
    """Paired differences by seed and their t intervals, of two claims about entropy on the small model."""
    for claim, method in {"H3.1": "ls", "H3.2": "kd"}.items():
        cells = cells_of(re.search(rf'<tr id="rt-{re.escape(claim)}">.*?</tr>', page, re.DOTALL).group())
        by_method = {"erm": [], method: []}
        for run_id in re.findall(r'title="([^"]+)"', cells[11][0]):
            found, student, values = stored(written, run_id)
            if student == "small":
                by_method[found].append(values["entropy"])
        differences = np.subtract(by_method[method], by_method["erm"])
        assert differences.shape == (2,)
        interval = stats.t.interval(0.95, 1, differences.mean(), stats.sem(differences))
        numbers = [float(number) for cell in (4, 5) for number in re.findall(r"[+-]?\d+\.\d+", cells[cell][1])]
        assert numbers == pytest.approx([differences.mean(), *interval], abs=6e-4)
        assert cells[7][1] == "2"


@pytest.mark.slow
def test_the_ledger_stands_in_the_page(page, written):
    """Every claim with runs has its row, with the bootstrap beside the seed interval; the others are named."""
    for row in written.ledger.itertuples():
        if row.verdict == "no runs":
            assert re.search(rf"No runs at this profile for [^<]*{re.escape(row.id)}", page)
            continue
        whole = re.search(rf'<tr id="rt-{re.escape(row.id)}">.*?</tr>', page, re.DOTALL).group()
        cells = [text for _, text in cells_of(whole)]
        assert cells[3] == row.published
        assert f'class="verdict {row.verdict}"' in whole
        assert cells[2].startswith(row.verdict)
        interval, star = r"\[[+-]\d+\.\d+, [+-]\d+\.\d+\]", r"\*" * (row.bootstrap == "percentile")
        assert re.fullmatch("–" if row.bootstrap == "none" else interval + star, cells[9]), row.id
    assert "exact" in re.search(r'<tr id="rt-H1.1">.*?</tr>', page, re.DOTALL).group()


@pytest.mark.slow
def test_degenerate_runs_are_counted_in_the_page(page, written):
    table = written.study.table
    nothing = table[table.degenerate].run_id
    told = f"{len(nothing)} of {len(table)} runs learnt nothing" if len(nothing) else f"None of the {len(table)} runs"
    assert told in text_of(page)


@pytest.mark.slow
def test_a_degenerate_run_is_part_of_the_mean_and_counted(written):
    table = written.study.table
    study = written.study.only(table.assign(degenerate=table.run_id == table.run_id[0]))
    first, second, *_ = contents.rows(study, "entropy", 1, 3)
    assert first["n"] == "2 (1 degenerate)"
    assert second["n"] == 2
    assert first["ours"] == f"{table.entropy[:2].mean():.3f}"
    section = contents.section(study)
    assert section["degenerate"] == [table.run_id[0]]
    assert {row["id"]: row["degenerate"] for row in section["ledger"]}["H4.4"] == 1


def test_the_answer_says_no_more_than_the_ledger():
    """A verdict that the correction for many claims undoes, or that rests on runs that learnt nothing, says so."""
    columns = ["id", "verdict", "p_holm", "degenerate", "run_ids"]
    rows = [
        ("H3.1", "holds", 0.051, 2, ["a", "b", "c"]),
        ("H4.1", "holds", 0.002, 0, ["d"]),
        ("H3.2", "undecided", 0.7, 0, ["e"]),
        ("H4.2", "fails", float("nan"), 0, ["f"]),
        ("H4.3", "no runs", float("nan"), 0, []),
    ]
    assert contents.answer(pd.DataFrame(rows, columns=columns)).split("; ") == [
        "At fixed hyper-parameters, none of them searched: label smoothing raises entropy over ERM (small student): "
        "holds (not after Holm's correction, 2 of the 3 runs learnt nothing)",
        "label smoothing raises entropy over ERM (large student): holds",
        "standard KD lowers entropy below ERM: undecided",
        "reverse KD raises entropy above ERM: fails (not after Holm's correction)",
    ]
    assert contents.answer(pd.DataFrame(rows[-1:], columns=columns)) == ""


@pytest.mark.slow
def test_formulas_are_mathml_and_code_is_left_alone(page):
    assert page.count("<math") >= 2
    assert "<mfrac>" in page
    assert "$$" not in page
    assert "<code>$HOME</code>" in page


@pytest.mark.slow
def test_a_run_named_in_a_notebook_is_a_link(page):
    assert re.search(r'made by <a href="#rt-erm', page)


@pytest.mark.slow
def test_code_and_solutions_are_folded(page):
    """A summary is what is seen; the two solution cells are behind one."""
    solutions = re.search(
        r'<details class="solution"><summary>Solutions</summary>(.*?)</details>(?!\s*<div class="o)', page, re.DOTALL
    )
    assert "the worked answer" in solutions[1]
    assert page.count('<details class="solution">') == 1
    assert page.count("<summary>code</summary>") == 5


@pytest.mark.slow
def test_pictures_have_alt_text(page):
    pictures = re.findall(r"<img[^>]*>", page)
    assert pictures
    assert all(re.search(r'alt="[^"]{20,}', picture) for picture in pictures if "base64" in picture)


@pytest.mark.slow
def test_the_toy_profile_says_so(page):
    assert "TOY profile" in page


def test_without_runs_it_says_what_to_run(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    with pytest.raises(tables.NoRuns, match="kdnb study --profile demo"):
        report.write("demo")
