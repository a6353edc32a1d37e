"""Plans: the paper's counts from the command, epochs that are shared, what is done, and an honest estimate."""

import json
import os

import pytest
from command import forked_process, last_json
from fakes import store_run

from kdnb import paths
from kdnb.core import store as runs
from kdnb.data import splits
from kdnb.experiment import obtain
from kdnb.sweeps import grids, plan, select
from kdnb.sweeps.plan import Probe

ONE = Probe(step_seconds=0.5, row_seconds=0.01, start_seconds=2.0, peak_memory_mib=700, device="cpu", precision="fp32")


def counted(grid, stored=(), **more):
    return plan.Plan(parts=plan.count("rt", grids.stages(grid, "rt", "toy", "0" * 16, **more), set(stored)))


@pytest.mark.slow
def test_table_1_counted():
    found = counted("table1")
    assert {part.arm: part.runs for part in found.parts} == {
        "ERM large": 70,
        "ERM small": 70,
        "LS small": 630,
        "LS large": 630,
        "Standard KD": 630,
        "Self-KD": 630,
        "Reverse KD": 630,
    }
    assert found.total("runs") == 3290
    assert found.total("epochs") == found.total("trained_epochs") == 329 * 55  # 1 + 2 + ... + 10
    assert found.total("runs", True) == 0


@pytest.mark.slow
def test_a_constant_schedule_trains_each_setting_once_to_its_largest_number_of_epochs():
    found = counted("table1", schedule="constant")
    assert found.total("runs") == 3290
    assert found.total("epochs") == 329 * 55
    assert found.total("trained_epochs") == 329 * 10  # 5.5 times fewer
    assert found.total("left_trainings") == 329


@pytest.mark.slow
def test_a3_counted_with_its_teachers_apart():
    found = counted("a3")
    assert found.total("runs") == 5 * 1960
    assert found.total("runs", True) == 140
    assert found.total("runs", None) == 5 * 1960 + 140


def test_what_is_done_is_not_left_and_a_shared_training_goes_to_the_largest_missing():
    stages = grids.stages("search", "rt", "toy", "0" * 16, arms=("erm_small",))
    ids = {(p.config.lr, p.config.epochs): p.config.run_id() for p in stages.points}
    (part,) = plan.count("rt", stages, {ids[1e-2, 4], ids[2e-2, 2], "rt-erm-small-s0-other"})
    assert (part.runs, part.epochs, part.trained_epochs) == (4, 12, 8)
    assert (part.done, part.left_trainings, part.left_epochs) == (2, 2, 2 + 4)
    (part,) = plan.count("rt", stages, set(ids.values()))
    assert (part.done, part.left_trainings, part.left_epochs) == (4, 0, 0)


def test_an_estimate_is_the_sum_of_its_parts():
    (part,) = plan.count("rt", grids.stages("search", "rt", "toy", "0" * 16, arms=("erm_small",)), set())
    made = plan.estimate(part, ONE, (65, 10, 20))
    steps = 3 * 8  # 65 rows are 3 batches of 32; 2 trainings of 4 epochs
    assert made.seconds == pytest.approx(2 * 2.0 + steps * 0.5 + 4 * 95 * 0.01)
    assert plan.estimate(part, None, (65, 10, 20)).seconds is None
    done = plan.count("rt", grids.stages("search", "rt", "toy", "0" * 16, arms=("erm_small",)), _all())[0]
    assert plan.estimate(done, None, (65, 10, 20)).seconds == 0
    assert plan.Plan(parts=[made, done]).seconds is None
    assert plan.Plan(parts=[made, plan.estimate(done, None, (1, 1, 1))]).seconds == made.seconds


def _all():
    return {p.config.run_id() for p in grids.stages("search", "rt", "toy", "0" * 16, arms=("erm_small",)).points}


def test_a_warning_comes_before_anything_over_an_hour():
    (part,) = plan.count("rt", grids.stages("search", "rt", "toy", "0" * 16, arms=("erm_small",)), set())
    for step, warned in ((0.001, False), (400.0, True)):
        slow = Probe(**{**vars(ONE), "step_seconds": step})
        lines = plan.Plan(parts=[plan.estimate(part, slow, (64, 1, 1))]).lines()
        assert any(line.startswith("warning: that is over an hour") for line in lines) == warned


# The probe


@pytest.mark.slow
def test_a_probe_measures_once_and_is_kept(store, toy, monkeypatch):
    said = []
    found = plan.probe(toy, "toy", "small", said.append)
    assert len(said) == 1
    assert found.step_seconds > 0
    assert found.row_seconds > 0
    assert found.start_seconds >= 0
    assert found.peak_memory_mib > 50
    assert runs.stored_ids() == []  # a probe is no run
    assert plan.probe(toy, "toy", "small", said.append) == found
    assert len(said) == 1
    assert plan.stored_probe("rt", "toy", "large") is None
    monkeypatch.setattr(plan, "machine", lambda: {"processor": "another"})
    assert plan.stored_probe("rt", "toy", "small") is None


def test_a_spoiled_file_of_measurements_is_measured_again(store):
    paths.OUTPUTS.mkdir(parents=True, exist_ok=True)
    path = paths.OUTPUTS / "probes.json"
    for content in ("", "[]", "{}", json.dumps({"machine": plan.machine(), "rt toy small 32": {"step_seconds": 1}})):
        path.write_text(content)
        assert plan.stored_probe("rt", "toy", "small") is None


# The command


