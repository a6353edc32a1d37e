"""The commands of `kdnb` that plan a grid and select from it: a thin mirror of `kdnb.cli.grid_commands`."""

from typing import Annotated

import typer

from kdnb.catalog import TASKS
from kdnb.cli.options import Json, ProfileName, finish, numbers, words
from kdnb.core.config import SCHEDULES
from kdnb.experiment.arms import ARMS
from kdnb.studies import registry
from kdnb.sweeps.where import FIELDS

GridName = Annotated[str, typer.Argument(help=f"One of {', '.join(registry.grids())}.", show_default=False)]
Hparams = Annotated[str, typer.Option(help="published (the points of Table 7) or published12, instead of a grid.")]
Tasks = Annotated[str, typer.Option("--task", help=f"Comma-separated: {', '.join(TASKS)}. [default: the profile's]")]
Seeds = Annotated[str, typer.Option(help="Comma-separated. [default: one for a search, else the profile's]")]
Arms = Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(ARMS)}. [default: the grid's]")]
Where = Annotated[str, typer.Option(help=f'Part of the grid: "lr <= 3e-5 and epochs in (1, 2)"; {", ".join(FIELDS)}.')]
Schedule = Annotated[str, typer.Option(help=f"Learning rate: {' or '.join(SCHEDULES)}. [default: the grid's]")]


def plan(
    grid: GridName = "",
    hparams: Hparams = "",
    task: Tasks = "",
    profile: ProfileName = "demo",
    seeds: Seeds = "",
    arms: Arms = "",
    where: Where = "",
    schedule: Schedule = "",
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Measure nothing; use what is measured.")] = False,
    as_json: Json = False,
) -> None:
    """Count a grid's runs and training epochs, what is done, and estimate the time and memory of the rest."""
    from kdnb.cli import grid_commands

    options = (words(task), profile, numbers(seeds), words(arms), where, schedule)
    finish(as_json, grid_commands.make_plan(grid_commands.wanted(grid, hparams, *options), not no_probe))


def select(
    grid: GridName = "",
    hparams: Hparams = "",
    task: Tasks = "",
    profile: ProfileName = "demo",
    seeds: Seeds = "",
    arms: Arms = "",
    where: Where = "",
    schedule: Schedule = "",
    metric: Annotated[str, typer.Option(help="On validation: accuracy or nll.")] = "accuracy",
    as_json: Json = False,
) -> None:
    """Select each arm's and seed's best stored run of a grid on validation; then show its test metrics."""
    from kdnb.cli import grid_commands

    options = (words(task), profile, numbers(seeds), words(arms), where, schedule)
    finish(as_json, grid_commands.make_selection(grid_commands.wanted(grid, hparams, *options), metric))
