"""The commands of a grid: plan it, sweep it, tell how far it is, select from it. Only training imports torch."""

import inspect
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdnb.catalog import PROFILES, TASKS, task_named
from kdnb.cli.options import (
    Json,
    ProfileName,
    add_options,
    check_files,
    finish,
    integers,
    of_own_files,
    of_rows,
    show,
    typed,
    words,
)
from kdnb.core.config import SCHEDULES, RunConfig, axes, flat
from kdnb.errors import HubUnreachable, MissingAsset, Unfinished, nearest, printable
from kdnb.experiment.arms import ARMS
from kdnb.studies import registry
from kdnb.sweeps import grid_files
from kdnb.sweeps.grids import grid_named, seeds_of
from kdnb.sweeps.only import known_fields, parse, spelled

if TYPE_CHECKING:
    from kdnb.data.own import OwnData
    from kdnb.data.splits import Rows, TaskData
    from kdnb.sweeps.grids import Stages
    from kdnb.sweeps.plan import Part, Plan, Probe
    from kdnb.sweeps.record import Record, Sweep
    from kdnb.sweeps.select import Choice

LONGEST = 86_400  # seconds between two looks at a sweep
UNKNOWN = "unknown"  # the data's name in points that are only counted


@of_own_files
@of_rows
def grid_options(
    grid: Annotated[
        str,
        typer.Argument(help=f"One of {', '.join(registry.grids())}; or a .toml or .json file.", show_default=False),
    ] = "",
    hparams: Annotated[
        str, typer.Option(help="published (the points of Table 7) or published12, instead of a grid.")
    ] = "",
    task: Annotated[
        str, typer.Option(help=f"Comma-separated: {', '.join(TASKS)}; leave out with --data. [default: the profile's]")
    ] = "",
    profile: ProfileName = "demo",
    seeds: Annotated[str, typer.Option(help="Comma-separated. [default: one for a search, else the profile's]")] = "",
    arms: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(ARMS)}. [default: the grid's]")] = "",
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Part of the grid, any number of times: field=values, such as lr=1e-5,3e-5 or epochs=1..4. A field "
            f"that a method lacks leaves its points. Fields: {', '.join(known_fields())}.",
            metavar="FIELD=VALUES",
        ),
    ] = None,
    schedule: Annotated[str, typer.Option(help=f"Learning rate: {' or '.join(SCHEDULES)}. [default: the grid's]")] = "",
    *,
    own: "OwnData",
    rows: "Rows",
) -> "Sweep":
    """The options that name a grid, or a part of it, on some tasks; ValueError names the one that makes no sense."""
    from kdnb.sweeps.record import Sweep

    if hparams:
        published = {one.hparams: name for name, one in registry.grids().items() if one.hparams}
        if hparams not in published:
            raise ValueError(f"unknown hparams {hparams!r}{nearest(hparams, published)}")
        if grid and grid != published[hparams]:
            raise ValueError(f"either a grid ({grid}) or --hparams ({hparams}), not both")
        grid = published[hparams]
    if not grid:
        raise ValueError("name a grid, or give --hparams published")
    if grid.endswith(grid_files.SUFFIXES):
        grid = grid_files.named(Path(grid))
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}{nearest(profile, PROFILES)}")
    if own.path:
        check_files(own, task)
    else:
        for name in words(task):
            task_named(name)
    return Sweep(
        grid=grid,
        tasks=(own.task,) if own.path else tuple(words(task)) or PROFILES[profile].tasks,
        profile=profile,
        seeds=tuple(integers("seeds", seeds)) or seeds_of(grid, profile),
        arms=tuple(words(arms)),
        only=parse(only or []),
        schedule=schedule,
        train_rows=rows.train,
        validation_rows=rows.validation,
        test_rows=rows.test,
        own=asdict(own.whole()) if own.path else {},
    )


of_a_grid = add_options(inspect.signature(grid_options).parameters.values(), grid_options)


@of_a_grid
def plan(
    request: "Sweep",
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Measure nothing; use what is measured.")] = False,
    as_json: Json = False,
) -> None:
    """Count a grid's runs and training epochs, what is done, and estimate the time and memory of the rest."""
    finish(as_json, make_plan(request, measure=not no_probe))


@of_a_grid
def select(
    request: "Sweep",
    context: typer.Context,
    metric: Annotated[
        str, typer.Option(help="Of validation: accuracy or nll; teachers are always by accuracy.")
    ] = "accuracy",
    as_json: Json = False,
) -> None:
    """Select each arm's and seed's best stored run of a grid on validation; then show its test metrics."""
    command = f"kdnb sweep {typed(context, without=('metric', 'as_json'))}"
    finish(as_json, make_selection(request, metric, command))


