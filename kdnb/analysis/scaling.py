"""Entropy after temperature scaling: is a difference between two arms more than how loudly they speak?"""

import pandas as pd

from kdnb.analysis import statistics
from kdnb.core import metrics
from kdnb.experiment.tables import Study

SCALED = {"entropy": "scaled_entropy", "nll": "scaled_nll"}  # metric -> the column of the same after scaling


def scaled(study: Study) -> Study:
    """The study with each run's temperature, fitted on validation, and what test says of its logits divided by it.

    One number a run: predictions and accuracy stay, entropy and NLL need not.

    Args:
        study: its runs are stored.
    Returns:
        The same runs, with the columns fitted_tau, scaled_entropy and scaled_nll [nats].
    """
    rows = []
    for run_id in study.table.run_id:
        run = study.runs[run_id]
        tau = metrics.fit_temperature(run.logits["validation"], run.labels["validation"])
        logits, labels = run.logits["test"] / tau, run.labels["test"]
        rows.append((tau, metrics.mean_entropy(logits), metrics.nll(logits, labels)))
    columns = pd.DataFrame(rows, columns=["fitted_tau", *SCALED.values()], index=study.table.index)
    return study.only(study.table.join(columns))


def before_and_after(study: Study, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """What an arm's entropy and NLL differ by from another's, as trained and scaled, paired by seed.

    Args:
        study: as `scaled` gives it.
        pairs: (arm, the one it is held against).
    Returns:
        arm, than, n; entropy, scaled_entropy, nll and scaled_nll, each with _low and _high (95 % t over seeds) [nats].
    """
    rows = []
    for arm, than in pairs:
        row = {"arm": arm, "than": than, "n": len(study.difference(arm, than, "entropy"))}
        for metric in (column for pair in SCALED.items() for column in pair):
            mean, low, high, _ = statistics.interval(study.difference(arm, than, metric))
            row |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)
