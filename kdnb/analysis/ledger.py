"""The ledger: claims as data, the runs that decide them, and what these say of each.

A claim holds if the paired per-seed effect lies on the claimed side of 0 and its two-sided p, corrected by Holm's rule
over the claims of its section on its task, is below .05; it fails if the effect lies on the other side with such a p,
and is undecided otherwise. The 95 % interval that stands beside it is uncorrected. Chance over test examples is
reported apart; for differences of accuracy it is chance over seeds and test examples together.
Which claims there are is for the studies to say: `kdnb.studies.registry` hands them in.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from kdnb.analysis import simulations, statistics
from kdnb.analysis.statistics import NO_BOOTSTRAP, Effect, Interval, over_seeds, verdict
from kdnb.core import metrics, store
from kdnb.core.store import Record
from kdnb.experiment.arms import ARMS
from kdnb.experiment.tables import Study

METRICS = {  # column of tables.tidy -> (in words, unit); "points" are shares times 100
    "entropy": ("entropy", "nats"),
    "accuracy": ("accuracy", "points"),
    "nll": ("NLL", "nats"),
    "overconfidence": ("confidence minus accuracy", "points"),
    "curve_entropy": ("mean entropy over training", "nats"),
    "train_curve_entropy": ("mean entropy on train over training", "nats"),
    "early_entropy": ("mean entropy over the first fifth of training", "nats"),
}
SAMPLED = ("curve_entropy", "train_curve_entropy", "early_entropy")  # over training; not stored by example
BESIDE = ("nll", "accuracy")  # what stands beside every difference of entropy
NO_NUMBER = "no number"  # a source that prints none
DESCRIPTIVE = "descriptive"  # the verdict of what is told and not tested
FIXED, SIMULATED = "study", "simulation"  # kinds of evidence that every study has


@dataclass(frozen=True)
class Part:
    """metric(arm) minus metric(than) is positive (sign +1) or negative (-1); than "" compares with 0."""

    metric: str  # a key of METRICS
    arm: str  # a key of ARMS
    sign: int
    than: str = ""

    @property
    def words(self) -> str:
        """The test in words."""
        name = METRICS[self.metric][0]
        less = f" minus {ARMS[self.than].name}'s" if self.than else ""
        return f"{ARMS[self.arm].name}'s {name}{less} {'>' if self.sign > 0 else '<'} 0"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One hypothesis.

    A claim of several parts holds if all of them hold and fails if one of them fails.
    """

    id: str  # letter, section and number: "H3.5a"
    statement: str
    source: str
    parts: tuple[Part, ...] = ()
    test: str = "difference"  # a key of TESTS or RUNLESS, or of its chapter's
    evidence: str = FIXED  # the runs that decide it: a key of EVIDENCE or of its chapter's evidence
    published: str = ""  # where the source has no number to count: why
    unit: str = "r"  # of the effect, where no part has one
    side: int = 1  # where no part has a sign: +1, -1, or 0 for a claim that there is no effect
    test_words: str = ""  # the test in words, where no part has any
    descriptive: bool = False  # a number that is told and not tested: no p, no verdict, outside Holm's correction

    @property
    def family(self) -> str:
        """The claims tested together, for Holm's correction: the section, "H3"."""
        return self.id.split(".")[0]

    @property
    def exploratory(self) -> bool:
        """Whether nobody had stated it: derived from printed tables, or a question of ours beside a paper's claims."""
        return "derived" in self.source or self.source.startswith(("our question", "not in the paper"))

    @property
    def metric(self) -> str:
        """The metrics of its parts."""
        return " and ".join(dict.fromkeys(part.metric for part in self.parts)) or self.test

    @property
    def effect_unit(self) -> str:
        """Unit of the effect: that of its parts, where it has any."""
        return METRICS[self.parts[0].metric][1] if self.parts else self.unit

    @property
    def sign(self) -> int:
        """+1 if a positive effect bears the claim out, -1 if a negative one, 0 if none can."""
        return self.parts[0].sign if len(self.parts) == 1 else self.side

    @property
    def words(self) -> str:
        """The test in words."""
        return self.test_words or "; ".join(part.words for part in self.parts)


