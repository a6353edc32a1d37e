"""The claims on hidden states and relations, and their tests on the stored little-data records: one value a seed."""

from collections.abc import Callable

import pandas as pd

from kdnb.analysis.ledger import SIMULATED, Claim, RunlessTest
from kdnb.analysis.statistics import Effect, over_seeds
from kdnb.errors import NoRuns
from kdnb.studies.dark_knowledge import little_data as experiment

MARGIN = 0.01  # of accuracy: how much worse than a uniform map a learned one may be and still count as no worse
_SAID = "a seed text on feature distillation"
_OURS = "our question on feature distillation"


def _claim(id: str, statement: str, test_words: str, test: str, source: str = _SAID) -> Claim:
    return Claim(
        id=id, statement=statement, test_words=test_words, test=test, source=source, evidence=SIMULATED, unit="points"
    )


_MOST = "accuracy over ERM's, mean of hidden states (uniform map) and RKD: on {few} rows minus on 1,000 rows > 0"
_STEPS = "{most}; {steps} optimiser steps of every student"
_LEARNED = "accuracy of a learned map minus a uniform one's, mean over numbers of rows, plus a margin of 1 point > 0"
CLAIMS = {
    claim.id: claim
    for claim in [
        _claim(
            "H12.1a", "Feature losses help most with little data: digits", _MOST.format(few="50"), "little data, digits"
        ),
        _claim("H12.1b", "The same: review sentences", _MOST.format(few="100"), "little data, rt"),
        _claim(
            "H12.1c",
            "It is little data and not few steps: digits, as many steps on 50 rows as on 1,000",
            _STEPS.format(most=_MOST.format(few="50"), steps=640),
            "equal steps, digits",
            _OURS,
        ),
        _claim(
            "H12.1d",
            "The same: review sentences",
            _STEPS.format(most=_MOST.format(few="100"), steps=32),
            "equal steps, rt",
            _OURS,
        ),
        _claim(
            "H12.1e",
            "The same between convolutional networks: mnist5k",
            _STEPS.format(most=_MOST.format(few="50"), steps=320),
            "equal steps, mnist5k",
            _OURS,
        ),
        _claim("H12.2a", "A learned layer map is no worse than a uniform one: digits", _LEARNED, "learned, digits"),
        _claim("H12.2b", "The same: review sentences", _LEARNED, "learned, rt"),
        _claim(
            "H12.3a",
            "RKD works without a projection where widths differ: digits, 128 to 32",
            "accuracy of labels + RKD minus ERM's on 50 rows > 0",
            "relations, digits",
        ),
        _claim(
            "H12.3b",
            "The same: MPNet-base (768, not tuned) to MiniLM-L6 (384) on review sentences",
            "accuracy of labels + RKD minus ERM's on 300 rows > 0",
            "relations, ladder",
        ),
        _claim(
            "H12.4",
            "Attention adds to hidden states (TinyBERT's layer loss): review sentences",
            "accuracy of TinyBERT's loss minus that of hidden states alone, mean over numbers of rows > 0",
            "attention, rt",
            _OURS,
        ),
    ]
}


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by (rows, seed) and arm."""
    return table.pivot(index=["rows", "seed"], columns="arm", values="accuracy")


def little_data(table: pd.DataFrame) -> pd.Series:
    """By seed: the gain over ERM of hidden states and RKD, at the fewest rows minus at the most."""
    wide = _wide(table)
    gain = wide[["hidden, uniform", "RKD"]].mean(axis=1) - wide.ERM
    by_rows = gain.unstack("rows")
    return by_rows[by_rows.columns.min()] - by_rows[by_rows.columns.max()]


def learned(table: pd.DataFrame) -> pd.Series:
    """By seed: accuracy of a learned map minus a uniform one's, mean over numbers of rows, plus MARGIN."""
    wide = _wide(table)
    return (wide["hidden, learned"] - wide["hidden, uniform"]).groupby("seed").mean() + MARGIN


def attention(table: pd.DataFrame) -> pd.Series:
    """By seed: accuracy of TinyBERT's loss on layers minus that of hidden states alone, mean over numbers of rows."""
    wide = _wide(table)
    return (wide["TinyBERT"] - wide["hidden, uniform"]).groupby("seed").mean()


def relations(table: pd.DataFrame) -> pd.Series:
    """By seed: accuracy of RKD minus ERM's at the fewest rows."""
    wide = _wide(table).unstack("rows")
    fewest = wide.columns.get_level_values("rows").min()
    return wide["RKD", fewest] - wide["ERM", fewest]


def _test(name: str, value: Callable[[pd.DataFrame], pd.Series]) -> RunlessTest:
    def effect(claim: Claim) -> Effect:
        try:
            table = experiment.table(experiment.stored(name))
        except NoRuns:
            return Effect()
        return over_seeds(value(table), claim.sign)

    return effect


RUNLESS: dict[str, RunlessTest] = {
    "little data, digits": _test("digits", little_data),
    "little data, rt": _test("rt", little_data),
    "equal steps, digits": _test("digits, equal steps", little_data),
    "equal steps, rt": _test("rt, equal steps", little_data),
    "equal steps, mnist5k": _test("mnist5k, equal steps", little_data),
    "learned, digits": _test("digits", learned),
    "learned, rt": _test("rt", learned),
    "relations, digits": _test("digits", relations),
    "relations, ladder": _test("ladder", relations),
    "attention, rt": _test("rt, equal steps", attention),
}
