"""The report of a comparison on own data: its numbers are those of the logits, texts stay texts, no more is said."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from command import last_json
from scipy import stats
from sklearn.metrics import f1_score

from kdnb import paths
from kdnb.catalog import AS_IT_IS, Task
from kdnb.core import metrics
from kdnb.core import store as runs
from kdnb.core.config import RunConfig
from kdnb.core.store import Run
from kdnb.data import splits
from kdnb.experiment.arms import ALL
from kdnb.report import own

LABELS = ("bad", "<b>good</b>")
ARMS = {"erm_small": 1.5, "ls_small": 0.8, "kd_standard": 2.5, "erm_large": 2.0}  # arm -> how sharp its logits are


def table(rows=60):
    parts = []
    for split in runs.SPLITS:
        texts = [f"<script>alert('{split} {row}')</script> & more" for row in range(rows)]
        parts.append(pd.DataFrame({"split": split, "text": texts, "text2": "", "label": np.arange(rows) % 2}))
    return pd.concat(parts)


@pytest.fixture(scope="module")
def data():
    task = Task(name="own:mine", title="mine", question="Which label?", labels=LABELS, source="own")
    return splits.make(task, table(), "demo", splits.Rows(train=0))


def compared(data, sharpness=ARMS, seeds=(0, 1, 2), right=0.8, command="kdnb compare --data mine.csv", given=""):
    """A comparison whose logits nobody trained: of one draw a seed, sharper or less sharp by arm."""
    found, arms = {}, {}
    for seed in seeds:
        for arm, factor in sharpness.items():
            what, logits, values = ALL[arm], {}, {}
            rng = np.random.default_rng(seed)
            for name, split in data.splits.items():
                signs = np.where(rng.random(len(split)) < right, 1, -1) * np.where(split.labels == 1, 1, -1)
                size = factor * rng.uniform(0.5, 1.5, len(split))
                logits[name] = np.stack([-signs * size, signs * size], axis=1).astype(np.float32) / 2
                values[name] = metrics.summary(logits[name], split.labels)
            taught = {"teacher_run": f"erm-{seed}"} if what.method == "kd" else {}
            taught |= {"model": f"{AS_IT_IS}theirs@0123456789abcdef"} if arm == given else {}
            config = RunConfig(
                task=data.task.name,
                profile="demo",
                data=data.fingerprint,
                method=what.method,
                student=what.student,
                seed=seed,
                alpha=0.0 if what.method == "erm" else 0.5,
                **taught,
            )
            labels = {name: split.labels for name, split in data.splits.items()}
            run = Run(config, logits, labels, {**values, "cost": {"seconds": 1.0, "device": "cpu"}}, [])
            found[run.run_id], arms[run.run_id] = run, arm
    return own.Compared(data=data, profile="demo", runs=found, arms=arms, command=command)


@pytest.fixture(scope="module")
def page(data, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "OUTPUTS", outputs)
        patch.setattr(paths, "REPORTS", outputs / "reports")
        path = own.write(compared(data))
    assert path.parent == outputs / "reports"
    return path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_nothing_is_fetched_and_nothing_of_the_data_is_markup(page):
    assert not re.findall(r'(?:src|srcset|poster|action)="(?!data:)', page)
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(" in page
    assert "&lt;b&gt;good&lt;/b&gt;" in page
    assert "url(" not in page
    assert re.search(r'<img[^>]*alt="[^"]{20,}', page)


def text_of(markup):
    return re.sub(r"<[^>]*>", "", markup)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "place", "scale", "digits"),
    [("entropy", 0, 1, 3), ("accuracy", 1, 100, 1), ("nll", 2, 1, 3), ("f1", 4, 100, 1)],
)
def test_the_table_has_means_and_intervals_over_seeds(page, data, metric, place, scale, digits):
    made = compared(data)
    for arm, name in {"ls_small": "LS small", "kd_standard": "Standard KD"}.items():
        row = re.search(rf'<tr><td class="short">{name}</td><td>\d.*?</tr>', page).group()
        shown = [float(n) for n in re.findall(r"\d+\.\d+", text_of(re.findall(r"<td[^>]*>.*?</td>", row)[2 + place]))]
        of_arm = [run for run in made.runs.values() if made.arms[run.run_id] == arm]
        if metric == "f1":
            values = [scale * f1_score(r.labels["test"], r.logits["test"].argmax(axis=1)) for r in of_arm]
        else:
            values = [scale * metrics.per_example(metric, r.logits["test"], r.labels["test"]).mean() for r in of_arm]
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        if scale == 100:
            low, high = max(low, 0), min(high, 100)
        assert shown == pytest.approx([np.mean(values), low, high], abs=0.51 * 10**-digits)


def test_the_verdict_says_what_the_differences_say(data):
    """Less sharp logits are less sure, sharper ones surer; as often right, since the predictions are the same."""
    smoothed, distilled, between = own.verdict(compared(data).of)
    assert smoothed.startswith("Label smoothing (LS small) made the small model less sure (entropy +0.")
    assert "not measurably more or less often right (accuracy +0.0 points" in smoothed
    assert distilled.startswith("Distillation (Standard KD) made the small model surer (entropy -0.")
    assert between.startswith("Distillation is not label smoothing here, they differ in entropy")


def test_two_arms_that_are_the_same_cannot_be_told_apart(data):
    same = compared(data, {"erm_small": 1.0, "ls_small": 1.0, "kd_standard": 1.0})
    smoothed, _, between = own.verdict(same.of)
    assert "not measurably surer or less sure" in smoothed
    assert between.startswith("The two cannot be told apart by these runs, which does not show them to be the same")


def test_what_was_not_compared_is_said(data):
    smoothed, distilled, between = own.verdict(compared(data, {"erm_small": 1.0}).of)
    assert smoothed == "Label smoothing was not compared: the arm ls_small is not among the runs."
    assert distilled == "Distillation was not compared: the arm kd_standard is not among the runs."
    assert "both arms are needed" in between


def test_the_student_with_more_arms_is_answered_about(data):
    arms = compared(data, {"erm_large": 1.5, "ls_large": 0.8, "kd_reverse": 2.5, "erm_small": 2.0}).of
    assert (arms.size, arms.smoothed, arms.distilled) == ("large", "ls_large", "kd_reverse")
    assert "made the large model less sure" in own.verdict(arms)[0]


def test_one_seed_has_intervals_over_test_rows(data):
    arms = compared(data, seeds=(0,)).of
    run = arms.runs["ls_small"][0]
    for metric in own.METRICS:
        change = arms.change(metric, "ls_small")
        assert change.n == 1
        assert change.low < run.metrics["test"][metric] < change.high or metric == "ece"
        assert np.isfinite([change.low, change.high]).all()
    values = metrics.per_example("nll", run.logits["test"], run.labels["test"])
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert arms.change("nll", "ls_small").high - values.mean() == pytest.approx(half, rel=0.35)


@pytest.mark.slow
def test_the_texts_are_those_whose_entropy_changed_most(page, data):
    arms = compared(data).of
    entropy = {
        arm: np.mean([metrics.entropies(run.logits["test"]) for run in arms.runs[arm].values()], axis=0)
        for arm in ("ls_small", "kd_standard")
    }
    change = entropy["kd_standard"] - entropy["ls_small"]
    first = np.argsort(-np.abs(change))[:10]
    section = re.search(r'<section id="texts">.*?</section>', page, re.DOTALL).group()
    rows = re.findall(r"<tr><td.*?</tr>", section)
    assert [int(re.search(r"test (\d+)", row).group(1)) for row in rows] == list(first)
    assert [float(re.findall(r"<td[^>]*>(.*?)</td>", row)[2]) for row in rows] == pytest.approx(change[first], abs=6e-4)
    posterior = np.mean(
        [metrics.posterior(run.logits["test"])[first[0]] for run in arms.runs["ls_small"].values()], axis=0
    )
    assert f"<span>bad {posterior[0]:.2f}</span><span>&lt;b&gt;good&lt;/b&gt; {posterior[1]:.2f}</span>" in rows[0]


def best_by_validation_nll(made):
    means = {}
    for arm in ("erm_small", "ls_small", "kd_standard"):
        of_arm = [run for run in made.runs.values() if made.arms[run.run_id] == arm]
        means[arm] = np.mean([metrics.nll(run.logits["validation"], run.labels["validation"]) for run in of_arm])
    return min(means, key=means.get)


@pytest.mark.parametrize(
    ("sharpness", "what"),
    [
        ({"erm_small": 1.4, "ls_small": 12.0, "kd_standard": 20.0}, "ERM small"),
        ({"erm_small": 12.0, "ls_small": 1.4, "kd_standard": 20.0}, "LS small"),
        ({"erm_small": 12.0, "ls_small": 20.0, "kd_standard": 1.4}, "Standard KD"),
    ],
)
def test_the_recommendation_is_made_on_validation(data, sharpness, what):
    made = compared(data, sharpness)
    assert own.NAMES[best_by_validation_nll(made)] == what
    told = own.recommendation(made.of)
    assert told.what == what
    assert "lowest" in told.reason
    assert "not searched" in told.limit
    assert ("to be trained first" in told.limit) == (what == "Standard KD")


def test_what_is_not_measurably_better_is_not_recommended(data):
    made = compared(data, {"erm_small": 1.41, "ls_small": 1.4, "kd_standard": 1.42}, seeds=(0, 1))
    assert own.recommendation(made.of).what == "ERM small"


@pytest.mark.slow
def test_models_that_learnt_nothing_are_not_recommended(store, data):
    made = compared(data, right=0.3)
    assert own.recommendation(made.of).what == "None yet"
    assert "12 of 12 runs learnt nothing" in own.write(made).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_commands_to_repeat_it_stand_in_the_page(page):
    assert ">kdnb compare --data mine.csv\nkdnb report --profile demo\nkdnb runs show own-mine-" in page


def test_the_recommended_run_is_the_one_to_take_home(data):
    """Of its arm's seeds the one with the lowest NLL on validation; the other rows decide nothing."""
    made = compared(data, {"erm_small": 12.0, "ls_small": 1.4, "kd_standard": 20.0})
    losses = {
        run.run_id: metrics.nll(run.logits["validation"], run.labels["validation"])
        for run in made.runs.values()
        if made.arms[run.run_id] == "ls_small"
    }
    best = min(losses, key=losses.get)
    assert own.recommendation(made.of).run_id == best
    assert own._commands(made)[-1] == f"kdnb export {best} model/"


