"""The committed reference runs: whole, without any text, and README says of them what they say.

README's numbers are made here from the stored logits with numpy and scipy; of the package come the verdicts, Holm's
correction and the bootstrap. What README says of "all" runs of a kind is made from all of them.
"""

import json
import re
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from anew import holm, interval, joined, listed, said
from scipy import stats
from scipy.special import entr, log_softmax

from kdnb import paths
from kdnb.analysis import statistics
from kdnb.analysis.ledger import as_printed
from kdnb.analysis.statistics import NO_BOOTSTRAP
from kdnb.core import metrics
from kdnb.core import store as runs
from kdnb.experiment import tables
from kdnb.experiment.arms import ARMS
from kdnb.studies import registry
from kdnb.studies.dark_knowledge.grids import GENERATIONS, STRIDE
from kdnb.studies.label_smoothing import evidence
from kdnb.studies.label_smoothing.grids import CURVE_ROWS
from kdnb.studies.two_effects.grids import SIX
from kdnb.sweeps.grids import stages

pytestmark = pytest.mark.slow

RUNS = paths.ROOT / "outputs" / "reference" / "runs"
TASKS = {"rt": 13, "mrpc": 3, "headline": 11, "passage": 3, "relation": 11, "section": 8}  # seeds of the six arms
SEEDS = {"rt": 5, "section": 0}  # of the other two, where they are not 3
TRAIN_ROWS = {"section": 1234}  # where they are not 2,000
LONGER = "`mrpc` after 6 epochs"  # a row of README's two tables: what 3 epochs leave near the floor
COLUMNS = ("ls_small", "kd_standard", "kd_self", "ls_large", "kd_reverse")  # of README's two tables
FILES = {"config.json", "history.csv", "arrays.npz", "metrics.json"}
TABLE_1 = (1e-5, 2e-5, 3e-5, 4e-5, 6e-5, 7e-5)  # its learning rates, but for the one that our search has too
AGAINST = {  # a claim of the paper's that fails -> what then is the case
    "H3.5c": "LS makes the small model more accurate than ERM",
    "H3.2": "standard KD is less sure than ERM",
    "H3.6a": "it is so on average over training, on test",
    "H3.6e": "and on train",
    "H3.4": "standard KD is less sure than self-KD",
    "H3.3": "self-KD is less sure than ERM",
    "H3.7b": "a student of a surer teacher is less sure than ERM",
    "H5.1b": "with tau searched self-KD is less sure than ERM",
    "H3.5b": "self-KD is less accurate than ERM",
    "H3.5d": "standard KD is less accurate than LS",
    "H3.5e": "self-KD is less accurate than LS",
    "H3.5f": "self-KD is less accurate than standard KD",
    "H4.5b": "reverse KD is less accurate than ERM",
    "H4.5c": "reverse KD is less accurate than LS",
    "H5.4e": "with tau searched reverse KD is less accurate than LS",
    "H4.7a": "on average over training reverse KD is surer than ERM, on test",
    "H4.7c": "and on train",
    "H4.6": "reverse KD is less sure than its own teacher",
    "H5.5": "entropy rises with the tau of training",
    "H4.8": "LS adds less than twice what reverse KD adds to the large model's entropy",
}
PAIRS = {  # whose accuracies those claims compare
    "H3.5b": ("kd_self", "erm_small"),
    "H3.5c": ("ls_small", "erm_small"),
    "H3.5d": ("kd_standard", "ls_small"),
    "H3.5e": ("kd_self", "ls_small"),
    "H3.5f": ("kd_self", "kd_standard"),
    "H4.5b": ("kd_reverse", "erm_large"),
    "H4.5c": ("kd_reverse", "ls_large"),
}


class Searched(NamedTuple):
    """A line of README's table of the search: an arm, beside which other, and the claims on the two."""

    name: str
    arm: str
    than: str
    entropy: str
    accuracy: str


SEARCHED = {
    "ls_small": Searched("LS", "ls_small", "erm_small", "H3.1", "H3.5c"),
    "kd_standard": Searched("standard KD", "kd_standard", "erm_small", "H3.2", "H3.5a"),
    "kd_self": Searched("self-KD", "kd_self", "erm_small", "H3.3", "H3.5b"),
    "kd_reverse": Searched("reverse KD", "kd_reverse", "erm_large", "H4.2", "H4.5b"),
}
BESIDE_LS = Searched("standard KD minus LS", "kd_standard", "ls_small", "", "H3.5d")


@pytest.fixture(autouse=True)
def reference(store, monkeypatch):
    """The repository's own reference runs behind an empty store."""
    monkeypatch.setattr(paths, "REFERENCE", RUNS)


@pytest.fixture(scope="module")
def studies():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", RUNS)
        return {task: tables.study(task, "cpu") for task in (*TASKS, "digits")}


@pytest.fixture(scope="module")
def ledgers(studies):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", RUNS)
        longer = {LONGER: evidence.longer(studies["mrpc"])}
        return {task: ledger(study) for task, study in (studies | longer).items()}


@pytest.fixture(scope="module")
def protocols(studies):
    """The ledgers of what the search selects by validation accuracy and by validation NLL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", RUNS)
        found = {metric: evidence.protocol("search", studies["rt"], metric) for metric in ("accuracy", "nll")}
        return {metric: registry.ledger(study, ("H3", "H4")).set_index("id") for metric, study in found.items()}


@pytest.fixture(scope="module")
def committed():
    return read(RUNS)


@pytest.fixture(scope="module")
def within_chance(studies, ledgers):
    """By claim on accuracy that fails: on which tasks it does not over seeds and test examples."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", RUNS)
        by_task = studies | {LONGER: evidence.longer(studies["mrpc"])}
    for claim, arms in PAIRS.items():
        for task in (task for task in by_task if ledgers[task].verdict[claim] == "fails"):
            seeds = by_task[task].seeds(*arms)
            ours, other = ([by_task[task].per_example(arm, "accuracy", [seed]) for seed in seeds] for arm in arms)
            drawn = statistics.paired_bootstrap(ours, other)
            if drawn.low <= 0 <= drawn.high:
                found.setdefault(claim, []).append(task)
    return found


