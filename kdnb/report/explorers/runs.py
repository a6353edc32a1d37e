"""Every stored classification run as a point: task, method, entropy, accuracy, NLL. Reads configs and metrics alone."""

from dataclasses import fields

import numpy as np
import pandas as pd

from kdnb.analysis.figures import METHOD_COLORS, METHOD_MARKERS
from kdnb.core import store
from kdnb.core.config import RunConfig, flat
from kdnb.core.methods import METHODS, known, used_settings
from kdnb.errors import NoRuns
from kdnb.experiment.records import read_if_whole
from kdnb.experiment.tables import arm_of
from kdnb.report.explorers import svg
from kdnb.report.explorers.looks import Frame, Look, Strip, image

ALWAYS = {"lr", "epochs"}  # settings that are told of every run
WEIGHTS = {"alpha", "tau"}  # and of every run that has a use for them
ELSEWHERE = {"task", "profile", "data", "method", "student", "seed", "order_seed", "teacher_run"}
ELSEWHERE |= {"history_points", "history_rows"}  # how often a curve is sampled changes no logit
OF_ARM = {"kd_standard": "Standard KD", "kd_self": "Self-KD", "kd_reverse": "Reverse KD"}
OTHER_KD = "KD, other teacher"
STYLES = {  # method -> color, marker; what is not one of the comparison's has a color of its own and a shape again
    "ERM": (METHOD_COLORS["ERM"], METHOD_MARKERS["ERM"]),
    "LS": (METHOD_COLORS["LS"], METHOD_MARKERS["LS"]),
    "Standard KD": (METHOD_COLORS["KD"], METHOD_MARKERS["KD"]),
    **{name: (METHOD_COLORS[name], METHOD_MARKERS[name]) for name in ("Self-KD", "Reverse KD", "Teacher-free KD")},
}
OTHER_COLOR, OTHER_MARKER = "#5f6b7a", "o"
MEASURES = {"accuracy": "test accuracy", "nll": "test NLL [nats]"}  # against entropy
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 780, 400, 64, 180, 16, 48  # of the picture [pixels]


def method_of(config: RunConfig) -> str:
    """What a run's method is called here: KD by its teacher, the others by their printed name."""
    if config.method == "kd":
        return OF_ARM.get(arm_of(config), OTHER_KD)
    known(config.method)  # a study's method is read from its class
    return METHODS[config.method].title


def settings_of(config: RunConfig) -> str:
    """What of a config is not said elsewhere: the method's own settings, and what is not at its default."""
    own = used_settings(config)
    defaults = {**{field.name: field.default for field in fields(RunConfig)}, **own}
    words = []
    for name, value in flat(config).items():
        usual = value == defaults.get(name) and name not in ALWAYS | (WEIGHTS & set(own))
        if name not in ELSEWHERE and not usual:
            words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(words)


def table(profile: str = "") -> pd.DataFrame:
    """A row per stored classification run, by name; damaged ones are reported on stderr and left out.

    Columns: run_id, task, profile, method, student, seed, settings, teacher, and of the test split entropy [nats],
    accuracy in [0, 1] and nll [nats].

    Args:
        profile: whose runs; "" for all.
    """
    rows = []
    for run_id in store.stored_ids():
        config = store.config_of(run_id)
        if config is None or profile not in ("", config.profile):
            continue
        if not (found := read_if_whole(store.read_metrics, run_id)):
            continue
        test = found[0]["test"]
        named = {name: getattr(config, name) for name in ("task", "profile", "student", "seed")}
        named |= {"method": method_of(config), "settings": settings_of(config), "teacher": config.teacher_run}
        rows.append({"run_id": run_id, **named, **{name: test[name] for name in ("entropy", *MEASURES)}})
    columns = ["run_id", "task", "profile", "method", "student", "seed", "settings", "teacher", "entropy", *MEASURES]
    return pd.DataFrame(rows, columns=columns)


def sentences(row: pd.Series) -> str:
    """A run in two sentences."""
    teacher = f", teacher {row.teacher}" if row.teacher else ""
    return (
        f"{row.run_id}: {row.method}, {row.student}, seed {row.seed}, {row.settings}{teacher}. "
        f"Entropy {row.entropy:.3f} nats, accuracy {100 * row.accuracy:.1f} %, NLL {row.nll:.3f} nats."
    )


def draw(runs: pd.DataFrame, measure: str, alt: str, chosen: str | None = None) -> str:
    """Entropy and another measure of some runs as SVG.

    Args:
        runs: rows of `table`, at least one.
        measure: a key of MEASURES.
        alt: what is seen.
        chosen: run_id of the one to be ringed, "" for none, and marks tell of their runs when they are pointed at; None
            where nothing points.
    """
    scale = 100 if measure == "accuracy" else 1
    xs, ys = runs.entropy.to_numpy(), scale * runs[measure].to_numpy()
    across, up = ticks(xs), ticks(ys)
    x = LEFT + (WIDTH - LEFT - RIGHT) * (xs - across[0]) / (across[-1] - across[0])
    y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (ys - up[0]) / (up[-1] - up[0])
    parts = _axes(across, up, f"{MEASURES[measure]}{' [%]' if scale == 100 else ''}") + _legend(runs)
    for place in np.argsort(runs.method.isin(STYLES), kind="stable"):  # the comparison's own lie on top
        row = runs.iloc[place]
        said = "" if chosen is None else sentences(row)
        parts.append(_mark(row.method, (x[place], y[place]), said))
        if row.run_id == chosen:
            ring = f'<circle cx="{x[place]:.1f}" cy="{y[place]:.1f}" r="12" fill="none" stroke="{svg.INK}"'
            parts.append(f'{ring} stroke-width="2.5"/>')
    return svg.document(WIDTH, HEIGHT, parts, alt)


