"""One run's configuration and its name. Plain data: no torch here."""

import functools
import hashlib
import json
from dataclasses import Field, dataclass, fields, replace
from typing import Any, Self

from kdnb.catalog import PROFILES, SOURCES, modality_of
from kdnb.core import methods
from kdnb.core.methods import METHODS, all_settings, setting, setting_of, used_settings

SPLITS = ("train", "validation", "test")
SCHEDULES = ("linear", "constant")
PRECISIONS = ("auto", "fp32", "bf16")
OPTIMIZERS = ("adamw", "sgd")
AUGMENTS = ("none", "flip-crop")
SIZES = ("large", "small", *SOURCES)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",\n ", ": "))


class Identity:
    """What is named by its content: flat canonical JSON and the hash of it. For frozen dataclasses."""

    def values(self) -> dict[str, Any]:
        """Field -> value, flat, and of what kind it is."""
        return {"kind": self.prefix(), **vars(self)}

    def prefix(self) -> str:
        """What the name begins with, for people."""
        return type(self).__name__.lower()

    def to_json(self, **changes: Any) -> str:
        """Canonical JSON, sorted keys, with some fields changed: equal configs are equal bytes.

        Quick, since a search names tens of thousands: json indents in Python, _ENCODER's separators do it in C.
        """
        return "{\n " + _ENCODER.encode({**self.values(), **changes})[1:-1] + "\n}\n"

    def run_id(self, **changes: Any) -> str:
        """The name: what it is, for people, and the hash of its content, for the store."""
        return f"{self.prefix()}-{hashlib.sha256(self.to_json(**changes).encode()).hexdigest()[:12]}"


