"""The numbers of arXiv 2301.12609, each with its table, row and task, and how ours stand beside them."""

import functools
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from kdnb.analysis.statistics import correlation_interval
from kdnb.catalog import PROFILES, TASKS, model_of
from kdnb.core.config import RunConfig
from kdnb.core.methods import used_settings
from kdnb.core.store import Run
from kdnb.experiment.arms import ARMS
from kdnb.experiment.tables import Study

GLUE = PROFILES["paper"].tasks
STAND_INS = {"rt": "sst2", "headline": "mrpc", "passage": "qnli", "relation": "mnli"}
RESULT_TABLES = {("small", "entropy"): 2, ("small", "accuracy"): 3, ("large", "entropy"): 4, ("large", "accuracy"): 5}


@functools.cache
def _content() -> dict:
    return json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))


@functools.cache
def results() -> pd.DataFrame:
    """Tables 2-5 and 8-11 in long form: table, metric, student ("small" DistilBERT, "large" BERT), row, task, value.

    Entropies in nats, accuracies in percent, as printed.
    """
    rows = []
    for table, content in _content()["results"].items():
        for row, values in content["rows"].items():
            for task, value in zip(_content()["tasks"], values, strict=True):
                rows.append((int(table), content["metric"], content["student"], row, task, value))
    return pd.DataFrame(rows, columns=["table", "metric", "student", "row", "task", "value"])


def value(table: int, row: str, task: str) -> float:
    """One printed number; KeyError if there is none."""
    try:
        return _values()[table, row, task]
    except KeyError:
        raise KeyError(f"Table {table} has no {row} on {task}") from None


@functools.cache
def _values() -> dict[tuple[int, str, str], float]:
    """(table, row, task) -> value: a ledger asks for hundreds."""
    return results().set_index(["table", "row", "task"])["value"].astype(float).to_dict()


def optima(table: int) -> dict:
    """Tables 7 and 12: student -> row -> task -> {alpha, tau, lr, epochs}, None where the source lacks a row."""
    return _content()["optima"][str(table)]


def grids() -> dict[str, dict[str, list]]:
    """The printed grids: "table1" (ERM without its alpha), "a3_kd" and "a3_ls"; RunConfig field -> values."""
    return _content()["grids"]


def caption(table: int) -> str:
    """The caption of Table 1..12 as printed; KeyError for another number."""
    return f"Table {table}: {_content()['captions'][str(table)]}"


def teacher_free() -> pd.DataFrame:
    """Yuan et al. 2020 on CIFAR-100, a row per model: test accuracies in percent and what their code was run with.

    Columns: baseline, LSR, Tf-KD_reg, KD; alpha, tau and multiplier of Tf-KD_reg. attrs: source, note.
    """
    content = _content()["teacher_free"]
    table = pd.DataFrame.from_dict(content["rows"], orient="index", columns=content["columns"])
    table.attrs.update(source=content["source"], note=content["note"])
    return table.rename_axis("model")


def sizes(task: str) -> tuple[int, int, int]:
    """Table 6: examples in train, validation and test."""
    return tuple(_content()["sizes"][task])


def notes() -> dict[str, str]:
    """N1-N5: what does not add up in the printed tables."""
    return _content()["notes"]


