"""How the second paper's claims are tested; the first paper's stand in `kdnb.studies.label_smoothing.verdicts`."""

from dataclasses import replace

import numpy as np
import pandas as pd

from kdnb.analysis.statistics import Effect, over_seeds
from kdnb.experiment.tables import Study
from kdnb.studies.deviations import spectral, stored, switching
from kdnb.studies.label_smoothing import evidence
from kdnb.studies.label_smoothing.claims import Claim


def _filters(_claim: Claim, _study: Study | None) -> Effect:
    """H8.1 in closed form: at matched progress along lam_1 = 1, the largest S_2 - A_2 over a grid, n its points."""
    worst, count = -np.inf, 0
    for lam in np.geomspace(0.001, 0.9, 13):
        for T in np.geomspace(0.1, 10, 9):
            t = np.geomspace(0.1, 10, 9)
            ahead = spectral.student_progress(lam, t, T) - spectral.gf_progress(lam, spectral.matched_time(1.0, t, T))
            worst, count = max(worst, float(ahead.max())), count + t.size
    return Effect(worst, worst, worst, count)


def _simulation(claim: Claim, _study: Study | None) -> Effect:
    """The stored effects of `kdnb simulate`, one per seed."""
    kept = evidence.simulated(claim.id)
    return over_seeds(pd.Series(kept["effects"], kept["seeds"], dtype=float), claim.sign) if kept else Effect()


def _deviating(claim: Claim, study: Study | None) -> Effect:
    """H6.*: one value per seed of the stored students and their controls."""
    rows = stored.table(study)
    found = over_seeds(stored.EFFECTS[claim.test](rows), claim.sign, _ids(rows, "run_id", "control_id"))
    if claim.unit == "r":  # the t interval of a few r may reach beyond what an r can be
        found = replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0)) if found.n else found
    return found


def _switching(claim: Claim, study: Study | None) -> Effect:
    """H7.1-H7.3: one value per seed of the stored trainings whose loss switches."""
    rows = switching.table(study)
    return switching.effect(switching.EFFECTS[claim.test](rows), claim.sign, _ids(rows, "run_id"))


def _ids(rows: pd.DataFrame, *columns: str) -> list[str]:
    return list(dict.fromkeys(run_id for column in columns for run_id in rows[column]))


DEVIATION_TESTS = {
    "filters": _filters, "simulation": _simulation, **dict.fromkeys(stored.EFFECTS, _deviating),
    **dict.fromkeys(switching.EFFECTS, _switching),
}  # fmt: skip
