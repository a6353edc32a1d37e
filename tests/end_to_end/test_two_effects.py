"""What README says of two effects in one loss, from the committed logits by numpy and scipy; verdicts by other means.

Nothing of the package's statistics, tables or cells is used here to make a number, only to compare with it.
"""

import functools
import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import interpolate, optimize, stats
from scipy.special import entr, log_softmax, softmax

from kdnb import paths
from kdnb.analysis.ledger import as_printed
from kdnb.experiment import tables
from kdnb.studies import registry
from kdnb.studies.two_effects.claims import CHAPTER

pytestmark = pytest.mark.slow

REFERENCE = paths.ROOT / "outputs" / "reference"
README = " ".join((paths.ROOT / "README.md").read_text(encoding="utf-8").split())
SECTION = README[README.find("### Two things in one loss") : README.find("### What the paper claims")]
TASKS = ("rt", "headline", "section", "digits")
NOISY = ("digits@0.2", "digits@0.4", "rt@0.2", "rt@0.4")
TIMED = ("digits", "section")  # those with runs at few and many epochs
SEEDS = range(10, 18)
LEDGER = ("H18.",)
EFFECTS = ("H18.1", "H18.2", "H18.3", "H18.4a", "H18.4b", "H18.5", "H18.7", "H18.8", "H18.9", "H18.10", "H18.11")


@functools.cache
def logits_of(name):
    with np.load(REFERENCE / "runs" / name / "arrays.npz") as arrays:
        return {split: arrays[split].astype(float) for split in arrays.files}