def printed_as(table: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    """The published counterpart of each arm: columns arm, published, source.

    Args:
        table: anything with a column arm (keys of ARMS).
        task: ours; a stand-in maps to its GLUE task.
        metric: "entropy" or "accuracy".
    Returns:
        One row per arm; published is NaN and source "" where the paper has no such run.
    """
    glue_task, scale = STAND_INS.get(task, task), 100 if metric == "accuracy" else 1
    rows = []
    for arm in table.arm.unique():
        number = RESULT_TABLES[(ARMS[arm].student, metric)]
        try:
            printed = value(number, ARMS[arm].paper_row, glue_task) / scale
        except KeyError:
            rows.append((arm, float("nan"), ""))
        else:
            rows.append((arm, printed, f"Table {number}, {TASKS[glue_task].title}"))
    return pd.DataFrame(rows, columns=["arm", "published", "source"])


def beside(ours: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    """Ours beside published: arm, name, ours, sd, n, degenerate, published, difference, source, run_ids.

    Args:
        ours: from `kdnb.experiment.tables.spread`; accuracies are shares, not percent.
        task: as `printed_as`.
        metric: likewise.
    """
    joined = ours.merge(printed_as(ours, task, metric), on="arm", how="left")
    joined["difference"] = joined["mean"] - joined.published
    columns = ["arm", "name", "mean", "sd", "n", "degenerate", "published", "difference", "source", "run_ids"]
    return joined[columns].rename(columns={"mean": "ours"})


def teacher_student_entropies(tables: tuple[int, int] = (2, 4)) -> pd.DataFrame:
    """(teacher entropy, student entropy, ERM entropy of the student) of every KD cell: the inheritance data.

    Args:
        tables: the entropy tables of DistilBERT and BERT students, (2, 4) or (8, 10).
    """
    small, large = tables
    pairs = {"Standard KD": (small, large), "Self-KD": (small, small), "Reverse KD": (large, small)}
    rows = []
    for row, (of_student, of_teacher) in pairs.items():
        for task in _content()["tasks"]:
            teacher, erm = value(of_teacher, "ERM", task), value(of_student, "ERM", task)
            rows.append((row, task, teacher, value(of_student, row, task), erm))
    return pd.DataFrame(rows, columns=["row", "task", "teacher_entropy", "student_entropy", "erm_entropy"])


MODELS = {"large": "BERT", "small": "DistilBERT"}
SEARCHED = {2: 8, 3: 9, 4: 10, 5: 11}  # at tau 1 -> with tau searched (A.3): the same ERM models stand in both
OPTIMA = {2: 7, 4: 7, 8: 12, 10: 12}  # entropy table -> the table of its hyper-parameters
DASH = "—"


def table(number: int) -> pd.DataFrame:
    """Table 1..12 as printed: text cells, the paper's rows, columns and digits; a missing row stays missing."""
    if number == 1:
        grid = grids()["table1"]
        words = {"Learning rate": map(_rate, grid["lr"]), "# of epochs": grid["epochs"]}
        words |= {"α (Eqs. 1 and 2)": map(_decimal, grid["alpha"])}
        return pd.DataFrame({"Hyperparameter": words.keys(), "Values": [_set(values) for values in words.values()]})
    if number == 6:
        rows = [[TASKS[task].title, *(f"{size:,}" for size in sizes(task))] for task in GLUE]
        return pd.DataFrame(rows, columns=["Task", "Train", "Validation", "Test"])
    if number in (7, 12):
        return _optima(number)
    cells = results().query("table == @number")
    if cells.empty:
        raise KeyError(f"there is no Table {number}")
    cells = cells.assign(value=cells.value.map(_entropy if (cells.metric == "entropy").all() else "{:.1f}".format))
    wide = cells.pivot(index="row", columns="task", values="value").loc[cells.row.unique(), list(GLUE)]
    return (
        wide.rename(columns={task: TASKS[task].title for task in GLUE})
        .rename_axis(None, axis=1)
        .reset_index(names="Method")
    )


def _optima(number: int) -> pd.DataFrame:
    """Tables 7 and 12: a line per task, model and training that the paper prints."""
    columns: dict[str, tuple[str, Callable]] = {
        "α": ("alpha", _decimal),
        "Learning Rate": ("lr", _rate),
        "# Epochs": ("epochs", str),
    }
    if number == 12:
        columns = {"α": columns.pop("α"), "τ": ("tau", str), **columns}
    lines = []
    for task in GLUE:
        for student, model in MODELS.items():
            for row, cells in optima(number)[student].items():
                if (cell := cells[task]) is not None:
                    line = {"Task": TASKS[task].title, "Model": model, "Training": row}
                    for column, (field, as_text) in columns.items():
                        line[column] = as_text(cell[field]) if field in cell else DASH
                    lines.append(line)
    return pd.DataFrame(lines)


def smoothing_floor() -> pd.DataFrame:
    """N1: is LS's printed entropy at least that of its target? The 16 LS cells; excess = printed - floor [nats].

    H(q_ls) bounds the entropy of LS's population optimum from below at every point, whatever the data.
    """
    from kdnb.core.theory import ls_optimum_entropy  # it brings torch, which the printed numbers need not wait for

    rows = []
    for number, optima_table in OPTIMA.items():
        student = "small" if number in (2, 8) else "large"
        for task in GLUE:
            alpha, k = optima(optima_table)[student]["LS"][task]["alpha"], TASKS[task].num_classes
            rows.append((number, task, alpha, k, value(number, "LS", task), ls_optimum_entropy(alpha, k)))
    cells = pd.DataFrame(rows, columns=["table", "task", "alpha", "num_classes", "printed", "floor"])
    cells["excess"] = cells.printed - cells.floor
    return cells.assign(odd=cells.excess < 0)


def same_model() -> pd.DataFrame:
    """N2: is one ERM model printed with one number? The 16 ERM cells that stand in two tables each."""
    rows = [(a, b, task, value(a, "ERM", task), value(b, "ERM", task)) for a, b in SEARCHED.items() for task in GLUE]
    cells = pd.DataFrame(rows, columns=["table", "again_in", "task", "printed", "again"])
    return cells.assign(odd=cells.printed != cells.again)


def equal_cells() -> pd.DataFrame:
    """N3: do two tasks share an entropy to all four digits? Every pair of cells within a row of the four tables."""
    rows = []
    for (number, row), cells in results().query("metric == 'entropy'").groupby(["table", "row"], sort=False):
        of_task = dict(zip(cells.task, cells.value, strict=True))
        rows += [(number, row, a, b, of_task[a], of_task[b]) for a, b in combinations(GLUE, 2)]
    pairs = pd.DataFrame(rows, columns=["table", "row", "task", "other_task", "printed", "other"])
    return pairs.assign(odd=pairs.printed == pairs.other)


def kd_order() -> pd.DataFrame:
    """N4: does Standard KD, taught by the surer model, lie below Self-KD? The 8 pairs of Tables 2 and 8."""
    rows = [(n, task, value(n, "Standard KD", task), value(n, "Self-KD", task)) for n in (2, 8) for task in GLUE]
    cells = pd.DataFrame(rows, columns=["table", "task", "standard", "self"])
    return cells.assign(odd=cells.standard > cells.self)


def reverse_bracket() -> pd.DataFrame:
    """N5: does Reverse KD stay above both ERM models, the student's own and the teacher's? The 8 cells, with epochs."""
    rows = []
    for number, of_teacher in ((4, 2), (10, 8)):
        best = optima(OPTIMA[number])["large"]
        for task in GLUE:
            epochs = best["Reverse KD"][task]["epochs"], best["ERM"][task]["epochs"]
            ends = value(number, "ERM", task), value(of_teacher, "ERM", task)
            rows.append((number, task, value(number, "Reverse KD", task), *ends, *epochs))
    cells = pd.DataFrame(rows, columns=["table", "task", "printed", "alone", "teacher", "epochs", "epochs_alone"])
    return cells.assign(odd=cells.printed < cells[["alone", "teacher"]].min(axis=1))


CHECKS: dict[str, Callable[[], pd.DataFrame]] = {
    "N1": smoothing_floor,
    "N2": same_model,
    "N3": equal_cells,
    "N4": kd_order,
    "N5": reverse_bracket,
}


def checks() -> pd.DataFrame:
    """All five checks: id, note, cells (how many were looked at), odd (how many stand out), where (table and task)."""
    rows = []
    for name, check in CHECKS.items():
        cells = check()
        places = [f"Table {cell.table}, {TASKS[cell.task].title}" for cell in cells[cells.odd].itertuples()]
        rows.append((name, notes()[name], len(cells), len(places), "; ".join(places)))
    return pd.DataFrame(rows, columns=["id", "note", "cells", "odd", "where"])


def inheritance() -> pd.DataFrame:
    """Correlation of teacher's and student's printed entropy over the KD cells, and what is left of it.

    Three readings for Tables 2 and 4 (tau 1) and for 8 and 10 (tau searched): "all cells"; "task means removed",
    since a hard task raises both entropies; "change, no Self-KD": both minus the entropy of ERM beside the student.

    Returns:
        tables ("2 and 4"), reading, r, low, high (95 %, Fisher's z; removed means cost points), slope, n.
    """
    rows, ends = [], ["teacher_entropy", "student_entropy"]
    for tables in ((2, 4), (8, 10)):
        cells = teacher_student_entropies(tables)
        others = cells[cells.row != "Self-KD"]
        readings = {
            "all cells": (cells[ends], 0),
            "task means removed": (cells[ends] - cells.groupby("task")[ends].transform("mean"), len(GLUE) - 1),
            "change, no Self-KD": (others[ends].sub(others.erm_entropy, axis=0), 0),
        }
        for reading, (pairs, controls) in readings.items():
            x, y = pairs.teacher_entropy, pairs.student_entropy
            slope = float(np.polyfit(x, y, 1)[0])
            rows.append(
                ("{} and {}".format(*tables), reading, *correlation_interval(x, y, controls), slope, len(pairs))
            )
    return pd.DataFrame(rows, columns=["tables", "reading", "r", "low", "high", "slope", "n"])


def deviations(study: Study) -> pd.DataFrame:
    """What the paper did beside what the runs of a comparison did, an aspect a row: aspect, paper, here.

    What the paper does not state says so. What is here is read from the runs' own configs and costs.
    """
    runs, grid = list(study.runs.values()), grids()["table1"]
    soft = [run.config for run in runs if run.config.method != "erm"]
    seen = {name: {getattr(run.config, name) for run in runs} for name in ("lr", "epochs", "dropout", "schedule")}
    sizes_of = [model_of(study.profile, size, study.task) for size in ("large", "small")]
    rows = [
        ("models", "BERT-base and DistilBERT", " and ".join(sizes_of)),
        ("train rows", ", ".join(f"{TASKS[task].title} {sizes(task)[0]:,}" for task in GLUE), _train_rows(runs)),
        ("learning rate", f"searched: {_set(map(_rate, grid['lr']))}", _set(map(_rate, sorted(seen["lr"])))),
        ("epochs", f"searched: {_set(grid['epochs'])}", _set(sorted(seen["epochs"]))),
        ("alpha", f"searched: {_set(map(_decimal, grid['alpha']))}", _set(map(_decimal, sorted(_alphas(soft))))),
        ("selection", "each cell on validation", "none: one setting for every arm of a method"),
        ("seeds", "one", str(study.table.seed.nunique())),
        ("teacher", "the selected ERM model", "ERM of the student's seed, at the end of its training"),
        ("schedule", "no warm-up; decay not stated", ", ".join(sorted(seen["schedule"]))),
        ("dropout before the classifier", "not stated", _set(map(_decimal, sorted(seen["dropout"])))),
        ("precision", "mixed, on an A100", ", ".join(sorted({_precision(run) for run in runs}))),
    ]
    return pd.DataFrame(rows, columns=["aspect", "paper", "here"])


def _train_rows(runs: list[Run]) -> str:
    return _set(sorted({len(run.labels["train"]) for run in runs}))


def _alphas(configs: list[RunConfig]) -> set[float]:
    return {config.alpha for config in configs if "alpha" in used_settings(config)}


def _precision(run: Run) -> str:
    cost = run.metrics["cost"]
    return f"{cost['precision']} on {'CPUs' if cost['device'].startswith('cpu') else cost['device']}"


def _entropy(number: float) -> str:
    return f"{number:.4f}".removeprefix("0")


def _decimal(number: float) -> str:
    return f"{number:g}".removeprefix("0") if number != 0 else "0"


def _rate(number: float) -> str:
    return f"{number:.0e}".replace("e-0", "e-")


def _set(values) -> str:
    return "{" + ", ".join(map(str, values)) + "}"
