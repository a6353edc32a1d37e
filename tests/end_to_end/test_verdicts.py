"""Every verdict on the committed runs anew, from stored logits and curves with numpy and scipy.

Of the package come the verdicts that are compared, the list of claims and where the runs lie; which runs belong to a
claim is read off their configs, and no statistic is the package's. Of a simulation the effects are stored, and what is
made of them is computed anew. Claims of which neither is done here are LEFT_OUT.
"""

import functools
import json
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from anew import REFERENCE, holm, labels_of, logits_of
from scipy import optimize, stats
from scipy.special import entr, log_softmax, logsumexp, softmax

from kdnb import paths
from kdnb.analysis import statistics
from kdnb.analysis.ledger import over_tasks
from kdnb.experiment import tables
from kdnb.studies import registry
from kdnb.studies.label_smoothing import evidence

pytestmark = pytest.mark.slow

ARMS = {  # (method, student, its teacher's size) -> arm
    ("erm", "large", ""): "erm_large", ("erm", "small", ""): "erm_small", ("ls", "small", ""): "ls_small",
    ("kd", "small", "large"): "kd_standard", ("kd", "small", "small"): "kd_self", ("ls", "large", ""): "ls_large",
    ("kd", "large", "small"): "kd_reverse", ("tfkd", "small", ""): "tfkd_small",
}  # fmt: skip
TEXTS = {"lr": 1e-4, "epochs": 3}
FIXED = {"cpu": TEXTS, "base": {"lr": 3e-5, "epochs": 3}, "digits": {"lr": 2e-3, "epochs": 8}}  # images have their own
LABELS_ALONE = {"erm": 0.0, "ls": 0.4}
ALPHA = {"cpu": LABELS_ALONE | {"kd": 0.9, "tfkd": 0.9}, "base": LABELS_ALONE | {"kd": 0.7, "tfkd": 0.7}}
SEARCH = {"lr": (5e-5, 1e-4, 2e-4, 4e-4), "epochs": (1, 2, 4), "alpha": (0.1, 0.3, 0.5, 0.7, 0.9)}
BUDGETS = (1, 2, 3, 6, 10)  # epochs
LARGE_ALPHA, TAUS, FAR, SHARE = 0.7, 3, 2, 0.1
CLEANING = 0.97  # train accuracy of the teacher, below which its labels are said to act
FAMILY = {"digits": {"lr": 2e-3, "epochs": 40, "schedule": "linear"}}  # born-again networks, those on texts:
FAMILY_OF_TEXTS = {"lr": 1e-4, "epochs": 3, "schedule": "constant"}
STRIDE = 100  # between the seeds of such a family


class Case(NamedTuple):
    """A ledger: of a task at the fixed settings, after other epochs, or of what the search selects by a metric."""

    task: str
    profile: str = "cpu"
    epochs: int = 0  # 0 for the fixed ones
    search: str = ""

    @property
    def plain(self):
        """Whether the runs beside the fixed arms, over tau and so on, are judged in it as well."""
        return self.profile == "cpu" and not self.epochs and not self.search


