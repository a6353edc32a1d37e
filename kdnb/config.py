"""One run's configuration and its name. Plain data: no torch here."""

import functools
import hashlib
import json
import math
from dataclasses import dataclass, fields

from kdnb.checkpoints import SOURCES
from kdnb.profiles import PROFILES

SPLITS = ("train", "validation", "test")
METHODS = ("erm", "ls", "kd", "tfkd", "switch")
PURE = METHODS[:-1]  # without "switch", which is one of them and then another
SCHEDULES = ("linear", "constant")
TFKD_FORMS = ("paper", "released")
_FLOATS = (
    "alpha", "tau", "confidence", "multiplier", "lr", "warmup", "weight_decay", "clip", "dropout", "switch_at", "ramp",
)  # fmt: skip
_STUDENTS = ("large", "small", *SOURCES)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",\n ", ": "))
SOFT_FIELDS = (  # of the soft target and of a switch alone: at their defaults for ERM
    "before", "after", "switch_at", "ramp", "teacher_run", "alpha", "tau", "tau2_scaling", "confidence", "tfkd_form",
    "multiplier",
)  # fmt: skip
LATER = {
    "tfkd_form": "paper",
    "multiplier": 1.0,
    "before": "",
    "after": "",
    "switch_at": 0.0,
    "ramp": 0.0,
}  # fields newer than the first stored runs: left out of a name while at this value


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run's logits. Two equal configs are one run.

    Raises ValueError, naming field, value and range, for a value that makes no sense.
    """

    task: str  # a key of kdnb.tasks.TASKS, or "own:<name>" for the user's own file
    profile: str  # a key of PROFILES: which models and how many rows
    data: str  # fingerprint of the three splits, from kdnb.data
    method: str  # one of METHODS
    student: str  # "large", "small", or a key of kdnb.checkpoints.SOURCES
    before: str = ""  # switch only: the method trained first, one of METHODS but switch
    after: str = ""  # switch only: the method that takes over
    switch_at: float = 0.0  # switch only: where `after` begins, share of the steps, 0..1 [-]
    ramp: float = 0.0  # switch only: over which share of the steps it takes over, 0..1 [-]; 0 is at once
    teacher_run: str = ""  # run_id of the teacher; kd only, or a switch with kd in it
    alpha: float = 0.0  # weight of the soft target, 0..1 [-]
    tau: float = 1.0  # softmax temperature, > 0 [-]
    tau2_scaling: bool = True  # multiply the soft term by tau^2
    confidence: float = 0.0  # the virtual teacher's, tfkd only, 1/K..1 [-]
    tfkd_form: str = "paper"  # tfkd only: Eq. 9 of Yuan et al. 2020, or the loss of their released code
    multiplier: float = 1.0  # of the soft term of tfkd's released form, > 0 [-]
    lr: float = 5e-5  # peak learning rate of AdamW, > 0
    epochs: int = 3  # passes over the train split, >= 1
    batch_size: int = 32  # examples, >= 1
    schedule: str = "linear"  # "linear" decay to 0, or "constant"
    warmup: float = 0.0  # share of the steps, 0..1 [-]
    weight_decay: float = 0.0  # AdamW's, >= 0
    clip: float = 1.0  # largest gradient norm; 0 turns clipping off
    dropout: float = 0.1  # in the encoder and before the classifier, 0..1 [-]
    max_length: int = 128  # tokens, longer texts are cut, >= 8
    precision: str = "auto"  # "fp32", "bf16", or "auto": bf16 where the hardware multiplies it natively
    history_points: int = 10  # how often the entropy curves are sampled over a run, >= 0
    history_rows: int = 64  # rows of train and of test in each sample, >= 1
    seed: int = 0  # head initialisation and dropout
    order_seed: int = 0  # order of the training batches

    def __post_init__(self):
        for name in _FLOATS:
            value = getattr(self, name)
            if type(value) is not float:
                object.__setattr__(self, name, float(value))  # 1 and 1.0 are one value, hence one run
        for name, fine, expected in _SWITCH_CHECKS if self.method == "switch" else _CHECKS:
            if not fine(self):
                raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, so that equal configs are equal bytes."""
        return self._json({})

    def _json(self, changes: dict) -> str:
        """`to_json` with some fields changed. A search names tens of thousands of runs, so this is quick: json's
        own indentation runs in Python, while the separators of _ENCODER give a flat object the same bytes in C."""
        kept = {**vars(self), **changes}
        for name, value in LATER.items():
            if kept[name] == value:
                del kept[name]
        return "{\n " + _ENCODER.encode(kept)[1:-1] + "\n}\n"

    @classmethod
    def from_dict(cls, values: dict) -> "RunConfig":
        """The config of a stored run; an unknown or missing field is a ValueError."""
        known = {field.name for field in fields(cls)}
        if unknown := set(values) - known:
            raise ValueError(f"unknown config field {sorted(unknown)[0]!r}")
        return cls(**values)

    def run_id(self) -> str:
        """The run's name: what it is, for people, and the hash of its content, for the store."""
        return self._named(self.to_json())

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods whose losses this run uses: its own, or both sides of a switch."""
        return (self.before, self.after) if self.method == "switch" else (self.method,)

    def training(self) -> str:
        """A name that all runs read off one training share: with a constant learning rate the number of epochs
        does not show in it, since the first epochs of a longer training are a shorter one, step by step. (Not so
        where the loss switches at a share of the steps.)"""
        shared = self.schedule == "constant" and not self.warmup and self.method != "switch"
        return self._named(self._json({"epochs": 1} if shared else {}))

    def _named(self, content: str) -> str:
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        return f"{slug(self.task)}-{self.method}-{slug(self.student)}-s{self.seed}-{digest}"


@functools.cache
def slug(task: str) -> str:
    """A task's name as run_ids and file names begin with it: letters, digits and dashes."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in task)


