"""The numbers of arXiv 2301.12609, each with its table, row and task, and how ours stand beside them."""

import functools
import json
from pathlib import Path

import pandas as pd

from kdnb.catalog import TASKS
from kdnb.experiment.arms import ARMS

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
    found = results().query("table == @table and row == @row and task == @task")
    if found.empty:
        raise KeyError(f"Table {table} has no {row} on {task}")
    return float(found.value.iloc[0])


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
        table: anything with a column arm (keys of ARMS). task: ours; a stand-in maps to its GLUE task.
        metric: "entropy" or "accuracy".
    Returns:
        One row per arm; published is NaN and source "" where the paper has no such run.
    """
    rows, glue_task = [], STAND_INS.get(task, task)
    for arm in table.arm.unique():
        number = RESULT_TABLES[(ARMS[arm].student, metric)]
        try:
            found, source = value(number, ARMS[arm].paper_row, glue_task), f"Table {number}, {TASKS[glue_task].title}"
        except KeyError:
            found, source = float("nan"), ""
        rows.append((arm, found / 100 if metric == "accuracy" else found, source))
    return pd.DataFrame(rows, columns=["arm", "published", "source"])


def beside(ours: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    """Ours beside published: name, ours, sd, n, published, difference, source, run_ids.

    Args:
        ours: from `results.spread`. task, metric: as `printed_as`. Accuracies are shares, not percent.
    """
    joined = ours.merge(printed_as(ours, task, metric), on="arm", how="left")
    joined["difference"] = joined["mean"] - joined.published
    columns = ["arm", "name", "mean", "sd", "n", "published", "difference", "source", "run_ids"]
    return joined[columns].rename(columns={"mean": "ours"})


def teacher_student_entropies(tables: tuple[int, int] = (2, 4)) -> pd.DataFrame:
    """(teacher entropy, student entropy, ERM entropy of the student) of every KD cell: the inheritance data.

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