CASES = {
    **{task: Case(task) for task in ("rt", "mrpc", "headline", "passage", "relation", "section", "digits")},
    **{task: Case(task) for task in ("rt@0.2", "rt@0.4", "digits@0.2", "digits@0.4")},  # noise in the train labels
    "mrpc, 6 epochs": Case("mrpc", epochs=6),
    "mrpc, base": Case("mrpc", profile="base"),
    "rt, base": Case("rt", profile="base"),
    "rt, search by accuracy": Case("rt", search="accuracy"),
    "rt, search by NLL": Case("rt", search="nll"),
}
AT_FIXED = {  # claim -> its parts: metric, arm, the side, of which other arm or of 0
    "H1.2": "entropy tfkd_small > erm_small",
    "H3.1": "entropy ls_small > erm_small",
    "H3.2": "entropy kd_standard < erm_small",
    "H3.3": "entropy kd_self < erm_small",
    "H3.4": "entropy kd_standard < kd_self",
    "H3.5a": "accuracy kd_standard > erm_small",
    "H3.5b": "accuracy kd_self > erm_small",
    "H3.5c": "accuracy ls_small < erm_small",
    "H3.5d": "accuracy kd_standard > ls_small",
    "H3.5e": "accuracy kd_self > ls_small",
    "H3.5f": "accuracy kd_self > kd_standard",
    "H3.6a": "curve_entropy kd_standard < erm_small",
    "H3.6b": "curve_entropy kd_self < erm_small",
    "H3.6c": "curve_entropy kd_standard < ls_small",
    "H3.6d": "curve_entropy kd_self < ls_small",
    "H3.6e": "train_curve_entropy kd_standard < erm_small",
    "H3.6f": "train_curve_entropy kd_self < erm_small",
    "H3.6g": "early_entropy kd_standard < erm_small",
    "H3.6h": "early_entropy kd_self < erm_small",
    "H4.1": "entropy ls_large > erm_large",
    "H4.2": "entropy kd_reverse > erm_large",
    "H4.3": "entropy kd_reverse < ls_large",
    "H4.4": "entropy erm_large < erm_small",
    "H4.5a": "accuracy kd_reverse > erm_small",
    "H4.5b": "accuracy kd_reverse > erm_large",
    "H4.5c": "accuracy kd_reverse > ls_large",
    "H4.6": "entropy kd_reverse > erm_large, entropy kd_reverse < erm_small",
    "H4.7a": "curve_entropy kd_reverse > erm_large",
    "H4.7b": "curve_entropy kd_reverse < ls_large",
    "H4.7c": "train_curve_entropy kd_reverse > erm_large",
    "H4.7d": "train_curve_entropy kd_reverse < ls_large",
    "H15.1a": "overconfidence ls_small < 0",
    "H15.2a": "entropy kd_standard < erm_small, nll kd_standard < erm_small",
    "H15.2b": "entropy kd_self < erm_small, nll kd_self < erm_small",
}
OVER_TAU = {
    "H5.1a": "entropy kd_standard < erm_small",
    "H5.1b": "entropy kd_self < erm_small",
    "H5.2": "entropy kd_standard < kd_self",
    "H5.3a": "entropy kd_reverse > erm_large",
    "H5.3b": "entropy ls_large > kd_reverse",
    "H5.4a": "accuracy kd_standard > erm_small",
    "H5.4b": "accuracy kd_standard > ls_small",
    "H5.4c": "accuracy kd_self > ls_small",
    "H5.4d": "accuracy kd_reverse > erm_large",
    "H5.4e": "accuracy kd_reverse > ls_large",
}
AT_LARGE_ALPHAS = {"H15.1b": "overconfidence ls_small < 0"}
DESCRIPTIVE = ("H3.7", "H5.6")
STORED = ("H7.4", "H8.2", "H8.3", "H9.1", "H9.2", "H9.3")  # simulations; all claim an effect above 0
BY_OTHERS = ("rt", "headline", "section", "digits")  # whose H18 test_two_effects.py makes anew, from logits too
LEFT_OUT = {  # how the ids of claims begin -> why they are not made anew here
    "H10.": "recall of omitted digits is stored, no logits; effects on digits in test_dark_knowledge.py",
    "H12.": "which of a test split is right is stored, no logits; effects on digits in test_dark_knowledge.py",
    "H13.": "accuracies and entropies by epoch are stored, no logits; effects on digits in test_dark_knowledge.py",
    "H14.": "language models: NLL, counts and clocks are stored, no logits; see tests/studies/language_models",
    "H21.": "a cost model of the published sizes and stored clocks; see tests/studies/language_models",
    **dict.fromkeys(("H18.3", "H18.4", "H18.5", "H18.7", "H18.8", "H18.9"), "on BY_OTHERS alone, see there"),
}
NO_RUNS = ("H3.6i", "H3.6j")  # they ask for curves of 512 rows or more


# What the store holds


@functools.cache
def configs():
    """One row per stored training of a classifier: its config, its teacher's size and seed, its arm or ""."""
    rows = []
    for path in sorted((REFERENCE / "runs").glob("*/config.json")):
        config = json.loads(path.read_text())
        if "kind" not in config:
            rows.append({"run": path.parent.name, **config})
    table = pd.DataFrame(rows, index=[row["run"] for row in rows])
    erm = table[table.method == "erm"]
    table["teacher"], table["teacher_seed"] = (table.teacher_run.map(erm[name]) for name in ("student", "seed"))
    keys = zip(table.method, table.student, table.teacher.fillna(""), strict=True)
    table["arm"] = [ARMS.get(key, "") for key in keys]
    return table


@functools.cache
def measured(name):
    """Entropy, NLL [nats], accuracy and confidence minus accuracy [shares] of a run on each split, test's unnamed."""
    row, labels = {}, labels_of(configs().data[name])
    for split, logits in logits_of(name).items():
        log_p, true = log_softmax(logits, axis=1), labels[split]
        right = (logits.argmax(axis=1) == true).mean()
        prefix = "" if split == "test" else f"{split}_"
        row[f"{prefix}entropy"] = entr(np.exp(log_p)).sum(axis=1).mean()
        row[f"{prefix}nll"] = -log_p[np.arange(len(true)), true].mean()
        row[f"{prefix}accuracy"] = right
        row[f"{prefix}overconfidence"] = np.exp(log_p).max(axis=1).mean() - right
    return row


@functools.cache
def curve(name):
    """Mean entropy [nats] over a run's stored samples after the start; early: in the first fifth of its steps."""
    samples = pd.read_csv(REFERENCE / "runs" / name / "history.csv")
    if samples.empty:
        return {}
    later = samples[samples.step > 0]
    early = later[later.step <= 0.2 * later.step.max()]
    means = {"curve_entropy": later.test_entropy, "train_curve_entropy": later.train_entropy}
    return {metric: of.mean() for metric, of in (means | {"early_entropy": early.test_entropy}).items()}


