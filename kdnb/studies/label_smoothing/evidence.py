"""Runs beyond the fixed arms that decide claims: the grid over tau, LS at large alpha, whole searches and replays.

Reads runs, trains nothing.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pandas as pd

from kdnb.catalog import defaults
from kdnb.core.config import METHOD_FIELDS, RunConfig
from kdnb.core.methods import Switch
from kdnb.errors import NoRuns
from kdnb.experiment import tables
from kdnb.experiment.arms import ARMS
from kdnb.experiment.points import Point
from kdnb.experiment.tables import Study
from kdnb.studies.label_smoothing import paper
from kdnb.studies.label_smoothing.grids import CURVE_ROWS, CURVES
from kdnb.sweeps import grids, select
from kdnb.sweeps.stored import of_grid

LARGE_ALPHA = 0.7  # from here on label smoothing counts as large
SEARCHED_TAUS = 3  # so many taus at least, or tau was not searched
PROTOCOLS = {  # grid -> how its arms are chosen: the claims at fixed settings are judged by these runs as well
    "search": "the paper's protocol in small: learning rate, epochs and alpha at tau 1, selected on validation",
    "table1": "the paper's protocol: the grid of Table 1, selected on validation",
    "published7": "the hyper-parameters that Table 7 prints",
    "published12": "the hyper-parameters that Table 12 prints, tau among them",
}
LONGER = "longer"  # the same claims once more, judged by runs that are longer and else alike
LONGER_IS = "the fixed settings but for more epochs, teacher and student alike; nothing is selected"
ANEW = {**PROTOCOLS, LONGER: LONGER_IS}  # all runs by which the claims at fixed settings are judged as well
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


def curves(study: Study) -> Study | None:
    """The runs of the grid `curves` on the study's task; the study itself where its own curves have rows enough."""
    if any(run.config.history_rows >= CURVE_ROWS for run in study.runs.values()):
        return study
    return of_grid(CURVES, study.task, study.profile)


def selected(study: Study, metric: str = "accuracy") -> Study:
    """Per arm and seed the run that is best on validation, as `select.by_arm`; the test split has no say.

    Args:
        study: the candidates.
        metric: of the validation split, "accuracy" or "nll".
    Returns:
        A row an arm and seed; the column candidates counts among how many runs it was selected.
    """
    points = [Point(row.arm, study.runs[row.run_id].config) for row in study.table.itertuples()]
    counts = {choice.point.config.run_id(): choice.stored for choice in select.by_arm(points, metric)}
    table = study.table[study.table.run_id.isin(counts)]
    return study.only(table.assign(candidates=table.run_id.map(counts)))


def searched_over_tau(study: Study) -> Study:
    """The runs of `temperature` without those of KD's arms and seeds that have fewer than SEARCHED_TAUS taus."""
    table = study.table[study.table.tau2_scaling]
    taus = table.groupby(["arm", "seed"]).tau.transform("nunique")
    return study.only(table[(table.method != "kd") | (taus >= SEARCHED_TAUS)])


def protocol(grid: str, study: Study, metric: str = "accuracy") -> Study | None:
    """The runs of a search, or of a replay of printed points, on a study's data: one per arm and seed.

    An arm and seed whose candidates are not all stored was not searched, and is left out. Teachers are the ERM models
    of the best validation accuracy, as in the sweep, and stand among the runs.

    Args:
        grid: a key of PROTOCOLS.
        study: whose task, profile and data.
        metric: as `selected`.
    Returns:
        As `selected`; None where nothing but ERM was searched.
    """
    data, stored = _data(study), tables.stored_configs(study.task, study.profile)
    seeds = _seeds_with_erm(grid, study.task, study.profile, [one for one in stored.values() if one.data == data])
    fixed: dict[str, Any] = {"grid": grid, "task": study.task, "profile": study.profile, "data": data}
    choices: list[select.Choice] = []
    for seed in seeds:
        erm = grids.stages(**fixed, seeds=(seed,), erm_only=True, arms=_arms(grid))
        teachers = select.teachers(erm, stored)
        whole = grids.stages(**fixed, seeds=(seed,), teachers=teachers, arms=_arms(grid))
        choices += [choice for choice in select.by_arm(whole.points, metric) if choice.complete]
    chosen = [choice for choice in choices if choice.point.arm in ARMS]
    if all(choice.point.config.method == "erm" for choice in chosen):
        return None
    counts = {choice.point.config.run_id(): choice.wanted for choice in chosen}
    wanted = set(counts) | {choice.point.config.teacher_run for choice in chosen}
    found = _study(study, lambda config: config.run_id() in wanted)
    if found is None:
        return None
    table = found.table[found.table.run_id.isin(counts)]
    return found.only(table.assign(candidates=table.run_id.map(counts)))


def longer(study: Study) -> Study | None:
    """The runs of the fixed arms at more epochs than are fixed, on a study's data, teacher and student at equally many.

    Of several such budgets the one with most runs is taken, and of equals the shortest; None where nothing but ERM
    has one.
    """
    data, fixed = _data(study), defaults(study.profile, study.task).epochs

    def keep(config: RunConfig) -> bool:
        return config.data == data and config.epochs > fixed and tables.is_default(config, ("epochs",))

    found = _study(study, keep)
    if found is None or set(found.table.method) == {"erm"}:
        return None
    runs = found.table.groupby("epochs").size()
    return found.only(found.table[found.table.epochs == runs.idxmax()])


def _arms(grid: str) -> tuple[str, ...]:
    """Every arm that a grid can be asked for."""
    return grids.grid_named(grid).allowed


def _seeds_with_erm(grid: str, task: str, profile: str, configs: list[RunConfig]) -> list[int]:
    """Seeds of the stored ERM runs that have a learning rate and epochs of a grid's; a look at no point's name."""
    if not _has_points(grid, task):
        return []
    cells = [cell for cell in grids.cells(grid, task, profile, _arms(grid)) if cell.method == "erm"]
    budgets = {(point["lr"], point["epochs"]) for cell in cells for point in cell.changes}
    schedule = grids.grid_named(grid).schedule
    plain = [config for config in configs if config.method == "erm" and config.schedule == schedule]
    return sorted({config.seed for config in plain if (config.lr, config.epochs) in budgets})


def _has_points(grid: str, task: str) -> bool:
    """Whether a grid has points for a task: printed ones there are for the paper's tasks and their stand-ins alone."""
    return not grids.grid_named(grid).hparams or paper.STAND_INS.get(task, task) in paper.GLUE


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
