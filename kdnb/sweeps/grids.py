"""Grids as pure lists of points in two stages: the ERM runs at once, and what their selected models teach.

A cell is the points of one student on one kind of target; a grid is planned, counted, run and selected from one list.
Nothing is read from the run store here.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from kdnb.catalog import PROFILES
from kdnb.core.config import RunConfig, slug
from kdnb.core.methods import all_settings, used_settings
from kdnb.errors import nearest
from kdnb.experiment.arms import ARMS, arm_config
from kdnb.experiment.points import Point
from kdnb.sweeps.only import Only, checked, keeps, refuse_unknown, spelled

PLACEHOLDER = "unselected"  # ends the teacher's name of a point whose teacher is not selected yet


def _no_pairs(task: str, profile: str) -> "list[Cell]":
    return []


def _no_chain(task: str, profile: str, points: list[Point]) -> list[Point]:
    return []


def _no_note(task: str, arms: tuple[str, ...]) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One grid: the arms it is made of, and the fields of an arm's points."""

    title: str
    fields: Callable[[str, str, str], list[dict]]  # (arm, task, profile) -> changes of each point
    arms: tuple[str, ...]  # keys of ARMS that make it up
    also: tuple[str, ...] = ()  # keys of ARMS it can be asked for besides
    pairs: "Callable[[str, str], list[Cell]]" = _no_pairs  # (task, profile) -> cells of models that are no arm
    # (task, profile, a seed's points) -> more of them, of which each may be taught by one before it
    chain: Callable[[str, str, list[Point]], list[Point]] = _no_chain
    schedule: str = "linear"  # of the learning rate, where none is asked for
    search: bool = True  # one seed is enough to search with, as in the paper; else the profile's seeds
    hparams: str = ""  # its name after --hparams, for a grid of published points
    note: Callable[[str, tuple[str, ...]], str] = _no_note  # (task, arms asked for) -> a line that its plan adds

    @property
    def allowed(self) -> tuple[str, ...]:
        """The arms it can be asked for."""
        return self.arms + self.also


GRIDS: dict[str, Grid] = {}  # by name; filled by `kdnb.studies.registry.grids`


def register(name: str, grid: Grid) -> None:
    """Give a grid its name; ValueError if another one has it."""
    if GRIDS.setdefault(name, grid) is not grid:
        raise ValueError(f"two studies register a grid {name!r}: {GRIDS[name].title}; {grid.title}")


def grid_named(name: str) -> Grid:
    """The grid of a name, one that a sweep has kept from a file among them; ValueError with the nearest otherwise."""
    if name not in GRIDS:
        from kdnb.sweeps import grid_files  # which makes Grids

        grid_files.restore(name)
    if name not in GRIDS:
        hint = nearest(name, GRIDS) if GRIDS else ": no grid is registered, call kdnb.studies.registry.grids() first"
        raise ValueError(f"unknown grid {name!r}{hint}")
    return GRIDS[name]


def points_without_curves(axes: Mapping[str, Iterable]) -> list[dict]:
    """Every combination of some fields' values, each at `history_points` 0: its run has no entropy curve.

    A search reads where its runs end. Ten samples of train and test on the way would cost more than the shortest
    runs themselves, in thousands of points that nobody draws. A grid whose curves are drawn makes its own list.
    """
    return [{**point, "history_points": 0} for point in points_with_curves(axes)]


def points_with_curves(axes: Mapping[str, Iterable]) -> list[dict]:
    """Every combination of some fields' values; their runs have entropy curves, as all that are not searched."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def seeds_of(name: str, profile: str) -> tuple[int, ...]:
    """Seeds of a grid where none are asked for: one for a search, the profile's for what is compared."""
    return PROFILES[profile].seeds[:1] if grid_named(name).search else PROFILES[profile].seeds


@dataclass(frozen=True, eq=False)
class Cell:
    """Points of one student on one kind of target: `changes` holds the RunConfig fields of each."""

    arm: str  # a key of ARMS, "" for a pair of models that is none of them
    method: str
    student: str  # as RunConfig.student
    teacher: str  # the same of its teacher, "" for none
    changes: list[dict]