# fmt: off
_CHECKS = (  # of a RunConfig: field, test, what is expected; the first that fails is told
    ("method", lambda c: c.method in METHODS, f"one of {', '.join(METHODS)}"),
    ("student", lambda c: c.student in _STUDENTS, f"large, small, {', '.join(SOURCES)}"),
    ("profile", lambda c: c.profile in PROFILES, f"one of {', '.join(PROFILES)}"),
    ("tfkd_form", lambda c: c.tfkd_form in TFKD_FORMS, f"one of {', '.join(TFKD_FORMS)}"),
    ("tfkd_form", lambda c: "tfkd" in c.methods or c.tfkd_form == "paper", "'paper' for every method but tfkd"),
    ("multiplier", lambda c: 0 < c.multiplier < math.inf if c.tfkd_form == "released" else c.multiplier == 1,
     "> 0 and finite for tfkd's released form, 1 for everything else"),
    ("schedule", lambda c: c.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
    ("precision", lambda c: c.precision in ("auto", "fp32", "bf16"), "auto, fp32 or bf16"),
    ("alpha", lambda c: 0 <= c.alpha <= 1, "in [0, 1]"),
    ("tau", lambda c: 0 < c.tau < math.inf, "> 0 and finite"),
    ("lr", lambda c: 0 < c.lr < 1, "in (0, 1)"),
    ("epochs", lambda c: c.epochs >= 1, ">= 1"),
    ("batch_size", lambda c: c.batch_size >= 1, ">= 1"),
    ("warmup", lambda c: 0 <= c.warmup <= 1, "in [0, 1]"),
    ("weight_decay", lambda c: c.weight_decay >= 0, ">= 0"),
    ("clip", lambda c: c.clip >= 0, ">= 0"),
    ("dropout", lambda c: 0 <= c.dropout < 1, "in [0, 1)"),
    ("max_length", lambda c: 8 <= c.max_length <= 512, "in 8..512 tokens"),
    ("history_points", lambda c: c.history_points >= 0, ">= 0"),
    ("history_rows", lambda c: c.history_rows >= 1, ">= 1"),
    ("seed", lambda c: c.seed >= 0, ">= 0"),
    ("order_seed", lambda c: c.order_seed >= 0, ">= 0"),
    ("method", lambda c: c.method == "switch" or not (c.before or c.after or c.switch_at or c.ramp),
     "'switch' where before, after, switch_at or ramp is given"),
    ("teacher_run", lambda c: bool(c.teacher_run) == ("kd" in c.methods), "a run_id for kd, empty for the others"),
    ("confidence", lambda c: 0 < c.confidence < 1 if "tfkd" in c.methods else c.confidence == 0,
     "in (1/K, 1) for tfkd, 0 for the others"),
)
_SWITCH_CHECKS = (
    ("before", lambda c: c.before in PURE, f"one of {', '.join(PURE)}"),
    ("after", lambda c: c.after in PURE, f"one of {', '.join(PURE)}"),
    ("after", lambda c: c.after != c.before, "another method than before"),
    ("switch_at", lambda c: 0 <= c.switch_at <= 1, "in [0, 1]"),
    ("ramp", lambda c: 0 <= c.ramp <= 1, "in [0, 1]"),
    *_CHECKS,
)
# fmt: on
