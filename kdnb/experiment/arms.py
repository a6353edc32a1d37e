"""The arms of the comparison: what each trains, on whose posteriors, at a profile's fixed hyper-parameters."""

from dataclasses import dataclass
from itertools import product
from typing import Any

from kdnb.catalog import PROFILES, defaults, model_behind, source_of
from kdnb.core.config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One method of the comparison: what is trained, and on whose posteriors."""

    name: str  # as printed
    method: str
    student: str
    teacher: str = ""  # key of the ARMS entry that trains the teacher
    paper_row: str = ""  # the row of Tables 2-5 it stands beside


ARMS = {
    "erm_large": Arm(name="ERM large", method="erm", student="large", paper_row="ERM"),
    "erm_small": Arm(name="ERM small", method="erm", student="small", paper_row="ERM"),
    "ls_small": Arm(name="LS small", method="ls", student="small", paper_row="LS"),
    "kd_standard": Arm(name="Standard KD", method="kd", student="small", teacher="erm_large", paper_row="Standard KD"),
    "kd_self": Arm(name="Self-KD", method="kd", student="small", teacher="erm_small", paper_row="Self-KD"),
    "ls_large": Arm(name="LS large", method="ls", student="large", paper_row="LS"),
    "kd_reverse": Arm(name="Reverse KD", method="kd", student="large", teacher="erm_small", paper_row="Reverse KD"),
    "tfkd_small": Arm(name="Teacher-free KD", method="tfkd", student="small"),
}
TABLE, AVERAGE = "table", "average"  # what a teacher without a training comes from
TAUGHT = {  # KD by teachers that were not trained on plain labels: arms of no comparison, which decide no claim
    f"kd_{student}_from_{method}_{teacher}": f"KD from {trained} teacher ({teacher} to {student})"
    for method, trained in {"ls": "an LS", "kd": "a KD", "tfkd": "a teacher-free KD", "switch": "a switched"}.items()
    for teacher, student in product(("large", "small"), repeat=2)
}
TAUGHT |= {f"kd_{size}_from_unknown": f"KD from a teacher that is not stored ({size})" for size in ("large", "small")}
GIVEN = "Classifier as given"  # the large model's arm as printed, where it is a finished one that nobody trained
TAUGHT |= {
    f"kd_{size}_from_{origin}": f"KD from {words} ({size})"
    for origin, words in {TABLE: "a table", AVERAGE: "an ensemble"}.items()
    for size in ("large", "small")
}
TEMPERED = {
    f"kd_{student}_from_tempered_{teacher}": f"KD from a tempered teacher ({teacher} to {student})"
    for teacher, student in product(("large", "small"), repeat=2)
}
BY_NAME = {  # arms that a comparison has where it is asked for them by name; they decide no claim
    f"kd_{student}_from_ls_{teacher}": Arm(
        name=TAUGHT[f"kd_{student}_from_ls_{teacher}"], method="kd", student=student, teacher=f"ls_{teacher}"
    )
    for teacher, student in product(("large", "small"), repeat=2)
}
BY_NAME |= {
    f"kd_{student}_from_tempered_{teacher}": Arm(
        name=TEMPERED[f"kd_{student}_from_tempered_{teacher}"],
        method="transformed",
        student=student,
        teacher=f"erm_{teacher}",
    )
    for teacher, student in product(("large", "small"), repeat=2)
}
WRITTEN = {  # of BY_NAME: by a teacher that no arm trains, whose name is given -> what it comes from
    f"kd_{size}_from_{origin}": origin for origin in (TABLE, AVERAGE) for size in ("large", "small")
}
BY_NAME |= {
    name: Arm(name=TAUGHT[name], method="kd", student="large" if "_large_" in name else "small") for name in WRITTEN
}
ALL = ARMS | BY_NAME  # what a comparison may be asked for
NAMES = {key: arm.name for key, arm in ARMS.items()} | TAUGHT | TEMPERED  # every arm as printed
SHARPNESS = 0.5  # of a tempered teacher, unless another one is asked for: less sure
TFKD_TAU = 20.0  # Yuan et al. 2020, Eq. 9: tau >= 20
TFKD_CONFIDENCE = {"paper": 0.9, "released": 0.99}  # Eq. 9: c >= 0.9; fixed in their released code


def arm_config(arm: str, *, task: str, profile: str, data: str, seed: int, **changes: Any) -> RunConfig:
    """The RunConfig of one arm at a profile's fixed hyper-parameters, with `changes` on top.

    Args:
        arm: a key of ALL.
        task: a key of TASKS, or a name of the user's own.
        profile: a key of PROFILES.
        data: fingerprint of the splits.
        seed: of weights, dropout and order alike.
        changes: any other RunConfig fields, teacher_run among them for the KD arms.
    Raises:
        ValueError: a changed value is out of range, the student does not read what the task is made of, or there is
            no such model.
        TypeError: an unknown field.
    """
    size, own, what = PROFILES[profile], defaults(profile, task), ALL[arm]
    form = changes.get("tfkd_form", "paper")
    fields = {
        "task": task,
        "profile": profile,
        "data": data,
        "method": what.method,
        "student": what.student,
        "alpha": {"erm": 0.0, "ls": size.ls_alpha}.get(what.method, size.kd_alpha),
        "tau": TFKD_TAU if what.method == "tfkd" else 1.0,
        "confidence": TFKD_CONFIDENCE.get(form, 0.9) if what.method == "tfkd" else 0.0,
        "lr": own.lr,
        "epochs": own.epochs,
        "dropout": own.dropout,
        "max_length": size.max_length,
        "history_rows": size.history_rows,
        "seed": seed,
        "order_seed": seed,
    }
    if what.method == "transformed":
        fields |= {"transform": "scale", "sharpness": SHARPNESS}
    config = RunConfig.of({**fields, **changes})
    finished = source_of(model_behind(config)).as_it_is  # raises for what it cannot read
    return as_it_is(config) if finished else config


def as_it_is(config: RunConfig) -> RunConfig:
    """The config of a finished classifier: nothing that only a training reads is in it, not even a seed."""
    read = ("task", "profile", "data", "student", "model", "max_length", "precision")
    return RunConfig(method="erm", **{name: getattr(config, name) for name in read})
