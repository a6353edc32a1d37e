"""The sayings about born-again networks as claims: each is asked of every seed's family of stored runs."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from kdnb.analysis.ledger import Claim, Evidence
from kdnb.analysis.statistics import Effect, over_seeds
from kdnb.experiment.tables import Study
from kdnb.studies.dark_knowledge import born_again
from kdnb.studies.dark_knowledge.born_again import Family
from kdnb.studies.dark_knowledge.grids import BAN, CWTM, DKPP, DRAWN, GENERATIONS, INSTANCE, LABELS, MEAN, ROOT

_BAN = "Furlanello et al. 2018, by a note"
_OURS = "our question on born-again networks"
LATE = 3  # the generation by which the gains are said to be had

Value = Callable[[Family], float | None]  # None where a run is missing


def _claim(id: str, statement: str, test_words: str, test: str, source: str = _BAN, **more) -> Claim:
    more = {"unit": "points", **more}
    return Claim(
        id=id, statement=statement, source=source, test_words=test_words, test=test, evidence=GENERATIONS, **more
    )


CLAIMS = {
    claim.id: claim
    for claim in [
        _claim(
            "H11.1",
            "The first generation gains most",
            "accuracy: gain of generation 1 minus the largest later gain > 0",
            "first gain",
        ),
        _claim(
            "H11.2",
            "After generation 3 less is gained than before",
            "accuracy: gain up to generation 3 minus gain after it > 0",
            "saturation",
        ),
        _claim(
            "H11.2b",
            "Each generation is better than the one before",
            "accuracy: the smallest gain of a generation > 0",
            "every gain",
            "Furlanello et al. 2018, by the summaries",
        ),
        _claim(
            "H11.3a",
            "An ensemble of three generations beats its best member",
            "accuracy of their mean posterior minus the best member's > 0",
            "ensemble and members",
        ),
        _claim(
            "H11.3b",
            "It beats an ensemble of three ERM models",
            "accuracy minus that of three ERM models' mean posterior > 0",
            "ensemble and ERM, equal size",
            _OURS,
        ),
        _claim(
            "H11.3c",
            "It beats an ERM ensemble that took as many trainings",
            "accuracy minus that of four ERM models' mean posterior > 0",
            "ensemble and ERM, equal FLOPs",
            _OURS,
        ),
        _claim(
            "H11.4a",
            "With its classes shuffled (DKPP) the teacher still gives most of the gain",
            "accuracy: DKPP's gain over ERM minus half of BAN's > 0",
            "shuffled classes",
        ),
        _claim(
            "H11.4b",
            "Weighting labels by the teacher's confidence (CWTM) gives less than shuffled classes",
            "accuracy of DKPP minus CWTM's > 0",
            "confidence alone",
        ),
        _claim(
            "H11.5",
            "Entropy does not drift from generation to generation",
            "slope of test entropy in the generation; an interval without 0 contradicts",
            "entropy drift",
            _OURS,
            unit="nats",
            side=0,
        ),
        _claim(
            "H11.6",
            "Soft labels are more than label smoothing: they beat labels smoothed to the same mean entropy",
            "test NLL of labels as soft as the teacher minus generation 1's > 0",
            "smoothing as soft",
            _OURS,
            unit="nats",
        ),
        _claim(
            "H11.7",
            "They beat labels smoothed to the teacher's entropy example by example",
            "test NLL of labels as soft, each, minus generation 1's > 0",
            "smoothing as soft each",
            _OURS,
            unit="nats",
        ),
        _claim(
            "H11.8",
            "Labels beside the posteriors (BAN+L) help",
            "accuracy of BAN+L minus generation 1's > 0",
            "labels beside",
            _OURS,
        ),
        _claim(
            "H11.9",
            "Labels smoothed to the teacher's entropy example by example beat labels smoothed as drawn",
            "test NLL of labels smoothed as drawn minus that of labels as soft, each, > 0",
            "smoothing as drawn",
            _OURS,
            unit="nats",
        ),
    ]
}


def _gains(one: Family) -> np.ndarray | None:
    """Accuracy of each generation minus the one before it; None without a first model or a generation."""
    runs = [one.run(ROOT, 0), *one.bans()]
    values = [run.metrics["test"]["accuracy"] for run in runs if run]
    return np.diff(values) if runs[0] and len(values) > 1 else None


def _first_gain(one: Family) -> float | None:
    gains = _gains(one)
    return None if gains is None or len(gains) < 2 else float(gains[0] - gains[1:].max())


def _saturation(one: Family) -> float | None:
    gains = _gains(one)
    return None if gains is None or len(gains) <= LATE else float(gains[:LATE].sum() - gains[LATE:].sum())


def _every_gain(one: Family) -> float | None:
    gains = _gains(one)
    return None if gains is None else float(gains.min())


def _drift(one: Family) -> float | None:
    runs = [run for run in (one.run(ROOT, 0), *one.bans()) if run]
    values = [run.metrics["test"]["entropy"] for run in runs]
    return float(np.polyfit(range(len(values)), values, 1)[0]) if len(values) > 2 else None


def _shuffled(one: Family) -> float | None:
    erm, ban, shuffled = (born_again.accuracy(one.run(*place)) for place in ((ROOT, 0), (BAN, 1), (DKPP, 1)))
    return None if erm is None or ban is None or shuffled is None else (shuffled - erm) - (ban - erm) / 2


def _less(kind: str, than: str, metric: str) -> Value:
    """A test metric of one first-generation kind minus that of another."""

    def value(one: Family) -> float | None:
        ours, other = one.run(kind), one.run(than)
        return None if not (ours and other) else ours.metrics["test"][metric] - other.metrics["test"][metric]

    return value


VALUES: dict[str, Value] = {
    "first gain": _first_gain,
    "saturation": _saturation,
    "every gain": _every_gain,
    "entropy drift": _drift,
    "shuffled classes": _shuffled,
    "confidence alone": _less(DKPP, CWTM, "accuracy"),
    "smoothing as soft": _less(MEAN, BAN, "nll"),
    "smoothing as soft each": _less(INSTANCE, BAN, "nll"),
    "smoothing as drawn": _less(DRAWN, INSTANCE, "nll"),
    "labels beside": _less(LABELS, BAN, "accuracy"),
}
RIVALS = {"ensemble and ERM, equal size": "ERM, equal size", "ensemble and ERM, equal FLOPs": "ERM, equal FLOPs"}


def _of_families(claim: Claim, study: Study) -> Effect:
    """One value per family."""
    members = born_again.families(study)
    return over_seeds(born_again.difference(members, VALUES[claim.test]), claim.sign, _ids(members))


def _of_ensembles(claim: Claim, study: Study) -> Effect:
    """One value per family, of the ensembles of `LATE` models."""
    members = born_again.families(study)
    made = born_again.ensembles(members)
    if made.empty or LATE not in set(made["size"]):
        return Effect()
    by_kind = made[made["size"] == LATE].set_index(["seed", "kind"]).unstack("kind")
    ours = by_kind["accuracy", "BAN"]
    rival = by_kind["best_member", "BAN"] if claim.test not in RIVALS else by_kind["accuracy", RIVALS[claim.test]]
    return over_seeds(pd.Series(ours - rival), claim.sign, _ids(members))


def _ids(members: Sequence[Family]) -> list[str]:
    return [run.run_id for one in members for run in one.runs.values()]


TESTS = {
    **dict.fromkeys(VALUES, _of_families),
    **dict.fromkeys(["ensemble and members", *RIVALS], _of_ensembles),
}
EVIDENCE = {
    GENERATIONS: Evidence(
        "born-again generations and ERM models", lambda study: born_again.study(study.task, study.profile)
    )
}
