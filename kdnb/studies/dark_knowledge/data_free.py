"""Distillation without data: which arms there are, what names an experiment, its records and their table.

What trains is in `kdnb.studies.dark_knowledge.synthesis`; nothing here needs torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kdnb.core import store
from kdnb.core.config import Identity
from kdnb.core.store import Record
from kdnb.experiment import records

REAL, NOISE, MATCHED = "real data", "noise", "noise, matched mean"
DAFL, NO_INFORMATION = "DAFL", "DAFL, no information term"
DFAD, NO_ADVERSARY = "DFAD", "DFAD, no adversary"
INVERSION = "DeepInversion"
USES = {  # arm -> what of the train images its student learns from
    REAL: "the images",
    NOISE: "nothing",
    MATCHED: "the mean of each pixel",
    DAFL: "nothing",
    NO_INFORMATION: "nothing",
    DFAD: "nothing",
    NO_ADVERSARY: "nothing",
    INVERSION: "moments of features, kept by the teacher's BatchNorm",
}
FREE = tuple(arm for arm in USES if arm not in (REAL, MATCHED))  # arms that no image goes into
DIGITS = (REAL, NOISE, MATCHED, DAFL, NO_INFORMATION, DFAD, NO_ADVERSARY)
SHORT = (REAL, NOISE, DAFL, DFAD)  # what is compared as K grows
CONVOLUTIONAL = (REAL, NOISE, DAFL, DFAD, INVERSION)
CLASSES = (2, 4, 7, 10)
TASKS = ("digits", "mnist5k")
LN10 = float(np.log(10))  # DAFL's released code takes log10: a weight w there is w / ln 10 on nats


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides a distillation beside its teacher, its arm and its seed.

    Weights of DAFL's terms are one_hot, information and activation (the released ones for MNIST are 1, 5 on log10 and
    0.1), of DeepInversion's tv, l2 and moments.
    """

    student: str = "mlp-small"  # a key of kdnb.catalog.SOURCES
    steps: int = 3000  # optimiser steps of the student
    every: int = 100  # steps between two looks at the test split: an "epoch" of the literature
    batch: int = 128
    latent: int = 16  # what a generator makes an image of
    hidden: int = 128  # the generator's units, of a convolutional one its channels
    student_lr: float = 2e-3
    generator_lr: float = 1e-3
    one_hot: float = 1.0
    information: float = 5 / LN10
    activation: float = 0.1
    turns: int = 5  # DFAD: student steps for each of the generator's
    pool: int = 512  # DeepInversion: images optimised
    pool_steps: int = 150  # DeepInversion: Adam steps on them
    pool_lr: float = 0.1
    tv: float = 1e-3
    l2: float = 1e-3
    moments: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DataFree(Settings, Identity):
    """Students of one teacher, one for each arm, on the classes 0..classes-1 of a task."""

    task: str
    profile: str  # a key of kdnb.catalog.PROFILES: which rows
    data: str  # fingerprint of the splits
    classes: int
    arms: tuple[str, ...]
    teacher: str = "mlp"  # a key of kdnb.catalog.SOURCES
    teacher_epochs: int = 30
    teacher_lr: float = 2e-3
    seed: int


def obtain(experiment: DataFree) -> Record:
    """The record of an experiment, loaded or made.

    Its arrays, A arms in their order and T looks: accuracy (A, T) on test; histogram (A, T, K), shares of the classes
    the teacher saw in what it was shown; information (A, T), DAFL's term [nats]; samples (A, n, C, H, W) uint8.
    Metrics: the teacher's test accuracy, and the hash of its parameters and buffers before and after.
    """

    def make() -> records.Made:
        from kdnb.studies.dark_knowledge.synthesis import make

        return make(experiment)

    return records.obtain(experiment, make)


def table(found: Mapping[DataFree, Record]) -> pd.DataFrame:
    """A row for each arm and seed.

    Returns:
        task, classes, seed, arm; teacher, last, best (test accuracy of the teacher, and of the student at its last
        look and at the best one) [shares]; leak, best less last; entropy, of the mean posterior [nats].
    """
    rows = []
    for one, record in found.items():
        for arm, accuracy, information in zip(
            one.arms, record.arrays["accuracy"], record.arrays["information"], strict=True
        ):
            last, best = float(accuracy[-1]), float(accuracy.max())
            rows.append(
                {
                    "task": one.task,
                    "classes": one.classes,
                    "seed": one.seed,
                    "arm": arm,
                    "teacher": record.metrics["teacher"],
                    "last": last,
                    "best": best,
                    "leak": best - last,
                    "entropy": -float(information[-1]),
                }
            )
    return pd.DataFrame(rows)


