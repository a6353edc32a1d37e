"""What decides a language model's training, and so its name. Plain data: no torch here."""

import math
from dataclasses import dataclass, fields
from typing import Any

from kdnb.core.config import PRECISIONS, Identity
from kdnb.core.methods import setting, setting_of

TARGETS = ("none", "online", "cache", "on_policy")
KERNELS = ("torch", "liger")
SCHEDULES = ("linear", "cosine", "constant")
DIVERGENCE_NAMES = (
    "forward_kl", "reverse_kl", "gjsd", "interp_jsd", "skew_kl", "skew_reverse_kl", "tv", "nla", "uniform",
)  # fmt: skip
VARIANT_NAMES = ("renorm", "truncate", "tail_bucket", "uniform_tail", "conditional", "sampled")


@dataclass(frozen=True, kw_only=True)
class LMConfig(Identity):
    """Everything that decides a student's weights. Two equal configs are one run.

    Raises ValueError, naming field, value and range, for a value that makes no sense.
    """

    data: str  # fingerprint of the sequences trained on
    held_out: str  # fingerprint of those it is judged on
    length: int = setting(128, low=2, unit="tokens", help="of a sequence")
    student: str  # how it was named
    student_weights: str  # sha256 of its weights before the first step
    vocabulary: int  # entries of both laws: what the heads have in common, padding beyond the tokenizer's ids cut off
    teacher: str = ""
    teacher_weights: str = ""
    targets: str = setting("none", choices=TARGETS, help="where the teacher's law comes from")
    cache: str = ""  # the name of its manifest
    divergence: str = setting("forward_kl", choices=DIVERGENCE_NAMES, help="of teacher and student; uniform is LS")
    beta: float = setting(-1.0, low=-1, high=1, help="of gjsd, interp_jsd and the skewed; -1 is their default")
    variant: str = setting("tail_bucket", choices=VARIANT_NAMES, help="with a sparse cache: how it is learned from")
    alpha: float = setting(0.0, low=0, high=1, unit="-", help="weight of the soft target; 0 is ERM")
    tau: float = setting(1.0, low=0, without_low=True, unit="-", help="softmax temperature of both laws")
    on_policy: float = setting(1.0, low=0, high=1, unit="-", help="share of steps on the student's own prefixes")
    prompt: int = setting(16, low=1, unit="tokens", help="on_policy: of the text, before the student goes on")
    tokens: int = setting(100_000, low=1, unit="tokens", help="budget; a step more is not begun")
    batch_size: int = setting(8, low=1, unit="sequences", help="of an optimiser step")
    micro_batch: int = setting(0, low=0, unit="sequences", help="forward at a time, 0 for all; the sum is the same")
    lr: float = setting(5e-4, low=0, high=1, without_low=True, without_high=True, help="peak learning rate")
    schedule: str = setting("cosine", choices=SCHEDULES, help="decay of the learning rate to 0, or none")
    warmup: float = setting(0.05, low=0, high=1, unit="-", help="share of the steps")
    weight_decay: float = setting(0.0, low=0, help="of AdamW")
    clip: float = setting(1.0, low=0, help="largest gradient norm, 0 turns clipping off")
    precision: str = setting("auto", choices=PRECISIONS, help="auto: bf16 where the hardware multiplies it natively")
    kernel: str = setting(
        "torch", choices=KERNELS, later=True, help="of the loss; liger needs CUDA and the extra [liger]"
    )
    seed: int = setting(0, low=0, help="of new weights and of samples")
    order_seed: int = setting(0, low=0, help="order of the sequences")

    def __post_init__(self):
        for one in fields(self):
            if one.type in (float, "float"):
                object.__setattr__(self, one.name, float(getattr(self, one.name)))
            if "setting" in one.metadata:
                setting_of(one).check(one.name, getattr(self, one.name))
        self._check_teaching()
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise ValueError(f"micro_batch must divide batch_size {self.batch_size}, got {self.micro_batch}")
        if self.targets == "on_policy" and self.prompt >= self.length:
            raise ValueError(f"prompt must be below length {self.length}, got {self.prompt}")
        if self.steps < 1:
            raise ValueError(f"tokens must be at least one step's {self.tokens_of_step:,}, got {self.tokens:,}")

    def _check_teaching(self) -> None:
        """Raise ValueError where teacher, targets and what is learned from them do not go together."""
        taught = self.targets != "none"
        if taught != bool(self.teacher_weights):
            raise ValueError(f"teacher must be given for targets online, cache, on_policy alone, got {self.teacher!r}")
        if taught != (self.alpha > 0 and self.divergence != "uniform"):
            raise ValueError(
                f"alpha > 0 and a divergence other than uniform go with targets online, cache, on_policy, "
                f"got alpha {self.alpha:g}, {self.divergence} and targets {self.targets}"
            )
        if (self.targets == "cache") != bool(self.cache):
            raise ValueError(f"cache must name a cache for targets cache, and none otherwise, got {self.cache!r}")
        if self.kernel == "liger" and (not taught or self.divergence not in ("forward_kl", "reverse_kl", "gjsd")):
            raise ValueError(
                f"kernel liger goes with a teacher's forward_kl, reverse_kl or gjsd alone, got {self.divergence} and "
                f"targets {self.targets}"
            )

    def prefix(self) -> str:
        """What the name begins with."""
        return f"lm-{self.method}-s{self.seed}"

    def values(self) -> dict[str, Any]:
        """Field -> value, flat; fields newer than the first stored runs only where they are not at their default."""
        flat = {"kind": "lm", **vars(self)}
        for name, value in _LATER.items():
            if flat[name] == value:
                del flat[name]
        return flat

    @classmethod
    def from_record(cls, values: dict[str, Any]) -> "LMConfig":
        """The config of a stored run."""
        return cls(**{name: value for name, value in values.items() if name != "kind"})

    @property
    def method(self) -> str:
        """erm, ls or kd."""
        return "erm" if self.alpha == 0 else "ls" if self.divergence == "uniform" else "kd"

    @property
    def tokens_of_step(self) -> int:
        """Tokens told in one optimiser step."""
        return self.batch_size * (self.length - 1)

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.tokens // self.tokens_of_step

    @property
    def optimizer(self) -> str:
        """Of `kdnb.core.optimizer.Optimizer`."""
        return "adamw"

    @property
    def momentum(self) -> float:
        """Of `kdnb.core.optimizer.Optimizer`; AdamW has none."""
        return 0.9

    def learning_rate(self, step: int) -> float:
        """Of step 0..steps - 1: warm-up, then decay to 0 or constant."""
        warmup = round(self.warmup * self.steps)
        if step < warmup:
            return self.lr * (step + 1) / (warmup + 1)
        left = (self.steps - step) / max(1, self.steps - warmup)
        return self.lr * {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}[self.schedule]


_LATER = {
    field.name: field.default for field in fields(LMConfig) if "setting" in field.metadata and setting_of(field).later
}