@pytest.mark.parametrize("task", TASKS)
def test_every_arm_has_its_seeds_and_rows(studies, task):
    table = studies[task].table
    others = dict.fromkeys(ARMS, SEEDS.get(task, 3))
    own = table.seed.isin(studies[task].seeds("ls_small"))
    assert set(table[~own].arm) <= {"erm_small", "erm_large"}, "teachers of other seeds' students, of other studies"
    assert Counter(table[own].arm) == Counter(others | dict.fromkeys(SIX, TASKS[task]))
    assert set(table.n_train) == {TRAIN_ROWS.get(task, 2000)}
    assert table.seconds.min() > 0


def test_every_run_is_whole_and_says_what_made_it():
    for name in runs.stored_ids():
        record = runs.read(name)  # its checksums are compared
        assert {path.name for path in (RUNS / name).iterdir()} == FILES
        assert record.config.get("profile", "cpu") in ("cpu", "base")
        assert {"device", "precision", "seconds", "versions"} <= set(record.metrics["cost"])
        assert "kind" in record.config or runs.load(name)


def test_no_run_holds_text():
    for name in runs.stored_ids():
        with np.load(RUNS / name / "arrays.npz", allow_pickle=False) as arrays:
            assert all(arrays[key].dtype.kind in "fiu" for key in arrays), name
        config = json.loads((RUNS / name / "config.json").read_text())
        assert all(len(str(word)) < 80 for word in leaves(config)), name


def leaves(value):
    """What a config says, however deep it says it, its keys among it."""
    if isinstance(value, dict):
        return [leaf for pair in value.items() for one in pair for leaf in leaves(one)]
    return [leaf for one in value for leaf in leaves(one)] if isinstance(value, list) else [value]


def test_text_is_found_however_deep():
    assert leaves({"a": [{"b": ["text", 1]}, 2.0]}) == ["a", "b", "text", 1, 2.0]


# The store as one table, by numpy and scipy alone


def read(folder):
    """One row per run of the two papers in a store: its config, rows, entropy, NLL, accuracy, whether it is
    degenerate, its cost. Left out are families of born-again networks, other experiments' records, the runs of
    profile `base`, and those on two effects: changed teachers, label noise, other budgets."""
    paths_ = [path for path in sorted(folder.glob("*/config.json")) if "kind" not in json.loads(path.read_text())]
    rows = [_row(path) for path in paths_]
    table = pd.DataFrame(rows, index=[row["run"] for row in rows])
    cuts = set(zip(table.task, table.data, strict=True))
    seeds = sorted(set(table.seed[table.seed < STRIDE]))
    elsewhere = table.task.str.contains("@") | (table.method == "transformed")
    elsewhere |= (table.profile == "base") | ((table.seed >= 10) & (table.schedule == "constant"))
    first = [one.config.run_id() for task, data in cuts for one in stages(GENERATIONS, task, "cpu", data, seeds).erm]
    return table[(table.seed < STRIDE) & ~table.index.isin(first) & ~elsewhere]


def _row(path):
    config = json.loads(path.read_text())
    row = {"run": path.parent.name, **config, "training": path.parent.name}
    if config["schedule"] == "constant":  # one training gives the runs of all its numbers of epochs
        row["training"] = json.dumps({name: value for name, value in config.items() if name != "epochs"})
    row["cost"] = json.loads((path.parent / "metrics.json").read_text())["cost"]
    labels_of = path.parents[2] / "labels" / f"{row['data']}.npz"
    with np.load(path.parent / "arrays.npz") as arrays, np.load(labels_of) as all_labels:
        for split in ("train", "validation", "test"):
            labels, log_p = all_labels[split], log_softmax(arrays[split].astype(float), axis=1)
            predicted = log_p.argmax(axis=1)
            right = (predicted == labels).mean()
            row |= {f"{split}_rows": len(labels), f"{split}_accuracy": right}
            row |= {f"{split}_entropy": entr(np.exp(log_p)).sum(axis=1).mean()}
            row |= {f"{split}_nll": -log_p[np.arange(len(labels)), labels].mean()}
    often = np.bincount(labels).max() / len(labels)
    return row | {"degenerate": len(set(predicted)) == 1 or right <= often}


def with_models(table):
    """The table with each run's teacher beside it: its model, seed and entropy; and the arm, "" for none."""
    table = table.copy()
    for name, column in (("student", "teacher"), ("seed", "teacher_seed"), ("test_entropy", "teacher_entropy")):
        table[column] = table.teacher_run.map(table[name])
    of = {key: ARMS[arm.teacher].student if arm.teacher else "" for key, arm in ARMS.items()}
    pairs = {(arm.method, arm.student, of[key]): key for key, arm in ARMS.items()}
    keys = zip(table.method, table.student, table.teacher.fillna(""), strict=True)
    own = table.teacher_seed.isna() | (table.teacher_seed == table.seed)
    return table.assign(arm=[pairs.get(key, "") if same else "" for key, same in zip(keys, own, strict=True)])


def fixed(table):
    """The runs at README's fixed settings: learning rate 1e-4 with linear decay, 3 epochs, alpha .4 or .9, tau 1."""
    same = (table.lr == 1e-4) & (table.epochs == 3) & (table.schedule == "linear")
    alpha = table.method.map({"erm": 0.0, "ls": 0.4, "kd": 0.9, "tfkd": 0.9})
    return table[same & (table.alpha == alpha) & ((table.tau == 1) | (table.method == "tfkd"))]


def change(table, arm, metric, than=""):
    """An arm's test metric minus that of ERM on the same model (or of another arm), by seed."""
    than = than or f"erm_{ARMS[arm].student}"
    rows = table[table.arm.isin([arm, than])].pivot(index="seed", columns="arm", values=f"test_{metric}")
    return (rows[arm] - rows[than]).dropna()


def beside_erm(runs_, erm):
    """Runs with the test metrics of ERM on the same task, model, seed and epochs beside them, erm_entropy and so on."""
    keys = ["task", "student", "seed", "epochs"]
    columns = {f"test_{name}": f"erm_{name}" for name in ("entropy", "nll", "accuracy")}
    return runs_.merge(erm[[*keys, *columns]].rename(columns=columns), on=keys, validate="many_to_one")


def outside(values):
    """Whether the interval leaves out 0."""
    return interval(values)[1] > 0 or interval(values)[2] < 0


