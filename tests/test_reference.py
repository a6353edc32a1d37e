"""The committed reference runs: whole, without any text, and what README says of them."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from kdnb import paths
from kdnb.core import store as runs
from kdnb.experiment import tables
from kdnb.experiment.arms import ARMS
from kdnb.studies.label_smoothing import evidence, verdicts

RUNS = paths.ROOT / "outputs" / "reference" / "runs"
TASKS = {"rt": 5, "mrpc": 3, "headline": 3, "passage": 3, "relation": 3}
SHOWN = ("ls_small", "kd_standard", "kd_self", "kd_reverse")
FILES = {"config.json", "history.csv", "logits.npz", "metrics.json"}


@pytest.fixture(autouse=True)
def reference(store, monkeypatch):
    """The repository's own reference runs behind an empty store."""
    monkeypatch.setattr(paths, "REFERENCE", RUNS)


@pytest.fixture(scope="module")
def studies():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", RUNS)
        return {task: tables.study(task, "cpu") for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_every_arm_has_its_seeds_and_rows(studies, task):
    table = studies[task].table
    assert Counter(table.arm) == dict.fromkeys(ARMS, TASKS[task])
    assert set(table.n_train) == {2000}
    assert table.seconds.min() > 0


def test_every_run_is_whole_and_says_what_made_it():
    for name in runs.stored_ids():
        run = runs.load(name)  # its checksums are compared
        assert {path.name for path in (RUNS / name).iterdir()} == FILES
        assert run.config.profile == "cpu"
        assert {"device", "precision", "seconds", "versions"} <= set(run.metrics["cost"])


def test_no_run_holds_text():
    for name in runs.stored_ids():
        with np.load(RUNS / name / "logits.npz", allow_pickle=False) as arrays:
            assert all(arrays[key].dtype.kind in "fiu" for key in arrays), name
        config = json.loads((RUNS / name / "config.json").read_text())
        assert all(len(str(value)) < 80 for value in config.values()), name


def readme_row(study):
    """A task's row of README's table: entropy minus ERM on the same model, its 95 % interval."""
    changes = tables.against_erm(study)
    found = changes[changes.metric == "entropy"].set_index("arm")
    cells = [[verdicts.shown(x, "nats") for x in found.loc[arm, ["effect", "low", "high"]]] for arm in SHOWN]
    told = [f"{mean} [{low}, {high}]" for mean, low, high in cells]
    return f"| `{study.task}` | {study.table.seed.nunique()} | {' | '.join(told)} |"


def test_readme_says_what_the_runs_say(studies):
    lines = (paths.ROOT / "README.md").read_text().splitlines()
    for study in studies.values():
        assert readme_row(study) in lines


def test_readmes_summary_is_what_the_verdicts_say(studies):
    words = pd.DataFrame({task: verdicts.ledger(study).set_index("id").verdict for task, study in studies.items()})
    assert (words.loc[["H4.1", "H4.2", "H3.7b"]] == "holds").all(axis=None)  # "on all five"
    assert not (words.loc[["H3.1", "H3.2"]] == "fails").any(axis=None)  # "nowhere contradicted"
    counts = {name: int((words.loc[name] == "holds").sum()) for name in ("H3.1", "H3.2")}
    assert counts == {"H3.1": 4, "H3.2": 2}
    assert list(words.columns[words.loc["H3.5c"] == "fails"]) == ["rt", "headline", "relation"]
    assert "holds" not in set(words.loc["H3.5c"])  # "undecided elsewhere"
    assert list(words.columns[words.loc["H4.5b"] == "fails"]) == ["mrpc", "relation"]
    assert list(words.columns[words.loc["H3.3"] == "fails"]) == ["relation"]
    assert (words.loc["H3.5a"] == "undecided").all()


def test_the_grids_are_there_and_readme_has_the_temperatures_effects(studies):
    found, readme = evidence.beyond(studies["rt"]), (paths.ROOT / "README.md").read_text()
    rows = verdicts.ledger(None, temperature=found["temperature"]).set_index("id")
    slope, selected = (
        "{} [{}, {}]".format(*(verdicts.shown(x, row.unit) for x in (row.effect, row.low, row.high)))
        for _, row in rows.loc[["H5.5", "H5.1a"]].iterrows()
    )
    assert f"ends surer:\n  {slope} nats per e-fold of tau, three seeds" in readme
    assert f"standard KD is surer than\n  ERM there too: {selected}" in readme
    assert found["temperature"].table.tau.nunique() == 5
    assert found["smoothing"].table.alpha.min() >= 0.7
