"""The paper's numbers and what its own tables say of its claims (EXPERIMENTS 3-5, T2.1, T3.4, T4.2).

The expected counts and correlations are those of EXPERIMENTS.md, worked out from the printed tables.
"""

import math

import numpy as np
import pandas as pd
import pytest

from kdnb import published, theory
from kdnb.arms import ARMS
from kdnb.tasks import TASKS

GLUE = ("mrpc", "qnli", "sst2", "mnli")
CLASSES = {"mrpc": 2, "qnli": 2, "sst2": 2, "mnli": 3}


def smoothing_cells():
    """The sixteen LS cells: table, task, printed entropy minus the entropy of the smoothed target."""
    for table, optima, student in ((2, 7, "small"), (4, 7, "large"), (8, 12, "small"), (10, 12, "large")):
        for task in GLUE:
            alpha = published.optima(optima)[student]["LS"][task]["alpha"]
            floor = theory.ls_optimum_entropy(alpha, CLASSES[task])
            yield table, task, published.value(table, "LS", task) - floor


def test_one_ls_cell_of_sixteen_lies_below_the_entropy_of_its_target():
    cells = list(smoothing_cells())
    assert len(cells) == 16
    assert [(table, task) for table, task, excess in cells if excess < 0] == [(2, "mnli")]
    others = [excess for _, _, excess in cells if excess > 0]
    assert min(others) == pytest.approx(0.0007, abs=5e-5)
    assert max(others) == pytest.approx(0.1859, abs=5e-5)
    assert ".8103" in published.notes()["N1"]


def test_ls_multiplies_entropy():
    ratios = [published.value(2, "LS", task) / published.value(2, "ERM", task) for task in GLUE]
    np.testing.assert_allclose(ratios, [6.14, 4.76, 4.04, 3.00], atol=5e-3)


@pytest.mark.parametrize(("tables", "r"), [((2, 4), 0.915), ((8, 10), 0.964)])
def test_students_inherit_their_teachers_entropy(tables, r):
    cells = published.teacher_student_entropies(tables)
    assert len(cells) == 12
    assert np.corrcoef(cells.teacher_entropy, cells.student_entropy)[0, 1] == pytest.approx(r, abs=5e-4)


@pytest.mark.parametrize(("tables", "r", "slope"), [((2, 4), 0.89, 0.65), ((8, 10), 0.93, 0.88)])
def test_inheritance_is_not_the_self_kd_cells_doing(tables, r, slope):
    cells = published.teacher_student_entropies(tables)
    cells = cells[cells.row != "Self-KD"]
    x, y = cells.teacher_entropy - cells.erm_entropy, cells.student_entropy - cells.erm_entropy
    assert np.corrcoef(x, y)[0, 1] == pytest.approx(r, abs=5e-3)
    assert np.polyfit(x, y, 1)[0] == pytest.approx(slope, abs=5e-3)


@pytest.mark.parametrize(
    ("claim", "table", "more", "less", "count"),
    [
        ("H5.1", 8, "ERM", "Standard KD", 4), ("H5.1", 8, "ERM", "Self-KD", 4),
        ("H5.2", 8, "Self-KD", "Standard KD", 3),
        ("H5.3", 10, "Reverse KD", "ERM", 3), ("H5.3", 10, "LS", "Reverse KD", 4), ("H5.4", 9, "Standard KD", "ERM", 3),
        ("H5.4", 9, "Standard KD", "LS", 3), ("H5.4", 9, "Self-KD", "LS", 3), ("H5.4", 11, "Reverse KD", "ERM", 4),
        ("H5.4", 11, "Reverse KD", "LS", 4),
    ],
)  # fmt: skip
def test_counts_of_the_temperature_search(claim, table, more, less, count):
    assert sum(published.value(table, more, t) > published.value(table, less, t) for t in GLUE) == count


def test_printed_oddities_are_quoted_as_printed():
    assert (published.value(4, "ERM", "mnli"), published.value(10, "ERM", "mnli")) == (0.1845, 0.1844)
    assert published.value(4, "Reverse KD", "mrpc") == published.value(4, "Reverse KD", "sst2") == 0.0954
    above = [t for t in GLUE if published.value(8, "Standard KD", t) > published.value(8, "Self-KD", t)]
    assert above == ["mrpc"]
    assert set(published.notes()) == {"N1", "N2", "N3", "N4", "N5"}


def test_no_printed_binary_entropy_exceeds_ln_2():
    table = published.results().query("metric == 'entropy'")
    limits = table.task.map(CLASSES).map(math.log)
    assert (table.value <= limits).all()
    assert (published.results().query("metric == 'accuracy'").value.between(50, 100)).all()


def test_no_cell_is_missing():
    counts = published.results().groupby("table").size()
    assert dict(counts) == {2: 16, 3: 16, 4: 12, 5: 12, 8: 16, 9: 16, 10: 12, 11: 12}


def test_table_7_lacks_three_self_kd_cells_and_table_12_none():
    missing = {
        (number, student, row, task)
        for number in (7, 12)
        for student, rows in published.optima(number).items()
        for row, cells in rows.items()
        for task in GLUE
        if cells[task] is None
    }
    assert missing == {(7, "small", "Self-KD", task) for task in ("mrpc", "qnli", "sst2")}


def test_the_optima_lie_on_the_grid_of_table_1():
    for rows in published.optima(7).values():
        for row, cells in rows.items():
            for cell in filter(None, cells.values()):
                assert round(cell["lr"] * 1e5, 6) in range(1, 8)
                assert cell["epochs"] in range(1, 11)
                assert (row == "ERM") == ("alpha" not in cell)


@pytest.mark.parametrize(("task", "total"), [("qnli", 104_743), ("sst2", 67_349), ("mnli", 392_702)])
def test_table_6_cuts_glues_train_split_in_two(task, total):
    train, validation, test = published.sizes(task)
    assert train + {"qnli": validation, "sst2": test, "mnli": validation}[task] == total
    assert TASKS[task].sizes == published.sizes(task)


def test_mrpc_is_used_as_it_is():
    assert published.sizes("mrpc") == TASKS["mrpc"].sizes == (3668, 408, 1725)


def test_an_unknown_cell_is_a_key_error():
    with pytest.raises(KeyError, match="Table 2 has no Reverse KD on mrpc"):
        published.value(2, "Reverse KD", "mrpc")


def test_a_stand_in_stands_beside_its_glue_task():
    table = pd.DataFrame({"arm": list(ARMS)})
    shown = published.printed_as(table, "rt", "accuracy").set_index("arm")
    assert shown.published["kd_reverse"] == pytest.approx(0.949)  # Table 5, SST-2
    assert shown.source["kd_reverse"] == "Table 5, SST-2"
    assert math.isnan(shown.published["tfkd_small"])
    assert published.printed_as(table, "section", "entropy").published.isna().all()  # stands in for nothing


def test_ours_stand_beside_published_with_their_difference():
    one = {"arm": "ls_small", "name": "LS small", "mean": 0.5, "sd": 0.01, "n": 3, "run_ids": ["a"]}
    ours = pd.DataFrame([one])
    row = published.beside(ours, "mrpc", "entropy").iloc[0]
    assert (row.ours, row.published, row.source) == (0.5, 0.6896, "Table 2, MRPC")
    assert row.difference == pytest.approx(0.5 - 0.6896)