@of_a_grid
def sweep(
    request: "Sweep",
    engine: Annotated[
        str, typer.Option(help="inline (this process), shard (a share of the points) or ray.")
    ] = "inline",
    shard: Annotated[str, typer.Option(help="shard: i/n, the i-th of n shares, 1 <= i <= n.", metavar="I/N")] = "1/1",
    threads: Annotated[
        int,
        typer.Option(
            help="CPU threads of each training; it decides the last bits. [default: as before, else the cores shared]",
            show_default=False,
        ),
    ] = 0,
    workers: Annotated[
        int,
        typer.Option(help="ray: trainings at a time. [default: one for each core or GPU share]", show_default=False),
    ] = 0,
    gpus_per_run: Annotated[
        float | None, typer.Option(help="ray: share of a GPU for each training, > 0, such as 0.25.")
    ] = None,
    address: Annotated[
        str, typer.Option(help="ray: host:port of a running cluster, or auto. [default: start one here]")
    ] = "",
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for a training that a silent process holds, >= 0.")
    ] = 600.0,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again the points recorded as failed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train what a grid lacks: ERM, then what its selected models teach. Start it again: it goes on."""
    from kdnb.sweeps import engines, record

    how = engines.How(
        engine=engine,
        shard=shard_of(shard, engine),
        threads=threads,
        workers=workers,
        gpus_per_run=gpus_per_run,
        address=address,
        wait=wait,
        retry_failed=retry_failed,
    )
    try:
        finished = engines.run(request, how, splits_of=_read)
    except Unfinished:
        if begun := record.read(request.name):
            show_status(begun)
        raise
    finish(as_json, show_status(finished))


def status(
    name: Annotated[str, typer.Argument(help="A sweep, or how its name begins. [default: the latest]")] = "",
    watch: Annotated[
        float, typer.Option(help="Tell again every so many seconds, until it ends.", show_default=False)
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Tell how far a sweep is: done, running, failed, left, expected end."""
    finish(as_json, watch_status(name, watch))


def make_plan(sweep: "Sweep", measure: bool = True) -> dict[str, Any]:
    """Count a grid and estimate what is left of it; prints the plan.

    Args:
        sweep: the grid.
        measure: whether a model that was not measured here is measured now.
    Returns:
        The plan as plain data.
    """
    from kdnb.core import store
    from kdnb.sweeps import grids
    from kdnb.sweeps.plan import Plan, count, estimate

    print(_title(sweep))
    stored, parts, waiting, memory = set(store.stored_ids()), [], 0, []
    for task in sweep.tasks:
        data = _data(sweep, task)
        stages = _stages(sweep, task, data.fingerprint if data else UNKNOWN, stored)
        waiting += sum(grids.is_placeholder(point.config) for point in stages.soft)
        for part in count(task, stages, stored):
            sizes = tuple(map(len, data.splits.values())) if data else task_named(task).sizes
            probe = _probe(data, part, sweep.profile, measure) if sizes and part.done < part.runs else None
            memory += [probe.peak_memory_mib] if probe else []
            parts.append(estimate(part, probe, sizes))
    total = Plan(parts=parts, waiting=waiting, peak_memory_mib=max(memory, default=None))
    _print_parts(total)
    print(*total.lines(), sep="\n")
    for task in sweep.tasks:
        if note := grid_named(sweep.grid).note(task, sweep.arms):
            print(f"  {task}: {note}")
    names = {"grid": sweep.grid, "profile": sweep.profile, "tasks": list(sweep.tasks), "seeds": list(sweep.seeds)}
    return {**names, "schedule": _schedule(sweep), **total.to_dict()}


