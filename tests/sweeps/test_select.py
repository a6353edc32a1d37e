"""Selection: best on validation, ties broken as said, and what the test split says is never read by it."""

import ast
import inspect
import os
import random
import shlex
import sys
from dataclasses import replace

import pytest
from command import last_json
from fakes import logits_with, store_run

from kdnb import paths
from kdnb.cli import sweeps
from kdnb.core import metrics
from kdnb.core import store as runs
from kdnb.data import splits
from kdnb.data import splits as data
from kdnb.experiment import obtain
from kdnb.experiment.points import Point, compare_points
from kdnb.studies import registry
from kdnb.studies.label_smoothing.grids import PAPER_ARMS
from kdnb.sweeps import grids, select
from kdnb.sweeps.record import Sweep

OPENED = []


def _hook(event, details):
    if event == "open" and OPENED and isinstance(details[0], str | bytes | os.PathLike):
        OPENED.append(os.fsdecode(details[0]))


sys.addaudithook(_hook)


@pytest.fixture
def opened():
    """The files that Python opens during a test, from now on."""
    OPENED[:] = ["from here"]
    yield OPENED
    OPENED.clear()


def search(**more):
    return grids.stages("search", "rt", "toy", "0" * 16, **more)


def drawn(points, seed=0):
    """Validation scores, every run with another one."""
    return dict(
        zip((p.config.run_id() for p in points), random.Random(seed).sample(range(21), len(points)), strict=True)
    )


def filled(points, seed=0, test=None):
    scores = drawn(points, seed)
    for point in points:
        store_run(point.config, scores[point.config.run_id()], (test or {}).get(point.config.run_id(), 10))
    return scores


def test_the_best_on_validation_is_selected(store):
    points = search().erm
    scores = filled(
        points, test={p.config.run_id(): 20 - s for p, s in zip(points, drawn(points).values(), strict=True)}
    )
    for choice in select.by_arm(points):
        mine = {p.config.run_id(): scores[p.config.run_id()] for p in points if p.arm == choice.point.arm}
        assert choice.point.config.run_id() == max(mine, key=mine.get)
        assert choice.value == max(mine.values()) / 20
        assert (choice.stored, choice.wanted, choice.complete) == (4, 4, True)


TIES = [
    {"epochs": 2, "lr": 1e-3, "alpha": 0.9, "tau": 8.0},
    {"epochs": 3, "lr": 1e-5, "alpha": 0.5, "tau": 4.0},
    {"epochs": 3, "lr": 1e-4, "alpha": 0.1, "tau": 4.0},
    {"epochs": 3, "lr": 1e-4, "alpha": 0.2, "tau": 1.0},
    {"epochs": 3, "lr": 1e-4, "alpha": 0.2, "tau": 2.0},
    {"epochs": 3, "lr": 1e-4, "alpha": 0.2, "tau": 2.0, "tau2_scaling": False},
]


@pytest.mark.parametrize("first", range(len(TIES)))
def test_ties_go_to_fewer_epochs_then_smaller_rate_alpha_and_tau(store, first):
    """Equal on validation: the list is in the order of preference, whatever the order of the candidates."""
    basis = next(p for p in search().soft).config
    points = [Point("kd_standard", replace(basis, **fields)) for fields in TIES[first:]]
    random.Random(first).shuffle(points)
    for point in points:
        store_run(point.config, 15, test=random.Random(point.config.alpha).randrange(20))
    assert select.best(points).point.config == replace(basis, **TIES[first])
    assert select.best(points[::-1]).point.config == replace(basis, **TIES[first])


def test_a_better_score_comes_before_any_tie(store):
    points = search().erm[:2]
    store_run(points[0].config, 15)
    store_run(points[1].config, 16)
    assert points[0].config.epochs < points[1].config.epochs
    assert select.best(points).point == points[1]


def test_the_likelihood_may_decide_instead(store):
    """Equally accurate, one of them surer of its mistakes."""
    calm, sure = search().erm[:2]
    store_run(calm.config, 15, sharpness=0.5)
    store_run(sure.config, 15, sharpness=9.0)
    for points in ([calm, sure], [sure, calm]):
        assert select.best(points, "nll").point == calm
    assert select.best([calm, sure], "nll").value < 1
    with pytest.raises(ValueError, match=r"unknown metric 'accurac'; did you mean 'accuracy'\?"):
        select.best([calm], "accurac")


def test_what_is_missing_is_counted_and_nothing_is_nothing(store):
    points = search().erm[:4]
    assert select.best(points) is None
    assert select.by_arm(points) == []
    store_run(points[2].config, 3)
    choice = select.best(points)
    assert (choice.point, choice.stored, choice.wanted, choice.complete) == (points[2], 1, 4, False)


