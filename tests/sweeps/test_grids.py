"""Grids: the paper's counts, subsets, seeds, and teachers that stand in until they are selected.

T5.1 of docs/experiments.md.
"""

import functools
from collections import Counter
from dataclasses import replace

import pytest

from kdnb.catalog import PROFILES
from kdnb.core.methods import METHODS
from kdnb.experiment.arms import ARMS
from kdnb.experiment.points import compare_points
from kdnb.studies.label_smoothing import grids as paper_grids
from kdnb.studies.label_smoothing import paper
from kdnb.sweeps import grids

DATA = "0" * 16
LARGE = ("a3", "table1")  # thousands of points
GLUE = ("mrpc", "qnli", "sst2", "mnli")
LS_28 = [
    0.1, 0.1333, 0.1666, 0.1999, 0.2332, 0.2665, 0.2998, 0.3331, 0.3664, 0.3997, 0.433, 0.4663, 0.4996, 0.5329, 0.5662,
    0.5995, 0.6328, 0.6661, 0.6994, 0.7327, 0.766, 0.7993, 0.8326, 0.8659, 0.8992, 0.9325, 0.9658, 0.9991,
]  # fmt: skip


kept = functools.cache(grids.stages)


def made(grid, task="sst2", profile="paper", **more):
    return grids.stages(grid, task, profile, DATA, **more) if more else kept(grid, task, profile, DATA)


def arms(points):
    return Counter(point.arm for point in points)


def values(points, name):
    return sorted({getattr(point.config, name) for point in points})


def of(stages, arm):
    return [point for point in stages.points if point.arm == arm]


@pytest.mark.slow
def test_table_1_has_630_points_per_soft_arm_and_3290_per_task():
    stages = made("table1")
    assert arms(stages.erm) == {"erm_large": 70, "erm_small": 70}
    assert set(arms(stages.soft).values()) == {630}
    assert len(arms(stages.soft)) == 5
    assert len(stages.points) == 3290
    for arm in arms(stages.points):
        assert values(of(stages, arm), "lr") == [1e-5, 2e-5, 3e-5, 4e-5, 5e-5, 6e-5, 7e-5]
        assert values(of(stages, arm), "epochs") == list(range(1, 11))
    assert values(stages.soft, "alpha") == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert values(stages.points, "tau") == [1.0]
    assert values(stages.points, "schedule") == ["linear"]


@pytest.mark.slow
def test_table_1_has_13160_points_on_the_papers_tasks():
    names = [point.config.run_id() for task in GLUE for point in made("table1", task).points]
    assert len(names) == len(set(names)) == 13160


@pytest.mark.slow
def test_a3_has_1960_points_per_arm_and_39200_in_all():
    stages = [made("a3", task) for task in GLUE]
    assert all(set(arms(one.soft).values()) == {1960} for one in stages)
    assert sum(len(one.soft) for one in stages) == 39200
    assert len({point.config.run_id() for one in stages for point in one.points}) == 39200 + 4 * 140


@pytest.mark.slow
def test_a3_takes_its_teachers_from_the_erm_runs_of_table_1():
    """They are no part of its 39,200, and no second ones are trained."""
    a3, table1 = made("a3"), made("table1")
    ids = {point.config.run_id() for point in a3.erm}
    assert a3.extra == ids == {point.config.run_id() for point in table1.erm}
    assert table1.extra == set()


@pytest.mark.slow
def test_the_alphas_and_taus_of_a3():
    stages = made("a3")
    assert values(of(stages, "ls_small"), "alpha") == LS_28
    assert len(LS_28) == 28
    for arm in ("kd_standard", "kd_self", "kd_reverse"):
        assert values(of(stages, arm), "tau") == [1, 2, 4, 8, 16, 32, 64]
        assert values(of(stages, arm), "alpha") == [0.25, 0.5, 0.75, 1]
    assert values(of(stages, "ls_large"), "tau") == [1]


@pytest.mark.slow
def test_every_selected_point_of_the_paper_lies_in_its_grid():
    for table, grid in ((7, "table1"), (12, "a3")):
        for task in GLUE:
            stages = made(grid, task)
            names = {replace(point.config, teacher_run="x" * bool(point.config.teacher_run)) for point in stages.points}
            for arm in paper_grids.PAPER_ARMS:
                printed = paper.optima(table)[ARMS[arm].student][ARMS[arm].paper_row][task]
                if printed:
                    basis = of(stages, arm)[0].config
                    tau = {"tau": printed["tau"]} if printed.get("tau") else {}
                    teacher = "x" * bool(basis.teacher_run)
                    found = replace(
                        basis,
                        lr=printed["lr"],
                        epochs=printed["epochs"],
                        alpha=printed.get("alpha", 0.0),
                        **tau,
                        teacher_run=teacher,
                    )
                    assert found in names, (table, task, arm)


