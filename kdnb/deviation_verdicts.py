"""How the second paper's claims are tested; the first paper's tests stand in `kdnb.verdicts`."""

import numpy as np
import pandas as pd

from kdnb import evidence, spectral
from kdnb.claims import Claim
from kdnb.effects import Effect, over_seeds
from kdnb.studies import Study


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


DEVIATION_TESTS = {"filters": _filters, "simulation": _simulation}