def test_a_damaged_run_is_told_and_left_out(store, capsys):
    points = search().erm[:3]
    for point, right in zip(points, (20, 18, 5), strict=True):
        store_run(point.config, right)
    for point in points[:2]:
        path = store / point.config.run_id() / "metrics.json"
        path.write_bytes(path.read_bytes().replace(b'"accuracy": ', b'"accuracy": 1'))
    assert select.best(points).point == points[2]
    (line,) = capsys.readouterr().err.splitlines()
    assert points[0].config.run_id() in line
    assert "and 1 more" in line
    assert "kdnb runs verify --redo" in line


# Teachers


def test_a_teacher_is_the_erm_run_of_its_size_and_seed_selected_on_validation(store):
    before = search(seeds=(0, 1), arms=("kd_standard", "kd_self"))
    scores = filled(before.erm)
    chosen = select.teachers(before)
    assert set(chosen) == {("large", 0), ("large", 1), ("small", 0), ("small", 1)}
    for (model, seed), run_id in chosen.items():
        ids = [p.config.run_id() for p in before.erm if (p.config.student, p.config.seed) == (model, seed)]
        assert len(ids) == 4
        assert run_id == max(ids, key=scores.get)
    after = search(seeds=(0, 1), arms=("kd_standard", "kd_self"), teachers=chosen)
    for point in after.soft:
        model = "large" if point.arm == "kd_standard" else "small"
        assert point.config.teacher_run == chosen[model, point.config.seed]


def test_no_teacher_is_selected_before_all_candidates_are_there(store):
    stages = search()
    filled([point for point in stages.erm if point.config.student == "large"][:-1])
    assert select.teachers(stages) == {}
    assert all(grids.is_placeholder(p.config) for p in search(teachers=select.teachers(stages)).soft)


@pytest.mark.slow
def test_the_matched_erm_run_has_the_same_training_and_lies_in_the_grid():
    stages = grids.stages("table1", "rt", "cpu", "0" * 16, arms=(*PAPER_ARMS, "tfkd_small"))
    names = {point.config.run_id() for point in stages.erm}
    for point in stages.soft:
        found = select.matched_erm(point.config)
        same = ("student", "seed", "lr", "epochs", "schedule", "data")
        assert [getattr(found, n) for n in same] == [getattr(point.config, n) for n in same]
        assert found.run_id() in names


def test_a_fixed_grid_has_its_matched_erm_among_the_runs_of_the_comparison(store):
    stages = grids.stages("temperature", "rt", "toy", "0" * 16)
    usual = {p.config.run_id() for p in compare_points("rt", "toy", "0" * 16, (0, 1), ("erm_small",))}
    assert {select.matched_erm(p.config, stages.erm).run_id() for p in stages.soft} == usual


@pytest.mark.parametrize(
    "grid", [pytest.param(g, marks=pytest.mark.slow) if g == "a3" else g for g in registry.grids()]
)
def test_every_soft_point_has_a_matched_erm_run(grid):
    """A config in which nothing of the soft target or of a switch is left."""
    plain = {"method": "erm", "teacher_run": "", "before": "", "after": "", "switch_at": 0.0, "ramp": 0.0}
    plain |= {"alpha": 0.0, "tau": 1.0, "tau2_scaling": True, "confidence": 0.0, "multiplier": 1.0}
    for point in grids.stages(grid, "rt", "toy", "0" * 16).soft:
        assert select.matched_erm(point.config) == replace(point.config, **plain, tfkd_form="paper", extra=())


# Arms, and what is no arm


def test_every_switch_point_is_one_of_its_own(store):
    """Labels to KD and KD to labels at five places each: ten points a seed, none chosen from among the others."""
    stages = grids.stages("switching", "rt", "cpu", "0" * 16, (0, 1))
    switched = [point for point in stages.soft if point.config.method == "switch"]
    filled(switched[:10], seed=1)
    filled(switched[10:], seed=2)
    assert len({(p.config.before, p.config.switch_at) for p in switched}) == 10
    choices = select.by_arm(switched)
    assert [choice.point for choice in choices] == switched
    assert {(choice.stored, choice.wanted) for choice in choices} == {(1, 1)}


