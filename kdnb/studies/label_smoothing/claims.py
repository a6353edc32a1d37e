"""The claims of arXiv 2301.12609 and the questions around them: where each comes from and how it is tested.

What the paper's own tables say of a claim is counted from `kdnb.studies.label_smoothing.paper`, what our runs say
is a verdict of `kdnb.analysis.ledger`. A new claim is a new line; a new kind of test is a new entry of TESTS.
"""

from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from kdnb.analysis import ledger, statistics
from kdnb.analysis.ledger import FIXED, METRICS, NO_NUMBER, Chapter, Claim, Evidence, Part, RunTest
from kdnb.analysis.statistics import NAN, Effect, over_seeds
from kdnb.catalog import TASKS
from kdnb.core.metrics import posterior
from kdnb.core.store import Run
from kdnb.experiment import tables
from kdnb.experiment.arms import ARMS
from kdnb.experiment.tables import Study
from kdnb.studies.label_smoothing import evidence, paper
from kdnb.studies.label_smoothing.evidence import LARGE_ALPHA
from kdnb.studies.label_smoothing.grids import CURVE_ROWS, CURVES
from kdnb.studies.label_smoothing.paper import GLUE

_Part = tuple[str, str, str, str]  # metric, arm, "<" or ">", than


def _claim(id: str, compared: _Part, source: str, statement: str = "", **more) -> Claim:
    """A claim of one part; its statement is built from the part if none is given."""
    metric, arm, sign, than = compared
    part = Part(metric, arm, 1 if sign == ">" else -1, than)
    side = "higher" if part.sign > 0 else "lower"
    words = f"{ARMS[arm].name} has {side} {METRICS[metric][0]} than {ARMS[than].name if than else 'nothing'}"
    return Claim(id=id, statement=statement or words, source=source, parts=(part,), **more)


def _searched(id: str, compared: _Part, source: str) -> Claim:
    """A claim on the models selected on validation from a grid that has tau as an axis (A.3)."""
    fixed = _claim(id, compared, source).statement
    return _claim(id, compared, source, f"With tau searched, {fixed}", evidence="temperature")


def _follows(id: str, side: int, source: str, **more) -> Claim:
    """A claim on the students whose teachers lie on one side of ERM on the student's model, in test entropy.

    The two sides stand apart: standard and reverse KD are each other's mirror image in what the teacher adds, and one
    correlation over both would be made of that.
    """
    (teacher, moves, letter), searched = SIDES[side], "With tau searched, a" if more else "A"
    return Claim(
        id=id + letter,
        source=source,
        test=f"inherited, {teacher}",
        unit="nats per nat",
        statement=f"{searched} student's entropy {moves} where its teacher is {teacher} than ERM on its model",
        test_words="slope by seed of the student's entropy in its teacher's, both minus ERM's on the student's model, "
        f"where the teacher's is {'<' if side < 0 else '>'} ERM's, self-KD left out, > 0",
        **more,
    )


def _throughout(id: str, arm: str) -> Claim:
    """A claim on every sample of a training's curve, where the samples have rows enough."""
    name = ARMS[arm].name
    return Claim(
        id=id,
        statement=f"{name}'s entropy lies below ERM small's and LS small's throughout training",
        source="section 4, on Figure 1",
        test=f"throughout {arm}",
        evidence=CURVES,
        published=FIGURE,
        unit="nats",
        side=-1,
        test_words=f"at every sample after the first tenth, of {CURVE_ROWS} test rows or more, {name}'s entropy minus "
        "the lower of ERM small's and LS small's < 0; the sample that bears it out least",
    )


def _alike(id: str, arm: str) -> Claim:
    """A claim that a method does to entropy on train what it does on test."""
    name = ARMS[arm].name
    return Claim(
        id=id,
        statement=f"{name} changes entropy on train as it does on test",
        source="section 4, on Figure 1",
        test=f"alike {arm}",
        published=FIGURE,
        unit="nats",
        side=0,
        test_words=f"{name}'s entropy minus ERM small's, on train minus on test, within a tenth of LS's effect on test "
        "(two one-sided t tests)",
    )