def labels_of(data):
    with np.load(REFERENCE / "labels" / f"{data}.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def table():
    """One row per committed run of profile cpu with seeds 10 and up on these tasks."""
    rows = []
    for path in sorted((REFERENCE / "runs").glob("*/config.json")):
        config = json.loads(path.read_text())
        task = str(config.get("task"))
        if "kind" in config or task not in (*TASKS, *NOISY) or config["profile"] != "cpu" or config["seed"] < 10:
            continue
        if config["seed"] >= 100:  # families of born-again networks
            continue
        labels, logits = labels_of(config["data"]), logits_of(path.parent.name)
        row = {"run": path.parent.name, **config}
        for split in ("train", "test"):
            log_p = log_softmax(logits[split], axis=1)
            row[f"{split}_entropy"] = entr(np.exp(log_p)).sum(axis=1).mean()
            row[f"{split}_accuracy"] = (log_p.argmax(axis=1) == labels[split]).mean()
            row[f"{split}_nll"] = -log_p[np.arange(len(log_p)), labels[split]].mean()
        rows.append(row)
    return pd.DataFrame(rows, index=[row["run"] for row in rows])


@functools.cache
def entropy_after_scaling(name, data):
    """Test entropy of a run's logits over the one temperature at which its validation NLL is least."""
    logits, labels = logits_of(name), labels_of(data)["validation"]

    def nll(log_tau):
        log_p = log_softmax(logits["validation"] / np.exp(log_tau), axis=1)
        return -log_p[np.arange(len(labels)), labels].mean()

    tau = np.exp(optimize.minimize_scalar(nll, bounds=(-4, 6), method="bounded").x)
    return entr(softmax(logits["test"] / tau, axis=1)).sum(axis=1).mean()


@pytest.fixture(scope="module")
def ledgers():
    """The package's ledger of H18 by task."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", REFERENCE / "runs")
        found = {}
        registry.grids()
        for task in TASKS:
            study = tables.study(task, "cpu")
            given = {name: kind.runs(study) for name, kind in CHAPTER.evidence.items()}
            found[task] = registry.ledger(study, LEDGER, given).set_index("id")
        return found


def pick(table, task, **where):
    """The test metrics of some runs of a task's small model by seed."""
    rows = table[(table.task == task) & (table.student == "small")]
    for name, value in ({"schedule": "linear"} | where).items():
        rows = rows[rows[name].isna() if value is None else rows[name] == value]
    return rows.set_index("seed").sort_index()


def cells(table, task):
    """The four cells of the two by two, and LS, as tables of runs by seed."""
    return {
        "lh": pick(table, task, method="erm"),
        "ls": pick(table, task, transform="swap"),
        "th": pick(table, task, transform="hard", alpha=1.0),
        "ts": pick(table, task, method="kd", alpha=1.0, tau=1.0),
        "LS": pick(table, task, method="ls"),
    }


def effects(table, task):
    """Claim id -> (value by seed, bound or nan), as EXPERIMENTS' two by two, dose and placebos define them."""
    cell = {name: rows.test_entropy for name, rows in cells(table, task).items()}
    teachers = table[(table.task == task) & (table.student == "large") & (table.method == "erm")]
    teachers = teachers[teachers.schedule == "linear"].set_index("seed").loc[list(SEEDS)]
    soft = ((cell["ls"] - cell["lh"] + cell["ts"] - cell["th"]) / 2).dropna()
    labels = ((cell["th"] - cell["lh"] + cell["ts"] - cell["ls"]) / 2).dropna()
    bound = 0.1 * abs((cell["LS"] - cell["lh"]).mean())
    found = {"H18.1": (soft, np.nan)}
    accuracy = teachers.train_accuracy.mean()
    if accuracy < 0.97:
        found["H18.2"] = (labels, np.nan)
    if accuracy > 0.995:
        found["H18.3"] = (labels, bound)
    return found | _dose(table, task, teachers, bound) | _placebo(table, task, teachers, bound)


def _dose(table, task, teachers, bound):
    erm, rows = pick(table, task, method="erm"), []
    for seed in SEEDS:
        told = logits_of(teachers.run[seed])["train"]
        for dose in (0.25, 0.5, 1.0, 2.0, 4.0):
            where = {"method": "kd"} if dose == 1 else {"sharpness": dose}
            student = pick(table, task, alpha=1.0, tau=1.0, **where).loc[seed]
            entropy = entr(softmax(dose * told.astype(np.float32), axis=1)).sum(axis=1).mean()
            rows.append((seed, dose, entropy - erm.train_entropy[seed], student.test_entropy - erm.test_entropy[seed]))
    rows = pd.DataFrame(rows, columns=["seed", "dose", "x", "change"])
    above = rows[rows.x > 0]
    several = above[above.groupby("seed").dose.transform("size") > 1]
    slopes = several.groupby("seed")[["x", "change"]].apply(lambda one: (one.x @ one.change) / (one.x @ one.x))
    hard = pick(table, task, transform="hard", alpha=1.0).test_entropy
    return {
        "H18.4a": (above.groupby("seed").change.mean(), np.nan),
        "H18.4b": (slopes - 1, 0.2),
        "H18.5": (pick(table, task, sharpness=4.0, alpha=1.0).test_entropy - hard, bound),
    }


def _placebo(table, task, teachers, bound):
    shuffled, means = (pick(table, task, transform=name) for name in ("shuffle", "class_mean"))
    kd, erm = pick(table, task, method="kd", alpha=0.9), pick(table, task, method="erm")
    large = kd[kd.teacher_run.isin(teachers.run)]
    of_seed = dict(zip(erm.run, erm.index, strict=True))
    selfs = kd[kd.teacher_run.isin(of_seed)]
    own = selfs.teacher_run.map(of_seed) == selfs.index
    return {
        "H18.7": (shuffled.test_entropy - large.test_entropy, np.nan),
        "H18.8": (large.test_accuracy - shuffled.test_accuracy, np.nan),
        "H18.9": (shuffled.test_entropy - means.test_entropy, bound),
        "H18.10": (selfs[own].test_entropy - selfs[~own].test_entropy, bound),
        "H18.11": ((selfs[~own].test_entropy - erm.test_entropy).dropna(), bound),
    }


def p_of(values, bound):
    """Two-sided p of the t test; of a claim of equivalence the larger one-sided p."""
    if np.isnan(bound):
        return stats.ttest_1samp(values, 0).pvalue if np.ptp(values) else float(values.iloc[0] == 0)
    if not np.ptp(values):
        return float(abs(values.iloc[0]) >= bound)
    t, df = stats.t, len(values) - 1
    error = stats.sem(values)
    return max(t.sf((values.mean() + bound) / error, df), t.cdf((values.mean() - bound) / error, df))


def holm(p):
    """Holm's step-down correction, by id."""
    ordered = sorted(p, key=p.get)
    raised = np.maximum.accumulate([p[name] * (len(p) - place) for place, name in enumerate(ordered)])
    return dict(zip(ordered, np.minimum(raised, 1), strict=True))


def verdict(values, bound, p, sign):
    """ "holds", "fails" or "undecided"."""
    if not np.isnan(bound):
        half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
        outside = values.mean() - half > bound or values.mean() + half < -bound
        return "holds" if p < 0.05 else "fails" if outside else "undecided"
    if p >= 0.05:
        return "undecided"
    return "holds" if sign * values.mean() > 0 else "fails"


@pytest.mark.parametrize("task", TASKS)
def test_every_verdict_can_be_had_without_the_package(table, ledgers, task):
    """Effect, n, p after Holm's correction and verdict of each H18 claim, from logits."""
    ours = {name: (values.dropna(), bound) for name, (values, bound) in effects(table, task).items()}
    raised = holm({name: p_of(*one) for name, one in ours.items()})
    rows = ledgers[task]
    assert set(rows.index[rows.n > 0]) == set(ours)
    for name, (values, bound) in ours.items():
        row, sign = rows.loc[name], -1 if name == "H18.2" else 1
        assert (row.effect, row.n) == (pytest.approx(values.mean(), abs=1e-6), len(values)), name
        assert row.p_holm == pytest.approx(raised[name], rel=1e-3, abs=1e-9), name
        assert (np.isnan(row.bound) and np.isnan(bound)) or row.bound == pytest.approx(bound, rel=1e-5), name
        assert row.verdict == verdict(values, bound, raised[name], sign), name


def said(values, unit="nats"):
    """A mean and its 95 % t interval as README prints them."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    mean = values.mean()
    return "{} [{}, {}]".format(*(as_printed(x, unit) for x in (mean, mean - half, mean + half)))


@pytest.fixture(scope="module")
def base():
    """One row per committed run of profile base: its config and test entropy."""
    rows = []
    for path in sorted((REFERENCE / "runs").glob("*/config.json")):
        config = json.loads(path.read_text())
        if config.get("profile") == "base":
            log_p = log_softmax(logits_of(path.parent.name)["test"], axis=1)
            rows.append({"run": path.parent.name, **config, "test_entropy": entr(np.exp(log_p)).sum(axis=1).mean()})
    return pd.DataFrame(rows, index=[row["run"] for row in rows])


def at_the_papers_size(base):
    """README's sentence on profile base."""
    assert set(base.task) == {"mrpc"}
    size = dict(zip(base.run, base.student, strict=True))

    def change(method, student, teacher=""):
        rows = base[(base.student == student) & (base.teacher_run.map(size).fillna("") == teacher)].set_index("seed")
        erm = base[(base.student == student) & (base.method == "erm")].set_index("seed")
        return said(rows[rows.method == method].test_entropy - erm.test_entropy)

    return (
        f"LS {change('ls', 'small')}, standard KD {change('kd', 'small', 'large')}, self-KD "
        f"{change('kd', 'small', 'small')}; large model: LS {change('ls', 'large')}, reverse KD "
        f"{change('kd', 'large', 'small')}"
    )


def told_of(table, ledgers, claim, tasks=TASKS):
    """`rt` +0.045 [...], ...; undecided ones say so."""
    parts = []
    for task in tasks:
        if ledgers[task].n[claim]:
            word = "" if ledgers[task].verdict[claim] in ("holds", "fails") else ", undecided"
            parts.append(f"`{task}` {said(effects(table, task)[claim][0].dropna())}{word}")
    return "; ".join(parts)


def scaled(table, task):
    """What LS, softness and the teacher's labels add to entropy after temperature scaling: (LS, softness, labels)."""
    cell = {
        name: pd.Series({seed: entropy_after_scaling(one.run, one.data) for seed, one in rows.iterrows()})
        for name, rows in cells(table, task).items()
    }
    smoothed = (cell["LS"] - cell["lh"]).dropna()
    soft = ((cell["ls"] - cell["lh"] + cell["ts"] - cell["th"]) / 2).dropna()
    return smoothed, soft, ((cell["th"] - cell["lh"] + cell["ts"] - cell["ls"]) / 2).dropna()


def ranges_after_scaling(table):
    """README's words on temperature scaling: the range over tasks of each mean."""
    means = zip(*([one.mean() for one in scaled(table, task)] for task in TASKS), strict=True)
    ls, soft, labels = ("{} to {}".format(*(as_printed(x, "nats") for x in (min(of), max(of)))) for of in means)
    return f"LS moves entropy by {ls}, softness by {soft}, the teacher's labels by {labels}"


def at_budgets(table, task):
    """By the epochs of teacher and student, what softness and the teacher's labels do on a task: two series by seed."""
    rows = table[(table.task == task) & (table.schedule == "constant") & (table.student == "small")]
    found = {}
    for epochs, part in rows.groupby("epochs"):
        of = {
            name: part[part[column] == value].set_index("seed").test_entropy
            for name, column, value in (
                ("lh", "method", "erm"),
                ("ts", "method", "kd"),
                ("ls", "transform", "swap"),
                ("th", "transform", "hard"),
            )
        }
        soft, labels = of["ls"] - of["lh"] + of["ts"] - of["th"], of["th"] - of["lh"] + of["ts"] - of["ls"]
        found[epochs] = (soft / 2, labels / 2)
    return found


def memorising(table):
    """README's words on the labels of section's teachers after few epochs and after many."""
    labels = {epochs: said(effect) for epochs, (_, effect) in at_budgets(table, "section").items()}
    rows = table[(table.task == "section") & (table.schedule == "constant") & (table.student == "large")]
    right = rows.groupby("epochs").train_accuracy.mean()
    return (
        f"on `section` they move entropy by {labels[2]} after 2 epochs, when its train accuracy is {right[2]:.1%}, by "
        f"{labels[10]} after 10, at {right[10]:.1%}"
    ).replace("%", " %")


def at_equal_progress(table, task):
    """KD's and LS's entropy minus ERM's at ERM's NLL on train, by seed: students of a task."""
    rows = table[(table.task == task) & (table.schedule == "constant") & (table.student == "small")]
    found = {"kd": {}, "ls": {}}
    for seed, part in rows.groupby("seed"):
        erm = part[part.method == "erm"].sort_values("train_nll")
        line = interpolate.interp1d(np.log(erm.train_nll), erm.test_entropy, bounds_error=False)
        for method, of in found.items():
            own = part[(part.method == method) & (part.alpha.eq(1) | (method == "ls"))]
            of[seed] = np.nanmean(own.test_entropy - line(np.log(own.train_nll)))
    return [said(pd.Series(of)) for of in found.values()]


def signs(table):
    """By task the seeds at which the teacher is surer on train than ERM, and those at which its student is on test."""
    teacher, student = [], []
    for task in TASKS:
        erm, kd = pick(table, task, method="erm"), pick(table, task, method="kd", alpha=1.0, tau=1.0)
        kd = kd.join(table.train_entropy.rename("teacher_entropy"), on="teacher_run")
        teacher.append(int((kd.teacher_entropy < erm.train_entropy.reindex(kd.index)).sum()))
        student.append(int((kd.test_entropy < erm.test_entropy.reindex(kd.index)).sum()))
    return teacher, student


def statements(table, ledgers, base):
    """README's statements on two effects, by topic."""
    cleaned = []
    for task in NOISY:
        cell = {name: rows.test_entropy for name, rows in cells(table, task).items()}
        cleaned.append(((cell["th"] - cell["lh"] + cell["ts"] - cell["ls"]) / 2).dropna())
    holds = {name: [task for task in TASKS if ledgers[task].verdict.get(name) == "holds"] for name in EFFECTS}
    slopes = [1 + ledgers[task].effect["H18.4b"] for task in TASKS]
    counts = {name: sum(ledgers[task].n[name] > 0 for task in TASKS) for name in EFFECTS}
    few = [said(at_budgets(table, task)[epochs][0]) for task in TIMED for epochs in (2, 10)]
    (kd, ls), (kd_section, ls_section) = (at_equal_progress(table, task) for task in TIMED)
    teacher, student = signs(table)
    assert set(teacher) == {len(SEEDS)}, "README says of all seeds that the teacher is surer"
    return {
        "few epochs": f"after 2 epochs by {few[0]}, after 10 by {few[1]}, on `section` by {few[2]} and {few[3]}",
        "equal progress": f"KD moves entropy by {kd}, on `section` by {kd_section}, LS by {ls} and {ls_section}",
        "scaled": ranges_after_scaling(table),
        "signs": f"its student is surer than ERM in {', '.join(map(str, student[:-1]))} and {student[-1]} of "
        f"{len(SEEDS)} seeds",
        "base": at_the_papers_size(base),
        "softness": f"a student is less sure: {told_of(table, ledgers, 'H18.1')}",
        "labels": f"its labels make a student surer: {told_of(table, ledgers, 'H18.2')}",
        "memorised": f"by {said(effects(table, 'digits')['H18.3'][0])} on `digits`",
        "memorising": memorising(table),
        "noise": f"with 20 and 40 % of the train labels drawn anew by {said(cleaned[0])} and {said(cleaned[1])}, "
        f"on `rt` by {said(cleaned[2])} and {said(cleaned[3])}",
        "doubt": f"slopes {min(slopes):.2f} to {max(slopes):.2f}, on {len(holds['H18.4b'])} of {counts['H18.4b']} "
        "tasks",
        "beyond": f"is that at its hard labels, within a tenth of what LS does, on {len(holds['H18.5'])} of "
        f"{counts['H18.5']} tasks",
        "shuffled": f"less sure than KD's: {told_of(table, ledgers, 'H18.7')}",
        "instance": f"their accuracy is decided on {len(holds['H18.8'])} of {counts['H18.8']} tasks",
    }


def stale(told):
    return {topic for topic, statement in told.items() if " ".join(statement.split()) not in SECTION}


def test_readme_says_what_the_runs_say(table, ledgers, base):
    assert stale(statements(table, ledgers, base)) == set()


def test_no_number_of_the_section_is_unchecked(table, ledgers, base):
    left = SECTION
    for statement in statements(table, ledgers, base).values():
        left = left.replace(" ".join(statement.split()), "")
    assert re.findall(r"[+-]?\d+\.\d+|\d+ of \d+", left) == []


@pytest.mark.parametrize(
    ("task", "where", "topic"),
    [
        ("rt", {"transform": "swap"}, "softness"),
        ("headline", {"transform": "hard", "alpha": 1.0}, "labels"),
        ("section", {"transform": "shuffle"}, "shuffled"),
        ("section", {"transform": "hard", "schedule": "constant", "epochs": 10}, "memorising"),
        ("section", {"method": "ls", "schedule": "constant", "epochs": 3}, "equal progress"),
        ("digits", {"transform": "swap", "schedule": "constant", "epochs": 2}, "few epochs"),
        ("digits@0.4", {"transform": "hard", "alpha": 1.0}, "noise"),
        ("rt@0.2", {"transform": "hard", "alpha": 1.0}, "noise"),
        ("rt@0.4", {"transform": "hard", "alpha": 1.0}, "noise"),
    ],
)
def test_a_run_that_says_otherwise_is_noticed(table, ledgers, base, task, where, topic):
    changed = table.copy()
    (name, *_) = pick(table, task, **where).run
    changed.loc[name, "test_entropy"] += 1.0
    assert topic in stale(statements(changed, ledgers, base))


def test_what_is_called_decided_at_the_papers_size_is():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", REFERENCE / "runs")
        rows = registry.ledger(tables.study("mrpc", "base"), ("H3.", "H4.")).set_index("id")
    claims = {"H3.1": "LS small", "H3.2": "standard KD", "H3.3": "self-KD", "H4.1": "LS large", "H4.2": "reverse KD"}
    decided = [name for name in claims if rows.verdict[name] in ("holds", "fails")]
    assert decided == ["H3.1", "H4.1", "H4.2"]
    assert "Of these, LS on both models and reverse KD are decided." in SECTION


def test_what_holds_at_equal_progress():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", REFERENCE / "runs")
        registry.grids()
        found = {}
        for task in TIMED:
            study = tables.study(task, "cpu")
            given = {name: kind.runs(study) for name, kind in CHAPTER.evidence.items()}
            found[task] = registry.ledger(None, ("H20.",), given).set_index("id").verdict.to_dict()
    assert found == {"digits": {"H20.1": "holds", "H20.2": "holds"}, "section": {"H20.1": "fails", "H20.2": "holds"}}
    assert "LS still raises entropy, KD does not." in SECTION
    assert "That KD leaves it as it is holds on `digits` and fails on `section`." in SECTION


def test_the_answer_counts_its_tasks(ledgers):
    assert [ledgers[task].verdict["H18.1"] for task in TASKS].count("holds") == 3
    told = [task for task in TASKS if ledgers[task].n["H18.2"] > 0]
    assert [ledgers[task].verdict["H18.2"] for task in told] == ["holds"] * 3
    answer = "raises a student's entropy on three of four tasks, given enough epochs; the labels lower it on all three"
    assert answer in README
