"""The claims of arXiv 2301.12609 as data, each with its test on our seeds and its count in the paper.

A claim holds if the 95 % t interval of the paired per-seed effect lies on the claimed side of 0, fails if
it lies on the other side, and is undecided otherwise.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from kdnb import published, results
from kdnb.arms import ARMS


@dataclass(frozen=True)
class Claim:
    """metric(arm) compared with metric(than): sign +1 claims more, -1 claims less."""

    id: str
    statement: str
    metric: str
    arm: str
    than: str
    sign: int
    source: str


def _claim(id: str, metric: str, arm: str, sign: str, than: str, source: str, statement: str = "") -> Claim:
    words = {"entropy": "entropy", "accuracy": "accuracy", "curve_entropy": "entropy throughout training"}[metric]
    told = f"{ARMS[arm].name} has {'higher' if sign == '>' else 'lower'} {words} than {ARMS[than].name}"
    return Claim(id, statement or told, metric, arm, than, 1 if sign == ">" else -1, source)


CLAIMS = [
    _claim("H1.2", "entropy", "tfkd_small", ">", "erm_small", "section 4, on teacher-free KD"),
    _claim("H3.1", "entropy", "ls_small", ">", "erm_small", "Table 2"),
    _claim("H3.2", "entropy", "kd_standard", "<", "erm_small", "Table 2"),
    _claim("H3.3", "entropy", "kd_self", "<", "erm_small", "Table 2"),
    _claim("H3.4", "entropy", "kd_standard", "<", "kd_self", "Table 2"),
    _claim("H3.5a", "accuracy", "kd_standard", ">", "erm_small", "Table 3"),
    _claim("H3.5b", "accuracy", "kd_self", ">", "erm_small", "Table 3"),
    _claim("H3.5c", "accuracy", "ls_small", "<", "erm_small", "Table 3"),
    _claim("H3.5d", "accuracy", "kd_standard", ">", "ls_small", "Table 3"),
    _claim("H3.5e", "accuracy", "kd_self", ">", "ls_small", "Table 3"),
    _claim("H3.5f", "accuracy", "kd_self", ">", "kd_standard", "Table 3"),
    _claim("H3.6a", "curve_entropy", "kd_standard", "<", "erm_small", "Figure 1"),
    _claim("H3.6b", "curve_entropy", "kd_self", "<", "erm_small", "Figure 1"),
    _claim("H3.6c", "curve_entropy", "kd_standard", "<", "ls_small", "Figure 1"),
    _claim("H4.1", "entropy", "ls_large", ">", "erm_large", "Table 4"),
    _claim("H4.2", "entropy", "kd_reverse", ">", "erm_large", "Table 4"),
    _claim("H4.3", "entropy", "kd_reverse", "<", "ls_large", "Table 4"),
    _claim("H4.4", "entropy", "erm_large", "<", "erm_small", "Tables 2 and 4"),
    _claim("H4.5a", "accuracy", "kd_reverse", ">", "erm_small", "Tables 3 and 5", "Reverse KD beats its own teacher"),
    _claim("H4.5b", "accuracy", "kd_reverse", ">", "erm_large", "Table 5"),
]
BRACKET = Claim(
    "H4.6", "Reverse KD's entropy lies between the ERM student's and the teacher's", "entropy", "kd_reverse",
    "erm_large", 1, "Tables 2 and 4",
)  # fmt: skip
INHERITANCE = Claim(
    "H3.7", "A student's entropy follows its teacher's (correlation over all KD runs)", "entropy", "", "", 1,
    "Tables 2 and 4, derived",
)  # fmt: skip


def verdict(low: float, high: float, sign: int) -> str:
    """ "holds", "fails" or "undecided": where the interval (low, high) of an effect lies; nan decides nothing."""
    if sign < 0:
        low, high = -high, -low
    return "holds" if low > 0 else "fails" if high < 0 else "undecided"


def published_count(claim: Claim, tasks: tuple[str, ...] = ("mrpc", "qnli", "sst2", "mnli")) -> str:
    """On how many of the paper's tasks its own tables bear the claim out, "3/4"; "figure only" or "none" otherwise."""
    if claim is INHERITANCE:
        cells = published.teacher_student_entropies()
        return f"r = {np.corrcoef(cells.teacher_entropy, cells.student_entropy)[0, 1]:.3f} (n = {len(cells)})"
    if claim.metric == "curve_entropy":
        return "figure only"
    if not ARMS[claim.arm].paper_row:
        return "no number"
    true = 0
    for task in tasks:
        arm, than = _printed(claim, claim.arm, task), _printed(claim, claim.than, task)
        if claim is BRACKET:
            true += than < arm < _printed(claim, "erm_small", task)
        else:
            true += claim.sign * (arm - than) > 0
    return f"{true}/{len(tasks)}"