@pytest.mark.parametrize("task", ["sst2", "rt"])
def test_published_points_are_the_printed_ones_and_a_stand_in_takes_its_tasks(task):
    stages = made("published7", task, seeds=(0,))
    (standard,) = of(stages, "kd_standard")
    (reverse,) = of(stages, "kd_reverse")
    (erm,) = of(stages, "erm_large")
    assert (standard.config.alpha, standard.config.lr, standard.config.epochs) == (0.6, 6e-5, 2)
    assert (reverse.config.alpha, reverse.config.lr, reverse.config.epochs) == (0.7, 1e-5, 7)
    assert (erm.config.lr, erm.config.epochs) == (1e-5, 9)
    assert standard.config.teacher_run == erm.config.run_id()
    assert {point.config.history_points for point in stages.points} == {10}  # Figures 1 and 2 are drawn from them


def test_a_row_that_table_7_lacks_is_searched_and_marked():
    searched = [p.config for p in of(made("published7", "mrpc", seeds=(0,)), "kd_self")]
    assert sorted((c.alpha, c.epochs) for c in searched) == [(a, e) for a in (0.5, 0.9) for e in (3, 6, 9)]
    assert {c.lr for c in searched} == {3e-5}
    assert paper_grids.searched("mrpc") == ["kd_self"]
    (printed,) = of(made("published7", "mnli", seeds=(0,)), "kd_self")
    assert (printed.config.alpha, printed.config.epochs) == (0.9, 9)
    assert paper_grids.searched("mnli") == []
    assert len(of(made("published12", "mrpc", seeds=(0,)), "kd_self")) == 1


def test_published12_has_its_temperatures():
    stages = made("published12", "mnli", seeds=(0,))
    assert {p.arm: (p.config.alpha, p.config.tau) for p in stages.soft} == {
        "ls_small": (0.1666, 1),
        "ls_large": (0.1, 1),
        "kd_standard": (1, 4),
        "kd_self": (0.75, 64),
        "kd_reverse": (0.5, 4),
    }


def test_a_task_that_stands_in_for_none_has_no_published_point():
    with pytest.raises(ValueError, match="Table 7 has no task 'section'"):
        made("published7", "section", "cpu")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("grid", [pytest.param(g, marks=pytest.mark.slow) if g in LARGE else g for g in grids.GRIDS])
def test_every_grid_stands_at_every_profile(grid, profile):
    stages = made(grid, "rt", profile)
    names = [point.config.run_id() for point in stages.points]
    assert len(set(names)) == len(names) > 1
    assert {point.config.method for point in stages.erm} == {"erm"}
    if grids.grid_named(grid).chain is grids._no_chain:  # a chain may add models that nobody teaches
        assert "erm" not in {point.config.method for point in stages.soft}
    teachers = set(names)
    for point in stages.soft:
        known = point.config.teacher_run in teachers or grids.is_placeholder(point.config)
        assert known == any(METHODS[name].needs_teacher for name in point.config.methods)


def test_the_searches_are_as_large_as_they_are_said_to_be():
    assert len(made("search", "rt", "cpu").soft) == 60
    assert {p.config.schedule for p in made("search", "rt", "cpu").points} == {"constant"}
    assert len(made("search", "rt", "toy").soft) == 8
    assert len(made("temperature", "rt", "demo", seeds=(0,)).soft) == 2 * (1 + 4 * 2)


@pytest.mark.parametrize("profile", ["demo", "cpu"])
def test_smoothing_is_searched_over_as_many_settings_as_distillation(profile):
    """Those of KD with tau^2, and the fixed arm's, which LS's alphas have among them."""
    soft = ("ls_small", "ls_large", "kd_standard", "kd_self", "kd_reverse")
    stages = made("temperature", "rt", profile, seeds=(0,), arms=soft)
    usual = compare_points("rt", profile, DATA, (0,))
    for arm in soft:
        points = [p for p in of(stages, arm) if p.config.tau2_scaling] + [p for p in usual if p.arm == arm]
        assert len({p.config.run_id() for p in points}) == 11


