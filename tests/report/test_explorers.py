"""What is looked at: the simplex's mathematics, examples in their orders, runs as points; widgets and frames agree."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch
from fakes import CONFIG, store_run

from kdnb import paths
from kdnb.core import entropy as measures
from kdnb.core import losses, metrics, store, theory
from kdnb.core.config import RunConfig
from kdnb.core.store import Run
from kdnb.data import splits
from kdnb.errors import NoRuns
from kdnb.experiment import tables
from kdnb.experiment.tables import Study
from kdnb.report.explorers import examples, looks, runs, simplex
from kdnb.report.explorers.simplex import KD, LS, Scene

SCENES = [
    Scene(alpha=0.3, tau=1.0),
    Scene(alpha=0.9, tau=8.0, teacher=simplex.TEACHERS["of another opinion"]),
    Scene(alpha=0.999, tau=0.5, truth=simplex.TRUTHS["torn"], teacher=simplex.TEACHERS["less sure"]),
    Scene(alpha=0.0, tau=2.0, truth=simplex.TRUTHS["clear"]),
    Scene(alpha=1.0, tau=16.0),
]
LABELS = torch.arange(3)


def column(p):
    """The log of a posterior, three times: what torch's functions take, an example a label."""
    return torch.tensor(np.array(p), dtype=torch.float64).log().expand(3, 3)


@pytest.mark.parametrize("scene", SCENES, ids=lambda one: f"{one.alpha:g}-{one.tau:g}")
def test_the_simplex_has_the_gradients_of_the_losses(scene):
    for method in (KD, LS):
        z = column(scene.start).clone().requires_grad_(True)
        if method == KD:
            of_labels = [
                losses.kd_loss(z[k : k + 1], LABELS[k : k + 1], column(scene.teacher)[:1], scene.alpha, scene.tau)
                for k in range(3)
            ]
        else:
            of_labels = [losses.ls_loss(z[k : k + 1], LABELS[k : k + 1], scene.alpha) for k in range(3)]
        loss = (torch.stack(of_labels) * torch.tensor(scene.truth, dtype=torch.float64)).sum()
        wanted = torch.autograd.grad(loss, z)[0].sum(dim=0)
        np.testing.assert_allclose(scene.gradient(np.log(scene.start), method), wanted, atol=1e-12)


@pytest.mark.parametrize("scene", SCENES, ids=lambda one: f"{one.alpha:g}-{one.tau:g}")
def test_the_simplex_has_the_optima_of_the_theory(scene):
    truth = np.array(scene.truth)
    slope = theory.kd_gradient(column(scene.optimum), LABELS, column(scene.teacher), scene.alpha, scene.tau)
    np.testing.assert_allclose(truth @ slope.numpy(), 0, atol=1e-9)
    np.testing.assert_allclose(scene.smoothed, truth @ theory.ls_optimum(LABELS, 3, scene.alpha).numpy(), atol=1e-15)
    np.testing.assert_allclose(scene.tempered, measures.posterior(column(scene.teacher), scene.tau)[0], atol=1e-12)
    if scene.tau == 1:
        mixed = truth @ theory.kd_optimum(LABELS, column(scene.teacher), scene.alpha).numpy()
        np.testing.assert_allclose(scene.optimum, mixed, atol=1e-12)
    for p in scene.points.values():
        assert simplex.entropy(p) == pytest.approx(float(measures.entropy(torch.tensor(p))), abs=1e-12)


@pytest.mark.parametrize("method", [LS, KD])
def test_the_arrow_is_where_the_flow_goes_and_the_way_ends_at_the_optimum(method):
    scene, step = Scene(alpha=0.6, tau=2.0), 1e-5
    start = np.array(scene.start)
    after = simplex.softmax(np.log(start) - step * scene.gradient(np.log(start), method))
    np.testing.assert_allclose((after - start) / step, scene.arrow(start, method), atol=1e-5)
    rise = (simplex.entropy(after) - simplex.entropy(start)) / step
    assert scene.entropy_rate(start, method) == pytest.approx(rise, abs=1e-4)
    np.testing.assert_allclose(scene.path(method)[-1], scene.optimum if method == KD else scene.smoothed, atol=5e-3)


