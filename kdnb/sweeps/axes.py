"""What each named grid of the study varies: its arms and their axes."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kdnb.catalog import PROFILES, modality_of
from kdnb.errors import nearest
from kdnb.experiment.arms import ARMS

LRS = tuple(float(f"{i}e-5") for i in range(1, 8))  # Table 1
EPOCHS = tuple(range(1, 11))  # Table 1
ALPHAS = tuple(i / 10 for i in range(1, 10))  # Table 1
A3_TAUS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
A3_KD_ALPHAS = (0.25, 0.5, 0.75, 1.0)
A3_LS_ALPHAS = tuple(round(0.1 + 0.0333 * i, 4) for i in range(28))
MISSING = {"lr": (3e-5,), "alpha": (0.5, 0.9), "epochs": (3, 6, 9)}  # searched where Table 7 lacks a row
SEARCH = {
    "toy": {"lr": (1e-2, 2e-2), "alpha": (0.5, 0.9), "epochs": (2, 4)},
    "demo": {"lr": (1e-4, 2e-4), "alpha": (0.3, 0.9), "epochs": (1, 2)},
    "cpu": {"lr": (5e-5, 1e-4, 2e-4, 4e-4), "alpha": (0.1, 0.3, 0.5, 0.7, 0.9), "epochs": (1, 2, 4)},
    "paper": {"lr": (1e-5, 3e-5, 5e-5, 7e-5), "alpha": (0.1, 0.3, 0.5, 0.7, 0.9), "epochs": (1, 3, 5)},
}
SEARCH_OF = {  # by modality, in place of the above; not in toy
    "image": {"lr": (5e-4, 1e-3, 2e-3, 4e-3), "epochs": (4, 8, 16)},  # nothing there is pretrained
}
SWITCHES, TOY_SWITCHES = (0.1, 0.25, 0.5, 0.75, 0.9), (0.5,)  # 0 and 1 are the pure methods, bit for bit
RAMP = 0.01  # of the steps
PULL = {"alpha": (1.0,), "tau": (4.0,)}  # of KD on either side of a switch
TAUS, TOY_TAUS = (1.0, 2.0, 4.0, 8.0, 16.0), (1.0, 4.0, 16.0)  # of the temperature grid
PAPER_ARMS = tuple(arm for arm in ARMS if ARMS[arm].paper_row)
SOFT_ARMS = tuple(arm for arm in PAPER_ARMS if ARMS[arm].method != "erm")
TEACHED = ("kd_standard", "kd_self", "kd_reverse")


PLACEHOLDER = "unselected"  # ends the teacher's name of a point whose teacher is not selected yet


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One grid: the arms it is made of, those it also allows, and the fields of an arm's points."""

    title: str
    fields: Callable[[str, str, str], list[dict]]  # (arm, task, profile) -> changes of each point
    arms: tuple[str, ...] = PAPER_ARMS
    allowed: tuple[str, ...] = PAPER_ARMS
    schedule: str = "linear"
    search: bool = True  # one seed is enough to search with, as in the paper; else the profile's seeds


def product(axes: dict[str, Iterable]) -> list[dict]:
    """Every combination of some fields' values, without the entropy curves.

    A search reads where its runs end. Ten samples of train and test on the way would cost more than the shortest
    runs themselves, in thousands of points that nobody draws.
    """
    return [dict(zip(axes, values, strict=True), history_points=0) for values in itertools.product(*axes.values())]


def _table1(arm: str, _task: str, _profile: str) -> list[dict]:
    alphas = {} if ARMS[arm].method == "erm" else {"alpha": ALPHAS}
    return product({"lr": LRS, **alphas, "epochs": EPOCHS})


def _a3(arm: str, task: str, profile: str) -> list[dict]:
    if ARMS[arm].method == "erm":
        return _table1(arm, task, profile)
    kd = {"tau": A3_TAUS, "alpha": A3_KD_ALPHAS}
    return product({"lr": LRS, **(kd if ARMS[arm].method == "kd" else {"alpha": A3_LS_ALPHAS}), "epochs": EPOCHS})


def _deviations(arm: str, _task: str, _profile: str) -> list[dict]:
    """KD on the teacher alone, at tau 1 and at the tau 4 that the second paper uses for images."""
    if ARMS[arm].method == "erm":
        return [{}]
    return product({"alpha": (1.0,), "tau": (1.0, 4.0)})


