"""The ledger as text: what stands beside a verdict, and what it must not hide."""

import pandas as pd
import pytest

from kdnb.analysis.ledger import COLUMNS
from kdnb.analysis.ledger_text import OVER_CONFIDENT, lines, spanned

NAN = float("nan")
ROW = {
    "id": "H3.2", "statement": "lower", "metric": "entropy", "unit": "nats", "published": "4/4", "effect": -0.02,
    "low": -0.03, "high": -0.01, "n": 3, "p": 0.01, "signs": "3/3", "example_low": -0.04, "example_high": -0.005,
    "bootstrap": "BCa", "degenerate": 0, "run_ids": ["a", "b"], "side": -1, "candidates": "", "nll": 0.04,
    "nll_low": 0.01, "nll_high": 0.07, "accuracy": 0.001, "accuracy_low": -0.01, "accuracy_high": 0.012,
    "p_holm": 0.02, "verdict": "holds",
}  # fmt: skip


def told(**changes):
    return lines(pd.DataFrame([{**dict.fromkeys(COLUMNS), **ROW, **changes}])).iloc[0]


def test_every_number_stands_with_its_interval_and_unit():
    row = told()
    assert row["effect"] == "-0.020 [-0.030, -0.010] nats"
    assert row["over examples"] == "[-0.040, -0.005]"
    assert row["NLL [nats]"] == "+0.040 [+0.010, +0.070]"
    assert row["accuracy [points]"] == "+0.1 [-1.0, +1.2]"
    assert row["p, Holm"] == "0.020"
    assert "candidates" not in row.index


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({}, OVER_CONFIDENT),
        ({"nll_low": -0.01}, ""),
        ({"high": 0.01}, ""),
        ({"metric": "entropy and nll"}, ""),  # of several parts the signs are turned
        ({"metric": "curve_entropy"}, ""),  # the NLL is that of the end
        ({"nll_low": NAN}, ""),
        ({"nll_low": NAN, "degenerate": 1}, "1 of 2 runs learnt nothing"),
        ({"nll_low": NAN, "candidates": "Standard KD 60, ERM small 12"}, "unequal searches"),
        ({"nll_low": NAN, "candidates": "Standard KD 4, ERM small 4"}, ""),
    ],
)
def test_a_remark_says_what_a_verdict_hides(changes, remark):
    assert told(**changes).remark == remark


def test_candidates_are_shown_where_some_arm_was_searched():
    assert told(candidates="Standard KD 60, ERM small 12").candidates == "Standard KD 60, ERM small 12"


def test_one_seed_has_no_interval():
    assert spanned(0.29, -float("inf"), float("inf"), "nats") == "+0.290"
    assert told(effect=NAN, n=0)["effect"] == "–"