FIGURE = "figure only"
FAR = 2  # what "far greater" is taken to mean
AFTER = 0.1  # share of a training from which on a claim "throughout" is asked
SHARE = 0.1  # of LS's effect on the task: what counts as no difference
INHERITED = "correlation of teacher and student entropy over all KD runs; standard and reverse KD mirror each other"
SIDES = {-1: ("surer", "falls below ERM's", "b"), 1: ("less sure", "rises above ERM's", "c")}
_FIXED = [
    Claim(
        id="H1.1", statement="Teacher-free KD as released is LS, up to a constant and O(confidence / tau)",
        source="Yuan et al. 2020, released code", test="closed form", published=NO_NUMBER,
        unit="mass over bound", side=-1,
        test_words="total variation between the targets, minus its bound < 0; no run needed",
    ),
    _claim("H1.2", ("entropy", "tfkd_small", ">", "erm_small"), "section 4, on teacher-free KD", published=NO_NUMBER),
    _claim("H3.1", ("entropy", "ls_small", ">", "erm_small"), "Table 2"),
    _claim("H3.2", ("entropy", "kd_standard", "<", "erm_small"), "Table 2"),
    _claim("H3.3", ("entropy", "kd_self", "<", "erm_small"), "Table 2"),
    _claim("H3.4", ("entropy", "kd_standard", "<", "kd_self"), "Table 2"),
    _claim("H3.5a", ("accuracy", "kd_standard", ">", "erm_small"), "Table 3"),
    _claim("H3.5b", ("accuracy", "kd_self", ">", "erm_small"), "Table 3"),
    _claim("H3.5c", ("accuracy", "ls_small", "<", "erm_small"), "Table 3"),
    _claim("H3.5d", ("accuracy", "kd_standard", ">", "ls_small"), "Table 3"),
    _claim("H3.5e", ("accuracy", "kd_self", ">", "ls_small"), "Table 3"),
    _claim("H3.5f", ("accuracy", "kd_self", ">", "kd_standard"), "Table 3"),
    _claim("H3.6a", ("curve_entropy", "kd_standard", "<", "erm_small"), "Figure 1", published=FIGURE),
    _claim("H3.6b", ("curve_entropy", "kd_self", "<", "erm_small"), "Figure 1", published=FIGURE),
    _claim("H3.6c", ("curve_entropy", "kd_standard", "<", "ls_small"), "Figure 1", published=FIGURE),
    _claim("H3.6d", ("curve_entropy", "kd_self", "<", "ls_small"), "Figure 1", published=FIGURE),
    _claim("H3.6e", ("train_curve_entropy", "kd_standard", "<", "erm_small"), "Figure 1", published=FIGURE),
    _claim("H3.6f", ("train_curve_entropy", "kd_self", "<", "erm_small"), "Figure 1", published=FIGURE),
    _claim("H3.6g", ("early_entropy", "kd_standard", "<", "erm_small"), "section 4, on Figure 1", published=FIGURE),
    _claim("H3.6h", ("early_entropy", "kd_self", "<", "erm_small"), "section 4, on Figure 1", published=FIGURE),
    _throughout("H3.6i", "kd_standard"),
    _throughout("H3.6j", "kd_self"),
    Claim(
        id="H3.7", statement="A student's entropy follows its teacher's (correlation over all KD runs)",
        source="Tables 2 and 4, derived", test="inheritance", test_words=INHERITED, descriptive=True,
    ),
    *(_follows("H3.7", side, "Tables 2 and 4, derived") for side in SIDES),
    *(_alike(id, arm) for id, arm in (("H3.8a", "kd_standard"), ("H3.8b", "kd_self"))),
    _claim("H4.1", ("entropy", "ls_large", ">", "erm_large"), "Table 4"),
    _claim("H4.2", ("entropy", "kd_reverse", ">", "erm_large"), "Table 4"),
    _claim("H4.3", ("entropy", "kd_reverse", "<", "ls_large"), "Table 4"),
    _claim("H4.4", ("entropy", "erm_large", "<", "erm_small"), "Tables 2 and 4"),
    _claim("H4.5a", ("accuracy", "kd_reverse", ">", "erm_small"), "Tables 3 and 5", "Reverse KD beats its own teacher"),
    _claim("H4.5b", ("accuracy", "kd_reverse", ">", "erm_large"), "Table 5"),
    _claim("H4.5c", ("accuracy", "kd_reverse", ">", "ls_large"), "Table 5"),
    Claim(
        id="H4.6", statement="Reverse KD's entropy lies between the ERM student's and the teacher's",
        source="Tables 2 and 4, derived",
        parts=(Part("entropy", "kd_reverse", 1, "erm_large"), Part("entropy", "kd_reverse", -1, "erm_small")),
    ),
    _claim("H4.7a", ("curve_entropy", "kd_reverse", ">", "erm_large"), "Figure 2", published=FIGURE),
    _claim("H4.7b", ("curve_entropy", "kd_reverse", "<", "ls_large"), "Figure 2", published=FIGURE),
    _claim("H4.7c", ("train_curve_entropy", "kd_reverse", ">", "erm_large"), "Figure 2", published=FIGURE),
    _claim("H4.7d", ("train_curve_entropy", "kd_reverse", "<", "ls_large"), "Figure 2", published=FIGURE),
    Claim(
        id="H4.8", statement=f"LS raises the large model's entropy more than {FAR} times as much as reverse KD does",
        source="caption of Table 4, \"far greater\"; the factor is ours", test="far greater", unit="nats", side=1,
        test_words=f"LS large's entropy minus ERM large's, minus {FAR} times what Reverse KD adds > 0",
    ),
]  # fmt: skip
_TEMPERATURE = [
    _searched("H5.1a", ("entropy", "kd_standard", "<", "erm_small"), "Table 8"),
    _searched("H5.1b", ("entropy", "kd_self", "<", "erm_small"), "Table 8"),
    _searched("H5.2", ("entropy", "kd_standard", "<", "kd_self"), "Table 8"),
    _searched("H5.3a", ("entropy", "kd_reverse", ">", "erm_large"), "Table 10"),
    _searched("H5.3b", ("entropy", "ls_large", ">", "kd_reverse"), "Table 10"),
    _searched("H5.4a", ("accuracy", "kd_standard", ">", "erm_small"), "Table 9"),
    _searched("H5.4b", ("accuracy", "kd_standard", ">", "ls_small"), "Table 9"),
    _searched("H5.4c", ("accuracy", "kd_self", ">", "ls_small"), "Table 9"),
    _searched("H5.4d", ("accuracy", "kd_reverse", ">", "erm_large"), "Table 11"),
    _searched("H5.4e", ("accuracy", "kd_reverse", ">", "ls_large"), "Table 11"),
    Claim(
        id="H5.5", statement="At fixed alpha, Standard KD's entropy at tau 1 falls as the tau of training rises",
        source="Zheng & Yang 2024, App. A.1", test="trend", evidence="temperature", published=NO_NUMBER, side=-1,
        unit="nats per e-fold", test_words="slope of entropy in ln tau, mean over alpha < 0",
    ),
    Claim(
        id="H5.6", statement="With tau searched, a student's entropy follows its teacher's",
        source="Tables 8 and 10, derived", test="inheritance", test_words=INHERITED, evidence="temperature",
        descriptive=True,
    ),
    *(_follows("H5.6", side, "Tables 8 and 10, derived", evidence="temperature") for side in SIDES),
]  # fmt: skip
_CALIBRATION = [
    _claim(
        "H15.1a", ("overconfidence", "ls_small", "<", ""), "Tables 3 and 7, derived",
        "LS small is under-confident: mean confidence below accuracy",
    ),
    _claim(
        "H15.1b", ("overconfidence", "ls_small", "<", ""), "Tables 3 and 7, derived",
        "LS at a large alpha is under-confident: mean confidence below accuracy", evidence="smoothing",
    ),
    Claim(
        id="H15.2a", statement="Standard KD lowers entropy without raising NLL", source="not in the paper",
        published=NO_NUMBER,
        parts=(Part("entropy", "kd_standard", -1, "erm_small"), Part("nll", "kd_standard", -1, "erm_small")),
    ),
    Claim(
        id="H15.2b", statement="Self-KD lowers entropy without raising NLL", source="not in the paper",
        published=NO_NUMBER,
        parts=(Part("entropy", "kd_self", -1, "erm_small"), Part("nll", "kd_self", -1, "erm_small")),
    ),
]  # fmt: skip
CLAIMS = {claim.id: claim for claim in [*_FIXED, *_TEMPERATURE, *_CALIBRATION]}

