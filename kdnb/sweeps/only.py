"""Part of a grid, by fields and their values: `--only alpha=1 --only lr=1e-5,3e-5 --only epochs=1..4`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kdnb.core.config import axes
from kdnb.errors import nearest

Only = dict[str, tuple]  # field -> the values it may take, a range of numbers as a pair (lowest, highest)


FIRST = ("lr", "epochs", "alpha", "tau")  # of the fields, where they are listed


def known_fields() -> dict[str, type]:
    """By which points can be picked, and of what type their values are."""
    of_grids = axes()
    first = {name: of_grids[name] for name in FIRST}
    return {**first, **dict.fromkeys(("arm", "method", "student", "teacher"), str), **of_grids}


def parse(texts: Iterable[str]) -> Only:
    """Filters as written on the command line, such as ["lr=1e-5,3e-5", "epochs=1..4"]; ValueError as `checked`."""
    filters: dict[str, str] = {}
    for text in texts:
        field, equals, values = text.partition("=")
        if not equals:
            raise ValueError(f"only must be field=values, such as lr=1e-5,3e-5 or epochs=1..4, got {text!r}")
        if field in filters:
            raise ValueError(f"only names {field} twice: join its values, {field}={filters[field]},{values}")
        filters[field] = values
    return checked(filters)


def checked(filters: Mapping[str, Any]) -> Only:
    """Filters in one form.

    Args:
        filters: field -> a value, several, or a text as on the command line.
    Raises:
        ValueError: an unknown field, or a value that is none of its kind.
    """
    only, kinds = {}, known_fields()
    for field, values in filters.items():
        if field not in kinds:
            raise ValueError(f"only names an unknown field {field!r}{nearest(field, kinds)}")
        if isinstance(values, str):
            values = values.split(",")
        elif not isinstance(values, Iterable):
            values = [values]
        only[field] = tuple(dict.fromkeys(_value(field, kinds[field], value) for value in values))
    return only


def _value(field: str, kind: type, value: Any) -> Any:
    """One value of a field, or a range of numbers, from a text or as it is."""
    text = str(value).strip()
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"only {field} must be true or false, got {text!r}")
        return text.lower() == "true"
    if kind is str:
        if not text:
            raise ValueError(f"only {field} must be a name, got none")
        return text
    ends = value if isinstance(value, list | tuple) else text.split("..")
    try:
        numbers = tuple(float(end) for end in ends)
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 2) or not all(map(math.isfinite, numbers)) or numbers[0] > numbers[-1]:
        raise ValueError(f"only {field} must be numbers or ranges, such as 1,2 or 1..4, got {text!r}")
    return numbers if len(numbers) == 2 else numbers[0]


def keeps(only: Only, values: Mapping[str, Any]) -> bool:
    """Whether a point stays: of the fields asked for, those that it has take one of the values.

    Args:
        only: as `checked`.
        values: the point's fields. One that its method has no use for (alpha of ERM, tau of LS) is left out, and then
            excludes nothing.
    """
    return all(
        any(_fits(values[field], wanted) for wanted in allowed) for field, allowed in only.items() if field in values
    )


def refuse_unknown(only: Only, points: Sequence[Mapping[str, Any]], grid: str) -> None:
    """ValueError for a value that no point of a grid has; it tells those that the field takes."""
    for field, allowed in only.items():
        taken = dict.fromkeys(values[field] for values in points if field in values)
        for wanted in allowed:
            if not any(_fits(value, wanted) for value in taken):
                listed = ", ".join(str(value) for value in taken if value != "") or "no value"
                raise ValueError(f"no point of {grid} has {spelled({field: (wanted,)})} ({field} takes {listed})")


def spelled(only: Only) -> str:
    """Filters as on the command line, one behind the other."""
    return " ".join(f"{field}={','.join(map(_spelled, allowed))}" for field, allowed in only.items())


def _spelled(value: Any) -> str:
    if isinstance(value, tuple):
        return "..".join(map(_spelled, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else value


def _fits(value: Any, wanted: Any) -> bool:
    return wanted[0] <= value <= wanted[1] if isinstance(wanted, tuple) else value == wanted