def make_selection(sweep: "Sweep", metric: str, command: str) -> dict[str, Any]:
    """Select each arm's and seed's point on validation; only then read what the test split says of it.

    Args:
        sweep: the grid.
        metric: a key of `kdnb.sweeps.select.METRICS`.
        command: that makes the runs, for the error.
    Returns:
        The selected points as plain data, which are printed as well.
    Raises:
        ValueError: an unknown metric, or no run is stored.
    """
    from kdnb.core import store
    from kdnb.sweeps import grids
    from kdnb.sweeps.select import by_arm, matched_erm

    print(f"{_title(sweep)}; selected on validation {metric}")
    stored, chosen = set(store.stored_ids()), []
    whole = replace(sweep, arms=(), only={})  # ERM runs to be held against may not be of the part asked for
    for task in sweep.tasks:
        data = sweep.load(task).fingerprint
        stages = _stages(sweep, task, data, stored)
        erm = whole.stages(task, data, erm_only=True).erm
        if waiting := sum(grids.is_placeholder(point.config) for point in stages.soft):
            print(f"  {printable(task)}: {waiting:,} points wait for a teacher, whose ERM runs are not all done")
        chosen += [(choice, matched_erm(choice.point.config, erm)) for choice in by_arm(stages.points, metric)]
    opened = [_opened(choice, matched) for choice, matched in chosen]  # the selection is made: test may be read now
    rows = [row for row in opened if row]
    if not rows:
        raise ValueError(f"no run of {sweep.grid} is stored: make them with `{command}`")
    _print_selection(rows, metric)
    return {"grid": sweep.grid, "profile": sweep.profile, "metric": metric, "selected": rows}


def watch_status(name: str, watch: float = 0.0) -> dict[str, Any]:
    """Print the status of a sweep, again and again while it is watched.

    Args:
        name: of the sweep, or how it begins; "" for the latest.
        watch: seconds between two looks, 0 for a single one.
    Returns:
        The last status as plain data.
    Raises:
        ValueError: there is no such sweep.
    """
    from kdnb.sweeps import record

    if not 0 <= watch <= LONGEST:
        raise ValueError(f"watch must be in 0..{LONGEST:,} seconds, got {watch}")
    names = record.names()
    if not names:
        raise ValueError("no sweep was started yet: start one with kdnb sweep")
    matching = [other for other in names if other.startswith(name)]
    if not matching:
        raise ValueError(f"no sweep {name!r}{nearest(name, names)}")
    facts = _status_of(matching[0])
    while watch > 0 and facts["left"] + facts["running"]:
        time.sleep(watch)
        print()
        facts = _status_of(matching[0])
    if not name and len(names) > 1:
        print(f"other sweeps: {', '.join(names[1:10])}")
    return facts


def _status_of(name: str) -> dict[str, Any]:
    """Print and return the status of a recorded sweep; ValueError if its record cannot be read."""
    from kdnb.sweeps.record import read

    record = read(name)
    if record is None:
        raise ValueError(f"the record of sweep {name!r} cannot be read")
    return show_status(record)


def show_status(record: "Record") -> dict[str, Any]:
    """Print a sweep's status; the same as plain data."""
    from kdnb.sweeps import status

    found = status.of(record)
    print(status.title(found))
    show(status.table(found))
    print(*status.lines(found), sep="\n")
    return {
        "sweep": record.sweep.name,
        **{state: found.total(state) for state in status.STATES},
        "arms": [{"task": task, "arm": arm, **states} for (task, arm), states in found.counts.items()],
        "seconds_left": found.seconds,
        "trainings": found.heartbeats,
        "failures": found.failed,
        "threads": record.threads,
        "teachers": record.teachers,
    }


def shard_of(text: str, engine: str) -> tuple[int, int]:
    """i and n of "i/n"; ValueError if it is not that, or goes with another engine."""
    try:
        i, n = map(int, text.split("/"))
    except ValueError:
        raise ValueError(f"shard must be i/n, such as 3/16, got {text!r}") from None
    if engine != "shard" and (i, n) != (1, 1):
        raise ValueError(f"--shard {text} goes with --engine shard, got {engine}")
    return i, n


def _schedule(sweep: "Sweep") -> str:
    return sweep.schedule or grid_named(sweep.grid).schedule


def _title(sweep: "Sweep") -> str:
    """What is asked for, in a line."""
    grid, seeds = grid_named(sweep.grid), ", ".join(map(str, sweep.seeds))
    part = f"; only {spelled(sweep.only)}" if sweep.only else ""
    return f"{sweep.grid}: {grid.title}; profile {sweep.profile}, {_schedule(sweep)} schedule, seeds {seeds}{part}"


def _stages(sweep: "Sweep", task: str, data: str, stored: set[str]) -> "Stages":
    """The points of one task, with the teachers that can be selected from the stored runs."""
    from kdnb.sweeps.select import teachers

    selected = teachers(sweep.stages(task, data, erm_only=True), stored)
    return sweep.stages(task, data, selected)