@pytest.mark.slow
def test_the_command_counts_the_papers_grids(kdnb):
    """The published counts, without the paper's data or models on this machine."""
    code, out, _ = kdnb("plan", "table1", "--profile", "paper", "--task", "qnli,mnli", "--no-probe", "--json")
    found = last_json(out)
    assert code == 0
    assert (found["runs"], found["epochs"], found["done"], found["seconds"]) == (2 * 3290, 2 * 329 * 55, 0, None)
    code, out, _ = kdnb("plan", "a3", "--profile", "paper", "--task", "qnli", "--no-probe", "--json")
    found = last_json(out)
    assert (found["runs"], found["teachers"]["runs"]) == (9800, 140)


@pytest.mark.slow
def test_the_command_follows_a_search_from_nothing_to_done(kdnb):
    toy = splits.load("rt", "toy")
    words = ("plan", "search", "--profile", "toy", "--json")
    code, out, _ = kdnb(*words)
    found = last_json(out)
    assert (code, found["runs"], found["epochs"], found["trained_epochs"], found["done"]) == (0, 16, 48, 32, 0)
    assert found["waiting"] == 8
    assert found["seconds"] > 0
    assert "wait for a teacher" in out
    first = grids.stages("search", "rt", "toy", toy.fingerprint)
    for number, point in enumerate(first.erm):
        store_run(point.config, number)
    found = last_json(kdnb(*words, "--no-probe")[1])
    assert (found["done"], found["waiting"]) == (8, 0)
    for point in grids.stages("search", "rt", "toy", toy.fingerprint, teachers=select.teachers(first)).soft:
        store_run(point.config, 10)
    found = last_json(kdnb(*words, "--no-probe")[1])
    assert (found["done"], found["runs"], found["seconds"]) == (16, 16, 0)
    assert [part["done"] for part in found["parts"]] == [4, 4, 8]


def test_published_hyper_parameters_are_a_grid_of_their_own(kdnb):
    _, out, _ = kdnb("plan", "--hparams", "published", "--profile", "toy", "--seeds", "0", "--no-probe", "--json")
    found = last_json(out)
    assert found["grid"] == "published7"
    assert found["runs"] == 6 + 6  # on rt, SST-2's stand-in, self-KD is searched
    assert "searched over alpha and epochs, since Table 7 lacks the row: kd_self" in out
    _, out, _ = kdnb("plan", "--hparams", "published12", "--profile", "toy", "--seeds", "0,1", "--no-probe", "--json")
    assert (last_json(out)["grid"], last_json(out)["runs"]) == ("published12", 14)


@pytest.mark.parametrize(("words", "told"), [
    (["plan"], "name a grid, or give --hparams published"),
    (["plan", "tabel1"], "unknown grid 'tabel1'; did you mean 'table1'?"),
    (["plan", "table1", "--hparams", "published"], "either a grid (table1) or --hparams (published), not both"),
    (["plan", "--hparams", "publishd"], "unknown hparams 'publishd'; did you mean 'published'?"),
    (["plan", "search", "--task", "rtt"], "unknown task 'rtt'; did you mean 'rt'?"),
    (["plan", "search", "--profile", "tooy"], "unknown profile 'tooy'; did you mean 'toy'?"),
    (["plan", "search", "--profile", "toy", "--only", "lr"], "only must be field=values, such as lr=1e-5,3e-5 or"),
    (["plan", "search", "--profile", "toy", "--only", "lr=x"], "only lr must be numbers or ranges, such as 1,2 or"),
    (["plan", "search", "--profile", "toy", "--only", "lr=1"], "no point of search has lr=1 (lr takes 0.01, 0.02)"),
    (["plan", "search", "--profile", "toy", "--seeds", "a"], "seeds must be comma-separated integers, got 'a'"),
    (["plan", "search", "--profile", "toy", "--schedule", "cosine"], "schedule must be one of linear, constant"),
    (["select", "search", "--profile", "toy", "--metric", "f2"], "unknown metric 'f2'"),
])  # fmt: skip
def test_a_mistake_is_one_line(kdnb, words, told):
    code, _, err = kdnb(*words)
    assert code == 2
    assert err.startswith("kdnb: ")
    assert told in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_plan_over_ten_thousand_runs_counts_them_all(folder_of_thousands):
    """Names of folders are all that is looked at: there is nothing in them."""
    points = grids.stages("a3", "rt", "toy", splits.load("rt", "toy").fingerprint).soft
    assert len(points) == 9800
    for point in points:
        os.makedirs(folder_of_thousands / "runs" / point.config.run_id())
    words = ("plan", "a3", "--profile", "toy", "--task", "rt", "--no-probe", "--json")
    done = forked_process(*words, outputs=folder_of_thousands)
    assert done.returncode == 0, done.stderr
    found = last_json(done.stdout)
    assert (found["runs"], found["done"], found["waiting"]) == (9800, 9800, 5880)


@pytest.mark.slow
def test_plans_and_selections_need_no_torch():
    names = "kdnb.cli.sweeps"
    code = f"import sys, {names}; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    import subprocess
    import sys

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_the_list_that_is_planned_is_the_list_that_is_run(store, toy):
    """What `plan` counts as done is what `run_points` stores, training by training."""
    stages = grids.stages("search", "rt", "toy", toy.fingerprint, arms=("erm_small",), only={"lr": 1e-2})
    stored = obtain.run_points(stages.points, toy, say=lambda line: None)
    assert set(stored) == set(runs.stored_ids()) == {point.config.run_id() for point in stages.points}
    (part,) = plan.count("rt", stages, set(runs.stored_ids()))
    assert (part.done, part.runs, part.left_epochs) == (2, 2, 0)
