"""The claims on distillation without data, fixed before the records were made, and how these decide them."""

import pandas as pd

from kdnb.analysis import ledger
from kdnb.analysis.ledger import SIMULATED, Claim, RunlessTest
from kdnb.studies.dark_knowledge import data_free
from kdnb.studies.dark_knowledge.data_free import DAFL, DFAD, INVERSION, NO_INFORMATION, NOISE, REAL

_PAPERS = "arXiv 1904.01186 (DAFL), 1912.11006 (DFAD), on CIFAR"
_LAST = "digits, test accuracy at the last epoch"


def _claim(id: str, statement: str, test_words: str, test: str = "data-free", **more) -> Claim:
    more = {"source": _PAPERS, "unit": "points", "evidence": SIMULATED, **more}
    return Claim(id=id, statement=statement, test_words=test_words, test=test, **more)


_LIST = [
    _claim("H13.1a", "DAFL's students are better than those of random noise", f"{_LAST}: DAFL minus noise > 0"),
    _claim("H13.1b", "DFAD's students are better than those of random noise", f"{_LAST}: DFAD minus noise > 0"),
    _claim("H13.1c", "Students with the data are better than DAFL's", f"{_LAST}: real data minus DAFL > 0"),
    _claim("H13.1d", "Students with the data are better than DFAD's", f"{_LAST}: real data minus DFAD > 0"),
    _claim(
        "H13.1e", "So on mnist5k with a convolutional teacher, all four of them",
        "mnist5k, test accuracy at the last epoch: the smallest of the four differences > 0",
    ),
    _claim(
        "H13.1f", "DeepInversion too lies between noise and data there",
        "mnist5k, test accuracy at the last epoch: the smaller of DeepInversion minus noise, real data minus it > 0",
        source="arXiv 1912.08795 (DeepInversion), on CIFAR and ImageNet",
    ),
    _claim(
        "H13.2", "Without its information term DAFL's images are of few classes",
        "digits, entropy of the mean posterior at the last epoch: without the term minus with it < 0",
        unit="nats", side=-1,
    ),
    _claim(
        "H13.3a", "The gap to training with data grows with the number of classes: DAFL",
        "digits with 2, 4, 7, 10 classes: slope of the gap in K > 0", unit="points a class",
    ),
    _claim(
        "H13.3b", "The gap to training with data grows with the number of classes: DFAD",
        "digits with 2, 4, 7, 10 classes: slope of the gap in K > 0", unit="points a class",
    ),
]  # fmt: skip
CLAIMS: dict[str, Claim] = {claim.id: claim for claim in _LIST}


def effects(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Claim id -> an effect for each seed; without the claims whose records are not there.

    Args:
        rows: of `data_free.table`.
    """
    found: dict[str, pd.Series] = {}
    digits, mnist = (rows[rows.task == task] for task in data_free.TASKS)
    ten = digits[digits.classes == max(data_free.CLASSES)]
    if len(ten):
        last, entropy = data_free.wide(ten), data_free.wide(ten, "entropy")
        found |= {f"H13.1{letter}": last[a] - last[b] for letter, (a, b) in zip("abcd", _ORDER, strict=True)}
        found["H13.2"] = entropy[NO_INFORMATION] - entropy[DAFL]
    if len(mnist):
        last = data_free.wide(mnist)
        found["H13.1e"] = pd.concat([last[a] - last[b] for a, b in _ORDER], axis=1).min(axis=1)
        found["H13.1f"] = pd.concat([last[INVERSION] - last[NOISE], last[REAL] - last[INVERSION]], axis=1).min(axis=1)
    if set(digits.classes) == set(data_free.CLASSES):
        for letter, arm in (("a", DAFL), ("b", DFAD)):
            found[f"H13.3{letter}"] = 100 * data_free.slope_in_classes(data_free.gap(digits, arm))
    return found


_ORDER = ((DAFL, NOISE), (DFAD, NOISE), (REAL, DAFL), (REAL, DFAD))  # better, worse


RUNLESS: dict[str, RunlessTest] = {
    "data-free": ledger.of_records(data_free.stored, lambda found: effects(data_free.table(found)))
}
