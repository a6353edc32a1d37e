"""Single test examples: text or picture, label, the posterior of every arm and its teacher, the most telling first.

An arm is looked at by one of its networks, that of one seed: an entropy is that of the posterior beside it.
"""

import base64
import html
import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from kdnb.catalog import TASKS
from kdnb.core import metrics, store
from kdnb.core.store import Run
from kdnb.data import splits
from kdnb.data.splits import Split
from kdnb.errors import DamagedRun, HubUnreachable, MissingAsset
from kdnb.experiment.arms import ARMS, NAMES
from kdnb.experiment.tables import Study
from kdnb.report.explorers.looks import Frame, Look, Strip
from kdnb.studies.deviations.scatter import teacher_class_pair

SHOWN = ("rt", "digits")  # tasks whose examples a page may show; of the others the row is named
ORDERS = {  # what examples are sorted by -> how it is told of an arm
    "change": "change of entropy",
    "deviation": "deviation from the teacher",
    "surprise": "surprise",
}
MEANINGS = {
    "change": "entropy minus that of ERM on the same student [nats]",
    "deviation": "the student's log odds of the teacher's class minus the teacher's own [nats]",
    "surprise": "-log p of the label [nats]",
}
COLUMNS = {"entropy": "H", "change": "ΔH", "deviation": "deviation", "surprise": "surprise"}  # of a card
FIRST = "kd_standard"  # the arm that is looked at, where there is one
MOST = 50  # examples of an order that the widget goes through
MOST_CLASSES = 10  # of a posterior that are shown, the likeliest, and the label's
LONGEST = 600  # characters of a text that are shown
_SHADE = "#56b4e9"  # behind a probability


@dataclass(frozen=True)
class Examples:
    """The test examples of a study, seen by the networks of one seed.

    Attributes:
        study: runs of one task at one profile.
        seed: whose networks.
    """

    study: Study
    seed: int

    @cached_property
    def runs(self) -> dict[str, Run]:
        """arm -> its run, in the order of ARMS."""
        of_seed = self.study.table[self.study.table.seed == self.seed]
        return {arm: self.study.run(arm, self.seed) for arm in ARMS if arm in set(of_seed.arm)}

    @cached_property
    def teachers(self) -> dict[str, Run]:
        """arm -> its teacher's run, where it has one that is stored."""
        teachers = {}
        for arm, run in self.runs.items():
            name = run.config.teacher_run
            if name in self.study.runs:
                teachers[arm] = self.study.runs[name]
            elif name:
                try:
                    teachers[arm] = store.load(name)
                except (FileNotFoundError, DamagedRun):
                    continue
        return teachers

    @cached_property
    def split(self) -> Split | None:
        """The examples themselves; None where they may not be shown, are not here, or are of another cut."""
        if self.study.task.partition("@")[0] not in (TASKS if self.study.profile == "toy" else SHOWN):
            return None
        try:
            data = splits.load(self.study.task, self.study.profile)
        except (MissingAsset, HubUnreachable):
            return None
        of_runs = {run.config.data for run in self.runs.values()}
        return data.splits["test"] if of_runs == {data.fingerprint} else None

    @property
    def labels(self) -> np.ndarray:
        """(N,)."""
        return next(iter(self.runs.values())).labels["test"]

    @property
    def names(self) -> list[str]:
        """The classes in label order, numbers where the task is not one of TASKS."""
        task, K = TASKS.get(self.study.task.partition("@")[0]), self.study.num_classes
        return list(task.labels) if task and task.num_classes == K else [str(k) for k in range(K)]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per arm and test example.

        Columns: arm, row, entropy, change, deviation, surprise [nats], see MEANINGS; nan where there is no ERM of
        the same student, or no teacher.
        """
        return pd.concat([self._of_arm(arm) for arm in self.runs], ignore_index=True)

    def _of_arm(self, arm: str) -> pd.DataFrame:
        logits, base = self.runs[arm].logits["test"], self.runs.get(f"erm_{ARMS[arm].student}")
        entropy = metrics.entropies(logits)
        change = entropy - metrics.entropies(base.logits["test"]) if base else np.full(len(entropy), np.nan)
        deviation = np.full(len(entropy), np.nan)
        if arm in self.teachers:
            x, y = teacher_class_pair(self.teachers[arm].logits["test"], logits)
            deviation = y - x
        values = {"entropy": entropy, "change": change, "deviation": deviation}
        values["surprise"] = metrics.per_example("nll", logits, self.labels)
        return pd.DataFrame({"arm": arm, "row": np.arange(len(entropy)), **values})

    def ranked(self, arm: str, order: str) -> list[int]:
        """Rows of the test split, the largest first: by absolute value but for surprise; [] where it is not defined.

        Args:
            arm: one of `runs`.
            order: a key of ORDERS.
        """
        values = self.table[self.table.arm == arm].set_index("row")[order].abs().dropna()
        return values.sort_values(ascending=False, kind="stable").index.tolist()

    def posterior(self, arm: str) -> np.ndarray:
        """(N, K)."""
        return metrics.posterior(self.runs[arm].logits["test"])

    def card(self, row: int) -> str:
        """An example as HTML: what it is, its label, and a line for each arm."""
        facts, label = self.table[self.table.row == row].set_index("arm"), self.names[self.labels[row]]
        posteriors = {arm: self.posterior(arm)[row] for arm in self.runs}
        likely = np.argsort(-np.max(list(posteriors.values()), axis=0), kind="stable")[:MOST_CLASSES]
        classes = sorted({*likely.tolist(), int(self.labels[row])})
        heads = ["", *(self.names[k] for k in classes), *COLUMNS.values()]
        lines = []
        for arm, p in posteriors.items():
            shares = "".join(_share(p[k]) for k in classes)
            numbers = "".join(_number(facts.loc[arm, name], name) for name in COLUMNS)
            lines.append(f"<tr><th style='text-align: left'>{NAMES[arm]}</th>{shares}{numbers}</tr>")
        top = "".join(f"<th>{html.escape(head)}{' ✓' if head == label else ''}</th>" for head in heads)
        table = f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        what = f"<p>label: <strong>{html.escape(label)}</strong> (test row {row}, seed {self.seed})</p>"
        return f'{self._itself(row)}{what}<div style="overflow-x: auto">{table}</div>'

    def _itself(self, row: int) -> str:
        if self.split is None:
            return f"<p><em>The examples of {html.escape(self.study.task)} themselves are not shown here.</em></p>"
        if self.split.images is not None:
            return picture(self.split.images[row], f"test image {row}")
        texts = [self.split.text[row], *([self.split.text2[row]] if self.split.text2 else [])]
        return "".join(f"<blockquote>{html.escape(shortened(text))}</blockquote>" for text in texts)


def shortened(text: str) -> str:
    """At most LONGEST characters of a text."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _share(p: float) -> str:
    """A probability as a cell, shaded by as much; nothing is printed below half a percent."""
    style = f"background: linear-gradient(to right, {_SHADE} {100 * p:.0f}%, transparent 0)"
    return f'<td style="{style}">{f"{p:.2f}" if p >= 0.005 else ""}</td>'