def cells(name: str, task: str, profile: str, arms: Iterable[str] = ()) -> list[Cell]:
    """A grid's cells, those of ERM first.

    Args:
        name: of the grid.
        task: a key of TASKS.
        profile: a key of PROFILES.
        arms: keys of ARMS, () for all that make the grid up.
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
    wanted.sort(key=lambda arm: ARMS[arm].method != "erm")
    of_arms = [arm_cell(grid, arm, task, profile) for arm in wanted]
    return of_arms if arms else of_arms + grid.pairs(task, profile)


def arm_cell(grid: Grid, arm: str, task: str, profile: str) -> Cell:
    """The cell of one arm."""
    method, student, teacher = ARMS[arm].method, ARMS[arm].student, ARMS[arm].teacher
    return Cell(arm, method, student, ARMS[teacher].student if teacher else "", grid.fields(arm, task, profile))


def teacher_cells(name: str, models: Iterable[str], task: str, profile: str) -> list[Cell]:
    """The ERM cells of some models, among whose points a grid's teachers are selected."""
    of_model = {ARMS[arm].student: arm for arm in ("erm_large", "erm_small")}
    return [arm_cell(grid_named(name), of_model[model], task, profile) for model in of_model if model in models]


BUDGET = ("lr", "epochs")  # the filters that candidates for a teacher are held to


