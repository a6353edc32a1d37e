"""What `kdnb runs` does: list, show, verify; prints for people and returns plain data."""

import json
from dataclasses import asdict

from kdnb.cli.train import facts
from kdnb.core import store
from kdnb.core.config import RunConfig
from kdnb.data.splits import TaskData, load
from kdnb.errors import DamagedRun, nearest
from kdnb.experiment import obtain, tables
from kdnb.experiment.points import Point


def list_runs(task: str) -> dict:
    """All valid runs, a line each."""
    found = [run for run in tables.load_runs() if not task or run.config.task == task]
    for run in found:
        test, title = run.metrics["test"], Point(tables.arm_of(run.config), run.config).title
        told = f"entropy {test['entropy']:.3f} nats  accuracy {100 * test['accuracy']:.1f} %"
        print(f"{run.run_id:<50} {told}  {title}")
    print(f"{len(found)} runs")
    return {"runs": [facts(run) for run in found]}


def show_run(run_id: str) -> dict:
    """One run's config and metrics."""
    try:
        found = store.load(run_id)
    except FileNotFoundError:
        raise ValueError(f"no run {run_id!r}{nearest(run_id, store.stored_ids()[:2000])}") from None
    told = {"run_id": run_id, "config": asdict(found.config), "metrics": found.metrics}
    print(json.dumps(told, indent=1))
    return told


def verify_runs(redo: bool) -> dict:
    """Load every run; set damaged ones aside and, on request, train them again (students after teachers)."""
    damaged, redone, again = [], [], []
    ids = store.stored_ids()
    for run_id in ids:
        try:
            store.load(run_id)
        except DamagedRun as error:
            config = store.config_of(run_id)
            where = store.set_aside(run_id)
            print(f"damaged: {error}; set aside in {where}")
            damaged.append(run_id)
            again.append((run_id, config))
    if redo:
        for run_id, config in sorted(again, key=lambda pair: bool(pair[1] and pair[1].teacher_run)):
            if config is None or config.task.startswith("own:"):
                print(f"{run_id}: cannot be redone from here; run the command that made it again")
                continue
            obtain.run_points([Point(tables.arm_of(config), config)], data_of(config))
            redone.append(run_id)
    print(f"{len(ids)} runs checked, {len(damaged)} damaged, {len(redone)} redone")
    return {"checked": len(ids), "damaged": damaged, "redone": redone}


def data_of(config: RunConfig) -> TaskData:
    """The data a stored config was made for, at the profile's rows; ValueError if that is another cut."""
    data = load(config.task, config.profile)
    if data.fingerprint != config.data:
        raise ValueError(
            f"run {config.run_id()} used another cut of {config.task} (--train-rows?); run its command again"
        )
    return data