def span(values):
    return f"{as_printed(min(values), 'nats')} to {as_printed(max(values), 'nats')}"


def values(column):
    """The values of a setting: 1, 2 and 4."""
    return joined([f"{value:g}" for value in sorted(set(column))])


def ledger(study):
    """A task's ledger by claim, without its bootstraps, which take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "paired_bootstrap", lambda *_: NO_BOOTSTRAP)
        return registry.ledger(study, others=registry.evidence(study)).set_index("id")


# What README says


def statements(table, ledgers, within_chance, protocols):
    """README's statements on the runs, by topic, as they must stand in it."""
    table = with_models(table)
    text = {task: fixed(table[table.task == task]) for task in TASKS}
    longest = table[(table.task == "mrpc") & (table.epochs == 6)]  # among them self-KD from another seed's model
    longer = longest[longest.arm.isin(ARMS)]
    parts = [_tables(text | {LONGER: longer}, ledgers), _floor(text["mrpc"], longest), _settings(table, text)]
    parts += [_accuracy(table, text, longest, ledgers, within_chance), _entropy(table, text, ledgers)]
    parts += [_inheritance(table, text), _search(table, protocols), _temperature(table)]
    told = {topic: statement for part in parts for topic, statement in part.items()}
    assert len(told) == sum(map(len, parts)), "two statements of one name: only one would be looked for"
    return told


def survives(ledgers, claim):
    """The text tasks on which a claim holds, Holm's correction included."""
    rows = {task: ledgers[task].loc[claim] for task in TASKS}
    assert all(row.p_holm < 0.05 for row in rows.values() if row.verdict == "holds")
    return [task for task, row in rows.items() if row.verdict == "holds"]


def _tables(text, ledgers):
    claims = dict(zip(COLUMNS, ("H3.1", "H3.2", "H3.3", "H4.1", "H4.2"), strict=True))
    told = {}
    for task, table in text.items():
        title = titled(task)
        cells = [_cell(table, arm, "entropy") for arm in COLUMNS]
        bold = [ledgers[task].p_holm[claims[arm]] < 0.05 for arm in COLUMNS]
        cells = [f"**{cell}**" if sure else cell for cell, sure in zip(cells, bold, strict=True)]
        marks = [_marked(table, arm) if arm in set(table.arm) else "" for arm in COLUMNS]
        arms = table[table.arm != ""]
        learnt = f"{arms.degenerate.sum()} of {len(arms)}"
        seeds = f"{(arms.arm == 'ls_small').sum()} ({(arms.arm == 'ls_large').sum()})"
        cells = " | ".join(cell + mark for cell, mark in zip(cells, marks, strict=True))
        told[f"entropy {task}"] = f"| {title} | {seeds} | {learnt} | {cells} |"
        cells = [_cell(table, arm, "nll") + mark for arm, mark in zip(COLUMNS, marks, strict=True)]
        told[f"nll {task}"] = f"| {title} | {' | '.join(cells)} |"
        cells = [_cell(table, arm, "accuracy", "points") + mark for arm, mark in zip(COLUMNS, marks, strict=True)]
        told[f"accuracy {task}"] = f"| {title} | {' | '.join(cells)} |"
    return told


def _floor(short, longer):
    """What six epochs in place of three do to the small model on `mrpc`."""
    small = longer[longer.student == "small"]
    assert small.degenerate.all(), "README says of all of them that they have learnt nothing"
    before, after = (rows[rows.arm == "erm_small"].test_entropy.mean() for rows in (short, longer))
    return {
        "floor": "Six epochs in place of three do not take the small model off the floor on `mrpc`: all "
        f"{len(small)} of its runs have learnt nothing. Its ERM ends at {after:.3f} nats, after three at {before:.3f}"
    }


def titled(task):
    """A task's name as README's tables have it."""
    return task if task == LONGER else f"`{task}`"


def _cell(table, arm, metric, unit="nats"):
    """An arm's change as README's tables print it."""
    return said(change(table, arm, metric), unit) if arm in set(table.arm) else "not run"


def _marked(table, arm):
    """How many of the runs behind an arm's change have learnt nothing: its own, ERM's beside it, and its teachers."""
    both = table[table.arm.isin([arm, f"erm_{ARMS[arm].student}"])]
    both = both[both.seed.isin(change(table, arm, "entropy").index)]
    nothing = table[table.run.isin([*both.run, *both.teacher_run.dropna()])].degenerate.sum()
    return f" †{nothing}" * bool(nothing)


def has_learnt(table):
    """Whether ERM has learnt something on either model in every seed, so that a count of tasks may have this one."""
    return not table[table.arm.isin(["erm_small", "erm_large"])].degenerate.any()


