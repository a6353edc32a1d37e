"""The commands of `kdnb` that run a grid and tell how far it is: a thin mirror of `kdnb.cli.sweep_commands`."""

from typing import Annotated

import typer

from kdnb.cli.grid_cli import Arms, GridName, Hparams, Schedule, Seeds, Tasks, Where
from kdnb.cli.options import Json, ProfileName, finish, numbers, words

Engine = Annotated[str, typer.Option(help="inline (this process), shard (a share of the points) or ray.")]
Shard = Annotated[str, typer.Option(help="shard: i/n, the i-th of n shares, 1 <= i <= n.", metavar="I/N")]
Threads = Annotated[
    int,
    typer.Option(
        help="CPU threads of each training; it decides the last bits. [default: as before, else the cores shared]",
        show_default=False,
    ),
]
Workers = Annotated[
    int, typer.Option(help="ray: trainings at a time. [default: one for each core or GPU share]", show_default=False)
]
Gpus = Annotated[float | None, typer.Option(help="ray: share of a GPU for each training, such as 0.25.")]
Address = Annotated[str, typer.Option(help="ray: host:port of a running cluster, or auto. [default: start one here]")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for a training that a silent process holds, >= 0.")]
Retry = Annotated[bool, typer.Option("--retry-failed", help="Try again the points recorded as failed.")]


def sweep(
    grid: GridName = "",
    hparams: Hparams = "",
    task: Tasks = "",
    profile: ProfileName = "demo",
    seeds: Seeds = "",
    arms: Arms = "",
    where: Where = "",
    schedule: Schedule = "",
    engine: Engine = "inline",
    shard: Shard = "1/1",
    threads: Threads = 0,
    workers: Workers = 0,
    gpus_per_run: Gpus = None,
    address: Address = "",
    wait: Wait = 600.0,
    retry_failed: Retry = False,
    as_json: Json = False,
) -> None:
    """Train what a grid lacks: ERM, then what its selected models teach. Start it again after any end: it goes on."""
    from kdnb.cli import grid_commands, sweep_commands

    options = (words(task), profile, numbers(seeds), words(arms), where, schedule)
    how = {
        "engine": engine, "shard": shard, "threads": threads, "workers": workers, "gpus_per_run": gpus_per_run,
        "address": address, "wait": wait, "retry_failed": retry_failed,
    }  # fmt: skip
    finish(as_json, sweep_commands.run(grid_commands.wanted(grid, hparams, *options), how))


def status(
    name: Annotated[str, typer.Argument(help="A sweep's name, or how it begins. [default: the latest]")] = "",
    watch: Annotated[
        float, typer.Option(help="Tell again every so many seconds, until it ends.", show_default=False)
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Tell how far a sweep is: done, running, failed, left, expected end."""
    from kdnb.cli import sweep_commands

    finish(as_json, sweep_commands.show_status(name, watch))


def simulate(
    seeds: Annotated[str, typer.Option(help="Comma-separated; each is a draw of data, start and order.")] = "0,1,2,3,4",
    only: Annotated[str, typer.Option(help="Comma-separated claims, such as H8.2. [default: all]")] = "",
    as_json: Json = False,
) -> None:
    """Run what the second paper's claims need beside stored runs: toys and small networks, a minute in all."""
    from kdnb.analysis import simulations
    from kdnb.studies import registry

    finish(as_json, simulations.simulate(registry.simulations(), numbers(seeds), words(only)))