def read(rows, curves=False):
    """The rows with what their logits say, and their curves."""
    said = [measured(name) | (curve(name) if curves else {}) for name in rows.index]
    return rows.join(pd.DataFrame(said, index=rows.index))


def of_task(task, profile="cpu"):
    table = configs()
    return table[(table.task == task) & (table.profile == profile)]


def at_fixed(rows, task, profile="cpu", epochs=0):
    """Those at a task's fixed learning rate, epochs and schedule."""
    setting = FIXED.get(task.split("@")[0], FIXED[profile])
    rows = rows[(rows.lr == setting["lr"]) & (rows.epochs == (epochs or setting["epochs"]))]
    return rows[rows.schedule == "linear"]


def fixed_arms(case):
    """The eight arms at the fixed settings, taught by models of their own seed."""
    rows = at_fixed(of_task(case.task, case.profile), *case[:3])
    rows = rows[(rows.arm != "") & (rows.alpha == rows.method.map(ALPHA[case.profile])) & (rows.history_points > 0)]
    rows = rows[(rows.tau == 1) | (rows.method == "tfkd")]
    return read(rows[rows.teacher_seed.isna() | (rows.teacher_seed == rows.seed)], curves=True)


def best(rows, metric):
    """By arm and seed the run that is best on validation; ties to fewer epochs, then the smaller lr, alpha and tau."""
    order = [f"validation_{metric}", "epochs", "lr", "alpha", "tau"]
    rows = rows.sort_values(order, ascending=[metric == "nll", True, True, True, True])
    return rows.groupby(["arm", "seed"]).head(1)


def searched(case):
    """What the search selects; its teachers are the ERM models of the best validation accuracy, by size and seed."""
    rows = of_task(case.task)
    rows = rows[(rows.schedule == "constant") & rows.lr.isin(SEARCH["lr"]) & rows.epochs.isin(SEARCH["epochs"])]
    rows = rows[(rows.arm != "") & ((rows.method == "erm") | rows.alpha.isin(SEARCH["alpha"]))]
    teachers = best(read(rows[rows.method == "erm"]), "accuracy")
    rows = rows[(rows.method != "kd") | rows.teacher_run.isin(teachers.index)]
    wanted = np.where(rows.method == "erm", 12, 60)
    return best(read(rows[rows.groupby(["arm", "seed"]).run.transform("size") == wanted]), case.search)


def over_tau(task):
    """KD's arms at the settings and seeds where they have another tau than 1, ERM and LS of these settings beside."""
    rows = of_task(task)
    rows = rows[(rows.arm != "") & (rows.method != "tfkd") & rows.tau2_scaling]
    setting = pd.Series(list(zip(rows.lr, rows.epochs, rows.schedule, rows.seed, strict=True)), rows.index)
    hot = (rows.method == "kd") & (rows.tau != 1)
    arms = set(zip(setting[hot], rows.arm[hot], strict=True))
    inside = [pair in arms for pair in zip(setting, rows.arm, strict=True)]
    return read(rows[np.where(rows.method == "kd", inside, setting.isin(set(setting[hot])))])


# Tests and verdicts


class Judged(NamedTuple):
    """An effect, its 95 % t interval, n, p; the claimed sign; what it is to be nearer to 0 than, or nan."""

    effect: float
    low: float
    high: float
    n: int
    p: float
    sign: int = 1
    bound: float = np.nan


def interval(values):
    """Mean, low and high end of the 95 % t interval, n; without end for one value."""
    if len(values) < 2:
        return values.mean(), -np.inf, np.inf, len(values)
    mean, half = values.mean(), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return mean, mean - half, mean + half, len(values)


def t_test(values, sign=1):
    """Two-sided t test of a mean of 0."""
    values = pd.Series(values, dtype=float).dropna()
    if values.empty:
        return None
    p = stats.ttest_1samp(values, 0).pvalue if np.ptp(values) else float(values.iloc[0] == 0)
    p = p if len(values) > 1 else np.nan
    return Judged(*interval(values), p, sign)


def equivalence(values, bound):
    """Whether the mean lies within the bound: the larger p of two one-sided t tests."""
    if not len(values):
        return None
    error, df = stats.sem(values), len(values) - 1
    p = max(stats.t.sf((values.mean() + bound) / error, df), stats.t.cdf((values.mean() - bound) / error, df))
    return Judged(*interval(values), p, bound=bound)


def all_of(parts):
    """Parts that all must hold, each with what is claimed as positive.

    The surest of those on the other side, if there is one; else the smallest effect with the largest p.
    """
    against = sorted((part for part in parts if part.effect < 0), key=lambda part: part.p)
    shown = against[:1] or parts
    ends = [min(getattr(part, end) for part in shown) for end in ("effect", "low", "high")]
    return Judged(*ends, min(part.n for part in parts), max(part.p for part in shown))