def _entropy(table, text, ledgers):
    changes = {
        arm: {task: change(runs_, arm, "entropy") for task, runs_ in text.items() if arm in set(runs_.arm)}
        for arm in ARMS
        if arm[:3] != "erm"
    }
    means = {arm: [values.mean() for values in of_task.values()] for arm, of_task in changes.items()}
    shares = []
    for task in changes["ls_large"]:  # at the seeds that both have
        both = pd.concat([changes["kd_reverse"][task], changes["ls_large"][task]], axis=1).dropna().mean()
        shares.append(round(100 * both.iloc[0] / both.iloc[1]))
    counted = [task for task in TASKS if has_learnt(text[task])]
    aside = [task for task in TASKS if task not in counted]
    small, before = (
        [task for task in survives(ledgers, "H3.1") if task in counted],
        [task for task in TASKS if ledgers[task].high["H3.2"] < 0],
    )
    softer = [task for task in TASKS if ledgers[task].low["H3.2"] > 0]
    erm = text["mrpc"][text["mrpc"].arm == "erm_small"]
    selfs = table[(table.method == "kd") & (table.student == table.teacher)]
    shared = (selfs.seed == selfs.teacher_seed) & (selfs.order_seed == selfs.seed)
    below = ledgers["rt"].loc["H3.6b"]
    below = "{} [{}, {}]".format(*(as_printed(x, "nats") for x in below[["effect", "low", "high"]]))
    sides = {
        claim: [task for task in counted if ledgers[task].verdict[claim] == "holds"] for claim in ("H3.7b", "H3.7c")
    }
    falls = [task for task in counted if ledgers[task].verdict["H3.7b"] == "fails"]
    decided = {word: [task for task in TASKS if ledgers[task].verdict["H3.2"] == word] for word in ("holds", "fails")}
    tfkd = {task: text[task][text[task].arm.isin(["tfkd_small", "erm_small"])].degenerate.sum() for task in TASKS}
    return {
        "LS": f"LS raises the entropy of the large model on {len(survives(ledgers, 'H4.1'))} of "
        f"{len(changes['ls_large'])} text tasks, of the small one on {len(small)} of {len(counted)} ({listed(small)}; "
        f"not counted is {listed(aside)}, where {erm.degenerate.sum()} of {len(erm)} small ERM models learnt nothing)",
        "standard KD": f"Standard KD's change of it, {span(means['kd_standard'])} on average, is decided on "
        f"{listed(decided['fails'])}, where it rises; a fall of it is decided on {listed(decided['holds'])}. "
        f"Uncorrected, it is surer on {listed(before)} and less sure on {listed(softer)}",
        "self-KD": f"self-KD moves it by {span(means['kd_self'])}, where LS adds {span(means['ls_small'])}",
        "curves": f"Means over training are over {values(table.history_rows)} rows of a split",
        "shared seeds": f"share seed, first weights and batch order in {shared.sum()} of {len(selfs)} runs",
        "reverse KD": f"Reverse KD raises it on {listed(survives(ledgers, 'H4.2'))}, and on the "
        f"{len(shares)} with LS on the same model by {min(shares)} to {max(shares)} % of what LS adds",
        "teacher-free KD": f"Teacher-free KD raises it on {listed(survives(ledgers, 'H1.2'))}, "
        + joined([f"with {tfkd[task]} runs on `{task}` that have learnt nothing" for task in TASKS if tfkd[task]]),
        "progress": f"on `rt` self-KD ends at ERM's entropy and lies below it on the way, {below} on average",
        "sides": f"by seed, the slope in a less sure teacher's doubt is above 0 on {len(sides['H3.7c'])} of "
        f"{len(counted)} text tasks, that in a surer one's confidence on {len(sides['H3.7b'])} "
        f"({listed(sides['H3.7b'])}) and below it on {len(falls)} ({listed(falls)}), {listed(aside)} not counted",
    }


def _inheritance(table, text):
    erm = table[(table.method == "erm") & (table.schedule == "linear")]
    taught = table[
        (table.method == "kd") & (table.tau == 1) & (table.schedule == "linear") & (table.student != table.teacher)
    ]
    taught = beside_erm(taught, erm).assign(
        gap=lambda t: t.teacher_entropy - t.erm_entropy, moved=lambda t: t.test_entropy - t.erm_entropy
    )
    means = taught.groupby(["task", "student", "teacher", "alpha", "epochs"])[["gap", "moved"]].mean()
    share = means.moved / means.gap
    doubt, confidence = share[means.gap > 0], share[means.gap < 0]
    apart = [
        change(runs_, "kd_reverse", "entropy") / change(runs_, "erm_small", "entropy", "erm_large")
        - change(runs_, "kd_standard", "entropy") / change(runs_, "erm_large", "entropy", "erm_small")
        for runs_ in text.values()
        if has_learnt(runs_)
    ]
    digits = taught[taught.task == "digits"]
    surer = digits[digits.arm == "kd_standard"]
    selfs = table[(table.task == "digits") & (table.arm == "kd_self") & (table.tau == 1)]
    selfs = beside_erm(selfs, erm)
    return {
        "doubt": f"{doubt.min():.2f} to {doubt.max():.2f} of the entropy by which a teacher is less sure than ERM on "
        f"the student's model ({len(doubt)} pairings of task, models, alpha and epochs)",
        "confidence": f"{confidence.min():.2f} to {confidence.max():.2f} of that by which it is surer "
        f"({len(confidence)} pairings)",
        "shares differ": f"uncorrected, reverse KD's share is larger on {sum(interval(x)[1] > 0 for x in apart)} of "
        f"the {len(apart)} counted",
        "digits": f"On `digits` (alpha 1, a teacher surer by {-surer.gap.mean():.3f} nats) standard KD adds "
        f"{said(surer.moved)}, self-KD {said(selfs.test_entropy - selfs.erm_entropy)}",
    }


def searched(table, metric, arm, than):
    """Test entropy, NLL and accuracy of the models that the search selects, an arm's minus another's, by seed."""
    order = [f"validation_{metric}", "epochs", "lr", "alpha"]
    grid = table[table.schedule == "constant"].sort_values(order, ascending=[metric == "nll", True, True, True])
    best = grid.groupby(["arm", "seed"])[["test_entropy", "test_nll", "test_accuracy"]].first()
    return (best.loc[arm] - best.loc[than]).dropna().rename(columns=lambda name: name.removeprefix("test_"))


def _search(table, protocols):
    grid = table[table.schedule == "constant"]
    arms = list(SEARCHED)
    number = {arm: " or ".join(map(str, sorted(set(rows.groupby("seed").size())))) for arm, rows in grid.groupby("arm")}
    others = joined([f"{number[arm]} of {SEARCHED[arm].name}" for arm in arms])
    assert {int(number[arm]) / int(number["erm_small"]) for arm in arms} == {5}, "README: five times ERM's candidates"
    budget = ["task", "seed", "student", "lr", "epochs"]
    erm = grid[grid.method == "erm"][[*budget, "test_entropy", "degenerate"]]
    beside = grid[grid.method == "kd"].merge(erm, on=budget, suffixes=("", "_erm"))
    beside["moved"] = beside.test_entropy - beside.test_entropy_erm
    beside["gap"] = beside.teacher_entropy - beside.test_entropy_erm
    beside["softer"], beside["nothing"] = beside.moved > 0, beside.degenerate | beside.degenerate_erm
    pairs = beside.groupby("arm").agg({"softer": "sum", "nothing": ["sum", "size"]})
    most = beside[(beside.arm == "kd_standard") & (beside.alpha == 0.9)]
    doubt, confidence = (most.moved[side].sum() / most.gap[side].sum() for side in (most.gap > 0, most.gap < 0))
    told = {
        "search": f"({listed(sorted(set(grid.task)))}, {grid.seed.nunique()} seeds; a seed {number['erm_small']} runs "
        f"of ERM on each model, {others})",
        "protocol": f"where validation accuracy selects, entropy {_ways(protocols['accuracy'], arms)}; where "
        f"validation NLL selects, it {_ways(protocols['nll'], arms)}",
        "judged": "Of the paper's claims on an arm's entropy or accuracy against ERM on the same model, decided where "
        f"accuracy selects: {_judged(protocols['accuracy'], arms)}; where NLL selects: "
        f"{_judged(protocols['nll'], arms)}",
        "equal budget": "at equal learning rate and epochs, less sure than ERM on the same model: "
        + joined([_softer(SEARCHED[arm].name, *pairs.loc[arm]) for arm in arms if arm in pairs.index])
        + ". At alpha 0.9 the sign of standard KD is that of teacher minus ERM in "
        f"{(np.sign(most.moved) == np.sign(most.gap)).sum()} of {len(most)}, with {doubt:.2f} of the doubt taken over "
        f"and {confidence:.2f} of the confidence",
    }
    for metric, ledger_ in protocols.items():
        lines = {arm: SEARCHED[arm] for arm in arms} | {"kd_standard, LS": BESIDE_LS}
        told |= {f"{metric} {arm}": _searched_row(table, metric, line, ledger_) for arm, line in lines.items()}
    return told


