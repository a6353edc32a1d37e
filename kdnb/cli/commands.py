"""The commands of `kdnb`: a thin mirror of the package. torch is imported only by those that train."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdnb import __version__
from kdnb.catalog import TASKS
from kdnb.cli import lm, runs, sweeps, take_home, teachers
from kdnb.cli.options import (
    ANY_MODEL,
    PROFILES_OWN,
    Json,
    KeepWeights,
    ProfileName,
    TaskName,
    TeacherForm,
    TeacherTable,
    add_options,
    finish,
    integers,
    of_own_files,
    of_rows,
    on_this_machine,
    only_given,
    setting_option,
    words,
)
from kdnb.core.methods import KD, METHODS, all_settings
from kdnb.errors import KdnbError, printable
from kdnb.experiment.arms import ARMS, BY_NAME, SHARPNESS, TFKD_CONFIDENCE
from kdnb.studies import registry

if TYPE_CHECKING:
    from kdnb.data.own import OwnData
    from kdnb.data.splits import Rows

MORE_ARMS = f"also {', '.join(BY_NAME)}"
_HEAVY = ("torch", "transformers", "datasets", "safetensors", "tokenizers")  # what reading runs does without
_LONGEST = 1200  # characters of an error message
_BUDGET = ("lr", "epochs", "max_length")
_OPTIMIZER = ("optimizer", "momentum", "weight_decay", "augment", "order_seed")
_DEFAULTS = {  # in words, of fields whose own defaults are not what holds
    **dict.fromkeys((*_BUDGET, "dropout"), PROFILES_OWN),
    "confidence": ", ".join(f"{value:g} ({form})" for form, value in TFKD_CONFIDENCE.items()),
    "order_seed": "--seed",
}
_SETTINGS = [name for name in all_settings() if name != "teacher_run"]
TRAIN_OPTIONS = [
    setting_option(name, _DEFAULTS.get(name, ""))
    for name in (*_SETTINGS, *_BUDGET, "batch_size", "schedule", "dropout", "precision", *_OPTIMIZER)
]
COMPARE_OPTIONS = [setting_option(name, _DEFAULTS[name]) for name in _BUDGET]

app = typer.Typer(
    help="Is knowledge distillation just label smoothing? Train, compare, read. Entropies are in nats.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(runs.app, name="runs")
app.add_typer(lm.app, name="lm")
app.add_typer(teachers.app, name="teachers")
for command in (sweeps.plan, sweeps.select, sweeps.sweep, sweeps.status, take_home.export, take_home.predict):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"kdnb {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Is knowledge distillation just label smoothing? Train, compare, read. Entropies are in nats."""


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what this machine has: Python, torch, device, bf16, packages, caches, hub."""
    from kdnb.cli import doctor as checks

    facts = checks.check()
    checks.tell(facts)
    finish(as_json, facts)


@app.command()
def fetch(
    profile: ProfileName = "demo",
    tasks: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(TASKS)}. [default: the profile's]")] = "",
    models: Annotated[
        str,
        typer.Option(help="Comma-separated, beside the profile's two: bert-4, id@commit of the hub, ..."),
    ] = "",
    as_json: Json = False,
) -> None:
    """Bring a profile's texts and models into data_cache, pinned and checked; later no network is needed."""
    from kdnb.data.fetch import fetch as bring

    finish(as_json, bring(profile, words(tasks), words(models)))


@app.command()
@of_rows
@add_options(TRAIN_OPTIONS, only_given, first=False)
def train(
    changes: dict[str, Any],
    context: typer.Context,
    task: TaskName = "",
    config: Annotated[
        str, typer.Option(help="config.json of a run, or its folder: the same run, but for options of its settings.")
    ] = "",
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "erm",
    student: Annotated[str, typer.Option(help=f"large or small, as the profile has them, or {ANY_MODEL}.")] = "small",
    teacher: Annotated[
        str,
        typer.Option(
            help=f"kd: large or small, or {ANY_MODEL} (trained on the labels, same seed; a finished classifier is used "
            "as it is), or a run_id."
        ),
    ] = "",
    teacher_table: TeacherTable = "",
    teacher_form: TeacherForm = "",
    seed: Annotated[int, typer.Option(help="Head initialisation and dropout, >= 0.")] = 0,
    profile: ProfileName = "demo",
    *,
    rows: "Rows",
    keep_weights: KeepWeights = False,
    as_json: Json = False,
) -> None:
    """Fine-tune one model, or load it if it was trained before."""
    from kdnb.cli.train import Training
    from kdnb.cli.train import train as run_training

    if config:
        from kdnb.cli import again

        given = [name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"]
        finish(as_json, again.train(config, changes, given, rows, keep_weights))
        return
    asked = Training(
        task=task,
        method=method,
        student=student,
        teacher=teacher,
        teacher_table=teacher_table,
        teacher_form=teacher_form,
        seed=seed,
        profile=profile,
        rows=rows,
        changes=changes,
        keep_weights=keep_weights,
    )
    finish(as_json, run_training(asked))


@app.command()
@of_own_files
@of_rows
@add_options(COMPARE_OPTIONS, only_given, first=False)
def compare(
    changes: dict[str, Any],
    task: Annotated[str, typer.Argument(help=f"One of {', '.join(TASKS)}; leave out with --data.")] = "",
    *,
    own: "OwnData",
    seeds: Annotated[str, typer.Option(help="Comma-separated. [default: the profile's]")] = "",
    arms: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(ARMS)} [default: these]; {MORE_ARMS}.")] = "",
    ls_alpha: Annotated[
        float | None, typer.Option(help=f"LS: weight of the uniform part, 0..1. [default: {PROFILES_OWN}]")
    ] = None,
    kd_alpha: Annotated[
        float | None, typer.Option(help=f"KD: weight of the teacher, 0..1. [default: {PROFILES_OWN}]")
    ] = None,
    tau: Annotated[float | None, typer.Option(help=f"KD: softmax temperature, > 0. [default: {KD.tau:g}]")] = None,
    sharpness: Annotated[
        float | None, typer.Option(help=f"Tempered teachers: their logits times this, > 0. [default: {SHARPNESS}]")
    ] = None,
    teacher_table: TeacherTable = "",
    teacher_form: TeacherForm = "",
    profile: ProfileName = "demo",
    rows: "Rows",
    workers: Annotated[
        int, typer.Option(help="Trainings at a time, each with its share of the cores; 0: one a core, 4 at most.")
    ] = 1,
    student: Annotated[str, typer.Option(help=f"Instead of the profile's small model: {ANY_MODEL}.")] = "",
    teacher: Annotated[
        str,
        typer.Option(help=f"Instead of the large one: {ANY_MODEL}; a finished classifier teaches as it is."),
    ] = "",
    keep_weights: KeepWeights = False,
    as_json: Json = False,
) -> None:
    """Compare ERM, LS and KD (standard, self, reverse, teacher-free) on a task or on your own data."""
    from kdnb.cli.train import Comparison
    from kdnb.cli.train import compare as run_comparison

    asked = Comparison(
        task=task,
        own=own,
        profile=profile,
        seeds=tuple(integers("seeds", seeds)),
        arms=tuple(words(arms)),
        changes=changes,
        soft=only_given(ls_alpha=ls_alpha, kd_alpha=kd_alpha, tau=tau, sharpness=sharpness),
        teacher_table=teacher_table,
        teacher_form=teacher_form,
        rows=rows,
        workers=workers,
        student=student,
        teacher=teacher,
        keep_weights=keep_weights,
        command=shlex.join(["kdnb", *sys.argv[1:]]),
    )
    finish(as_json, run_comparison(asked))


