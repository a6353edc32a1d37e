"""Pictures of a student beside its teacher, example by example: numbers in, Axes out."""

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from kdnb.analysis.figures import style
from kdnb.studies.deviations.scatter import teacher_class_pair

MANY = 500  # points of a scatter, above which it becomes a density


def confidence_scatter(
    teacher_logits: np.ndarray, logits: np.ndarray, ax: Axes, arm: str, transform: bool = True
) -> Axes:
    """Student against teacher probability of the teacher's own class, one point per example (arXiv 2301.12923).

    Args:
        teacher_logits: (N, K).
        logits: (N, K) of the same examples.
        ax: where it is drawn.
        arm: a key of ARMS, for color and marker.
        transform: logit-transformed axes, phi(u) = ln(u / (1 - u)), exact from the logits; else both in [0, 1].
    """
    x, y = teacher_class_pair(teacher_logits, logits, transform)
    ax.scatter(x, y, s=9, alpha=0.35, linewidths=0, **style(arm))
    low, high = (min(x.min(), y.min()) - 0.3, max(x.max(), y.max()) + 0.3) if transform else (0, 1)
    ax.axline((low, low), slope=1, color="0.3", linewidth=1, linestyle="--")
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    kind = "log odds" if transform else "probability"
    ax.set(xlabel=f"teacher's {kind} of its own class", ylabel=f"student's {kind} of that class")
    return ax


def deviation_panel(
    pair: tuple[np.ndarray, np.ndarray], ax: Axes, arm: str, ends: tuple[float, float], share: float
) -> Axes:
    """Y against X on square axes with the diagonal; density for many points.

    Above MANY examples hexagons stand for them, the darker the more (log scale). Dotted: where the lowest and the
    highest `share` of X end and begin.

    Args:
        pair: X and Y, (N,) as from `teacher_class_pair` [log-odds].
        ax: where it is drawn.
        arm: a key of ARMS, for color and marker.
        ends: of both axes [log-odds].
        share: of the examples at either end, in (0, 1/2].
    """
    (x, y), look = pair, style(arm)
    if len(x) > MANY:
        shades = sns.light_palette(look["color"], as_cmap=True)
        ax.hexbin(x, y, gridsize=45, extent=(*ends, *ends), bins="log", mincnt=1, cmap=shades, linewidths=0)
    else:
        ax.scatter(x, y, s=14, alpha=0.6, linewidths=0, **look)
    for edge in np.quantile(x, [share, 1 - share]):
        ax.axvline(edge, color="0.4", linestyle=":", linewidth=1)
    ax.axline((ends[0], ends[0]), slope=1, color="0.3", linewidth=1, linestyle="--")
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    return ax
