"""Pictures of students beside their teachers, example by example, with the data and the words that go with each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb.analysis.figures import METHOD_COLORS, style
from kdnb.analysis.statistics import t_interval
from kdnb.studies.deviations.scatter import Beyond, deviation, teacher_class_pair

MANY = 500  # points of a scatter, above which it becomes a density
SPLITS = ("train", "test")


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
        ax.scatter(x, y, s=10, linewidths=0, **look)
    for edge in np.quantile(x, [share, 1 - share]):
        ax.axvline(edge, color="0.4", linestyle=":", linewidth=1)
    ax.axline((ends[0], ends[0]), slope=1, color="0.3", linewidth=1, linestyle="--")
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    return ax


@dataclass(frozen=True)
class Cloud:
    """A student or a control beside a teacher on one split.

    Attributes:
        title: above its panel, or beside its line.
        arm: a key of ARMS, for color and marker.
        x: (N,) the teacher's log-odds of its own class.
        y: (N,) those of the student, on the same examples.
    """

    title: str
    arm: str
    x: np.ndarray
    y: np.ndarray


def clouds(rows: Sequence[Sequence[Cloud]], question: str, share: float) -> tuple[Figure, pd.DataFrame]:
    """A panel per cloud on the same square axes; the figure and the plotted points (panel, x, y).

    Args:
        rows: of panels, equally long.
        question: the title.
        share: of the examples at either end, in (0, 1/2].
    """
    every = [cloud for row in rows for cloud in row]
    values = np.concatenate([np.r_[cloud.x, cloud.y] for cloud in every])
    ends, size = (values.min() - 0.3, values.max() + 0.3), (3.4 * len(rows[0]) + 0.8, 3.5 * len(rows) + 0.9)
    fig, panels = plt.subplots(len(rows), len(rows[0]), figsize=size, squeeze=False, layout="constrained")
    for ax, cloud in zip(panels.flat, every, strict=True):
        deviation_panel((cloud.x, cloud.y), ax, cloud.arm, ends, share)
        ax.set_title(cloud.title, fontsize=10)
    fig.supxlabel("teacher's log-odds of its own class [nats]")
    fig.supylabel("student's log-odds of that class [nats]")
    fig.suptitle(question)
    points = [pd.DataFrame({"panel": cloud.title.replace("\n", " "), "x": cloud.x, "y": cloud.y}) for cloud in every]
    return fig, pd.concat(points)


def clouds_in_words(points: pd.DataFrame, share: float) -> str:
    """Alt text of `clouds`: slope, and the share below the diagonal at the low end, of each panel."""
    words = []
    for name, panel in points.groupby("panel", sort=False):
        d = deviation(panel.x.to_numpy(), panel.y.to_numpy(), share)
        words.append(f"{name}: slope {d.slope:.2f}, {d.low.below:.0%} below the diagonal at the low end")
    return "Student against teacher, dashed diagonal, dotted ends. " + "; ".join(words) + "."


def tenths(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(mean of X, mean of Y - X) in each tenth of the examples, lowest X first; (2, 10)."""
    parts = np.array_split(np.argsort(x, kind="stable"), 10)
    return np.transpose([(x[part].mean(), (y - x)[part].mean()) for part in parts])


def tenths_figure(lines: Mapping[str, Sequence[tuple[Cloud, str]]], question: str) -> tuple[Figure, pd.DataFrame]:
    """The mean of Y - X in each tenth of X, a panel per split; the figure and its data (split, name, x, gap).

    Args:
        lines: split -> clouds, each with the dash of its line.
        question: the title.
    """
    fig, panels = plt.subplots(1, len(lines), figsize=(12, 4.6), sharey=True, layout="constrained")
    rows = []
    for ax, (split, of_split) in zip(panels, lines.items(), strict=True):
        for cloud, dash in of_split:
            at = tenths(cloud.x, cloud.y)
            ax.plot(*at, dash, linewidth=1.8, markersize=7, label=cloud.title, **style(cloud.arm))
            rows += [(split, cloud.title, *pair) for pair in at.T]
        ax.set(title=split, xlabel="X, mean of a tenth of the examples [nats]")
        ax.axhline(0, color="0.3", linestyle="--", linewidth=1)
    panels[0].set(ylabel="mean of Y - X [nats]")
    panels[-1].legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1))
    fig.suptitle(question)
    return fig, pd.DataFrame(rows, columns=["split", "name", "x", "gap"])


def tenths_in_words(rows: pd.DataFrame) -> str:
    """Alt text of `tenths_figure`: the first and the last tenth of each line."""
    ends = rows.groupby(["split", "name"], sort=False).gap.agg(["first", "last"])
    words = [f"{split}, {name}: {row['first']:+.2f} to {row['last']:+.2f}" for (split, name), row in ends.iterrows()]
    return "Mean of Y - X from the teacher's least sure tenth to its surest. " + "; ".join(words) + "."


