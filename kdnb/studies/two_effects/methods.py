"""The method of this study: KD from a teacher whose posteriors were changed before it taught."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdnb.core.methods import KD, Setting
from kdnb.studies.two_effects.targets import TRANSFORMS, transformed

if TYPE_CHECKING:
    from numpy import ndarray

TRANSFORM = Setting(choices=TRANSFORMS, axis=True, help="how the teacher's posteriors are changed before it teaches")
SHARPNESS = Setting(low=0, without_low=True, without_high=True, axis=True, help="of scale: its logits times this")


@dataclass(frozen=True, kw_only=True)
class TransformedKD(KD):
    """KD's loss on posteriors that were changed: see `kdnb.studies.two_effects.targets.transformed`."""

    name, title, needs_teacher = "transformed", "KD, changed teacher", True
    transform: str = TRANSFORM.field("scale")
    sharpness: float = SHARPNESS.field(1.0)

    @classmethod
    def check(cls, config: Any) -> None:
        if config.transform != "scale" and config.sharpness != 1:
            raise ValueError(f"sharpness must be 1 unless transform is scale, got {config.sharpness!r}")

    def taught(self, teacher_logits: ndarray, labels: ndarray, seed: int) -> ndarray:
        return transformed(teacher_logits, labels, self.transform, self.sharpness, seed)
