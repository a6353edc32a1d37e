"""The commands `kdnb runs`: a thin mirror of `kdnb.cli.store_commands`."""

from typing import Annotated

import typer

from kdnb.cli.options import Json, finish

app = typer.Typer(help="The run store: list, show, verify.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def runs_list(task: Annotated[str, typer.Option(help="Only this task's.")] = "", as_json: Json = False) -> None:
    """List the stored runs with their test entropy [nats] and accuracy."""
    from kdnb.cli import store_commands

    finish(as_json, store_commands.list_runs(task))


@app.command("show")
def runs_show(run_id: str, as_json: Json = False) -> None:
    """Show one run: its config, metrics and cost."""
    from kdnb.cli import store_commands

    finish(as_json, store_commands.show_run(run_id))


@app.command("verify")
def runs_verify(
    redo: Annotated[bool, typer.Option("--redo", help="Train the damaged runs again.")] = False, as_json: Json = False
) -> None:
    """Check every byte of every run; set damaged ones aside. Exit code 1 if any was found and not redone."""
    from kdnb.cli import store_commands

    found = store_commands.verify_runs(redo)
    finish(as_json, found)
    raise typer.Exit(1 if set(found["damaged"]) - set(found["redone"]) else 0)
