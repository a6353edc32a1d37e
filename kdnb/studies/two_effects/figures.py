"""The figures of this study: cells, effects, doses and placebos. DataFrames in, Axes out."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb.analysis.figures import METHOD_COLORS, METHOD_MARKERS
from kdnb.analysis.statistics import t_interval
from kdnb.experiment.tables import Study
from kdnb.studies.two_effects import cells


def _filled(method: str) -> dict[str, Any]:
    color = METHOD_COLORS[method]
    return {"marker": METHOD_MARKERS[method], "color": color, "mfc": color}


def _hollow(method: str) -> dict[str, Any]:
    return {**_filled(method), "mfc": "white"}


CELL_STYLES = {  # whose label is the color; filled what has a name, hollow what was made for the comparison
    cells.HUMAN_HARD: _filled("ERM"),
    cells.HUMAN_SOFT: _hollow("ERM"),
    cells.TEACHER_HARD: _hollow("KD"),
    cells.TEACHER_SOFT: _filled("KD"),
    cells.LS: _filled("LS"),
}
TASK_MARKERS = "osD^v"  # a line a task
EFFECT_STYLES = {
    "softness": {"marker": "o", "color": "black", "mfc": "black"},
    "teacher's labels": {"marker": "s", "color": "black", "mfc": "white"},
    "LS minus ERM": _filled("LS"),
}
PLACEBO_STYLES = {  # in the order drawn: what is not a teacher, what has lost the instance, whole models
    "ERM": _filled("ERM"),
    "LS": _filled("LS"),
    "uniform": _hollow("LS"),
    "class_mean": _hollow("KD"),
    "shuffle": _hollow("KD"),
    cells.OTHER_SEED: _hollow("Self-KD"),
    cells.OWN_SEED: _filled("Self-KD"),
    cells.STANDARD: _filled("KD"),
}
PLACEBO_WORDS = {"class_mean": "class means", "shuffle": "shuffled in class"}
SIDE = 0.13  # of a mean, from where the seeds' dots stand


def four_cells(table: pd.DataFrame, ax: Axes) -> Axes:
    """The two by two as two lines from hard to soft, LS beside them: a dot and a thin line a seed, mean ± sd.

    Args:
        table: of `cells.two_by_two`.
        ax: where.
    """
    for label, pair in {"the label": cells.TWO_BY_TWO[:2], "the teacher's argmax": cells.TWO_BY_TWO[2:]}.items():
        color = CELL_STYLES[pair[0]]["color"]
        ax.plot([0, 1], table[list(pair)].T.to_numpy(), color=color, linewidth=0.8, alpha=0.35)
        ax.plot([0, 1], table[list(pair)].mean(), color=color, linewidth=2, label=f"names {label}")
    places = {cells.HUMAN_HARD: 0, cells.HUMAN_SOFT: 1, cells.TEACHER_HARD: 0, cells.TEACHER_SOFT: 1, cells.LS: 2}
    for cell, place in places.items():
        values = table[cell].dropna()
        if len(values):
            shift = SIDE if cell.startswith("teacher") else -SIDE
            _dots_and_mean(ax, values, place, shift, CELL_STYLES[cell])
    ax.set_xticks(range(3), ["hard", "as soft as\nthe teacher", "label\nsmoothing"])
    ax.set_xlim(-0.4, 2.4)
    ax.legend(frameon=False, title="target")
    return ax


def two_by_twos(found: dict[str, Study], figure: Figure) -> Figure:
    """The two by two of several tasks side by side, one legend below.

    Args:
        found: by task, runs with every cell.
        figure: where; its layout constrained.
    """
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for ax, (task, study) in zip(axes, found.items(), strict=True):
        table = cells.two_by_two(study)
        four_cells(table, ax).get_legend().remove()
        learnt = cells.teachers(study).train_accuracy[table.index].mean()
        ax.set_title(f"{task}: teacher's train accuracy {learnt:.0%}", fontsize=8.5)
        ax.set_xticks(range(3), ["hard", "as soft as\nthe teacher", "LS"], fontsize=9)
        ax.set_ylabel(f"test entropy [nats], {len(table)} seeds" if ax is axes[0] else "")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9, title="target", title_fontsize=9)
    return figure


def _dots_and_mean(ax: Axes, values: pd.Series, place: float, shift: float, style: dict[str, Any]) -> None:
    spots = place + shift / 2 + np.zeros(len(values))
    look = {"marker": style["marker"], "edgecolors": style["color"], "facecolors": style["mfc"]}
    ax.scatter(spots, values, s=20, zorder=3, **look)
    sd = values.std(ddof=1) if len(values) > 1 else 0
    ax.errorbar(place + shift, values.mean(), yerr=sd, capsize=4, markersize=8, linestyle="", zorder=4, **style)


def effect_intervals(tables: dict[str, pd.DataFrame], ax: Axes, names: tuple[str, ...]) -> Axes:
    """Effects with their 95 % t intervals, a dot a seed beside them, one line of the axis per group.

    Args:
        tables: what stands on the axis -> a table of `cells.two_by_two`.
        ax: where.
        names: of `cells.EFFECTS`.
    """
    for row, table in enumerate(tables.values()):
        for name in names:
            values, place = cells.EFFECTS[name](table).dropna(), row + 0.3 * (names.index(name) - (len(names) - 1) / 2)
            ax.scatter(values, np.full(len(values), place + 0.1), s=10, color="0.5", linewidths=0)
            _with_interval(ax, values, place, name, label=name if row == 0 else None)
    ax.axvline(0, color="0.4", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(tables)), list(tables))
    ax.set_ylim(len(tables) - 0.4, -0.6)
    ax.legend(frameon=False)
    return ax


def _with_interval(ax: Axes, values: pd.Series, place: float, name: str, label: str | None) -> None:
    mean, half = t_interval(values)
    ax.errorbar(
        mean,
        place,
        xerr=half if np.isfinite(half) else 0.0,
        capsize=4,
        linestyle="",
        label=label,
        **EFFECT_STYLES[name],
    )


def effects_along(rows: pd.DataFrame, x: str, ax: Axes, names: tuple[str, ...]) -> Axes:
    """Effects with their 95 % t intervals against a number.

    Args:
        rows: of `cells.effects`, with a column x beside.
        x: its name.
        ax: where.
        names: of `cells.EFFECTS`.
    """
    for name in names:
        part = rows[rows.of == name]
        half = (part.high - part.effect).where(np.isfinite(part.high), 0.0)
        ax.errorbar(part[x], part.effect, yerr=half, capsize=4, linewidth=1.5, label=name, **EFFECT_STYLES[name])
    ax.axhline(0, color="0.4", linestyle="--", linewidth=1)
    return ax


def effect_by_task(rows: pd.DataFrame, x: str, name: str, ax: Axes) -> Axes:
    """One effect with its 95 % t intervals against a number, a line a task.

    Args:
        rows: of `cells.effects`, with columns `task` and x beside.
        x: its name.
        name: of `cells.EFFECTS`.
        ax: where.
    """
    of_tasks = rows[rows.of == name].groupby("task", sort=False)
    for place, (task, part) in enumerate(of_tasks):
        half = (part.high - part.effect).where(np.isfinite(part.high), 0.0)
        style = {"color": f"C{place}", "marker": TASK_MARKERS[place % len(TASK_MARKERS)]}
        ax.errorbar(part[x], part.effect, yerr=half, capsize=4, linewidth=1.5, label=task, **style)
    ax.axhline(0, color="0.4", linestyle="--", linewidth=1)
    return ax


def dose_lines(rows: pd.DataFrame, ax: Axes) -> Axes:
    """The student's change of entropy against the teacher's distance on train, a line a seed, hard labels hollow.

    Args:
        rows: of `cells.dose_response`.
        ax: where.
    """
    color, marker = METHOD_COLORS["KD"], METHOD_MARKERS["KD"]
    hard = np.isinf(rows.dose)
    for _, part in rows.groupby("seed"):
        line = part.sort_values("x")
        ax.plot(line.x, line.change, color=color, linewidth=0.9, alpha=0.6)
    ax.scatter(rows.x[~hard], rows.change[~hard], color=color, marker=marker, s=30, label="logits times m", zorder=3)
    ax.scatter(rows.x[hard], rows.change[hard], s=34, marker=marker, fc="white", ec=color, label="hard", zorder=4)
    ax.axline((0, 0), slope=1, color="0.3", linewidth=1, linestyle="--", label="one to one")
    ax.axhline(rows.change[hard].mean(), color=color, linewidth=1, linestyle=":", label="hard, mean")
    ax.set_xlabel("teacher's entropy on train minus\nthe ERM student's [nats]")
    ax.set_ylabel("student's test entropy minus ERM's [nats]")
    ax.legend(frameon=False, fontsize=9)
    return ax


def by_dose(rows: pd.DataFrame, metric: str, ax: Axes, scale: float = 1) -> Axes:
    """A change against the multiplier of the teacher's logits, hard labels at the right: a dot a seed, the mean.

    Args:
        rows: of `cells.dose_response`.
        metric: one of its columns.
        ax: where.
        scale: of the values, 100 for points.
    """
    doses = sorted(rows.dose.unique())
    color, marker = METHOD_COLORS["KD"], METHOD_MARKERS["KD"]
    for place, dose in enumerate(doses):
        values = scale * rows[rows.dose == dose][metric]
        ax.scatter(np.full(len(values), place), values, color=color, marker=marker, s=12, linewidths=0)
    ax.plot(range(len(doses)), scale * rows.groupby("dose")[metric].mean(), color=color, marker=marker)
    ax.axhline(0, color="0.4", linestyle="--", linewidth=1)
    ax.set_xticks(range(len(doses)), [dose_word(dose) for dose in doses])
    ax.set_xlabel("teacher's logits times")
    return ax


def dose_word(dose: float) -> str:
    """A multiplier as printed."""
    return "hard" if np.isinf(dose) else f"{dose:g}"


def placebo_dots(table: pd.DataFrame, ax: Axes, scale: float = 1) -> Axes:
    """A metric of each placebo's students, ERM's and LS's: a dot a seed, mean ± sd; ERM's mean as a line.

    Args:
        table: of `cells.placebos`.
        ax: where.
        scale: of the values, 100 for percent.
    """
    names = [name for name in PLACEBO_STYLES if name in table]
    for place, name in enumerate(names):
        _dots_and_mean(ax, scale * table[name].dropna(), place, SIDE, PLACEBO_STYLES[name])
    if "ERM" in table:
        ax.axhline(scale * table["ERM"].mean(), color=METHOD_COLORS["ERM"], linestyle=":", linewidth=1)
    ax.set_xticks(range(len(names)), [placebo_word(name) for name in names], rotation=35, ha="right")
    return ax


def placebo_word(name: str) -> str:
    """A placebo as printed."""
    return PLACEBO_WORDS.get(name, name)
