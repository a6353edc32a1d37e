"""The house's figures: DataFrame or logits in, Axes out; one color and one marker per method."""

import base64
import io
import platform
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from kdnb import __version__, files, paths
from kdnb.analysis import table_html
from kdnb.analysis.ledger import BESIDE, METRICS
from kdnb.experiment.arms import ALL, ARMS
from kdnb.plain import version_of

PALETTE = (  # seaborn's colorblind set in its order, darkened until each mark has 3:1 on white
    "#0C5D97", "#C67200", "#008C61", "#BC4D00", "#C870B2", "#C5814C", "#EF4BCB", "#919191", "#8E9823", "#0098DD",
)  # fmt: skip
METHOD_COLORS = {
    "ERM": PALETTE[0],
    "LS": PALETTE[1],
    "KD": PALETTE[2],
    "Self-KD": PALETTE[9],
    "Reverse KD": PALETTE[4],
    "Teacher-free KD": PALETTE[5],
}
METHOD_MARKERS = {"ERM": "o", "LS": "s", "KD": "^", "Self-KD": "v", "Reverse KD": "D", "Teacher-free KD": "P"}
TEACHER_COLOR = PALETTE[7]


def theme() -> None:
    """seaborn's theme with the house's colors, the same everywhere."""
    sns.set_theme(context="notebook", style="ticks", palette=list(PALETTE))
    plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 12})


def start(profile: str) -> None:
    """First line of every notebook: theme, tables, and one line with versions, profile and where runs lie."""
    theme()
    table_html.escape_in_cells()
    named = {"kdnb": __version__, **{name: version_of(name) for name in ("torch", "transformers", "pandas")}}
    packages = " · ".join(f"{name} {told}" for name, told in named.items())
    print(f"{packages} · Python {platform.python_version()} · profile {profile} · runs in {paths.RUNS}")


def method_of(arm: str) -> str:
    """The key of METHOD_COLORS for an arm."""
    name = ALL[arm].name
    return name if name in METHOD_COLORS else {"erm": "ERM", "ls": "LS"}.get(ALL[arm].method, "KD")


def style(arm: str) -> dict:
    """Color and marker of an arm, as keyword arguments."""
    method = method_of(arm)
    return {"color": METHOD_COLORS[method], "marker": METHOD_MARKERS[method]}


def save(  # noqa: PLR0913  (what every figure of every notebook gives)
    figure: Figure, notebook: str, name: str, data: pd.DataFrame, alt: str, caption: str = ""
):
    """Save as PNG with the plotted data as CSV beside it; returns the picture with its alt text for the cell.

    Files: outputs/figures/<notebook>__<name>.png and .csv.

    Args:
        figure: it is closed here.
        notebook: how the names of its files begin.
        name: how they go on.
        data: what is plotted.
        alt: what is seen, in a sentence or two.
        caption: printed below the figure: task, profile, rows and seeds (`tables.Study.caption`), or a word on where
            the data come from.
    Raises:
        ValueError: alt is blank.
    """
    from IPython.display import Image

    if not alt.strip():
        raise ValueError(f"figure {name}: alt text is missing")
    stem = re.sub(r'[\\:*?"<>|]', "-", f"{notebook}__{name}")  # "own:..." has whatever a user's file is called
    path, beside = (paths.inside(paths.FIGURES, f"{stem}.{kind}") for kind in ("png", "csv"))
    figure.draw_without_rendering()  # lays it out, once; what savefig calls "tight" would do so twice more
    figure.set_layout_engine(None)
    seen = figure.get_tightbbox()  # [inches], tick labels included, however long they are
    if caption:
        below = seen.y0 / figure.get_figheight() - 0.03
        text = figure.text(0.5, below, caption, ha="center", va="top", fontsize=9, color="0.35")
        seen = Bbox.union([seen, text.get_window_extent().transformed(figure.dpi_scale_trans.inverted())])
    options = {"dpi": 150, "bbox_inches": seen.padded(0.1), "metadata": {"Description": alt}}
    files.write_atomically(path, lambda file: figure.savefig(file, format="png", **options))
    files.write_atomically(beside, files.csv_bytes(data))
    plt.close(figure)
    return Image(filename=str(path), alt=alt, width=int(figure.get_figwidth() * 100))


