"""A grid's cells: the points of one student on one kind of target, by arm or, in the ladder, by pair of models."""

from collections.abc import Iterable
from dataclasses import dataclass

from kdnb.catalog import PROFILES, SOURCES, model_of
from kdnb.errors import nearest
from kdnb.experiment.arms import ARMS
from kdnb.sweeps.axes import GRIDS, PULL, RAMP, SWITCHES, TOY_SWITCHES, Grid, grid_named, product


@dataclass(frozen=True, eq=False)
class Cell:
    """Points of one student on one kind of target: `changes` holds the RunConfig fields of each."""

    arm: str  # a key of ARMS, "" for a pair of models that is none of them
    method: str
    student: str  # as RunConfig.student
    teacher: str  # the same of its teacher, "" for none
    changes: list[dict]


def ladder_sizes(profile: str, task: str = "") -> list[str]:
    """The models of a profile's ladder as RunConfig.student names them: its large and small, and their relatives.

    task: what they read; any task of texts for "".
    """
    own = {model_of(profile, size, task): size for size in ("large", "small")}
    kinds, wheres = ({getattr(SOURCES[name], part) for name in own} for part in ("kind", "where"))
    return [
        own.get(name, name) for name, source in SOURCES.items()
        if source.kind in kinds and (source.kind != "hub" or source.where in wheres)
    ]  # fmt: skip


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
    if name == "ladder":
        return _ladder(profile, task)
    wanted = [arm for arm in ARMS if arm in (tuple(arms) or grid.arms)]
    found = [arm_cell(grid, arm, task, profile) for arm in sorted(wanted, key=lambda arm: ARMS[arm].method != "erm")]
    return found + (_switched(profile) if name == "switching" and not arms else [])


def arm_cell(grid: Grid, arm: str, task: str, profile: str) -> Cell:
    """The cell of one arm."""
    what = ARMS[arm]
    teacher = ARMS[what.teacher].student if what.teacher else ""
    return Cell(arm, what.method, what.student, teacher, grid.fields(arm, task, profile))


def teacher_cells(name: str, models: Iterable[str], task: str, profile: str) -> list[Cell]:
    """The ERM cells of some models, among whose points a grid's teachers are selected."""
    of_model = {ARMS[arm].student: arm for arm in ("erm_large", "erm_small")}
    return [arm_cell(GRIDS[name], of_model[model], task, profile) for model in of_model if model in models]


def _switched(profile: str) -> list[Cell]:
    """The small student, switched from the labels to the large model's posteriors, and back."""
    at = TOY_SWITCHES if profile == "toy" else SWITCHES
    pairs = [{"before": before, "after": after} for before, after in (("erm", "kd"), ("kd", "erm"))]
    return [
        Cell("", "switch", "small", "large", [{**fields, **pair, "method": "switch"} for fields in product(
            {**PULL, "switch_at": at, "ramp": (RAMP,)}
        )]) for pair in pairs
    ]  # fmt: skip


def _ladder(profile: str, task: str) -> list[Cell]:
    """ERM of every size; KD of the small student by every teacher, and of every student by the small teacher."""
    sizes = ladder_sizes(profile, task)
    named = {(a.method, a.student, ARMS[a.teacher].student if a.teacher else ""): arm for arm, a in ARMS.items()}
    trios = [("erm", size, "") for size in sizes] + [("kd", "small", teacher) for teacher in sizes]
    trios += [("kd", student, "small") for student in sizes if student != "small"]
    return [Cell(named.get(trio, ""), *trio, [{}]) for trio in trios]
