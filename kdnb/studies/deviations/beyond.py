"""Does a student leave its teacher more than a control does? A bootstrap over examples; numpy and scipy only.

The control is an ERM model that never met the teacher, held against the same teacher on the same examples. What a
student's scatter shows is distillation's doing only beyond what the control's shows. The rules are our reconstruction.
"""

from dataclasses import dataclass

import numpy as np

from kdnb.analysis.statistics import LEVEL
from kdnb.studies.deviations.scatter import SHARE, columns

RESAMPLES = 1000
_AT_ONCE = 1_000_000  # picks held in memory


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % percentile interval over redrawn examples."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """+1 or -1 where the whole interval lies on that side of 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True)
class Against:
    """A statistic of the student, of the control, and of student minus control on the same redrawn examples."""

    student: Estimate
    control: Estimate
    difference: Estimate

    @property
    def sign(self) -> int:
        """+1 or -1 where student and difference both lie on that side of 0 with their intervals, else 0."""
        return self.student.sign if self.student.sign == self.difference.sign else 0


@dataclass(frozen=True)
class Beyond:
    """A student against its control: the mean of Y - X at both ends, and the slope over everything."""

    low: Against
    high: Against
    slope: Against

    @property
    def underfit(self) -> bool:
        """Low-confidence underfit: below its teacher where that is unsure, and below the control."""
        return self.low.sign < 0

    @property
    def overfit(self) -> bool:
        """High-confidence overfit: above its teacher where that is sure, and above the control."""
        return self.high.sign > 0

    @property
    def reversed(self) -> bool:
        """Either end does the opposite: above at the low end, or below at the high one."""
        return self.low.sign > 0 or self.high.sign < 0

    @property
    def exaggeration(self) -> bool:
        """Underfit or overfit, and neither end reversed."""
        return (self.underfit or self.overfit) and not self.reversed

    @property
    def verdict(self) -> str:
        """In words: what is found at the two ends beyond the control."""
        found = [
            word for word, there in (
                ("low-confidence underfit", self.underfit), ("high-confidence overfit", self.overfit),
                ("low end above", self.low.sign > 0), ("high end below", self.high.sign < 0),
            ) if there
        ]  # fmt: skip
        if not found:
            return "nothing beyond the control"
        return ", ".join(found) + (": exaggeration" if self.exaggeration else ": no exaggeration")


def beyond_control(
    x: np.ndarray, y: np.ndarray, control: np.ndarray, share: float = SHARE, resamples: int = RESAMPLES, seed: int = 0
) -> Beyond:
    """The bootstrap over examples; student and control see the same draws, and X cancels in their difference.

    The ends are found anew in every draw.

    Args:
        x, y, control: (N,) X of the teacher, Y of the student, Y of an ERM model of another seed; same examples.
        share: as `deviation`. resamples, seed: of the draws.
    Raises:
        ValueError: as `deviation`.
    """
    x, y, control = columns(x, y, control, share=share)
    order = np.argsort(x, kind="stable")
    x, both = x[order], np.stack([y, control])[:, order]
    rng, drawn, at_once = np.random.default_rng(seed), [], max(1, _AT_ONCE // len(x))
    for start in range(0, resamples, at_once):
        picks = rng.integers(len(x), size=(min(at_once, resamples - start), len(x)))
        drawn.append(_statistics(x, both, np.sort(picks, axis=1), share))
    points, drawn = _statistics(x, both, np.arange(len(x))[None], share)[..., 0], np.concatenate(drawn, axis=-1)
    return Beyond(*(_against(point, draws) for point, draws in zip(points, drawn, strict=True)))


def _statistics(x: np.ndarray, both: np.ndarray, picks: np.ndarray, share: float) -> np.ndarray:
    """(low gap, high gap, slope) x (student, control) x draws; x ascending, picks (B, N) ascending in each row."""
    drawn, last = x[picks], len(x) - 1
    low = drawn <= drawn[:, [int(np.floor(share * last))]]  # as x <= quantile(x, share), ties included
    high = drawn >= drawn[:, [int(np.ceil((1 - share) * last))]]
    center = drawn - drawn.mean(axis=1, keepdims=True)
    spread = np.maximum((center**2).sum(axis=1), np.finfo(float).tiny)
    found = []
    for column in both:
        values = column[picks]
        gap = values - drawn
        ends = [np.where(part, gap, 0).sum(axis=1) / part.sum(axis=1) for part in (low, high)]
        found.append([*ends, (center * values).sum(axis=1) / spread])
    return np.swapaxes(np.array(found), 0, 1)


def _against(point: np.ndarray, draws: np.ndarray) -> Against:
    """Estimates of student, control and difference; point (2,), draws (2, B)."""
    tail = 100 * (1 - LEVEL) / 2
    rows = zip((*point, point[0] - point[1]), (*draws, draws[0] - draws[1]), strict=True)
    return Against(*(Estimate(float(value), *np.percentile(row, [tail, 100 - tail]).tolist()) for value, row in rows))
