"""Grids of one's own, from a file: TOML or JSON, such as

    title = "two rates"
    arms = ["erm_small", "ls_small"]

    [axes]
    lr = [1e-4, 2e-4]

    [axes.ls_small]
    alpha = [0.1, 0.3]

Axes of an arm stand in a table of its name. A grid is named by its file and the hash of its content; a sweep keeps the
content, so that it goes on, here and on other machines, when the file has changed or gone.
"""

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdnb import files, paths
from kdnb.core.config import SCHEDULES, axes, slug
from kdnb.errors import nearest, printable
from kdnb.experiment.arms import ARMS, arm_config
from kdnb.sweeps.grids import BUDGET, GRIDS, PLACEHOLDER, Grid, points_without_curves, register

SUFFIXES = (".toml", ".json")
FIELDS = {"title": str, "arms": list, "axes": dict, "schedule": str, "search": bool}
MOST = 100_000  # points of an arm: more is a slip, and would fill the memory before it is seen
_CONTENT: dict[str, dict[str, Any]] = {}  # of the grids read so far, by name


def named(path: Path) -> str:
    """The name under which the grid of a file is registered; the file is read and checked.

    Args:
        path: ending in one of SUFFIXES.
    Raises:
        ValueError: it cannot be read, or is no grid; the message names file and field.
    """
    given = files.given(path)
    try:
        content = _toml(given.decode()) if path.suffix == ".toml" else files.parsed_json(given)
    except ValueError as error:
        raise ValueError(f"{path}: no grid can be read from it ({error})") from None
    try:
        grid = _grid(content)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{slug(path.stem)[:60]}-{digest}"
    if name not in GRIDS:
        register(name, grid)
        _CONTENT[name] = content
    return name


def _toml(text: str) -> dict[str, Any]:
    """What a TOML text says; ValueError for one that is none, or is nested too deeply."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def keep(name: str) -> None:
    """Store the content of a grid that came from a file, for other processes and later starts; nothing for another."""
    if name in _CONTENT and not (where := _kept(name)).exists():
        files.write_json(where, _CONTENT[name])


def restore(name: str) -> None:
    """Register the grid of a name again, if a sweep has kept it."""
    content = files.read_json(_kept(name)) if slug(name) == name else {}
    if content:
        _CONTENT[name] = content
        register(name, _grid(content))


def _kept(name: str) -> Path:
    return paths.inside(paths.GRIDS, f"{name}.json")


def _grid(content: Any) -> Grid:
    """The grid that a file's content describes; ValueError, with the field, for anything else."""
    _check_fields(content)
    named = content.get("arms", [])
    if unnamed := [arm for arm in named if not isinstance(arm, str)]:
        raise ValueError(f"arms must be names, got {unnamed[0]!r}")
    arms = tuple(dict.fromkeys(named))
    schedule, common = content.get("schedule", "linear"), content.get("axes", {})
    if unknown := [arm for arm in arms if arm not in ARMS]:
        raise ValueError(f"unknown arm {unknown[0]!r}{nearest(str(unknown[0]), ARMS)}")
    if not arms:
        raise ValueError(f"arms must name one or more of {', '.join(ARMS)}")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    axes_of = {arm: _axes(common, arm, arms) for arm in arms}
    for arm in {ARMS[arm].teacher for arm in arms} - {"", *arms}:  # trained as its students are
        axes_of[arm] = {name: values for name, values in _axes(common, arm, arms).items() if name in BUDGET}
    for arm, values in axes_of.items():
        if (count := math.prod(map(len, values.values()))) > MOST:
            raise ValueError(f"arm {arm} has {count:,} points for each seed, at most {MOST:,} are trained")
    points = {arm: points_without_curves(values) for arm, values in axes_of.items()}
    for arm, changes in points.items():
        teacher = PLACEHOLDER if ARMS[arm].teacher else ""
        for change in changes:  # refuses a value out of range, or one that the arm has no use for
            arm_config(arm, task="rt", profile="toy", data="", seed=0, teacher_run=teacher, **change)
    return Grid(
        title=printable(" ".join(content.get("title", "a grid of one's own").split())),
        fields=lambda arm, _task, _profile: points[arm],
        arms=arms,
        schedule=schedule,
        search=content.get("search", True),
    )


def _check_fields(content: Any) -> None:
    """ValueError for an unknown field, or a value of another type than the field has."""
    if not isinstance(content, Mapping):
        raise ValueError(f"expected fields {', '.join(FIELDS)}, got {type(content).__name__}")
    for field, value in content.items():
        if field not in FIELDS:
            raise ValueError(f"unknown field {field!r}{nearest(str(field), FIELDS)}")
        if not isinstance(value, FIELDS[field]):
            raise ValueError(f"{field} must be a {FIELDS[field].__name__}, got {value!r}")


def _axes(content: Mapping[str, Any], arm: str, arms: tuple[str, ...]) -> dict[str, list]:
    """The axes of one arm: those of all arms, and its own in their place."""
    found: dict[str, list] = {}
    known = axes()
    for where in (content, content.get(arm, {})):
        if not isinstance(where, Mapping):
            raise ValueError(f"axes.{arm} must be a table of axes, got {where!r}")
        for name, values in where.items():
            if name in arms and where is content:
                continue
            if name not in known:
                raise ValueError(f"unknown axis {name!r}{nearest(str(name), [*known, *arms])}")
            values = values if isinstance(values, list) else [values]
            kind = known[name]
            fits = (int, float) if kind is float else kind
            wrong = [v for v in values if not isinstance(v, fits) or (isinstance(v, bool) and kind is not bool)]
            if wrong or not values:
                told = repr(wrong[0]) if wrong else "none"
                raise ValueError(f"axis {name} must have values of type {kind.__name__}, got {told}")
            found[name] = list(dict.fromkeys(values))
    return found
