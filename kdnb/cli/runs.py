"""The commands `kdnb runs`: list, show, table, verify, migrate; each prints for people and gives plain data."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdnb.cli.options import Json, finish, on_this_machine, show

if TYPE_CHECKING:
    from kdnb.core.config import RunConfig

app = typer.Typer(
    help="The run store: list, show, table, verify, migrate.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def list_runs(task: Annotated[str, typer.Option(help="Only this task's.")] = "", as_json: Json = False) -> None:
    """List the stored runs with their test entropy [nats] and accuracy."""
    from rich.table import Table

    from kdnb.cli.train import facts
    from kdnb.experiment import tables
    from kdnb.experiment.points import Point

    runs = [run for run in tables.load_runs() if not task or run.config.task == task]
    if not runs:
        _check_task(task)
    table = Table("run", "what", "test entropy, nats", "test accuracy, %")
    table.columns[0].no_wrap = True
    for run in runs:
        title, test = Point(tables.arm_of(run.config), run.config).title, run.metrics["test"]
        table.add_row(run.run_id, title, f"{test['entropy']:.3f}", f"{100 * test['accuracy']:.1f}")
    if runs:
        show(table)
    print(f"{len(runs)} runs")
    finish(as_json, {"runs": [facts(run) for run in runs]})


@app.command("show")
def runs_show(run_id: str, as_json: Json = False) -> None:
    """Show one run: its config, how its loss is written (weights, tau squared, reduction), metrics and cost."""
    from kdnb.core import store
    from kdnb.core.config import RunConfig, flat
    from kdnb.experiment import records
    from kdnb.experiment.conventions import convention

    try:
        record = store.read(run_id)
    except FileNotFoundError:
        raise ValueError(f"no run {run_id!r}{records.nearest_runs(run_id)}") from None
    result = {"run_id": run_id, "config": record.config, "convention": {}, "metrics": record.metrics}
    if not store.kind_of(run_id):
        config = RunConfig.from_dict(record.config)
        result |= {"config": flat(config), "convention": convention(config)}
    elif "divergence" in record.config:
        from kdnb.studies.language_models.divergences import convention_of

        result["convention"] = convention_of(record.config)
    print(json.dumps(result, indent=1))
    finish(as_json, result)


@app.command("table")
def runs_table(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The .parquet to write.", parser=on_this_machine)],
    committed: Annotated[bool, typer.Option("--committed", help="The committed reference runs alone.")] = False,
    task: Annotated[str, typer.Option(help="Only this task's.")] = "",
    url: Annotated[str, typer.Option(help="Where the file will be found; goes into its description.")] = "",
    as_json: Json = False,
) -> None:
    """Write the runs as one Parquet file, a row each, with a Croissant description (JSON-LD) beside it."""
    from kdnb import paths
    from kdnb.core import store
    from kdnb.core.config import slug
    from kdnb.experiment import archive

    ids = [name for name in store.stored_ids() if not committed or (paths.REFERENCE / name).is_dir()]
    if task:  # rt's names begin as those of rt@0.2 do
        of_task = ((name, store.config_of(name)) for name in ids if name.startswith(f"{slug(task)}-"))
        ids = [name for name, config in of_task if not config or config.task == task]
    if not ids:
        _check_task(task)
    described, rows = archive.write(file, ids, url)
    print(f"{rows:,} runs in {file}, described in {described}")
    finish(as_json, {"file": str(file), "description": str(described), "rows": rows})


@app.command("verify")
def runs_verify(
    redo: Annotated[bool, typer.Option("--redo", help="Train the damaged runs again.")] = False, as_json: Json = False
) -> None:
    """Check every byte of every run, and its metrics by its logits; set damaged ones aside.

    Exit code 1 if any was found and not redone, or another version of kdnb is needed to read it.
    """
    result = verify_runs(redo)
    finish(as_json, result)
    raise typer.Exit(1 if set(result["damaged"]) - set(result["redone"]) or result["foreign"] else 0)


@app.command("migrate")
def runs_migrate(as_json: Json = False) -> None:
    """Bring the runs of an earlier version into today's form: no name and no bit of any logit changes.

    Damaged ones are left as they are. Exit code 1 if any was found.
    """
    result = migrate_runs()
    finish(as_json, result)
    raise typer.Exit(1 if result["damaged"] else 0)


def _check_task(task: str) -> None:
    """Raise ValueError, with the nearest name, for a task that is neither known nor that of a stored run."""
    from kdnb.catalog import TASKS
    from kdnb.core import store
    from kdnb.errors import nearest

    stored = {config.task for name in store.stored_ids() if (config := store.config_of(name))}
    if task and task not in stored and task.partition("@")[0] not in TASKS:
        raise ValueError(f"unknown task {task!r}{nearest(task, dict.fromkeys([*sorted(stored), *TASKS]))}")


def migrate_runs() -> dict[str, Any]:
    """Convert every run of an earlier version; how many were looked at, and run_ids of the converted and damaged."""
    from kdnb import paths
    from kdnb.core import store
    from kdnb.errors import DamagedRun
    from kdnb.experiment.migrate import migrate, recover

    for folder in (paths.RUNS, paths.REFERENCE):
        recover(folder)
    ids, migrated, damaged = store.stored_ids(), [], []
    for run_id in ids:
        try:
            if migrate(run_id):
                migrated.append(run_id)
        except DamagedRun as error:
            damaged.append(run_id)
            print(f"damaged: {error}; left as it is: kdnb runs verify sets it aside")
    print(f"{len(ids)} runs, {len(migrated)} converted, {len(damaged)} damaged")
    return {"checked": len(ids), "migrated": migrated, "damaged": damaged}


def verify_runs(redo: bool) -> dict[str, Any]:
    """Load every run; set damaged ones aside and, on request, train them again, students after teachers.

    Runs of an earlier version are converted on the way. One that cannot be redone is told, and the others are redone.

    Args:
        redo: whether damaged runs are trained again.
    Returns:
        How many were checked, and the run_ids of the damaged, the redone and those that another version reads.
    """
    from kdnb import paths
    from kdnb.core import store
    from kdnb.errors import DamagedRun, OldRun
    from kdnb.experiment import obtain
    from kdnb.experiment.migrate import migrate, recover

    for folder in (paths.RUNS, paths.REFERENCE):
        recover(folder)
    ids = store.stored_ids()
    damaged: dict[str, RunConfig | None] = {}
    redone: list[str] = []
    foreign = []
    for run_id in ids:
        try:
            try:
                _check(run_id)
            except OldRun as error:
                if not migrate(run_id):  # which checks every byte of it as well
                    foreign.append(run_id)
                    print(f"left as it is: {error}")
        except DamagedRun as error:
            damaged[run_id] = store.config_of(run_id)
            print(f"damaged: {error}; {obtain.out_of_the_way(run_id)}")
    if redo:
        redone = [run_id for run_id in _teachers_first(damaged) if _redo(run_id, damaged[run_id])]
    others = f", {len(foreign)} of another version" if foreign else ""
    print(f"{len(ids)} runs checked, {len(damaged)} damaged, {len(redone)} redone{others}")
    return {"checked": len(ids), "damaged": list(damaged), "redone": redone, "foreign": foreign}


def _teachers_first(configs: "dict[str, RunConfig | None]") -> list[str]:
    """Names of some runs, each behind its teacher where that is among them, as whose own teacher may be."""

    def generation(run_id: str) -> int:
        config = configs.get(run_id)
        return 1 + generation(config.teacher_run) if config else 0

    return sorted(configs, key=generation)


def _redo(run_id: str, config: "RunConfig | None") -> bool:
    """Train a damaged run again; whether that could be done, which is told where not."""
    from kdnb.data import origins
    from kdnb.errors import KdnbError, first_line
    from kdnb.experiment import obtain, tables
    from kdnb.experiment.points import Point

    if config is None:
        print(f"{run_id}: cannot be redone from here; run the command that made it again")
        return False
    try:
        obtain.run_points([Point(tables.arm_of(config), config)], origins.data_of(config))
    except (ValueError, OSError, KdnbError) as error:
        print(f"{run_id}: cannot be redone: {first_line(error)}")
        return False
    return True


def _check(run_id: str) -> None:
    """Hold a run to its hashes and to itself, and what it says of its teacher to that; raises as `store.load`."""
    from kdnb.core import store
    from kdnb.experiment import teachers

    if teachers.origin_of(run_id):
        teachers.read(run_id)
    elif store.kind_of(run_id):
        store.read(run_id)
    else:
        teachers.check(store.load(run_id))
