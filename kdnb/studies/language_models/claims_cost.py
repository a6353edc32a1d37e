"""The claims on what distillation costs, and how measurements decide them.

They were written after a first probe of one seed and before the measurements that decide them.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from kdnb.analysis.ledger import SIMULATED, Claim, RunlessTest, of_records
from kdnb.core.store import Record
from kdnb.studies.language_models import cost, cost_records
from kdnb.studies.language_models.cost_records import CostClock, Measurement

_TEN = "N_t / N_s = 10, kdnb's loop on one CPU thread"
OVERHEAD, TOLERANCE = 10.0, 10.0  # [%]


def _claim(id: str, statement: str, test_words: str, **more) -> Claim:
    more = {"source": "arithmetic", "evidence": SIMULATED, **more}
    return Claim(id=id, statement=statement, test_words=test_words, test="lm-cost", **more)


_LIST = [
    _claim(
        "H14.5a", "Of 11 and 4.33 ERM steps the clock takes a step of online distillation for the 4.33",
        f"{_TEN}: half-way between log 11 and log 4.33, minus the log of the ratio > 0", unit="nats",
    ),
    _claim(
        "H14.5b", "Learning from stored sparse targets costs less than a tenth over ERM",
        f"{_TEN}: 10 % minus the overhead of a step from a top-64 cache on disk > 0",
        source="arXiv 2503.16870: under 10 % (sampled targets, 300M to 3B)", unit="%",
    ),
    _claim(
        "H14.5c", "FLOPs tell the time of an on-policy step to within a half",
        f"{_TEN}: log 1.5 minus the distance of the log of measured over predicted > 0", unit="nats",
    ),
    _claim(
        "H14.5d", "The formula tells the peak memory of each loss to within a tenth",
        "V = 49,152: 10 % minus the largest relative difference of the three losses > 0", unit="%",
    ),
]  # fmt: skip
CLAIMS: dict[str, Claim] = {claim.id: claim for claim in _LIST}


def effects(clocks: pd.DataFrame, peaks: pd.DataFrame, ratios: tuple[float, float]) -> dict[str, pd.Series]:
    """Claim id -> an effect for each seed; without the claims whose measurements are not there.

    Args:
        clocks: of `cost_records.clock_table`.
        peaks: of `cost_records.peak_table`.
        ratios: of the clocked pair, (N_t + N_s) / N_s and 1 + N_t / (3 N_s).
    """
    found: dict[str, pd.Series] = {}
    if len(clocks):
        measured, predicted = (clocks.pivot(index="seed", columns="way", values=name) for name in _COLUMNS)
        log = np.log(measured[cost.ON_POLICY] / predicted[cost.ON_POLICY])
        found["H14.5a"] = np.log(ratios).mean() - np.log(measured[cost.ONLINE])
        found["H14.5b"] = OVERHEAD - 100 * (measured[cost.SPARSE] - 1)
        found["H14.5c"] = np.log(1.5) - log.abs()
    if len(peaks):
        found["H14.5d"] = TOLERANCE - 100 * peaks.assign(off=peaks.off.abs()).groupby("seed").off.max()
    return found


_COLUMNS = ("measured", "predicted")


def of(found: Mapping[Measurement, Record]) -> dict[str, pd.Series]:
    """The effects of measurements."""
    pair = next((one.weights for one in found if isinstance(one, CostClock)), (1, 1))
    ratios = cost.forward_ratio(*pair), cost.training_cost_ratio(*pair)
    return effects(cost_records.clock_table(found), cost_records.peak_table(found), ratios)


RUNLESS: dict[str, RunlessTest] = {"lm-cost": of_records(lambda: cost_records.results("cpu"), of)}