@pytest.mark.parametrize(
    "changes", [{"ramp": 0.2}, {"switch_at": 0.3}, {"before": "ls"}, {"before": "kd", "after": "erm"}]
)
def test_a_switchs_learning_rate_is_searched_and_its_settings_are_not(store, changes):
    basis = next(p.config for p in grids.stages("switching", "rt", "toy", "0" * 16).soft if p.config.before == "erm")
    points = [Point("", replace(basis, **fields, lr=lr)) for fields in ({}, changes) for lr in (1e-3, 2e-3)]
    for point, right in zip(points, (5, 15, 20, 10), strict=True):
        store_run(point.config, right)
    choices = select.by_arm(points)
    assert [choice.point for choice in choices] == points[1:3]
    assert {choice.wanted for choice in choices} == {2}


def test_an_arm_has_one_point_a_seed_whichever_teacher_taught_it(store):
    basis = next(p for p in search().soft).config
    points = [Point("kd_standard", replace(basis, teacher_run=f"rt-erm-large-s0-{i:012d}")) for i in range(3)]
    for point, right in zip(points, (5, 15, 10), strict=True):
        store_run(point.config, right)
    (choice,) = select.by_arm(points)
    assert (choice.point, choice.wanted) == (points[1], 3)


def test_pairs_that_are_no_arm_are_told_apart_by_student_and_teacher(store):
    points = [p for p in grids.stages("ladder", "rt", "toy", "0" * 16, (0,)).points if not p.arm]
    filled(points)
    assert len(points) > 1
    assert [choice.point for choice in select.by_arm(points)] == points


# The test split


def test_a_selection_opens_no_logits(store, opened):
    """Not one byte of them: only metrics.json of each candidate is opened, and the folder is listed."""
    stages = search(arms=("erm_small", "kd_standard"))
    filled(stages.points)
    del opened[1:]
    assert select.by_arm(stages.points)
    assert select.teachers(stages)
    touched = {os.path.basename(name) for name in opened[1:] if str(paths.RUNS) in name}
    assert touched == {"metrics.json"}


def test_a_selection_works_where_the_logits_are_gone(store):
    stages = search(arms=("erm_small", "kd_standard"))
    filled(stages.points)
    before = select.by_arm(stages.points), select.teachers(stages)
    for point in stages.points:
        (store / point.config.run_id() / "arrays.npz").write_bytes(b"TRIPWIRE")
    assert (select.by_arm(stages.points), select.teachers(stages)) == before


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_no_test_result_whatever_moves_a_selection(tmp_path, monkeypatch, seed):
    """The same validation logits, other test logits: the same choice. So with the worst on test, or at random."""
    found = []
    points = search(arms=("erm_small", "kd_standard")).points
    scores = drawn(points)
    against = {name: 20 - score for name, score in scores.items()}
    rng = random.Random(seed)
    anything = {name: rng.randrange(21) for name in scores}
    for number, test in enumerate((scores, against, anything)):
        monkeypatch.setattr(paths, "RUNS", tmp_path / str(number))
        filled(points, test=test)
        found.append(([(c.point, c.value) for c in select.by_arm(points)], select.by_arm(points, "nll")))
    assert found[0] == found[1] == found[2]


def test_validation_is_all_that_a_selection_is_given(store):
    (point, *_) = search().erm
    store_run(point.config, 12, test=20)
    given = runs.load_validation(point.config.run_id())
    assert given == metrics.summary(*logits_with(12))
    used = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(select)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "store"
    }
    assert used == {"load_validation", "stored_ids"}


@pytest.mark.slow
def test_test_is_read_only_when_every_choice_is_made(store, monkeypatch):
    task_data = {task: splits.load(task, "toy") for task in ("rt", "section")}
    for task, what in task_data.items():
        filled(grids.stages("search", task, "toy", what.fingerprint).erm)
    events, choose, load = [], select.best, runs.load
    monkeypatch.setattr(select, "best", lambda *args: events.append("choose") or choose(*args))
    monkeypatch.setattr(runs, "load", lambda run_id: events.append("read") or load(run_id))
    asked = Sweep(grid="search", tasks=("rt", "section"), profile="toy", seeds=(0,))
    found = sweeps.make_selection(asked, "accuracy", "kdnb sweep search")
    assert len(found["selected"]) == 4
    assert events.index("read") > max(i for i, event in enumerate(events) if event == "choose")


# The command


