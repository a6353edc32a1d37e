"""Grids as pure lists of points in two stages: the ERM runs at once, and what their selected models teach.

A grid is planned, counted, run and selected from this one list. Nothing is read from the run store here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from kdnb.core.config import RunConfig, slug
from kdnb.experiment.arms import arm_config
from kdnb.experiment.points import Point
from kdnb.sweeps.axes import PLACEHOLDER, grid_named, seeds_of
from kdnb.sweeps.cells import Cell, cells, teacher_cells
from kdnb.sweeps.where import FIELDS, Where, compile_where

UNUSED = {"erm": ("alpha", "tau", "tau2_scaling"), "ls": ("tau", "tau2_scaling")}  # fields a method has no use for
BUDGET = ("task", "seed", "lr", "epochs")  # what an expression sees of a candidate for a teacher


@dataclass(frozen=True)
class Stages:
    """A grid's points: `erm` first, then `soft` (LS, KD and teacher-free KD).

    extra: run_ids of those ERM points that are not of the grid, or not of the subset asked for, but teach it.
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


def stages(
    grid: str,
    task: str,
    profile: str,
    data: str,
    seeds: Iterable[int] = (),
    arms: Iterable[str] = (),
    where: str = "",
    schedule: str = "",
    teachers: dict[tuple[str, int], str] | None = None,
    erm_only: bool = False,
) -> Stages:
    """The points of a grid.

    Every KD point is taught by the ERM model of its task and seed that is selected on validation. Where there is
    but one candidate, its name is known at once; where there are several, and `teachers` does not name the
    selected one, the point stands with a placeholder: it can be counted, and no stored run has its name.

    Args:
        grid: the name of one. task, profile, data: as RunConfig's. seeds: () for `seeds_of` the grid.
        arms: keys of ARMS the grid has, () for all. where: an expression, see `kdnb.sweeps.where`.
        schedule: "linear" or "constant", "" for the grid's. teachers: (model, seed) -> run_id.
        erm_only: leave `soft` empty: what is needed to select the teachers, in a fraction of the time.
    Raises:
        ValueError: an unknown name, a value out of range, or nothing is left.
    """
    keep, found, known = compile_where(where), Stages(), teachers or {}
    own = cells(grid, task, profile, tuple(arms))
    for seed in tuple(seeds) or seeds_of(grid, profile):
        fixed = {"task": task, "profile": profile, "data": data, "seed": seed}
        fixed["schedule"] = schedule or grid_named(grid).schedule
        soft = {cell: _fields(cell, fixed, keep) for cell in own if cell.method != "erm"}
        names = _erm(found, own, grid, keep, {cell.teacher for cell, kept in soft.items() if kept} - {""}, fixed)
        for cell, kept in soft.items() if not erm_only else ():
            teacher = known.get((cell.teacher, seed)) or names.get(cell.teacher, "")
            found.soft.extend(Point(cell.arm, RunConfig(**{**fields, "teacher_run": teacher})) for fields in kept)
    if not (found.points or erm_only):
        raise ValueError(f"no point of {grid} is left where {keep.text!r}{_values(own, fixed, keep)}")
    return found


def is_placeholder(config: RunConfig) -> bool:
    """Whether a point still waits for its teacher to be selected."""
    return config.teacher_run.endswith(f"-{PLACEHOLDER}")


def _erm(found: Stages, own: list[Cell], grid: str, keep: Where, needed: set[str], fixed: dict) -> dict[str, str]:
    """Add one seed's ERM points and the candidates for its teachers to `found`.

    Returns:
        model -> its only candidate's run_id, or a placeholder, for the models in `needed`.
    """
    seed, names = fixed["seed"], {}
    mine = [cell for cell in own if cell.method == "erm"]
    more = teacher_cells(grid, needed - {cell.student for cell in mine}, fixed["task"], fixed["profile"])
    for cell in mine + more:
        fields = _fields(cell, fixed)
        wanted = [cell in mine and keep(_seen(cell, f)) for f in fields]
        teaches = [cell.student in needed and keep({name: f[name] for name in BUDGET}) for f in fields]
        if cell.student in needed and not any(teaches):
            teaches = [True] * len(fields)  # an expression that only fits the students leaves the teachers as they are
        points = [Point(cell.arm, RunConfig(**f)) for f in fields]
        found.erm.extend(p for p, *either in zip(points, wanted, teaches, strict=True) if any(either))
        found.extra.update(p.config.run_id() for p, own, use in zip(points, wanted, teaches, strict=True) if use > own)
        if pool := [point for point, use in zip(points, teaches, strict=True) if use]:
            found.candidates[cell.student, seed] = pool
            placeholder = f"{slug(fixed['task'])}-erm-{slug(cell.student)}-s{seed}-{PLACEHOLDER}"
            names[cell.student] = pool[0].config.run_id() if len(pool) == 1 else placeholder
    return names


def _fields(cell: Cell, fixed: dict, keep: Where | None = None) -> list[dict]:
    """RunConfig's fields of a cell's points that an expression lets through; a teacher is filled in later."""
    basis = cell.arm or ("erm_small" if cell.method == "erm" else "kd_standard")
    base = vars(arm_config(basis, **fixed, student=cell.student, teacher_run=PLACEHOLDER if cell.teacher else ""))
    rows = [{**base, **changes} for changes in cell.changes]
    return [row for row in rows if keep(_seen(cell, row))] if keep and keep.names else rows


def _seen(cell: Cell, fields: dict) -> dict:
    """What an expression sees of a point: FIELDS by name, those its method has no use for left out."""
    seen = {name: fields[name] for name in FIELDS if name in fields and name not in UNUSED.get(cell.method, ())}
    return {**seen, "arm": cell.arm, "teacher": cell.teacher}


def _values(own: list[Cell], fixed: dict, keep: Where) -> str:
    """The end of an error: the values that an expression's fields take in a grid."""
    seen = [_seen(cell, fields) for cell in own for fields in _fields(cell, fixed)]
    taken = {name: dict.fromkeys(one[name] for one in seen if name in one) for name in sorted(keep.names)}
    told = [f"{name} takes {', '.join(map(str, values))}" for name, values in taken.items()]
    return f" ({'; '.join(told)})" if told else ""
