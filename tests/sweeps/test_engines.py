"""A sweep ends with the same table whatever runs it and whatever dies on the way, and trains nothing twice."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import forked
import numpy as np
import psutil
import pytest

from kdnb import paths
from kdnb.core import store as runs
from kdnb.core.config import SPLITS, RunConfig
from kdnb.errors import StoreError, Unfinished
from kdnb.experiment import obtain
from kdnb.experiment.points import trainings
from kdnb.sweeps import engines, progress, ray
from kdnb.sweeps import record as sweeps
from kdnb.sweeps.engines import How
from kdnb.sweeps.record import Sweep

WATCHED = Path(__file__).parents[1] / "watched"
SWEEP = ["sweep", "search", "--task", "rt", "--profile", "toy", "--threads", "1"]  # 16 points in 8 trainings
TOY = Sweep(grid="search", tasks=("rt",), profile="toy")
SILENCE = 240  # seconds without a word from any process of a test after which it counts as hung

needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed (extra [cluster])")


class Watched:
    """Sweeps in processes of their own, on one store, with a journal of their trainings."""

    def __init__(self, folder: Path):
        self.outputs, self.path, self.started = folder / "outputs", folder / "journal", {}
        self.path.touch()

    def start(self, *words, hold=None, poison=None) -> subprocess.Popen:
        """kdnb with these words; hold, poison: config fields of trainings that stop half-way, or kill their process."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(WATCHED),
            "KDNB_OUTPUTS": str(self.outputs),
            "KDNB_JOURNAL": str(self.path),
            "KDNB_HOLD": json.dumps(hold or {}),
            "KDNB_POISON": json.dumps(poison or {}),
            "PYTHONUNBUFFERED": "1",
        }
        code = "from kdnb.cli.main import main; main()"
        path = self.path.with_name(f"told-{len(self.started)}")
        with path.open("w") as told:
            begin = subprocess.Popen if "ray" in words else forked.Popen
            process = begin(
                [sys.executable, "-c", code, *words],
                env=environment,
                stdout=told,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started[process] = path
        return process

    def run(self, *words, **options) -> str:
        """The same, to its end, which must be a good one; what it told."""
        return self.end(self.start(*words, **options))

    def end(self, process: subprocess.Popen, code: int = 0) -> str:
        """Wait for a process; what it told."""
        self.wait_for(lambda: process.poll() is not None)
        told = self.started[process].read_text()
        assert process.returncode == code, told
        return told

    def journal(self) -> list[list[str]]:
        """(begin, hold or end, training, process) of every training so far."""
        return [line.split() for line in self.path.read_text().splitlines()]

    def count(self, word: str) -> Counter:
        """How often each training began, stopped half-way or ended."""
        return Counter(name for what, name, _ in self.journal() if what == word)

    def wait_for(self, test, process: subprocess.Popen | None = None) -> None:
        """Wait until a test is true, as long as something happens meanwhile; process: must not end before."""
        written, since = -1, time.monotonic()
        while not test():
            assert process is None or process.poll() is None, self.started[process].read_text()
            before, written = written, sum(path.stat().st_size for path in (self.path, *self.started.values()))
            since = time.monotonic() if written != before else since
            assert time.monotonic() < since + SILENCE, (self.journal(), [p.read_text() for p in self.started.values()])
            time.sleep(0.02)

    def held(self) -> dict[str, int]:
        """training -> its process, of those that are stopped half-way, one of their two runs stored."""
        last = {process: (what, name) for what, name, process in self.journal()}
        return {name: int(process) for process, (what, name) in last.items() if what == "hold"}

    def go_on(self, training: str) -> None:
        """Let a training stop no more."""
        self.path.with_name(f"{self.path.name}.{training}").touch()

    def workers(self) -> list[psutil.Process]:
        """The processes that trained, as far as they live."""
        found = []
        for pid in sorted({int(process) for _, _, process in self.journal()}):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found

    def run_of(self, training: str) -> Path:
        """A stored run of a training."""
        for path in sorted((self.outputs / "runs").glob("[!.]*")):
            if RunConfig.from_dict(json.loads((path / "config.json").read_text())).training() == training:
                return path
        raise AssertionError(f"no run of {training} is stored")

    def table(self) -> dict[str, bytes]:
        """run_id -> the bytes of all its logits and of its curves."""
        found = {}
        for path in sorted((self.outputs / "runs").glob("[!.]*")):
            with np.load(path / "arrays.npz", allow_pickle=False) as arrays:
                logits = b"".join(arrays[split].tobytes() for split in SPLITS)
            found[path.name] = logits + (path / "history.csv").read_bytes()
        return found


@pytest.fixture
def watched(tmp_path):
    """An empty store for sweeps in processes; those still running at the end are stopped."""
    found = Watched(tmp_path)
    yield found
    for process in found.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The table of one inline sweep that nothing disturbed."""
    found = Watched(tmp_path_factory.mktemp("undisturbed"))
    found.run(*SWEEP)
    assert len(found.table()) == 16
    assert set(found.count("end").values()) == {1}
    assert len(found.count("end")) == 8
    return found.table()


def spoil(path: Path) -> None:
    """Flip a byte of a stored run."""
    content = bytearray((path / "arrays.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "arrays.npz").write_bytes(content)


def is_dead(process: psutil.Process) -> bool:
    """Whether a process ended; its parent need not have noticed."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.slow
def test_overlapping_shards_repeat_nothing_and_a_dead_one_is_made_up_for(watched, undisturbed):
    shard = [*SWEEP, "--engine", "shard", "--shard"]
    first = watched.start(*shard, "1/2", hold={"method": "erm"})
    watched.wait_for(watched.held, first)
    (stopped,) = watched.held()
    first.kill()
    first.wait()
    both = [watched.start(*shard, "1/2"), watched.start(*shard, "1/2"), watched.start(*shard, "2/2")]
    told = [watched.end(process) for process in both]
    assert all("shard" in text and "points done" in text for text in told)
    assert watched.table() == undisturbed
    assert set(watched.count("end").values()) == {1}
    assert watched.count("begin") == watched.count("end") + Counter([stopped])


@pytest.mark.slow
@needs_ray
def test_ray_survives_the_death_of_a_worker_of_the_driver_and_damaged_runs(watched, undisturbed):
    with_ray = [*SWEEP, "--engine", "ray", "--workers", "2"]
    driver = watched.start(*with_ray, hold={"method": "erm", "student": "large"})
    watched.wait_for(lambda: len(watched.held()) == 2, driver)
    orphan, stopped = sorted(watched.held())
    os.kill(watched.held()[stopped], signal.SIGKILL)
    watched.go_on(stopped)
    watched.wait_for(lambda: len(watched.count("end")) == 3, driver)  # all that need no teacher, but the orphan
    assert watched.count("begin") == watched.count("end") + Counter([orphan, stopped])
    workers = watched.workers()
    assert watched.held()[orphan] in [worker.pid for worker in workers]
    driver.kill()
    driver.wait()
    watched.wait_for(lambda: all(map(is_dead, workers)))  # nobody trains on without the driver
    for left in Path("/tmp").glob(f"kdnb-ray-{driver.pid}-*"):
        shutil.rmtree(left, ignore_errors=True)
    whole = min(set(watched.count("end")) - {stopped})
    damaged = [watched.run_of(training) for training in (whole, orphan)]  # one whose training ended, one that did not
    for path in damaged:
        spoil(path)
    told = watched.end(watched.start(*with_ray, poison={"method": "kd", "lr": 0.01, "alpha": 0.9}), code=1)
    assert all(f"run {path.name} is damaged, training it again" in told for path in damaged), told
    assert "2 points failed" in told.splitlines()[-1]
    (error,) = {line.split(": ", 1)[1] for line in told.splitlines() if "FAILED" in line}
    assert error.startswith("its worker died")
    failed = [json.loads(path.read_text()) for path in (watched.outputs / "failed").glob("*.json")]
    assert [(one["attempts"], bool(one["host"]), bool(one["time"])) for one in failed] == [(3, True, True)] * 2
    assert set(watched.table()) == set(undisturbed) - {one["run_id"] for one in failed}
    (poisoned,) = set(watched.count("begin")) - set(watched.count("end"))
    assert watched.count("begin")[poisoned] == 3
    watched.run(*SWEEP, "--retry-failed")
    assert watched.table() == undisturbed
    assert watched.count("end") - Counter(set(watched.count("end"))) == Counter([whole])  # no other ended twice
    assert watched.count("begin") == watched.count("end") + Counter([orphan, stopped, *[poisoned] * 3])
    assert not list((watched.outputs / "failed").glob("*.json"))
    assert not list((watched.outputs / "running").glob("*.json"))


# Without processes: what an engine does with errors, shares and records


@pytest.fixture
def fit(store, monkeypatch):
    """Trainings that take no time. fit.meet(config) may raise; fit.asked lists the configs that came."""
    from fakes import made_run

    from kdnb.experiment import training

    class Fit:
        asked = ()

        def meet(self, config):
            """Nothing happens."""

        def epochs(self, configs, data, teacher=None, on_step=None, on_run=None):
            self.asked = [*self.asked, *configs]
            on_step(1, 2, 0.5)
            self.meet(configs[0])
            found = [made_run(config) for config in configs]
            for run in found:
                on_run(run)
            return found

    fit = Fit()
    monkeypatch.setattr(training, "train_epochs", fit.epochs)
    return fit


def swept(say=lambda line: None, **how):
    """The toy search, in this process."""
    return engines.run(TOY, How(threads=1, **how), say)


@pytest.mark.slow
def test_a_sweep_started_again_trains_nothing(fit):
    record, told = swept(), []
    assert len(fit.asked) == 16
    again = swept(told.append)
    assert len(fit.asked) == 16
    assert any("8 of 8 points are there" in line for line in told)
    assert again.teachers == record.teachers
    assert len(again.starts) == 2
    assert [point.config.teacher_run for point in again.points("soft")] == [again.teachers["rt"][0][2]] * 8


@pytest.mark.slow
def test_a_damaged_run_is_trained_again_and_no_other(fit, store, capsys):
    swept()
    spoiled = next(path for path in sorted(store.glob("rt-kd-*")))
    spoil(spoiled)
    fit.asked = ()
    swept()
    assert [config.run_id() for config in fit.asked] == [spoiled.name]
    assert "training it again" in capsys.readouterr().err
    runs.load(spoiled.name)


@pytest.mark.slow
def test_a_damaged_run_is_trained_with_the_threads_of_its_sweep(fit, store):
    import torch

    before, threads = torch.get_num_threads(), []
    fit.meet = lambda config: threads.append(torch.get_num_threads())
    try:
        torch.set_num_threads(2)
        swept()
        torch.set_num_threads(2)
        spoil(next(store.glob("rt-kd-*")))
        swept()
    finally:
        torch.set_num_threads(before)
    assert threads == [1] * 9


@pytest.mark.slow
def test_a_lasting_error_is_recorded_once_and_the_sweep_goes_on(fit):
    def meet(config):
        if config.method == "kd" and config.alpha == 0.9:
            raise ValueError("no\nway")

    fit.meet, told = meet, []
    with pytest.raises(Unfinished, match="4 points failed"):
        swept(told.append)
    assert len(progress.failed_ids()) == 4
    facts = progress.failure(sorted(progress.failed_ids())[0])
    assert (facts["error"], facts["attempts"]) == ("ValueError: no way", 1)
    assert "in meet" in facts["trace"]
    assert sum("FAILED" in line for line in told) == 2
    assert len(runs.stored_ids()) == 12
    fit.meet, fit.asked = lambda config: None, ()
    with pytest.raises(Unfinished, match="4 points failed"):
        swept()
    assert fit.asked == ()
    swept(retry_failed=True)
    assert len(fit.asked) == 4
    assert progress.failed_ids() == set()


@pytest.mark.parametrize(("times", "attempts"), [(2, 3), (9, 3)])
def test_a_passing_error_is_tried_three_times(fit, toy, times, attempts):
    from torch import OutOfMemoryError

    errors = [OutOfMemoryError("CUDA out of memory"), OSError("stale file handle"), *[OSError("again")] * 9][:times]

    def meet(config):
        if errors:
            raise errors.pop(0)

    fit.meet = meet
    configs = [point.config for point in sweeps.begin(TOY, {"rt": toy}, 1).points("erm")[:1]]
    outcome = engines.attempt(configs, toy, 1)
    assert len(fit.asked) == attempts
    assert outcome.error == ("" if times == 2 else "OSError: again")
    assert [progress.failure(name)["attempts"] for name in progress.failed_ids()] == ([] if times == 2 else [3])


def test_a_run_that_was_made_after_its_failure_is_none(fit, toy):
    """Its failure stays recorded until a sweep comes by; `kdnb train` makes the run meanwhile."""

    def meet(config):
        raise ValueError("no")

    group = trainings(sweeps.begin(TOY, {"rt": toy}, 1).points("erm"))[0]
    configs = [point.config for point in group]
    fit.meet = meet
    assert engines.attempt(configs, toy, 1).error
    assert engines.failed_before(configs).error == "ValueError: no"
    fit.meet = lambda config: None
    obtain.ensure_all(configs, toy, lambda *_: None)
    assert progress.failed_ids()
    assert engines.failed_before(configs) is None
    outcomes = []
    engines.work([group], {"rt": toy}, How(threads=1), lambda _, outcome: outcomes.append(outcome), print)
    assert outcomes == [engines.Outcome([])]
    assert progress.failed_ids() == set()


def test_ray_too_looks_at_the_store_before_the_failures(fit, toy, monkeypatch):
    group = trainings(sweeps.begin(TOY, {"rt": toy}, 1).points("erm"))[0]
    configs, read = [point.config for point in group], []
    progress.record_failure([config.run_id() for config in configs], "no", 1)
    assert ray._without_worker(group).error == "no"
    obtain.ensure_all(configs, toy, lambda *_: None)
    monkeypatch.setattr(obtain, "whole", lambda config: read.append(config) or runs.load(config.run_id()))
    assert ray._without_worker(group) == engines.Outcome([])
    assert progress.failed_ids() == set()
    assert len(read) == len(configs)  # each run once


def breaking(error):
    """A training that gives its first run and then meets an error, as often as it is tried."""
    from fakes import made_run

    def epochs(configs, data, teacher=None, on_step=None, on_run=None):
        on_run(made_run(configs[0]))
        raise error

    return epochs


@pytest.mark.parametrize("error", [ValueError("no"), OSError("again")])
def test_the_runs_before_a_failure_are_no_failures(store, toy, monkeypatch, error):
    from kdnb.experiment import training

    monkeypatch.setattr(training, "train_epochs", breaking(error))
    record = sweeps.begin(TOY, {"rt": toy}, 1)
    group, told = trainings(record.points("erm"))[0], []
    assert len(group) == 2
    report = engines._Report(record, How(threads=1), told.append)
    engines.work([group], {"rt": toy}, How(threads=1), report.done, told.append)
    stored = runs.stored_ids()
    lacking = {point.config.run_id() for point in group} - set(stored)
    assert report.failed == progress.failed_ids() == lacking
    assert len(stored) == (1 if isinstance(error, ValueError) else 2)  # the second attempt goes on where it can
    assert sum("validation accuracy" in line for line in told) == len(stored)
    assert sum("FAILED" in line for line in told) == len(lacking)


def test_a_share_of_a_gpu_is_more_than_none():
    with pytest.raises(ValueError, match=r"gpus_per_run must be > 0, got 0"):
        How(gpus_per_run=0.0)
    assert How(engine="ray", gpus_per_run=0.25).gpus_per_run == 0.25


@pytest.mark.parametrize("engine", ["inline", "shard"])
@pytest.mark.parametrize("words", [("--workers", "4"), ("--gpus-per-run", "0.5"), ("--address", "auto")])
def test_what_is_rays_alone_is_refused_with_another_engine(kdnb, engine, words):
    code, _, err = kdnb(*SWEEP, "--engine", engine, *words)
    assert (code, err) == (2, f"kdnb: {words[0]} goes with --engine ray, got {engine}\n")


def test_a_damaged_reference_run_whose_training_fails_is_a_failure(fit, toy):
    """It stays where it is, and is not there for that."""

    def meet(config):
        raise ValueError("no")

    group = trainings(sweeps.begin(TOY, {"rt": toy}, 1).points("erm"))[0]
    configs = [point.config for point in group]
    obtain.ensure_all(configs, toy, lambda *_: None)
    paths.RUNS.rename(paths.REFERENCE)
    damaged = configs[0].run_id()
    (paths.REFERENCE / damaged / "history.csv").write_bytes(b"odd")
    fit.meet = meet
    record = sweeps.begin(TOY, {"rt": toy}, 1)
    report = engines._Report(record, How(threads=1), lambda line: None)
    engines.work([group], {"rt": toy}, How(threads=1), report.done, print)
    assert report.failed == progress.failed_ids() == {damaged}
    with pytest.raises(Unfinished, match="1 points failed"):
        report.end([])


def test_what_every_point_would_meet_ends_the_sweep(fit):
    def meet(config):
        raise StoreError("the disk is full")

    fit.meet = meet
    with pytest.raises(StoreError, match="full"):
        swept()
    assert len(fit.asked) == 2  # of one training
    assert progress.failed_ids() == set()


@pytest.mark.slow
def test_students_wait_for_a_teacher_whose_candidates_failed(fit):
    def meet(config):
        if config.student == "large" and config.lr == 0.01:
            raise ValueError("no")

    fit.meet = meet
    with pytest.raises(Unfinished, match="2 points failed; 8 wait for a teacher whose candidates failed"):
        swept()
    assert len(runs.stored_ids()) == 6
    fit.meet = lambda config: None
    swept(retry_failed=True)
    assert len(runs.stored_ids()) == 16


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 3, 8, 20])
def test_shards_share_the_points_out(fit, n, store, monkeypatch):
    monkeypatch.setattr(engines, "work", lambda groups, *rest: asked.append(groups))
    shares = []
    for i in range(1, n + 1):
        asked = []
        with pytest.raises(Unfinished, match="wait for a teacher"):  # since nothing is trained
            swept(engine="shard", shard=(i, n))
        shares += asked[0]
        if n > 1:
            own = {point.config.run_id() for group in asked[0] for point in group}
            rest = {point.config.run_id() for group in asked[1] for point in group}
            assert not own & rest
            assert len(own | rest) == 8  # after its own share, a shard helps with all teachers
    names = [point.config.run_id() for group in shares for point in group]
    assert len(names) == len(set(names)) == 8