@pytest.mark.slow
def test_the_page_says_what_the_majority_would_reach_and_what_intervals_leave_out(page, data):
    assert "Always naming the most frequent class would give an accuracy of 50.0 %." in page
    assert "over seeds on the same test rows (t): other texts may differ by more" in page
    assert ">F1, second class [%]<" in page


def test_a_teacher_that_was_given_is_called_so(data):
    """And nobody has to train it first."""
    made = compared(data, {"erm_small": 12.0, "erm_large": 2.0, "kd_standard": 1.4}, given="erm_large")
    learns = {one["name"]: one["learns"] for one in own._arms(made)}
    assert learns["Classifier as given"] == "nothing here: it is taken as it is"
    assert learns["Standard KD"].startswith("the posteriors of Classifier as given (KD)")
    best = own.recommendation(made.of)
    assert best.what == "Standard KD"
    assert "to be trained first" not in best.limit
    assert "ERM large" not in own.write(made).read_text(encoding="utf-8")


def test_macro_f1_of_rows_drawn_is_over_the_classes_that_they_have():
    labels, logits = np.array([0, 0, 1, 1]), np.eye(3, dtype=np.float32)[[0, 0, 1, 0]]
    assert own._of_all("f1", logits, labels) == pytest.approx(f1_score(labels, [0, 0, 1, 0], average="macro"))


def test_the_limit_says_no_more_than_was_done(data):
    best = own.recommendation(compared(data, {"erm_small": 1.4, "ls_small": 12.0, "kd_standard": 20.0}).of)
    assert best.reason.endswith("is the lowest of these arms.")
    assert "profile" not in best.limit


def test_where_some_seeds_of_every_arm_learnt_nothing_that_is_said(data):
    made = compared(data, {"erm_small": 1.4}, seeds=(0, 1))
    run = next(iter(made.runs.values()))
    run.logits["test"][:] = run.logits["test"][:1]
    told = own.recommendation(made.of)
    assert (told.what, told.reason) == ("None yet", "In every arm of the small model a run learnt nothing.")


def test_what_each_arm_learns_from_is_said(data):
    assert {one["name"]: one["learns"] for one in own._arms(compared(data))} == {
        "ERM large": "the labels alone (ERM)",
        "ERM small": "the labels alone (ERM)",
        "LS small": "the labels, smoothed (LS): 0.5 of each spread over all classes",
        "Standard KD": "the posteriors of ERM large (KD): alpha 0.5, the label for the rest",
    }


def csv(path):
    rows = [("bad", "no") if i % 2 else ("good", "yes") for i in range(40)]
    lines = [f"{word} word{i % 7} <script>,{label}" for i, (word, label) in enumerate(rows)]
    path.write_text("\n".join(["text,label", *lines]))
    return path


