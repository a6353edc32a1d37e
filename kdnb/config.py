"""One run's configuration, the profiles and the arms of the comparison. Plain data: no torch here."""

import hashlib
import json
from dataclasses import dataclass, fields, replace

from kdnb.checkpoints import SOURCES

SPLITS = ("train", "validation", "test")
METHODS = ("erm", "ls", "kd", "tfkd")
SCHEDULES = ("linear", "constant")
TFKD_FORMS = ("paper", "released")
LATER = {"tfkd_form": "paper"}  # fields newer than the first stored runs: left out of a name while at this value


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
    teacher_run: str = ""  # run_id of the teacher; kd only
    alpha: float = 0.0  # weight of the soft target, 0..1 [-]
    tau: float = 1.0  # softmax temperature, > 0 [-]
    tau2_scaling: bool = True  # multiply the soft term by tau^2
    confidence: float = 0.0  # the virtual teacher's, tfkd only, 1/K..1 [-]
    tfkd_form: str = "paper"  # tfkd only: Eq. 9 of Yuan et al. 2020, or the loss of their released code
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
        for name in ("alpha", "tau", "confidence", "lr", "warmup", "weight_decay", "clip", "dropout"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 1 and 1.0 are one value, hence one run
        checks = {
            "method": (self.method in METHODS, f"one of {', '.join(METHODS)}"),
            "student": (self.student in ("large", "small", *SOURCES), f"large, small, {', '.join(SOURCES)}"),
            "profile": (self.profile in PROFILES, f"one of {', '.join(PROFILES)}"),
            "tfkd_form": (self.tfkd_form in TFKD_FORMS, f"one of {', '.join(TFKD_FORMS)}"),
            "schedule": (self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            "precision": (self.precision in ("auto", "fp32", "bf16"), "auto, fp32 or bf16"),
            "alpha": (0 <= self.alpha <= 1, "in [0, 1]"),
            "tau": (0 < self.tau < float("inf"), "> 0 and finite"),
            "lr": (0 < self.lr < 1, "in (0, 1)"),
            "epochs": (self.epochs >= 1, ">= 1"),
            "batch_size": (self.batch_size >= 1, ">= 1"),
            "warmup": (0 <= self.warmup <= 1, "in [0, 1]"),
            "weight_decay": (self.weight_decay >= 0, ">= 0"),
            "clip": (self.clip >= 0, ">= 0"),
            "dropout": (0 <= self.dropout < 1, "in [0, 1)"),
            "max_length": (8 <= self.max_length <= 512, "in 8..512 tokens"),
            "history_points": (self.history_points >= 0, ">= 0"),
            "history_rows": (self.history_rows >= 1, ">= 1"),
            "seed": (self.seed >= 0, ">= 0"),
            "order_seed": (self.order_seed >= 0, ">= 0"),
            "teacher_run": (bool(self.teacher_run) == (self.method == "kd"), "a run_id for kd, empty for the others"),
            "confidence": (
                0 < self.confidence < 1 if self.method == "tfkd" else self.confidence == 0,
                "in (1/K, 1) for tfkd, 0 for the others",
            ),
        }
        for name, (fine, expected) in checks.items():
            if not fine:
                raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, so that equal configs are equal bytes."""
        kept = {name: value for name, value in vars(self).items() if LATER.get(name, self) != value}
        return json.dumps(kept, sort_keys=True, indent=1) + "\n"

    @classmethod
    def from_dict(cls, values: dict) -> "RunConfig":
        """The config of a stored run; an unknown or missing field is a ValueError."""
        known = {field.name for field in fields(cls)}
        if unknown := set(values) - known:
            raise ValueError(f"unknown config field {sorted(unknown)[0]!r}")
        return cls(**values)

    def run_id(self) -> str:
        """The run's name: what it is, for people, and the hash of its content, for the store."""
        digest = hashlib.sha256(self.to_json().encode()).hexdigest()[:12]
        return f"{slug(self.task)}-{self.method}-{slug(self.student)}-s{self.seed}-{digest}"

    def training(self) -> str:
        """A name that all runs read off one training share: with a constant learning rate the number of epochs
        does not show in it, since the first epochs of a longer training are a shorter one, step by step."""
        shared = self.schedule == "constant" and not self.warmup
        return (replace(self, epochs=1) if shared else self).run_id()


def slug(task: str) -> str:
    """A task's name as run_ids and file names begin with it: letters, digits and dashes."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in task)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One size of the same study: models, rows and the fixed hyper-parameters of its arms."""

    large: str  # key of kdnb.checkpoints.SOURCES
    small: str  # key of kdnb.checkpoints.SOURCES
    train_rows: int  # at most, 0 = all
    validation_rows: int  # at most, 0 = all
    test_rows: int  # at most, 0 = all
    lr: float
    epochs: int
    ls_alpha: float
    kd_alpha: float
    seeds: tuple[int, ...]
    history_rows: int = 64
    max_length: int = 128
    tasks: tuple[str, ...] = ("rt",)  # what `kdnb study` trains and reads


# fmt: off
PROFILES = {
    "toy": Profile(
        large="tiny-large", small="tiny-small", train_rows=64, validation_rows=32, test_rows=32, lr=1e-2, epochs=8,
        ls_alpha=0.4, kd_alpha=0.7, seeds=(0, 1), history_rows=16, max_length=32,
    ),
    "demo": Profile(
        large="minilm-6", small="minilm-3", train_rows=1000, validation_rows=200, test_rows=800, lr=2e-4, epochs=2,
        ls_alpha=0.4, kd_alpha=0.9, seeds=(0, 1, 2), history_rows=32,
    ),
    "cpu": Profile(
        large="minilm-6", small="minilm-3", train_rows=2000, validation_rows=1000, test_rows=2000, lr=1e-4, epochs=3,
        ls_alpha=0.4, kd_alpha=0.9, seeds=(0, 1, 2, 3, 4), history_rows=256,
        tasks=("rt", "headline", "passage", "relation"),
    ),
    "paper": Profile(
        large="bert-base", small="distilbert-base", train_rows=0, validation_rows=0, test_rows=0, lr=3e-5, epochs=3,
        ls_alpha=0.4, kd_alpha=0.7, seeds=(0, 1, 2, 3, 4), history_rows=2000,
        tasks=("mrpc", "qnli", "sst2", "mnli"),
    ),
}
# fmt: on