def _softer(name, n, nothing, of):
    """Standard KD in 2 of 3 pairs."""
    return f"{name} in {n} of {of} pairs" + f" (in {nothing} of the {of} a run has learnt nothing)" * bool(nothing)


def _judged(ledger_, arms):
    """Which of the paper's claims in the table are decided: LS's entropy (as claimed)."""
    words, told = {"holds": "as claimed", "fails": "against the claim"}, []
    for line in (SEARCHED[arm] for arm in arms):
        for claim, what in ((line.entropy, "entropy"), (line.accuracy, "accuracy")):
            if (verdict := ledger_.verdict[claim]) in words:
                told.append(f"{line.name}'s {what} ({words[verdict]})")
    return joined(told) or "none"


def _ways(ledger_, arms):
    """What the selected models' entropy does, by Holm's corrected p: rises for LS and is undecided for self-KD."""
    told = {"rises": [], "falls": [], "is undecided": []}
    for arm in arms:
        line, row = SEARCHED[arm], ledger_.loc[SEARCHED[arm].entropy]
        way = "rises" if row.effect > 0 else "falls"
        if row.p_holm < 0.05:
            told[way].append(line.name)
        else:
            apart = row.low > 0 or row.high < 0  # what its interval alone would say
            told["is undecided"].append(f"{line.name} (uncorrected it {way})" if apart else line.name)
    return joined([f"{way} for {joined(names)}" for way, names in told.items() if names])


def _searched_row(table, metric, line, ledger_):
    moved = searched(table, metric, line.arm, line.than)
    cells = [said(moved.entropy), said(moved.nll), said(moved.accuracy, "points")]
    for place, claim in ((0, line.entropy), (2, line.accuracy)):
        if claim and ledger_.p_holm[claim] < 0.05:
            cells[place] = f"**{cells[place]}**"
    selected_by = {"accuracy": "accuracy", "nll": "NLL"}[metric]
    return f"| {selected_by} | {line.name} | {len(moved)} | {' | '.join(cells)} |"


def candidates(table, task, arm):
    """The runs of an arm among which one is selected, at the seeds where standard KD was searched over tau."""
    own = table[(table.task == task) & (table.schedule == "linear") & table.tau2_scaling]
    own = own[own.seed.isin(own[(own.arm == "kd_standard") & (own.tau != 1)].seed)]
    return own[own.arm == arm]


def selected(table, task, arm):
    """Per seed the run best on validation among those searched over tau; ties as `kdnb.sweeps.select` has them."""
    own = candidates(table, task, arm)
    order = ["validation_accuracy", "epochs", "lr", "alpha", "tau"]
    return own.sort_values(order, ascending=[False, True, True, True, True]).groupby("seed", as_index=False).first()


def slopes(table, **where):
    """Slope of test entropy in ln tau, by seed, mean over alpha."""
    own = table[(table.schedule == "linear") & (table[list(where)] == pd.Series(where)).all(axis=1)]
    own = own.groupby(["seed", "alpha"]).filter(lambda rows: rows.tau.nunique() > 1)
    fits = own.groupby(["seed", "alpha"])[["tau", "test_entropy"]].apply(
        lambda x: np.polyfit(np.log(x.tau), x.test_entropy, 1)[0]
    )
    return fits.groupby("seed").mean()


LARGE = {"erm_large": "ERM", "ls_large": "LS", "kd_reverse": "reverse KD"}


def _numbers(table, arm):
    """How many candidates an arm has a seed where tau was searched on `rt`."""
    return " or ".join(map(str, sorted(set(candidates(table, "rt", arm).groupby("seed").size()))))


def _temperature(table):
    erm = table[(table.method == "erm") & (table.schedule == "linear")]
    chosen = beside_erm(selected(table, "rt", "kd_standard"), erm)
    rt = table[(table.task == "rt") & (table.arm == "kd_standard")]
    plain = rt[~rt.tau2_scaling | (rt.tau == 1)]  # at tau 1 both are the same
    hot = beside_erm(rt[rt.tau2_scaling & (rt.tau == 16) & (rt.alpha == 1)], erm)
    share = (hot.test_entropy - hot.erm_entropy).mean() / (hot.teacher_entropy - hot.erm_entropy).mean()
    scaled = table[table.tau2_scaling]
    several, once = (
        {n for arm in arms for n in candidates(table, "rt", arm).groupby("seed").size()}
        for arms in (("kd_standard", "kd_self", "ls_small"), ("erm_small",))
    )
    rising = slopes(scaled, task="rt", arm="kd_standard")
    return {
        "trend": f"{said(rising)} nats per factor e of tau ({len(rising)} seeds",
        "selected tau": f"standard KD is surer than ERM, {said(chosen.test_entropy - chosen.erm_entropy)}, and its "
        f"NLL rises, {said(chosen.test_nll - chosen.erm_nll)}",
        "candidates": f"({' or '.join(map(str, sorted(several)))} candidates of standard KD, of self-KD and of LS each"
        f", {' or '.join(map(str, sorted(once)))} of ERM)",
        "hot": f"at tau 16 and alpha 1 it takes over {share:.2f} of its teacher's confidence",
        "unscaled": f"without tau² it is {said(slopes(plain, alpha=1.0))} at alpha 1 and "
        f"{said(slopes(plain, alpha=0.5))} at alpha 0.5",
        "self-KD's trend": f"self-KD falls as well, {said(slopes(scaled, task='rt', arm='kd_self'))}",
        "digits' trend": f"`digits` {said(slopes(scaled, task='digits', arm='kd_standard'))} and `section` "
        f"{said(slopes(scaled, task='section', arm='kd_standard'))} from two temperatures",
        "candidates, large": "On the large model the candidates are "
        + joined([f"{_numbers(table, arm)} of {name}" for arm, name in LARGE.items()]),
    }