@pytest.mark.slow
def test_a_shard_counts_the_teachers_it_helps_with(fit):
    told = []
    swept(told.append, engine="shard", shard=(1, 2))
    assert "16 points in 8 trainings of 1 thread, shard 1 of 2: 8 points" in told[0]
    places = re.findall(r"\[(\d+)/(\d+)\]", "\n".join(told))
    assert {int(total) for _, total in places} == {8 + 4}  # all ERM points, half of the others
    assert int(places[-1][0]) == 12
    assert len(fit.asked) == 12


@pytest.mark.slow
def test_a_held_training_is_waited_for_and_told(fit, toy):
    groups, told = trainings(sweeps.begin(TOY, {"rt": toy}, 1).points("erm")), []
    with obtain.lock(groups[0][0].config.training()), pytest.raises(Unfinished, match="no heartbeat"):
        engines.work(groups, {"rt": toy}, How(threads=1, wait=0.2), lambda *_: None, told.append)
    assert len(told) == 1
    assert groups[0][0].config.run_id() in told[0]
    assert len(runs.stored_ids()) == 6


class SlowRay:
    """Ray, where the first starts fail; starts: folder and process of each."""

    def __init__(self, failures: int):
        self.failures, self.starts = failures, []

    def init(self, address, _temp_dir, **options):
        assert address == "local"
        assert Path(_temp_dir).is_dir()
        program = "import sys; sys.stdin.read()"
        left = subprocess.Popen([sys.executable, "-c", program, f"--temp-dir={_temp_dir}"], stdin=subprocess.PIPE)
        self.starts.append((Path(_temp_dir), left))
        if len(self.starts) <= self.failures:
            raise Exception("The current node timed out\nduring startup.")  # Ray's own is as bare

    def shutdown(self):
        """Nothing to leave."""

    def cluster_resources(self):
        raise StoreError("it started")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failures", "starts", "error"),
    [(0, 1, ""), (2, 3, ""), (9, 3, "did not start here: Exception: The current node timed out during startup")],
)
def test_ray_is_started_three_times_at_most_and_leaves_nothing(fit, monkeypatch, failures, starts, error):
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")  # so that these are put back
    slow, before = SlowRay(failures), os.environ["PYTHONPATH"]
    monkeypatch.setitem(sys.modules, "ray", slow)
    with pytest.raises(Unfinished if error else StoreError, match=error or "it started"):
        swept(engine="ray", workers=1)
    assert len(slow.starts) == starts
    for number, (folder, left) in enumerate(slow.starts):
        assert not folder.exists()
        if number >= failures:
            left.stdin.close()
        left.wait(timeout=SILENCE)  # the others were ended
    assert os.environ["PYTHONPATH"] == before


