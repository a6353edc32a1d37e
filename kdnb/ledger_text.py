"""Rows of the report as text: claims of the ledger, ours beside published, and the answer in a sentence."""

import pandas as pd

from kdnb import published, results, verdicts


def drawn() -> list[dict]:
    """The claims that need no stored run, as text; those that nobody has simulated are left out."""
    ledger = verdicts.ledger(None, ("H7", "H8", "H9"), simulation=None)
    return [claim(row) for row in ledger.itertuples() if row.verdict != "no runs"]


def claim(row) -> dict:
    """A row of the ledger as text."""

    def span(low: float, high: float) -> str:
        return f"[{verdicts.shown(low, row.unit)}, {verdicts.shown(high, row.unit)}]"

    over_seeds = "exact" if pd.isna(row.p) and not row.run_ids else span(row.low, row.high) if row.n > 1 else "one seed"
    over_examples = span(row.example_low, row.example_high) if row.bootstrap != "none" else "–"
    return {
        "id": row.id, "statement": row.statement, "test": row.test, "source": row.source, "published": row.published,
        "effect": f"{verdicts.shown(row.effect, row.unit)} {row.unit}", "seeds": over_seeds, "n": row.n,
        "signs": row.signs, "examples": over_examples + ("*" if row.bootstrap == "percentile" else ""),
        "degenerate": row.degenerate, "verdict": row.verdict, "run_ids": row.run_ids,
        "corrected": "–" if pd.isna(row.p_holm) else f"{row.p_holm:.3f}" if row.p_holm >= 0.0005 else "< .001",
    }  # fmt: skip


def rows(study: results.Study, metric: str, scale: float, digits: int) -> list[dict]:
    """Ours beside published, as text."""
    found, spread = [], results.spread(study.table, metric)
    degenerate = dict(zip(spread.arm, spread.degenerate, strict=True))
    for row in published.beside(spread, study.task, metric).itertuples():
        has, learnt_nothing = pd.notna(row.published), degenerate[row.arm]
        found.append({
            "name": row.name, "ours": f"{row.ours * scale:.{digits}f}", "source": row.source,
            "n": f"{row.n} ({learnt_nothing} degenerate)" if learnt_nothing else row.n,
            "sd": f"{row.sd * scale:.{digits}f}" if row.n > 1 else "",
            "published": f"{row.published * scale:.{4 if scale == 1 else 1}f}" if has else "",
            "difference": f"{row.difference * scale:+.{digits}f}" if has else "", "run_ids": row.run_ids,
        })  # fmt: skip
    return found


def answer(ledger: pd.DataFrame) -> str:
    """What the decisive claims say, in a sentence: verdicts, whether Holm's correction leaves them, degenerate runs."""
    rows, parts = ledger.set_index("id"), []
    for name, told in {
        "H3.1": "label smoothing raises entropy over ERM (small student)",
        "H4.1": "label smoothing raises entropy over ERM (large student)",
        "H3.2": "standard KD lowers entropy below ERM",
        "H4.2": "reverse KD raises entropy above ERM",
        "H4.3": "reverse KD stays below label smoothing",
    }.items():
        if name in rows.index and rows.verdict[name] != "no runs":
            row = rows.loc[name]
            undone = row.verdict != "undecided" and not row.p_holm < 0.05
            notes = ["not after Holm's correction"] * undone
            notes += [f"{row.degenerate} of the {len(row.run_ids)} runs learnt nothing"] * bool(row.degenerate)
            parts.append(f"{told}: {row.verdict}" + f" ({', '.join(notes)})" * bool(notes))
    return f"At fixed hyper-parameters, none of them searched: {'; '.join(parts)}" if parts else ""
