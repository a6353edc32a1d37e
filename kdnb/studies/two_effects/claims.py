"""The claims on two effects in one loss: stated before their runs were made, decided like all others.

Dose and placebo are judged at the weights their grids have: alpha 1 for the dose, the profile's own for placebos.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from kdnb.analysis import ledger, statistics
from kdnb.analysis.ledger import NO_NUMBER, SIMULATED, Chapter, Claim, Evidence
from kdnb.analysis.statistics import Effect, equivalence, over_seeds
from kdnb.core import metrics
from kdnb.experiment.tables import Study
from kdnb.studies.two_effects import cells, law
from kdnb.studies.two_effects.cells import LS, OTHER_SEED, OWN_SEED, STANDARD, TEACHER_SOFT
from kdnb.studies.two_effects.grids import BUDGETS, DOSE, PLACEBO, SEEDS, SOFTNESS
from kdnb.sweeps import stored

SHARE = 0.1  # of LS's effect on the task: what counts as no effect
MEMORISED, CLEANING = 0.995, 0.97  # train accuracy of the teacher, from which on and below which
SLOPE, SLACK = 1.0, 0.2
BEYOND = 4.0  # times the teacher's logits: confidence beyond the labels' own
_ASKED = "our question, asked when the runs were there"
_WITHIN = "within a tenth of LS's effect on the task (two one-sided t tests)"


def _claim(id: str, statement: str, test: str, evidence: str, test_words: str, **more) -> Claim:
    facts = {"unit": "nats", "source": "this study", "published": NO_NUMBER, **more}
    return Claim(id=id, statement=statement, test=test, evidence=evidence, test_words=test_words, **facts)


_ALL = [
    _claim("H18.1", "A target's softness raises a student's entropy", "softness", SOFTNESS,
           "main effect of softness in the two by two > 0"),
    _claim("H18.2", "A teacher's labels lower a student's entropy where it has not memorised its own", "labels",
           SOFTNESS, f"main effect of the teacher's labels < 0, its train accuracy below {CLEANING:.0%}", side=-1),
    _claim("H18.3", "The labels of a teacher that has memorised its own leave entropy as it is", "memorised labels",
           SOFTNESS, f"main effect of labels {_WITHIN}, train accuracy above {MEMORISED:.1%}", side=0),
    _claim("H18.4a", "Students of teachers less sure on train than ERM is are less sure than ERM", "less sure", DOSE,
           "change of entropy, mean over the doses with a teacher less sure on train > 0"),
    _claim("H18.4b", "Doubt is inherited one to one", "slope", DOSE, unit="nats per nat, minus 1", side=0,
           test_words=f"slope of the change in x > 0, by seed, within {SLACK} of {SLOPE:g} (two one-sided t tests)"),
    _claim("H18.5", "Confidence beyond the labels' own is not inherited", "beyond", DOSE,
           f"entropy at four times the logits minus that at hard labels {_WITHIN}", side=0),
    _claim("H18.6", "What a teacher is on train tells the sign of KD's effect better than its test entropy", "law",
           SIMULATED, unit="points", test_words="share of signs that a logistic fit on the other tasks' runs tells, by "
           "train labels and train entropy minus by test entropy, a value a task > 0"),
    _claim("H18.7", "KD from posteriors shuffled within each class leaves students less sure than KD",
           "shuffled", PLACEBO, "entropy of students of shuffled posteriors minus KD's > 0"),
    _claim("H18.8", "KD's accuracy needs the instance: shuffled within each class, the posteriors teach less",
           "shuffled accuracy", PLACEBO, "accuracy of KD minus that with shuffled posteriors > 0", unit="points"),
    _claim("H18.9", "Shuffled posteriors do what their class means do", "class means", PLACEBO,
           f"entropy with shuffled posteriors minus that with class means {_WITHIN}", side=0),
    _claim("H18.10", "A teacher of another seed does to entropy what the own seed's does", "whose seed", PLACEBO,
           f"entropy of self-KD, own seed's teacher minus another's {_WITHIN}", side=0),
    _claim("H18.11", "Self-KD leaves entropy as it is", "self", SEEDS,
           f"entropy of self-KD by another seed's model minus ERM's {_WITHIN}", side=0),
    _claim("H20.1", "At equal NLL on train KD leaves entropy as it is", "KD, equal progress", BUDGETS,
           "entropy of KD minus ERM's at its train NLL, mean over budgets, within a tenth of LS's such effect (two "
           "one-sided t tests)", side=0, source=_ASKED),
    _claim("H20.2", "At equal NLL on train LS still raises entropy", "LS, equal progress", BUDGETS,
           "entropy of LS minus ERM's at its train NLL, mean over budgets > 0", source=_ASKED),
]  # fmt: skip
CLAIMS = {claim.id: claim for claim in _ALL}


def _bound(table: pd.DataFrame, ls: str, erm: str, seeds: pd.Index) -> float:
    """A tenth of LS's effect on the seeds that are compared, as a size; nan without both."""
    if ls not in table or erm not in table:
        return np.nan
    return SHARE * abs(float((table[ls] - table[erm]).reindex(seeds).mean()))


