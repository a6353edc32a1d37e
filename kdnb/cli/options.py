"""What the commands of `kdnb` share: options with units and ranges, lists of words, tables, the JSON at the end."""

import functools
import inspect
import json
import math
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdnb import plain
from kdnb.catalog import PROFILES, TASKS
from kdnb.core.config import declared
from kdnb.core.methods import METHODS, setting_of
from kdnb.errors import printable
from kdnb.experiment.arms import ARMS
from kdnb.studies import registry

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from kdnb.data.own import OwnData
    from kdnb.data.splits import Rows

registry.methods()  # options and help texts name every study's methods
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
TaskName = Annotated[
    str, typer.Argument(help=f"One of {', '.join(TASKS)}; @0.2 behind it is label noise.", show_default=False)
]
ProfileName = Annotated[str, typer.Option(help=f"Models and rows: {', '.join(PROFILES)}.")]
TeacherTable = Annotated[
    str,
    typer.Option(
        help="A teacher that is written down: a CSV, JSON lines, Parquet or npz file (a row's id or text, "
        "a number for each class by name), or one that is stored (kdnb teachers list)."
    ),
]
TeacherForm = Annotated[
    str, typer.Option(help="Its numbers: probabilities, logits or votes. [default: told by the file]")
]

PROFILES_OWN = "the profile's"
ANY_MODEL = "a model of the catalog, a folder with a transformers model, or id@commit of the hub"
KeepWeights = Annotated[
    bool,
    typer.Option(
        "--keep-weights",
        help="Keep every model of the command in outputs/weights/; kdnb export trains again what was not kept.",
    ),
]


def finish(as_json: bool, result: dict[str, Any]) -> None:
    """End a command: its result as one line of JSON, if that was asked for."""
    if as_json:
        print(json.dumps(result))


def show(table: "Table", keys: int = 1) -> None:
    """Print a table, numbers and words whole; as wide as it likes where it is read by a program.

    On a terminal that is too narrow for it, its columns are shown in several tables, one below the other.

    Args:
        table: what is shown.
        keys: how many of its first columns say what a row is; they are repeated in each part.
    """
    from rich.console import Console

    encoding = getattr(sys.stdout, "encoding", "") or "utf-8"

    class Plain(Console):
        """A console whose cells have only what the stream can hold, before their widths are measured."""

        def render_str(self, text: str, **options: Any) -> Any:
            shown = "\n".join(map(printable, text.split("\n")))
            return super().render_str(plain.text(shown, encoding), **options)

    console = Plain(width=None if sys.stdout.isatty() else 250)
    for part in _parts(table, console, keys):
        console.print(part)


def _parts(table: "Table", console: "Console", keys: int) -> "Iterator[Table]":
    """A table in as many parts as it takes for each to fit the console with no word cut."""
    from rich.measure import measure_renderables
    from rich.table import Table

    widths = {}  # of each column: its longest word, its longest line, with the blanks and the line around it
    for column in table.columns:
        span = measure_renderables(console, console.options, [column.header, *column.cells])
        widths[id(column)] = span.minimum + 3, span.maximum + 3
    groups: list[list] = [[]]
    for column in table.columns:
        group = groups[-1]
        if len(group) > keys and sum(widths[id(one)][0] for one in [*group, column]) >= console.width:
            groups.append(table.columns[:keys])
        groups[-1] = [*groups[-1], column]
    for group in groups:
        part = Table(show_header=table.show_header, box=table.box)
        left = console.width - 1 - sum(widths[id(column)][0] for column in group)
        for column in group:
            least, most = widths[id(column)]
            more = max(0, min(left, most - least))
            left -= more
            part.add_column(column.header, justify=column.justify, width=least + more - 3)
        for cells in zip(*(column.cells for column in group), strict=True):
            part.add_row(*cells)
        yield part


def on_this_machine(text: str) -> Path:
    """A path that is to be written, of an option or argument; an address, which a path would garble, is refused."""
    if "://" in text:
        raise typer.BadParameter(f"{text}: expected a path on this machine, no address")
    return Path(text)


