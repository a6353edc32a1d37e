"""Figures of the little-data experiments: what each arm gains over labels alone."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb.analysis.figures import METHOD_COLORS
from kdnb.analysis.statistics import t_interval

LOOKS = {  # arm -> color, of figures.PALETTE, and marker; C0 is ERM's, C7 the teachers' grey
    "KD": (METHOD_COLORS["KD"], "^"),
    "hidden, uniform": ("C1", "s"),
    "hidden, last": ("C4", "v"),
    "hidden, learned": ("C3", "D"),
    "PKD": ("C5", "P"),
    "RKD": ("C9", "X"),
    "attention": ("0.3", "p"),
    "TinyBERT": ("C8", ">"),
    "KD + hidden": ("C6", "<"),
}


def curves(gains: pd.DataFrame, ax: Axes) -> Axes:
    """Mean gain against the number of rows with a 95 % t interval over seeds, a line per arm.

    Args:
        gains: as `little_data.gains`.
        ax: where to draw.
    """
    for place, (arm, part) in enumerate(gains.groupby("arm")):
        (color, marker), (mean, half) = LOOKS[arm], _spread(part.groupby("rows").gain)
        rows = np.sort(part.rows.unique()) * 1.04 ** (place - 3)
        ax.errorbar(rows, mean, half, color=color, marker=marker, capsize=3, label=arm)
    ax.axhline(0, color="0.4", linestyle="--", linewidth=1)
    rows_axis(ax, gains.rows)
    ax.set_ylabel("test accuracy minus ERM's [points]")
    ax.legend(frameon=False, fontsize=9)
    return ax


def rows_axis(ax: Axes, rows: pd.Series) -> None:
    """A logarithmic axis of train rows with a tick at each number that there is."""
    ticks = sorted(set(rows))
    ax.set(xscale="log", xlabel="train rows of the student")
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()


def panels(gains: pd.DataFrame) -> Figure:
    """`dots` of each student and number of rows, side by side; one empty panel where there are no gains."""
    groups = list(gains.groupby(["student", "rows"], sort=False))
    count = max(1, len(groups))
    figure, axes = plt.subplots(1, count, figsize=(4.3 * count, 3.6), layout="constrained", sharex=True, squeeze=False)
    for ax, ((student, rows), part) in zip(axes[0], groups, strict=False):
        dots(part, ax).set_title(f"{part.teacher.iloc[0]} to {student}, {rows} rows", fontsize=10)
    return figure


def dots(gains: pd.DataFrame, ax: Axes) -> Axes:
    """Gains of one number of rows: a dot per seed, mean and 95 % t interval, a line per arm; as `curves`."""
    arms = list(dict.fromkeys(gains.arm))
    mean, half = _spread(gains.groupby(pd.Categorical(gains.arm, arms), observed=True).gain)
    for place, arm in enumerate(arms):
        (color, marker), values = LOOKS[arm], gains[gains.arm == arm].gain
        ax.scatter(values, np.full(len(values), place) + 0.15, s=12, color=color, linewidths=0)
        ax.errorbar(mean[place], place, xerr=half[place], color=color, marker=marker, capsize=4)
    ax.axvline(0, color="0.4", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(arms)), arms)
    ax.set_xlabel("test accuracy minus ERM's [points]")
    return ax


def layer_map(shares: np.ndarray, ax: Axes) -> Axes:
    """A learned map (M_s, M_t) as a heat map with its shares written in."""
    picture = ax.imshow(shares, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (student, teacher), share in np.ndenumerate(shares):
        color = "white" if share < 0.6 else "black"
        ax.text(teacher, student, f"{share:.2f}", ha="center", va="center", color=color)
    ax.set_xticks(range(shares.shape[1]), range(1, shares.shape[1] + 1))
    ax.set_yticks(range(shares.shape[0]), range(1, shares.shape[0] + 1))
    ax.set(xlabel="teacher layer", ylabel="student layer")
    plt.colorbar(picture, ax=ax, label="share of the target [-]")
    return ax


def _spread(groups) -> tuple[np.ndarray, np.ndarray]:
    """Mean and half of the 95 % t interval of each group, 0 where one seed has none."""
    mean, half = np.array([t_interval(values) for _, values in groups]).T
    return mean, np.where(np.isfinite(half), half, 0)
