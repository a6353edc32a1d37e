"""Files that several processes write and read: the old one or the new one, never a part; their hashes; CSV whose texts
stay texts."""

import csv
import errno
import functools
import hashlib
import io
import json
import math
import os
import re
import shutil
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, Union, get_args, get_origin, get_type_hints

from kdnb import paths
from kdnb.errors import one_line

if TYPE_CHECKING:
    import numpy as np
    from pandas import DataFrame

FORMULA = "=+-@＝＋－＠\t\r\n"  # what a spreadsheet takes for the beginning of a formula

LARGEST = 4 * 2**30  # bytes of a file that is read whole, or of what it unpacks to
Made = TypeVar("Made")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object], *, durable: bool = False) -> None:
    """Write a file, its folder too if need be, and put it in place of the old one at once.

    The new one is written beside it under a name of its own, so that several processes and machines may write the
    same file; nothing is left behind by a failure.

    Args:
        path: the file.
        content: its bytes, or what writes them into an open binary file.
        durable: whether it is on the disk, and not in the system's memory alone, when this returns.
    Raises:
        OSError: the disk is full or refuses, or as `kdnb.paths.check_ours`; the old file is as it was.
    """
    paths.check_ours(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex}")
    try:
        with open(partial, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Write a folder and put it in place of the old one, which goes with all that it holds.

    Args:
        path: the folder.
        fill: writes the new one's files into the folder that it is given.
    Raises:
        OSError: the disk is full or refuses, or as `kdnb.paths.check_ours`; the old folder is as it was.
    """
    paths.check_ours(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (path.with_name(f".{path.name}.{uuid.uuid4().hex}") for _ in range(2))
    try:
        partial.mkdir()
        fill(partial)
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    finally:
        for gone in (partial, old):
            shutil.rmtree(gone, ignore_errors=True)


def sync(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def csv_cell(value: Any) -> Any:
    """A value for a CSV: a text that a spreadsheet would run as a formula gets an apostrophe before it."""
    if not isinstance(value, str) or value[:1] not in tuple(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def csv_bytes(table: "DataFrame") -> bytes:
    """A table as CSV without its index; texts and names of columns as `csv_cell` has them, all else untouched."""
    guarded = table.set_axis([csv_cell(name) for name in table.columns], axis=1)
    for position, (_, column) in enumerate(table.items()):
        values = [csv_cell(value) for value in column] if column.dtype.kind == "O" else []
        if any(new is not old for new, old in zip(values, column, strict=False)):
            guarded.isetitem(position, values)
    return guarded.to_csv(index=False).encode()


def check_writable(folder: Path) -> None:
    """Make a folder and write into it; OSError, before any work is done, if that cannot be, or as
    `kdnb.paths.check_ours`."""
    paths.check_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write_json(path: Path, content: dict[str, Any], *, durable: bool = False) -> None:
    """Write a JSON object as `write_atomically` does, keys in the order given."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode(), durable=durable)


def given(path: str | Path) -> bytes:
    """The bytes of a file that a user named.

    Raises:
        ValueError: it is an address, no ordinary file (a pipe would be waited for), too large, or cannot be read.
    """
    if _REMOTE.match(str(path)):
        raise ValueError(f"{path}: expected a file on this machine, no address; fetch it first")
    file = Path(path)
    try:
        if file.exists() and not file.is_file():
            raise ValueError(f"{path}: {'a folder' if file.is_dir() else 'no ordinary file'}, expected a file")
        check_size(path, file.stat().st_size)
        return file.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None


def ordinary(path: Path) -> bytes:
    """The bytes of a file that a program wrote.

    Raises:
        OSError: there is none, it cannot be read, or what has its name is no ordinary file: a pipe is waited for.
    """
    check_ordinary(path)
    return path.read_bytes()


def check_ordinary(path: Path) -> None:
    """Raise OSError for what is there and no ordinary file: a pipe, a device, a folder."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no ordinary file", str(path))


def check_size(path: str | Path, size: int, what: str = "") -> None:
    """Raise ValueError for more bytes than are read into memory.

    Args:
        path: of the file.
        size: bytes.
        what: what they are, where they are not the file's own: "unpacked".
    """
    if size > LARGEST:
        more = f" {what}" if what else ""
        raise ValueError(f"{path}: {size / 2**30:,.1f} GiB{more}, at most {LARGEST / 2**30:g} are read; split it")


def parsed_json(content: str | bytes) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: it is none, or one that is nested too deeply to be read.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds; {} if there is none or it cannot be read."""
    try:
        content = parsed_json(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def fits(value: Any, kind: Any) -> bool:
    """Whether what JSON gave is of a type, written as in an annotation: dict[str, list[int]], int | None.

    A list fits a tuple. Integers have 63 bits at most, floats are finite; other classes are told by isinstance.
    """
    outer, inner = get_origin(kind) or kind, get_args(kind)
    if outer in (UnionType, Union):
        return any(fits(value, one) for one in inner)
    if outer in (int, float) and type(value) is int:
        return abs(value) < 2**63
    if outer is float:
        return type(value) is float and math.isfinite(value)
    if outer is tuple and type(value) in (list, tuple):
        each = [inner[0]] * len(value) if inner[1:] == (...,) else inner or [Any] * len(value)
        return len(value) == len(each) and all(map(fits, value, each))
    if outer is dict and inner:
        return type(value) is dict and all(fits(name, inner[0]) and fits(one, inner[1]) for name, one in value.items())
    if outer is list and inner:
        return type(value) is list and all(fits(one, inner[0]) for one in value)
    return outer is Any or (isinstance(value, outer) and not (outer is int and type(value) is bool))


def made(kind: type[Made], values: Any) -> Made:
    """A dataclass of what JSON gave; lists become the tuples that its fields have.

    Raises:
        ValueError: a field is unknown, missing or of another type, or what the class itself refuses.
    """
    hints = get_type_hints(kind)
    if not isinstance(values, dict):
        raise ValueError(f"expected an object, got {type(values).__name__}")
    for name, value in values.items():
        if name not in hints or not fits(value, hints[name]):
            raise ValueError(f"{name} is {repr(value)[:60]}")
    tuples = {name: tuple(value) for name, value in values.items() if get_origin(hints[name]) is tuple}
    try:
        return kind(**{**values, **tuples})
    except TypeError as error:  # a field is missing
        raise ValueError(str(error)) from None


def names(folder: Path) -> set[str]:
    """Names of the JSON files in a folder, without ".json"; none if there is no folder."""
    try:
        return {name.removesuffix(".json") for name in os.listdir(folder) if name[0] != "." and name.endswith(".json")}
    except FileNotFoundError:
        return set()


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes; raises as `ordinary`."""
    check_ordinary(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path: Path) -> str:
    """The same, read once per process and state of the file: weights are hundreds of MB."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _sha256(path: Path, _size: int, _changed: int) -> str:
    return sha256(path)


def pack(arrays: "Mapping[str, np.ndarray]") -> bytes:
    """Arrays as one compressed npz; equal arrays are equal bytes, but for those of another zlib."""
    import numpy as np  # not needed by what reads names alone

    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def unpack(packed: bytes) -> "dict[str, np.ndarray]":
    """The arrays of an npz; nothing pickled is read.

    Raises:
        ValueError: it is none, or a damaged one.
    """
    import numpy as np

    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            for name in archive.namelist():
                content = archive.read(name)  # to its end, where zipfile looks at the checksum: np.load may stop before
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # a flipped bit may have zipfile, zlib, numpy and tokenize raise theirs
        raise ValueError(one_line(error)) from None
    if len(arrays) != (written := int.from_bytes(packed[-12:-10], "little")):  # zipfile passes over a lost one
        raise ValueError(f"{len(arrays)} arrays of {written}")
    return arrays


def kept_arrays(path: Path) -> "dict[str, np.ndarray] | None":
    """The arrays of an npz that can be made again; None where there is none, or, which is told, a damaged one."""
    try:
        return unpack(ordinary(path))
    except FileNotFoundError:
        return None
    except ValueError as error:
        print(f"kdnb: {path} is damaged ({error}); making it again", file=sys.stderr)
        return None


def same_arrays(one: "Mapping[str, np.ndarray]", other: "Mapping[str, np.ndarray]") -> bool:
    """Whether two sets of arrays have the same names and values."""
    import numpy as np

    return set(one) == set(other) and all(np.array_equal(array, other[name]) for name, array in one.items())


def table(rows: Sequence[Mapping[str, float]], columns: Sequence[str] = ()) -> bytes:
    """Rows with the same columns as CSV; without rows the given columns alone."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def rows(content: bytes, name: str) -> list[dict[str, float]]:
    """Rows of numbers from CSV.

    Args:
        content: of the file.
        name: of the file, for errors.
    Raises:
        ValueError: it is no such table; a column's name is to be one word of letters, digits, dots and underscores.
    """
    try:
        table = csv.DictReader(io.StringIO(content.decode()))
        found = [{column: float(cell) for column, cell in row.items()} for row in table]
    except (ValueError, TypeError, csv.Error):
        raise ValueError(f"{name} is no table of numbers") from None
    if odd := [column for column in table.fieldnames or () if not re.fullmatch(r"[\w.]+", column, re.ASCII)]:
        raise ValueError(f"{name} has a column {odd[0][:80]!a}")
    return found