def png(figure: Figure) -> str:
    """A figure as the text of a PNG, for an image that stands in the page; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130, bbox_inches="tight")
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def entropy_axis(ax: Axes, num_classes: int, which: str = "y", label: str = "mean posterior entropy [nats]") -> None:
    """0 to log K, with log K dashed: the largest entropy there is.

    Args:
        ax: whose axis.
        num_classes: K.
        which: "x" or "y".
        label: what it says, above a line that names log K.
    """
    top = np.log(num_classes)
    draw = ax.axhline if which == "y" else ax.axvline
    draw(top, color="0.4", linestyle="--", linewidth=1)
    label = f"{label}\n(dashed: log {num_classes} = {top:.3f})"
    ax.set(**{f"{which}lim": (0, top * 1.08), f"{which}label": label})


def seed_dots(
    table: pd.DataFrame, metric: str, ax: Axes, published: pd.DataFrame | None = None, scale: float = 1
) -> Axes:
    """Per arm: a dot per seed, mean ± sd beside them, and the published value as a hollow diamond.

    A degenerate run (see `metrics.is_degenerate`) is a dot like the others, crossed out.

    Args:
        table: columns arm, seed, the metric, and degenerate if known.
        metric: the column drawn.
        ax: where.
        published: columns arm, published; None draws no diamond.
        scale: of the values, 100 for percent.
    """
    arms = list(dict.fromkeys(table.arm))
    printed = published.set_index("arm").published if published is not None else {}
    for place, arm in enumerate(arms):
        values = table[table.arm == arm][metric].to_numpy() * scale
        spots = place + (np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(1)) - 0.12
        ax.scatter(spots, values, s=24, linewidths=0, **style(arm))
        if "degenerate" in table and (crossed := table[table.arm == arm].degenerate.to_numpy(bool)).any():
            ax.scatter(spots[crossed], values[crossed], s=60, color="black", marker="x", linewidths=1.2, zorder=3)
        sd = values.std(ddof=1) if len(values) > 1 else 0
        ax.errorbar(place + 0.18, values.mean(), yerr=sd, capsize=4, markersize=8, **style(arm))
        if np.isfinite(printed.get(arm, np.nan)):
            ax.scatter(place + 0.36, printed[arm] * scale, marker="D", s=50, facecolors="none", edgecolors="black")
    names = [f"{ARMS[arm].name}\nn = {int((table.arm == arm).sum())}" for arm in arms]
    ax.set_xticks(range(len(arms)), names, rotation=30, ha="right")
    ax.set_xlim(-0.6, len(arms) - 0.3)
    return ax


def entropy_curves(curves: pd.DataFrame, ax: Axes, column: str = "test_entropy") -> Axes:
    """Entropy over training (the paper's Figures 1 and 2): mean over seeds with a band of one sd.

    Args:
        curves: columns arm, seed, step and the entropy column.
        ax: where.
        column: the entropy column.
    """
    arms = list(dict.fromkeys(curves.arm))
    palette = {arm: METHOD_COLORS[method_of(arm)] for arm in arms}
    markers = {arm: METHOD_MARKERS[method_of(arm)] for arm in arms}
    sns.lineplot(
        curves,
        x="step",
        y=column,
        hue="arm",
        style="arm",
        palette=palette,
        markers=markers,
        dashes=False,
        errorbar="sd",
        ax=ax,
        markersize=7,
    )
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles, [ARMS[arm].name for arm in labels], frameon=False)
    ax.set_xlabel("optimiser step")
    return ax


def inheritance(cells: pd.DataFrame, ax: Axes) -> Axes:
    """Student entropy against teacher entropy, a point per KD run; columns arm, teacher_entropy, student_entropy."""
    for arm, rows in cells.groupby("arm", sort=False):
        ax.scatter(rows.teacher_entropy, rows.student_entropy, s=50, label=ARMS[arm].name, **style(arm))
    ends = [0, max(cells.teacher_entropy.max(), cells.student_entropy.max()) * 1.15]
    ax.axline((0, 0), slope=1, color="0.3", linewidth=1, linestyle="--")
    ax.set(xlim=ends, ylim=ends, aspect="equal", xlabel="teacher's entropy [nats]", ylabel="student's entropy [nats]")
    ax.legend(frameon=False)
    return ax


def changes(rows: pd.DataFrame, fig: Figure) -> Figure:
    """What each soft target does to the model it trains: a row a task and arm, side by side entropy, NLL and accuracy.

    Args:
        rows: of `kdnb.analysis.ledger.against_erm`, of one task or several, one after the other.
        fig: where.
    """
    shown = ("entropy", *BESIDE)
    tasks = rows.task[rows.metric == "entropy"]
    starts = np.flatnonzero(tasks.ne(tasks.shift()))
    axes = fig.subplots(1, len(shown), sharey=True)
    for ax, metric in zip(axes, shown, strict=True):
        part, (title, unit) = rows[rows.metric == metric], METRICS[metric]
        scale = 100 if unit == "points" else 1
        for y, row in enumerate(part.itertuples()):
            span = [[scale * (row.effect - row.low)], [scale * (row.high - row.effect)]] if row.n > 1 else None
            ax.errorbar(scale * row.effect, y, xerr=span, capsize=3, markersize=6, **style(row.arm))
        for start in starts[1:]:
            ax.axhline(start - 0.5, color="0.85", linewidth=1)
        ax.axvline(0, color="0.3", linewidth=1, linestyle="--")
        ax.set_yticks(range(len(part)), part.name)
        ax.set(ylim=(len(part) - 0.5, -0.5), title=title, xlabel=f"minus ERM [{unit}]")
    for start in starts:
        place = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "weight": "bold"}
        axes[-1].annotate(tasks.iloc[start], (1, start), xycoords=("axes fraction", "data"), **place)
    fig.suptitle("What does each soft target do to the model it trains?")
    return fig
