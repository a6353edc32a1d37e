"""The commands `kdnb teachers`: average, list, rows."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdnb.cli.options import Json, ProfileName, finish, of_own_files, of_rows, on_this_machine, show

if TYPE_CHECKING:
    from kdnb.data.own import OwnData
    from kdnb.data.splits import Rows, TaskData
    from kdnb.experiment.teachers import Unstored

app = typer.Typer(
    help="Teachers that no training gives: average, list, rows.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("average")
def average(
    runs: Annotated[list[str], typer.Argument(help="run_ids of two or more runs on the same data.")],
    as_json: Json = False,
) -> None:
    """Store the mean posterior of several runs as a teacher, under a name of its own."""
    from kdnb.core import store
    from kdnb.experiment import records, teachers

    try:
        ensemble = teachers.average(runs)
    except FileNotFoundError:
        missing = next(name for name in runs if not store.exists(name))
        raise ValueError(f"no run {missing!r}{records.nearest_runs(missing)}") from None
    name = ensemble.store()
    metrics = store.read(name).metrics
    for split in ("train", "validation", "test"):
        told = metrics[split]
        if told["known"]:
            rows = f"{told['known']:,} {split} rows"
            print(f"{rows}: entropy {told['entropy']:.3f} nats, accuracy {100 * told['accuracy']:.1f} %")
    task = ensemble.identity.task
    data = "--data ..." if task.startswith("own:") else f"{task} ..."
    print(f"{name}: to be taught by it, on the data of its runs: kdnb compare {data} --teacher-table {name}")
    finish(as_json, {"teacher": name, **metrics})


@app.command("list")
def list_teachers(as_json: Json = False) -> None:
    """List the stored teachers that no training gave: tables and ensembles."""
    from rich.table import Table

    from kdnb.core import store
    from kdnb.errors import DamagedRun
    from kdnb.experiment import teachers

    rows = []
    for name in store.stored_ids():
        if origin := teachers.origin_of(name):
            try:
                _, record = teachers.read(name)
            except DamagedRun as error:
                print(f"kdnb: {error}; left out", file=sys.stderr)
                continue
            of = record.metrics.get("file") or ", ".join(record.metrics.get("runs", []))
            rows.append({"teacher": name, "task": record.config["task"], "origin": origin, "of": of})
            rows[-1] |= {"train": record.metrics["train"]}
    table = Table("teacher", "task", "made of", "train rows", "train entropy, nats", "train accuracy, %")
    table.columns[0].no_wrap = True
    for row in rows:
        train = row["train"]
        numbers = (f"{train['known']:,}", f"{train['entropy']:.3f}", f"{100 * train['accuracy']:.1f}")
        table.add_row(row["teacher"], row["task"], row["of"], *numbers)
    if rows:
        show(table)
    print(f"{len(rows)} teachers")
    finish(as_json, {"teachers": rows})


@app.command("rows")
@of_own_files
@of_rows
def rows_of(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The CSV to write, a new one.", parser=on_this_machine)],
    task: Annotated[str, typer.Option(help="A task by name; leave out with --data.")] = "",
    *,
    own: "OwnData",
    profile: ProfileName = "demo",
    rows: "Rows",
    as_json: Json = False,
) -> None:
    """Write ids, texts and labels of all rows: what an ensemble, annotators or a language model are to answer."""
    from kdnb import files
    from kdnb.cli import telling
    from kdnb.cli.train import task_data
    from kdnb.data.teacher_table import row_ids
    from kdnb.errors import printable

    if file.exists():
        raise ValueError(f"{file}: is there already, and may hold answers; name a new file")
    read = task_data(task, profile, rows, own)
    table = row_ids(read)
    print(*telling.of_data(read), sep="\n")
    files.write_atomically(file, files.csv_bytes(table))
    classes = ", ".join(read.task.labels)
    print(printable(f"{len(table):,} rows of {read.task.name} in {file}; add a column for each class: {classes}"))
    print("the ids are of this cut: give kdnb compare the same files, profile and numbers of rows")
    finish(as_json, {"file": str(file), "rows": len(table), "classes": list(read.task.labels)})


@dataclass(frozen=True)
class Written:
    """The teacher that --teacher-table names; all "" for none.

    run_id: its name in the store.
    origin: what it comes from, "table" or "average".
    unstored: what is still to be stored, for one from a file.
    """

    run_id: str = ""
    origin: str = ""
    unstored: "Unstored | None" = None

    def store(self) -> None:
        """Store what is not yet, once all else that was asked for has been checked."""
        if self.unstored:
            self.unstored.store()


def written(named: str, data: "TaskData", form: str = "", texts: tuple[str, ...] = ()) -> Written:
    """The teacher that --teacher-table names, told of line by line; a file's is not stored yet.

    Args:
        named: a file, or the name of a stored table or ensemble; "" for none.
        data: what it is to teach.
        form: of a file's numbers, "" to read it off.
        texts: further names of a file's text columns.
    Raises:
        ValueError: it is neither, does not belong to the data, or a form is said of no file.
    """
    from kdnb.core import store
    from kdnb.errors import nearest
    from kdnb.experiment import teachers

    origin = teachers.origin_of(named) if named else ""
    if form and (origin or not named):
        raise ValueError(f"--teacher-form {form} says what the numbers of a file are, and --teacher-table names none")
    if not named:
        return Written()
    if origin:
        stored = teachers.load(named)
        if stored.data != data.fingerprint:
            raise ValueError(
                f"teacher {named} is of {stored.task} (data {stored.data}), not of {data.task.name} "
                f"(data {data.fingerprint}): task, rows and label order must be the same"
            )
        print(f"teacher {named}: {origin}; {int(stored.known['train'].sum()):,} train rows")
        return Written(named, origin)
    from kdnb.data import teacher_table

    if Path(named).name == named and not Path(named).suffix and not Path(named).exists():
        known = nearest(named, filter(teachers.origin_of, store.stored_ids()))
        raise ValueError(f"--teacher-table {named}: no such file, and no stored teacher{known}")
    table = teacher_table.read(named, data, form, texts)
    for number, line in enumerate(teacher_table.told(table, data)):
        print(f"{'  ' * bool(number)}{line}")
    unstored = teachers.of_table(table, data)
    return Written(unstored.run_id, unstored.identity.origin, unstored)
