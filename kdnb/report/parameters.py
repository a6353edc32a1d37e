"""Parameters of notebooks: read from the command line by the type that the parameters cell declares, and checked."""

import ast
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdnb import files
from kdnb.catalog import PROFILES, check_name
from kdnb.errors import nearest

EXPECTED = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list"}
_WORDS = 80  # characters of the values in a file name, at most


def given(path: Path, texts: Iterable[str]) -> dict[str, Any]:
    """The values of name=value texts, as `kdnb run -p` has them.

    Args:
        path: of the notebook, whose parameters cell says of which type each is.
        texts: such as ["alpha=.3", "task=rt"].
    Raises:
        ValueError: no "=", a name given twice, or a value of another type; nothing has been started.
    """
    values: dict[str, Any] = {}
    types = declared(path)
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"parameter {text!r} must be name=value")
        if name in values:
            raise ValueError(f"{path.stem}: parameter {name} is given twice, {values[name]!r} and {value!r}")
        values[name] = _read(value, types.get(name, ""))
    check(path, values)
    return values


def declared(path: Path) -> dict[str, str]:
    """Parameter -> its type, as annotated in the parameters cell, else as its default is; "" where neither says."""
    import papermill

    types = {}
    for name, found in papermill.inspect_notebook(literal(path)).items():
        types[name] = found["inferred_type_name"] if found["inferred_type_name"] in EXPECTED else ""
        if not types[name]:
            try:
                kind = type(ast.literal_eval(found["default"])).__name__
            except (ValueError, SyntaxError):
                kind = ""
            types[name] = kind if kind in EXPECTED else ""
    return types


def literal(path: Path) -> str:
    """A path as papermill takes it, which fills in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def check(path: Path, parameters: Mapping[str, Any]) -> None:
    """Raise ValueError for a name the parameters cell does not have, a value of another type, no task or no profile."""
    types = declared(path)
    for name, value in parameters.items():
        if name not in types:
            raise ValueError(f"{path.stem}: unknown parameter {name!r}{nearest(str(name), types)}")
        if types[name] and not _fits(value, types[name]):
            raise ValueError(f"{path.stem}: parameter {name} must be {EXPECTED[types[name]]}, got {value!r}")
        if what := _not_plain(value):
            raise ValueError(f"{path.stem}: parameter {name} must be a plain value, got {what}")
        if name in ("task", "dark_task"):
            check_name(str(value))
            if str(value).startswith("own:") and _loads_texts(path):
                from kdnb.data import origins  # it brings pandas

                origins.given(str(value))  # refuses a name that no file stands behind
        if name in ("profile", "stored") and str(value) not in PROFILES:
            raise ValueError(f"{path.stem}: unknown profile {value!r}{nearest(str(value), PROFILES)}")


def _loads_texts(path: Path) -> bool:
    """Whether a notebook reads the examples of its task."""
    return "origins.load(task" in path.read_text(encoding="utf-8")


def label(parameters: Mapping[str, Any]) -> str:
    """Some parameters as part of a file name: their values, for people, and a hash of all of them; "default" for none.

    Two different sets never share one, whatever their values hold.
    """
    if not parameters:
        return "default"
    words = "-".join(re.sub(r"[^A-Za-z0-9.]+", "", str(value)) for value in parameters.values())
    digest = hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode()).hexdigest()[:8]
    return f"{words[:_WORDS]}-{digest}"


def _read(text: str, kind: str) -> Any:
    """A text as a value of a type; as it stands where it is none, for `check` to name."""
    try:
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
        value = files.parsed_json(text.lower() if kind == "bool" else text)
    except ValueError:
        return text
    return value if kind != "str" or isinstance(value, str) else text  # 0 is the text "0" where text is wanted


def _not_plain(value: Any) -> str:
    """What a value is, or holds, that no literal of a notebook can be, in words; "" for nothing."""
    if isinstance(value, list):
        return next(filter(None, map(_not_plain, value)), "")
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}, which is no number"
    if isinstance(value, str):
        return "" if value.isascii() or _encodable(value) else "text with half a surrogate pair"
    return "" if isinstance(value, int | float | None) else type(value).__name__


def _encodable(text: str) -> bool:
    """Whether UTF-8 can hold a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fits(value: Any, kind: str) -> bool:
    """Whether a value is of a type; a whole number is a number, and no number is infinite."""
    if isinstance(value, bool):
        return kind == "bool"
    if kind == "float":
        return isinstance(value, int | float) and math.isfinite(value)
    return type(value).__name__ == kind