ANSWERS = {  # the claims that answer the paper's question, in words
    "H3.1": "label smoothing raises entropy over ERM (small student)",
    "H4.1": "label smoothing raises entropy over ERM (large student)",
    "H3.2": "standard KD lowers entropy below ERM",
    "H4.2": "reverse KD raises entropy above ERM",
    "H4.3": "reverse KD stays below label smoothing",
}
TABLES = {  # by a claim's evidence: (student, metric) -> the printed table it is counted in
    FIXED: paper.RESULT_TABLES,
    "smoothing": paper.RESULT_TABLES,
    "temperature": {
        ("small", "entropy"): 8, ("small", "accuracy"): 9, ("large", "entropy"): 10, ("large", "accuracy"): 11,
    },
}  # fmt: skip


def published_count(claim: Claim) -> str:
    """On how many of the paper's tasks its own tables bear the claim out, "3/4"; or why there is no count.

    The claim of inheritance has a correlation over the printed KD cells instead, "r = 0.915 (n = 12)"; its two sides
    count those cells whose teacher lies there.
    """
    if claim.published:
        return claim.published
    tasks = list(GLUE)
    if claim.test == "far greater":
        return f"{sum(_far_greater(task) for task in tasks)}/{len(tasks)}"
    if not claim.parts:
        return _published_inheritance(claim)
    if claim.evidence == "smoothing":
        tasks = [task for task in tasks if _alpha(claim.parts[0].arm, task) >= LARGE_ALPHA]
    return f"{sum(bears_out(claim, task) for task in tasks)}/{len(tasks)}"