def test_images_are_searched_at_rates_for_models_that_start_from_nothing():
    images, texts = (made("search", task, "cpu").soft for task in ("digits", "rt"))
    assert values(images, "lr") == [5e-4, 1e-3, 2e-3, 4e-3]
    assert max(values(texts, "lr")) < min(values(images, "lr"))
    assert values(images, "alpha") == values(texts, "alpha")


def test_tau_1_is_not_run_twice():
    """tau^2 is 1 there: with scaling or without, it is the same loss."""
    soft = made("temperature", "rt", "cpu", seeds=(0,)).soft
    assert {p.config.tau2_scaling for p in soft if p.config.tau == 1} == {True}
    assert {p.config.tau2_scaling for p in soft if p.config.tau == 16} == {True, False}


@pytest.mark.parametrize("grid", ["temperature", "ladder"])
def test_a_fixed_grid_is_taught_by_the_runs_of_the_comparison(grid):
    stages = made(grid, "rt", "demo", seeds=(0, 1))
    usual = {point.config.run_id() for point in compare_points("rt", "demo", DATA, (0, 1))}
    shared = [p for p in stages.erm if p.config.student in ("large", "small")]
    assert shared
    assert all(p.config.run_id() in usual for p in shared)
    for point in stages.soft:
        assert not grids.is_placeholder(point.config)
        assert f"-s{point.config.seed}-" in point.config.teacher_run


@pytest.mark.parametrize("profile", PROFILES)
def test_the_ladder_and_its_mirror(profile):
    stages, sizes = made("ladder", "rt", profile, seeds=(0,)), paper_grids.ladder_sizes(profile)
    assert {"large", "small"} <= set(sizes)
    assert len(sizes) >= 3
    model_of = {point.config.run_id(): point.config.student for point in stages.erm}
    pairs = {(model_of[p.config.teacher_run], p.config.student) for p in stages.soft}
    assert pairs == {(size, "small") for size in sizes} | {("small", size) for size in sizes}
    assert {p.arm for p in stages.points} >= {"erm_large", "erm_small", "kd_standard", "kd_self", "kd_reverse"}
    assert all(p.title for p in stages.points)


def test_seeds_are_one_more_axis():
    one, three = made("search", "rt", "demo"), made("search", "rt", "demo", seeds=(0, 1, 7))
    assert len(three.points) == 3 * len(one.points)
    assert values(three.points, "seed") == [0, 1, 7]
    assert all(point.config.order_seed == point.config.seed for point in three.points)
    assert set(three.candidates) == {("large", 0), ("large", 1), ("large", 7)}
    assert grids.seeds_of("table1", "paper") == (0,)
    assert grids.seeds_of("temperature", "paper") == PROFILES["paper"].seeds


@pytest.mark.slow
def test_a_constant_schedule_shares_trainings():
    linear, constant = made("table1"), made("table1", schedule="constant")
    assert len({p.config.training() for p in linear.points}) == 3290
    assert len({p.config.training() for p in constant.points}) == 329
    with pytest.raises(ValueError, match="schedule must be one of linear, constant, got 'cosine'"):
        made("table1", schedule="cosine")


@pytest.mark.slow
def test_soft_points_stand_with_a_placeholder_until_their_teachers_are_selected():
    before = made("table1", "rt")
    waiting = [p for p in before.soft if grids.is_placeholder(p.config)]
    assert arms(waiting) == {"kd_standard": 630, "kd_self": 630, "kd_reverse": 630}
    chosen = {key: points[3].config.run_id() for key, points in before.candidates.items()}
    assert set(chosen) == {("large", 0), ("small", 0)}
    after = made("table1", "rt", teachers=chosen)
    assert not any(grids.is_placeholder(p.config) for p in after.soft)
    assert {p.config.teacher_run for p in of(after, "kd_standard")} == {chosen["large", 0]}
    assert {p.config.teacher_run for p in of(after, "kd_self") + of(after, "kd_reverse")} == {chosen["small", 0]}
    strip = [replace(p.config, teacher_run="") for p in of(before, "ls_small")]
    assert strip == [p.config for p in of(after, "ls_small")]
    assert [p.config for p in before.erm] == [p.config for p in after.erm]


@pytest.mark.slow
def test_the_first_stage_alone_is_the_same_first_stage():
    alone, both = made("a3", erm_only=True), made("a3")
    assert alone.soft == []
    assert (alone.erm, alone.extra, alone.candidates) == (both.erm, both.extra, both.candidates)


# Subsets