def correlation(x, y):
    """Pearson's r and its interval by Fisher's z; not tested."""
    r, reach = np.corrcoef(x, y)[0, 1], stats.norm.ppf(0.975) / np.sqrt(len(x) - 3)
    return Judged(r, np.tanh(np.arctanh(r) - reach), np.tanh(np.arctanh(r) + reach), len(x), np.nan)


def corrected(judged):
    """p by claim after Holm's correction over those of its section."""
    found = {}
    for section in {name.split(".")[0] for name in judged}:
        own = {name: one.p for name, one in judged.items() if name.split(".")[0] == section and not np.isnan(one.p)}
        found |= holm(own)
    return found


def verdict(name, one, p):
    """ "holds", "fails", "undecided" or "descriptive", by the corrected p and the side of the effect."""
    if name in DESCRIPTIVE:
        return "descriptive"
    if not np.isnan(one.bound):
        outside = one.low > one.bound or one.high < -one.bound
        return "holds" if p < 0.05 else "fails" if outside else "undecided"
    if np.isnan(p):  # a closed form has no chance in it, and one value decides nothing: where the interval lies
        low, high = sorted((one.sign * one.low, one.sign * one.high))
        return "holds" if low > 0 else "fails" if high < 0 else "undecided"
    if p >= 0.05:
        return "undecided"
    return "holds" if one.sign * one.effect > 0 else "fails"


# The claims


def by_seed(rows, arm, metric):
    own = rows[rows.arm == arm]
    assert own.seed.is_unique
    return own.set_index("seed")[metric] if metric in own else pd.Series(dtype=float)


def difference(rows, arm, than, metric="entropy"):
    """A metric of one arm minus that of another (or 0), at the seeds that both have."""
    other = 0.0 if than == "0" else by_seed(rows, than, metric)
    return (by_seed(rows, arm, metric) - other).dropna()


def differences(rows, claims):
    """The claims of one part or several, as AT_FIXED has them."""
    found = {}
    for name, words in claims.items():
        parts = []
        for metric, arm, side, than in (part.split() for part in words.split(", ")):
            parts.append((difference(rows, arm, than, metric), 1 if side == ">" else -1))
        if len(parts) == 1:
            found[name] = t_test(*parts[0])
        elif all(len(values) for values, _ in parts):
            found[name] = all_of([t_test(sign * values) for values, sign in parts])
    return found


def with_teachers(rows):
    """KD's runs with their teacher's test entropy, and ERM's on the student's model and seed, nan without one."""
    kd = rows[rows.method == "kd"]
    erm = rows[rows.method == "erm"].set_index(["student", "seed"]).entropy
    beside = erm.reindex(pd.MultiIndex.from_frame(kd[["student", "seed"]])).to_numpy()
    return kd.assign(teacher_entropy=[measured(name)["entropy"] for name in kd.teacher_run], erm_entropy=beside)


def inherited(rows, name):
    """Whether students follow their teachers: r over all; slopes by seed below and above ERM, but for self-KD."""
    kd = with_teachers(rows)
    found = {name: correlation(kd.teacher_entropy, kd.entropy)} if len(kd) > 2 else {}
    kd = kd[kd.arm != "kd_self"].dropna(subset="erm_entropy")
    x, y = kd.teacher_entropy - kd.erm_entropy, kd.entropy - kd.erm_entropy
    for letter, there in (("b", x < 0), ("c", x > 0)):
        slopes = (x * y)[there].groupby(kd.seed).sum() / (x * x)[there].groupby(kd.seed).sum()
        found[name + letter] = t_test(slopes)
    return found


def alike(rows, arm):
    """What KD does to entropy on train minus what it does on test, within a tenth of LS's effect on test."""
    values = difference(rows, arm, "erm_small", "train_entropy") - difference(rows, arm, "erm_small")
    return equivalence(values, SHARE * abs(difference(rows, "ls_small", "erm_small")[values.index].mean()))


def of_fixed_arms(rows):
    """H1, H3, H4 and H15 on one run per arm and seed."""
    ls, reverse = (difference(rows, arm, "erm_large") for arm in ("ls_large", "kd_reverse"))
    return {
        **differences(rows, AT_FIXED),
        **inherited(rows, "H3.7"),
        "H3.8a": alike(rows, "kd_standard"),
        "H3.8b": alike(rows, "kd_self"),
        "H4.8": t_test(ls - FAR * reverse),
        "H1.1": closed_form(),
    }


