"""Runs that nobody trained."""

import numpy as np

from kdnb.core import metrics
from kdnb.core import store as runs
from kdnb.core.config import RunConfig
from kdnb.core.store import Run

CONFIG = RunConfig(task="rt", profile="toy", data="0" * 16, method="erm", student="small")
WORDS = [  # of a tiny language
    "the", "a", "of", "in", "sun", "moon", "rain", "wind", "sea", "hill", "sings", "falls", "turns", "shines", "old",
]  # fmt: skip


def made_run(config=CONFIG):
    """A run that nobody trained."""
    rng = np.random.default_rng(0)
    labels = {split: np.arange(n) % 2 for split, n in zip(runs.SPLITS, (12, 5, 7), strict=True)}
    logits = {split: rng.normal(size=(len(y), 2)).astype(np.float32) for split, y in labels.items()}
    values = {split: metrics.summary(logits[split], labels[split]) for split in runs.SPLITS}
    curves = {"running_entropy": 0.6, "train_entropy": 0.6, "test_entropy": 0.6}
    history = [{"step": step, "epoch": step / 2, "loss": 0.7 - step / 10, **curves} for step in (0, 1, 2)]
    return Run(config, logits, labels, {**values, "cost": {"seconds": 1.5, "device": "cpu"}}, history)


def logits_with(right, rows=20, sharpness=1.0):
    """(logits, labels) of which the first `right` of `rows` are right."""
    labels = np.arange(rows) % 2
    signs = np.where(np.arange(rows) < right, 1, -1) * np.where(labels == 1, 1, -1)
    return np.stack([-signs, signs], axis=1).astype(np.float32) * sharpness, labels


def store_run(config, validation, test=10, sharpness=1.0):
    """Save a run that nobody trained: that many of 20 right on validation and on test."""
    made = {"train": logits_with(10), "validation": logits_with(validation, sharpness=sharpness)}
    made["test"] = logits_with(test)
    values = {split: metrics.summary(*pair) for split, pair in made.items()}
    logits, labels = ({split: pair[i] for split, pair in made.items()} for i in (0, 1))
    runs.save(Run(config, logits, labels, {**values, "cost": {"seconds": 1.0}}, []))


def store_arms(arms, seeds=(0, 1), task="rt", profile="toy"):
    """Save runs that nobody trained of the fixed arms, with random logits and a curve; their names."""
    from kdnb.experiment.points import compare_points

    rng, names = np.random.default_rng(0), []
    for point in compare_points(task, profile, "0" * 16, seeds, arms):
        labels = {split: np.arange(n) % 2 for split, n in zip(runs.SPLITS, (24, 20, 30), strict=True)}
        logits = {
            split: (rng.normal(size=(len(y), 2)) + 1.5 * np.eye(2)[y]).astype(np.float32) for split, y in labels.items()
        }
        values = {split: metrics.summary(logits[split], labels[split]) for split in runs.SPLITS}
        cost = {"seconds": 1.5, "device": "cpu", "precision": "fp32", "revision": "abc1234", "versions": {"numpy": "2"}}
        still = {"epoch": 1, "loss": 0.7, "running_entropy": 0.6, "train_entropy": 0.5}
        history = [{"step": step, **still, "test_entropy": 0.6 - step / 20} for step in range(4)]
        runs.save(Run(point.config, logits, labels, {**values, "cost": cost}, history))
        names.append(point.config.run_id())
    return names