def _read(sweep: "Sweep") -> "dict[str, TaskData]":
    """The splits of a sweep's tasks; where they came from is noted, and what is in the user's files is told."""
    from kdnb.cli import telling
    from kdnb.data import origins
    from kdnb.sweeps import engines

    if sweep.own:
        (task,) = sweep.tasks
        sweep.stages(task, UNKNOWN)  # refuses a grid that files cannot have before anything is read
    data = engines.load(sweep)
    for task, splits in data.items():
        asked = {"task": "", "own": sweep.own_files} if sweep.own else {"task": task}
        origins.note(splits, {**asked, "profile": sweep.profile, "rows": sweep.rows})
        if sweep.own:
            print(*telling.of_data(splits), sep="\n")
    return data


def _data(sweep: "Sweep", task: str) -> "TaskData | None":
    """A task's splits, and what is in the user's files is told; None, with a line, if they are not to be had."""
    from kdnb.cli import telling

    try:
        data = sweep.load(task)
    except (MissingAsset, HubUnreachable):
        print(f"  {task}: only counted, since its texts are not on this machine and a run is named by its data")
        return None
    if sweep.own:
        print(*telling.of_data(data), sep="\n")
    return data


def _probe(data: "TaskData | None", part: "Part", profile: str, measure: bool) -> "Probe | None":
    """The measurement of a part's student: the stored one, or one made now if that is wanted and possible."""
    from kdnb.sweeps import plan

    stored = plan.stored_probe(part.task, profile, part.student)
    if stored or not (measure and data):
        return stored
    try:
        return plan.probe(data, profile, part.student)
    except RuntimeError as error:  # no weights here, or no memory for them: the plan's counts stand without
        print(f"  {part.student} on {printable(part.task)}: not measured: {' '.join(str(error).split())}")
        return None


def _print_parts(total: "Plan") -> None:
    """A row per task and arm."""
    from rich.table import Table

    from kdnb.plain import duration

    table = Table("task", "arm", "runs", "epochs", "trained", "done", "time left")
    for part in total.parts:
        left = "–" if part.seconds is None else duration(part.seconds)
        counts = (part.runs, part.epochs, part.trained_epochs, part.done)
        name = f"{part.arm} (teachers)" if part.teaches else part.arm
        table.add_row(part.task, name, *(f"{count:,}" for count in counts), left)
    show(table)


def _opened(choice: "Choice", matched: RunConfig) -> dict[str, Any] | None:
    """A choice as plain data, with the test metrics of its run and of the ERM run with the same training.

    None for a damaged run, which is said: what was selected is not replaced by the second best.
    """
    from kdnb.core import store
    from kdnb.experiment.records import read_if_whole

    config, values = choice.point.config, flat(choice.point.config)
    fields = ("task", "seed", "method", "student", "teacher_run", "schedule", *axes())
    metrics = ("entropy", "accuracy", "nll")
    if not (run := read_if_whole(store.load, config.run_id())):
        return None
    test = run.metrics["test"]
    row = {
        "arm": choice.point.arm,
        "name": choice.point.title,
        **{name: values.get(name) for name in fields},
        "run_id": config.run_id(),
        "validation": choice.value,
        "stored": choice.stored,
        "of": choice.wanted,
        "test": {name: test[name] for name in metrics},
        "matched_erm": None,
    }
    beside = config.method != "erm" and store.exists(matched.run_id())
    if beside and (erm := read_if_whole(store.load, matched.run_id())):
        row["matched_erm"] = {"run_id": erm.run_id, **{name: erm.metrics["test"][name] for name in metrics}}
    return row


def _print_selection(rows: list[dict[str, Any]], metric: str) -> None:
    """A row per selected point."""
    from rich.table import Table

    unit = "%" if metric == "accuracy" else "nats"
    columns = ("task", "arm", "seed", "lr", "epochs", "alpha", "tau", f"validation {metric}, {unit}", "of")
    table = Table(*columns, "test entropy, nats", "test accuracy, %", "matched ERM: entropy")
    for row in rows:
        value = f"{100 * row['validation']:.1f}" if metric == "accuracy" else f"{row['validation']:.3f}"
        matched = f"{row['matched_erm']['entropy']:.3f}" if row["matched_erm"] else "–"
        test = (f"{row['test']['entropy']:.3f}", f"{100 * row['test']['accuracy']:.1f}")
        settings = [f"{row[name]:g}" for name in ("lr", "epochs", "alpha", "tau")]
        of = str(row["of"]) if row["stored"] == row["of"] else f"{row['stored']} of {row['of']}"
        table.add_row(row["task"], row["name"], str(row["seed"]), *settings, value, of, *test, matched)
    show(table, keys=3)
    if any(row["stored"] < row["of"] for row in rows):
        print("some candidates have no run yet: the selection may change when they have")