def closed_form():
    """H1.1: how far the released target of teacher-free KD is from that of LS, over its bound: the largest case.

    Released is softmax(p / tau), where p has the confidence at the label, weighted alpha / K against 1 - alpha.
    """
    beyond = []
    for k in (2, 3, 10, 100):
        for alpha in (0.6, 0.95):
            for confidence in (0.9, 0.99):
                for tau in (6, 20, 100):
                    p = np.array([confidence] + [(1 - confidence) / (k - 1)] * (k - 1))
                    share = (alpha / k) / (1 - alpha + alpha / k)  # of the soft target; both have the same at the label
                    distance = share * np.abs(softmax(p / tau) - 1 / k).sum() / 2
                    beyond.append(distance - confidence / (2 * tau))
    return Judged(max(beyond), max(beyond), max(beyond), len(beyond), np.nan, -1)


def of_temperatures(task):
    """H5: arms selected over tau, three of them at least; the slope of entropy in ln tau at fixed alpha."""
    rows = over_tau(task)
    if rows.empty:
        return {}
    groups = rows[rows.arm == "kd_standard"].groupby(["seed", "alpha", "lr", "epochs"])
    slopes = {
        place: stats.linregress(np.log(one.tau), one.entropy).slope for place, one in groups if one.tau.nunique() > 1
    }
    trend = pd.Series(slopes).groupby(level=0).mean() if slopes else pd.Series(dtype=float)
    taus = rows.groupby(["arm", "seed"]).tau.transform("nunique")
    chosen = best(rows[(rows.method != "kd") | (taus >= TAUS)], "accuracy")
    return {**differences(chosen, OVER_TAU), **inherited(chosen, "H5.6"), "H5.5": t_test(trend, -1)}


def at_large_alphas(task):
    """H15.1b: label smoothing at a large alpha, at whatever setting is best on validation."""
    rows = of_task(task)
    rows = rows[(rows.arm == "ls_small") & (rows.alpha >= LARGE_ALPHA)]
    return differences(best(read(rows), "accuracy"), AT_LARGE_ALPHAS) if len(rows) else {}


def at_equal_progress(task):
    """H20: entropy minus that of ERM at the same NLL on train, linear in its log between ERM's budgets."""
    rows, setting = of_task(task), FIXED.get(task, TEXTS)
    rows = rows[(rows.schedule == "constant") & (rows.lr == setting["lr"]) & rows.epochs.isin(BUDGETS)]
    rows = rows[(rows.method == "erm") | (rows.alpha == rows.method.map({"ls": 0.4, "kd": 1.0}))]
    rows = read(rows[rows.arm.isin(["erm_small", "ls_small", "kd_standard"])])
    found = {"ls": {}, "kd": {}}
    for seed, own in rows.groupby("seed"):
        erm = own[own.method == "erm"].sort_values("train_nll")
        for method, by in found.items():
            others = own[(own.method == method) & own.train_nll.between(erm.train_nll.min(), erm.train_nll.max())]
            if len(others):
                alike = np.interp(np.log(others.train_nll), np.log(erm.train_nll), erm.entropy)
                by[seed] = (others.entropy - alike).mean()
    ls, kd = (pd.Series(found[method], dtype=float) for method in ("ls", "kd"))
    if kd.empty:
        return {}
    return {"H20.1": equivalence(kd, SHARE * abs(ls[kd.index].mean())), "H20.2": t_test(ls)}


def whose_seed(task):
    """H18.10 and H18.11: self-KD by another seed's model, beside self-KD by the own one's and ERM."""
    rows = at_fixed(of_task(task), task, epochs={"mrpc": 6}.get(task, 0))
    rows = read(rows[(rows.student == "small") & (rows.alpha == rows.method.map(ALPHA["cpu"]))])
    other = rows[(rows.arm == "kd_self") & (rows.teacher_seed != rows.seed)].set_index("seed").entropy
    rows = rows[rows.teacher_seed.isna() | (rows.teacher_seed == rows.seed)]
    if other.empty:
        return {}
    bound = SHARE * abs(difference(rows, "ls_small", "erm_small")[other.index].mean())
    found = {"H18.11": equivalence(other - by_seed(rows, "erm_small", "entropy")[other.index], bound)}
    if task != "mrpc":  # the placebos, which H18.10 is of, are not asked for after 6 epochs
        found["H18.10"] = equivalence(by_seed(rows, "kd_self", "entropy")[other.index] - other, bound)
    return found


def two_by_two(task):
    """H18.1 and H18.2 where the teacher's own posteriors are the only dose and there are no placebos: noisy labels."""
    rows = at_fixed(of_task(task), task)
    rows = rows[(rows.alpha == 1) | (rows.method == "erm")]
    if "hard" not in set(rows["transform"]):
        return {}
    rows = read(rows)
    cells = rows[rows.student == "small"].assign(cell=rows["transform"].fillna(rows.method))
    cells = cells.pivot(index="seed", columns="cell", values="entropy")
    accuracy = by_seed(rows, "erm_large", "train_accuracy")[cells.index].mean()
    found = {"H18.1": t_test((cells.swap - cells.erm + cells.kd - cells.hard) / 2)}
    if accuracy < CLEANING:
        found["H18.2"] = t_test((cells.hard - cells.erm + cells.kd - cells.swap) / 2, -1)
    return found


