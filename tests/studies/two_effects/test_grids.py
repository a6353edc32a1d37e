"""The grids of the two effects: who is taught by whom, at which budget, and that arms share their runs."""

from kdnb.studies import registry
from kdnb.sweeps import grids

registry.grids()
DATA = "0" * 16


def points(grid: str, task: str = "rt", profile: str = "cpu"):
    return grids.stages(grid, task, profile, DATA, (10,)).points


def test_every_teacher_stands_before_its_student():
    for grid in ("softness", "dose", "budgets", "placebo", "seeds"):
        seen = set()
        for point in points(grid):
            assert not point.config.teacher_run or point.config.teacher_run in seen, (grid, point)
            seen.add(point.config.run_id())


def test_the_two_by_two_is_at_alpha_1_with_one_teacher():
    taught = [point.config for point in points("softness") if point.config.teacher_run]
    assert {(c.method, getattr(c, "transform", "")) for c in taught} == {
        ("kd", ""),
        ("transformed", "hard"),
        ("transformed", "swap"),
    }
    assert {c.alpha for c in taught} == {1.0}
    assert len({c.teacher_run for c in taught}) == 1


def test_the_dose_has_both_weights_and_its_middle_is_plain_kd():
    doses = {
        (c.alpha, "hard" if getattr(c, "transform", "") == "hard" else getattr(c, "sharpness", 1.0))
        for c in (point.config for point in points("dose"))
        if c.teacher_run
    }
    assert doses == {(alpha, dose) for alpha in (0.9, 1.0) for dose in (0.25, 0.5, 1.0, 2.0, 4.0, "hard")}


def test_a_budget_is_the_teachers_as_well():
    of_name = {point.config.run_id(): point.config for point in points("budgets")}
    taught = [config for config in of_name.values() if config.teacher_run]
    assert {config.epochs for config in taught} == {1, 2, 3, 6, 10}
    assert all(of_name[config.teacher_run].epochs == config.epochs for config in taught)


def test_another_seeds_teacher_is_the_next_seeds_run():
    (other,) = {
        p.config.teacher_run for p in points("placebo") if p.config.teacher_run and "-s11-" in p.config.teacher_run
    }
    assert other in {p.config.run_id() for p in grids.stages("placebo", "rt", "cpu", DATA, (11,)).points}


def test_tasks_off_the_floor_have_their_own_budget_in_every_arm():
    assert {point.config.epochs for point in points("seeds", "passage")} == {6}
    assert {point.config.epochs for point in points("seeds", "rt")} == {3}


def test_a_model_that_two_seeds_need_is_planned_once():
    ids = [point.config.run_id() for point in grids.stages("placebo", "rt", "cpu", DATA, (10, 11)).points]
    assert len(ids) == len(set(ids)) == 2 * 10 - 1
