"""The grid of this study: born-again generations, each taught by the one before it, and what they are held against."""

from dataclasses import dataclass
from typing import Any

from kdnb.catalog import modality_of, task_named
from kdnb.core.config import RunConfig
from kdnb.experiment.points import Point
from kdnb.sweeps.grids import Grid, register

GENERATIONS = "generations"
BANS = {"text": 3, "image": 5}  # generations after the first model
FEWER_BANS = {"toy": 2, "demo": 3}  # by profile
STRIDE = 100  # between the seeds of one family's members, far above the seeds themselves
FIRST: dict[str, dict[str, Any]] = {  # what a family's trainings differ in from the profile's own
    "text": {"schedule": "constant"},  # a budget of its own, so that no run of a family stands in for another study's
    "image": {"epochs": 40},  # so that the first model fits its labels
}
DEMO_EPOCHS = 20  # of images
ROOT, ERM, BAN, LABELS = "first model", "ERM", "BAN", "BAN+L"
CWTM, DKPP, MEAN, INSTANCE, DRAWN = "CWTM", "DKPP", "LS as soft", "LS as soft each", "LS as drawn"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One training of a family.

    kind: what it is trained on, ROOT to DRAWN.
    generation: 0 for the first model and 1.. for those after it; of an ERM model, its place among its like.
    config: of its run.
    """

    kind: str
    generation: int
    config: RunConfig


def bans(task: str, profile: str) -> int:
    """Generations after the first model."""
    return FEWER_BANS.get(profile, BANS[modality_of(task)])


def family(first: RunConfig) -> list[Member]:
    """All trainings of one seed, teachers before their students.

    Born-again models (Furlanello et al. 2018) on the teacher's posteriors alone, generation by generation; one on
    posteriors and labels half and half; those on a part of what the teacher says: its confidence (CWTM), its
    posterior with classes shuffled (DKPP; not at K = 2, where nothing can be shuffled), its softness (LS of matched
    entropy, or of confidences drawn as its are spread); and as many ERM models, for ensembles of equal size. Every one
    has a start and an order of its own.

    Args:
        first: the ERM model that teaches the first generation.
    Raises:
        ValueError: it is of the user's own file, whose number of classes its config does not say.
    """
    if first.task.startswith("own:"):
        raise ValueError(f"grid {GENERATIONS} takes tasks by name, not {first.task}, which is of your own file")
    members, number = [Member(kind=ROOT, generation=0, config=first)], 0

    def add(kind: str, generation: int, **fields) -> RunConfig:
        nonlocal number
        number += 1
        seed = first.seed + STRIDE * number
        config = first.changed(seed=seed, order_seed=seed, **fields)
        members.append(Member(kind=kind, generation=generation, config=config))
        return config

    teacher, count = first, bans(first.task, first.profile)
    for generation in range(1, count + 1):
        teacher = add(BAN, generation, method="kd", alpha=1.0, teacher_run=teacher.run_id())
    taught = {"teacher_run": first.run_id()}
    add(LABELS, 1, method="kd", alpha=0.5, **taught)
    add(CWTM, 1, method="cwtm", **taught)
    add(MEAN, 1, method="matched_ls", matched="mean", **taught)
    add(INSTANCE, 1, method="matched_ls", matched="instance", **taught)
    for place in range(1, count + 1):
        add(ERM, place)
    if task_named(first.task).num_classes > 2:
        add(DKPP, 1, method="dkpp", alpha=1.0, **taught)
    add(DRAWN, 1, method="matched_ls", matched="drawn", **taught)  # last: the seeds of the others were taken before
    return members


def _first(_arm: str, task: str, profile: str) -> list[dict]:
    changes = {} if profile == "toy" else FIRST[modality_of(task)]
    if profile == "demo" and "epochs" in changes:
        changes = {**changes, "epochs": DEMO_EPOCHS}
    return [{"history_points": 0, **changes}]


def _families(_task: str, _profile: str, points: list[Point]) -> list[Point]:
    return [Point("", member.config) for point in points for member in family(point.config)[1:]]


register(
    GENERATIONS,
    Grid(
        title="born-again generations of the small model, beside as many ERM models",
        fields=_first,
        arms=("erm_small",),
        chain=_families,
        search=False,
    ),
)
