"""The grids of arXiv 2301.12609 and the smaller ones beside them: what each varies, and for which arms."""

from collections.abc import Callable, Iterable

from kdnb.catalog import SOURCES, modality_of, model_of
from kdnb.errors import nearest
from kdnb.experiment.arms import ARMS
from kdnb.sweeps.grids import Cell, Grid, points_with_curves, points_without_curves, register

LRS = tuple(float(f"{i}e-5") for i in range(1, 8))  # Table 1
EPOCHS = tuple(range(1, 11))  # Table 1
ALPHAS = tuple(i / 10 for i in range(1, 10))  # Table 1
A3_TAUS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
A3_KD_ALPHAS = (0.25, 0.5, 0.75, 1.0)
A3_LS_ALPHAS = tuple(round(0.1 + 0.0333 * i, 4) for i in range(28))
MISSING = {"lr": (3e-5,), "alpha": (0.5, 0.9), "epochs": (3, 6, 9)}  # searched where Table 7 lacks a row
SEARCH: dict[str, dict[str, tuple[float, ...]]] = {
    "toy": {"lr": (1e-2, 2e-2), "alpha": (0.5, 0.9), "epochs": (2, 4)},
    "demo": {"lr": (1e-4, 2e-4), "alpha": (0.3, 0.9), "epochs": (1, 2)},
    "cpu": {"lr": (5e-5, 1e-4, 2e-4, 4e-4), "alpha": (0.1, 0.3, 0.5, 0.7, 0.9), "epochs": (1, 2, 4)},
    "base": {"lr": (1e-5, 3e-5, 5e-5), "alpha": (0.1, 0.5, 0.9), "epochs": (1, 3)},
    "paper": {"lr": (1e-5, 3e-5, 5e-5, 7e-5), "alpha": (0.1, 0.3, 0.5, 0.7, 0.9), "epochs": (1, 3, 5)},
}
SEARCH_OF: dict[str, dict[str, tuple[float, ...]]] = {  # by modality, in place of the above; not in toy
    "image": {"lr": (5e-4, 1e-3, 2e-3, 4e-3), "epochs": (4, 8, 16)},  # nothing there is pretrained
}
TAUS = (1.0, 2.0, 4.0, 8.0, 16.0)  # of the grid "temperature"
LS_ALPHAS = (0.05, *ALPHAS, 0.95)  # of the same grid: as many as KD has settings there, the fixed arm's among them
TOY_TAUS = (1.0, 4.0, 16.0)
PAPER_ARMS = tuple(arm for arm in ARMS if ARMS[arm].paper_row)
SOFT_ARMS = tuple(arm for arm in PAPER_ARMS if ARMS[arm].method != "erm")
TRIO = ("erm_large", "erm_small", "kd_standard")  # of the small grids
CURVES, CURVE_ROWS = "curves", 512  # for claims on each sample of a curve: 64 rows are too few


def _table1(arm: str, _task: str, _profile: str) -> list[dict]:
    alphas = {} if ARMS[arm].method == "erm" else {"alpha": ALPHAS}
    return points_without_curves({"lr": LRS, **alphas, "epochs": EPOCHS})


def _a3(arm: str, task: str, profile: str) -> list[dict]:
    if ARMS[arm].method == "erm":
        return _table1(arm, task, profile)
    soft = {"tau": A3_TAUS, "alpha": A3_KD_ALPHAS} if ARMS[arm].method == "kd" else {"alpha": A3_LS_ALPHAS}
    return points_without_curves({"lr": LRS, **soft, "epochs": EPOCHS})


def _published(table: int) -> Callable[[str, str, str], list[dict]]:
    """The fields of the points that Table 7 or 12 prints; they keep their entropy curves, which Figures 1 to 4 draw."""

    def fields(arm: str, task: str, _profile: str) -> list[dict]:
        cell = printed_optimum(table, arm, task)
        return [dict(cell)] if cell else points_with_curves(MISSING)

    return fields


