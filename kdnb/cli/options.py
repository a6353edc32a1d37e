"""What the commands of `kdnb` share: options with units and ranges, lists of words, tables, the JSON at the end."""

import functools
import inspect
import json
import math
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdnb.catalog import PROFILES, TASKS
from kdnb.core.config import declared
from kdnb.core.methods import METHODS, setting_of
from kdnb.studies import registry

if TYPE_CHECKING:
    from rich.table import Table

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
TrainRows = Annotated[int | None, typer.Option(help="Train rows at most, 0 = all. [default: the profile's]")]
ValidationRows = Annotated[int | None, typer.Option(help="Validation rows at most, 0 = all. [default: the profile's]")]
TestRows = Annotated[int | None, typer.Option(help="Test rows at most, 0 = all. [default: the profile's]")]

ANY_MODEL = "a model of the catalog, a folder with a transformers model, or id@commit of the hub"
KeepWeights = Annotated[
    bool, typer.Option("--keep-weights", help="Keep the models' weights in outputs/weights/, for kdnb export.")
]


def finish(as_json: bool, result: dict[str, Any]) -> None:
    """End a command: its result as one line of JSON, if that was asked for."""
    if as_json:
        print(json.dumps(result))


def show(table: "Table") -> None:
    """Print a table; as wide as it likes where it is read by a program."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 250).print(table)


def words(text: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def integers(name: str, text: str) -> list[int]:
    """The integers of a comma-separated list, an option's value; ValueError, with its name, otherwise."""
    try:
        return [int(word) for word in words(text)]
    except ValueError:
        raise ValueError(f"{name} must be comma-separated integers, got {text!r}") from None


def setting_option(name: str, default: str = "") -> inspect.Parameter:
    """The option of a config's field: its type, range and meaning are read from its setting; None where not given.

    Args:
        name: a field of RunConfig, or of a registered method, that has a setting.
        default: what holds where the option is not given, in words.
    """
    field = declared()[name]
    setting = setting_of(field)
    users = [method.name for method in METHODS.values() if name in method.settings()]
    text = f"{', '.join(users)}: {setting.help}" if users else setting.help[0].upper() + setting.help[1:]
    if setting.choices or setting.low > -math.inf:
        text += f"; {setting.expected}"
    text += f". [default: {default}]" if default else "."
    kind: Any = type(field.default)
    annotation = Annotated[kind | None, typer.Option(help=text)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def add_options(
    options: Iterable[inspect.Parameter], gather: Callable[..., Any], first: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator for commands whose first argument is made from options that several of them have.

    Args:
        options: as typer reads them from a signature.
        gather: is called with their values, by name; what it gives is the command's first argument.
        first: whether they stand before the command's own options.
    """
    options = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in list(inspect.signature(command).parameters.values())[1:]
        ]
        parameters = [*options, *own] if first else [*own, *options]

        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            value = gather(**{option.name: given.pop(option.name) for option in options})
            command(value, **given)

        setattr(with_options, "__signature__", inspect.Signature(parameters))  # noqa: B010 - what typer reads
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorate
