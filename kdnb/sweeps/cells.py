"""A grid's cells: the points of one student on one kind of target, by arm or by pair of models."""

from collections.abc import Iterable
from dataclasses import dataclass

from kdnb.catalog import PROFILES
from kdnb.errors import nearest
from kdnb.experiment.arms import ARMS
from kdnb.sweeps.axes import Grid, grid_named


@dataclass(frozen=True, eq=False)
class Cell:
    """Points of one student on one kind of target: `changes` holds the RunConfig fields of each."""

    arm: str  # a key of ARMS, "" for a pair of models that is none of them
    method: str
    student: str  # as RunConfig.student
    teacher: str  # the same of its teacher, "" for none
    changes: list[dict]


def cells(name: str, task: str, profile: str, arms: Iterable[str] = ()) -> list[Cell]:
    """A grid's cells, those of ERM first; `arms` picks some of them.

    Raises:
        ValueError: unknown grid, profile or arm, or an arm that the grid does not have.
    """
    grid = grid_named(name)
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    for arm in arms:
        if arm not in grid.allowed:
            raise ValueError(f"grid {name} has no arm {arm!r}{nearest(arm, grid.allowed)}")
    wanted = [arm for arm in ARMS if arm in (tuple(arms) or grid.arms)]
    found = [arm_cell(grid, arm, task, profile) for arm in sorted(wanted, key=lambda arm: ARMS[arm].method != "erm")]
    return found + (grid.pairs(task, profile) if not arms else [])


def arm_cell(grid: Grid, arm: str, task: str, profile: str) -> Cell:
    """The cell of one arm."""
    what = ARMS[arm]
    teacher = ARMS[what.teacher].student if what.teacher else ""
    return Cell(arm, what.method, what.student, teacher, grid.fields(arm, task, profile))


def teacher_cells(name: str, models: Iterable[str], task: str, profile: str) -> list[Cell]:
    """The ERM cells of some models, among whose points a grid's teachers are selected."""
    of_model = {ARMS[arm].student: arm for arm in ("erm_large", "erm_small")}
    return [arm_cell(grid_named(name), of_model[model], task, profile) for model in of_model if model in models]