@app.command()
def simulate(
    seeds: Annotated[str, typer.Option(help="Comma-separated; each is a draw of data, start and order.")] = "0,1,2,3,4",
    only: Annotated[str, typer.Option(help="Comma-separated claims, such as H8.2. [default: all]")] = "",
    as_json: Json = False,
) -> None:
    """Run what the second paper's claims need beside stored runs: toys and small networks, a minute."""
    from kdnb.analysis import simulations

    finish(as_json, simulations.simulate(registry.simulations(), integers("seeds", seeds), words(only)))


@app.command()
def study(profile: ProfileName = "demo", as_json: Json = False) -> None:
    """Execute the notebooks of a profile (demo: all but the 50s) and write the report; what is current stays."""
    from kdnb.report import notebooks

    finish(as_json, notebooks.study(profile))


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="A notebook under notebooks/, with or without .ipynb.")],
    parameter: Annotated[list[str] | None, typer.Option("-p", help="name=value, any number of times.")] = None,
    as_json: Json = False,
) -> None:
    """Execute one notebook with papermill into outputs/executed/."""
    from kdnb.report import notebooks

    finish(as_json, notebooks.run(notebook, parameter or []))


@app.command()
def notebooks(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that has none of them.", parser=on_this_machine)
    ],
    as_json: Json = False,
) -> None:
    """Copy the notebooks, from a wheel too, into a folder of yours, to be opened and changed there."""
    from kdnb.report import notebooks as shipped

    copies = shipped.copy(folder)
    print(f"{len(copies)} notebooks in {folder}; open them with jupyter lab {shlex.quote(str(folder))}")
    finish(as_json, {"folder": str(folder), "notebooks": [path.name for path in copies]})


@app.command()
def report(profile: ProfileName = "demo", as_json: Json = False) -> None:
    """Write the report of the stored runs: a site, outputs/site/, and all of it in outputs/report.html.

    The site opens at index.html: the answer, the ledger, tables, the executed notebooks and the record of each run on
    pages of their own. The one file holds the same in some ten megabytes, to be passed on. Neither needs a network.
    """
    from kdnb import paths
    from kdnb.report.report import write

    path, first = write(profile), paths.SITE / "index.html"
    print(f"site: {first}\nreport: {path}")
    finish(as_json, {"report": str(path), "site": str(first)})


def run_command() -> None:
    """Run what the command line says: a user's mistake is one line and exit code 2, a failed notebook exit code 1."""
    try:
        code = app(standalone_mode=False) or 0
        if code == 130:  # what typer makes of an interrupt
            raise KeyboardInterrupt
        sys.exit(code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        usage = getattr(error, "format_message", None)  # of typer's usage errors, whichever click they come from
        if usage and type(error).__name__ == "NoArgsIsHelpError":
            print(usage())
            sys.exit(2)
        if usage:
            _fail(usage())
        if getattr(error, "name", "") in _HEAVY and isinstance(error, ModuleNotFoundError):
            needed = f"training needs `pip install {error.name}`"
            _fail(f"{error.name} is not installed here: stored runs can be read, {needed}")
        if os.environ.get("KDNB_DEBUG") or not isinstance(error, KdnbError | ValueError | OSError | MemoryError):
            raise
        _fail(
            f"not enough memory: {error}" if isinstance(error, MemoryError) else str(error),
            getattr(error, "exit_code", 2),
        )


def _fail(message: str, code: int = 2) -> None:
    line = printable(" ".join(message.split()))
    if len(line) > _LONGEST:  # it quotes what was given, which may be a file of its own
        line = f"{line[: _LONGEST - 200]} ... {line[-200:]}"
    print(f"kdnb: {line}", file=sys.stderr)
    sys.exit(code)