def bears_out(claim: Claim, task: str) -> bool:
    """Whether every part of a claim is true of the numbers that the paper prints for a task."""
    return all(part.sign * _printed(part, claim.evidence, task) > 0 for part in claim.parts)


def _far_greater(task: str) -> bool:
    """Whether H4.8 is true of Table 4's numbers for a task."""
    erm, ls, kd = (paper.value(4, row, task) for row in ("ERM", "LS", "Reverse KD"))
    return ls - erm > FAR * (kd - erm)


def _published_inheritance(claim: Claim) -> str:
    """The correlation of teacher's and student's printed entropies, or in how many cells of a side ERM is left."""
    tables = (8, 10) if claim.evidence == "temperature" else (2, 4)
    if claim.test != "inheritance":
        cells = paper.teacher_student_entropies(tables)
        teacher, student = (cells[f"{name}_entropy"] - cells.erm_entropy for name in ("teacher", "student"))
        side = next(side for side, (word, _, _) in SIDES.items() if claim.test == f"inherited, {word}")
        there = (side * teacher > 0) & (cells.row != "Self-KD")
        return f"{(side * student[there] > 0).sum()}/{there.sum()}"
    row = paper.inheritance().set_index(["tables", "reading"]).loc[("{} and {}".format(*tables), "all cells")]
    return f"r = {row.r:.3f} (n = {row.n:.0f})"


def smoothed_confidence(alpha: float, num_classes: int) -> float:
    """Confidence at the optimum of LS where the label is certain: 1 - alpha + alpha / K."""
    return 1 - alpha + alpha / num_classes