def _law(claim: Claim) -> Effect:
    rows = law.runs("cpu")
    return over_seeds(law.left_out(rows, law.LAW) - law.left_out(rows, law.RIVAL), claim.sign)


def _beside(effect: Effect, study: Study, measured: Callable[[pd.DataFrame], pd.Series]) -> Effect:
    """The same effect in NLL and accuracy beside one in entropy of the two by two."""
    found = ledger.beside(lambda metric: measured(cells.two_by_two(study, metric)))
    return replace(effect, beside=found) if effect.n else effect


def _softness(claim: Claim, study: Study) -> Effect:
    table = cells.two_by_two(study)
    effect = over_seeds(cells.softness_effect(table), claim.sign, _of_cells(study, table.index, cells.TWO_BY_TWO))
    return _beside(effect, study, cells.softness_effect)


def _labels(claim: Claim, study: Study) -> Effect:
    table = cells.two_by_two(study)
    if not len(table) or cells.teachers(study).train_accuracy[table.index].mean() >= CLEANING:
        return Effect()
    runs = [*_of_cells(study, table.index, cells.TWO_BY_TWO), *_teachers(study, table.index)]
    effect = over_seeds(cells.labels_effect(table), claim.sign, runs)
    return _beside(effect, study, cells.labels_effect)


def _memorised(_claim: Claim, study: Study) -> Effect:
    table = cells.two_by_two(study)
    if not len(table) or cells.teachers(study).train_accuracy[table.index].mean() <= MEMORISED:
        return Effect()
    bound = _bound(table, LS, cells.HUMAN_HARD, table.index)
    runs = [*_of_cells(study, table.index, (*cells.TWO_BY_TWO, LS)), *_teachers(study, table.index)]
    effect = equivalence(cells.labels_effect(table), bound, runs)
    return _beside(effect, study, cells.labels_effect)


def _less_sure(claim: Claim, study: Study) -> Effect:
    rows = cells.doubted(cells.dose_response(study))
    effect = over_seeds(rows.groupby("seed").change.mean(), claim.sign, _of_doses(study, rows))
    found = ledger.beside(lambda metric: rows.groupby("seed")[metric].mean())
    return replace(effect, beside=found) if effect.n else effect


def _slope(_claim: Claim, study: Study) -> Effect:
    doses = cells.dose_response(study)
    return equivalence(cells.slopes(doses) - SLOPE, SLACK, _of_doses(study, cells.sloping(doses)))


def _beyond(_claim: Claim, study: Study) -> Effect:
    rows = cells.dose_response(study)
    if rows.empty:
        return Effect()
    table = rows.pivot_table(index="seed", columns="dose", values=["change", *ledger.BESIDE], aggfunc="first")
    if not {BEYOND, np.inf} <= set(table["change"]):
        return Effect()
    differences = {metric: (table[metric][BEYOND] - table[metric][np.inf]).dropna() for metric, _ in table}
    seeds = differences["change"].index
    bound = _bound(cells.placebos(study), "LS", "ERM", seeds)
    ends = rows.run_id[rows.dose.isin([BEYOND, np.inf]) & rows.seed.isin(seeds)].tolist()
    runs = [*ends, *_of_cells(study, seeds, ("ERM", "LS"), cells.placebo_of(study))]
    effect = equivalence(differences["change"], bound, runs)
    return replace(effect, beside=ledger.beside(differences.__getitem__)) if effect.n else effect


def _equal_progress(cell: str, *, equal: bool = False):
    """A test of a cell against ERM at equal NLL on train: of their difference, or that there is none."""

    def test(claim: Claim, study: Study) -> Effect:
        table = cells.at_equal_progress(study)
        differences = table[cell].dropna()
        runs = _of_cells(study, differences.index, (cell, cells.HUMAN_HARD, *[LS] * equal))
        if equal:
            effect = equivalence(differences, SHARE * abs(float(table[LS][differences.index].mean())), runs)
        else:
            effect = over_seeds(differences, claim.sign, runs)
        if not effect.n:
            return effect
        return replace(effect, beside=ledger.beside(lambda one: cells.at_equal_progress(study, one)[cell]))

    return test