def _accuracy(table, text, longest, ledgers, within_chance):
    fails, ours = {}, {}
    for task, rows in ledgers.items():
        for name in rows.index[rows.verdict == "fails"]:
            into = ours if name in ("H15.1a", "H15.2a", "H15.2b") else fails
            into.setdefault(name, []).append(titled(task))
    fails = {
        name: tasks for name, tasks in fails.items() if not name.startswith(("H11.", "H18.", "H20."))
    }  # of other studies
    assert set(fails) <= set(AGAINST), "a claim fails of which README says nothing"
    gains = {
        task: said(change(text[task], "ls_small", "accuracy"), "points")
        for task in TASKS
        if ledgers[task].verdict["H3.5c"] == "fails"
    }
    of_accuracy = set(next(iter(ledgers.values())).query("unit == 'points'").index)
    assert set(fails) & of_accuracy <= set(PAIRS), "a claim on accuracy whose examples nobody draws"
    smoothed = longest[longest.arm == "ls_small"]
    erm = table[(table.method == "erm") & (table.schedule == "linear")]
    taught = beside_erm(table[(table.arm == "kd_standard") & (table.schedule == "linear")], erm)
    taught = taught.assign(moved=taught.test_accuracy - taught.erm_accuracy)
    groups = {key: rows.moved for key, rows in taught.groupby(["task", "alpha", "tau", "tau2_scaling", "epochs"])}
    decided = {key: values for key, values in groups.items() if outside(values)}
    losses = [
        f"`{key[0]}` at alpha {key[1]:g} and tau {key[2]:g}, {said(x, 'points')} points" for key, x in decided.items()
    ]
    return {
        "against": "; ".join(f"{AGAINST[name]} ({', '.join(fails[name])})" for name in AGAINST if name in fails),
        "LS's gain": "LS's gain in accuracy is "
        + joined([f"{gain} points on `{task}`" for task, gain in gains.items()]),
        "chance": "Where test examples are drawn anew with the seeds, the interval has 0 in it for: "
        + "; ".join(f"{AGAINST[name]} ({', '.join(map(titled, within))})" for name, within in within_chance.items()),
        "gain": f"Standard KD's gain in accuracy is undecided in {len(groups) - len(decided)} of {len(groups)} "
        f"comparisons; the rest: {'; '.join(losses)}",
        "LS's confidence": "at alpha 0.4 the small model's is above its accuracy on "
        + (joined(ours.get("H15.1a", [])) or "no task")
        + f" (all {len(smoothed)} of these have learnt nothing)" * bool(smoothed.degenerate.all()),
        "NLL": "fails for "
        + " and for ".join(
            f"{name} ({', '.join(ours[claim])})"
            for claim, name in {"H15.2a": "standard KD", "H15.2b": "self-KD"}.items()
            if claim in ours
        ),
    }


def _settings(table, text):
    cuts = zip(table.task, table.train_rows, table.validation_rows, table.test_rows, strict=True)
    told = {}
    for task, *rows in sorted(set(cuts)):
        told[task] = " or ".join(filter(None, [told.get(task), " / ".join(f"{n:,}" for n in rows)]))
    same = [task for task in text if told[task] == told["rt"]]
    nothing = table[table.degenerate].groupby("task").size().to_dict()
    cost = pd.DataFrame(list(table.cost))
    unclean = cost.revision.str.endswith("-dirty").sum()
    search = table[table.schedule == "constant"]
    taught = search[search.method == "kd"]
    digits = table[(table.task == "digits") & (table.method == "kd")]
    hot = table[(table.task == "rt") & (table.method == "kd") & (table.tau > 1)]
    short = [task for task in ("mrpc", "passage") if table.epochs[table.task == task].max() <= 3]
    curves = (table.history_rows >= CURVE_ROWS).any()
    left = {
        "BERT and DistilBERT": not table.student.str.contains("bert").any() and set(table.profile) == {"cpu"},
        "QNLI, SST-2 and MNLI": not table.task.isin(["qnli", "sst2", "mnli"]).any(),
        "the grids of Table 1 and A.3 and the optima of Tables 7 and 12": not table.lr.isin(TABLE_1).any(),
        f"{listed(short)} at more epochs": bool(short),
        "the grid `curves`, without which nothing is said of entropy at each step of a training": not curves,
        "a GPU": cost.device.str.startswith("cpu").all(),
    }
    of_arm = {task: rows.groupby("arm").seed.nunique() for task, rows in text.items()}
    seeds = {task: of_arm[task].ls_small for task in text}
    no_large = [task for task in TASKS if "ls_large" not in of_arm[task]]
    seeds |= {"large": of_arm["rt"].ls_large, "else": of_arm["relation"].ls_large}
    seeds["digits"] = table[(table.task == "digits") & (table.arm == "kd_standard")].seed.nunique()
    seeds["heated"] = hot.seed.nunique()
    where = sorted("CPUs" if device.startswith("cpu") else f"one {device}" for device in set(cost.device))
    return {
        "tasks": ", ".join(f"`{task}`" for task in told),
        "rows": f"| {listed(same)} {told['rt']}; "
        + "; ".join(f"`{task}` {told[task]}" for task in (*TASKS, "digits") if task not in same)
        + " |",
        "precision": f"{' and '.join(sorted(set(cost.precision)))} on {' and '.join(where)}; arms that are compared "
        f"differ in it {_mixed(table, text)}",
        "seeds": f"{', '.join(f'`{task}` {seeds[task]}' for task in (*TASKS, 'digits'))}; LS on the large model and "
        f"teacher-free KD {seeds['large']} on `rt`, {listed(no_large)} none, else {seeds['else']}; the temperatures "
        f"and other sizes on `rt` {seeds['heated']}; the search {search.seed.nunique()}",
        "degenerate": f"learnt nothing: {', '.join(f'{n} on `{task}`' for task, n in nothing.items())}"
        + ", these with one layer" * (set(table[table.degenerate & (table.task == "rt")].student) == {"minilm-1"}),
        "searched": f"constant rates {min(search.lr):g} to {max(search.lr):g}, {min(search.epochs)} to "
        f"{max(search.epochs)} epochs, alpha {min(taught.alpha)} to {max(taught.alpha)}",
        "heated": f"tau 1 to {max(hot.tau):g}, alpha {values(hot.alpha)}",
        "digits settings": f"`digits`: {values(digits.lr)}, {values(digits.epochs)} epochs, alpha "
        f"{values(digits.alpha)}, tau {values(digits.tau)}",
        "switched": f"{(table.method == 'switch').sum()} of them switch losses in mid-training",
        "store": f"The {len(table)} runs behind this part, of {table.training.nunique()} trainings, took "
        f"{cost.seconds.groupby(table.training.to_numpy()).max().sum() / 3600:.1f} hours, "
        + (f"{unclean} at" if unclean else "each at a revision without")
        + " uncommitted changes",
        "all records": "all {:,} committed records, those on two effects, of profile `base`, of the 60s and of the 70s "
        "among them, {:.1f} hours".format(*_all_records()),
        "left": f"Not run: {', '.join(name for name, missing in left.items() if missing)}.",
    }


