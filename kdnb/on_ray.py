"""A sweep on Ray Core: one task for each training, on this machine or on a cluster whose nodes share the outputs."""

import contextlib
import os
import platform
import secrets
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from kdnb import engines, failures, paths, runs, sweep
from kdnb.config import RunConfig
from kdnb.data import load
from kdnb.engines import Outcome, Unfinished
from kdnb.sweep import Point

IN_FLIGHT = 256  # trainings handed to a cluster at a time, where no number of workers is given
STORE_BYTES = 80 * 2**20  # of Ray's object store, the least it takes: nothing but names passes through it
PASSED_ON = ("KDNB_HUB", "HF_HOME", "HF_HUB_OFFLINE")


class Passing(Exception):
    """A failure that another attempt may not meet."""


@contextlib.contextmanager
def session(threads: int, workers: int, address: str, gpus: float | None) -> Iterator[Callable]:
    """Ray, started here on loopback or joined at an address, and left again; gives train(job, groups, done).

    Args:
        threads: CPUs of each training. workers: trainings at a time; on a cluster 0 means what it has room for.
        address: of a running cluster, "" to start one here. gpus: share of a GPU for each training, None for
            a whole one where there are any.
    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
        Unfinished: Ray did not start here.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with contextlib.nullcontext("") if address else _scratch() as scratch:
        try:
            import ray
        except ImportError:
            message = "engine ray needs Ray: pip install 'ray>=2.50,<3', or the extra [cluster] of kdnb"
            raise ValueError(message) from None
        try:
            _connect(ray, address, scratch, threads, workers)
            share = gpus if gpus is not None else min(1.0, ray.cluster_resources().get("GPU", 0.0))
            needs = {"num_cpus": threads, "num_gpus": share}
            again = {"max_retries": engines.RETRIES, "retry_exceptions": [Passing]}
            task = ray.remote(train_one).options(**needs, **again)
            yield lambda job, groups, done: _train_all(ray, task, {**job, "threads": threads}, groups, done, workers)
        finally:
            ray.shutdown()


def train_one(job: dict, configs: list[dict]) -> dict:
    """What a worker does: one training. Its data and teacher come from the disk and stay in the process.

    Args:
        job: profile, train_rows and threads. configs: fields of the RunConfigs.
    Returns:
        {"trained": run_ids}, or what made it fail: "error", "trace", "host", "ending".
    """
    points = [RunConfig(**fields) for fields in configs]
    try:
        data = load(points[0].task, job["profile"], job["train_rows"])
        return {"trained": engines.train(points, data, job["threads"])}
    except Exception as error:
        what = engines.kind(error)
        if what == "passing":
            raise Passing(f"{engines.told(error)} (on {platform.node()})") from None
        return {
            "error": engines.told(error), "trace": traceback.format_exc(), "host": platform.node(),
            "ending": what == "ending",
        }  # fmt: skip


def _train_all(ray, task, job: dict, groups: list[list[Point]], done: Callable, workers: int) -> None:
    """Hand out what is missing, never more than there are workers for; done(group, outcome) at the end of each."""
    left, flying = [], {}
    for group in groups:
        if outcome := _known(group):
            done(group, outcome)
        else:
            left.append(group)
    left.reverse()
    while left or flying:
        while left and len(flying) < (workers or IN_FLIGHT):
            group = left.pop()
            flying[task.remote(job, [vars(point.config) for point in group])] = group
        (ready,), _ = ray.wait(list(flying), num_returns=1)
        group = flying.pop(ready)
        done(group, _outcome(ray, ready, [point.config for point in group]))


def _known(group: list[Point]) -> Outcome | None:
    """The outcome of a training that needs no worker: it failed before, or all its runs are stored and whole."""
    configs = [point.config for point in group]
    if (outcome := engines.failed_before(group)) or all(sweep.whole(config) for config in configs):
        return outcome or Outcome([])
    for config in configs:
        if runs.exists(config.run_id()) and not sweep.whole(config):
            print(f"kdnb: run {config.run_id()} is damaged, training it again", file=sys.stderr)
    return None


def _outcome(ray, ready, configs: list[RunConfig]) -> Outcome:
    """What a task came to; a failure is recorded, what every other task would meet as well ends the sweep."""
    deaths = ray.exceptions
    try:
        found = ray.get(ready)
    except Passing as error:  # a class that Ray makes, of this one and its own
        found = {"error": str(error.cause), "attempts": engines.RETRIES + 1}
    except (deaths.WorkerCrashedError, deaths.OutOfMemoryError, deaths.NodeDiedError) as error:
        found = {"error": f"its worker died: {engines.told(error)}", "attempts": engines.RETRIES + 1}
    except deaths.RayError as error:
        raise Unfinished(engines.told(error)) from None
    if found.get("ending"):
        raise Unfinished(f"{found['error']} (on {found['host']})")
    if "error" in found:
        host = found.get("host", "a worker")
        failures.record(
            engines.missing(configs), found["error"], found.get("attempts", 1), found.get("trace", ""), host
        )
        return Outcome([], found["error"])
    return Outcome(found["trained"])


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


def _connect(ray, address: str, scratch: str, threads: int, workers: int) -> None:
    """Join the Ray at an address, or start one with its files in scratch; raises as `session`."""
    told = {"logging_level": "error", "log_to_driver": False, "runtime_env": {"env_vars": _environment(threads)}}
    if address:
        try:
            ray.init(address, **told)
        except ConnectionError as error:
            raise ValueError(f"no Ray cluster at {address}: {engines.told(error)}") from None
        return
    own = {"num_cpus": threads * workers, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    try:
        with _quick_imports(Path(scratch) / "imports"):
            ray.init("local", **told, **own, _temp_dir=scratch)
    except Exception as error:  # Ray raises bare ones
        raise Unfinished(f"Ray did not start here: {engines.told(error)}") from error


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