def below_teacher(student, teacher):
    """Mean of Y - X [log-odds] over the quarter of train rows of which the teacher is least sure.

    X is the teacher's log-odds of its own prediction, Y the student's of the same class.
    """
    logits = [logits_of(name)["train"] for name in (teacher, student)]
    told = logits[0].argmax(axis=1)[:, None] == np.arange(logits[0].shape[1])
    x, y = (z[told] - logsumexp(np.where(told, -np.inf, z), axis=1) for z in logits)
    return (y - x)[x <= np.quantile(x, 0.25)].mean()


def deviations(task):
    """H6: students of alpha 1 below their teacher, beyond an ERM model that did not teach them."""
    rows = at_fixed(of_task(task), task)
    erm = rows[rows.arm == "erm_small"].set_index("seed").run
    kd = rows[rows.arm.isin(["kd_standard", "kd_self"]) & (rows.alpha == 1) & rows.tau.isin([1, 4]) & rows.tau2_scaling]
    found = []
    for row in kd.itertuples():
        others = [seed for seed in sorted(erm.index) if seed != row.seed]
        after = next((seed for seed in others if seed > row.seed), others[0])
        control = erm.get(row.seed if row.arm == "kd_standard" else after)
        if control is not None and row.seed in erm:
            gap = below_teacher(row.run, row.teacher_run)
            gain = measured(row.run)["accuracy"] - measured(erm[row.seed])["accuracy"]
            beyond = gap - below_teacher(control, row.teacher_run)
            found.append((row.arm, row.tau, row.seed, gap, beyond, gain))
    table = pd.DataFrame(found, columns=["arm", "tau", "seed", "gap", "beyond", "gain"])
    hot = table[table.tau == 4].set_index("seed")
    own, across = (hot[hot.arm == arm] for arm in ("kd_self", "kd_standard"))
    if own.empty:
        return {}
    r = {seed: np.corrcoef(-one.beyond, one.gain)[0, 1] for seed, one in table.groupby("seed") if len(one) > 2}
    related = t_test(r, 0)
    return {
        "H6.1": t_test(np.maximum(own.gap, own.beyond), -1),
        "H6.2": t_test(across.beyond - own.beyond),
        "H6.3": related._replace(low=max(related.low, -1), high=min(related.high, 1)),
    }


def switched(task):
    """H7.1 to H7.3: the share of KD's gain in accuracy that is left where the loss changes in mid-training.

    The gain is its mean over seeds; where that is not above twice its standard error nothing can be left of it.
    """
    rows = at_fixed(of_task(task), task)
    rows = rows[(rows.student == "small") & ((rows.method == "erm") | ((rows.alpha == 1) & (rows.tau == 4)))]
    rows = rows[rows.tau2_scaling]
    if "switch" not in set(rows.method):
        return {}
    rows = read(rows)
    late, early = (
        rows[rows.before == first].pivot(index="seed", columns="switch_at", values="accuracy")
        for first in ("erm", "kd")
    )
    erm = by_seed(rows, "erm_small", "accuracy")
    gain = difference(rows, "kd_standard", "erm_small", "accuracy").reindex(late.index).dropna()
    if gain.empty:
        return {}
    if not gain.mean() > 2 * stats.sem(gain):
        return dict.fromkeys(("H7.1", "H7.2", "H7.3"), Judged(np.nan, -np.inf, np.inf, len(gain), np.nan))
    left = late.sub(erm, axis=0).loc[gain.index] / gain.mean()
    slopes = {
        seed: stats.linregress(list(left), of).slope for seed, of in zip(left.index, left.to_numpy(), strict=True)
    }
    return {
        "H7.1": t_test((late[0.5] - erm - gain / 2) / gain.mean()),
        "H7.2": t_test(slopes, -1),
        "H7.3": t_test((early[0.75] - erm - gain / 2) / gain.mean()),
    }


def families(task):
    """Seed -> the family of a born-again network: what a training is, and its place among its like -> run."""
    rows, setting = of_task(task), FAMILY.get(task, FAMILY_OF_TEXTS)
    rows = rows[(rows[list(setting)] == pd.Series(setting)).all(axis=1) & (rows.student == "small")]
    rows = rows[(rows.seed >= STRIDE) | (rows.method == "erm")].sort_values("seed")
    kind = rows.method.where(rows.method != "matched_ls", rows.matched.fillna("mean"))
    kind = kind.where(rows.seed >= STRIDE, "first").where((rows.method != "kd") | (rows.alpha == 1), "half")
    place = rows.groupby([rows.seed % STRIDE, kind]).cumcount() + 1
    found = {}
    for seed, own in rows.groupby(rows.seed % STRIDE):
        members = dict(zip(zip(kind[own.index], place[own.index], strict=True), own.run, strict=True))
        if ("kd", 1) in members:
            found[seed] = members
    return found


