"""What the commands of `kdnb` share: options with their units and ranges, lists of words, the JSON at the end."""

import json
from typing import Annotated

import typer

from kdnb.catalog import PROFILES, TASKS

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
TaskName = Annotated[
    str, typer.Argument(help=f"One of {', '.join(TASKS)}; @0.2 behind it is label noise.", show_default=False)
]
ProfileName = Annotated[str, typer.Option(help=f"Models and rows: {', '.join(PROFILES)}.")]
Lr = Annotated[float | None, typer.Option(help="Peak learning rate, in (0, 1). [default: the profile's]")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the train split, >= 1. [default: the profile's]")]
TrainRows = Annotated[int | None, typer.Option(help="Train rows, 0 = all. [default: the profile's]")]


def finish(as_json: bool, found: dict) -> None:
    """End a command: its result as one line of JSON, if that was asked for."""
    if as_json:
        print(json.dumps(found))


def words(text: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(text: str) -> list[int]:
    """The integers of a comma-separated list of seeds; ValueError otherwise."""
    try:
        return [int(word) for word in words(text)]
    except ValueError:
        raise ValueError(f"seeds must be comma-separated integers, got {text!r}") from None
