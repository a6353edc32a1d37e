"""What tells the sign of KD's effect (H18.6): fits that leave a task out, on rows of a known law and on the runs."""

import json

import fakes
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdnb import paths
from kdnb.core import store as runs
from kdnb.studies import registry
from kdnb.studies.two_effects import law


def rows(tells, tasks=("a", "b", "c"), count=60):
    """Runs whose sign is that of one column alone."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(count * len(tasks), 3)), columns=[*law.LAW, *law.RIVAL])
    return table.assign(task=np.repeat(tasks, count), change=table[tells])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tells", "knows", "does_not"), [("train_entropy", law.LAW, law.RIVAL), (*law.RIVAL, law.RIVAL, law.LAW)]
)
def test_what_tells_the_sign_is_found_on_tasks_left_out(tells, knows, does_not):
    found = rows(tells)
    assert law.left_out(found, knows).min() > 0.9
    assert law.left_out(found, does_not).max() < 0.75
    assert list(law.left_out(found, knows).index) == ["a", "b", "c"]


def test_the_task_that_is_judged_is_not_fitted():
    """On one task the law is turned round: what the others teach is wrong there, on every run."""
    found = rows("train_entropy")
    turned = found.task == "b"
    found.loc[turned, "change"] *= -1
    told = law.left_out(found[found.task != "c"], ("train_entropy",))
    assert told.max() < 0.1


@pytest.mark.slow
def test_the_verdict_is_that_of_the_stored_metrics(monkeypatch):
    """H18.6 on the committed runs: features read again from the files, the t test by scipy."""
    folder = paths.ROOT / "outputs" / "reference" / "runs"
    monkeypatch.setattr(paths, "REFERENCE", folder)
    registry.methods()
    found = law.runs("cpu")
    for row in found.sample(12, random_state=0).itertuples():
        config = json.loads((folder / row.run_id / "config.json").read_text(encoding="utf-8"))
        metrics = [
            json.loads((folder / name / "metrics.json").read_text(encoding="utf-8"))
            for name in (config["teacher_run"], row.run_id)
        ]
        assert (config["method"], config["tau"]) == ("kd", 1)
        assert row.disagreement == pytest.approx(1 - metrics[0]["train"]["accuracy"])
        assert row.change - row.test_entropy == pytest.approx(
            metrics[1]["test"]["entropy"] - metrics[0]["test"]["entropy"]
        )
    told = pd.DataFrame({fit: law.left_out(found, of) for fit, of in (("law", law.LAW), ("rival", law.RIVAL))})
    difference = (told.law - told.rival).dropna()
    assert len(difference) >= 7
    verdict = registry.simulated_ledger(("H18.6",)).set_index("id").loc["H18.6"]
    assert verdict.effect == pytest.approx(difference.mean())
    assert verdict.p == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)
    assert verdict.n == len(difference)
    readme = " ".join((paths.ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"tell the signs on that task no better than its test entropy does: {verdict.verdict}." in readme
    assert verdict.verdict == "undecided"  # else the sentence is another one
    surer = found.groupby("task").change.apply(lambda change: float((change < 0).mean()))
    often = np.maximum(surer, 1 - surer)
    better = told[told.gt(often[told.index] + 1e-12, axis=0).any(axis=1)]
    words = [f"`{task}` ({row.max():.1%} against {often[task]:.1%})" for task, row in better.iterrows()]
    words = " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
    but = f"but for {words} (the better fit's share, untested)" if words else "anywhere"
    sentence = f"Neither fit does better than naming the sign that is more frequent there, {but}."
    assert sentence.replace("%", " %") in readme, sentence


@pytest.mark.parametrize("which", ["teacher", "student", "ERM"])
def test_a_damaged_run_is_told_and_left_out_of_the_law(store, capsys, which):
    for name in fakes.store_arms(("erm_large", "erm_small", "kd_standard", "kd_self")):
        config = runs.config_of(name)
        student = {"teacher": "erm-large", "student": "kd-small", "ERM": "erm-small"}[which]
        if student in name and config.seed == 0:
            (store / name / "metrics.json").write_bytes(b"{}")
    found = law.runs("toy")
    assert set(found.seed) == {1} | ({0} if which == "teacher" else set())  # whom ERM of the same model teaches stays
    told = capsys.readouterr().err.splitlines()
    assert len(told) == (2 if which == "student" else 1)
    assert all("left out" in line for line in told)