def test_towards_uniform_entropy_only_rises():
    """Notebook 10's covariance, along the arrow of LS at alpha 1."""
    scene = Scene(alpha=1.0)
    for p in np.random.default_rng(0).dirichlet(np.ones(3), 50):
        covariance = p @ (p * np.log(p)) - (p @ p) * (p @ np.log(p))
        assert scene.entropy_rate(p, LS) == pytest.approx(covariance, abs=1e-12)
        assert covariance >= 0


def test_a_contour_has_one_entropy_and_stops_at_the_edge():
    inside, cut = simplex.contour(1.0), simplex.contour(0.4)
    np.testing.assert_allclose([simplex.entropy(p) for p in inside], 1.0, atol=1e-9)
    gone = np.isnan(cut).any(axis=1)  # an edge's middle has log 2 and more on the way there
    assert 0 < gone.sum() < len(cut)
    np.testing.assert_allclose([simplex.entropy(p) for p in cut[~gone]], 0.4, atol=1e-6)


def test_a_scene_that_cannot_be_is_refused():
    for wrong in ({"alpha": 1.1}, {"tau": 0.0}, {"truth": (0.5, 0.5, 0.0)}, {"start": (0.5, 0.2, 0.2)}):
        with pytest.raises(ValueError, match="must be"):
            Scene(**wrong)


def answered_by_javascript(cases, folder):
    """What docs/explorer/simplex.js says of scenes, by node or else in a browser."""
    script = paths.ROOT / "docs" / "explorer" / "simplex.js"
    ask = (
        "cases.map(s => ({smoothed: Simplex.smoothed(s), tempered: Simplex.tempered(s), optimum: Simplex.optimum(s),"
        " arrows: ['LS', 'KD'].map(m => Simplex.arrow(s, s.start, m)),"
        " rates: ['LS', 'KD'].map(m => Simplex.entropyRate(s, s.start, m)),"
        " ends: ['LS', 'KD'].map(m => Simplex.path(s, m).at(-1)), entropy: Simplex.entropy(s.start)}))"
    )
    given = f"const cases = {json.dumps(cases)};"
    if node := shutil.which("node"):
        code = f"const Simplex = require({json.dumps(str(script))}); {given} console.log(JSON.stringify({ask}))"
        return json.loads(subprocess.run([node, "-e", code], capture_output=True, text=True, check=True).stdout)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("neither node nor chromium is here to run docs/explorer/simplex.js")
    page = folder / "asked.html"
    code = f"{script.read_text(encoding='utf-8')}\n{given} document.body.textContent = JSON.stringify({ask});"
    page.write_text(f"<body><script>{code}</script></body>", encoding="utf-8")
    words = [browser, "--headless", "--no-sandbox", "--dump-dom", page.as_uri()]
    seen = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return json.loads(seen.partition("<body>")[2].rpartition("</body>")[0])


@pytest.mark.slow
def test_the_page_computes_what_the_package_computes(tmp_path):
    names = ("truth", "teacher", "start", "alpha", "tau")
    answers = answered_by_javascript([{name: getattr(one, name) for name in names} for one in SCENES], tmp_path)
    for scene, found in zip(SCENES, answers, strict=True):
        for name in ("smoothed", "tempered", "optimum"):
            np.testing.assert_allclose(found[name], getattr(scene, name), atol=1e-9, err_msg=name)
        for i, method in enumerate((LS, KD)):
            np.testing.assert_allclose(found["arrows"][i], scene.arrow(scene.start, method), atol=1e-12)
            np.testing.assert_allclose(found["rates"][i], scene.entropy_rate(scene.start, method), atol=1e-12)
            np.testing.assert_allclose(found["ends"][i], scene.path(method)[-1], atol=1e-9)
        assert found["entropy"] == pytest.approx(simplex.entropy(np.array(scene.start)), abs=1e-12)


def parts(widget):
    """Every widget in a widget, by its description; what has none by its class."""
    found = {}
    for child in getattr(widget, "children", ()):
        found |= {getattr(child, "description", "") or type(child).__name__: child, **parts(child)}
    return found


