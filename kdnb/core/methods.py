"""Methods as objects: what each trains on, its settings with their ranges, and its loss. A new method is one class.

A class that names itself is registered: configs, grids, checks, options and help texts read its fields from here.
No torch is needed to name, check or plan a method, only to evaluate its loss.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor, nn

SoftTargets: TypeAlias = "Tensor | Callable[[], Tensor] | None"  # the teacher's logits (B, K), or what gives them


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a field of a config may be: its range, unit and meaning, and whether grids may vary it."""

    help: str
    low: float = -math.inf
    high: float = math.inf
    without_low: bool = False  # whether `low` itself is outside the range
    without_high: bool = False
    choices: tuple[str, ...] = ()
    unit: str = ""
    axis: bool = False  # whether a grid may vary it
    later: bool = False  # newer than the first stored runs: left out of a run's name while at its default

    @property
    def expected(self) -> str:
        """The range in words, as messages and help texts have it."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.high == math.inf:
            return f"{'>' if self.without_low else '>='} {self.low:g}" + (" and finite" if self.without_high else "")
        if self.unit and self.unit != "-":
            return f"in {self.low:g}..{self.high:g} {self.unit}"
        opens, closes = "(" if self.without_low else "[", ")" if self.without_high else "]"
        return f"in {opens}{self.low:g}, {self.high:g}{closes}"

    def allows(self, value: Any) -> bool:
        """Whether a value lies in the range."""
        if self.choices:
            return value in self.choices
        if not isinstance(value, int | float):
            return True
        low = value > self.low if self.without_low else value >= self.low
        return low and (value < self.high if self.without_high else value <= self.high)

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError, naming field, range and value, unless the value lies in the range."""
        if not self.allows(value):
            raise ValueError(f"{name} must be {self.expected}, got {value!r}")

    def field(self, default: Any = MISSING) -> Any:
        """A dataclass field with this setting; without a default it has to be given."""
        return dataclasses.field(default=default, metadata={"setting": self})


def setting(default: Any = MISSING, **facts: Any) -> Any:
    """A dataclass field with a `Setting` of some facts."""
    return Setting(**facts).field(default)


def setting_of(field: Field) -> Setting:
    """The setting of a dataclass field; one without a range where the field has none."""
    return field.metadata.get("setting", Setting(help=""))


TFKD_FORMS = ("paper", "released")
TEACHER_RUN = Setting(help="run_id of the teacher")
ALPHA = Setting(low=0, high=1, unit="-", axis=True, help="weight of the soft target; 0 is ERM")
TAU = Setting(low=0, without_low=True, without_high=True, unit="-", axis=True, help="softmax temperature")
TAU2_SCALING = Setting(axis=True, help="tau^2 on the soft term")
CONFIDENCE = Setting(low=0, high=1, unit="-", axis=True, help="the virtual teacher's confidence, in (1/K, 1)")
TFKD_FORM = Setting(choices=TFKD_FORMS, axis=True, later=True, help="Eq. 9 of Yuan et al. 2020, or their released loss")
MULTIPLIER = Setting(
    low=0, without_low=True, without_high=True, axis=True, later=True, help="of released Tf-KD's soft term"
)
SIDE = Setting(axis=True, later=True, help="method on one side of a switch")
SWITCH_AT = Setting(low=0, high=1, unit="-", axis=True, later=True, help="where `after` begins, share of the steps")
RAMP = Setting(
    low=0,
    high=1,
    unit="-",
    axis=True,
    later=True,
    help="over which share of the steps `after` takes over; 0 is at once",
)