def printed_optimum(table: int, arm: str, task: str) -> dict | None:
    """Fields of an arm's point in Table 7 or 12 for a task, or the one it stands in for; None for a missing row.

    Raises:
        ValueError: the task stands in for none.
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


def _searched_note(task: str, arms: tuple[str, ...]) -> str:
    """Which points of published7 stand in for rows that the source lacks."""
    stand_ins = ", ".join(searched(task, arms))
    return f"searched over alpha and epochs, since Table 7 lacks the row: {stand_ins}" if stand_ins else ""


def _search(arm: str, task: str, profile: str) -> list[dict]:
    axes = SEARCH[profile] | (SEARCH_OF.get(modality_of(task), {}) if profile != "toy" else {})
    return points_without_curves({name: axes[name] for name in axes if name != "alpha" or ARMS[arm].method != "erm"})


def _temperature(arm: str, _task: str, profile: str) -> list[dict]:
    if ARMS[arm].method == "erm":
        return [{}]
    if ARMS[arm].method == "ls":
        return points_with_curves({"alpha": LS_ALPHAS})  # as the fixed arm's, which is one of them
    points = points_without_curves(
        {
            "alpha": (0.5, 1.0),
            "tau": TOY_TAUS if profile == "toy" else TAUS,
            "tau2_scaling": (True, False),
        }
    )
    return [point for point in points if point["tau2_scaling"] or point["tau"] != 1]  # tau^2 is 1 at tau 1


def ladder_sizes(profile: str, task: str = "") -> list[str]:
    """The models of a profile's ladder as RunConfig.student names them: its large and small, and their relatives.

    Args:
        profile: a key of PROFILES.
        task: decides whether they read images; any task of texts for "".
    """
    own = {model_of(profile, size, task): size for size in ("large", "small")}
    kinds = {SOURCES[name].kind for name in own}
    wheres = {SOURCES[name].where for name in own}
    relatives = [
        name
        for name, source in SOURCES.items()
        if source.kind in kinds and (source.kind not in ("hub", "asset") or source.where in wheres)
    ]
    return [own.get(name, name) for name in relatives]


def _ladder(task: str, profile: str) -> list[Cell]:
    """ERM of every size; KD of the small student by every teacher, and of every student by the small teacher."""
    sizes = ladder_sizes(profile, task)
    arm_of = {
        (arm.method, arm.student, ARMS[arm.teacher].student if arm.teacher else ""): name for name, arm in ARMS.items()
    }
    trainings = [("erm", size, "") for size in sizes] + [("kd", "small", teacher) for teacher in sizes]
    trainings += [("kd", student, "small") for student in sizes if student != "small"]
    return [
        Cell(
            arm=arm_of.get((method, student, teacher), ""),
            method=method,
            student=student,
            teacher=teacher,
            changes=[{}],
        )
        for method, student, teacher in trainings
    ]


register(
    "table1",
    Grid(
        title="Table 1: learning rate x epochs x alpha at tau 1, selected for Tables 2-5",
        fields=_table1,
        arms=PAPER_ARMS,
        also=("tfkd_small",),
    ),
)
register(
    "a3",
    Grid(
        title="A.3: temperature in the search, selected for Tables 8-11",
        fields=_a3,
        arms=SOFT_ARMS,
        also=("erm_large", "erm_small"),
    ),
)
register(
    "published7",
    Grid(
        title="the selected points of Table 7",
        fields=_published(7),
        arms=PAPER_ARMS,
        search=False,
        hparams="published",
        note=_searched_note,
    ),
)
register(
    "published12",
    Grid(
        title="the selected points of Table 12",
        fields=_published(12),
        arms=PAPER_ARMS,
        search=False,
        hparams="published12",
    ),
)
register(
    "search",
    Grid(
        title="a small search over learning rate x epochs x alpha",
        fields=_search,
        arms=TRIO,
        also=tuple(arm for arm in ARMS if arm not in TRIO),
        schedule="constant",
    ),
)
register(
    "temperature",
    Grid(
        title="tau x alpha x tau^2 scaling, all else fixed",
        fields=_temperature,
        arms=TRIO,
        also=("ls_small", "ls_large", "kd_self", "kd_reverse"),
        search=False,
    ),
)
register(
    CURVES,
    Grid(
        title=f"the small student's arms again, their entropy curves sampled on {CURVE_ROWS} rows",
        fields=lambda *_: [{"history_rows": CURVE_ROWS}],
        arms=(*TRIO, "ls_small", "kd_self"),
        also=("ls_large", "kd_reverse"),
        search=False,
    ),
)
register(
    "ladder",
    Grid(
        title="the small model taught by every size, and every size taught by it",
        fields=lambda *_: [{}],
        arms=(),
        pairs=_ladder,
        search=False,
    ),
)
