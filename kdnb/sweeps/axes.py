"""What a grid is, and the one list of named grids, into which each study registers its own."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdnb.catalog import PROFILES
from kdnb.errors import nearest

if TYPE_CHECKING:
    from kdnb.sweeps.grids import Cell

PLACEHOLDER = "unselected"  # ends the teacher's name of a point whose teacher is not selected yet


def _no_pairs(task: str, profile: str) -> "list[Cell]":
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
    """The grid of a name; ValueError with the nearest name otherwise."""
    if name not in GRIDS:
        hint = nearest(name, GRIDS) if GRIDS else ": no grid is registered, call kdnb.studies.registry.grids() first"
        raise ValueError(f"unknown grid {name!r}{hint}")
    return GRIDS[name]


def product(axes: dict[str, Iterable]) -> list[dict]:
    """Every combination of some fields' values, without the entropy curves.

    A search reads where its runs end. Ten samples of train and test on the way would cost more than the shortest
    runs themselves, in thousands of points that nobody draws.
    """
    return [dict(zip(axes, values, strict=True), history_points=0) for values in itertools.product(*axes.values())]


def seeds_of(name: str, profile: str) -> tuple[int, ...]:
    """Seeds of a grid where none are asked for: one for a search, the profile's for what is compared."""
    return PROFILES[profile].seeds[:1] if grid_named(name).search else PROFILES[profile].seeds