def test_the_simplex_widget_moves_its_picture():
    look = simplex.explorer(alpha=0.3, tau=1.0)
    inside = parts(look.widget)
    before = inside["HTML"].value
    assert Scene(alpha=0.3, tau=1.0).text in before
    inside["alpha"].value = 1.0
    assert inside["HTML"].value != before
    assert "alpha 1, tau 1" in inside["HTML"].value
    assert len(look.strip.frames) == len(simplex.FRAMES)


def test_a_strip_is_folded_html_and_text():
    frames = (looks.Frame("<b>one</b>", looks.image("<svg/>", 'a "mark"')), looks.Frame("two", ""))
    strip = looks.Strip("a < b", frames)
    page = strip._repr_html_()
    assert page.startswith("<details><summary>a &lt; b</summary>")
    assert "&lt;b&gt;one" in page
    assert 'alt="a &quot;mark&quot;"' in page
    assert repr(strip) == "a < b\n  <b>one</b>\n  two"


def test_a_look_shows_the_widget_and_then_its_strip(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *what: shown.extend(what))
    strip = looks.Strip("", ())
    looks.Look("the widget", strip)._ipython_display_()
    assert shown == ["the widget", strip]


@pytest.fixture
def study(toy):
    """Four arms on the toy task whose logits are all alike but for a planted row each."""
    labels = {name: split.labels for name, split in toy.splits.items()}
    same = {"task": "rt", "profile": "toy", "data": toy.fingerprint}
    teacher = RunConfig(**same, method="erm", student="large")
    of_arms = {
        "erm_large": (teacher, None),
        "erm_small": (RunConfig(**same, method="erm", student="small"), None),
        "ls_small": (RunConfig(**same, method="ls", student="small", alpha=0.1), (4, [0.0, 0.0])),
        "kd_standard": (
            RunConfig(**same, method="kd", student="small", alpha=0.9, teacher_run=teacher.run_id()),
            (7, [-3.0, 1.0] if labels["test"][7] == 0 else [1.0, -3.0]),
        ),
    }
    made = []
    for config, planted in of_arms.values():
        logits = {name: np.eye(2, dtype=np.float32)[y] * 2 for name, y in labels.items()}
        if planted:
            logits["test"][planted[0]] = planted[1]
        values = {name: metrics.summary(logits[name], labels[name]) for name in labels}
        made.append(Run(config, logits, labels, {**values, "cost": {"seconds": 1.0}}, []))
    arms = {run.run_id: arm for run, arm in zip(made, of_arms, strict=True)}
    return Study("rt", "toy", tables.tidy(made, arms), {run.run_id: run for run in made})


def test_examples_are_sorted_by_what_an_arm_does_to_them(study):
    seen = examples.Examples(study, 0)
    assert list(seen.runs) == ["erm_large", "erm_small", "ls_small", "kd_standard"]
    sure = np.exp([2.0, 0.0]) / np.exp([2.0, 0.0]).sum()
    plain, table = float(-(sure * np.log(sure)).sum()), seen.table.set_index(["arm", "row"])
    assert seen.ranked("ls_small", "change")[0] == 4
    assert table.change["ls_small", 4] == pytest.approx(np.log(2) - plain)
    assert seen.ranked("kd_standard", "deviation")[0] == 7
    assert table.deviation["kd_standard", 7] == pytest.approx(-4 - 2)  # log odds of the label: -3 - 1 against 2
    assert seen.ranked("kd_standard", "surprise")[0] == 7
    assert table.surprise["kd_standard", 7] == pytest.approx(np.log1p(np.exp(4)))
    assert seen.ranked("ls_small", "deviation") == []  # no teacher


def test_a_card_shows_the_text_as_text_and_every_posterior(study, toy, monkeypatch):
    card = examples.Examples(study, 0).card(7)
    assert toy.splits["test"].text[7] in card
    assert card.count("<tr>") == 1 + 4
    assert "0.98" in card  # 1 / (1 + e^-4)
    spoilt = splits.Split(["<script>"] * 32, None, toy.splits["test"].labels)
    monkeypatch.setattr(splits, "load", lambda *_: splits.TaskData(toy.task, {"test": spoilt}, toy.fingerprint))
    card = examples.Examples(study, 0).card(7)
    assert "&lt;script&gt;" in card
    assert "<script>" not in card