def generations(task):
    """H11: accuracy, entropy and NLL of models each taught by the one before it, and of their mean posteriors."""
    rows = {}
    for seed, members in families(task).items():
        labels = labels_of(configs().data[members["first", 1]])["test"]
        p = {place: softmax(logits_of(name)["test"], axis=1) for place, name in members.items()}
        said = {place: measured(name) for place, name in members.items()}
        line = [("first", 1), *(place for place in members if place[0] == "kd")]
        gains = np.diff([said[place]["accuracy"] for place in line])
        erm = [("erm", place) for place in (1, 2, 3)]

        def together(places, p=p, labels=labels):
            return (np.mean([p[place] for place in places], axis=0).argmax(axis=1) == labels).mean()

        def less(kind, than, metric, said=said):
            return said[kind, 1][metric] - said[than, 1][metric]

        company = together(line[1:4])
        rows[seed] = {
            "H11.1": gains[0] - max(gains[1:]),
            "H11.2b": min(gains),
            "H11.3a": company - max(said[place]["accuracy"] for place in line[1:4]),
            "H11.3b": company - together(erm),
            "H11.3c": company - together([("first", 1), *erm]),
            "H11.5": stats.linregress(range(len(line)), [said[place]["entropy"] for place in line]).slope,
            "H11.6": less("mean", "kd", "nll"),
            "H11.7": less("instance", "kd", "nll"),
            "H11.8": less("half", "kd", "accuracy"),
            "H11.9": less("drawn", "instance", "nll"),
        }
        if len(gains) > 3:
            rows[seed]["H11.2"] = sum(gains[:3]) - sum(gains[3:])
        if ("dkpp", 1) in members:
            rows[seed]["H11.4a"] = less("dkpp", "first", "accuracy") - less("kd", "first", "accuracy") / 2
            rows[seed]["H11.4b"] = less("dkpp", "cwtm", "accuracy")
    return {name: t_test(values, 0 if name == "H11.5" else 1) for name, values in pd.DataFrame(rows).T.items()}


@functools.cache
def ours(case):
    """Claim -> what the stored logits say, of those that have runs."""
    found = of_fixed_arms(searched(case) if case.search else fixed_arms(case))
    if case.plain:
        kinds = [of_temperatures, at_large_alphas, at_equal_progress, deviations, switched, generations]
        kinds += [] if case.task in BY_OTHERS else [whose_seed, two_by_two]
        found |= {name: one for kind in kinds for name, one in kind(case.task).items()}
    return {name: one for name, one in found.items() if one}


def law():
    """H18.6: of how many of a task's KD runs a logistic fit on the other tasks' tells the sign, as a share.

    By what the teacher is on train (labels that it gets wrong, entropy) minus by its test entropy; both entropies, and
    the student's, minus those of ERM on its model. A value a task, noise in its labels aside.
    """
    same = ["task", "student", "seed", "order_seed", "lr", "epochs", "schedule"]
    table = configs()[configs().profile == "cpu"]
    erm = table[table.method == "erm"].drop_duplicates(same).set_index(same).run
    kd = table[(table.method == "kd") & (table.tau == 1) & table.teacher.notna()]
    kd = kd.assign(beside=erm.reindex(pd.MultiIndex.from_frame(kd[same])).to_numpy()).dropna(subset="beside")
    student, teacher, beside = (
        pd.DataFrame([measured(name) for name in names], kd.index) for names in (kd.run, kd.teacher_run, kd.beside)
    )
    train = [1 - teacher.train_accuracy, teacher.train_entropy - beside.train_entropy]
    surer, task = student.entropy < beside.entropy, kd.task.str.split("@").str[0]
    told = {}
    for name, features in (("train", train), ("test", [teacher.entropy - beside.entropy])):
        x = np.column_stack(features)
        told[name] = {
            one: (logistic(x[task != one], surer[task != one], x[task == one]) == surer[task == one]).mean()
            for one in set(task)
            if surer[task != one].nunique() > 1
        }
    return t_test(pd.Series(told["train"]) - pd.Series(told["test"]))


def logistic(x, y, new):
    """What a logistic fit on x, each column scaled to unit variance, with a penalty of |w|^2 / 2, says of new rows."""
    mean, sd, sign = x.mean(axis=0), x.std(axis=0), np.where(y, 1, -1)
    x, new = (x - mean) / sd, (new - mean) / sd

    def loss(w):
        return w[1:] @ w[1:] / 2 + np.logaddexp(0, -sign * (w[0] + x @ w[1:])).sum()

    w = optimize.minimize(loss, np.zeros(1 + x.shape[1]), method="BFGS", tol=1e-6).x
    return w[0] + new @ w[1:] > 0