def _switching(arm: str, _task: str, _profile: str) -> list[dict]:
    return [{}] if ARMS[arm].method == "erm" else product(PULL)


def _published(table: int) -> Callable:
    def fields(arm: str, task: str, _profile: str) -> list[dict]:
        cell = printed_optimum(table, arm, task)
        return product({name: (value,) for name, value in cell.items()} if cell else MISSING)

    return fields


def _search(arm: str, task: str, profile: str) -> list[dict]:
    axes = SEARCH[profile] | (SEARCH_OF.get(modality_of(task), {}) if profile != "toy" else {})
    return product({name: axes[name] for name in axes if name != "alpha" or ARMS[arm].method != "erm"})


def _temperature(arm: str, _task: str, profile: str) -> list[dict]:
    if ARMS[arm].method == "erm":
        return [{}]
    scaled = [(tau, scaling) for tau in (TOY_TAUS if profile == "toy" else TAUS) for scaling in (True, False)]
    return [
        {"alpha": alpha, "tau": tau, "tau2_scaling": scaling, "history_points": 0}
        for alpha in (0.5, 1.0) for tau, scaling in scaled if scaling or tau != 1  # tau^2 is 1 at tau 1
    ]  # fmt: skip


GRIDS = {
    "table1": Grid(
        title="Table 1: learning rate x epochs x alpha at tau 1, selected for Tables 2-5", fields=_table1,
        allowed=(*PAPER_ARMS, "tfkd_small"),
    ),
    "a3": Grid(title="A.3: temperature in the search, selected for Tables 8-11", fields=_a3, arms=SOFT_ARMS),
    "published7": Grid(title="the selected points of Table 7", fields=_published(7), search=False),
    "published12": Grid(title="the selected points of Table 12", fields=_published(12), search=False),
    "search": Grid(
        title="a small search over learning rate x epochs x alpha", fields=_search,
        arms=("erm_large", "erm_small", "kd_standard"), allowed=tuple(ARMS), schedule="constant",
    ),
    "temperature": Grid(
        title="tau x alpha x tau^2 scaling, all else fixed", fields=_temperature,
        arms=("erm_large", "erm_small", "kd_standard"), allowed=("erm_large", "erm_small", *TEACHED), search=False,
    ),
    "deviations": Grid(
        title="KD at alpha 1, tau 1 and 4, beside ERM: who deviates from whom", fields=_deviations,
        arms=("erm_large", "erm_small", "kd_standard", "kd_self"), allowed=("erm_large", "erm_small", *TEACHED),
        search=False,
    ),
    "switching": Grid(
        title="labels first, then the teacher, and the reverse, switched at a share of the steps", fields=_switching,
        arms=("erm_large", "erm_small", "kd_standard"), allowed=("erm_large", "erm_small", "kd_standard"),
        search=False,
    ),
    "ladder": Grid(
        title="the small model taught by every size, and every size taught by it", fields=lambda *_: [{}],
        arms=(), allowed=(), search=False,
    ),
}  # fmt: skip
HPARAMS = {"published": "published7", "published7": "published7", "published12": "published12"}


def grid_named(name: str) -> Grid:
    """The grid of a name; ValueError with the nearest name otherwise."""
    if name not in GRIDS:
        raise ValueError(f"unknown grid {name!r}{nearest(name, GRIDS)}")
    return GRIDS[name]


def printed_optimum(table: int, arm: str, task: str) -> dict | None:
    """Fields of an arm's point in Table 7 or 12 for a task, or the one it stands in for; None for a missing row.

    Raises ValueError for a task that stands in for none.
    """
    from kdnb.studies.label_smoothing import paper  # it brings pandas, which the other grids need not wait for

    glue_task = paper.STAND_INS.get(task, task)
    row = paper.optima(table)[ARMS[arm].student][ARMS[arm].paper_row]
    if glue_task not in row:
        raise ValueError(f"Table {table} has no task {task!r}{nearest(task, [*row, *paper.STAND_INS])}")
    return row[glue_task]


def searched(task: str, arms: Iterable[str] = ()) -> list[str]:
    """The arms of published7 that are searched, since Table 7 lacks their row for a task."""
    return [arm for arm in tuple(arms) or PAPER_ARMS if printed_optimum(7, arm, task) is None]


def seeds_of(name: str, profile: str) -> tuple[int, ...]:
    """Seeds of a grid where none are asked for: one for a search, the profile's for what is compared."""
    return PROFILES[profile].seeds[:1] if grid_named(name).search else PROFILES[profile].seeds
