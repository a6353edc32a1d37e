"""The runs behind this study's notebooks: trained here where they are small, read from the store where they are not."""

from collections.abc import Iterable

import pandas as pd

from kdnb.core import store
from kdnb.data.splits import load
from kdnb.errors import NoRuns
from kdnb.experiment.points import Point
from kdnb.experiment.tables import Study
from kdnb.experiment.workers import run_points
from kdnb.studies.two_effects import cells
from kdnb.studies.two_effects.grids import BUDGETS, DOSE, PLACEBO, SEEDS, SOFTNESS
from kdnb.sweeps import grids, stored

CONDITIONAL = ("H18.2", "H18.3")  # claims on teachers that have not, or have, memorised their train labels
KINDS = (SOFTNESS, DOSE, PLACEBO, SEEDS, BUDGETS)  # the evidence of this study's claims
COMMITTED = "cpu"  # the profile of the reference runs


def evidence(task: str, profile: str) -> dict[str, Study | None]:
    """The stored runs that decide this study's claims on a task, by grid; None where there are none."""
    return {name: stored.of_grid(name, task, profile) for name in KINDS}


def asked(rows: pd.DataFrame, kinds: dict[str, Study | None]) -> pd.DataFrame:
    """This study's rows of the ledger, "not asked" for "no runs" where the runs are there, with other teachers.

    Args:
        rows: of `kdnb.studies.registry.ledger`.
        kinds: as `evidence` gives it.
    """
    study = kinds[SOFTNESS]
    there = study is not None and len(cells.two_by_two(study)) > 0
    elsewhere = rows.id.isin(CONDITIONAL) & (rows.n == 0) & there
    return rows.assign(verdict=rows.verdict.where(~elsewhere, "not asked"))


def two_by_two(task: str, profile: str, grid: str = SOFTNESS) -> Study | None:
    """The stored two by two of a task at a profile, else at that of the reference runs; None for neither.

    Args:
        task: whose runs.
        profile: likewise; toy stands alone.
        grid: `softness` or `budgets`.
    """
    for one in dict.fromkeys((profile,) if profile == "toy" else (profile, COMMITTED)):
        study = stored.of_grid(grid, task, one)
        if study and len(cells.two_by_two(study)):
            return study
    return None


def needed(study: Study | None, complete: bool, grid: str, task: str, profile: str) -> Study:
    """The study, if it is complete.

    Raises:
        NoRuns: it is not; the message has the command that makes it.
    """
    if study is None or not complete:
        raise NoRuns(
            f"no whole grid {grid} of {task} at profile {profile}: "
            f"`kdnb sweep {grid} --task {task} --profile {profile}` makes it"
        )
    return study


def train(
    names: Iterable[str], task: str, profile: str, alphas: Iterable[float] = (), seeds: Iterable[int] = ()
) -> None:
    """Train what the store lacks of some grids, a line a run; says nothing where it lacks nothing.

    Args:
        names: of the grids.
        task: on which.
        profile: likewise.
        alphas: weights of the soft target of the students wanted; () for all.
        seeds: () for the profile's.
    """
    data, lacking = load(task, profile), {}
    for name in names:
        for point in grids.stages(name, task, profile, data.fingerprint, tuple(seeds)).points:
            if _wanted(point, tuple(alphas)) and not store.exists(point.config.run_id()):
                lacking[point.config.run_id()] = point
    if lacking:
        run_points(list(lacking.values()), data)


def _wanted(point: Point, alphas: tuple[float, ...]) -> bool:
    """Whether a point is a teacher, a model of labels or smoothed ones, or a student at one of some weights."""
    return not (alphas and point.config.teacher_run) or getattr(point.config, "alpha", None) in alphas


def caption(study: Study, seeds: int) -> str:
    """A study's caption for a figure of some of its seeds."""
    return f"{study.caption.rpartition(', ')[0]}, n = {seeds} seeds"
