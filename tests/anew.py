"""What tests make anew of the committed runs by numpy and scipy: logits, intervals, Holm; and the words for it."""

import functools

import numpy as np
from scipy import stats

from kdnb import paths
from kdnb.analysis.ledger import as_printed

REFERENCE = paths.ROOT / "outputs" / "reference"


def logits_of(name):
    """A committed run's logits by split."""
    with np.load(REFERENCE / "runs" / name / "arrays.npz") as arrays:
        return {split: arrays[split].astype(float) for split in arrays.files}


@functools.cache
def labels_of(data):
    """The labels of a cut of a task by split."""
    with np.load(REFERENCE / "labels" / f"{data}.npz") as arrays:
        return dict(arrays)


def interval(values):
    """Mean and 95 % t interval."""
    mean, half = np.mean(values), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return mean, mean - half, mean + half


def holm(p):
    """Holm's step-down correction, by id."""
    ordered = sorted(p, key=p.get)
    raised = np.maximum.accumulate([p[name] * (len(p) - place) for place, name in enumerate(ordered)])
    return dict(zip(ordered, np.minimum(raised, 1), strict=True))


def said(values, unit="nats"):
    """A mean with its interval as README prints it."""
    mean, low, high = (as_printed(x, unit) for x in interval(values))
    return f"{mean} [{low}, {high}]"


def joined(words):
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def listed(names, none="no task"):
    """`a`, `b` and `c`."""
    return joined([f"`{name}`" for name in names]) or none
