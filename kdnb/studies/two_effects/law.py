"""The sign of KD's effect as a law over all stored runs: does the teacher on train tell it, or the teacher on test?"""

import functools

import numpy as np
import pandas as pd

from kdnb.core import store
from kdnb.core.config import RunConfig, flat
from kdnb.core.methods import all_settings
from kdnb.experiment.records import read_if_whole

LAW = ("disagreement", "train_entropy")  # what is said to tell the sign
RIVAL = ("test_entropy",)  # what the paper reads it from
COLUMNS = ("run_id", "task", "seed", "alpha", "disagreement", "train_entropy", "test_entropy", "change")
_NOT_TRAINING = {"method", "teacher_run", "history_points", "history_rows", *all_settings()}  # of a config's fields


def runs(profile: str) -> pd.DataFrame:
    """One row per KD run at tau 1 whose teacher is an ERM model, where ERM of the student is stored as well.

    Args:
        profile: of the runs.
    Returns:
        run_id, task (without its label noise), seed, alpha; of the teacher: disagreement with the train labels
        [share], train_entropy and test_entropy minus those of ERM on the student's model [nats]; of the student:
        change, its test entropy minus ERM's [nats].
    """
    configs = {name: config for name in store.stored_ids() if (config := store.config_of(name))}
    plain = {_training(one): name for name, one in configs.items() if one.profile == profile and one.method == "erm"}
    read = functools.cache(functools.partial(read_if_whole, store.read_metrics))
    rows = []
    for name, config in configs.items():
        teacher, beside = configs.get(config.teacher_run), plain.get(_training(config))
        if config.method != "kd" or config.tau != 1 or teacher is None or teacher.method != "erm" or beside is None:
            continue
        if not all(found := [read(one) for one in (config.teacher_run, beside, name)]):
            continue
        taught, erm, own = (metrics for metrics, _ in filter(None, found))
        apart = [taught[split]["entropy"] - erm[split]["entropy"] for split in ("train", "test")]
        facts = (config.task.split("@")[0], config.seed, config.alpha, 1 - taught["train"]["accuracy"], *apart)
        rows.append((name, *facts, own["test"]["entropy"] - erm["test"]["entropy"]))
    return pd.DataFrame(rows, columns=COLUMNS)


def _training(config: RunConfig) -> tuple:
    """What two runs share whose methods alone differ."""
    return tuple(sorted((name, value) for name, value in flat(config).items() if name not in _NOT_TRAINING))


def left_out(rows: pd.DataFrame, features: tuple[str, ...]) -> pd.Series:
    """Share of a task's runs whose sign a logistic fit on the other tasks' runs tells, by task.

    Args:
        rows: of `runs`.
        features: columns that the fit sees, each scaled to unit variance.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    told = {}
    for task, own in rows.groupby("task"):
        others = rows[rows.task != task]
        surer = others.change < 0
        if surer.nunique() > 1:
            fit = make_pipeline(StandardScaler(), LogisticRegression()).fit(others[list(features)], surer)
            told[task] = float(np.mean(fit.predict(own[list(features)]) == (own.change < 0)))
    return pd.Series(told, dtype=float)