@pytest.mark.slow
def test_the_report_finds_comparisons_on_own_data(kdnb, tmp_path):
    """Also those at other than the profile's hyper-parameters, which are no fixed arms."""
    words = ["compare", "--data", csv(tmp_path / "mine.csv"), "--text", "text", "--label", "label", "--profile", "toy"]
    code, out, _ = kdnb(*words, "--seeds", "0,1", "--epochs", "1", "--arms", "erm_small,ls_small,kd_self", "--json")
    assert code == 0
    assert "6 runs: 3 arms x 2 seeds; 6 to train, " in out
    assert ("take it home: kdnb export own-mine-" in out) == bool(last_json(out)["recommended"])
    written = last_json(out)["report"]
    assert f"report: {written}" in out
    page = (paths.REPORTS / written.rpartition("/")[2]).read_text(encoding="utf-8")
    assert "Distillation (Self-KD)" in page
    assert f"--data {tmp_path / 'mine.csv'}" in page
    assert "<script" not in page
    code, out, _ = kdnb("report", "--profile", "toy", "--json")
    assert code == 0
    whole = paths.ROOT.joinpath(last_json(out)["report"]).read_text(encoding="utf-8")
    assert "mine, your own data" in whole
    assert f'href="reports/{written.rpartition("/")[2]}"' in whole
    for run_id in runs.stored_ids():
        assert f'<tr id="{run_id}">' in whole
    assert not set(re.findall(r'href="#([^"]+)"', whole)) - set(re.findall(r'\sid="([^"]+)"', whole))
    code, _, err = kdnb("report", "--profile", "demo")
    assert code == 2
    assert "no runs at profile demo" in err


@pytest.mark.slow
def test_runs_on_own_data_without_a_report_of_theirs_are_found_too(kdnb, tmp_path):
    words = ["compare", "--data", csv(tmp_path / "mine.csv"), "--text", "text", "--label", "label", "--profile", "toy"]
    assert kdnb(*words, "--seeds", "0", "--arms", "erm_small")[0] == 0
    for path in paths.REPORTS.iterdir():
        path.unlink()
    (section,) = own.stored("toy")
    assert (section["title"], section["link"]) == ("mine", "")
    assert json.dumps(section["verdict"])