@pytest.mark.parametrize("words", [
    ["search", "--task", "rt@0.2,rt", "--profile", "toy", "--seeds", "0,1", "--only", "lr=.01", "--only", "epochs=2"],
    ["search", "--profile", "toy", "--train-rows", "40", "--data", "my file.csv", "--text", "a text", "--label", "is"],
    ["two rates.toml", "--task", "rt", "--profile", "toy"],
])  # fmt: skip
def test_what_makes_the_runs_is_asked_for_as_the_selection_was(kdnb, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    rows = [f"text number {i},{i % 2}\n" for i in range(60)]
    (tmp_path / "my file.csv").write_text("".join(["a text,is\n", *rows]), encoding="utf-8")
    (tmp_path / "two rates.toml").write_text("arms = ['erm_small']\n[axes]\nlr = [1e-4, 2e-4]\n", encoding="utf-8")
    code, _, err = kdnb("select", *words, "--metric", "nll", "--json")
    named, command = err[:-2].split(" is stored: make them with `")
    assert (code, named.startswith("kdnb: no run of ")) == (2, True)
    told = shlex.split(command)
    assert (told[:3], sorted(told[3:])) == (["kdnb", "sweep", words[0]], sorted(words[1:]))
    planned = kdnb("plan", *told[2:], "--no-probe")
    assert planned[0] == 0
    assert planned == kdnb("plan", *words, "--no-probe")


@pytest.mark.slow
def test_the_command_tells_the_selected_runs_and_their_matched_erm(kdnb):
    """A real search in the toy profile, both stages, from nothing."""
    toy = splits.load("rt", "toy")
    code, _, err = kdnb("select", "search", "--profile", "toy")
    assert (code, err) == (2, "kdnb: no run of search is stored: make them with `kdnb sweep search --profile toy`\n")
    first = grids.stages("search", "rt", "toy", toy.fingerprint)
    obtain.run_points(first.erm, toy, say=lambda line: None)
    second = grids.stages("search", "rt", "toy", toy.fingerprint, teachers=select.teachers(first))
    obtain.run_points(second.soft, toy, say=lambda line: None)
    code, out, err = kdnb("select", "search", "--profile", "toy", "--json")
    assert (code, err) == (0, "")
    found = last_json(out)
    by_arm = {row["arm"]: row for row in found["selected"]}
    assert list(by_arm) == ["erm_large", "erm_small", "kd_standard"]
    kd = by_arm["kd_standard"]
    assert kd["teacher_run"] == by_arm["erm_large"]["run_id"]
    assert (kd["stored"], kd["of"]) == (8, 8)
    assert kd["test"]["entropy"] == runs.load(kd["run_id"]).metrics["test"]["entropy"]
    matched = runs.load(kd["matched_erm"]["run_id"]).config
    assert (matched.method, matched.student, matched.lr, matched.epochs) == ("erm", "small", kd["lr"], kd["epochs"])
    assert by_arm["erm_small"]["matched_erm"] is None
    values = [runs.load_validation(p.config.run_id())["accuracy"] for p in second.soft]
    assert kd["validation"] == max(values)
    code, out, _ = kdnb("select", "search", "--profile", "toy", "--metric", "nll", "--only", "epochs=2", "--json")
    assert code == 0
    assert {row["epochs"] for row in last_json(out)["selected"]} == {2}


def test_the_command_leaves_a_damaged_run_out_of_its_table(kdnb):
    toy = splits.load("rt", "toy")
    stages = grids.stages("search", "rt", "toy", toy.fingerprint)
    filled(stages.erm)
    chosen = {choice.point.arm: choice.point.config.run_id() for choice in select.by_arm(stages.erm)}
    (paths.RUNS / chosen["erm_large"] / "arrays.npz").write_bytes(b"odd")
    code, out, err = kdnb("select", "search", "--profile", "toy", "--json")
    assert code == 0
    assert {row["run_id"] for row in last_json(out)["selected"]} == {chosen["erm_small"]}
    assert chosen["erm_large"] in err


@pytest.mark.slow
def test_the_command_tells_every_switch_point_alone_or_beside_the_pure_methods(kdnb):
    toy = data.load("rt", "toy")
    stages = grids.stages("switching", "rt", "toy", toy.fingerprint, (0,))
    filled(stages.points)
    switched = {p.config.run_id() for p in stages.soft if p.config.method == "switch"}
    assert len(switched) == 2
    usual = next(p.config.run_id() for p in stages.erm if p.arm == "erm_small")
    command = ("select", "switching", "--task", "rt", "--profile", "toy", "--seeds", "0", "--json")
    for more in ((), ("--only", "method=switch")):
        code, out, err = kdnb(*command, *more)
        assert (code, err) == (0, "")
        rows = [row for row in last_json(out)["selected"] if not row["arm"]]
        assert {row["run_id"] for row in rows} == switched
        assert {row["name"] for row in rows} == {"ERM to KD at 0.5", "KD to ERM at 0.5"}
        assert {(row["before"], row["after"], row["switch_at"]) for row in rows} == {
            ("erm", "kd", 0.5),
            ("kd", "erm", 0.5),
        }
        assert {row["matched_erm"]["run_id"] for row in rows} == {usual}