def _printed(part: Part, evidence: str, task: str) -> float:
    """metric(arm) - metric(than) as printed; for overconfidence the optimum's confidence minus printed accuracy."""
    tables = TABLES[evidence]

    def value(arm: str, metric: str) -> float:
        return paper.value(tables[(ARMS[arm].student, metric)], ARMS[arm].paper_row, task)

    if part.metric == "overconfidence":
        confidence = smoothed_confidence(_alpha(part.arm, task), TASKS[task].num_classes)
        return confidence - value(part.arm, "accuracy") / 100
    return value(part.arm, part.metric) - value(part.than, part.metric)


def _alpha(arm: str, task: str) -> float:
    """The alpha of Table 7."""
    return paper.optima(7)[ARMS[arm].student][ARMS[arm].paper_row][task]["alpha"]


def inheritance(study: Study) -> pd.DataFrame:
    """One row per KD run of ARMS whose teacher is stored: entropies [nats] of both and of ERM beside the student.

    Columns: name, arm, seed, run_id, teacher, teacher_entropy, student_entropy; erm, the run beside the student ("" for
    none), and erm_entropy (nan without one).
    """
    entropy_of = {name: run.metrics["test"]["entropy"] for name, run in study.runs.items()}
    entropy_of |= study.table.set_index("run_id").entropy.to_dict()
    erm = study.table[study.table.arm.str.startswith("erm_")].groupby(["arm", "seed"]).run_id.first().to_dict()
    rows = study.table[study.table.teacher.isin(entropy_of) & study.table.arm.isin(ARMS)]
    beside = [erm.get((f"erm_{ARMS[row.arm].student}", row.seed), "") for row in rows.itertuples()]
    return pd.DataFrame(
        {
            "name": rows.name,
            "arm": rows.arm,
            "seed": rows.seed,
            "run_id": rows.run_id,
            "teacher": rows.teacher,
            "teacher_entropy": rows.teacher.map(entropy_of).astype(float),
            "student_entropy": rows.entropy,
            "erm": beside,
            "erm_entropy": [entropy_of.get(name, NAN) for name in beside],
        }
    )


def _chosen(claim: Claim, study: Study) -> Study:
    """One run per arm and seed: as it is for the fixed arms, selected on validation from a grid."""
    if claim.evidence == FIXED:
        return study
    if claim.evidence == "temperature":
        return evidence.selected(evidence.searched_over_tau(study))
    return evidence.selected(study.only(study.table[study.table.tau2_scaling]))


def _difference(claim: Claim, study: Study) -> Effect:
    """The paired difference of each part, over one run per arm and seed."""
    return ledger.difference(claim, _chosen(claim, study))


def _inheritance(claim: Claim, study: Study) -> Effect:
    """Correlation of teacher's and student's entropy over KD runs: told, not tested."""
    cells = inheritance(_chosen(claim, study))
    if len(cells) < 3:
        return Effect()
    r, low, high = statistics.correlation_interval(cells.teacher_entropy, cells.student_entropy)
    return Effect(r, low, high, len(cells), run_ids=_behind(cells, "run_id", "teacher"))


def _inherited(side: int, claim: Claim, study: Study) -> Effect:
    """How much of their teacher's distance from ERM students of teachers on one side of it take over, by seed.

    A slope through the origin: of one run a seed, its share.
    """
    cells = inheritance(_chosen(claim, study)).dropna(subset="erm_entropy")
    x, y = cells.teacher_entropy - cells.erm_entropy, cells.student_entropy - cells.erm_entropy
    there = (cells.arm != "kd_self") & (side * x > 0)
    slopes = (x * y)[there].groupby(cells.seed).sum() / (x**2)[there].groupby(cells.seed).sum()
    return over_seeds(slopes, claim.sign, _behind(cells[there], "run_id", "teacher", "erm"))


def _behind(cells: pd.DataFrame, *columns: str) -> list[str]:
    """The runs named in some columns of `inheritance`, each once."""
    return list(dict.fromkeys(run_id for column in columns for run_id in cells[column]))


