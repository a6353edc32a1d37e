"""The command `kdnb`: a thin mirror of the package. torch is imported only by the commands that train."""

import os
import sys
from typing import Annotated

import typer

from kdnb.catalog import TASKS
from kdnb.cli import grid_cli, runs, sweep_cli
from kdnb.cli.options import Epochs, Json, Lr, ProfileName, TaskName, TrainRows, finish, numbers, words
from kdnb.core.config import METHODS, SCHEDULES
from kdnb.core.methods import TFKD_FORMS
from kdnb.errors import KdnbError
from kdnb.experiment.arms import ARMS

app = typer.Typer(
    help="Is knowledge distillation just label smoothing? Train, compare, read. Entropies are in nats.",
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
)  # fmt: skip
app.add_typer(runs.app, name="runs")
app.command()(grid_cli.plan)
app.command()(grid_cli.select)
app.command()(sweep_cli.sweep)
app.command()(sweep_cli.status)
app.command()(sweep_cli.simulate)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what this machine has: Python, torch, device, bf16, packages, caches, hub."""
    from kdnb.cli import doctor as checks

    facts = checks.check()
    print(*checks.lines(facts), sep="\n")
    finish(as_json, facts)


@app.command()
def fetch(
    profile: ProfileName = "demo",
    tasks: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(TASKS)}. [default: the profile's]")] = "",
    models: Annotated[
        str, typer.Option(help="Comma-separated, beside the profile's two: roberta-base, bert-4, ...")
    ] = "",
    as_json: Json = False,
) -> None:
    """Bring a profile's texts and models into data_cache, pinned and checked; later no network is needed."""
    from kdnb.data.fetch import fetch as bring

    finish(as_json, bring(profile, words(tasks), words(models)))


@app.command()
def train(
    task: TaskName,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "erm",
    student: Annotated[str, typer.Option(help="large or small, as the profile has them, or a model.")] = "small",
    teacher: Annotated[str, typer.Option(help="kd: large or small or a model (ERM, same seed), or a run_id.")] = "",
    alpha: Annotated[float | None, typer.Option(help="Weight of the soft target, 0..1; 0 is ERM.")] = None,
    tau: Annotated[float | None, typer.Option(help="Softmax temperature, > 0.")] = None,
    tau2_scaling: Annotated[bool | None, typer.Option(help="kd: tau^2 on the soft term. [default: on]")] = None,
    tfkd_form: Annotated[str | None, typer.Option(help=f"tfkd: {' or '.join(TFKD_FORMS)}. [default: paper]")] = None,
    multiplier: Annotated[float | None, typer.Option(help="tfkd released: on its soft term, > 0.")] = None,
    before: Annotated[str | None, typer.Option(help="switch: the method trained first.")] = None,
    after: Annotated[str | None, typer.Option(help="switch: the method that takes over.")] = None,
    switch_at: Annotated[float | None, typer.Option(help="switch: where, share of the steps, 0..1.")] = None,
    ramp: Annotated[float | None, typer.Option(help="switch: over which share of them. [default: 0, at once]")] = None,
    lr: Lr = None,
    epochs: Epochs = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step, >= 1.")] = None,
    schedule: Annotated[str | None, typer.Option(help=f"Learning rate: {' or '.join(SCHEDULES)}.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout, 0..1.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.")] = None,
    seed: Annotated[int, typer.Option(help="Head initialisation and dropout.")] = 0,
    order_seed: Annotated[int | None, typer.Option(help="Order of the batches. [default: --seed]")] = None,
    profile: ProfileName = "demo",
    train_rows: TrainRows = None,
    as_json: Json = False,
) -> None:
    """Fine-tune one model, or load it if it was trained before."""
    from kdnb.cli import train as commands

    given = {
        "alpha": alpha, "tau": tau, "lr": lr, "epochs": epochs, "batch_size": batch_size, "schedule": schedule,
        "dropout": dropout, "precision": precision, "order_seed": order_seed, "tau2_scaling": tau2_scaling,
        "tfkd_form": tfkd_form, "multiplier": multiplier, "before": before, "after": after, "switch_at": switch_at,
        "ramp": ramp,
    }  # fmt: skip
    changes = {name: value for name, value in given.items() if value is not None}
    finish(as_json, commands.train(task, profile, method, student, teacher, seed, train_rows, changes))


