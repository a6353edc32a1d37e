"""docs/explorer.html is what its command makes of the committed runs, asks no network, and works in a browser."""

import json
import re
import runpy

import chromium
import numpy as np
import pytest
from scipy.special import entr, softmax

from kdnb import paths

REFERENCE = paths.ROOT / "outputs" / "reference" / "runs"
PAGE = paths.ROOT / "docs" / "explorer.html"
TEXT = PAGE.read_text(encoding="utf-8")
DATA = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', TEXT, re.DOTALL)[1])


@pytest.mark.slow
def test_the_page_is_what_its_command_makes_of_the_committed_runs(monkeypatch):
    for name in ("RUNS", "REFERENCE"):
        monkeypatch.setattr(paths, name, REFERENCE)
    drawn = runpy.run_path(str(paths.ROOT / "docs" / "draw_explorer.py"), run_name="read")
    assert drawn["page"]() == TEXT, "run `make docs`"


def test_nothing_is_asked_of_a_network():
    assert "default-src 'none'" in TEXT
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", TEXT)
    assert set(re.findall(r"https?://[^\"' )]+", TEXT)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    for word in ("fetch(", "XMLHttpRequest", "import(", "@import", "url("):
        assert word not in TEXT
    assert PAGE.stat().st_size < 500_000


def logits(name):
    """The stored test logits of a run, and nothing of the package."""
    with np.load(REFERENCE / name / "arrays.npz") as arrays:
        return arrays["test"].astype(np.float64)


def test_a_point_is_its_runs_logits():
    rows = DATA["runs"]["rows"]
    assert len({row[-1] for row in rows}) == len(rows) > 1000
    for row in rows[:: len(rows) // 7]:
        assert row[-4] == pytest.approx(entr(softmax(logits(row[-1]), axis=1)).sum(axis=1).mean(), abs=6e-5)
    taught = [row for row in rows if row[6] >= 0]
    for row in taught[:: len(taught) // 5]:
        config = json.loads((REFERENCE / row[-1] / "config.json").read_text(encoding="utf-8"))
        assert rows[row[6]][-1] == config["teacher_run"]


def test_an_example_is_a_digit_with_its_arms_posteriors():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    levels = ["".join("0123456789abcdefg"[int(x)] for x in image) for image in pixels]
    images = dict(zip(levels, labels, strict=True))
    examples, runs = DATA["examples"], DATA["runs"]
    seed = int(re.search(r"seed (\d+)", examples["about"])[1])
    plain = ["lr 0.002, epochs 8, dropout 0", "alpha 0.4, lr 0.002, epochs 8, dropout 0"]  # the fixed settings
    named = {}
    for task, method, student, _, of_seed, setting, *_, name in runs["rows"]:
        if runs["tasks"][task] == "digits" and of_seed == seed and runs["settings"][setting] in plain:
            named[f"{runs['methods'][method]} {runs['students'][student]}"] = logits(name)
    assert {"ERM large", "ERM small", "LS small"} <= set(named)
    for row in examples["rows"]:
        assert images[row["image"]] == row["label"]
        for arm, z in named.items():
            p = softmax(z[row["row"]])
            np.testing.assert_allclose(row["arms"][arm]["p"], p, atol=6e-4)
            assert row["arms"][arm]["entropy"] == pytest.approx(entr(p).sum(), abs=6e-4)
            assert row["arms"][arm]["surprise"] == pytest.approx(-np.log(p[row["label"]]), abs=6e-4)
    assert set(examples["rows"][0]) == {"row", "label", "image", "arms"}  # no text of anybody's


@pytest.fixture
def seen(browser):
    """The page, opened from its file: what is said on the console and asked for beside what it shows."""
    found = chromium.watched(browser.new_context(viewport={"width": 1280, "height": 900}))
    found.tab.goto(PAGE.as_uri())
    yield found
    assert found.said == []
    assert found.asked == [PAGE.as_uri()]
    found.tab.context.close()


@pytest.mark.slow
@chromium.needed
def test_a_browser_draws_all_three(seen):
    of_rt = sum(DATA["runs"]["tasks"][row[0]] == "rt" for row in DATA["runs"]["rows"])
    assert "LS's optimum is" in seen.tab.inner_text("#simplex-told")
    assert seen.tab.inner_text("#run-told") == f"{of_rt} runs. None is chosen."
    assert seen.tab.locator("#scatter").locator(".mark, .hollow").count() == of_rt
    assert seen.tab.locator("canvas").count() == 24 + 1
    assert seen.tab.locator("#triangle").get_by_role("slider").count() == 3


@pytest.mark.slow
@chromium.needed
@pytest.mark.parametrize(
    ("control", "key", "changed"),
    [
        ("#alpha", "ArrowRight", ("#triangle", "#points", "#simplex-told", "#alpha-value")),
        ("#tau", "End", ("#triangle", "#points", "#simplex-told", "#tau-value")),
        ("#truth", "ArrowDown", ("#triangle", "#points", "#simplex-told")),
        ("#triangle [role=slider]", "ArrowLeft", ("#triangle", "#points", "#simplex-told")),
        ("#arm", "ArrowDown", ("#thumbs", "#example")),
        ("#order", "ArrowDown", ("#order-means", "#thumbs", "#example")),
        ("#thumbs button:nth-child(2)", "Enter", ("#example",)),
        ("#run-task", "ArrowDown", ("#scatter", "#run-told")),
        ("#run-measure", "ArrowDown", ("#scatter",)),
        ("#run-none", "Enter", ("#scatter", "#run-told")),
        ("#scatter", "End", ("#scatter", "#run-told")),
    ],
)
def test_a_control_moved_by_key_changes_the_picture_and_what_is_told(seen, control, key, changed):
    def shown():
        return {name: seen.tab.locator(name).inner_html() for name in changed}

    before = shown()
    seen.tab.locator(control).first.press(key)
    after = shown()
    assert [name for name in changed if after[name] == before[name]] == []


@pytest.mark.slow
@chromium.needed
@pytest.mark.parametrize("scheme", chromium.SCHEMES)
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_serious_fault(seen, scheme, width):
    """With a run chosen and an example opened; the page fits the window."""
    seen.tab.emulate_media(color_scheme=scheme)
    seen.tab.set_viewport_size({"width": width, "height": 844})
    seen.tab.locator("#scatter").press("End")
    assert chromium.serious_faults(seen.tab) == []
    assert seen.tab.evaluate("document.documentElement.scrollWidth") == width