def filters():
    """H8.1: how far a student is ahead of its teacher along an eigendirection at most, where along the top one both
    have come as far: progress 1 - exp(-lam t) of the teacher's, times the same of its own time for the student.
    """
    lam, until, t = np.meshgrid(np.geomspace(0.001, 0.9, 13), np.geomspace(0.1, 10, 9), np.geomspace(0.1, 10, 9))
    even = -np.log1p(-np.expm1(-t) * np.expm1(-until))  # when the teacher has the student's progress at lam = 1
    ahead = np.expm1(-lam * t) * np.expm1(-lam * until) + np.expm1(-lam * even)
    return Judged(ahead.max(), ahead.max(), ahead.max(), ahead.size, np.nan, -1)


@functools.cache
def simulated():
    """Claims that no task's runs decide: simulations by their stored effects, the law over all tasks, a closed form."""
    stored = {name: json.loads((REFERENCE / "simulations" / f"{name}.json").read_text()) for name in STORED}
    return {name: t_test(one["effects"]) for name, one in stored.items()} | {"H8.1": filters(), "H18.6": law()}


# The package's verdicts


def theirs(case):
    """The package's ledger, by claim."""
    study, given = tables.study(case.task, case.profile), {}
    if case.plain:
        left = {*evidence.ANEW, *(("softness", "dose", "placebo", "seeds") if case.task in BY_OTHERS else ())}
        kinds = {name: kind for name, kind in registry.evidence_kinds().items() if kind.runs and name not in left}
        given = {name: kind.runs(study) for name, kind in kinds.items()}
    if case.epochs:
        study = evidence.longer(study)
    if case.search:
        study = evidence.protocol("search", study, case.search)
    return registry.ledger(study, others=given).set_index("id")


@pytest.fixture(scope="module", autouse=True)
def reference():
    """The repository's own reference runs behind an empty store, and no bootstraps, which take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RUNS", paths.ROOT / "none")
        patch.setattr(paths, "REFERENCE", REFERENCE / "runs")
        patch.setattr(paths, "SIMULATIONS", paths.ROOT / "none")
        patch.setattr(paths, "SIMULATIONS_REFERENCE", REFERENCE / "simulations")
        patch.setattr(statistics, "paired_bootstrap", lambda *_: statistics.NO_BOOTSTRAP)
        registry.grids()
        yield


def compare(rows, judged):
    """Effect, interval, n, p after Holm's correction, bound and verdict of each claim that has runs."""
    assert set(rows.index[rows.n > 0]) == set(judged)
    p = corrected(judged)
    for name, one in judged.items():
        row = rows.loc[name]
        found = tuple(row[["effect", "low", "high"]])
        assert found == pytest.approx(one[:3], rel=1e-6, abs=1e-9, nan_ok=True), name
        assert row.n == one.n, name
        assert row.p_holm == pytest.approx(p.get(name, np.nan), rel=1e-5, abs=1e-12, nan_ok=True), name
        assert row.bound == pytest.approx(one.bound, rel=1e-6, nan_ok=True), name
        assert row.verdict == verdict(name, one, p.get(name, np.nan)), name


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_verdict_can_be_had_without_the_package(case):
    compare(theirs(case), ours(case))


def test_every_verdict_of_no_task_can_be_had_without_the_package():
    rows = registry.simulated_ledger().set_index("id")
    compare(rows[~rows.index.str.startswith(tuple(LEFT_OUT))], simulated())


def test_every_verdict_over_tasks_can_be_had_without_the_package():
    """The t test over tasks' effects; of the package is which of them have runs that have learnt nothing."""
    of_tasks = registry.by_task("cpu")
    rows = over_tasks(of_tasks).set_index("id").assign(bound=np.nan)
    judged = {}
    for name in rows.index:
        learnt = [task for task, of in of_tasks.items() if not of.set_index("id").degenerate[name]]
        found = {task: ours(CASES[task])[name] for task in learnt if name in ours(CASES[task])}
        if found:
            (sign,) = {one.sign for one in found.values()}
            judged[name] = t_test({task: one.effect for task, one in found.items()}, sign)
    assert set(AT_FIXED) <= set(rows.index)
    compare(rows, judged)


def test_every_claim_is_made_anew_or_listed():
    anew = {name for case in CASES.values() for name in ours(case)} | set(simulated())
    claims = set(registry.claims())
    left = {name for name in claims if name.startswith(tuple(LEFT_OUT))}
    assert anew | left | set(NO_RUNS) == claims
    assert len(anew) + len(left) + len(NO_RUNS) == len(claims), "none stands in two lists"
    assert all(any(name.startswith(start) for name in claims) for start in LEFT_OUT)


def test_every_task_and_profile_with_runs_is_judged():
    stored = configs()
    assert {*zip(stored.task, stored.profile, strict=True)} == {(case.task, case.profile) for case in CASES.values()}
