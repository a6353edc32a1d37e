"""The claims of arXiv 2301.12923 and our conjectures around them: where each comes from and how it is tested.

Its text could not be read: sources name what a summary says of it, and every test is our reconstruction.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from kdnb.analysis.ledger import SIMULATED, Chapter, Claim, Evidence
from kdnb.analysis.statistics import Effect, over_seeds, verdict
from kdnb.experiment.tables import Study
from kdnb.studies.deviations import spectral, stored, switching

_PAPER = "arXiv 2301.12923, by a summary"
_OURS = "our question on arXiv 2301.12923"


def _claim(id: str, statement: str, test_words: str, source: str = _PAPER, **more) -> Claim:
    return Claim(id=id, statement=statement, source=source, test_words=test_words, **more)


def _simulated(id: str, statement: str, test_words: str, source: str = _PAPER, **more) -> Claim:
    """A claim that no stored run decides."""
    more = {"test": "simulation", **more}
    return _claim(id, statement, test_words, source, evidence=SIMULATED, **more)


_DEVIATIONS = [
    _claim(
        "H6.1", "A self-distilled student (tau 4) is less sure than chance makes it where its teacher is unsure",
        "train, teacher's least sure quarter: the larger of mean Y - X and of that minus the control's < 0",
        test="underfit", evidence="deviations", unit="log-odds", side=-1,
    ),
    _claim(
        "H6.2", "Across sizes the underfit is weaker than in self-distillation",
        "the same mean, standard KD's minus its control's, less self-KD's minus its control's > 0",
        test="underfit across", evidence="deviations", unit="log-odds",
    ),
    _claim(
        "H6.3", "How far a student deviates does not by itself predict what it gains",
        "r of depth below the control and accuracy over a seed's students; an interval without 0 contradicts",
        _OURS, test="deviation and gain", evidence="deviations", side=0,
    ),
]  # fmt: skip
_SWITCHING = [
    _claim(
        "H7.1", "Labels first and the teacher from half-way on recovers half of KD's gain or more",
        "recovered gain R(.5) minus one half > 0", test="late teacher", evidence="switching", unit="of the gain",
    ),
    _claim(
        "H7.2", "The later the teacher comes, the less of its gain is recovered",
        "slope of R in the switch point < 0", test="recovery slope", evidence="switching", unit="of the gain", side=-1,
    ),
    _claim(
        "H7.3", "The teacher first and labels for the last quarter keeps half of KD's gain or more",
        "recovered gain R(.75) minus one half > 0", test="early teacher", evidence="switching", unit="of the gain",
    ),
]  # fmt: skip
_SIMULATED = [
    _simulated(
        "H7.4", "Labels in the last quarter bring more over KD alone where the teacher does not fit the train labels",
        "accuracy of KD -> one-hot at .75 minus KD's, teachers of noisy minus of clean digits > 0",
        unit="points",
    ),
    _simulated(
        "H8.1", "At equal progress along the top direction a linear student is behind its teacher along every other",
        "largest S_2 - A_2 over a grid of eigenvalues and times < 0; no run needed", "arXiv 2301.12923, our proof",
        test="filters", unit="of progress", side=-1,
    ),
    _simulated(
        "H8.2", "So do small networks, on three of four of MLP and CNN, clean and noisy digits",
        "share of the path below the teacher's, student minus control, third largest setting > 0",
        unit="of the path",
    ),
    _simulated(
        "H8.3", "Distillation helps where labels are noisy, not where a teacher fits clean ones",
        "accuracy of student minus control, noisy minus clean digits > 0", _OURS,
        unit="points",
    ),
    _simulated(
        "H9.1", "An early-stopped teacher turns the push on the similar class, a late one does not",
        "share of turned examples: early over one half, late under it; the smaller of both > 0",
        unit="of the examples",
    ),
    _simulated(
        "H9.2", "KD's gradient points nearer to the truth than the labels', and that nearer than the teacher's weights",
        "cosine to the truth: the smaller of the two steps > 0",
        unit="of cosine",
    ),
    _simulated(
        "H9.3", "No gradient on the class most similar to the label does without a teacher what KD does",
        "test accuracy of teacher-free zeroing minus ERM's, similar pairs of classes > 0", _OURS,
        unit="points",
    ),
]  # fmt: skip
CLAIMS = {claim.id: claim for claim in [*_DEVIATIONS, *_SWITCHING, *_SIMULATED]}


def _filters(_claim: Claim) -> Effect:
    """H8.1 in closed form: at matched progress along lam_1 = 1, the largest S_2 - A_2 over a grid, n its points."""
    worst, count = -np.inf, 0
    for lam in np.geomspace(0.001, 0.9, 13):
        for T in np.geomspace(0.1, 10, 9):
            t = np.geomspace(0.1, 10, 9)
            ahead = spectral.student_progress(lam, t, T) - spectral.gf_progress(lam, spectral.matched_time(1.0, t, T))
            worst, count = max(worst, float(ahead.max())), count + t.size
    return Effect(worst, worst, worst, count)


def _deviating(claim: Claim, study: Study) -> Effect:
    """H6.*: one value per seed of the stored students and their controls."""
    rows = stored.table(study)
    teachers = study.table.teacher[study.table.run_id.isin(rows.run_id)]
    ids = dict.fromkeys([*_ids(rows, "run_id", "control_id"), *teachers])
    return _within_r(claim, over_seeds(stored.EFFECTS[claim.test](rows), claim.sign, list(ids)))


def _switching(claim: Claim, study: Study) -> Effect:
    """H7.1-H7.3: one value per seed of the stored trainings whose loss switches."""
    rows = switching.table(study)
    return switching.effect(switching.EFFECTS[claim.test](rows), claim.sign, _ids(rows, "run_id"))


def on_students(name: str, rows: pd.DataFrame) -> tuple[Effect, str]:
    """One of H6.1 to H6.3 on a table of students, of stored runs or of toys: the effect over seeds and its verdict.

    Args:
        name: of the claim.
        rows: as `stored.table` makes them.
    """
    claim = CLAIMS[name]
    effect = _within_r(claim, over_seeds(stored.EFFECTS[claim.test](rows), claim.sign))
    return effect, verdict(effect.low, effect.high, claim.sign) if effect.n else "no runs"


def in_words(name: str, rows: pd.DataFrame) -> str:
    """`on_students` as a line: mean effect, 95 % t interval, n and verdict."""
    effect, word = on_students(name, rows)
    if not effect.n:
        return f"{name}: {word}"
    span = f"[{effect.low:+.3f}, {effect.high:+.3f}] {CLAIMS[name].unit}"
    return f"{name}: {effect.effect:+.3f} {span}, n = {effect.n}: {word}"


def _within_r(claim: Claim, effect: Effect) -> Effect:
    """The t interval of a few correlations may reach beyond what one can be."""
    if claim.unit != "r" or not effect.n:
        return effect
    return replace(effect, low=max(effect.low, -1.0), high=min(effect.high, 1.0))


def _ids(rows: pd.DataFrame, *columns: str) -> list[str]:
    """The names of the runs in some columns, each once."""
    return list(dict.fromkeys(run_id for column in columns for run_id in rows[column]))


TESTS = {
    **dict.fromkeys(stored.EFFECTS, _deviating),
    **dict.fromkeys(switching.EFFECTS, _switching),
}
EVIDENCE = {
    "deviations": Evidence("KD at alpha 1, tau 1 and 4", lambda study: stored.study(study.task, study.profile)),
    "switching": Evidence("losses switched in mid-training", lambda study: switching.study(study.task, study.profile)),
}
CHAPTER = Chapter(claims=CLAIMS, tests=TESTS, runless={"filters": _filters}, evidence=EVIDENCE)