def ledger(study: results.Study) -> pd.DataFrame:
    """Every claim on one task: id, statement, metric, source, published, effect, low, high, n, verdict, run_ids.

    Effects are in nats for entropies and in shares for accuracies; for H3.7 the effect is a correlation.
    A claim whose runs are missing has no effect, n 0 and the verdict "no runs".
    """
    rows = []
    for claim in [*CLAIMS, BRACKET, INHERITANCE]:
        effect, low, high, n = _effect(claim, study)
        word = verdict(low, high, claim.sign) if n else "no runs"
        told = (claim.id, claim.statement, claim.metric, claim.source, published_count(claim))
        rows.append((*told, effect, low, high, n, word, _behind(claim, study)))
    columns = ["id", "statement", "metric", "source", "published", "effect", "low", "high", "n", "verdict", "run_ids"]
    return pd.DataFrame(rows, columns=columns).sort_values("id", kind="stable").reset_index(drop=True)


def inheritance(study: results.Study) -> pd.DataFrame:
    """One row per KD run: name, arm, seed, teacher_entropy, student_entropy, run_id, teacher."""
    entropy_of = study.table.set_index("run_id").entropy
    rows = study.table[study.table.teacher.isin(entropy_of.index)]
    return pd.DataFrame({
        "name": rows.name, "arm": rows.arm, "seed": rows.seed, "run_id": rows.run_id, "teacher": rows.teacher,
        "teacher_entropy": rows.teacher.map(entropy_of), "student_entropy": rows.entropy,
    })  # fmt: skip


def correlation_interval(x, y) -> tuple[float, float, float]:
    """Pearson r and its 95 % interval by Fisher's z; the interval is (-1, 1) below four points."""
    r = float(np.corrcoef(x, y)[0, 1])
    if len(x) < 4 or abs(r) >= 1:
        return r, -1.0, 1.0
    half = norm.ppf(0.975) / np.sqrt(len(x) - 3)
    return r, float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half))


def _effect(claim: Claim, study: results.Study) -> tuple[float, float, float, int]:
    nothing = (float("nan"),) * 3
    if claim is INHERITANCE:
        cells = inheritance(study)
        if len(cells) < 3:
            return *nothing, 0
        return *correlation_interval(cells.teacher_entropy, cells.student_entropy), len(cells)
    differences = study.difference(claim.arm, claim.than, claim.metric)
    if claim is BRACKET:  # the smaller of the distances to both ends, negative outside
        other = study.difference("erm_small", claim.arm, claim.metric)
        differences = pd.concat([differences, other], axis=1).dropna().min(axis=1)
    return results.interval(differences) if len(differences) else (*nothing, 0)


def _behind(claim: Claim, study: results.Study) -> list[str]:
    """The runs an effect is computed from."""
    if claim is INHERITANCE:
        return inheritance(study).run_id.tolist()
    return study.table[study.table.arm.isin([claim.arm, claim.than])].run_id.tolist()


def _printed(claim: Claim, arm: str, task: str) -> float:
    table = published.RESULT_TABLES[(ARMS[arm].student, claim.metric)]
    return published.value(table, ARMS[arm].paper_row, task)