def _mixed(table, text):
    """Where compared runs are of two precisions: at the fixed settings, in the search, elsewhere on `rt`."""

    def seeds(rows):
        kinds = pd.Series([cost["precision"] for cost in rows.cost], index=rows.index)
        several = kinds.groupby([rows.seed, rows.epochs]).nunique() > 1
        return several[several].index.get_level_values("seed").nunique()

    at_fixed = {task: seeds(rows[rows.arm != ""]) for task, rows in text.items()}
    rt = table[table.task == "rt"]
    told = [f"at {n} of the seeds of `{task}`" for task, n in at_fixed.items() if n]
    told += [f"at {seeds(rt[rt.schedule == 'constant'])} of the search"]
    return joined([*told, f"with other settings on `rt` at {seeds(rt[rt.schedule == 'linear'])}"])


def _all_records():
    """How many records of any kind the store has, and the hours they took; a training that gave several counts once."""
    seconds = {}
    for path in RUNS.glob("*/config.json"):
        config = json.loads(path.read_text())
        if config.get("schedule") == "constant":
            config.pop("epochs")
        cost = json.loads((path.parent / "metrics.json").read_text())["cost"]
        seconds.setdefault(json.dumps(config, sort_keys=True), []).append(cost["seconds"])
    return sum(map(len, seconds.values())), sum(map(max, seconds.values())) / 3600


def flat(text):
    return " ".join(text.split())


def stale(told):
    """The topics whose statement does not stand in README."""
    readme = flat((paths.ROOT / "README.md").read_text())
    return {topic for topic, statement in told.items() if flat(statement) not in readme}


def test_readme_says_what_the_runs_say(committed, ledgers, within_chance, protocols):
    assert stale(statements(committed, ledgers, within_chance, protocols)) == set()


def test_no_number_of_readmes_results_is_unchecked(committed, ledgers, within_chance, protocols):
    readme = flat((paths.ROOT / "README.md").read_text())
    left = readme[
        readme.index("### What the paper claims") : readme.index("### Beyond the two papers")
    ]  # what stands before and behind it is for test_two_effects.py and test_dark_knowledge.py
    for statement in statements(committed, ledgers, within_chance, protocols).values():
        left = left.replace(flat(statement), "")
    assert set(re.findall(r"[+-]?\d+\.\d+|\d+ of \d+", left)) <= {"0.4", "0.5", "0.9"}, "these are alphas"


def test_the_packages_numbers_are_numpys(committed, studies, ledgers, protocols):
    """Metrics, paired effects, intervals, selection and Holm's correction of the package, by other means."""
    for name, row in committed.iterrows():
        stored = json.loads((RUNS / name / "metrics.json").read_text())
        for split in ("train", "validation", "test"):
            for metric in ("entropy", "nll", "accuracy"):
                assert row[f"{split}_{metric}"] == pytest.approx(stored[split][metric], abs=1e-9), (name, split, metric)
    table = with_models(committed)
    for task in TASKS:
        ours, rows = fixed(table[table.task == task]), ledgers[task]
        for arm, name in zip(COLUMNS, ("H3.1", "H3.2", "H3.3", "H4.1", "H4.2"), strict=True):
            if arm not in set(ours.arm):
                assert rows.n[name] == 0
                continue
            values = change(ours, arm, "entropy")
            assert tuple(rows.loc[name, ["effect", "low", "high"]]) == pytest.approx(interval(values))
            assert rows.p[name] == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
        nothing = studies[task].table.set_index("run_id").degenerate
        shared = nothing.index.intersection(committed.index)
        assert set(ours.index[ours.arm != ""]) <= set(shared)
        assert nothing[shared].to_dict() == committed.degenerate[shared].to_dict()
        for family in ("H3.", "H4."):
            tested = rows[rows.index.str.startswith(family)].p.dropna()
            assert holm(tested.to_dict()) == pytest.approx(rows.p_holm[tested.index].to_dict())
    erm = table[(table.method == "erm") & (table.schedule == "linear")]
    chosen = beside_erm(selected(table, "rt", "kd_standard"), erm)
    assert ledgers["rt"].effect["H5.1a"] == pytest.approx((chosen.test_entropy - chosen.erm_entropy).mean())
    for metric, ledger_ in protocols.items():
        for line in (*SEARCHED.values(), BESIDE_LS):
            best = searched(table, metric, line.arm, line.than)
            for claim, moved in ((line.entropy, best.entropy), (line.accuracy, best.accuracy)):
                assert not claim or tuple(ledger_.loc[claim, ["effect", "low", "high"]]) == pytest.approx(
                    interval(moved)
                )
    for task in ("rt", "digits"):
        slope = slopes(table[table.tau2_scaling], task=task, arm="kd_standard")
        assert tuple(ledgers[task].loc["H5.5", ["effect", "low", "high"]]) == pytest.approx(interval(slope))


