"""Runs beyond the fixed arms that decide claims: the grid over tau, LS at large alpha. Reads runs, trains nothing."""

from dataclasses import asdict

import pandas as pd

from kdnb import files, paths
from kdnb.core.config import RunConfig
from kdnb.errors import NoRuns
from kdnb.experiment import tables
from kdnb.experiment.arms import ARMS
from kdnb.experiment.points import Point
from kdnb.experiment.tables import Study
from kdnb.studies.label_smoothing.claims import LARGE_ALPHA
from kdnb.sweeps import grids, select

_VARIED = {  # what differs between the arms of one setting, or between its seeds
    "method", "student", "teacher_run", "alpha", "tau", "tau2_scaling", "confidence", "tfkd_form", "multiplier", "seed",
    "order_seed", "history_points", "history_rows",
}  # fmt: skip


def beyond(study: Study) -> dict[str, Study | None]:
    """The other evidence on a study's task, by the names of `claims.EVIDENCE`; None where its runs are missing."""
    named = {grid: of_grid(grid, study.task, study.profile) for grid in ("deviations", "switching")}
    return {"temperature": temperature(study), "smoothing": smoothing(study), **named}


def of_grid(grid: str, task: str, profile: str) -> Study | None:
    """The stored runs of a grid with fixed hyper-parameters, its teachers among them; None where all are ERM's."""
    stored = tables.stored_configs(task, profile)
    data, seeds = {config.data for config in stored.values()}, sorted({config.seed for config in stored.values()})
    points = [point for cut in data for point in grids.stages(grid, task, profile, cut, seeds).points]
    wanted = {point.config.run_id() for point in points} & set(stored)
    if all(stored[name].method == "erm" for name in wanted):
        return None
    return tables.study(task, profile, lambda config: config.run_id() in wanted)


def temperature(study: Study) -> Study | None:
    """The runs of every seed at a setting (learning rate, epochs, ...) where an arm of KD has more than one tau.

    All on the study's data; ERM and LS of these settings and seeds and the KD runs' teachers stand beside them. An
    arm of KD that has one tau at a setting and seed was not searched there: its runs are left out.
    """
    data, configs = _data(study), tables.stored_configs(study.task, study.profile)
    configs = {name: config for name, config in configs.items() if config.data == data}
    searched = {_searched(config) for config in configs.values() if config.method == "kd" and config.tau != 1}
    searched = {(place, arm) for place, arm in searched if arm in ARMS}  # other arms decide no claim
    places = {place for place, _ in searched}
    inside = {
        name: config for name, config in configs.items()
        if (_searched(config) in searched if config.method == "kd" else _searched(config)[0] in places)
    }  # fmt: skip
    wanted = {config.teacher_run for config in inside.values()} | set(inside)
    return _study(study, lambda config: config.run_id() in wanted and config.method != "tfkd")


def smoothing(study: Study) -> Study | None:
    """LS runs of the small student at alpha >= LARGE_ALPHA on the study's data, at whatever setting."""
    data = _data(study)

    def keep(config: RunConfig) -> bool:
        return config.data == data and config.method == "ls" and config.alpha >= LARGE_ALPHA

    return _study(study, keep)


def simulated(claim: str) -> dict:
    """What `kdnb simulate` kept for a claim, in the store or among the committed ones; {} if neither has it."""
    stores = (paths.SIMULATIONS, paths.SIMULATIONS_REFERENCE)
    return next((found for store in stores if (found := files.read_json(paths.inside(store, f"{claim}.json")))), {})


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


def _study(study: Study, keep) -> Study | None:
    try:
        found = tables.study(study.task, study.profile, keep)
    except NoRuns:
        return None
    known: pd.Series = found.table.arm.isin(ARMS)  # not students or teachers beyond those of the study
    return found.only(found.table[known]) if known.any() else None