def test_a_process_that_has_only_just_started_is_ended_too(monkeypatch):
    """Between the kernel's closing of its parent's pipe and its command line there is a moment without one."""
    told, killed = [[], ["python", "--temp-dir=/tmp/kdnb-ray-1"]], []
    starting = SimpleNamespace(cmdline=lambda: told.pop(0), kill=lambda: killed.append(True))
    monkeypatch.setattr(ray.psutil, "Process", lambda: SimpleNamespace(children=lambda recursive: [starting]))
    ray._end_processes("/tmp/kdnb-ray-1")
    assert (told, killed) == ([], [True])


@pytest.mark.slow
def test_processes_of_ray_compile_no_grammar(tmp_path):
    code = "import jsonschema, sys; sys.exit('rfc3987_syntax' in sys.modules)"  # each process of Ray imports jsonschema
    with ray._quick_imports(tmp_path / "imports"):
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    # should this fail, _quick_imports has nothing to do any more
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--engine", "rai"], "unknown engine 'rai'; did you mean 'ray'?"),
        (["--shard", "1/2"], "goes with --engine shard"),
        (["--engine", "shard", "--shard", "0/4"], "1 <= i <= n, got 0/4"),
        (["--engine", "shard", "--shard", "5/4"], "1 <= i <= n, got 5/4"),
        (["--engine", "shard", "--shard", "5/1"], "shard must be i/n with 1 <= i <= n, got 5/1"),
        (["--engine", "shard", "--shard", "two"], "shard must be i/n, such as 3/16, got 'two'"),
        (["--threads", "-1"], "threads must be >= 0, got -1"),
        (["--engine", "ray", "--gpus-per-run", "-0.5"], "gpus_per_run must be >= 0"),
    ],
)
def test_a_mistake_is_one_line(store, monkeypatch, capsys, options, words):
    from kdnb.cli.main import main

    monkeypatch.setattr(sys, "argv", ["kdnb", *SWEEP, *options])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.startswith("kdnb: ")
    assert told.count("\n") == 1
    assert words in told