METHODS: dict[str, type[Method]] = {}  # by name


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a student is trained on beside, or instead of, its labels.

    A subclass is a frozen dataclass whose fields are made by `Setting.field`, with a `name` and a `loss`.
    """

    name: ClassVar[str] = ""  # as configs and names of runs have it
    title: ClassVar[str] = ""  # as printed
    needs_teacher: ClassVar[bool] = False
    over_examples: ClassVar[str] = "mean"  # what its loss is over a batch

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if cls.name:
            METHODS[cls.name] = cls

    @classmethod
    @functools.cache
    def settings(cls) -> dict[str, Setting]:
        """Field -> setting, as configs have the fields."""
        return {field.name: setting_of(field) for field in fields(cls)}

    @classmethod
    def of(cls, config: Any) -> Self:
        """The method with the settings of a config, or of anything that has its fields as attributes."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise ValueError for settings that do not go together; single ranges are checked by `Setting.check`."""

    def weights(self, step: int, total: int) -> list[tuple[Method, float]]:
        """The methods whose losses count at step 0..total-1, each with its weight; the weights sum to 1."""
        return [(self, 1.0)]

    def beside(self, model: nn.Module, config: Any, data: Any) -> nn.Module | None:
        """What trains with a model and adds to its loss, from row numbers (B,): projections of hidden states, say."""

    def taught(self, teacher_logits: ndarray, labels: ndarray, seed: int) -> ndarray:
        """What a method makes, once, of its teacher's logits (N, K) on the train rows with labels (N,)."""
        return teacher_logits

    def loss(self, logits: Tensor, labels: Tensor, soft_targets: SoftTargets = None) -> Tensor:
        """Mean loss of a batch [nats].

        Args:
            logits: (B, K) of the student.
            labels: (B,) integers.
            soft_targets: (B, K) logits of the teacher, or a function that gives them.
        """
        raise TypeError(f"{type(self).__name__} has no loss of its own")


@dataclass(frozen=True, kw_only=True)
class ERM(Method):
    """H(q, p): cross-entropy with the labels (empirical risk minimisation)."""

    name, title = "erm", "ERM"

    def loss(self, logits: Tensor, labels: Tensor, soft_targets: SoftTargets = None) -> Tensor:
        from kdnb.core.losses import erm_loss

        return erm_loss(logits, labels)


@dataclass(frozen=True, kw_only=True)
class LS(Method):
    """(1 - alpha) H(q, p) + alpha H(u, p), u uniform (label smoothing; Eq. 1 of arXiv 2301.12609 up to a constant)."""

    name, title = "ls", "LS"
    alpha: float = ALPHA.field(0.1)

    def loss(self, logits: Tensor, labels: Tensor, soft_targets: SoftTargets = None) -> Tensor:
        from kdnb.core.losses import ls_loss

        return ls_loss(logits, labels, self.alpha)


@dataclass(frozen=True, kw_only=True)
class KD(Method):
    """(1 - alpha) H(q, p) + alpha tau^2 H(p^t_tau, p_tau)   (Eq. 2 of arXiv 2301.12609 up to a constant)."""

    name, title, needs_teacher = "kd", "KD", True
    teacher_run: str = TEACHER_RUN.field("")
    alpha: float = ALPHA.field(0.9)
    tau: float = TAU.field(1.0)
    tau2_scaling: bool = TAU2_SCALING.field(True)

    def loss(self, logits: Tensor, labels: Tensor, soft_targets: SoftTargets = None) -> Tensor:
        from kdnb.core.losses import kd_loss

        teacher_logits = soft_targets() if callable(soft_targets) else soft_targets
        return kd_loss(logits, labels, teacher_logits, self.alpha, self.tau, self.tau2_scaling)


@dataclass(frozen=True, kw_only=True)
class TeacherFree(Method):
    """KD from a virtual teacher that is right with one confidence everywhere (Yuan et al. 2020, Eq. 9)."""

    name, title = "tfkd", "Teacher-free KD"
    alpha: float = ALPHA.field(0.9)
    tau: float = TAU.field(20.0)  # Eq. 9: tau >= 20
    tau2_scaling: bool = TAU2_SCALING.field(True)
    confidence: float = CONFIDENCE.field(0.9)  # Eq. 9: >= 0.9; .99 in the released code
    tfkd_form: str = TFKD_FORM.field("paper")
    multiplier: float = MULTIPLIER.field(1.0)

    @classmethod
    def check(cls, config: Any) -> None:
        if not 0 < config.confidence < 1:
            raise ValueError(f"confidence must be in (1/K, 1) for tfkd, 0 for the others, got {config.confidence!r}")
        if config.tfkd_form != "released" and config.multiplier != 1:
            raise ValueError(
                "multiplier must be > 0 and finite for tfkd's released form, 1 for everything else, "
                f"got {config.multiplier!r}"
            )

    def loss(self, logits: Tensor, labels: Tensor, soft_targets: SoftTargets = None) -> Tensor:
        from kdnb.core.losses import kd_loss, tfkd_released_loss, virtual_teacher_logits

        if self.tfkd_form == "released":
            return tfkd_released_loss(logits, labels, self.alpha, self.confidence, self.tau, self.multiplier)
        teacher_logits = virtual_teacher_logits(labels, logits.shape[1], self.confidence)
        return kd_loss(logits, labels, teacher_logits, self.alpha, self.tau, self.tau2_scaling)


