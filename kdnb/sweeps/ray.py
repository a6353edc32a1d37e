"""A sweep on Ray Core: one task for each training, on this machine or on a cluster whose nodes share the outputs."""

import contextlib
import functools
import json
import os
import platform
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from kdnb import files, paths
from kdnb.core import store
from kdnb.core.config import RunConfig
from kdnb.data.splits import TaskData
from kdnb.errors import Passing, Unfinished, one_line, retry_of
from kdnb.sweeps import engines, progress
from kdnb.sweeps.engines import Done, Group, How, Outcome
from kdnb.sweeps.record import Sweep

IN_FLIGHT = 256  # trainings handed to a cluster at a time, where no number of workers is given
STORE_BYTES = 80 * 2**20  # of Ray's object store, the least it takes: nothing but names passes through it
PASSED_ON = ("KDNB_HUB", "HF_HOME", "HF_HUB_OFFLINE")


@contextlib.contextmanager
def session(how: How, sweep: Sweep) -> Iterator[Callable[[list[Group], Done], None]]:
    """Ray, started here on loopback or joined at an address, and left again.

    Args:
        how: as for `connection`.
        sweep: whose trainings they are.
    Returns:
        train(groups, done).
    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
        Unfinished: Ray did not start here.
    """
    with connection(how, train_one) as (ray, task):
        job = {"sweep": json.dumps(asdict(sweep)), "threads": how.threads}
        limit = how.workers or IN_FLIGHT

        def submit(group: Group) -> Any:
            return task.remote(job, [vars(point.config) for point in group])

        yield lambda groups, done: _train_all(ray, submit, groups, done, limit)


@contextlib.contextmanager
def connection(how: How, function: Callable) -> Iterator[tuple[ModuleType, Any]]:
    """Ray and one of our functions as its task, which is tried again after a worker's death and a passing error.

    Args:
        how: threads are the CPUs of each task, workers the tasks at a time (0, on a cluster: what it has room for);
            address is that of a running cluster, "" to start one here; gpus_per_run None is a whole one where there
            are any.
        function: of a module that every worker can import.
    Returns:
        The module and the remote function; raises as `session`.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with contextlib.nullcontext("") if how.address else _scratch() as scratch:
        try:
            import ray
        except ImportError:
            message = "engine ray needs Ray: pip install 'ray>=2.50,<3', or the extra [cluster] of kdnb"
            raise ValueError(message) from None
        terminated = signal.getsignal(signal.SIGTERM)
        try:
            _connect(ray, how, scratch)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminated)  # Ray's own handler would end us without a word
            gpus = how.gpus_per_run
            if gpus is None:
                gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0))
            yield (
                ray,
                ray.remote(function).options(
                    num_cpus=how.threads, num_gpus=gpus, max_retries=engines.RETRIES, retry_exceptions=[Passing]
                ),
            )
        finally:
            ray.shutdown()


def each(how: How, function: Callable[..., dict], jobs: list[tuple]) -> Iterator[tuple[tuple, dict]]:
    """(job, what function(*job) gave), of each as it ends; what a worker's death or error left is {"error": why}."""
    with connection(how, function) as (ray, task):
        left = list(reversed(jobs))
        running: dict[Any, tuple] = {}
        while left or running:
            while left and len(running) < (how.workers or IN_FLIGHT):
                job = left.pop()
                running[task.remote(*job)] = job
            (ready,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ready)
            try:
                yield job, ray.get(ready)
            except (Passing, ray.exceptions.RayError) as error:
                yield job, {"error": one_line(getattr(error, "cause", None) or error)}


@functools.lru_cache(maxsize=16)
def _data(sweep: str, task: str) -> TaskData:
    """What a worker trains on, read once."""
    return files.made(Sweep, json.loads(sweep)).load(task)


def train_one(job: dict, fields: list[dict]) -> dict:
    """What a worker does: one training. Its data and teacher come from the disk and stay in the process.

    Args:
        job: the sweep, as JSON, and threads.
        fields: of each RunConfig.
    Returns:
        {"trained": run_ids}, or what made it fail: "error", "trace", "host", "fatal".
    Raises:
        Passing: an error that another attempt may not meet.
    """
    configs = [RunConfig.of(values) for values in fields]
    try:
        return {"trained": engines.train(configs, _data(job["sweep"], configs[0].task), job["threads"])}
    except Exception as error:
        retry = retry_of(error)
        if retry == "again":
            raise Passing(f"{one_line(error)} (on {platform.node()})") from None
        return {
            "error": one_line(error),
            "trace": traceback.format_exc(),
            "host": platform.node(),
            "fatal": retry == "stop",
        }


def _train_all(ray: ModuleType, submit: Callable, groups: list[Group], done: Done, limit: int) -> None:
    """Hand out what is missing, at most `limit` at a time; done(group, outcome) at the end of each."""
    left = []
    for group in groups:
        outcome = _without_worker(group)
        if outcome:
            done(group, outcome)
        else:
            left.append(group)
    left.reverse()
    running: dict[Any, tuple[Group, list[str]]] = {}  # with what was missing before
    while left or running:
        while left and len(running) < limit:
            group = left.pop()
            before = engines.missing([point.config for point in group])
            running[submit(group)] = group, before
        (ready,), _ = ray.wait(list(running), num_returns=1)
        group, before = running.pop(ready)
        done(group, _outcome(ray, ready, [point.config for point in group], before))


