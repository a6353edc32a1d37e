"""What our runs say of each claim of `kdnb.studies.label_smoothing.claims`, beside what the paper's own tables say.

A claim holds if the 95 % t interval of the paired per-seed effect lies on the claimed side of 0, fails if
it lies on the other side, and is undecided otherwise. Chance over test examples is reported apart.
"""

import re
from itertools import product

import numpy as np
import pandas as pd
from scipy.special import softmax

from kdnb.analysis import statistics
from kdnb.analysis.statistics import NO_BOOTSTRAP, Effect, Interval, correlation_interval, over_seeds, verdict
from kdnb.experiment.arms import ARMS
from kdnb.experiment.tables import Study
from kdnb.studies.deviations.claims import DEVIATION_CLAIMS
from kdnb.studies.deviations.verdicts import DEVIATION_TESTS
from kdnb.studies.label_smoothing import evidence
from kdnb.studies.label_smoothing.claims import CLAIMS, METRICS, Claim, Part, published_count

NAN = float("nan")
RUNLESS = ("closed form", "filters", "simulation")  # tests that read no run


def ledger(study: Study | None, only: tuple[str, ...] = ("H",), **others: Study | None) -> pd.DataFrame:
    """Every claim on one task, a row each; a claim whose runs are missing has n 0 and the verdict "no runs".

    Args:
        study: the fixed arms. only: how the ids begin. others: further evidence by its names in
            `claims.EVIDENCE`, as `evidence.beyond` gives it; None lists its claims with "no runs".
    Returns:
        id, statement, metric, unit, source, test, published; effect, low, high, n, p, signs, sign_p, run_ids of
        `Effect`; example_low, example_high, bootstrap (over test examples); degenerate (runs behind it that have
        learnt nothing), verdict, p_holm (corrected over the claims of one section). Accuracies are shares.
    """
    given = {"study": study, **others}
    claims = sorted(
        (CLAIMS | DEVIATION_CLAIMS).values(), key=lambda claim: [int(x) for x in re.findall(r"\d+", claim.id)]
    )
    rows = [
        _row(claim, given[claim.evidence]) for claim in claims if claim.evidence in given and claim.id.startswith(only)
    ]
    table = pd.DataFrame(rows)
    table["p_holm"] = table.groupby(table.id.str.split(".").str[0], sort=False).p.transform(statistics.holm)
    return table


def shown(value: float, unit: str, signed: bool = True) -> str:
    """A number of the ledger as printed: points of accuracy to .1, everything else to .001; "–" for nan."""
    if np.isnan(value):
        return "–"
    scale, digits = (100, 1) if unit == "points" else (1, 3)
    return f"{round(value * scale, digits) + 0.0:{'+' if signed else ''}.{digits}f}"  # + 0.0: no minus zero


def inheritance(study: Study) -> pd.DataFrame:
    """One row per KD run of ARMS whose teacher is stored: entropies [nats] of both and of ERM beside the student.

    Columns: name, arm, seed, run_id, teacher, teacher_entropy, student_entropy, erm_entropy (nan without one).
    """
    entropy_of = {name: run.metrics["test"]["entropy"] for name, run in study.runs.items()}
    entropy_of |= study.table.set_index("run_id").entropy.to_dict()
    erm = study.table[study.table.arm.str.startswith("erm_")].groupby(["arm", "seed"]).entropy.first().to_dict()
    rows = study.table[study.table.teacher.isin(entropy_of) & study.table.arm.isin(ARMS)]
    beside = [erm.get((f"erm_{ARMS[row.arm].student}", row.seed), NAN) for row in rows.itertuples()]
    return pd.DataFrame({
        "name": rows.name, "arm": rows.arm, "seed": rows.seed, "run_id": rows.run_id, "teacher": rows.teacher,
        "teacher_entropy": rows.teacher.map(entropy_of), "student_entropy": rows.entropy, "erm_entropy": beside,
    })  # fmt: skip


def _row(claim: Claim, study: Study | None) -> dict:
    """A claim's row of the ledger."""
    found = Effect()
    if study is not None or claim.test in RUNLESS:
        found = TESTS[claim.test](claim, study)
    units = {METRICS[part.metric][1] for part in claim.parts}
    unit = units.pop() if units else claim.unit
    learnt = study.table.set_index("run_id").degenerate if study is not None else {}
    word = verdict(found.low, found.high, claim.sign) if found.n else "no runs"
    return {
        "id": claim.id, "statement": claim.statement, "metric": claim.metric, "unit": unit, "source": claim.source,
        "test": claim.words, "published": published_count(claim), "effect": found.effect, "low": found.low,
        "high": found.high, "n": found.n, "p": found.p, "signs": found.signs, "sign_p": found.sign_p,
        "example_low": found.examples.low, "example_high": found.examples.high, "bootstrap": found.examples.method,
        "degenerate": int(sum(learnt.get(run_id, False) for run_id in found.run_ids)), "verdict": word,
        "run_ids": found.run_ids,
    }  # fmt: skip