def _between(arm: str, than: str, metric: str = "entropy", *, equal: bool = False):
    """A test of one placebo against another: of their difference, or that there is none."""

    def test(claim: Claim, study: Study) -> Effect:
        table = cells.placebos(study, metric)
        if arm not in table or than not in table:
            return Effect()
        differences = (table[arm] - table[than]).dropna()
        behind = (arm, than, *["ERM", "LS"] * equal)
        runs = _of_cells(study, differences.index, behind, cells.placebo_of(study))
        examples = statistics.NO_BOOTSTRAP
        if metric == "accuracy" and runs and set(runs) <= set(study.runs):
            both = (_right_by_example(study, placebo, differences.index) for placebo in (arm, than))
            examples = statistics.paired_bootstrap(*both)
        effect = over_seeds(differences, claim.sign, runs, examples)
        if equal:
            effect = equivalence(differences, _bound(table, "LS", "ERM", differences.index), runs)
        if metric != "entropy" or not effect.n:
            return effect
        others = {one: cells.placebos(study, one) for one in ledger.BESIDE}
        return replace(effect, beside=ledger.beside(lambda one: others[one][arm] - others[one][than]))

    return test


def _right_by_example(study: Study, placebo: str, seeds: pd.Index) -> np.ndarray:
    """Whether each test example is right, of one of `cells.placebos` at some seeds: (S, N)."""
    name = cells.placebo_of(study)
    rows = study.table[[name(row) == placebo for row in study.table.itertuples()]]
    runs = [study.runs[run_id] for run_id in rows.groupby("seed").run_id.first()[seeds]]
    return np.stack([metrics.per_example("accuracy", run.logits["test"], run.labels["test"]) for run in runs])


def _of_doses(study: Study, rows: pd.DataFrame) -> list[str]:
    """The runs behind rows of `cells.dose_response`: the students, their teachers, and ERM of their seeds."""
    taught = study.table[study.table.run_id.isin(rows.run_id)]
    erm = _of_cells(study, pd.Index(taught.seed.unique()), [cells.HUMAN_HARD])
    return [*taught.run_id, *taught.teacher.unique(), *erm]


def _teachers(study: Study, seeds: pd.Index) -> list[str]:
    """The large ERM models of some seeds, whose accuracy on train says whether a claim is asked."""
    erm = study.table[(study.table.method == "erm") & (study.table.student == "large")]
    return erm.run_id[erm.seed.isin(seeds)].tolist()


def _of_cells(
    study: Study, seeds: pd.Index, behind: Iterable[str], name: Callable[[object], str] = cells.cell_of
) -> list[str]:
    """The runs of some cells at some seeds: those that an effect was made of."""
    rows, wanted = study.table[study.table.seed.isin(seeds)], set(behind)
    return [row.run_id for row in rows.itertuples() if name(row) in wanted]


def _grid(name: str):
    return lambda study: stored.of_grid(name, study.task, study.profile)


CHAPTER = Chapter(
    claims=CLAIMS,
    tests={
        "softness": _softness,
        "labels": _labels,
        "memorised labels": _memorised,
        "less sure": _less_sure,
        "slope": _slope,
        "beyond": _beyond,
        "shuffled": _between("shuffle", STANDARD),
        "shuffled accuracy": _between(STANDARD, "shuffle", "accuracy"),
        "class means": _between("shuffle", "class_mean", equal=True),
        "whose seed": _between(OWN_SEED, OTHER_SEED, equal=True),
        "self": _between(OTHER_SEED, "ERM", equal=True),
        "KD, equal progress": _equal_progress(TEACHER_SOFT, equal=True),
        "LS, equal progress": _equal_progress(LS),
    },
    runless={"law": _law},
    evidence={
        SOFTNESS: Evidence("label or teacher's argmax, hard or soft, at alpha 1", _grid(SOFTNESS)),
        DOSE: Evidence("one teacher's logits, scaled", _grid(DOSE)),
        BUDGETS: Evidence("few to many epochs of teacher and student alike", _grid(BUDGETS)),
        PLACEBO: Evidence("placebo teachers", _grid(PLACEBO)),
        SEEDS: Evidence("the six arms at eight seeds or more, self-KD by another seed's model", _grid(SEEDS)),
    },
)