def _mark(method: str, at: tuple[float, float], said: str = "") -> str:
    color, marker = STYLES.get(method, (OTHER_COLOR, OTHER_MARKER))
    return svg.mark(marker, at, color, filled=method in STYLES, said=said)


def _legend(runs: pd.DataFrame) -> list[str]:
    """A mark and a name for each method that is there."""
    there = set(runs.method)
    names = [name for name in STYLES if name in there] + ["other methods"] * bool(there - set(STYLES))
    parts, x = [], WIDTH - RIGHT + 22
    for i, name in enumerate(names):
        parts += [_mark(name, (x, TOP + 10 + 24 * i)), svg.words((x + 14, TOP + 15 + 24 * i), name)]
    return parts


def ticks(values: np.ndarray) -> np.ndarray:
    """Round numbers from below the least to above the largest value, three to eight of them."""
    low, high = float(np.min(values)), float(np.max(values))
    reach = max(high - low, 1e-3)
    step = next(m * 10.0**e for e in range(-5, 6) for m in (1, 2, 5) if m * 10.0**e * 6 >= reach)
    first, last = np.floor(low / step), np.ceil(high / step)
    return step * np.arange(first, max(last, first + 1) + 1)


def _axes(across: np.ndarray, up: np.ndarray, title: str) -> list[str]:
    """Grid, numbers and the axes' titles."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for i, value in enumerate(across):
        x = LEFT + (right - LEFT) * i / (len(across) - 1)
        parts += [svg.line(np.array([[x, TOP], [x, bottom]]), svg.LINE, 0.6)]
        parts += [svg.words((x, bottom + 18), f"{value:.4g}", "middle", svg.SOFT)]
    for i, value in enumerate(up):
        y = bottom - (bottom - TOP) * i / (len(up) - 1)
        parts += [svg.line(np.array([[LEFT, y], [right, y]]), svg.LINE, 0.6)]
        parts += [svg.words((LEFT - 8, y + 4), f"{value:.4g}", "end", svg.SOFT)]
    parts.append(svg.words(((LEFT + right) / 2, HEIGHT - 10), "mean test entropy [nats]", "middle"))
    middle = (TOP + bottom) / 2
    turned = f'<g transform="translate(14 {middle:g}) rotate(-90)">{svg.words((0, 0), title, "middle")}</g>'
    return [*parts, turned]


def alt(runs: pd.DataFrame, task: str, measure: str) -> str:
    """What `draw` shows, in words."""
    means = runs.groupby("method", sort=False)[["entropy", measure]].mean()
    words = "; ".join(f"{name} {row.entropy:.3f}, {row[measure]:.3f}" for name, row in means.iterrows())
    return f"{len(runs)} runs of {task}, whatever their settings: {MEASURES[measure]} against entropy. Means: {words}"


def strip(runs: pd.DataFrame, most: int = 3) -> Strip:
    """The tasks with most runs, accuracy against entropy.

    Args:
        runs: of `table`.
        most: tasks.
    """
    frames = []
    for task in runs.task.value_counts().index[:most]:
        of_task = runs[runs.task == task]
        text = alt(of_task, task, "accuracy")
        frames.append(Frame(text, image(draw(of_task, "accuracy", text), text)))
    return Strip(f"All runs of {len(frames)} tasks, without a kernel", tuple(frames))


def explorer(profile: str, task: str = "") -> Look:
    """Choices of task, method, seed and measure; a list of the runs that are left, the chosen one ringed and told of.

    Args:
        profile: whose runs.
        task: the first one looked at; "" for the one with most runs.
    Raises:
        NoRuns: there are none.
    """
    import ipywidgets as widgets

    runs = table(profile)
    if runs.empty:
        raise NoRuns(f"no runs at profile {profile}: make them with `kdnb compare rt --profile {profile}`")
    tasks = runs.task.value_counts().index.tolist()
    of_task = widgets.Dropdown(options=tasks, value=task if task in tasks else tasks[0], description="task")
    method = widgets.Dropdown(options=["all", *sorted(set(runs.method))], description="method")
    seed = widgets.Dropdown(options=["all", *sorted(set(runs.seed))], description="seed")
    measure = widgets.Dropdown(options=[(title, name) for name, title in MEASURES.items()], description="against")
    names, view = widgets.Select(options=[], rows=6, description="run"), widgets.HTML()
    names.layout.width = "34em"

    def left() -> pd.DataFrame:
        rows = runs[runs.task == of_task.value]
        rows = rows if method.value == "all" else rows[rows.method == method.value]
        return rows if seed.value == "all" else rows[rows.seed == seed.value]

    def choose(_change: object = None) -> None:
        names.options = left().run_id.tolist()  # chooses none of them
        if names.options:
            names.index = 0
        else:
            show()

    def show(_change: object = None) -> None:
        visible = left()
        if visible.empty:
            view.value = "<p>No run is left.</p>"
            return
        chosen = visible[visible.run_id == names.value]
        picture = draw(visible, measure.value, alt(visible, of_task.value, measure.value), names.value or "")
        view.value = picture + "".join(f"<p>{sentences(row)}</p>" for _, row in chosen.iterrows())

    for one in (of_task, method, seed):
        one.observe(choose, "value")
    for one in (measure, names):
        one.observe(show, "value")
    choose()
    rows = [widgets.HBox([of_task, method]), widgets.HBox([seed, measure]), names, view]
    return Look(widgets.VBox(rows), strip(runs))