def _chosen(claim: Claim, study: Study) -> Study:
    """One run per arm and seed: as it is for the fixed arms, selected on validation from a grid."""
    return study if claim.evidence == "study" else evidence.selected(study.only(study.table[study.table.tau2_scaling]))


def _difference(claim: Claim, study: Study) -> Effect:
    """The paired difference of each part; of several parts the one that bears the claim out least."""
    study = _chosen(claim, study)
    effects = [_part(part, study, 1 if len(claim.parts) == 1 else part.sign) for part in claim.parts]
    if len(effects) == 1 or not all(effect.n for effect in effects):
        return effects[0] if len(effects) == 1 else Effect()
    ids = list(dict.fromkeys(run_id for effect in effects for run_id in effect.run_ids))
    least = {name: min(getattr(effect, name) for effect in effects) for name in ("effect", "low", "high", "n")}
    examples = [effect.examples for effect in effects]
    worst = Interval(min(x.low for x in examples), min(x.high for x in examples), examples[0].n, examples[0].method)
    return Effect(**least, p=max(effect.p for effect in effects), examples=worst, run_ids=ids)


def _part(part: Part, study: Study, turn: int) -> Effect:
    """One paired difference, times turn; its runs are those of the seeds that both arms have."""
    differences = turn * study.difference(part.arm, part.than, part.metric)
    if not len(differences):
        return Effect()
    seeds, arms = list(differences.index), [arm for arm in (part.arm, part.than) if arm]
    rows = study.table[study.table.arm.isin(arms) & study.table.seed.isin(seeds)]
    examples = NO_BOOTSTRAP
    if set(rows.run_id) <= set(study.runs) and "curve" not in part.metric:  # curves are sampled, not stored by example
        ours, other = study.per_example(part.arm, part.metric, seeds), 0.0
        other = study.per_example(part.than, part.metric, seeds) if part.than else np.zeros_like(ours)
        examples = statistics.paired_bootstrap(turn * ours, turn * other)
    return over_seeds(differences, turn * part.sign, rows.run_id.tolist(), examples)


def _inheritance(claim: Claim, study: Study) -> Effect:
    """Correlation over KD runs: of the entropies, or of both minus the ERM student's, self-KD left out."""
    cells, change = inheritance(_chosen(claim, study)), claim.test == "inherited change"
    if change:
        cells = cells[cells.arm != "kd_self"].dropna(subset="erm_entropy")
    if len(cells) < 3:
        return Effect()
    base = cells.erm_entropy if change else 0.0
    x, y = cells.teacher_entropy - base, cells.student_entropy - base
    r, low, high = correlation_interval(x, y)
    return Effect(r, low, high, len(x), statistics.correlation_p_value(r, len(x)), run_ids=cells.run_id.tolist())


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


def _closed_form(claim: Claim, study: Study | None) -> Effect:
    """H1.1: total variation between the target of Tf-KD as released and LS's at the equivalent alpha, over K.

    The released soft target is softmax(p^d / tau) of the virtual teacher's probabilities, weighted alpha / K
    against 1 - alpha. It lies within confidence / (2 tau) of uniform, so the mixture differs from LS by at most
    that; effect is the largest excess over the bound (below 0: the bound is kept), n the cases.
    """
    excess = []
    for k, alpha, confidence, tau in product((2, 3, 10, 100), (0.6, 0.95), (0.9, 0.99), (6, 20, 100)):
        virtual = np.r_[confidence, np.full(k - 1, (1 - confidence) / (k - 1))]
        weight, label = alpha / k, np.eye(k)[0]
        released = ((1 - alpha) * label + weight * softmax(virtual / tau)) / (1 - alpha + weight)
        smoothed = ((1 - alpha) * label + weight / k) / (1 - alpha + weight)
        excess.append(np.abs(released - smoothed).sum() / 2 - confidence / (2 * tau))
    return Effect(max(excess), max(excess), max(excess), len(excess))


TESTS = {
    "difference": _difference, "inheritance": _inheritance, "inherited change": _inheritance, "trend": _trend,
    "closed form": _closed_form, **DEVIATION_TESTS,
}  # fmt: skip
