"""The report of a comparison on a user's own data: one HTML file that says what to do, why, and how sure that is."""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, Template

from kdnb import __version__, files, paths
from kdnb.analysis import figures, statistics
from kdnb.catalog import AS_IT_IS, model_behind
from kdnb.core import metrics, store
from kdnb.core.config import RunConfig, slug
from kdnb.core.store import Run
from kdnb.data.splits import TaskData
from kdnb.experiment import footprint, tables
from kdnb.experiment.arms import ALL, GIVEN, NAMES, WRITTEN
from kdnb.experiment.records import read_if_whole

METRICS = {  # as a table has them: name -> (title, unit, factor, digits)
    "entropy": ("entropy", "nats", 1, 3),
    "accuracy": ("accuracy", "points", 100, 1),
    "nll": ("NLL", "nats", 1, 3),
    "ece": ("calibration error", "points", 100, 1),
    "f1": ("F1", "points", 100, 1),
}
BINS = 10  # of the reliability diagram
RESAMPLES = 1000  # of one run's test rows, where one seed leaves no other interval
MOST_TEXTS, LONGEST = 10, 400  # shown, and characters of each
MOST_CLASSES = 4  # of a posterior that are told


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A finished comparison.

    Attributes:
        data: its splits.
        profile: a key of PROFILES.
        runs: run_id -> run, those of the teachers among them.
        arms: run_id -> arm, a key of `arms.NAMES`.
        command: that asked for it.
        read: what there is to tell of how its models read the texts, a line each.
    """

    data: TaskData
    profile: str
    runs: dict[str, Run]
    arms: dict[str, str]
    command: str = ""
    read: tuple[str, ...] = ()

    @cached_property
    def of(self) -> "Arms":
        """Its runs by arm and seed."""
        return Arms(list(self.runs.values()), self.arms)


class Arms:
    """The runs of a comparison by arm and seed, and what is computed of them."""

    def __init__(self, runs: list[Run], arms: dict[str, str]):
        """Order them.

        Args:
            runs: of one data set.
            arms: run_id -> arm.
        """
        self.runs: dict[str, dict[int, Run]] = {}
        for run in sorted(runs, key=lambda run: (list(NAMES).index(arms[run.run_id]), run.config.seed)):
            self.runs.setdefault(arms[run.run_id], {})[run.config.seed] = run

    @property
    def size(self) -> str:
        """The student that is answered about: the one with more arms, small where both have as many."""
        sizes = [ALL[arm].student for arm in self.runs if arm in ALL]
        return max(("small", "large"), key=sizes.count)

    @property
    def plain(self) -> str:
        """The arm that is trained on the labels alone."""
        return f"erm_{self.size}"

    @property
    def students(self) -> list[str]:
        """The arms of the student that is answered about."""
        return [arm for arm in self.runs if arm in ALL and ALL[arm].student == self.size]

    @property
    def smoothed(self) -> str:
        """The arm of label smoothing; "" for none."""
        return f"ls_{self.size}" if f"ls_{self.size}" in self.runs else ""

    @property
    def distilled(self) -> str:
        """The arm of distillation that is answered about: by a written teacher, else by the other size; "" for none."""
        taught = [arm for arm in self.students if ALL[arm].method in ("kd", "transformed")]
        return min(taught, key=lambda arm: (arm not in WRITTEN, list(ALL).index(arm)), default="")

    def name(self, arm: str) -> str:
        """An arm as printed; "" for none."""
        given = any(run.config.model.startswith(AS_IT_IS) for run in self.runs.get(arm, {}).values())
        return GIVEN if given else NAMES.get(arm, "")

    def seeds(self, *arms: str) -> list[int]:
        """Seeds that all these arms have."""
        return sorted(set.intersection(*(set(self.runs[arm]) for arm in arms)))

    def degenerate(self, arm: str) -> int:
        """How many runs of an arm have learnt nothing."""
        return sum(metrics.is_degenerate(run.logits["test"], run.labels["test"]) for run in self.runs[arm].values())

    @cached_property
    def recommended(self) -> "Recommendation":
        """What to train, of these runs."""
        return recommendation(self)

    def lowest(self, arm: str) -> str:
        """run_id of an arm's run with the lowest NLL on validation; "" for a classifier that nobody trained."""
        best = min(self.runs[arm].values(), key=lambda run: run.metrics["validation"]["nll"])
        return "" if best.config.model.startswith(AS_IT_IS) else best.run_id

    def posterior(self, arm: str) -> np.ndarray:
        """The mean posterior (N, K) of an arm's seeds on the test split."""
        return np.mean([metrics.posterior(run.logits["test"]) for run in self.runs[arm].values()], axis=0)

    def change(self, metric: str, arm: str, than: str = "", split: str = "test") -> "Change":
        """A metric of an arm, or its difference to another, paired by seed: over seeds, or test rows of a single one.

        Args:
            metric: a key of METRICS.
            arm: whose.
            than: is subtracted; "" for nothing.
            split: whose rows.
        """
        pair = (arm, than) if than else (arm,)
        seeds = self.seeds(*pair)
        if not seeds:
            return Change(metric, float("nan"), float("-inf"), float("inf"), 0)
        both = [[self.runs[one][seed] for one in pair] for seed in seeds]
        values = [[run.metrics[split][metric] for run in runs] for runs in both]
        differences = [value[0] - sum(value[1:]) for value in values]
        if len(seeds) > 1:
            mean, low, high, n = statistics.interval(differences)
            return Change(metric, mean, low, high, n)
        low, high = _over_rows(metric, both[0], split)
        return Change(metric, differences[0], low, high, 1)