def _throughout_training(arm: str, claim: Claim, study: Study) -> Effect:
    """KD's entropy minus the lower of ERM's and LS's at each sample of the curve: that of the highest sample.

    All samples must bear the claim out, so its p is the largest of theirs, or that of a sample on the other side.
    """
    arms = [arm, "erm_small", "ls_small"]
    rows = study.table[study.table.arm.isin(arms) & study.table.run_id.isin(study.runs)]
    sampled = {run_id: _sampled_rows(study.runs[run_id]) for run_id in rows.run_id}
    rows = rows[rows.run_id.isin([run_id for run_id, count in sampled.items() if count >= CURVE_ROWS])]
    curves = tables.curves(study.only(rows), arms)
    if curves.empty or set(curves.arm) != set(arms):
        return Effect()
    curves = curves[curves.step > AFTER * curves.step.max()]
    wide = curves.pivot_table(index=["step", "seed"], columns="arm", values="test_entropy", aggfunc="first").dropna()
    below = (wide[arm] - wide[["erm_small", "ls_small"]].min(axis=1)).unstack("step").dropna()
    behind = rows.run_id[rows.seed.isin(below.index)].tolist()
    effects = [over_seeds(below[step], claim.sign, behind) for step in below]
    highest = max(effects, key=lambda effect: effect.effect, default=Effect())
    if highest.n and highest.effect < 0:
        highest = replace(highest, p=max(effect.p for effect in effects))
    return replace(highest, beside=_beside_erm(arm, study)) if highest.n else highest


def _sampled_rows(run: Run) -> int:
    """Test rows in each sample of a run's curve; 0 for a run without one."""
    return min(run.config.history_rows, len(run.labels["test"])) if len(run.history) > 1 else 0


def _beside_erm(arm: str, study: Study) -> dict[str, tuple[float, float, float]]:
    """What stands beside a change of the small student's entropy against ERM."""
    return ledger.beside(lambda metric: study.difference(arm, "erm_small", metric))


def _train_and_test(arm: str, _claim: Claim, study: Study) -> Effect:
    """What KD changes of entropy on train minus what it changes on test, by seed, against a tenth of LS's effect."""
    if "train_entropy" not in study.table:
        return Effect()
    on_train, on_test = (study.difference(arm, "erm_small", metric) for metric in ("train_entropy", "entropy"))
    differences = (on_train - on_test).dropna()
    bound = SHARE * abs(study.difference("ls_small", "erm_small", "entropy").reindex(differences.index).mean())
    arms = [arm, "erm_small", "ls_small"]
    rows = study.table[study.table.arm.isin(arms) & study.table.seed.isin(differences.index)]
    effect = statistics.equivalence(differences, bound, rows.run_id.tolist())
    return replace(effect, beside=_beside_erm(arm, study), candidates=ledger.candidates(rows)) if effect.n else effect


def _far(claim: Claim, study: Study) -> Effect:
    """LS's rise of the large model's entropy minus FAR times that of reverse KD, by seed."""
    rises = {arm: study.difference(arm, "erm_large", "entropy") for arm in ("ls_large", "kd_reverse")}
    differences = (rises["ls_large"] - FAR * rises["kd_reverse"]).dropna()
    arms = [*rises, "erm_large"]
    rows = study.table[study.table.arm.isin(arms) & study.table.seed.isin(differences.index)]
    effect = over_seeds(differences, claim.sign, rows.run_id.tolist())
    return replace(effect, candidates=ledger.candidates(rows))


def shares(study: Study) -> pd.DataFrame:
    """How much of a teacher's distance from ERM its students take over, by seed, the two sides apart.

    One row a seed and KD arm whose teacher and ERM beside it are stored, self-KD left out: its teacher is that ERM
    model, or another seed's.

    Returns:
        arm, name, seed; x (the teacher's test entropy minus that of ERM on the student's model) and y (the student's
        minus the same) [nats]; side ("surer" or "less sure", the teacher's); share, y / x.
    """
    cells = inheritance(study).dropna(subset="erm_entropy")
    cells = cells[cells.arm != "kd_self"]
    x, y = cells.teacher_entropy - cells.erm_entropy, cells.student_entropy - cells.erm_entropy
    side = np.where(x < 0, SIDES[-1][0], SIDES[1][0])
    return cells[["arm", "name", "seed"]].assign(x=x, y=y, side=side, share=y / x).reset_index(drop=True)