def _number(value: float, name: str) -> str:
    """A measure as a cell, differences with their sign."""
    text = "–" if np.isnan(value) else f"{value:+.3f}" if name in ("change", "deviation") else f"{value:.3f}"
    return f'<td style="text-align: right">{text}</td>'


def picture(image: np.ndarray, alt: str) -> str:
    """An image (C, H, W) uint8 of a task as HTML, about a hundred pixels wide, its brightest level white.

    Args:
        image: one or three channels.
        alt: what is seen.
    """
    from PIL import Image

    pixels = image.astype(np.float64) / max(int(image.max()), 1) * 255
    grey = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
    buffer = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).resize((112, 112), Image.Resampling.NEAREST).save(buffer, "png")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" width="112">'


def seeds(study: Study) -> list[int]:
    """Seeds with more than one arm, those with most arms first."""
    arms = study.table[study.table.arm.isin(ARMS)].groupby("seed").arm.nunique()
    return arms[arms > 1].sort_values(ascending=False, kind="stable").index.tolist()


def arms(examples: Examples) -> list[str]:
    """The arms that differ from ERM, the one first looked at at their head."""
    other = [arm for arm in examples.runs if ARMS[arm].method != "erm"]
    return sorted(other, key=lambda arm: arm != FIRST) or list(examples.runs)


def strip(examples: Examples, most: int = 2) -> Strip:
    """The first examples of each order for the arm that is looked at.

    Args:
        examples: of one seed.
        most: of each order.
    """
    arm, frames = arms(examples)[0], []
    for order, title in ORDERS.items():
        for place, row in enumerate(examples.ranked(arm, order)[:most], start=1):
            frames.append(Frame(f"{NAMES[arm]}, {title} ({MEANINGS[order]}), number {place}:", examples.card(row)))
    return Strip(f"{len(frames)} examples, without a kernel; picked because they differ, not typical", tuple(frames))


def browser(study: Study) -> Look:
    """Choices of seed, arm and order, and a slider through the examples.

    Args:
        study: runs of one task at one profile; where no seed has two arms, there is a word of that instead.
    """
    import ipywidgets as widgets

    of_seeds = {seed: Examples(study, seed) for seed in seeds(study)}
    if not of_seeds:
        text = f"No seed of {study.task} ({study.profile}) has two arms to compare."
        return Look(widgets.HTML(html.escape(text)), Strip(text, ()))
    first = next(iter(of_seeds.values()))
    view = widgets.HTML()
    seed = widgets.Dropdown(options=sorted(of_seeds), value=first.seed, description="seed")
    arm = widgets.Dropdown(options=[(NAMES[name], name) for name in arms(first)], description="arm")
    order = widgets.Dropdown(options=[(title, name) for name, title in ORDERS.items()], description="sorted by")
    number = widgets.IntSlider(1, min=1, max=MOST, description="number", continuous_update=False)

    def show(_change: object = None) -> None:
        examples = of_seeds[seed.value]
        rows = examples.ranked(arm.value, order.value) if arm.value in examples.runs else []
        if not rows:
            view.value = f"<p>{NAMES[arm.value]} at seed {seed.value} has no {ORDERS[order.value]}.</p>"
            return
        row = rows[min(number.value, len(rows)) - 1]
        said = f"<p>{ORDERS[order.value]}: {MEANINGS[order.value]}; largest first, of {len(rows)} test examples.</p>"
        view.value = said + examples.card(row)

    for one in (seed, arm, order, number):
        one.observe(show, "value")
    show()
    return Look(widgets.VBox([widgets.HBox([seed, arm]), widgets.HBox([order, number]), view]), strip(first))
