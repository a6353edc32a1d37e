"""The grids of arXiv 2301.12923, by our reconstruction: KD on the teacher alone, and losses that change midway."""

from kdnb.experiment.arms import ARMS
from kdnb.sweeps.grids import Cell, Grid, points_without_curves, register

DEVIATIONS, SWITCHING = "deviations", "switching"  # their names
TAUS = (1.0, 4.0)  # the second is what the paper is said to use for images
PULL = {"alpha": (1.0,), "tau": (4.0,)}  # of KD on either side of a switch
SWITCHES = (0.1, 0.25, 0.5, 0.75, 0.9)  # shares of the steps; 0 and 1 are the pure methods, bit for bit
TOY_SWITCHES = (0.5,)
RAMP = 0.01  # share of the steps over which the second loss takes over


def _deviations(arm: str, _task: str, _profile: str) -> list[dict]:
    return [{}] if ARMS[arm].method == "erm" else points_without_curves({"alpha": (1.0,), "tau": TAUS})


def _switching(arm: str, _task: str, _profile: str) -> list[dict]:
    return [{}] if ARMS[arm].method == "erm" else points_without_curves(PULL)


def _switched(_task: str, profile: str) -> list[Cell]:
    """The small student, switched from the labels to the large model's posteriors, and back."""
    at = TOY_SWITCHES if profile == "toy" else SWITCHES
    cells = []
    for before, after in (("erm", "kd"), ("kd", "erm")):
        points = points_without_curves({**PULL, "switch_at": at, "ramp": (RAMP,)})
        changes = [{**point, "before": before, "after": after, "method": "switch"} for point in points]
        cells.append(Cell(arm="", method="switch", student="small", teacher="large", changes=changes))
    return cells


register(
    DEVIATIONS,
    Grid(
        title="KD at alpha 1, tau 1 and 4, beside ERM: who deviates from whom",
        fields=_deviations,
        arms=("erm_large", "erm_small", "kd_standard", "kd_self"),
        also=("kd_reverse",),
        search=False,
    ),
)
register(
    SWITCHING,
    Grid(
        title="labels first, then the teacher, and the reverse, switched at a share of the steps",
        fields=_switching,
        arms=("erm_large", "erm_small", "kd_standard"),
        pairs=_switched,
        search=False,
    ),
)