@dataclass(frozen=True, kw_only=True)
class Switch(Method):
    """One method first and then another, which takes over at a share of the steps, at once or over a ramp.

    The switch points and the ramp of arXiv 2301.12923 could not be read; these are our reconstruction. A switch at 0
    is `after` from the first step on, one at 1 `before` to the last: the pure methods, bit for bit.
    """

    name, title = "switch", "Switch"
    before: Method
    after: Method
    switch_at: float = SWITCH_AT.field(0.0)
    ramp: float = RAMP.field(0.0)

    @classmethod
    @functools.cache
    def settings(cls) -> dict[str, Setting]:
        return {**super().settings(), "before": SIDE, "after": SIDE}  # a config names its sides

    @classmethod
    def of(cls, config: Any) -> Self:
        before, after = METHODS[config.before].of(config), METHODS[config.after].of(config)
        return cls(before=before, after=after, switch_at=config.switch_at, ramp=config.ramp)

    @classmethod
    def check(cls, config: Any) -> None:
        pure = [name for name, one in METHODS.items() if one.__module__ == __name__ and one is not cls]
        for side in ("before", "after"):
            if getattr(config, side) not in pure:
                raise ValueError(f"{side} must be one of {', '.join(pure)}, got {getattr(config, side)!r}")
        if config.after == config.before:
            raise ValueError(f"after must be another method than before, got {config.after!r}")

    def weights(self, step: int, total: int) -> list[tuple[Method, float]]:
        share = share_after(step, round(self.switch_at * total), round(self.ramp * total))
        return [(self.before, 1 - share), (self.after, share)]


def known(name: str) -> bool:
    """Whether there is a method of a name; those that studies define are imported when one is first asked for."""
    if name not in METHODS:
        importlib.import_module("kdnb.studies.registry").methods()
    return name in METHODS


def all_settings() -> dict[str, Setting]:
    """Field -> setting of all methods together: what is of a method alone, and of no use to a plain training."""
    return {name: one for method in METHODS.values() for name, one in method.settings().items()}


def methods_of(config: Any) -> tuple[str, ...]:
    """The methods whose losses a config uses: its own, or both sides of a switch."""
    return (config.before, config.after) if config.method == Switch.name else (config.method,)


def used_settings(config: Any) -> dict[str, Any]:
    """Field -> default of what means something in a config: the fields of its method, or of a switch and its sides."""
    return _used(tuple(METHODS[name] for name in (config.method, *methods_of(config))))


@functools.cache
def _used(classes: tuple[type[Method], ...]) -> dict[str, Any]:
    return {field.name: field.default for method in classes for field in fields(method)}


def batch_loss(  # noqa: PLR0913 - a loss and its place in the training
    config: Any, logits: Tensor, labels: Tensor, soft_targets: SoftTargets = None, step: int = 0, total: int = 1
) -> Tensor:
    """A config's mean loss on a batch at step 0..total-1 [nats].

    Args:
        config: a RunConfig, or a Method itself.
        logits: (B, K) of the student.
        labels: (B,) integers.
        soft_targets: (B, K) logits of the teacher, or a function that gives them, called only by a method that needs
            a teacher and has a weight at this step.
        step: number of the optimiser step.
        total: steps of the whole training.
    """
    method = config if isinstance(config, Method) else METHODS[config.method].of(config)
    parts = [(part, weight) for part, weight in method.weights(step, total) if weight]
    losses = [part.loss(logits, labels, soft_targets) for part, _ in parts]
    if len(losses) == 1:
        return losses[0]
    return sum(weight * loss for (_, weight), loss in zip(parts, losses, strict=True))


def share_after(step: float, switch: float, ramp: float = 0) -> float:
    """Weight clip((t - s) / ramp, 0, 1) of the loss after the switch, in [0, 1].

    Args:
        step: t, counted from 0.
        switch: s, the first step of the ramp; 0 or less is no switch, the later loss from the first step on.
        ramp: steps from 0 to 1, >= 0; 0 is a hard switch, 1 at s itself.
    Raises:
        ValueError: ramp is negative.
    """
    if ramp < 0:
        raise ValueError(f"ramp must be >= 0 steps, got {ramp}")
    if switch <= 0 or (ramp == 0 and step >= switch):
        return 1.0
    return min(max((step - switch) / ramp, 0.0), 1.0) if ramp else 0.0
