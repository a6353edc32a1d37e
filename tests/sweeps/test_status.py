"""Status from names alone: right in every state, and at once however many runs are stored."""

import json
import os
import platform
import subprocess
import sys
import time

import forked
import pytest

from kdnb import files, paths
from kdnb.sweeps import progress, status
from kdnb.sweeps import record as sweeps
from kdnb.sweeps.progress import Heartbeat
from kdnb.sweeps.record import Record, Sweep

TOY = Sweep(grid="search", tasks=("rt",), profile="toy")


@pytest.fixture
def record(store, toy):
    """The toy search, begun: 8 ERM points in 4 trainings, 8 KD points in 4."""
    return sweeps.begin(TOY, {"rt": toy}, 1)


def stored(points, seconds_ago=0.0):
    """Folders by the names of runs; status opens none of them."""
    for point in points:
        folder = paths.RUNS / point.config.run_id()
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - seconds_ago,) * 2)


def of_erm(found, state):
    return sum(states[state] for (_, arm), states in found.counts.items() if arm.startswith("ERM"))


def test_nothing_is_done_at_first(record):
    found = status.of(record)
    assert {state: found.total(state) for state in status.STATES} == {"done": 0, "running": 0, "failed": 0, "left": 16}
    assert list(found.counts) == [("rt", "ERM large"), ("rt", "ERM small"), ("rt", "Standard KD")]
    assert found.seconds is None
    assert status.lines(found)[-1] == "nobody is training; to go on, start kdnb sweep again as before"


def test_every_state_is_counted(record):
    erm = record.points("erm")
    stored(erm[:3])
    progress.record_failure([erm[3].config.run_id(), erm[4].config.run_id()], "ValueError: no", 1)
    with Heartbeat([erm[5].config, erm[2].config]) as heartbeat:  # the second is stored already
        heartbeat.step(7, 20, None)
        found = status.of(record)
    assert [of_erm(found, state) for state in status.STATES] == [3, 1, 2, 2]
    assert found.total("left") == 2 + 8
    told = "\n".join(status.lines(found))
    assert f"running: {erm[2].config.run_id()}, step 7 of 20, on {platform.node()}" in told
    assert f"failed: {erm[3].config.run_id()}: ValueError: no (attempts: 1, on {platform.node()})" in told
    assert status.of(record).total("running") == 0  # its heartbeat is gone with it


def test_a_stored_run_counts_as_done_whatever_else_is_recorded(record):
    erm = record.points("erm")
    stored(erm)
    progress.record_failure([erm[0].config.run_id()], "odd", 1)
    assert of_erm(status.of(record), "done") == 8


def test_a_complete_sweep_says_so(record):
    stored(record.points("erm"))
    record = Record(**{**vars(record), "teachers": {"rt": [["large", 0, record.points("erm")[0].config.run_id()]]}})
    stored(record.points("soft"))
    found = status.of(record)
    assert found.total("done") == 16
    assert status.lines(found)[-1] == "complete"


def test_points_without_a_selected_teacher_are_left(record):
    stored(record.points("soft"))  # folders that bear the placeholder's name
    assert status.of(record).total("done") == 8
    assert status.of(record).total("left") == 8


def test_the_expected_end_follows_the_pace(record):
    """Four of the trainings' 32 model-epochs in 100 s: the other 28 take 700 s."""
    erm = record.points("erm")
    assert [point.config.epochs for point in erm] == [2, 4, 2, 4, 2, 4, 2, 4]
    slow = Record(**{**vars(record), "starts": [time.time() - 100]})
    stored(erm[:1])  # 2 epochs of the large model, which count twice
    with Heartbeat([erm[1].config]) as heartbeat:
        heartbeat.step(1, 8, None)
        found = status.of(slow)
    whole = 2 * 2 * 4 + 2 * 4 + 4 * 4  # two large, two small and four KD trainings of 4 epochs
    assert found.seconds == pytest.approx(100 * (whole - 4) / 4, rel=0.05)
    assert "expected end:" in status.lines(found)[-1]
    assert status.of(slow).seconds is None  # nobody is at it


def test_what_was_there_before_the_start_sets_no_pace(record):
    erm = record.points("erm")
    stored(erm[:4], seconds_ago=1000)
    with Heartbeat([erm[5].config]) as heartbeat:
        heartbeat.step(1, 8, None)
        assert status.lines(status.of(record))[-1] == "expected end: unknown until the first point is finished"


@pytest.mark.slow
def test_a_dead_process_is_not_running(record):
    erm = record.points("erm")
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    facts = {"host": platform.node(), "pid": int(ended.stdout), "run_ids": [erm[0].config.run_id()], "step": 1}
    mine = paths.RUNNING / f"{erm[0].config.training()}.json"
    far = paths.RUNNING / f"{erm[2].config.training()}.json"
    files.write_json(mine, {**facts, "total": 2})
    files.write_json(far, {**facts, "total": 2, "host": "elsewhere"})
    assert [beat["host"] for beat in progress.heartbeats()] == ["elsewhere"]
    os.utime(far, (time.time() - 2 * progress.SILENCE,) * 2)
    assert progress.heartbeats() == []
    progress.clear_dead()
    assert files.names(paths.RUNNING) == set()


def test_a_heartbeat_is_written_now_and_then_and_never_stops_a_training(record, monkeypatch):
    config, written = record.points("erm")[0].config, []
    monkeypatch.setattr(progress.files, "write_json", lambda path, content: written.append(content["step"]))
    with Heartbeat([config]) as heartbeat:
        for step in range(1, 100):
            heartbeat.step(step, 100, None)
    assert written == [1]

    def refuse(path, content):
        raise OSError("disk full")

    monkeypatch.setattr(progress.files, "write_json", refuse)
    with Heartbeat([config]) as heartbeat:
        heartbeat.step(1, 2, None)