@app.command()
def compare(
    task: Annotated[str, typer.Argument(help=f"One of {', '.join(TASKS)}; leave out with --data.")] = "",
    data: Annotated[str, typer.Option(help="Your own CSV, TSV or Parquet file.")] = "",
    text: Annotated[str, typer.Option(help="Its text column.")] = "",
    text2: Annotated[str, typer.Option(help="Its second text column, for pairs.")] = "",
    label: Annotated[str, typer.Option(help="Its label column: names, or integers 0..K-1.")] = "",
    valid: Annotated[str, typer.Option(help="Validation file. [default: 15 % of --data]")] = "",
    test: Annotated[str, typer.Option(help="Test file. [default: 15 % of --data]")] = "",
    seeds: Annotated[str, typer.Option(help="Comma-separated. [default: the profile's]")] = "",
    arms: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(ARMS)}. [default: all]")] = "",
    lr: Lr = None,
    epochs: Epochs = None,
    ls_alpha: Annotated[float | None, typer.Option(help="LS: weight of the uniform part, 0..1.")] = None,
    kd_alpha: Annotated[float | None, typer.Option(help="KD: weight of the teacher, 0..1.")] = None,
    tau: Annotated[float | None, typer.Option(help="KD: softmax temperature, > 0.")] = None,
    profile: ProfileName = "demo",
    train_rows: TrainRows = None,
    workers: Annotated[int, typer.Option(help="Trainings at a time, each with its share of the cores.")] = 1,
    as_json: Json = False,
) -> None:
    """Compare ERM, LS and KD (standard, self, reverse, teacher-free) on a task or on your own data."""
    from kdnb.cli import train as commands

    own = {"path": data, "text": text, "text2": text2, "label": label, "validation": valid, "test": test}
    common = {name: value for name, value in {"lr": lr, "epochs": epochs}.items() if value is not None}
    by_arm = commands.soft_changes(ls_alpha, kd_alpha, tau)
    found = commands.compare(task, own, profile, numbers(seeds), words(arms), common, by_arm, train_rows, workers)
    finish(as_json, found)


@app.command()
def study(profile: ProfileName = "demo", as_json: Json = False) -> None:
    """Execute every notebook of the study and write the report; what is current is kept."""
    from kdnb.report import notebooks as notebook_commands

    finish(as_json, notebook_commands.study(profile))


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="A notebook under notebooks/, with or without .ipynb.")],
    parameter: Annotated[list[str] | None, typer.Option("-p", help="name=value, any number of times.")] = None,
    as_json: Json = False,
) -> None:
    """Execute one notebook with papermill into outputs/executed/."""
    from kdnb.report import notebooks as notebook_commands

    finish(as_json, notebook_commands.run(notebook, parameter or []))


@app.command()
def report(profile: ProfileName = "demo", as_json: Json = False) -> None:
    """Write the report of the stored runs: one HTML file that needs no network."""
    from kdnb.report.report import write

    path = write(profile)
    print(f"report: {path}")
    finish(as_json, {"report": str(path)})


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 2, a failed notebook exit code 1."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        print("kdnb: stopped; finished runs are kept, start again to go on", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            sys.exit(2)
        if hasattr(error, "format_message"):  # typer's usage errors, whichever click they come from
            _fail(error.format_message())
        if os.environ.get("KDNB_DEBUG") or not isinstance(error, KdnbError | ValueError | OSError):
            raise
        _fail(str(error), getattr(error, "exit_code", 2))


def _fail(message: str, code: int = 2) -> None:
    print("kdnb: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)