def _without_worker(group: Group) -> Outcome | None:
    """The outcome of a training that needs no worker: it failed before, or all its runs are stored and whole."""
    configs = [point.config for point in group]
    if outcome := engines.failed_before(configs):
        return outcome
    lacking = engines.lacking(configs)
    if not lacking:
        progress.forget_failures(config.run_id() for config in configs)
        return Outcome([])
    for run_id in lacking:
        if store.exists(run_id):
            print(f"kdnb: run {run_id} is damaged, training it again", file=sys.stderr)
    return None


def _outcome(ray: ModuleType, ready: Any, configs: list[RunConfig], before: list[str]) -> Outcome:
    """What a task came to; a failure is recorded, what every other task would meet as well ends the sweep.

    Args:
        ray: the module.
        ready: the task.
        configs: of its training.
        before: run_ids of those that were missing when it was handed out.
    """
    deaths = ray.exceptions
    try:
        result = ray.get(ready)
    except Passing as error:  # a class that Ray makes, of this one and its own
        result = {"error": str(getattr(error, "cause", error)), "attempts": engines.RETRIES + 1}
    except (deaths.WorkerCrashedError, deaths.OutOfMemoryError, deaths.NodeDiedError) as error:
        result = {"error": f"its worker died: {one_line(error)}", "attempts": engines.RETRIES + 1}
    except deaths.RayError as error:
        raise Unfinished(one_line(error)) from None
    if result.get("fatal"):
        raise Unfinished(f"{result['error']} (on {result['host']})")
    left = engines.lacking(configs) if "error" in result else []
    trained = [run_id for run_id in before if run_id not in left]  # by attempts that failed too
    if "error" in result:
        progress.record_failure(
            left,
            result["error"],
            result.get("attempts", 1),
            result.get("trace", ""),
            result.get("host", "a worker"),
        )
        return Outcome(trained, result["error"])
    return Outcome(list(dict.fromkeys([*trained, *result["trained"]])))


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """The folder of a Ray of our own: all on loopback, with a token that no file holds."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    folder = tempfile.mkdtemp(prefix=f"kdnb-ray-{os.getpid()}-", dir="/tmp" if os.path.isdir("/tmp") else None)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _connect(ray: ModuleType, how: How, scratch: str) -> None:
    """Join the Ray at an address, or start one with its files in scratch; raises as `session`."""
    options: dict[str, Any] = {
        "logging_level": "error",
        "log_to_driver": False,
        "runtime_env": {"env_vars": _environment(how.threads)},
    }
    if how.address:
        try:
            ray.init(how.address, **options)
        except ConnectionError as error:
            raise ValueError(f"no Ray cluster at {how.address}: {one_line(error)}") from None
        return
    options |= {"num_cpus": how.threads * how.workers, "object_store_memory": STORE_BYTES}
    options |= {"include_dashboard": False, "_temp_dir": scratch}
    with _quick_imports(Path(scratch) / "imports"):
        for left in reversed(range(engines.RETRIES + 1)):
            try:
                ray.init("local", **options)
                return
            except Exception as error:  # Ray raises bare ones
                _end_processes(scratch)
                if not left:
                    raise Unfinished(f"Ray did not start here: {one_line(error)}") from error


def _end_processes(scratch: str) -> None:
    """End what a Ray that did not start left behind: the processes below this one that were given its folder.

    One that has only just started has no command line yet, and is looked at again, for a second at most.
    """
    until, starting = time.monotonic() + 1, True
    while starting and time.monotonic() < until:
        starting = False
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                starting |= not words
                if any(scratch in word for word in words):
                    process.kill()
        time.sleep(0.01 * starting)


@contextlib.contextmanager
def _quick_imports(folder: Path) -> Iterator[None]:
    """Spare the Python processes that are started meanwhile, and those that they start, seconds of CPU each.

    All of Ray's import jsonschema, which imports rfc3987_syntax where JupyterLab brought it, to check IRIs, and that
    compiles a grammar. jsonschema does without it. With it, the five processes of a starting Ray may outlast, on a
    busy machine, the 15 seconds that Ray gives its agents before it aborts (ray-project/ray#65983).

    Args:
        folder: new, to stand first on the processes' PYTHONPATH, and to stay while they run.
    """
    folder.mkdir()
    (folder / "rfc3987_syntax.py").write_text("raise ImportError('left out for a quick start')\n", encoding="utf-8")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _environment(threads: int) -> dict[str, str]:
    """What workers inherit wherever they are: the same folders, the same number of threads."""
    folders = {"KDNB_OUTPUTS": paths.OUTPUTS, "KDNB_DATA_CACHE": paths.DATA_CACHE, "KDNB_REFERENCE": paths.REFERENCE}
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**{name: str(folder) for name, folder in folders.items()}, **passed, "OMP_NUM_THREADS": str(threads)}
