"""The paper's numbers and what its own tables say of its claims (docs/experiments.md, T2.1, T3.4, T4.2).

The expected counts and correlations are those of docs/experiments.md, worked out from the printed tables.
"""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kdnb.catalog import TASKS
from kdnb.core import theory
from kdnb.experiment.arms import ARMS, arm_config
from kdnb.experiment.tables import Study
from kdnb.studies.label_smoothing import paper
from kdnb.studies.label_smoothing import paper as printed
from kdnb.sweeps import grids as axes

GLUE = ("mrpc", "qnli", "sst2", "mnli")
CLASSES = {"mrpc": 2, "qnli": 2, "sst2": 2, "mnli": 3}


def test_one_ls_cell_of_sixteen_lies_below_the_entropy_of_its_target():
    cells = printed.smoothing_floor()
    assert len(cells) == 16
    for cell in cells.itertuples():
        student = "small" if cell.table in (2, 8) else "large"
        assert cell.alpha == paper.optima(7 if cell.table in (2, 4) else 12)[student]["LS"][cell.task]["alpha"]
        assert cell.floor == pytest.approx(theory.ls_optimum_entropy(cell.alpha, CLASSES[cell.task]), abs=1e-12)
        assert cell.printed == paper.value(cell.table, "LS", cell.task)
    assert odd(cells) == [(2, "mnli")]
    (violation,) = cells[cells.odd].itertuples()
    assert (round(violation.floor, 4), violation.printed) == (1.0606, 0.8103)
    assert violation.excess == pytest.approx(-0.2503, abs=5e-5)
    others = cells[~cells.odd].excess
    assert min(others) == pytest.approx(0.0007, abs=5e-5)
    assert max(others) == pytest.approx(0.1859, abs=5e-5)
    assert ".8103" in paper.notes()["N1"]


def test_ls_multiplies_entropy():
    ratios = [paper.value(2, "LS", task) / paper.value(2, "ERM", task) for task in GLUE]
    np.testing.assert_allclose(ratios, [6.14, 4.76, 4.04, 3.00], atol=5e-3)


@pytest.mark.parametrize(("tables", "r"), [((2, 4), 0.915), ((8, 10), 0.964)])
def test_students_inherit_their_teachers_entropy(tables, r):
    cells = paper.teacher_student_entropies(tables)
    assert len(cells) == 12
    assert np.corrcoef(cells.teacher_entropy, cells.student_entropy)[0, 1] == pytest.approx(r, abs=5e-4)


@pytest.mark.parametrize(("tables", "r", "slope"), [((2, 4), 0.89, 0.65), ((8, 10), 0.93, 0.88)])
def test_inheritance_is_not_the_self_kd_cells_doing(tables, r, slope):
    cells = paper.teacher_student_entropies(tables)
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
    assert sum(paper.value(table, more, t) > paper.value(table, less, t) for t in GLUE) == count


def odd(cells):
    return list(cells[cells.odd][["table", "task"]].itertuples(index=False, name=None))


def test_one_erm_model_has_two_entropies_in_print():
    cells = printed.same_model()
    assert len(cells) == 16
    assert odd(cells) == [(4, "mnli")]
    (other,) = cells[cells.odd].itertuples()
    assert (other.printed, other.again_in, other.again) == (0.1845, 10, 0.1844)


def test_one_pair_of_tasks_shares_an_entropy():
    pairs = printed.equal_cells()
    assert len(pairs) == (4 + 3) * 2 * 6
    (equal,) = pairs[pairs.odd].itertuples()
    assert (equal.table, equal.row, equal.task, equal.other_task) == (4, "Reverse KD", "mrpc", "sst2")
    assert equal.printed == equal.other == 0.0954


def test_standard_kd_lies_above_self_kd_in_one_cell():
    cells = printed.kd_order()
    assert len(cells) == 8
    assert odd(cells) == [(8, "mrpc")]
    (above,) = cells[cells.odd].itertuples()
    assert (above.standard, above.self) == (0.1067, 0.0927)


def test_reverse_kd_on_qnli_lies_below_both_erm_models():
    """Table 4 with five times the epochs (N5); Table 10 again, and there at equal epochs."""
    cells = printed.reverse_bracket()
    assert len(cells) == 8
    assert odd(cells) == [(4, "qnli"), (10, "qnli")]
    first, again = cells[cells.odd].itertuples()
    assert (first.printed, first.alone, first.teacher) == (0.0834, 0.1218, 0.1419)
    assert (first.epochs, first.epochs_alone) == (10, 2)
    assert (again.printed, again.epochs, again.epochs_alone) == (0.1140, 2, 2)


def test_every_note_has_its_check():
    assert list(paper.notes()) == list(printed.CHECKS) == ["N1", "N2", "N3", "N4", "N5"]
    found = printed.checks()
    assert list(found.id) == list(printed.CHECKS)
    assert list(found.cells) == [16, 16, 84, 8, 8]
    assert list(found.odd) == [1, 1, 1, 1, 2]
    assert found.set_index("id")["where"]["N5"] == "Table 4, QNLI; Table 10, QNLI"