def wide(rows: pd.DataFrame, column: str = "last") -> pd.DataFrame:
    """One column of a table of one task and K: a row for each seed, a column for each arm, in their order."""
    return rows.pivot(index="seed", columns="arm", values=column)[list(dict.fromkeys(rows.arm))]


def gap(rows: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Test accuracy with data less an arm's [shares]: a row for each seed, a column for each number of classes."""
    by = rows.pivot(index=["classes", "seed"], columns="arm", values="last")
    return (by[REAL] - by[arm]).unstack("classes")


def slope_in_classes(gaps: pd.DataFrame) -> pd.Series:
    """Least-squares slope of a gap in K, one for each seed [shares per class]."""
    classes = gaps.columns.to_numpy(dtype=float)
    return gaps.apply(lambda row: float(np.polyfit(classes, row.to_numpy(), 1)[0]), axis=1)


_SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # profile -> what it changes on digits, and on mnist5k
    "toy": (
        {"steps": 20, "every": 10, "teacher_epochs": 3},
        {"steps": 20, "every": 10, "teacher_epochs": 1, "pool": 8, "pool_steps": 2},
    ),
    "demo": (
        {"steps": 250, "every": 25},
        {"steps": 20, "every": 10, "teacher_epochs": 1, "pool": 32, "pool_steps": 10},
    ),
}
_SEEDS = {"toy": (2, 1), "demo": (2, 1)}  # of digits and of mnist5k; the rest has 5 and 3
_MNIST5K: dict[str, Any] = {
    "student": "cnn", "teacher": "resnet", "teacher_epochs": 3, "steps": 400, "every": 40, "batch": 64,
    "latent": 64, "hidden": 32, "generator_lr": 3e-3, "pool": 384, "pool_steps": 80,
}  # fmt: skip


def experiments(fingerprints: Mapping[str, str], profile: str = "cpu") -> list[DataFree]:
    """All experiments of a profile: digits with all arms and as K grows, and mnist5k, of what has a fingerprint.

    Args:
        fingerprints: of the splits, by task.
        profile: "toy", "demo", or any other for the whole.
    """
    rows = "toy" if profile == "toy" else "cpu"
    sizes: tuple[dict[str, Any], dict[str, Any]] = _SIZES.get(profile, ({}, {}))
    seeds = _SEEDS.get(profile, (5, 3))
    digits = [
        DataFree(
            task="digits",
            profile=rows,
            data=fingerprints["digits"],
            classes=classes,
            seed=seed,
            arms=DIGITS if classes == max(CLASSES) else SHORT,
            **sizes[0],
        )
        for classes in CLASSES
        for seed in range(seeds[0])
        if "digits" in fingerprints
    ]
    return digits + [
        DataFree(
            task="mnist5k",
            profile=rows,
            data=fingerprints["mnist5k"],
            classes=max(CLASSES),
            seed=seed,
            arms=CONVOLUTIONAL,
            **{**_MNIST5K, **sizes[1]},
        )
        for seed in range(seeds[1])
        if "mnist5k" in fingerprints
    ]


def results(profile: str) -> dict[DataFree, Record]:
    """The experiments of a profile with their records: those stored; but for `cpu`, the others are made now, which
    needs the data."""
    found = stored(profile)
    for task in () if profile == "cpu" else TASKS:
        if sum(one.task == task for one in found) < len(experiments({task: ""}, profile)):
            from kdnb.data import splits  # reading what is stored needs no data

            fingerprint = splits.load(task, "toy" if profile == "toy" else "cpu").fingerprint
            found |= {one: obtain(one) for one in experiments({task: fingerprint}, profile)}
    return found


def stored(profile: str = "cpu") -> dict[DataFree, Record]:
    """The experiments of a profile that the store has whole, with their records; no data is read."""
    found, prefix = {}, f"{DataFree.__name__.lower()}-"
    for run_id in store.stored_ids():
        if run_id.startswith(prefix) and (record := records.read_if_whole(store.read, run_id)):
            values = {name: value for name, value in record.config.items() if name != "kind"}
            one = DataFree(**{**values, "arms": tuple(values["arms"])})
            if one in experiments({one.task: one.data}, profile):
                found[one] = record
    return dict(sorted(found.items(), key=lambda item: (item[0].task, item[0].classes, item[0].seed)))