RunTest = Callable[[Claim, Study], Effect]  # what the runs say
RunlessTest = Callable[[Claim], Effect]  # what a closed form or a simulation says, whatever runs there are


@dataclass(frozen=True)
class Evidence:
    """A kind of runs that decide claims."""

    words: str
    runs: Callable[[Study], Study | None] | None = None  # those beside the fixed arms; None if it reads no runs


def published_words(claim: Claim) -> str:
    """What stands in the column "published" where a study counts nothing."""
    return claim.published or NO_NUMBER


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """One study's part of the ledger."""

    claims: Mapping[str, Claim]  # by id
    tests: Mapping[str, RunTest] = field(default_factory=dict)  # beside TESTS, or in their place
    runless: Mapping[str, RunlessTest] = field(default_factory=dict)  # the same for RUNLESS
    evidence: Mapping[str, Evidence] = field(default_factory=dict)  # beside EVIDENCE
    published: Callable[[Claim], str] = published_words  # what the source itself says of a claim, "3/4"
    answers: Mapping[str, str] = field(default_factory=dict)  # claims that answer its question -> in words


def ledger(chapters: Iterable[Chapter], given: Mapping[str, Study | None], only: tuple[str, ...] = ()) -> pd.DataFrame:
    """Every claim on one task, a row each; a claim whose runs are missing has n 0 and the verdict "no runs".

    One that is told and not tested has no p, and "descriptive" for a verdict.

    Args:
        chapters: the studies' claims.
        given: evidence by its kind, the fixed arms by FIXED; None lists its claims with "no runs".
        only: how the ids begin, () for all.
    Returns:
        id, statement, metric, unit, source, test, published; effect, low, high, n, p, signs, sign_p, run_ids of
        `Effect`; example_low, example_high, bootstrap (over test examples, of accuracy over seeds as well); degenerate
        (of the runs whose numbers it is made of, how many have learnt nothing; a teacher counts where its own numbers
        enter), exploratory, side (the claimed sign), candidates (of searched arms), nll and accuracy beside a
        difference of entropy, each with _low and _high; p_holm (corrected over the claims of one section) and verdict.
        Accuracies are shares.
    Raises:
        ValueError: two studies have a claim of one id.
    """
    listed: dict[str, tuple[Claim, Chapter]] = {}
    for chapter in chapters:
        if shared := set(listed) & set(chapter.claims):
            raise ValueError(f"two studies have a claim {min(shared)}")
        listed |= {claim.id: (claim, chapter) for claim in chapter.claims.values()}
    rows, families = [], []
    together = {claim_id.split(".")[0] for claim_id in only}  # Holm's rule needs the whole of their sections
    for claim_id in sorted(listed, key=_place):
        claim, chapter = listed[claim_id]
        if claim.evidence in given and (not only or claim_id.startswith(only) or claim.family in together):
            rows.append(_row(claim, chapter, given[claim.evidence]))
            families.append(claim.family)
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["p_holm"] = table.groupby(np.array(families, dtype=str), sort=False).p.transform(statistics.holm)
    table["verdict"] = [_verdict(row) for row in table.itertuples()]
    told = np.array([listed[name][0].descriptive for name in table.id], dtype=bool)
    table.loc[told & (table.n > 0), "verdict"] = DESCRIPTIVE
    return table[table.id.str.startswith(only)].reset_index(drop=True) if only else table