def test_no_record_of_any_kind_names_a_revision_with_uncommitted_changes():
    told = {path.parent.name: json.loads(path.read_text())["cost"] for path in RUNS.glob("*/metrics.json")}
    simulated = (RUNS.parent / "simulations").glob("*.json")
    told |= {path.stem: json.loads(path.read_text())["cost"] for path in simulated}
    assert [name for name, cost in told.items() if not re.fullmatch(r"[0-9a-f]{7,40}", cost.get("revision", ""))] == []


def test_the_grids_are_there(studies):
    found = registry.evidence(studies["rt"])
    assert found["temperature"].table.tau.nunique() == 5
    assert found["smoothing"].table.alpha.min() >= 0.7


# And it would not, if a run said something else


def one(table, **where):
    """The first stored run with these values."""
    return table[(table[list(where)] == pd.Series(where)).all(axis=1)].index[0]


def plant(like, sharper=1.0, wrong=False, cost=None, **changes):
    """Put a run like a committed one into the test's own store, where it is found first; its logits may differ.

    Args:
        like: run_id.
        sharper: factor of all logits.
        wrong: whether every prediction is the first class.
        cost: what is to be changed in the record of what made it.
        changes: fields of its config; none at all, and it stands in the place of the committed one.
    """
    run = runs.load(like)
    logits = {split: (sharper * z).astype(np.float32) for split, z in run.logits.items()}
    if wrong:
        logits = {split: np.eye(z.shape[1], dtype=np.float32)[np.zeros(len(z), int)] for split, z in logits.items()}
    said = {split: metrics.summary(z, run.labels[split]) for split, z in logits.items()}
    said["cost"] = {**run.metrics["cost"], **(cost or {})}
    new = replace(run, config=replace(run.config, **changes), logits=logits, metrics=said)
    runs.save(new)
    return new.run_id


def with_planted(committed):
    """The committed runs as one table, planted ones in their place or beside them."""
    ours = read(paths.RUNS)
    return pd.concat([committed[~committed.index.isin(ours.index)], ours])


AT_FIXED = {"schedule": "linear", "alpha": 0.9, "tau": 1.0}
AT_SEARCHED = {"schedule": "constant", "arm": "kd_standard", "epochs": 4}
AT_16 = {"task": "rt", "arm": "kd_standard", "tau": 16.0, "alpha": 1.0, "tau2_scaling": True}
PLANTED = {
    "a student of one seed surer": ({"task": "rt", "arm": "kd_standard", **AT_FIXED}, {"sharper": 3}, "entropy rt"),
    "its likelihood": ({"task": "relation", "arm": "kd_self"}, {"sharper": 1.5}, "nll relation"),
    "a fourth seed": ({"task": "headline", "arm": "ls_large"}, {"seed": 3}, "entropy headline"),
    "a run that learnt nothing": ({"task": "passage", "arm": "ls_small"}, {"wrong": True}, "degenerate"),
    "another task": ({"task": "rt", "arm": "erm_small"}, {"task": "imdb"}, "tasks"),
    "a task of the paper": ({"task": "mrpc", "arm": "erm_small"}, {"task": "sst2"}, "left"),
    "a model of the paper": ({"task": "rt", "arm": "erm_large"}, {"student": "bert-base"}, "left"),
    "a run on another machine": ({"task": "rt", "arm": "erm_large"}, {"cost": {"device": "another"}}, "precision"),
    "the search, another seed": ({"schedule": "constant", "arm": "kd_standard"}, {"seed": 9}, "search"),
    "the search, a surer student": ({**AT_SEARCHED, "lr": 2e-4, "alpha": 0.7}, {"sharper": 9}, "accuracy kd_standard"),
    "the search, a pair turned": ({**AT_SEARCHED, "lr": 4e-4, "alpha": 0.9}, {"sharper": 9}, "equal budget"),
    "digits, a surer student of itself": ({"task": "digits", "arm": "kd_self", "tau": 1.0}, {"sharper": 9}, "digits"),
    "a pairing that inherits more": ({"task": "rt", "student": "minilm-4", "method": "kd"}, {"sharper": 0.1}, "doubt"),
    "a pairing surer still": ({"task": "rt", "student": "minilm-2", "method": "kd"}, {"sharper": 9}, "confidence"),
    "a softer student at tau 16": (AT_16, {"sharper": 0.3}, "trend"),
    "digits at tau 4": ({"task": "digits", "arm": "kd_standard", "tau": 4.0}, {"sharper": 0.1}, "digits' trend"),
    "a run of a dirty tree": ({"task": "rt", "arm": "erm_large"}, {"cost": {"revision": "0123abc-dirty"}}, "store"),
    "mrpc, a fourth seed": ({"task": "mrpc", "arm": "ls_small"}, {"seed": 3}, "seeds"),
    "self-KD of another order": ({"task": "rt", "arm": "kd_self", "alpha": 1.0}, {"order_seed": 7}, "shared seeds"),
}  # fmt: skip


@pytest.mark.parametrize(("like", "changes", "topic"), PLANTED.values(), ids=PLANTED)
def test_a_run_that_says_otherwise_is_noticed(committed, ledgers, within_chance, protocols, like, changes, topic):
    plant(one(with_models(committed), **like), **changes)
    told = statements(with_planted(committed), ledgers, within_chance, protocols)
    assert topic in stale(told)


def test_a_verdict_that_changes_is_noticed(committed, ledgers, within_chance, protocols):
    """Self-KD on headline as accurate as ERM: a claim that failed no longer does."""
    table = with_models(committed)
    for seed in sorted(table[(table.task == "headline") & (table.arm == "kd_self")].seed):
        name = one(table, task="headline", arm="kd_self", seed=seed)
        run, erm = runs.load(name), runs.load(one(table, task="headline", arm="erm_small", seed=seed))
        runs.save(replace(run, logits=erm.logits, metrics={**erm.metrics, "cost": run.metrics["cost"]}))
    changed = {**ledgers, "headline": ledger(tables.study("headline", "cpu"))}
    assert "against" in stale(statements(committed, changed, within_chance, protocols))