@dataclass(frozen=True, kw_only=True)
class RunConfig(Identity):
    """Everything that decides a run's logits. Two equal configs are one run.

    The fields of its method are declared by the classes of `kdnb.core.methods`; those of methods that are not in the
    core are given like any other field to `RunConfig.of`, read as attributes, and kept in `extra`.

    Raises ValueError, naming field, value and range, for a value that makes no sense.
    """

    task: str  # a key of kdnb.catalog.TASKS, or "own:<name>" for the user's own file
    profile: str = setting(choices=tuple(PROFILES), help="which models and how many rows")
    data: str  # fingerprint of the three splits, from kdnb.data.splits
    method: str  # a key of kdnb.core.methods.METHODS
    student: str = setting(choices=SIZES, help="large, small or a model of the catalog")
    before: str = methods.SIDE.field("")
    after: str = methods.SIDE.field("")
    switch_at: float = methods.SWITCH_AT.field(0.0)
    ramp: float = methods.RAMP.field(0.0)
    teacher_run: str = methods.TEACHER_RUN.field("")
    alpha: float = methods.ALPHA.field(0.0)
    tau: float = methods.TAU.field(1.0)
    tau2_scaling: bool = methods.TAU2_SCALING.field(True)
    confidence: float = methods.CONFIDENCE.field(0.0)
    tfkd_form: str = methods.TFKD_FORM.field("paper")
    multiplier: float = methods.MULTIPLIER.field(1.0)
    lr: float = setting(5e-5, low=0, high=1, without_low=True, without_high=True, axis=True, help="peak learning rate")
    epochs: int = setting(3, low=1, axis=True, help="passes over the train split")
    batch_size: int = setting(32, low=1, unit="examples", help="examples of an optimiser step")
    schedule: str = setting("linear", choices=SCHEDULES, help="linear decay of the learning rate to 0, or none")
    warmup: float = setting(0.0, low=0, high=1, unit="-", help="share of the steps; no command sets it")
    weight_decay: float = setting(0.0, low=0, help="of the optimizer; SGD's goes through the momentum")
    clip: float = setting(1.0, low=0, help="largest gradient norm, 0 turns clipping off; no command sets it")
    dropout: float = setting(0.1, low=0, high=1, without_high=True, unit="-", help="in encoder and classifier")
    max_length: int = setting(128, low=8, high=512, unit="tokens", help="longer texts are cut")
    precision: str = setting("auto", choices=PRECISIONS, help="auto: bf16 where the hardware multiplies it natively")
    history_points: int = setting(10, low=0, help="how often the entropy curves are sampled over a run")
    history_rows: int = setting(64, low=1, help="rows of train and of test in each sample")
    seed: int = setting(0, low=0, help="head initialisation and dropout")
    order_seed: int = setting(0, low=0, help="order of the training batches")
    optimizer: str = setting("adamw", choices=OPTIMIZERS, later=True, help="AdamW, or SGD with momentum")
    momentum: float = setting(0.9, low=0, high=1, without_high=True, unit="-", later=True, help="of SGD")
    augment: str = setting("none", choices=AUGMENTS, later=True, help="of train images: mirrored, shifted, or neither")
    model: str = setting("", later=True, help="the model that stands for large or small; empty: the profile's")
    extra: tuple[tuple[str, Any], ...] = ()  # settings of methods outside the core: (field, value), sorted

    def __post_init__(self):
        for name, kind in _KINDS.items():
            value, kinds = getattr(self, name), (kind, int) if kind is float else kind
            if isinstance(value, bool) != (kind is bool) or not isinstance(value, kinds):
                raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r}")
            if kind is float and type(value) is not float:
                object.__setattr__(self, name, float(value))  # 1 and 1.0 are one value, hence one run
        if not methods.known(self.method):
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.method == methods.Switch.name:
            methods.Switch.check(self)
        used = used_settings(self)
        extra = {name: float(value) if isinstance(used.get(name), float) else value for name, value in self.extra}
        kept = sorted((name, value) for name, value in extra.items() if name not in used or value != used[name])
        object.__setattr__(self, "extra", tuple(kept))
        for name, one in _SETTINGS.items():
            one.check(name, getattr(self, name))
        self._check_method(used)

    def _check_method(self, used: dict[str, Any]) -> None:
        """What a method needs it has, and what it has no use for is at its default."""
        taught = any(METHODS[name].needs_teacher for name in self.methods)
        if bool(self.teacher_run) != taught:
            raise ValueError(
                f"teacher_run must be a run_id for {', '.join(n for n, m in METHODS.items() if m.needs_teacher)}, "
                f"empty for the others, got {self.teacher_run!r}"
            )
        for name, default in METHOD_FIELDS.items():
            if name not in used and (value := getattr(self, name)) != default:
                where = " and ".join(self.methods)
                raise ValueError(f"{name} must be {default!r} for {where}, where it has no use, got {value!r}")
        if self.augment != "none" and taught:
            raise ValueError(
                f"augment must be none with a teacher, whose logits are of images as they are, got {self.augment!r}"
            )
        if self.augment != "none" and modality_of(self.task) != "image":
            raise ValueError(f"augment must be none for texts ({self.task}), got {self.augment!r}")
        if self.optimizer != "sgd" and self.momentum != LATER["momentum"]:
            raise ValueError(f"momentum must be {LATER['momentum']} for {self.optimizer}, got {self.momentum}")
        for name, value in self.extra:
            if name not in used:
                raise ValueError(f"{name} is no setting of {self.method}, got {value!r}")
            all_settings()[name].check(name, value)
        for name in self.methods:
            METHODS[name].check(self)

    def __getattr__(self, name: str) -> Any:
        """A setting of a method outside the core: as given, else the method's default."""
        if not name.startswith("_") and "method" in self.__dict__:
            for values in (dict(self.__dict__.get("extra", ())), used_settings(self)):
                if name in values:
                    return values[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """The config with some fields, those of methods outside the core among them.

        Raises:
            TypeError: a field that neither configs nor the method have.
            ValueError: a value out of range.
        """
        known = {field.name for field in fields(cls)}
        methods.known(values.get("method", ""))  # a study's settings are read from its class
        given = {name: value for name, value in values.items() if name in known}
        extra = {**dict(given.pop("extra", ())), **{n: value for n, value in values.items() if n not in known}}
        if unknown := set(extra) - set(all_settings()):
            raise TypeError(f"unknown config field {sorted(unknown)[0]!r}")
        return cls(**given, extra=tuple(extra.items()))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The config of a stored run; an unknown or missing field is a ValueError."""
        try:
            return cls.of(values)
        except (TypeError, AttributeError, OverflowError) as error:
            raise ValueError(str(error)) from None

    def changed(self, **changes: Any) -> Self:
        """The same config with some fields changed; raises as `of`."""
        return self.of({**{field.name: getattr(self, field.name) for field in fields(self)}, **changes})

    def values(self) -> dict[str, Any]:
        """Field -> value, flat; fields newer than the first stored runs only where they are not at their default."""
        flat = dict(vars(self))
        flat.update(flat.pop("extra"))
        for name, value in LATER.items():
            if flat[name] == value:
                del flat[name]
        return flat

    def prefix(self) -> str:
        """Task, method, student and seed."""
        return f"{slug(self.task)}-{self.method}-{slug(self.student)}-s{self.seed}"

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods whose losses this run uses: its own, or both sides of a switch."""
        return methods.methods_of(self)

    def training(self) -> str:
        """A name that all runs read off one training share.

        Epochs do not show in it at a constant rate, where a shorter training is the beginning of a longer one.
        """
        shared = self.schedule == "constant" and not self.warmup and self.method != methods.Switch.name
        return self.run_id(**({"epochs": 1} if shared else {}))

    def plain(self) -> Self:
        """The same training on the labels alone: method ERM, every setting of a method at its default."""
        return replace(self, method=methods.ERM.name, extra=(), **METHOD_FIELDS)


# field of the core's methods -> what it is where it has no use
METHOD_FIELDS: dict[str, Any] = {one.name: one.default for one in fields(RunConfig) if one.name in all_settings()}
_SETTINGS = {field.name: setting_of(field) for field in fields(RunConfig) if "setting" in field.metadata}
_KINDS = {field.name: field.type for field in fields(RunConfig) if isinstance(field.type, type)}
LATER = {field.name: field.default for field in fields(RunConfig) if setting_of(field).later}


def declared() -> dict[str, Field]:
    """Every field that a config may have: its own, and those of the methods that are registered by now."""
    of_methods = {field.name: field for method in METHODS.values() for field in fields(method)}
    return {**of_methods, **{field.name: field for field in fields(RunConfig)}}


def axes() -> dict[str, type]:
    """What a grid may vary: field -> type of its values."""
    return {name: type(field.default) for name, field in declared().items() if setting_of(field).axis}


def flat(config: RunConfig) -> dict[str, Any]:
    """Every field of a config, those of its method alone beside the others: for tables."""
    values = {**vars(config), **{name: getattr(config, name) for name in used_settings(config)}}
    del values["extra"]
    return values


@functools.cache
def slug(name: str) -> str:
    """A task's or model's name as it stands in run_ids and file names: letters, digits and dashes."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name)