@dataclass(frozen=True)
class Stages:
    """A grid's points: `erm` first, then `soft` (LS, KD and teacher-free KD).

    Attributes:
        extra: run_ids of those ERM points that are not of the grid, or not of the part asked for, but teach it.
        candidates: (model, seed) -> the ERM points among which the teacher of that size and seed is selected.
    """

    erm: list[Point] = field(default_factory=list)
    soft: list[Point] = field(default_factory=list)
    extra: set[str] = field(default_factory=set)
    candidates: dict[tuple[str, int], list[Point]] = field(default_factory=dict)

    @property
    def points(self) -> list[Point]:
        """Both stages, teachers before their students."""
        return self.erm + self.soft


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An ERM point: of the part of the grid that is asked for, one that may be selected as a teacher, or both."""

    point: Point
    wanted: bool
    teaches: bool


def stages(  # noqa: PLR0913 - the fields of a Sweep, which notebooks and tests give by keyword
    grid: str,
    task: str,
    profile: str,
    data: str,
    seeds: Iterable[int] = (),
    arms: Iterable[str] = (),
    only: Mapping[str, Any] | None = None,
    schedule: str = "",
    teachers: Mapping[tuple[str, int], str] | None = None,
    erm_only: bool = False,
) -> Stages:
    """The points of a grid.

    Every KD point is taught by the ERM model of its task and seed that is selected on validation. Where there is
    but one candidate, its name is known at once; where there are several, and `teachers` does not name the
    selected one, the point stands with a placeholder: it can be counted, and no stored run has its name.

    Args:
        grid: its name.
        task: as RunConfig's.
        profile: as RunConfig's.
        data: as RunConfig's.
        seeds: () for `seeds_of` the grid.
        arms: keys of ARMS the grid has, () for all.
        only: field -> values, for a part of the grid, such as {"lr": (1e-5, 3e-5), "epochs": "1..4"}; see
            `kdnb.sweeps.only`. A part, as some arms alone, is without the grid's chain.
        schedule: "linear" or "constant", "" for the grid's.
        teachers: (model, seed) -> run_id.
        erm_only: leave `soft` empty: what is needed to select the teachers, in a fraction of the time.
    Raises:
        ValueError: an unknown name, a value out of range or that no point has, or nothing is left.
    """
    part, selected, made = checked(only or {}), teachers or {}, Stages()
    grid_cells = cells(grid, task, profile, tuple(arms))
    for seed in dict.fromkeys(tuple(seeds) or seeds_of(grid, profile)):
        fixed = {"task": task, "profile": profile, "data": data, "seed": seed}
        fixed["schedule"] = schedule or grid_named(grid).schedule
        fields_of = {cell: _fields(cell, fixed) for cell in grid_cells}
        if part and not made.points:
            seen: list[Mapping[str, Any]] = [_seen(cell, fields) for cell, rows in fields_of.items() for fields in rows]
            refuse_unknown(part, seen, grid)
        soft = {
            cell: [fields for fields in rows if not part or keeps(part, _seen(cell, fields))]
            for cell, rows in fields_of.items()
            if cell.method != "erm"
        }
        taught_by = {cell.teacher for cell, rows in soft.items() if rows} - {""}
        candidates = _candidates(grid, fields_of, taught_by, part, fixed)
        made.erm.extend(one.point for one in candidates if one.wanted or one.teaches)
        made.extra.update(one.point.config.run_id() for one in candidates if one.teaches and not one.wanted)
        for one in candidates:
            if one.teaches:
                made.candidates.setdefault((one.point.config.student, seed), []).append(one.point)
        for cell, rows in soft.items() if not erm_only else ():
            teacher = selected.get((cell.teacher, seed)) or _teacher(made, cell.teacher, fixed)
            made.soft.extend(Point(cell.arm, RunConfig.of({**fields, "teacher_run": teacher})) for fields in rows)
        if not (erm_only or arms or part):
            own = [point for point in made.points if point.config.seed == seed]
            made.soft.extend(grid_named(grid).chain(task, profile, own))
    if grid_named(grid).chain is not _no_chain:  # which may name a model of another seed, asked for as well
        of_seeds = {point.config.run_id() for point in made.erm}
        made.soft[:] = [point for point in made.soft if point.config.run_id() not in of_seeds]
    if not (made.points or erm_only):
        raise ValueError(f"no point of {grid} is left with only {spelled(part)}")
    return made


def unused_settings(config: Any) -> set[str]:
    """The method fields that a config has no use for: alpha of ERM, tau of LS."""
    return set(all_settings()) - set(used_settings(config))


def is_placeholder(config: RunConfig) -> bool:
    """Whether a point still waits for its teacher to be selected."""
    return config.teacher_run.endswith(f"-{PLACEHOLDER}")


def _candidates(
    grid: str, fields_of: dict[Cell, list[dict]], taught_by: set[str], part: Only, fixed: dict
) -> list[Candidate]:
    """One seed's ERM points: those of the grid, and those of the models in `taught_by` that are none of it."""
    own = {cell: rows for cell, rows in fields_of.items() if cell.method == "erm"}
    others = teacher_cells(grid, taught_by - {cell.student for cell in own}, fixed["task"], fixed["profile"])
    budget = {name: values for name, values in part.items() if name in BUDGET}
    candidates = []
    for cell, rows in {**own, **{cell: _fields(cell, fixed) for cell in others}}.items():
        fits = [keeps(budget, fields) for fields in rows]
        if not any(fits):
            fits = [True] * len(rows)  # filters that only fit the students leave the teachers as they are
        for fields, fit in zip(rows, fits, strict=True):
            wanted = cell in own and keeps(part, _seen(cell, fields))
            teaches = cell.student in taught_by and fit
            candidates.append(Candidate(point=Point(cell.arm, RunConfig.of(fields)), wanted=wanted, teaches=teaches))
    return candidates


def _teacher(made: Stages, model: str, fixed: dict) -> str:
    """run_id of a model's only candidate, or a placeholder where there are several; "" without a teacher."""
    pool = made.candidates.get((model, fixed["seed"]), [])
    if len(pool) == 1:
        return pool[0].config.run_id()
    return f"{slug(fixed['task'])}-erm-{slug(model)}-s{fixed['seed']}-{PLACEHOLDER}" if pool else ""


def _fields(cell: Cell, fixed: dict) -> list[dict]:
    """RunConfig's fields of a cell's points; a teacher is filled in later."""
    basis = cell.arm or ("kd_standard" if cell.teacher else "erm_small")
    base = vars(arm_config(basis, **fixed, student=cell.student, teacher_run=PLACEHOLDER if cell.teacher else ""))
    return [{**base, "method": cell.method, **changes} for changes in cell.changes]


def _seen(cell: Cell, fields: dict) -> dict[str, Any]:
    """The fields of a point by which it can be picked; those its method has no use for are left out."""
    point = SimpleNamespace(**fields)
    values, useless = {**used_settings(point), **fields}, unused_settings(point)
    seen = {name: value for name, value in values.items() if name not in useless}
    return {**seen, "arm": cell.arm, "teacher": cell.teacher}