def _trend(claim: Claim, study: Study) -> Effect:
    """Slope of Standard KD's entropy in ln tau, mean over the other hyper-parameters, paired over seeds."""
    rows = study.table[(study.table.arm == "kd_standard") & study.table.tau2_scaling]
    groups = rows.groupby(["seed", "alpha", "lr", "epochs"]).filter(lambda group: group.tau.nunique() > 1)
    if groups.empty:
        return Effect()
    fits = groups.groupby(["seed", "alpha", "lr", "epochs"])[["tau", "entropy"]].apply(
        lambda group: np.polyfit(np.log(group.tau), group.entropy, 1)[0]
    )
    slopes = fits.groupby("seed").mean()
    return over_seeds(slopes, claim.sign, groups.run_id.tolist())


def _closed_form(_claim: Claim) -> Effect:
    """H1.1: total variation between the target of Tf-KD as released and LS's at the equivalent alpha, over K.

    The released soft target is softmax(p^d / tau) of the virtual teacher's probabilities, weighted alpha / K
    against 1 - alpha. It lies within confidence / (2 tau) of uniform, so the mixture differs from LS by at most
    that; effect is the largest excess over the bound (below 0: the bound is kept), n the cases.
    """
    excess = []
    for k, alpha, confidence, tau in product((2, 3, 10, 100), (0.6, 0.95), (0.9, 0.99), (6, 20, 100)):
        weight, label = alpha / k, np.eye(k)[0]
        released = ((1 - alpha) * label + weight * released_target(k, confidence, tau)) / (1 - alpha + weight)
        smoothed = ((1 - alpha) * label + weight / k) / (1 - alpha + weight)
        excess.append(np.abs(released - smoothed).sum() / 2 - confidence / (2 * tau))
    return Effect(max(excess), max(excess), max(excess), len(excess))


def released_target(num_classes: int, confidence: float, tau: float) -> np.ndarray:
    """The soft target (K,) of the released Tf-KD code for label 0, softmax(p^d / tau).

    `kdnb.core.theory.virtual_teacher` in numpy, since a ledger is read without torch.
    """
    virtual = np.r_[confidence, np.full(num_classes - 1, (1 - confidence) / (num_classes - 1))]
    return posterior(virtual[None], tau)[0]


TESTS: dict[str, RunTest] = {
    "difference": _difference,
    "inheritance": _inheritance,
    **{f"inherited, {words[0]}": partial(_inherited, side) for side, words in SIDES.items()},
    "trend": _trend,
    **{f"throughout {arm}": partial(_throughout_training, arm) for arm in ("kd_standard", "kd_self")},
    **{f"alike {arm}": partial(_train_and_test, arm) for arm in ("kd_standard", "kd_self")},
    "far greater": _far,
}
RUNLESS = {"closed form": _closed_form}
EVIDENCE = {
    "temperature": Evidence("a grid with tau as an axis", evidence.temperature),
    "smoothing": Evidence(f"LS at alpha {LARGE_ALPHA:g} or more", evidence.smoothing),
    CURVES: Evidence(f"entropy curves sampled on {CURVE_ROWS} rows or more", evidence.curves),
    **{grid: Evidence(words, partial(evidence.protocol, grid)) for grid, words in evidence.PROTOCOLS.items()},
    evidence.LONGER: Evidence(evidence.LONGER_IS, evidence.longer),
}
CHAPTER = Chapter(
    claims=CLAIMS,
    tests=TESTS,
    runless=RUNLESS,
    evidence=EVIDENCE,
    published=published_count,
    answers=ANSWERS,
)