# Lines of the paper, typed from its text: table -> (row number, cells).
LINES = {
    1: (2, ["α (Eqs. 1 and 2)", "{.1, .2, .3, .4, .5, .6, .7, .8, .9}"]),
    2: (1, ["LS", ".6896", ".6752", ".4447", ".8103"]), 3: (2, ["Standard KD", "82.0", "89.2", "94.6", "81.8"]),
    4: (1, ["LS", ".5162", ".6528", ".4376", ".4770"]), 5: (2, ["Reverse KD", "83.4", "91.3", "94.9", "83.9"]),
    6: (1, ["QNLI", "99,743", "5,000", "5,463"]),
    7: (24, ["MNLI", "DistilBERT", "Self-KD", ".9", "3e-5", "9"]),
    8: (2, ["Standard KD", ".1067", ".1024", ".0107", ".1481"]), 9: (1, ["LS", "78.4", "88.8", "95.2", "80.8"]),
    10: (2, ["Reverse KD", ".1058", ".1140", ".0995", ".2163"]), 11: (0, ["ERM", "84.0", "91.0", "94.5", "83.7"]),
    12: (5, ["MRPC", "DistilBERT", "Standard KD", "1", "16", "3e-5", "3"]),
}  # fmt: skip


@pytest.mark.parametrize("number", range(1, 13))
def test_each_table_reads_as_printed(number):
    place, cells = LINES[number]
    assert list(printed.table(number).iloc[place]) == cells
    assert paper.caption(number).startswith(f"Table {number}: ")


def test_tables_have_the_papers_lines_and_no_more():
    lengths = {number: len(printed.table(number)) for number in range(1, 13)}
    assert lengths == {1: 3, 2: 4, 3: 4, 4: 3, 5: 3, 6: 4, 7: 25, 8: 4, 9: 4, 10: 3, 11: 3, 12: 28}
    assert list(printed.table(7).iloc[0]) == ["MRPC", "BERT", "ERM", "—", "7e-5", "4"]
    assert list(printed.table(12).columns) == ["Task", "Model", "Training", "α", "τ", "Learning Rate", "# Epochs"]
    assert list(printed.table(2).columns) == ["Method", "MRPC", "QNLI", "SST-2", "MNLI"]
    with pytest.raises(KeyError, match="13"):
        printed.table(13)


def test_the_printed_grids_are_the_grids_that_run():
    grids = paper.grids()
    sizes = {name: math.prod(map(len, axis.values())) for name, axis in grids.items()}
    assert sizes == {"table1": 630, "a3_kd": 1960, "a3_ls": 1960}
    assert set(grids["a3_ls"]["alpha"]) >= {0.1333, 0.1666, 0.2332, 0.3664, 0.6994, 0.8326, 0.9325}
    for name, grid, arm in (("table1", "table1", "kd_self"), ("a3_kd", "a3", "kd_self"), ("a3_ls", "a3", "ls_small")):
        points = axes.grid_named(grid).fields(arm, "mrpc", "paper")
        for field, values in grids[name].items():
            assert sorted({point[field] for point in points}) == values


def test_the_optima_of_a3_lie_on_its_grids():
    for rows in paper.optima(12).values():
        for row, cells in rows.items():
            grid = paper.grids()[{"ERM": "table1", "LS": "a3_ls"}.get(row, "a3_kd")]
            assert all(value in grid[field] for cell in cells.values() for field, value in cell.items())


def test_inheritance_with_and_without_what_the_tasks_share():
    table = printed.inheritance().set_index(["tables", "reading"])
    assert len(table) == 6
    for tables, r in (((2, 4), 0.915), ((8, 10), 0.964)):
        assert table.r["{} and {}".format(*tables), "all cells"] == pytest.approx(r, abs=5e-4)
        cells = paper.teacher_student_entropies(tables)
        dummies = pd.get_dummies(cells.task).to_numpy(float)
        left = [y - dummies @ np.linalg.lstsq(dummies, y, rcond=None)[0] for y in cells.iloc[:, 2:4].to_numpy().T]
        name = f"{tables[0]} and {tables[1]}"
        row = table.loc[(name, "task means removed")]
        assert row.r == pytest.approx(np.corrcoef(*left)[0, 1])  # the partial correlation, given the task
        assert row.low < row.r < table.r[name, "all cells"]
    assert table.low["2 and 4", "task means removed"] < 0 < table.low["8 and 10", "task means removed"]
    assert table.slope["8 and 10", "change, no Self-KD"] == pytest.approx(0.88, abs=5e-3)
    assert table.n["8 and 10", "change, no Self-KD"] == 8


