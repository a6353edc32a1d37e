"""The ledger as text: each effect in its unit, what stands beside it, and what its verdict must not hide."""

import numpy as np
import pandas as pd

from kdnb.analysis.ledger import SAMPLED, as_printed

OVER_CONFIDENT = "surer at a higher NLL: over-confident"


def lines(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a ledger as text, for a page.

    Args:
        table: of `kdnb.analysis.ledger.ledger`, or some of its rows.
    Returns:
        id, statement, published; effect (with its unit and 95 % t interval over seeds, uncorrected); its 95 %
        interval over test examples, of accuracy over seeds and test examples (* for a percentile interval, where BCa
        is undefined); NLL [nats] and accuracy [points] beside a difference of entropy, with intervals over seeds; n,
        signs, candidates (only where some arm was searched), p, Holm; verdict, and the remark that it needs:
        degenerate runs behind it, say.
    """
    rows = [_line(row) for row in table.itertuples()]
    text = pd.DataFrame(rows, columns=list(_COLUMNS), index=table.index)
    return text if text.candidates.any() else text.drop(columns="candidates")


_COLUMNS = (
    "id", "statement", "published", "effect", "over examples", "NLL [nats]", "accuracy [points]", "n", "signs",
    "candidates", "p, Holm", "verdict", "remark",
)  # fmt: skip


def _line(row) -> tuple:
    effect = f"{spanned(row.effect, row.low, row.high, row.unit)} {row.unit}" if row.n else "–"
    examples = "–" if row.bootstrap == "none" else _ends(row.example_low, row.example_high, row.unit)
    examples += "*" * (row.bootstrap == "percentile")
    nll = spanned(row.nll, row.nll_low, row.nll_high, "nats")
    accuracy = spanned(row.accuracy, row.accuracy_low, row.accuracy_high, "points")
    facts = (row.n, row.signs, row.candidates, p_value(row.p_holm), row.verdict, remark(row))
    return (row.id, row.statement, row.published, effect, examples, nll, accuracy, *facts)


def spanned(mean: float, low: float, high: float, unit: str) -> str:
    """ "+0.239 [+0.233, +0.245]"; the mean alone where there is no interval, "–" for nan."""
    if not np.isfinite([low, high]).all():
        return as_printed(mean, unit)
    return f"{as_printed(mean, unit)} {_ends(low, high, unit)}"


def _ends(low: float, high: float, unit: str) -> str:
    return f"[{as_printed(low, unit)}, {as_printed(high, unit)}]"


def p_value(value: float) -> str:
    """A p as printed."""
    return "–" if np.isnan(value) else f"{value:.3f}" if value >= 0.0005 else "< .001"


def over_confident(row) -> bool:
    """Whether an effect is a fall of entropy beside a rise of NLL; of several parts the signs are turned, so no.

    Args:
        row: of a ledger, as a named tuple.
    """
    plain = row.side and " and " not in row.metric and row.metric not in SAMPLED
    return bool(plain and row.high < 0 < row.nll_low)


def remark(row) -> str:
    """What a row's verdict must not hide: a price in NLL, degenerate runs behind it, searches of unequal size.

    Args:
        row: of a ledger, as a named tuple.
    """
    said = []
    if over_confident(row):
        said.append(OVER_CONFIDENT)
    if row.degenerate:
        said.append(f"{row.degenerate} of {len(row.run_ids)} runs learnt nothing")
    counts = {one.rpartition(" ")[2] for one in row.candidates.split(", ") if one}
    if len(counts) > 1:
        said.append("unequal searches")
    return "; ".join(said)