def interval_figure(
    tested: Mapping[tuple[str, str], Beyond], arms: Mapping[str, str], question: str
) -> tuple[Figure, pd.DataFrame, str]:
    """Student, control and difference with their intervals, both ends and splits; figure, data and alt text.

    Args:
        tested: (name, split) -> the bootstrap of `beyond_control`.
        arms: name -> a key of ARMS, in the order drawn.
        question: the title.
    """
    data = pd.DataFrame(
        {"name": name, "split": split, "end": end, "who": who, "value": one.value, "low": one.low, "high": one.high}
        for (name, split), beyond in tested.items()
        for end, against in (("low", beyond.low), ("high", beyond.high))
        for who, one in (("student", against.student), ("control", against.control), ("difference", against.difference))
    )
    size = (11, 2 + 1.5 * len(arms))
    fig, panels = plt.subplots(2, 2, figsize=size, sharey=True, sharex="row", layout="constrained")
    for line, end in zip(panels, ("low", "high"), strict=True):
        for ax, split in zip(line, SPLITS, strict=True):
            _interval_panel(ax, data[(data.end == end) & (data.split == split)], arms)
            ax.set_title(f"{end} end, {split}", fontsize=11)
    fig.supxlabel("mean of Y - X [nats]; black diamonds: student minus control")
    fig.suptitle(question)
    words = [f"{split}, {name}: {beyond.verdict}" for (name, split), beyond in tested.items()]
    return fig, data, "Intervals of student, control and their difference. " + "; ".join(words) + "."


def _interval_panel(ax: Axes, part: pd.DataFrame, arms: Mapping[str, str]) -> None:
    """Student, control and difference of each name, one below the other."""
    for place, (name, arm) in enumerate(arms.items()):
        looks = {"student": style(arm), "control": style("erm_small"), "difference": {"color": "black", "marker": "D"}}
        for step, (who, look) in enumerate(looks.items()):
            row = part[(part.name == name) & (part.who == who)].iloc[0]
            at = place + 0.22 * (step - 1)
            ax.plot([row.low, row.high], [at, at], color=look["color"], linewidth=1.8)
            ax.plot(row.value, at, linestyle="none", markersize=6, **look)
    ax.axvline(0, color="0.3", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(arms)), list(arms))
    ax.set_ylim(len(arms) - 0.5, -0.5)


def seed_figure(rows: pd.DataFrame, arms: Mapping[str, str], question: str) -> Figure:
    """The low end beyond the control: a dot per seed, mean and 95 % t interval beside them; train and test.

    Args:
        rows: with the columns name, split and low_beyond of `stored.table`.
        arms: name -> a key of ARMS, in the order drawn.
        question: the title.
    """
    fig, panels = plt.subplots(1, 2, figsize=(12.5, 4.8), sharey=True, layout="constrained")
    for ax, split in zip(panels, SPLITS, strict=True):
        for place, (name, arm) in enumerate(arms.items()):
            values = rows[(rows.name == name) & (rows.split == split)].low_beyond
            mean, half = t_interval(values)
            ax.scatter(np.full(len(values), place - 0.12), values, s=26, **style(arm))
            ax.errorbar(place + 0.12, mean, yerr=half if np.isfinite(half) else 0, color="black", marker="D", capsize=4)
        ax.axhline(0, color=METHOD_COLORS["ERM"], linestyle="--", linewidth=1.2)
        ax.set_xticks(range(len(arms)), [name.replace(", ", "\n") for name in arms])
        ax.set_title(split, fontsize=11)
    panels[0].set_ylabel("low end: mean of Y - X,\nstudent minus control [nats]")
    fig.suptitle(question)
    return fig


def seeds_in_words(rows: pd.DataFrame) -> list[str]:
    """Each setting and split of `seed_figure`: mean, 95 % t interval and n of the low end beyond the control."""
    words = []
    for (split, name), part in rows.groupby(["split", "name"], sort=False):
        mean, half = t_interval(part.low_beyond)
        words.append(f"{split}, {name}: {mean:+.3f} ± {half:.3f} (n = {len(part)})")
    return words


def gain_panel(ax: Axes, rows: pd.DataFrame, arms: Mapping[str, str]) -> None:
    """Accuracy gain against depth below the control on train, a point per student; hollow at tau 1.

    Args:
        ax: where it is drawn.
        rows: with the columns name, split, tau, gain and low_beyond of `stored.table`.
        arms: name -> a key of ARMS, in the order drawn; names that begin with "teacher" are drawn large.
    """
    part = rows[rows.split == "train"]
    for name, arm in arms.items():
        one, look = part[part.name == name], style(arm)
        hollow = {"facecolors": "none", "edgecolors": look.pop("color")} if (one.tau == 1).all() else {}
        size = 110 if name.startswith("teacher") else 45
        ax.scatter(-one.low_beyond, one.gain * 100, s=size, label=name, **look, **hollow)
    ax.axhline(0, color="0.4", linestyle="--", linewidth=1)
    ax.set_xlabel("depth below the control, train, low end [nats]")
    ax.set_ylabel("test accuracy over ERM's [points]")
    ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1))
