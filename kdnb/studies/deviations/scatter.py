"""Where a student leaves its teacher, example by example (arXiv 2301.12923); numpy and scipy only.

X is the teacher's log-odds of its own class, Y the student's of that class. X is a selected maximum, so any second
model shows Y < X somewhere: a deviation counts only beyond a control (`beyond_control`). The paper's text could not
be read: the statistics are our reconstruction.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from kdnb.analysis.statistics import LEVEL
from kdnb.core.metrics import posterior

SHARE = 0.25  # of the examples that make an end: the lowest and the highest quartile of X


def teacher_class_pair(
    teacher_logits: np.ndarray, logits: np.ndarray, transform: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(X, Y) of the scatter: phi (or the probability) of the teacher's argmax class, by teacher and by student.

    phi(u) = ln(u / (1 - u)) is computed as z_k - logsumexp of the other logits, so nothing saturates; both at tau 1.

    Args:
        teacher_logits: (N, K).
        logits: (N, K) of the same examples.
        transform: phi [nats]; False gives the probabilities themselves.
    Returns:
        (N,) twice, float64.
    """
    chosen = np.argmax(teacher_logits, axis=1)[:, None]
    pair = []
    for z in (np.asarray(teacher_logits, dtype=np.float64), np.asarray(logits, dtype=np.float64)):
        if transform:
            others = np.where(np.arange(z.shape[1]) == chosen, -np.inf, z)
            pair.append(np.take_along_axis(z, chosen, axis=1)[:, 0] - logsumexp(others, axis=1))
        else:
            pair.append(np.take_along_axis(posterior(z), chosen, axis=1)[:, 0])
    return pair[0], pair[1]


@dataclass(frozen=True)
class End:
    """One end of X: n examples, mean of Y - X [log-odds], share of them with Y < X, slope of Y on X inside."""

    n: int
    gap: float
    below: float
    slope: float


@dataclass(frozen=True)
class Deviation:
    """The least-squares line of Y on X over n examples, and its two ends."""

    n: int
    slope: float
    intercept: float
    low: End
    high: End


def deviation(x: np.ndarray, y: np.ndarray, share: float = SHARE) -> Deviation:
    """Line of Y on X and, for the lowest and the highest `share` of X, what `End` holds.

    Args:
        x: (N,) as from `teacher_class_pair`.
        y: (N,) likewise.
        share: of the examples at each end, in (0, 1/2].
    Raises:
        ValueError: the shapes differ or hold fewer than two examples, or share is out of range.
    """
    x, y = columns(x, y, share=share)
    ends = (x <= np.quantile(x, share), x >= np.quantile(x, 1 - share))
    low, high = (
        End(int(part.sum()), float((y - x)[part].mean()), float((y < x)[part].mean()), _line(x[part], y[part])[0])
        for part in ends
    )
    return Deviation(len(x), *_line(x, y), low, high)


def columns(*columns: np.ndarray, share: float) -> list[np.ndarray]:
    """Columns (N,) as float64; ValueError unless they are alike, N >= 2, and share lies in (0, 1/2]."""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    if len({array.shape for array in arrays}) > 1 or arrays[0].ndim != 1 or len(arrays[0]) < 2:
        raise ValueError(f"columns must be (N >= 2,) and alike, got {', '.join(str(array.shape) for array in arrays)}")
    if not 0 < share <= 0.5:
        raise ValueError(f"share must be in (0, 0.5], got {share}")
    return arrays


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the least-squares line; nan where X does not vary."""
    spread = np.mean((x - x.mean()) ** 2)
    slope = float(np.mean((x - x.mean()) * (y - y.mean())) / spread) if spread else float("nan")
    return slope, float(y.mean() - slope * x.mean())


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
        ends = {
            "low-confidence underfit": self.underfit,
            "high-confidence overfit": self.overfit,
            "low end above": self.low.sign > 0,
            "high end below": self.high.sign < 0,
        }
        words = ", ".join(word for word, there in ends.items() if there)
        if not words:
            return "nothing beyond the control"
        return f"{words}: {'exaggeration' if self.exaggeration else 'no exaggeration'}"


def beyond_control(  # noqa: PLR0913  (three columns and three numbers of one bootstrap)
    x: np.ndarray, y: np.ndarray, control: np.ndarray, share: float = SHARE, resamples: int = RESAMPLES, seed: int = 0
) -> Beyond:
    """The bootstrap over examples; student and control see the same draws, and X cancels in their difference.

    The ends are found anew in every draw.

    Args:
        x: (N,) X of the teacher.
        y: (N,) Y of the student on the same examples.
        control: (N,) Y of an ERM model of another seed on them.
        share: as `deviation`.
        resamples: how often the examples are drawn.
        seed: of the draws.
    Raises:
        ValueError: as `deviation`.
    """
    x, y, control = columns(x, y, control, share=share)
    order = np.argsort(x, kind="stable")
    x, both = x[order], np.stack([y, control])[:, order]
    rng, drawn = np.random.default_rng(seed), []
    at_once = max(1, _AT_ONCE // len(x))
    for start in range(0, resamples, at_once):
        picks = rng.integers(len(x), size=(min(at_once, resamples - start), len(x)))
        drawn.append(_statistics(x, both, np.sort(picks, axis=1), share))
    points = _statistics(x, both, np.arange(len(x))[None], share)[..., 0]
    draws = np.concatenate(drawn, axis=-1)
    return Beyond(*(_against(point, each) for point, each in zip(points, draws, strict=True)))


def _statistics(x: np.ndarray, both: np.ndarray, picks: np.ndarray, share: float) -> np.ndarray:
    """(low gap, high gap, slope) x (student, control) x draws; x ascending, picks (B, N) ascending in each row."""
    drawn, last = x[picks], len(x) - 1
    low = drawn <= drawn[:, [int(np.floor(share * last))]]  # as x <= quantile(x, share), ties included
    high = drawn >= drawn[:, [int(np.ceil((1 - share) * last))]]
    center = drawn - drawn.mean(axis=1, keepdims=True)
    spread = np.maximum((center**2).sum(axis=1), np.finfo(float).tiny)
    rows = []
    for column in both:
        values = column[picks]
        gap = values - drawn
        ends = [np.where(part, gap, 0).sum(axis=1) / part.sum(axis=1) for part in (low, high)]
        rows.append([*ends, (center * values).sum(axis=1) / spread])
    return np.swapaxes(np.array(rows), 0, 1)


def _against(point: np.ndarray, draws: np.ndarray) -> Against:
    """Estimates of student, control and difference; point (2,), draws (2, B)."""
    tail = 100 * (1 - LEVEL) / 2
    rows = zip((*point, point[0] - point[1]), (*draws, draws[0] - draws[1]), strict=True)
    return Against(*(Estimate(float(value), *np.percentile(row, [tail, 100 - tail]).tolist()) for value, row in rows))