def only_given(**values: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def typed(context: typer.Context, without: Collection[str] = ()) -> str:
    """The arguments, and the options with a value, that a command was given, as they are typed in a shell.

    Args:
        context: of the command.
        without: names of those that are left out.
    """
    line: list[str] = []
    for parameter in context.command.params:
        name, option = parameter.name, parameter.opts[:1] if parameter.param_type_name == "option" else []
        if name in without or context.get_parameter_source(name).name != "COMMANDLINE":
            continue
        value = context.params[name]
        for one in value if isinstance(value, list | tuple) else [value]:
            line += [*option, str(one)]
    return shlex.join(line)


def words(text: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def integers(name: str, text: str) -> list[int]:
    """The integers of a comma-separated list, an option's value, each once.

    Raises:
        ValueError: with the option's name; one is no integer, or below 0.
    """
    try:
        found = list(dict.fromkeys(int(word) for word in words(text)))
    except ValueError:
        raise ValueError(f"{name} must be comma-separated integers, got {text!r}") from None
    if found and min(found) < 0:
        raise ValueError(f"{name} must be >= 0, got {min(found)}")
    return found


def setting_option(name: str, default: str = "") -> inspect.Parameter:
    """The option of a config's field: its type, range and meaning are read from its setting; None where not given.

    Args:
        name: a field of RunConfig, or of a registered method, that has a setting.
        default: what holds where the option is not given, in words; "" for the field's own default.
    """
    field = declared()[name]
    setting = setting_of(field)
    users = [method.name for method in METHODS.values() if name in method.settings()]
    text = f"{', '.join(users)}: {setting.help}" if users else setting.help[0].upper() + setting.help[1:]
    if setting.choices or setting.low > -math.inf:
        text += f"; {setting.expected}"
    text += f". [default: {default or _default_of(name)}]"
    kind: Any = type(field.default)
    annotation = Annotated[kind | None, typer.Option(help=text)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _default_of(name: str) -> str:
    """The default of a config's field, in words: that of each method that has it, where they differ."""
    of_methods = [(one, method.name) for method in METHODS.values() for one in fields(method) if one.name == name]
    users: dict[str, list[str]] = {}
    for field, method in of_methods or [(declared()[name], "")]:
        by_profile = name == "alpha" and method in {arm.method for arm in ARMS.values()}
        users.setdefault(PROFILES_OWN if by_profile else _worded(field.default), []).append(method)
    if len(users) == 1:
        return next(iter(users))
    return ", ".join(f"{value} ({', '.join(methods)})" for value, methods in users.items())


def _worded(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value in ("", MISSING) else str(value)


def add_options(
    options: Iterable[inspect.Parameter], gather: Callable[..., Any], into: str = "", first: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator for commands one of whose arguments is made from options that several of them have.

    Args:
        options: as typer reads them from a signature.
        gather: is called with their values, by name; what it gives is the argument.
        into: the argument's name, "" for the first.
        first: whether they stand in its place, else behind the command's own options.
    """
    options = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = {
            name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(command).parameters.items()
        }
        made = into or next(iter(own))
        place = list(own).index(made) if first else len(own)
        del own[made]
        parameters = [*own.values()]
        parameters[place:place] = options

        @functools.wraps(command)
        def with_options(**given: Any) -> Any:
            value = gather(**{option.name: given.pop(option.name) for option in options})
            return command(**{made: value}, **given)

        setattr(with_options, "__signature__", inspect.Signature(parameters))  # noqa: B010 - what typer reads
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorate


def _own_files(
    data: Annotated[str, typer.Option(help="Your own file: CSV, TSV, JSON lines, Parquet, also gzipped.")] = "",
    text: Annotated[str, typer.Option(help="Its text column.")] = "",
    text2: Annotated[str, typer.Option(help="Its second text column, for pairs.")] = "",
    label: Annotated[str, typer.Option(help="Its label column; names or numbers, a class each.")] = "",
    columns: Annotated[str, typer.Option(help="All its columns, where it has no header: text,label")] = "",
    valid: Annotated[str, typer.Option(help="Validation file, taken whole. [default: 15 % of --data]")] = "",
    test: Annotated[str, typer.Option(help="Test file, taken whole. [default: 15 % of --data]")] = "",
) -> "OwnData":
    """The user's own files that some options name; ValueError for what is said of a file that is not given."""
    from kdnb.data.own import OwnData

    said = {"text": text, "text2": text2, "label": label, "columns": columns, "valid": valid, "test": test}
    if lone := next((name for name, value in said.items() if value and not data), ""):
        raise ValueError(f"--{lone} {said[lone]} is said of your own file, and no file is given: --data FILE")
    return OwnData(
        path=data, text=text, text2=text2, label=label, columns=tuple(words(columns)), validation=valid, test=test
    )


def check_files(own: "OwnData", task: str) -> None:
    """Raise ValueError if a task is named beside the user's files, or their columns are not."""
    if task:
        hint = "" if task in TASKS else "; a column's name with blanks stands in quotes"
        raise ValueError(f"either a task ({task}) or --data ({own.path}), not both{hint}")
    if not (own.text and own.label):
        raise ValueError(f"--data {own.path} needs --text and --label, the names of its columns")


def _rows(
    train_rows: Annotated[
        int | None, typer.Option(help="Train rows at most, 0 = all. [default: the profile's]")
    ] = None,
    validation_rows: Annotated[
        int | None, typer.Option(help="Validation rows at most, 0 = all. [default: the profile's]")
    ] = None,
    test_rows: Annotated[int | None, typer.Option(help="Test rows at most, 0 = all. [default: the profile's]")] = None,
) -> "Rows":
    """How many rows of each split some options keep."""
    from kdnb.data.splits import Rows

    return Rows(train=train_rows, validation=validation_rows, test=test_rows)


of_own_files = add_options(inspect.signature(_own_files).parameters.values(), _own_files, "own")
of_rows = add_options(inspect.signature(_rows).parameters.values(), _rows, "rows")