@dataclass(frozen=True)
class Change:
    """A metric or a difference with its 95 % interval: over n seeds, or over test rows where there is one seed."""

    metric: str
    mean: float
    low: float
    high: float
    n: int

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves out 0; 0 where it does not."""
        return int(self.low > 0) - int(self.high < 0)

    def text(self, signed: bool = True) -> str:
        """As printed, with its interval; differences with their sign."""
        _, unit, factor, digits = METRICS[self.metric]
        low, high = self.low, self.high
        if not signed:  # an interval over few seeds may be wider than what there is
            low, high = max(low, 0), min(high, 1) if unit == "points" else high
            unit = "%" if unit == "points" else unit
        form = f"{'+' * signed}.{digits}f"  # one test row has no interval
        shown = [f"{factor * value:{form}}" if np.isfinite(value) else "–" for value in (self.mean, low, high)]
        return f"{shown[0]} {unit} [{shown[1]}, {shown[2]}]"


def _over_rows(metric: str, runs: list[Run], split: str) -> tuple[float, float]:
    """95 % interval of one run's metric, or of the difference of two, over the rows of a split, drawn anew."""
    if metric not in ("ece", "f1"):
        values = [metrics.per_example(metric, run.logits[split], run.labels[split]) for run in runs]
        than = values[1] if len(values) > 1 else np.zeros_like(values[0])
        interval = statistics.paired_bootstrap(values[0], than, RESAMPLES)
        return interval.low, interval.high
    rng, drawn = np.random.default_rng(0), []
    n = len(runs[0].labels[split])
    for _ in range(RESAMPLES):
        rows = rng.integers(n, size=n)
        values = [_of_all(metric, run.logits[split][rows], run.labels[split][rows]) for run in runs]
        drawn.append(values[0] - sum(values[1:]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _of_all(metric: str, logits: np.ndarray, labels: np.ndarray) -> float:
    """A metric that is no mean over examples, f1 or ece; macro F1 is over the classes that the rows drawn have."""
    if metric == "f1":
        classes, met = logits.shape[1], len(np.union1d(labels, logits.argmax(axis=1)))
        return metrics.f1(logits, labels) * (classes / met if classes > 2 else 1)
    return metrics.ece(metrics.posterior(logits).max(axis=1).clip(0, 1), logits.argmax(axis=1) == labels)


def write(compared: Compared) -> Path:
    """Write outputs/reports/<data>-<profile>-<hash>.html, and beside it, as JSON, of which runs it is; its path."""
    name = _name(compared)
    page = template("own.html").render(
        version=__version__,
        profile=compared.profile,
        **section(compared.of, compared.data.task.name, compared.profile),
        facts=_facts(compared),
        trained=_arms(compared),
        counts=_counts(compared.data),
        **_reliability(compared.of),
        texts=_texts(compared),
        commands=_commands(compared),
        named=[
            {"id": run_id, "arm": compared.of.name(arm)}
            for run_id, arm in sorted(compared.arms.items(), key=lambda item: list(NAMES).index(item[1]))
        ],
    )
    path = paths.inside(paths.REPORTS, f"{name}.html")
    files.write_atomically(path, page.encode())
    of = {"task": compared.data.task.name, "profile": compared.profile, "command": compared.command}
    files.write_json(paths.inside(paths.REPORTS, f"{name}.json"), {**of, "arms": compared.arms})
    return path


def stored(profile: str) -> list[dict[str, Any]]:
    """A `section` for each stored comparison on own data at a profile, the newest first, with its file.

    Comparisons whose runs are gone are left out. Where nothing says what was compared, the runs at the profile's
    fixed hyper-parameters are taken, without a file.
    """
    found = list(paths.REPORTS.glob("*.json")) if paths.REPORTS.is_dir() else []
    sections, tasks = [], set()
    for path in sorted(found, key=lambda path: -path.stat().st_mtime):
        of = files.read_json(path)
        task, arms = str(of.get("task")), of.get("arms")
        if of.get("profile") != profile or not isinstance(arms, dict) or not set(arms.values()) <= set(NAMES):
            continue
        runs = [run for run in tables.load_runs(f"{slug(task)}-", _of(task, profile)) if run.run_id in arms]
        if runs:
            tasks.add(task)
            link = f"reports/{path.stem}.html" if path.with_suffix(".html").exists() else ""
            sections.append({**section(Arms(runs, arms), task, profile), "link": link})
    for task in sorted(_own_tasks(profile) - tasks):
        try:
            study = tables.study(task, profile)
        except tables.NoRuns:
            continue
        arms = dict(zip(study.table.run_id, study.table.arm, strict=True))
        sections.append({**section(Arms(list(study.runs.values()), arms), task, profile), "link": ""})
    return sections


def _of(task: str, profile: str) -> Callable[[RunConfig], bool]:
    return lambda config: (config.task, config.profile) == (task, profile)


def _own_tasks(profile: str) -> set[str]:
    """The user's own tasks of which runs are stored at a profile."""
    configs = [store.config_of(run_id) for run_id in store.stored_ids() if run_id.startswith("own-")]
    return {one.task for one in configs if one and one.profile == profile and one.task.startswith("own:")}


def section(arms: Arms, task: str, profile: str) -> dict[str, Any]:
    """What a comparison found, as text: title, caption, the verdict's sentences, the table, the recommendation."""
    first = next(iter(next(iter(arms.runs.values())).values()))
    n = max(len(seeds) for seeds in arms.runs.values())
    runs = {run.run_id: run for seeds in arms.runs.values() for run in seeds.values()}
    arm_of = {run.run_id: arm for arm, seeds in arms.runs.items() for run in seeds.values()}
    rows = ", ".join(f"{len(labels):,} {split}" for split, labels in first.labels.items())
    of = "F1, second class" if first.logits["test"].shape[1] == 2 else "macro F1"
    titles = {of if name == "f1" else title: unit for name, (title, unit, *_) in METRICS.items()}
    return {
        "title": task.removeprefix("own:"),
        "caption": f"profile {profile}: {rows} rows, {n} seed{'s' * (n > 1)}",
        "toy": profile == "toy",
        "over": "seeds on the same test rows (t): other texts may differ by more"
        if n > 1
        else "test rows of one seed (bootstrap): other trainings may differ by more",
        "floor": f"{100 * metrics.majority_floor(first.labels['test']):.1f} %",
        "verdict": verdict(arms),
        "warning": _warning(arms),
        "table": [_row(arms, arm) for arm in arms.runs],
        "heads": [f"{title} [{'%' if unit == 'points' else unit}]" for title, unit in titles.items()],
        "recommendation": arms.recommended,
        "sizes": [footprint.told(row) for row in footprint.rows(runs.values(), arms=arm_of)],
        "runs": runs,
    }


def _row(arms: Arms, arm: str) -> dict[str, Any]:
    """An arm in the table."""
    cells = [arms.change(metric, arm).text(signed=False).rsplit(" ", 3) for metric in METRICS]
    nothing, n = arms.degenerate(arm), len(arms.runs[arm])
    return {
        "name": arms.name(arm),
        "n": f"{n} ({nothing} learnt nothing)" if nothing else n,
        "cells": [{"mean": mean, "span": f"{low} {high}"} for mean, _, low, high in cells],
    }


def _warning(arms: Arms) -> str:
    """How many runs have learnt nothing, which are part of every number; "" where all have learnt something."""
    nothing, runs = sum(map(arms.degenerate, arms.runs)), sum(map(len, arms.runs.values()))
    why = "one class predicted, or accuracy no better than always naming the most frequent one"
    return f"{nothing} of {runs} runs learnt nothing ({why}); they are part of every number." if nothing else ""


def verdict(arms: Arms) -> list[str]:
    """Three sentences: what smoothing did, what distillation did, and whether that was the same."""
    return [
        _effect(arms, arms.smoothed, "Label smoothing"),
        _effect(arms, arms.distilled, "Distillation"),
        _between(arms),
    ]


WORDS = {  # metric -> what a sign means
    "entropy": {1: "less sure", -1: "surer", 0: "not measurably surer or less sure"},
    "accuracy": {1: "more often right", -1: "less often right", 0: "not measurably more or less often right"},
    "nll": {
        1: "fits the labels worse",
        -1: "fits the labels better",
        0: "does not measurably fit the labels differently",
    },
    "ece": {1: "is calibrated worse", -1: "is calibrated better", 0: "is not measurably calibrated differently"},
}


def _effect(arms: Arms, arm: str, title: str) -> str:
    """What an arm did to the plain training of its student, in a sentence."""
    if not arm or arms.plain not in arms.runs:
        missing = (arm and arms.plain) or {"Label smoothing": f"ls_{arms.size}"}.get(title, "kd_standard")
        return f"{title} was not compared: the arm {missing} is not among the runs."
    told = []
    for metric, words in WORDS.items():
        change = arms.change(metric, arm, arms.plain)
        told.append(f"{words[change.sign]} ({METRICS[metric][0]} {change.text()})")
    return f"{title} ({arms.name(arm)}) made the {arms.size} model {told[0]} and {told[1]}; it {told[2]} and {told[3]}."


def _between(arms: Arms) -> str:
    """Whether smoothing and distillation did the same, in a sentence."""
    if not (arms.smoothed and arms.distilled):
        return "Whether distillation is label smoothing here cannot be said: both arms are needed."
    changes = {metric: arms.change(metric, arms.distilled, arms.smoothed) for metric in ("entropy", "accuracy", "nll")}
    apart = [metric for metric, change in changes.items() if change.sign]
    told = "; ".join(f"{METRICS[metric][0]} {change.text()}" for metric, change in changes.items())
    if not apart:
        return (
            "The two cannot be told apart by these runs, which does not show them to be the same: "
            f"distillation minus smoothing, {told}."
        )
    named = " and ".join(METRICS[metric][0] for metric in apart)
    return f"Distillation is not label smoothing here, they differ in {named}: distillation minus smoothing, {told}."


@dataclass(frozen=True)
class Recommendation:
    """What to train.

    Attributes:
        what: an arm as printed, or "None yet".
        reason: why.
        limit: what that does not show.
        run_id: of the arm's runs the one with the lowest NLL on validation; "" where there is nothing to take home.
    """

    what: str
    reason: str
    limit: str
    run_id: str = ""


def recommendation(arms: Arms) -> Recommendation:
    """What to train, why, and what that does not show; chosen on the validation split alone."""
    learnt = [arm for arm in arms.students if not arms.degenerate(arm)]
    if arms.plain not in arms.runs or not learnt:
        if learnt:
            return Recommendation("None yet", f"The arm {arms.plain} was not trained.", "Add it to --arms.")
        return Recommendation(
            "None yet",
            f"In every arm of the {arms.size} model a run learnt nothing.",
            "Try more rows (--train-rows), more epochs (--epochs) or another rate (--lr).",
        )
    losses = {arm: arms.change("nll", arm, split="validation").mean for arm in learnt}
    best = min(losses, key=lambda arm: losses[arm])
    seeds = len(arms.seeds(*{best, arms.plain}))
    first = next(iter(arms.runs[arms.plain].values()))
    rows = f"{len(first.labels['validation']):,} validation rows"
    limit = (
        f"Chosen among {len(learnt)} arms by the mean NLL of {seeds} seed{'s' * (seeds != 1)} on {rows}, intervals "
        "not corrected for that; hyper-parameters were not searched; other data may differ."
    )
    if seeds < 2:
        limit = f"One seed decides little: add --seeds 0,1,2. {limit}"
    if best == arms.plain:
        reason = f"Its NLL on validation, {losses[best]:.3f} nats, is the lowest of these arms."
        return Recommendation(arms.name(best), reason, limit, arms.lowest(best))
    if arms.plain not in learnt:
        nothing = f"{arms.name(arms.plain)} learnt nothing in {arms.degenerate(arms.plain)} of its runs"
        reason = f"{nothing}; of the others it has the lowest NLL on validation."
        return Recommendation(arms.name(best), reason, limit, arms.lowest(best))
    gain = arms.change("nll", best, arms.plain, "validation")
    if gain.sign >= 0:
        reason = (
            f"{arms.name(best)} has the lowest NLL on validation, but not measurably lower than that of plain "
            f"training: {gain.text()}. The simplest one stays."
        )
        return Recommendation(arms.name(arms.plain), reason, limit, arms.lowest(arms.plain))
    right = arms.change("accuracy", best, arms.plain, "validation")
    reason = (
        f"Its NLL on validation is the lowest, and lower than that of plain training: {gain.text()}; accuracy there "
        f"{right.text()}."
    )
    if (teacher := ALL[best].teacher) and arms.name(teacher) != GIVEN:
        limit = f"It needs a teacher, {arms.name(teacher)}, to be trained first. {limit}"
    return Recommendation(arms.name(best), reason, limit, arms.lowest(best))


def _facts(compared: Compared) -> list[tuple[str, str]]:
    """What was compared, as pairs of words."""
    configs = [run.config for run in compared.runs.values()]
    config = next((one for one in configs if not one.model.startswith(AS_IT_IS)), configs[0])
    task, facts = compared.data.task, []
    facts.append(("Question", f"{task.question} K = {task.num_classes}"))
    facts.append(("Data", f"{task.title}, fingerprint {compared.data.fingerprint}"))
    for split, part in compared.data.splits.items():
        if len(part) < (whole := compared.data.available.get(split, 0)):
            facts.append((f"{split.capitalize()} rows", f"{len(part):,} of {whole:,}"))
    facts.append(("Files", "; ".join(compared.data.notes)))
    if compared.read:
        facts.append(("Read by", "; ".join(line.strip() for line in compared.read)))
    facts.append(("Seeds", ", ".join(str(seed) for seed in sorted({r.config.seed for r in compared.runs.values()}))))
    epochs = f"{config.epochs} epoch{'s' * (config.epochs > 1)}"
    facts.append(("Training", f"{epochs}, learning rate {config.lr:g}, batches of {config.batch_size}"))
    return facts


def _arms(compared: Compared) -> list[dict[str, str]]:
    """Each arm by name: its model, and what it learns from."""
    first = {arm: next(iter(seeds.values())).config for arm, seeds in compared.of.runs.items()}
    return [
        {
            "name": compared.of.name(arm),
            "model": model_behind(config).removeprefix(AS_IT_IS),
            "learns": _learns(arm, config, compared.of.name(ALL[arm].teacher)),
        }
        for arm, config in first.items()
    ]


def _learns(arm: str, config: RunConfig, teacher: str) -> str:
    """What an arm learns from, in words; its teacher's arm as printed, where an arm teaches it."""
    if config.model.startswith(AS_IT_IS):
        return "nothing here: it is taken as it is"
    if config.method == "erm":
        return "the labels alone (ERM)"
    if config.method == "ls":
        return f"the labels, smoothed (LS): {config.alpha:g} of each spread over all classes"
    tau = f", both at temperature {config.tau:g}" if config.tau != 1 else ""
    mixed = f"alpha {config.alpha:g}{tau}, the label for the rest"
    if config.method == "tfkd":
        return f"a posterior made up of {config.confidence:g} for the label, no teacher (KD): {mixed}"
    if arm in WRITTEN and (found := read_if_whole(store.read_metrics, config.teacher_run)):
        of = found[0]
        told, file = of["train"], f", {of['file']}" if of.get("file") else ""
        return (
            f"the posteriors of {config.teacher_run}{file} (KD): {mixed}; {told['known']:,} train rows, entropy "
            f"{told['entropy']:.3f} nats, accuracy {100 * told['accuracy']:.1f} %; the label alone elsewhere"
        )
    tempered = f", its logits times {config.sharpness:g}" if config.method == "transformed" else ""
    return f"the posteriors of {teacher or config.teacher_run}{tempered} (KD): {mixed}"


def _counts(data: TaskData) -> list[dict[str, Any]]:
    """Rows of each class in each split."""
    counts = {name: np.bincount(split.labels, minlength=data.task.num_classes) for name, split in data.splits.items()}
    return [
        {"name": label, "rows": [f"{count[number]:,}" for count in counts.values()]}
        for number, label in enumerate(data.task.labels)
    ]


def _reliability(arms: Arms) -> dict[str, str]:
    """The reliability diagram of the student's arms, an inline PNG, and the same in words."""
    import matplotlib.pyplot as plt

    figures.theme()
    figure, ax = plt.subplots(figsize=(6, 5))
    ax.axline((0, 0), slope=1, color="0.4", linestyle="--", linewidth=1)
    told = []
    for arm in arms.students:
        runs = arms.runs[arm].values()
        sure = np.concatenate([metrics.posterior(run.logits["test"]).max(axis=1).clip(0, 1) for run in runs])
        right = np.concatenate([run.logits["test"].argmax(axis=1) == run.labels["test"] for run in runs])
        count, confidence, accuracy = metrics.reliability(sure, right, BINS)
        seen = count > 0
        dashed = {} if arm in figures.ARMS else {"linestyle": ":"}
        ax.plot(confidence[seen], accuracy[seen], label=arms.name(arm), markersize=6, **figures.style(arm), **dashed)
        told.append(f"{arms.name(arm)}: confidence {100 * sure.mean():.1f} %, accuracy {100 * right.mean():.1f} %")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence", ylabel="accuracy")
    ax.set_title("Is a model right as often as it says?")
    ax.legend(frameon=False, fontsize=9)
    alt = f"Reliability diagram: accuracy against confidence in {BINS} bins, the diagonal dashed. {'; '.join(told)}."
    return {"picture": figures.png(figure), "alt": alt}


def _texts(compared: Compared) -> dict[str, Any]:
    """The test texts whose entropy differs most between smoothing and distillation, with each arm's posterior."""
    arms, split, names = compared.of, compared.data.splits["test"], compared.data.task.labels
    if not (arms.smoothed and arms.distilled):
        return {"rows": []}
    seeds = arms.seeds(arms.smoothed, arms.distilled)
    entropies = {
        arm: np.mean([metrics.entropies(arms.runs[arm][seed].logits["test"]) for seed in seeds], axis=0)
        for arm in (arms.smoothed, arms.distilled)
    }
    change = entropies[arms.distilled] - entropies[arms.smoothed]
    posteriors = {arm: arms.posterior(arm) for arm in arms.students}
    rows = []
    for row in np.argsort(-np.abs(change), kind="stable")[:MOST_TEXTS]:
        both = " / ".join([split.text[row], *([split.text2[row]] if split.text2 else [])])
        told = [_posterior(posteriors[arm][row], names) for arm in arms.students]
        rows.append(
            {
                "text": both if len(both) <= LONGEST else f"{both[:LONGEST]}…",
                "label": names[split.labels[row]],
                "change": f"{change[row]:+.3f}",
                "arms": told,
            }
        )
    heads = [arms.name(arm) for arm in arms.students]
    return {"rows": rows, "heads": heads, "of": f"{arms.name(arms.distilled)} minus {arms.name(arms.smoothed)}"}


def _posterior(posterior: np.ndarray, names: Sequence[str]) -> list[str]:
    """A posterior (K,) as printed: the likeliest classes, a line each."""
    order = np.argsort(-posterior, kind="stable") if len(names) > MOST_CLASSES else range(len(names))
    told = [f"{names[k]} {posterior[k]:.2f}" for k in list(order)[:MOST_CLASSES]]
    return [*told, "…"] if len(names) > MOST_CLASSES else told


def _commands(compared: Compared) -> list[str]:
    """What repeats the comparison, looks at its runs, and takes the recommended one home."""
    best, first = compared.of.recommended, next(iter(compared.runs))
    again = [compared.command] if compared.command else []
    home = [export_command(best)] if best.run_id else []
    return [*again, f"kdnb report --profile {compared.profile}", f"kdnb runs show {best.run_id or first}", *home]


def export_command(best: Recommendation) -> str:
    """What exports the recommended run."""
    return f"kdnb export {best.run_id} model/"


def _name(compared: Compared) -> str:
    """The name of a comparison's files: what it is of, and a hash of its runs."""
    digest = hashlib.sha256(json.dumps(sorted(compared.runs)).encode()).hexdigest()[:8]
    return f"{slug(compared.data.task.name)[:80]}-{compared.profile}-{digest}"


def template(name: str) -> Template:
    """A page of this room by its file's name; what it is given stands there as text."""
    return environment().get_template(name)


@functools.cache
def environment() -> Environment:
    """Where the templates of pages lie."""
    return Environment(loader=PackageLoader("kdnb", "report/pages"), autoescape=True)