def test_a_part_of_a_grid_is_stored_with_its_filters(store, toy):
    part = Sweep(grid="search", tasks=("rt",), profile="toy", only={"lr": "0.01", "epochs": "1..2"})
    assert part == Sweep(grid="search", tasks=("rt",), profile="toy", only={"lr": (1e-2,), "epochs": [(1, 2)]})
    assert part.name != TOY.name
    record = sweeps.begin(part, {"rt": toy}, 1)
    assert sweeps.read(part.name) == record
    assert {(point.config.lr, point.config.epochs) for point in record.points()} == {(0.01, 2)}


def test_a_record_of_an_earlier_version_is_read_unless_it_holds_an_expression(record, kdnb):
    path = paths.SWEEPS / f"{TOY.name}.json"
    stored = json.loads(path.read_text())
    del stored["sweep"]["only"]
    files.write_json(path, {**stored, "sweep": {**stored["sweep"], "where": ""}})
    assert sweeps.read(TOY.name) == record
    files.write_json(path, {**stored, "sweep": {**stored["sweep"], "where": "lr <= 1e-2"}})
    code, _, err = kdnb("status")
    assert code == 2
    assert err == (
        f"kdnb: sweep {TOY.name} was narrowed by the expression 'lr <= 1e-2', which is no longer read: start it again "
        "with --only field=values; its runs are loaded\n"
    )


MANY = """
import os, sys, time
from dataclasses import replace
from kdnb import paths; from kdnb.studies import registry; from kdnb.sweeps import record as sweeps
registry.grids()
from kdnb.sweeps.record import Record, Sweep
tasks = ("mrpc",)
what = Sweep(grid="a3", tasks=tasks, profile="paper", seeds=(0,))
record = Record(sweep=what, data=dict.fromkeys(tasks, "0" * 16), rows=dict.fromkeys(tasks, 1000), threads=1,
                teachers={}, starts=[time.time() - 3600])
teachers = {task: [[*key, pool[0].config.run_id()] for key, pool in record.stages(task).candidates.items()]
            for task in tasks}
record = replace(record, teachers=teachers)
points = [*record.points("erm"), *record.points("soft")]
paths.RUNS.mkdir(parents=True)
for point in points[:-1000]:
    os.mkdir(paths.RUNS / point.config.run_id())
from kdnb.sweeps.progress import Heartbeat
config = points[-1].config
with Heartbeat([config]) as heartbeat:
    heartbeat.step(1, 9, None)
    sweeps.write(record)
    print(len(points), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_ten_thousand_points_are_counted_by_their_states(folder_of_thousands):
    environment = {**os.environ, "KDNB_OUTPUTS": str(folder_of_thousands)}
    maker = subprocess.Popen(
        [sys.executable, "-c", MANY], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    count = int(maker.stdout.readline())
    command = [sys.executable, "-c", "from kdnb.cli.main import main; main()", "status", "--json"]
    told = forked.run(command, env=environment).stdout
    maker.communicate("\n", timeout=60)
    found = json.loads(told.splitlines()[-1])
    assert count > 9_800
    assert [found[state] for state in status.STATES] == [count - 1000, 1, 0, 999]
    assert found["seconds_left"] > 0


ODD = [None, True, -1, 10**400, 1.5, "x", "", [], [1], ["x"], {}, {"a": 1}, "\x1b]0;x\x07"]


def harmed(path):
    """A file's JSON with every odd value in every field, one after the other, and once without the field."""
    whole = json.loads(path.read_text())
    inner = [("sweep", name) for name in whole["sweep"]] if "sweep" in whole else []
    for name in [*((name,) for name in whole), *inner]:
        for odd in [*ODD, ...]:
            values = json.loads(json.dumps(whole))
            place = values[name[0]] if name[1:] else values
            place[name[-1]] = odd
            if odd is ...:
                del place[name[-1]]
            path.write_text(json.dumps(values))
            yield name, odd
    path.write_text(json.dumps(whole))


def test_a_harmed_record_is_one_line_and_never_another_sweep(record, kdnb):
    for harm in harmed(paths.SWEEPS / f"{TOY.name}.json"):
        code, out, err = kdnb("status")
        assert (code, "\x1b" in out + err) in ((0, False), (2, False)), harm
        if code == 2:
            assert err.startswith("kdnb: "), harm
        else:
            assert "0 of 16 points done" in out, harm
        found = sweeps.read(TOY.name)
        assert found is None or found.sweep.name == TOY.name, harm
    assert kdnb("status")[0] == 0


def test_harmed_heartbeats_and_failures_are_told_or_left_out(record, kdnb):
    run_id = record.points("erm")[0].config.run_id()
    progress.record_failure([run_id], "out of luck", 3)
    beat = {
        "run_ids": [run_id],
        "host": platform.node(),
        "pid": os.getpid(),
        "started": time.time(),
        "step": 1,
        "total": 2,
    }
    for path, whole in ((paths.FAILED / f"{run_id}.json", "out of luck"), (paths.RUNNING / "a.json", "step 1 of 2")):
        if path.parent == paths.RUNNING:
            files.write_json(path, beat)
        assert whole in kdnb("status")[1]
        for harm in harmed(path):
            code, out, err = kdnb("status")
            assert (code, err, "\x1b" in out) == (0, "", False), harm


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1", "1e300"])
def test_a_watch_of_no_time_is_refused(record, kdnb, seconds):
    code, _, err = kdnb("status", "--watch", seconds)
    assert (code, "watch must be in 0..86,400 seconds" in err) == (2, True)