def test_arms_bring_the_candidates_for_their_teachers():
    stages = made("table1", arms=("kd_standard",))
    assert arms(stages.points) == {"erm_large": 70, "kd_standard": 630}
    assert len(stages.extra) == 70
    assert arms(made("table1", arms=("ls_small", "erm_small")).points) == {"ls_small": 630, "erm_small": 70}
    assert arms(made("table1", arms=("tfkd_small",)).points) == {"tfkd_small": 630}


def test_a_filter_holds_for_both_stages():
    stages = made("table1", only={"lr": "0..3e-5", "epochs": (1, 2)})
    assert arms(stages.erm) == {"erm_large": 6, "erm_small": 6}
    assert set(arms(stages.soft).values()) == {54}
    assert {key: len(points) for key, points in stages.candidates.items()} == {("large", 0): 6, ("small", 0): 6}


@pytest.mark.slow
def test_a_field_that_a_method_lacks_excludes_nothing():
    stages = made("a3", only={"tau": 4, "alpha": "0.51..1"})
    assert len(of(stages, "kd_standard")) == 70 * 2
    assert len(of(stages, "ls_small")) == 70 * sum(alpha > 0.5 for alpha in LS_28)
    assert len(stages.erm) == 140


def test_a_filter_about_students_leaves_their_teachers():
    stages = made("table1", only={"method": "kd", "student": "large", "lr": 1e-5})
    assert arms(stages.points) == {"erm_small": 10, "kd_reverse": 90}
    assert len(stages.extra) == 10
    published7 = made("published7", "mrpc", seeds=(0,), only={"arm": "kd_standard", "lr": 6e-5})
    assert arms(published7.points) == {"erm_large": 1, "kd_standard": 1}


def test_a_teacher_can_be_asked_for():
    sizes = paper_grids.ladder_sizes("demo")
    stages = made("ladder", "rt", "demo", seeds=(1,), only={"method": "kd", "student": "small", "teacher": sizes[1:]})
    assert {p.config.student for p in stages.soft} == {"small"}
    assert len(stages.soft) == len(sizes) - 1


def test_one_side_of_a_switch_can_be_asked_for():
    stages = made(
        "switching", "rt", "cpu", seeds=(0,), only={"method": "switch", "before": "erm", "switch_at": "0.5..1"}
    )
    assert {(p.config.before, p.config.switch_at) for p in stages.soft} == {("erm", 0.5), ("erm", 0.75), ("erm", 0.9)}
    assert len(stages.extra) == len(stages.erm) == 1  # their teacher


@pytest.mark.parametrize(("only", "words"), [
    ({"lr": 1}, r"no point of search has lr=1 \(lr takes 0.0001, 0.0002\)$"),
    ({"lr": (1e-4, 3e-4)}, r"no point of search has lr=0.0003 \(lr takes 0.0001, 0.0002\)$"),
    ({"epochs": "5..9"}, r"no point of search has epochs=5..9 \(epochs takes 1, 2\)$"),
    ({"before": "kd"}, r"no point of search has before=kd \(before takes no value\)$"),
    ({"method": "erm", "teacher": "large"}, "no point of search is left with only method=erm teacher=large$"),
])  # fmt: skip
def test_nothing_left_is_an_error_that_tells_the_values(only, words):
    with pytest.raises(ValueError, match=words):
        made("search", "rt", "demo", only=only)


@pytest.mark.parametrize(("wrong", "words"), [
    ({"grid": "tabel1"}, r"unknown grid 'tabel1'; did you mean 'table1'\?"),
    ({"profile": "papr"}, r"unknown profile 'papr'; did you mean 'paper'\?"),
    ({"arms": ("kd_standrd",)}, r"grid table1 has no arm 'kd_standrd'; did you mean 'kd_standard'\?"),
    ({"grid": "ladder", "arms": ("kd_standard",)}, "grid ladder has no arm 'kd_standard'"),
    ({"only": {"epoch": 1}}, r"unknown field 'epoch'; did you mean 'epochs'\?"),
])  # fmt: skip
def test_a_wrong_name_gets_the_nearest(wrong, words):
    with pytest.raises(ValueError, match=words):
        made(**{"grid": "table1", **wrong})


@pytest.mark.slow
def test_forty_thousand_points_have_forty_thousand_names():
    """As `kdnb plan` makes them, teachers selected."""
    chosen = {("large", 0): "rt-erm-large-s0-a", ("small", 0): "rt-erm-small-s0-b"}
    names = {p.config.run_id() for task in GLUE for p in made("a3", task, teachers=chosen).points}
    assert len(names) == 39760