def test_teacher_free_kd_as_printed_is_hardly_better_than_the_ls_it_equals():
    table = paper.teacher_free()
    assert table.loc["ResNet18", ["baseline", "LSR", "Tf-KD_reg"]].tolist() == [75.87, 77.26, 77.36]
    same = theory.equivalent_ls_alpha(*table.loc["ResNet18", ["alpha"]], 100, table.multiplier["ResNet18"])
    lsr = 0.1 * 100 / 99  # their LSR leaves the label out: alpha / (K - 1) on each other class
    assert same == pytest.approx(lsr, abs=2e-3)
    assert "Yuan" in table.attrs["source"]


def test_no_printed_binary_entropy_exceeds_ln_2():
    table = paper.results().query("metric == 'entropy'")
    limits = table.task.map(CLASSES).map(math.log)
    assert (table.value <= limits).all()
    assert (paper.results().query("metric == 'accuracy'").value.between(50, 100)).all()


def test_no_cell_is_missing():
    counts = paper.results().groupby("table").size()
    assert dict(counts) == {2: 16, 3: 16, 4: 12, 5: 12, 8: 16, 9: 16, 10: 12, 11: 12}


def test_table_7_lacks_three_self_kd_cells_and_table_12_none():
    missing = {
        (number, student, row, task)
        for number in (7, 12)
        for student, rows in paper.optima(number).items()
        for row, cells in rows.items()
        for task in GLUE
        if cells[task] is None
    }
    assert missing == {(7, "small", "Self-KD", task) for task in ("mrpc", "qnli", "sst2")}


def test_the_optima_lie_on_the_grid_of_table_1():
    for rows in paper.optima(7).values():
        for row, cells in rows.items():
            for cell in filter(None, cells.values()):
                assert round(cell["lr"] * 1e5, 6) in range(1, 8)
                assert cell["epochs"] in range(1, 11)
                assert (row == "ERM") == ("alpha" not in cell)


@pytest.mark.parametrize(("task", "total"), [("qnli", 104_743), ("sst2", 67_349), ("mnli", 392_702)])
def test_table_6_cuts_glues_train_split_in_two(task, total):
    train, validation, test = paper.sizes(task)
    assert train + {"qnli": validation, "sst2": test, "mnli": validation}[task] == total
    assert TASKS[task].sizes == paper.sizes(task)


def test_mrpc_is_used_as_it_is():
    assert paper.sizes("mrpc") == TASKS["mrpc"].sizes == (3668, 408, 1725)


def test_an_unknown_cell_is_a_key_error():
    with pytest.raises(KeyError, match="Table 2 has no Reverse KD on mrpc"):
        paper.value(2, "Reverse KD", "mrpc")


def test_a_stand_in_stands_beside_its_glue_task():
    table = pd.DataFrame({"arm": list(ARMS)})
    shown = paper.printed_as(table, "rt", "accuracy").set_index("arm")
    assert shown.published["kd_reverse"] == pytest.approx(0.949)  # Table 5, SST-2
    assert shown.source["kd_reverse"] == "Table 5, SST-2"
    assert math.isnan(shown.published["tfkd_small"])
    assert paper.printed_as(table, "section", "entropy").published.isna().all()  # stands in for nothing


def test_ours_stand_beside_published_with_their_difference():
    one = {"arm": "ls_small", "name": "LS small", "mean": 0.5, "sd": 0.01, "n": 3, "run_ids": ["a"]}
    ours = pd.DataFrame([{**one, "degenerate": 1}])
    row = paper.beside(ours, "mrpc", "entropy").iloc[0]
    assert (row.ours, row.published, row.source) == (0.5, 0.6896, "Table 2, MRPC")
    assert row.difference == pytest.approx(0.5 - 0.6896)
    assert row.degenerate == 1


def test_deviations_stand_as_the_runs_have_them():
    """Each aspect of the paper's protocol beside that of the runs, read from their configs and costs."""
    fields = {"task": "rt", "profile": "cpu", "data": "0" * 16}
    configs = [arm_config("erm_small", **fields, seed=seed) for seed in (0, 1)]
    configs.append(arm_config("ls_small", **fields, seed=0, alpha=0.4))
    configs.append(arm_config("kd_self", **fields, seed=0, alpha=0.9, teacher_run="one", epochs=7))
    cost = {"precision": "bf16", "device": "cpu (x86_64)"}
    made = {"labels": {"train": np.zeros(64)}, "metrics": {"cost": cost}}
    runs = {str(number): SimpleNamespace(config=config, **made) for number, config in enumerate(configs)}
    runs["0"].metrics = {"cost": {**cost, "device": "some card"}}
    table = pd.DataFrame({"seed": [config.seed for config in configs]})
    found = printed.deviations(Study("rt", "cpu", table, runs)).set_index("aspect")
    assert found.here["models"] == "minilm-6 and minilm-3"
    assert found.here["train rows"] == "{64}"
    assert found.here["seeds"] == "2"
    assert found.here["epochs"] == "{3, 7}"
    assert found.here["alpha"] == "{.4, .9}"  # that of no method but the two which have one
    assert found.here["precision"] == "bf16 on CPUs, bf16 on some card"
    assert found.paper["epochs"] == "searched: {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}"
    assert found.paper["train rows"].startswith("MRPC 3,668, QNLI 99,743")
