"""The grids of this study: softness against labels, a dose of confidence, budgets, placebo teachers, and more seeds."""

from typing import Any

from kdnb.catalog import PROFILES
from kdnb.core.config import RunConfig
from kdnb.experiment.points import Point
from kdnb.sweeps.grids import Grid, register

SOFTNESS, DOSE, BUDGETS, PLACEBO, SEEDS = "softness", "dose", "budgets", "placebo", "seeds"  # their names
DOSES = (0.25, 0.5, 1.0, 2.0, 4.0)  # logits times these; "hard" beside them
DEMO_DOSES = (0.5, 1.0, 4.0)
EPOCHS = {"toy": (1, 2), "demo": (1, 2, 4), "cpu": (1, 2, 3, 6, 10), "base": (1, 3, 6), "paper": (1, 3, 6)}
AT_BUDGETS: tuple[dict[str, Any], ...] = (  # what each budget trains beside ERM and LS, at alpha 1
    {"method": "kd"},
    {"method": "transformed", "transform": "hard"},
    {"method": "transformed", "transform": "swap"},
    {"method": "transformed", "transform": "scale", "sharpness": 0.25},
    {"method": "transformed", "transform": "scale", "sharpness": 4.0},
)
PLACEBOS = ("uniform", "class_mean", "shuffle")
OWN_BUDGETS: dict[str, dict[str, Any]] = {  # longer ones, for tasks on which ERM of the small model is near the floor
    "mrpc": {"epochs": 6},
    "passage": {"epochs": 6},
}
SIX = ("erm_large", "erm_small", "ls_small", "kd_standard", "kd_self", "kd_reverse")
TRIO = ("erm_large", "erm_small", "ls_small")


def doses(profile: str) -> tuple[float, ...]:
    """The multipliers of a profile's dose-response."""
    return DEMO_DOSES if profile in ("toy", "demo") else DOSES


def _plain(_arm: str, _task: str, _profile: str) -> list[dict]:
    return [{}]


def _own_budget(_arm: str, task: str, profile: str) -> list[dict]:
    return [OWN_BUDGETS.get(task, {}) if profile == "cpu" else {}]


def _at_budgets(_arm: str, _task: str, profile: str) -> list[dict]:
    return [{"epochs": epochs, "history_points": 0} for epochs in EPOCHS[profile]]


def _erm(points: list[Point], size: str) -> list[RunConfig]:
    """The ERM runs of a size, in their order, each once."""
    found = [point.config for point in points if point.config.method == "erm" and point.config.student == size]
    return list({config.run_id(): config for config in found}.values())


def taught(student: RunConfig, teacher: RunConfig, **fields: Any) -> Point:
    """The student's ERM training with a teacher instead, without entropy curves."""
    return Point("", student.changed(teacher_run=teacher.run_id(), history_points=0, **fields))


def _softness(_task: str, _profile: str, points: list[Point]) -> list[Point]:
    (teacher,), (student,) = _erm(points, "large"), _erm(points, "small")
    made: list[dict[str, Any]] = [{"method": "kd"}]
    made += [{"method": "transformed", "transform": transform} for transform in ("hard", "swap")]
    return [taught(student, teacher, alpha=1.0, **fields) for fields in made]


def _dose(_task: str, profile: str, points: list[Point]) -> list[Point]:
    (teacher,), (student,), made = _erm(points, "large"), _erm(points, "small"), []
    for alpha in (PROFILES[profile].kd_alpha, 1.0):
        for dose in doses(profile):
            if dose != 1:
                fields: dict[str, Any] = {"method": "transformed", "transform": "scale", "sharpness": dose}
                made.append(taught(student, teacher, alpha=alpha, **fields))
            elif alpha == 1:
                made.append(taught(student, teacher, alpha=alpha, method="kd"))
        made.append(taught(student, teacher, alpha=alpha, method="transformed", transform="hard"))
    return made


def _budgets(_task: str, _profile: str, points: list[Point]) -> list[Point]:
    pairs = zip(_erm(points, "large"), _erm(points, "small"), strict=True)
    return [taught(s, t, alpha=1.0, **fields) for t, s in pairs for fields in AT_BUDGETS]


def _placebo(task: str, profile: str, points: list[Point]) -> list[Point]:
    (teacher,), (student,) = _erm(points, "large"), _erm(points, "small")
    alpha = PROFILES[profile].kd_alpha
    made = [taught(student, teacher, alpha=alpha, method="transformed", transform=name) for name in PLACEBOS]
    return made + _other_seed(task, profile, points)


def _other_seed(_task: str, profile: str, points: list[Point]) -> list[Point]:
    """The small model taught by a small one of the next seed, which it did not share its start or order with."""
    (student,) = _erm(points, "small")
    other = student.changed(seed=student.seed + 1, order_seed=student.order_seed + 1)
    return [Point("erm_small", other), taught(student, other, alpha=PROFILES[profile].kd_alpha, method="kd")]


register(
    SOFTNESS,
    Grid(
        title="the label or the teacher's argmax, hard or as soft as the teacher: two by two, at alpha 1",
        fields=_plain,
        arms=TRIO,
        chain=_softness,
        search=False,
    ),
)
register(
    DOSE,
    Grid(
        title="one teacher, its logits times .25 to 4 and hard, students at both weights",
        fields=_plain,
        arms=(*TRIO, "kd_standard"),
        chain=_dose,
        search=False,
    ),
)
register(
    BUDGETS,
    Grid(
        title="the two by two and the ends of the dose, teacher and student at equal epochs, few to many",
        fields=_at_budgets,
        arms=TRIO,
        chain=_budgets,
        schedule="constant",
        search=False,
    ),
)
register(
    PLACEBO,
    Grid(
        title="placebo teachers: uniform, class means, posteriors shuffled within a class, another seed's model",
        fields=_plain,
        arms=(*TRIO, "kd_standard", "kd_self"),
        chain=_placebo,
        search=False,
    ),
)
register(
    SEEDS,
    Grid(
        title="the six arms and self-KD from another seed's model, longer where ERM is near the floor",
        fields=_own_budget,
        arms=SIX,
        chain=_other_seed,
        search=False,
    ),
)
