"""Runs beyond the fixed arms that decide claims: the grid over tau, LS at large alpha. Reads runs, trains nothing."""

from collections.abc import Callable
from dataclasses import asdict

import pandas as pd

from kdnb.core.config import METHOD_FIELDS, RunConfig
from kdnb.core.methods import Switch
from kdnb.errors import NoRuns
from kdnb.experiment import tables
from kdnb.experiment.arms import ARMS
from kdnb.experiment.points import Point
from kdnb.experiment.tables import Study
from kdnb.sweeps import select

LARGE_ALPHA = 0.7  # from here on label smoothing counts as large
_VARIED = {*METHOD_FIELDS, "method", "student", "seed", "order_seed", "history_points", "history_rows", "extra"} - set(
    Switch.settings()
)  # what differs between the arms of one setting, or between its seeds


def temperature(study: Study) -> Study | None:
    """The runs of every seed at a setting (learning rate, epochs, ...) where an arm of KD has more than one tau.

    All on the study's data; ERM and LS of these settings and seeds and the KD runs' teachers stand beside them. An
    arm of KD that has one tau at a setting and seed was not searched there: its runs are left out.
    """
    data = _data(study)
    stored = tables.stored_configs(study.task, study.profile)
    configs = {name: config for name, config in stored.items() if config.data == data}
    searched = {_searched(config) for config in configs.values() if config.method == "kd" and config.tau != 1}
    searched = {(place, arm) for place, arm in searched if arm in ARMS}  # other arms decide no claim
    places = {place for place, _ in searched}

    def belongs(config: RunConfig) -> bool:
        return _searched(config) in searched if config.method == "kd" else _searched(config)[0] in places

    inside = {name: config for name, config in configs.items() if belongs(config)}
    wanted = {config.teacher_run for config in inside.values()} | set(inside)
    return _study(study, lambda config: config.run_id() in wanted and config.method != "tfkd")


def smoothing(study: Study) -> Study | None:
    """LS runs of the small student at alpha >= LARGE_ALPHA on the study's data, at whatever setting."""
    data = _data(study)

    def keep(config: RunConfig) -> bool:
        return config.data == data and config.method == "ls" and config.alpha >= LARGE_ALPHA

    return _study(study, keep)


def selected(study: Study) -> Study:
    """Per arm and seed the run with the best validation accuracy, as `select.by_arm`; the test split has no say."""
    points = [Point(row.arm, study.runs[row.run_id].config) for row in study.table.itertuples()]
    chosen = {choice.point.config.run_id() for choice in select.by_arm(points)}
    return study.only(study.table[study.table.run_id.isin(chosen)])


def _data(study: Study) -> str:
    """Fingerprint of a study's data; "" for one without runs."""
    return next((run.config.data for run in study.runs.values()), "")


def _searched(config: RunConfig) -> tuple[tuple, str]:
    """Where a run stands in a search over tau: its setting and seed, and its arm."""
    setting = tuple(sorted((name, value) for name, value in asdict(config).items() if name not in _VARIED))
    return (*setting, config.seed), tables.arm_of(config)


def _study(study: Study, keep: Callable[[RunConfig], bool]) -> Study | None:
    """The stored runs of the study's task and profile that are kept and have an arm; None for none."""
    try:
        runs = tables.study(study.task, study.profile, keep)
    except NoRuns:
        return None
    has_arm: pd.Series = runs.table.arm.isin(ARMS)  # not students or teachers beyond those of the study
    return runs.only(runs.table[has_arm]) if has_arm.any() else None