def over_tasks(ledgers: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Each claim with the task as the unit: the t interval of its effect over tasks, and its verdict by Holm's rule.

    A task on which runs behind the claim have learnt nothing is left out, and so is one with another bound to be
    equal within: claims of equivalence have no row.

    Args:
        ledgers: by task, as `ledger` gives them.
    Returns:
        id, statement, unit, effect, low, high, n (tasks), p, left_out (tasks), p_holm, verdict.
    """
    rows = []
    tables = [table.assign(task=task) for task, table in ledgers.items()]
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*COLUMNS, "task"])
    for claim_id, found in whole[(whole.n > 0) & whole.p.notna() & whole.bound.isna()].groupby("id", sort=False):
        kept = found[found.degenerate == 0]
        effect = over_seeds(kept.set_index("task").effect, 0)
        first, left_out = found.iloc[0], ", ".join(found[found.degenerate > 0].task)
        values = (effect.effect, effect.low, effect.high, effect.n, effect.p)
        rows.append((claim_id, first.statement, first.unit, first.side, first.bound, *values, left_out))
    table = pd.DataFrame(rows, columns=["id", "statement", "unit", "side", "bound", *OF_TASKS, "left_out"])
    table["p_holm"] = table.groupby(table.id.str.split(".").str[0], sort=False).p.transform(statistics.holm)
    table["verdict"] = [_verdict(row) for row in table.itertuples()]
    return table.drop(columns=["side", "bound"])


def as_printed(value: float, unit: str) -> str:
    """A number of the ledger as printed, signed: points of accuracy to .1, everything else to .001; "–" for nan."""
    if np.isnan(value):
        return "–"
    scale, digits = (100, 1) if unit == "points" else (1, 3)
    return f"{round(value * scale, digits) + 0.0:+.{digits}f}"  # + 0.0: no minus zero


def difference(claim: Claim, study: Study) -> Effect:
    """The paired difference of each part; of several parts the one that bears the claim out least."""
    effects = [part_effect(part, study, 1 if len(claim.parts) == 1 else part.sign) for part in claim.parts]
    if len(effects) == 1:
        return effects[0]
    if not all(effect.n for effect in effects):
        return Effect()
    examples, worst = [effect.examples for effect in effects], _worst(effects)
    shown = [worst] if worst.effect < 0 else effects
    return Effect(
        effect=worst.effect,
        low=min(effect.low for effect in shown),
        high=min(effect.high for effect in shown),
        n=min(effect.n for effect in effects),
        p=float(np.max([effect.p for effect in shown])),  # nan, of one seed, decides nothing
        examples=Interval(
            min(one.low for one in examples), min(one.high for one in examples), examples[0].n, examples[0].method
        ),
        run_ids=list(dict.fromkeys(run_id for effect in effects for run_id in effect.run_ids)),
        beside=next((effect.beside for effect in effects if effect.beside), {}),
        candidates=", ".join(dict.fromkeys(one for effect in effects for one in effect.candidates.split(", ") if one)),
    )


def _worst(effects: list[Effect]) -> Effect:
    """The part that bears a claim out least: one on the other side of 0, the surest of these, else the smallest.

    A claim fails by its own p, and holds by the largest of all parts.
    """
    other_side = [effect for effect in effects if effect.effect < 0]
    tested = [effect for effect in other_side if effect.p < 1]  # nan is not
    return min(tested, key=lambda effect: effect.p) if tested else min(effects, key=lambda effect: effect.effect)


def part_effect(part: Part, study: Study, turn: int) -> Effect:
    """One paired difference, times turn; its runs are those of the seeds that both arms have.

    Args:
        part: what is compared with what.
        study: its runs; both arms have at most one per seed.
        turn: +1, or the part's sign: positive then bears the part out.
    """
    differences = turn * study.difference(part.arm, part.than, part.metric)
    if not len(differences):
        return Effect()
    seeds, arms = list(differences.index), [arm for arm in (part.arm, part.than) if arm]
    rows = study.table[study.table.arm.isin(arms) & study.table.seed.isin(seeds)]
    examples = NO_BOOTSTRAP
    if set(rows.run_id) <= set(study.runs) and part.metric not in SAMPLED:
        ours = _by_example(study, part.arm, part.metric, seeds)
        other = _by_example(study, part.than, part.metric, seeds) if part.than else np.zeros_like(ours)
        examples = statistics.paired_bootstrap(turn * ours, turn * other)
    effect = over_seeds(differences, turn * part.sign, rows.run_id.tolist(), examples)
    found = beside(lambda metric: study.difference(part.arm, part.than, metric)) if _of_entropy(part, study) else {}
    return replace(effect, beside=found, candidates=candidates(rows))


def _by_example(study: Study, arm: str, metric: str, seeds: list[int]) -> np.ndarray:
    """A metric per test example: (N,), mean over seeds; of accuracy (S, N), of each, so that seeds are drawn too."""
    if metric != "accuracy":
        return study.per_example(arm, metric, seeds)
    return np.stack([study.per_example(arm, metric, [seed]) for seed in seeds])


def _degenerate(study: Study, run_ids: list[str]) -> int:
    """How many of a study's runs have learnt nothing; its table may lack some, such as the teachers of a search."""
    listed = dict(zip(study.table.run_id, study.table.degenerate, strict=True))
    others = [study.runs[name] for name in run_ids if name not in listed and name in study.runs]
    count = sum(bool(listed.get(name, False)) for name in run_ids)
    return count + sum(metrics.is_degenerate(run.logits["test"], run.labels["test"]) for run in others)


def _of_entropy(part: Part, study: Study) -> bool:
    return part.metric.endswith("entropy") and bool(part.than) and set(BESIDE) <= set(study.table)


def beside(differences: Callable[[str], pd.Series]) -> dict[str, tuple[float, float, float]]:
    """What stands beside a difference of entropy, by BESIDE: mean, low and high end of its 95 % t interval.

    Args:
        differences: gives those of a metric, by seed.
    """
    return {metric: statistics.interval(differences(metric).dropna())[:3] for metric in BESIDE}


def candidates(rows: pd.DataFrame) -> str:
    """Among how many runs those of an arm and seed were selected, "Standard KD 60, ERM small 12"; "" for fixed ones.

    Args:
        rows: of a study's table, whose column candidates counts them.
    """
    if "candidates" not in rows:
        return ""
    counts = rows.groupby("name", sort=False).candidates.agg(["min", "max"])
    return ", ".join(f"{name} {low:g}" + f" to {high:g}" * (low < high) for name, low, high in counts.itertuples())


def simulated(claim: Claim) -> Effect:
    """The stored effects of `kdnb simulate`, one per seed."""
    content = simulations.stored(claim.id)
    if not content:
        return Effect()
    return over_seeds(pd.Series(content["effects"], content["seeds"], dtype=float), claim.sign)


def of_records(
    stored: Callable[[], Mapping[Any, Record]], effects: Callable[[Any], Mapping[str, pd.Series]]
) -> RunlessTest:
    """A test by stored records, which are read once while the store holds the same.

    Args:
        stored: gives experiment -> record, of those that the store has.
        effects: of these, if there are any, claim id -> a value for each seed; without claims that lack a record.
    """

    @functools.lru_cache(maxsize=1)
    def read(_ids: tuple[str, ...]) -> tuple[Mapping[str, pd.Series], list[str]]:
        found = stored()
        return (effects(found) if found else {}), [one.run_id() for one in found]

    def test(claim: Claim) -> Effect:
        values, run_ids = read(tuple(store.stored_ids()))
        if claim.id not in values:
            return Effect()
        one_each = len(values[claim.id]) == len(run_ids)  # else some of the records are of other claims
        return over_seeds(values[claim.id], claim.sign, run_ids if one_each else ())

    return test


TESTS: dict[str, RunTest] = {"difference": difference}
RUNLESS: dict[str, RunlessTest] = {"simulation": simulated}
EVIDENCE = {
    FIXED: Evidence("the arms at the profile's fixed hyper-parameters"),
    SIMULATED: Evidence("simulations, drawn anew for each seed"),
}
OF_TASKS = ("effect", "low", "high", "n", "p")
COLUMNS = (
    "id", "statement", "metric", "unit", "source", "test", "published", "effect", "low", "high", "n", "p", "signs",
    "sign_p", "example_low", "example_high", "bootstrap", "degenerate", "run_ids", "bound", "exploratory",
    "side", "candidates", "nll", "nll_low", "nll_high", "accuracy", "accuracy_low", "accuracy_high",
)  # fmt: skip


def against_erm(study: Study) -> pd.DataFrame:
    """What each soft target does to the model it trains: entropy, NLL [nats] and accuracy [shares] minus ERM's.

    Paired by seed with the ERM runs of the same model; arms without such a pair are left out.

    Returns:
        task, arm, name, metric; effect, low, high (95 % t interval over seeds, infinite for one seed), n, and
        degenerate (those of its runs and of ERM's that have learnt nothing).
    """
    rows = []
    for arm in sorted((arm for arm in ARMS if ARMS[arm].method != "erm"), key=lambda arm: ARMS[arm].student != "small"):
        for metric in ("entropy", *BESIDE):
            erm = f"erm_{ARMS[arm].student}"
            change = study.difference(arm, erm, metric)
            if len(change):
                own = study.table[study.table.arm.isin([arm, erm]) & study.table.seed.isin(change.index)]
                values = (*statistics.interval(change), int(own.degenerate.sum()))
                rows.append((study.task, arm, ARMS[arm].name, metric, *values))
    return pd.DataFrame(rows, columns=["task", "arm", "name", "metric", "effect", "low", "high", "n", "degenerate"])


def _place(claim_id: str) -> list[int]:
    """Where a claim stands: by the numbers in its id; those of equal numbers stay in the order of their study."""
    return [int(number) for number in re.findall(r"\d+", claim_id)]


def _verdict(row: Any) -> str:
    """ "holds", "fails", "undecided" or "no runs": by the corrected p; by the interval where nothing was tested.

    A closed form has no chance in it, and no p. A claim of equivalence fails where the interval lies outside its bound.
    """
    if not row.n:
        return "no runs"
    if not np.isnan(row.bound):
        outside = row.low > row.bound or row.high < -row.bound
        return "holds" if row.p_holm < 1 - statistics.LEVEL else "fails" if outside else "undecided"
    if np.isnan(row.p_holm):
        return verdict(row.low, row.high, row.side)
    if not row.p_holm < 1 - statistics.LEVEL:
        return "undecided"
    return verdict(row.effect, row.effect, row.side)


def _row(claim: Claim, chapter: Chapter, study: Study | None) -> dict:
    """A claim's row of the ledger."""
    effect, runless = Effect(), {**RUNLESS, **chapter.runless}
    if claim.test in runless:
        effect = runless[claim.test](claim)
    elif study is not None:
        effect = {**TESTS, **chapter.tests}[claim.test](claim, study)
    return {
        "id": claim.id,
        "statement": claim.statement,
        "metric": claim.metric,
        "unit": claim.effect_unit,
        "source": claim.source,
        "test": claim.words,
        "published": chapter.published(claim),
        "effect": effect.effect,
        "low": effect.low,
        "high": effect.high,
        "n": effect.n,
        "p": statistics.NAN if claim.descriptive else effect.p,
        "signs": effect.signs,
        "sign_p": effect.sign_p,
        "example_low": effect.examples.low,
        "example_high": effect.examples.high,
        "bootstrap": effect.examples.method,
        "degenerate": _degenerate(study, effect.run_ids) if study is not None else 0,
        "run_ids": effect.run_ids,
        "bound": effect.bound,
        "exploratory": claim.exploratory,
        "side": claim.sign,
        "candidates": effect.candidates,
        **_beside_columns(effect),
    }


def _beside_columns(effect: Effect) -> dict[str, float]:
    """nll, nll_low, nll_high and the same of accuracy; nan where nothing stands beside an effect."""
    found = {metric: effect.beside.get(metric, (statistics.NAN,) * 3) for metric in BESIDE}
    return {
        f"{metric}{end}": value
        for metric, values in found.items()
        for end, value in zip(("", "_low", "_high"), values, strict=True)
    }