def test_texts_that_may_not_be_shown_or_are_of_another_cut_are_not(study, monkeypatch):
    foreign = splits.TaskData(splits.load("rt", "toy").task, {}, "0" * 16)
    monkeypatch.setattr(splits, "load", lambda *_: pytest.fail("a text was read"))
    for task, profile in (("mrpc", "cpu"), ("own:mine", "cpu"), ("own:mine", "toy")):
        other = Study(task, profile, study.table, study.runs)
        assert f"The examples of {task} themselves are not shown" in examples.Examples(other, 0).card(0)
    monkeypatch.setattr(splits, "load", lambda *_: foreign)
    assert "not shown" in examples.Examples(study, 0).card(0)


def test_the_browser_goes_through_the_examples(study):
    look = examples.browser(study)
    inside = parts(look.widget)
    assert inside["arm"].value == "kd_standard"
    inside["sorted by"].value = "surprise"
    assert "(test row 7, seed 0)" in inside["HTML"].value
    inside["number"].value = 2
    assert "(test row 7," not in inside["HTML"].value
    inside["arm"].value, inside["sorted by"].value = "ls_small", "deviation"
    assert "has no deviation" in inside["HTML"].value
    assert len(look.strip.frames) == 2 * len(examples.ORDERS)
    alone = study.only(study.table[study.table.arm == "ls_small"])
    assert "two arms" in repr(examples.browser(alone).strip)


def test_pixels_become_a_picture():
    for channels in (1, 3):
        page = examples.picture(np.full((channels, 8, 8), 16, dtype=np.uint8), "a <digit>")
        assert page.startswith('<img src="data:image/png;base64,')
        assert 'alt="a &lt;digit&gt;"' in page


@pytest.fixture
def stored(store):
    """Three runs in a store of their own; their names."""
    teacher = CONFIG
    configs = [
        teacher,
        CONFIG.changed(method="ls", alpha=0.3, seed=1),
        CONFIG.changed(method="kd", alpha=0.9, tau=4.0, teacher_run=teacher.run_id(), seed=1),
    ]
    for right, config in zip((20, 15, 10), configs, strict=True):
        store_run(config, validation=12, test=right)
    return [config.run_id() for config in configs]


def test_every_stored_run_is_a_row_with_the_metrics_of_its_logits(stored):
    table = runs.table().set_index("run_id")
    assert set(table.index) == set(stored)
    assert table.loc[stored, "method"].tolist() == ["ERM", "LS", "Self-KD"]
    assert table.loc[stored, "accuracy"].tolist() == [1.0, 0.75, 0.5]
    z = store.load(stored[0]).logits["test"].astype(float)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert table.entropy[stored[0]] == pytest.approx(float(-(p * np.log(p)).sum(axis=1).mean()))
    assert table.teacher[stored[2]] == stored[0]
    assert "alpha 0.9, tau 4" in table.settings[stored[2]]
    assert "alpha" not in table.settings[stored[0]]
    assert runs.table("cpu").empty


def test_a_damaged_run_is_left_out_and_told(stored, capsys):
    path = store.folder(stored[1]) / "metrics.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0.75", "0.95"), encoding="utf-8")
    assert set(runs.table().run_id) == {stored[0], stored[2]}
    assert stored[1] in capsys.readouterr().err


def test_the_run_explorer_filters_and_tells(stored):
    look = runs.explorer("toy")
    inside = parts(look.widget)
    assert inside["HTML"].value.count("<title>") == 3
    assert inside["run"].options[0] in inside["HTML"].value.rpartition("</svg>")[2]
    inside["seed"].value = 1
    assert set(inside["run"].options) == set(stored[1:])
    inside["run"].value = stored[2]
    assert "accuracy 50.0 %" in inside["HTML"].value.rpartition("</svg>")[2]
    inside["method"].value = "ERM"
    assert "No run is left" in inside["HTML"].value
    assert "3 runs of rt" in repr(look.strip)
    with pytest.raises(NoRuns, match="no runs at profile cpu"):
        runs.explorer("cpu")


def test_ticks_are_round_and_hold_all_values():
    for low, high in ((0.1, 0.7), (50, 90), (0.5, 0.5), (0.3141, 0.3142)):
        found = runs.ticks(np.array([low, high]))
        assert found[0] <= low <= high <= found[-1]
        assert 2 <= len(found) <= 8
