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

from kdnb import paths
from kdnb.core import store
from kdnb.core.config import RunConfig
from kdnb.data.splits import load
from kdnb.errors import Passing, Unfinished, one_line, retry_of
from kdnb.experiment import obtain
from kdnb.experiment.points import Point
from kdnb.sweeps import engines, failures
from kdnb.sweeps.engines import Outcome

IN_FLIGHT = 256  # trainings handed to a cluster at a time, where no number of workers is given
STORE_BYTES = 80 * 2**20  # of Ray's object store, the least it takes: nothing but names passes through it
PASSED_ON = ("KDNB_HUB", "HF_HOME", "HF_HUB_OFFLINE")


@contextlib.contextmanager
def session(threads: int, workers: int, address: str, gpus: float | None) -> Iterator[Callable]:
    """Ray, started here on loopback or joined at an address, and left again; gives train(job, groups, done).

    Args:
        threads: CPUs of each training. workers: trainings at a time; on a cluster 0 means what it has room for.
        address: of a running cluster, "" to start one here. gpus: share of a GPU for each training, None for
            a whole one where there are any.
    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """
    scratch = ""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not address:  # all on loopback, with a token that no file holds
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        scratch = tempfile.mkdtemp(prefix=f"kdnb-ray-{os.getpid()}-", dir="/tmp" if os.path.isdir("/tmp") else None)
    try:
        import ray
    except ImportError:
        raise ValueError("engine ray needs Ray: pip install 'ray>=2.50,<3', or the extra [cluster] of kdnb") from None
    try:
        own = {"num_cpus": threads * workers, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        told = {"logging_level": "error", "log_to_driver": False, "runtime_env": {"env_vars": _environment(threads)}}
        ray.init(address or "local", **told, **({} if address else {**own, "_temp_dir": scratch}))
    except ConnectionError as error:
        raise ValueError(f"no Ray cluster at {address}: {one_line(error)}") from None
    try:
        share = gpus if gpus is not None else min(1.0, ray.cluster_resources().get("GPU", 0.0))
        needs = {"num_cpus": threads, "num_gpus": share}
        again = {"max_retries": engines.RETRIES, "retry_exceptions": [Passing]}
        task = ray.remote(train_one).options(**needs, **again)
        yield lambda job, groups, done: _train_all(ray, task, {**job, "threads": threads}, groups, done, workers)
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


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
        retry = retry_of(error)
        if retry == "again":
            raise Passing(f"{one_line(error)} (on {platform.node()})") from None
        return {
            "error": one_line(error), "trace": traceback.format_exc(), "host": platform.node(),
            "ending": retry == "stop",
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
    if (outcome := engines.failed_before(group)) or all(obtain.whole(config) for config in configs):
        return outcome or Outcome([])
    for config in configs:
        if store.exists(config.run_id()) and not obtain.whole(config):
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
        found = {"error": f"its worker died: {one_line(error)}", "attempts": engines.RETRIES + 1}
    except deaths.RayError as error:
        raise Unfinished(one_line(error)) from None
    if found.get("ending"):
        raise Unfinished(f"{found['error']} (on {found['host']})")
    if "error" in found:
        host = found.get("host", "a worker")
        failures.record(
            engines.missing(configs), found["error"], found.get("attempts", 1), found.get("trace", ""), host
        )
        return Outcome([], found["error"])
    return Outcome(found["trained"])


def _environment(threads: int) -> dict[str, str]:
    """What workers inherit wherever they are: the same folders, the same number of threads."""
    folders = {"KDNB_OUTPUTS": paths.OUTPUTS, "KDNB_DATA_CACHE": paths.DATA_CACHE, "KDNB_REFERENCE": paths.REFERENCE}
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**{name: str(folder) for name, folder in folders.items()}, **passed, "OMP_NUM_THREADS": str(threads)}