@pytest.mark.slow
def test_another_number_of_threads_is_told(fit):
    swept()
    told = []
    engines.run(TOY, How(), told.append)
    assert not any("last bits" in line for line in told)  # it keeps the number it had
    engines.run(TOY, How(threads=2), told.append)
    assert any("1 threads per training so far: with 2, last bits of logits differ" in line for line in told)


def test_a_sweep_is_named_by_what_is_asked_for():
    assert Sweep(grid="search", tasks=["rt", "rt"], profile="toy").name == TOY.name
    assert Sweep(grid="search", tasks=("rt",), profile="toy", seeds=(1,)).name != TOY.name
    assert Sweep(grid="search", tasks=("rt",), profile="cpu", seeds=(1,)).name == "search-rt-cpu-ab21156c"  # for ever
    own = {"path": "/mine.csv", "text": "text", "label": "label"}
    of_file = Sweep(grid="search", tasks=("own:mine",), profile="toy", own=own)
    assert of_file.name.startswith("search-own-mine-toy-")
    assert replace(of_file, own={**own, "label": "other"}).name != of_file.name
    with pytest.raises(ValueError, match="files of your own make the task own:mine, got rt"):
        replace(of_file, tasks=("rt",))
    with pytest.raises(ValueError, match="name a task"):
        Sweep(grid="search", tasks=())


@pytest.mark.slow
def test_threads_change_the_last_bits(toy, quick):
    """Why the number of threads is part of a sweep's record. Should this fail, they may be left out of it."""
    import torch

    from kdnb.experiment.training import train as train_one

    before, logits = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            logits.append(train_one(quick("erm_small"), toy).logits["test"])
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(logits[0], logits[2])
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-3)
