"""Grids as pure lists of points in two stages: the ERM runs at once, and what their selected models teach.

A cell is the points of one student on one kind of target; a grid is planned, counted, run and selected from one list.
Nothing is read from the run store here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from kdnb.catalog import PROFILES, SOURCES, model_of
from kdnb.core.config import RunConfig, slug
from kdnb.errors import nearest
from kdnb.experiment.arms import ARMS, arm_config
from kdnb.experiment.points import Point
from kdnb.sweeps.axes import GRIDS, PLACEHOLDER, PULL, RAMP, SWITCHES, TOY_SWITCHES, Grid, grid_named, product, seeds_of
from kdnb.sweeps.where import FIELDS, Where, compile_where


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
        grid: a key of GRIDS. task, profile, data: as RunConfig's. seeds: () for `seeds_of` the grid.
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
        fixed["schedule"] = schedule or GRIDS[grid].schedule
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
