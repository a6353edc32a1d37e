"""A teacher that is written down: a file with probabilities, logits or votes for the classes of each text.

It may come from an ensemble, a pool of annotators or a language model. Each row of the file names a row of the data by
its id or by the text itself; classes are known by their names, never by their order.
"""

import io
import re
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdnb import files
from kdnb.core import metrics
from kdnb.core.config import SPLITS
from kdnb.data.splits import Split, TaskData
from kdnb.data.table_files import read_table
from kdnb.errors import nearest, printable
from kdnb.files import FORMULA

FORMS = ("probabilities", "logits", "votes")
WITHIN = 0.02  # of 1: how far probabilities that were rounded may sum from it
BELOW = 1e-4  # how far below 0 rounding may take a probability
FAR = 1e4  # below the largest logit: its softmax is exactly 0 in float32, at tau up to 90
IDS = ("id", "row_id", "row")
_PREFIXES = {"p": "probabilities", "prob": "probabilities", "probability": "probabilities", "logit": "logits"}
_PREFIXES |= {"vote": "votes", "votes": "votes", "logits": "logits", "probabilities": "probabilities"}
_PREDICTED = re.compile(r"^p\((.+)\)$", re.DOTALL)  # a class's column as `kdnb predict` writes it
_PREFIXED = re.compile(rf"({'|'.join(sorted(_PREFIXES, key=len, reverse=True))})[_:. -](.+)", re.DOTALL)
_ROW = re.compile(rf"(?:({'|'.join(SPLITS)}):)?(\d+)(?:\.0)?")
_APOSTROPHE = re.compile(f"^'(?=[{re.escape(FORMULA)}])")


@dataclass(frozen=True, kw_only=True)
class TeacherTable:
    """What a file says on the rows of some data.

    Attributes:
        path: of the file.
        form: one of FORMS, what its numbers were read as.
        by: "id" or "text", how its rows name those of the data.
        rows: of the file.
        blank: rows of the file without an answer.
        unknown: rows of the file that name no row of the data.
        rescaled: rows whose probabilities did not sum to 1, by rounding, and do now.
        ignored: columns that were not read.
        logits: split -> (N, K) float32, logits in the order of the data's rows and classes; nan in a row that the
            file says nothing on.
    """

    path: str
    form: str
    by: str
    rows: int
    blank: int
    unknown: int
    rescaled: int
    ignored: tuple[str, ...]
    logits: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """A file's rows: what each names, by kind of key, and what it says of each class."""

    keys: dict[str, list[str]]  # "id", "text": one value a row
    values: np.ndarray  # (rows, K) float64, nan where there is none
    form: str = ""  # one of FORMS where the file says it
    ignored: list[str] = field(default_factory=list)


def read(path: str, data: TaskData, form: str = "", texts: Sequence[str] = ()) -> TeacherTable:
    """The teacher in a CSV, JSON lines, Parquet or npz file, matched with the rows of some data.

    Args:
        path: of the file. Its rows have an id, as `row_ids` has it (a number alone is a row of train, or of the split
            that a column of that name says), or the text (text2 beside it for pairs), and a number for each class by
            the class' name, which may follow p_, logit_ or votes_; or one column probabilities, logits or votes of
            objects {class: number}. An npz has arrays id or text (N,), probabilities, logits or votes (N, K), and
            classes (K,).
        data: whose rows and classes they are.
        form: one of FORMS, "" to read it off the file.
        texts: further names of the text columns.
    Raises:
        ValueError: one line with file, row and what was expected.
    """
    if form and form not in FORMS:
        raise ValueError(f"the form of a teacher table must be one of {', '.join(FORMS)}, got {form!r}")
    answers = (_of_npz if Path(path).suffix.lower() == ".npz" else _of_table)(path, data, texts)
    if not len(answers.values):
        raise ValueError(f"{path}: no rows")
    form = form or answers.form or _form_of(answers.values, path)
    logits, blank, rescaled = _as_logits(answers.values, form, path)
    by = "id" if "id" in answers.keys else "text"
    where = _rows_named(answers.keys[by], by, data, path)
    if by == "id" and "text" in answers.keys:
        _check_texts(answers.keys["text"], where, data, path)
    return TeacherTable(
        path=path,
        form=form,
        by=by,
        rows=len(logits),
        blank=blank,
        unknown=sum(not places for places in where),
        rescaled=rescaled,
        ignored=tuple(answers.ignored),
        logits=_placed(logits, where, data, path),
    )


def row_ids(data: TaskData) -> pd.DataFrame:
    """Every row of some data, as a table to be answered: id ("train:17"), text, text2 of pairs, label by its name."""
    parts = []
    for name, split in data.splits.items():
        part = pd.DataFrame({"id": [f"{name}:{row}" for row in range(len(split))]})
        for column, texts in (("text", split.text), ("text2", split.text2)):
            if texts:
                part[column] = texts
        parts.append(part.assign(label=[data.task.labels[label] for label in split.labels]))
    return pd.concat(parts, ignore_index=True)


def told(table: TeacherTable, data: TaskData) -> list[str]:
    """What a person is to know of a table before anything is trained, in lines: rows, entropy [nats], accuracy."""
    of = printable(f"{table.path}: {table.form} of {', '.join(data.task.labels)}")
    lines = [f"teacher {of}; {table.rows:,} rows by {table.by}"]
    if table.unknown:
        lines.append(f"{_share(table.unknown, table.rows)} of its rows name no row of {data.task.name}: left out")
    if table.blank:
        lines.append(f"{_share(table.blank, table.rows)} of its rows have no answer: as if they were not there")
    if table.rescaled:
        lines.append(f"{_share(table.rescaled, table.rows)} of its rows did not sum to 1, by rounding, and do now")
    if table.ignored:
        lines.append(f"columns not read: {printable(', '.join(table.ignored))}")
    for name, split in data.splits.items():
        logits = table.logits[name]
        known = ~np.isnan(logits).any(axis=1)
        if name != "train" and not known.any():
            continue
        missing = f"{_share(int((~known).sum()), len(split))} of {len(split):,} {name} rows are missing"
        if name == "train" and not known.all():
            missing += ": there the label alone is trained on"
        if known.any():
            right = metrics.accuracy(logits[known], split.labels[known])
            missing += f"; entropy {metrics.mean_entropy(logits[known]):.3f} nats, accuracy {100 * right:.1f} %"
            floor = metrics.majority_floor(split.labels[known])
            if right <= floor < 1:
                missing += f", no better than the most frequent class ({100 * floor:.1f} %): are ids and classes right?"
        lines.append(missing)
    return lines


def _share(count: int, of: int) -> str:
    return f"{count:,} ({100 * count / of:.1f} %)"


def _of_npz(path: str, data: TaskData, _texts: Sequence[str]) -> _Answers:
    """The arrays of an npz."""
    content = arrays_of(path)
    forms = [name for name in FORMS if name in content]
    if len(forms) != 1 or "classes" not in content:
        raise ValueError(
            f"{path}: expected an array classes and one of {', '.join(FORMS)}, got {', '.join(content) or 'none'}"
        )
    values, classes = content[forms[0]], [str(name) for name in content["classes"].ravel()]
    if values.ndim != 2 or values.shape[1] != len(classes) or values.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: {forms[0]} must be numbers (N, {len(classes)}), got {values.dtype} {tuple(values.shape)}"
        )
    keys: dict[str, np.ndarray] = {name: content[name] for name in ("id", "text", "text2") if name in content}
    for name, column in keys.items():
        if column.shape != (len(values),):
            raise ValueError(f"{path}: {name} must be ({len(values)},), one for each row, got {tuple(column.shape)}")
    order = _order(classes, data, path)
    columns = {name: [str(value) for value in column] for name, column in keys.items()}
    return _Answers(keys=_keys(columns, data, path), values=values[:, order].astype(np.float64), form=forms[0])


def arrays_of(path: str) -> dict[str, np.ndarray]:
    """The arrays in an npz file of the user's.

    Raises:
        ValueError: it is no npz, holds pickled objects, or unpacks to more than is read into memory.
    """
    packed = io.BytesIO(files.given(path))
    try:
        with zipfile.ZipFile(packed) as members:
            unpacked = sum(member.file_size for member in members.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path}: not readable as npz ({error})") from None
    files.check_size(path, unpacked, "unpacked")
    try:
        with np.load(packed, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except MemoryError:
        raise ValueError(f"{path}: an array in it is said to be larger than memory") from None
    except Exception as error:  # zipfile, what it decompresses with and numpy raise a dozen classes
        raise ValueError(f"{path}: not readable as npz without pickled objects ({error})") from None


def _of_table(path: str, data: TaskData, texts: Sequence[str]) -> _Answers:
    """The rows of a table."""
    table = read_table(path)
    table.columns = [_PREDICTED.sub(r"p_\1", str(name).strip()) for name in table.columns]
    if "posterior" not in data.task.labels:
        table = table.rename(columns={"posterior": "probabilities"})
    if twice := sorted({name for name in table.columns if list(table.columns).count(name) > 1}):
        raise ValueError(f"{path}: two columns are called {twice[0]!r}")
    names = {"text": next((name for name in (*texts[:1], "text") if name and name in table), ""), "text2": ""}
    counted = data.task.source == "own" and "row" in table and table["row"].astype(str).str.fullmatch(r"\d+").all()
    ids = IDS[:-1] if counted and names["text"] else IDS  # `kdnb predict` counts the rows of the file
    names["id"] = next((name for name in ids if name in table), "")
    if data.task.pair:
        names["text2"] = next((name for name in (*texts[1:], "text2") if name and name in table), "")
    keys = {kind: [_text(value) for value in table[name]] for kind, name in names.items() if name}
    if "split" in table and "id" in keys and data.task.source != "own":  # where ids count the rows of each split
        keys["id"] = [
            key if ":" in key else f"{_text(split).strip()}:{key.strip()}"
            for split, key in zip(table["split"], keys["id"], strict=True)
        ]
        names["split"] = "split"
    keyed = _keys(keys, data, path)
    rest = [name for name in table.columns if name not in set(names.values())]
    values, form, used = _class_values(table[rest], data, path)
    return _Answers(keys=keyed, values=values, form=form, ignored=[name for name in rest if name not in used])


def _text(value: Any) -> str:
    """A cell of a column of ids or texts."""
    return "" if value is None or value != value else str(value)


def _keys(columns: dict[str, list[str]], data: TaskData, path: str) -> dict[str, list[str]]:
    """What each row names: ids, texts in one form, or both."""
    keys = {"id": [key.strip() for key in columns["id"]]} if "id" in columns else {}
    if "text" in columns and data.task.modality == "text" and ("text2" in columns or not data.task.pair):
        seconds = columns.get("text2") or [""] * len(columns["text"])
        keys["text"] = [_one_form(*both) for both in zip(columns["text"], seconds, strict=True)]
    if not keys:
        wanted = {"image": "id"}.get(data.task.modality, "id or text, text2" if data.task.pair else "id or text")
        raise ValueError(f"{path}: no column that names the rows: expected {wanted}")
    return keys


def _one_form(text: str, text2: str = "") -> str:
    """A text, or a pair, as it is compared: whatever became of its blanks, line ends and accents.

    The apostrophe that `kdnb.files.csv_cell` puts before it is left out.
    """
    parts = (_APOSTROPHE.sub("", unicodedata.normalize("NFC", part)) for part in (text, text2))
    return "\0".join(" ".join(part.split()) for part in parts)


def _order(classes: list[str], data: TaskData, path: str) -> list[int]:
    """Where each class of the data stands among some names."""
    for name in data.task.labels:
        if (count := classes.count(name)) != 1:
            known = f", got it {count} times" if count else nearest(name, classes)
            raise ValueError(f"{path}: expected class {name!r} once{known}")
    if more := [name for name in classes if name not in data.task.labels]:
        raise ValueError(f"{path}: {more[0]!r} is no class of {data.task.name}{nearest(more[0], data.task.labels)}")
    return [classes.index(name) for name in data.task.labels]


def _class_values(table: pd.DataFrame, data: TaskData, path: str) -> tuple[np.ndarray, str, set[str]]:
    """The numbers (rows, K) of the classes, the form that their columns' names say, and those columns."""
    for form in FORMS:
        if form in table and form not in data.task.labels:
            return _of_objects(list(table[form]), form, data, path), form, {form}
    prefixed = {name: match for name in table.columns if (match := _PREFIXED.fullmatch(name))}
    plain = all(name in table for name in data.task.labels)
    if plain or not prefixed:
        forms, columns, classes = {""}, list(data.task.labels), list(table.columns)
        for name in columns:
            if name not in classes:
                raise ValueError(
                    f"{path}: no column for class {name!r}{nearest(name, classes)}; expected one of numbers for each "
                    f"class, or one called {', '.join(FORMS[:-1])} or {FORMS[-1]} of objects {{class: number}}"
                )
    else:
        forms = {_PREFIXES[match[1]] for match in prefixed.values()}
        names = list(prefixed)
        columns = [names[i] for i in _order([prefixed[name][2] for name in names], data, path)]
    if len(forms) > 1:
        raise ValueError(f"{path}: columns of {' and '.join(sorted(forms))}; expected one of them")
    values = np.stack([_numbers(table[name], name, path) for name in columns], axis=1)
    return values, forms.pop(), set(columns)


def _of_objects(cells: list[Any], form: str, data: TaskData, path: str) -> np.ndarray:
    """The numbers (rows, K) of cells that are objects {class: number}, or such an object as JSON."""
    values = np.full((len(cells), data.task.num_classes), np.nan)
    for number, cell in enumerate(cells):
        where = f"{path}: row {number + 1}"
        if isinstance(cell, str) and cell.strip():
            try:
                cell = files.parsed_json(cell)
            except ValueError:
                raise ValueError(f"{where}: {form} must be an object {{class: number}}, got {cell[:60]!r}") from None
        if cell is None or cell != cell or cell in ("", {}):
            continue
        if not isinstance(cell, dict):
            raise ValueError(
                f"{where}: {form} must be an object {{class: number}}, got a {type(cell).__name__}: "
                "an order of classes cannot be checked"
            )
        given = {str(name): value for name, value in cell.items() if value is not None}  # Parquet names all in each
        try:
            row = [float(given[name]) for name in data.task.labels]
        except KeyError as error:
            none = "" if form == "logits" else "; 0 stands for none"
            raise ValueError(f"{where}: no number for class {error}{nearest(error.args[0], given)}{none}") from None
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{where}: {form} must be numbers, got {given}") from None
        if more := [name for name in given if name not in data.task.labels]:
            raise ValueError(f"{where}: {more[0]!r} is no class of {data.task.name} ({', '.join(data.task.labels)})")
        values[number] = row
    return values


def _numbers(column: pd.Series, name: str, path: str) -> np.ndarray:
    """A column as numbers; nan where a cell is empty."""
    empty = column.isna() | (column.astype(str).str.strip() == "")
    try:
        read = pd.to_numeric(column.where(~empty), errors="coerce")
    except OverflowError as error:  # JSON has integers of any length
        raise ValueError(f"{path}: column {name!r}: {error}") from None
    numbers = read.to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(np.isnan(numbers) & ~empty.to_numpy())
    if len(wrong):
        raise ValueError(f"{path}: column {name!r}, row {wrong[0] + 1}: {column.iloc[wrong[0]]!r} is no number")
    return numbers


def _form_of(values: np.ndarray, path: str) -> str:
    """What numbers (rows, K) are, where no name says it."""
    given = values[~np.isnan(values).any(axis=1)]
    whole = len(given) and np.abs(given.sum(axis=1) - 1).max() <= WITHIN
    if whole and (given >= -BELOW).all() and (given <= 1 + BELOW).all():
        return "probabilities"
    if not len(given) or (given < 0).any():
        return "logits"
    if (given == np.round(given)).all():
        return "votes"
    if (given <= 1).all():
        return "probabilities"  # whose sums are refused by row
    percent = "; percent go as votes" if np.abs(given.sum(axis=1) - 100).max() <= 100 * WITHIN else ""
    raise ValueError(
        f"{path}: neither probabilities (they sum to 1) nor votes (whole numbers): "
        f"say what they are with --teacher-form logits, probabilities or votes{percent}"
    )


def _as_logits(values: np.ndarray, form: str, path: str) -> tuple[np.ndarray, int, int]:
    """Logits (rows, K), nan in rows without an answer, how many those are, and how many sums were not 1."""
    values, nothing = values.copy(), np.isnan(values)
    blank = nothing.all(axis=1)
    _refuse(nothing.any(axis=1) & ~blank, values, "a number is missing", path)
    if form == "logits":
        blank |= (values == -np.inf).all(axis=1)
        values[blank] = np.nan
        values[values == -np.inf] = -FAR
        _refuse(np.isinf(values).any(axis=1), values, "logits must be finite", path)
        with np.errstate(over="ignore"):
            values -= values.max(axis=1, keepdims=True)
        return np.maximum(values, -FAR), int(blank.sum()), 0
    if form == "probabilities":
        values[(values >= -BELOW) & (values < 0)] = 0
    _refuse((values < 0).any(axis=1) | np.isinf(values).any(axis=1), values, f"{form} must be >= 0 and finite", path)
    sums, rescaled = values.sum(axis=1), 0
    if form == "votes":
        blank |= sums == 0
    else:
        hundred = np.abs(sums[~blank] - 100) <= 100 * WITHIN
        percent = "; percent go with --teacher-form votes" if hundred.any() and hundred.all() else ""
        _refuse(np.abs(sums - 1) > WITHIN, values, f"probabilities must sum to 1{percent}", path)
        rescaled = int((np.abs(sums - 1) > 1e-6).sum())
    values[blank] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(np.log(values / sums[:, None]), -FAR), int(blank.sum()), rescaled


def _refuse(wrong: np.ndarray, values: np.ndarray, why: str, path: str) -> None:
    """Raise ValueError with the first of the wrong rows."""
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        told = ", ".join(f"{value:g}" for value in values[row])
        raise ValueError(f"{path}: row {row + 1}: {why}, got {told} (one of {int(wrong.sum())} such rows)")


def _rows_named(keys: list[str], by: str, data: TaskData, path: str) -> list[list[tuple[str, int]]]:
    """For each row of the file the rows of the data that it names, as (split, number); none for an unknown one."""
    find = _by_id(data, path) if by == "id" else _by_text(data.splits)
    where = [find(key) for key in keys]
    if not any(split == "train" for places in where for split, _ in places):
        example = "an id such as train:0" if by == "id" else f"a text such as {data.splits['train'].text[0][:40]!r}"
        raise ValueError(
            f"{path}: none of its {len(keys)} rows names a train row of {data.task.name}: expected {example}"
        )
    return where


def _by_id(data: TaskData, path: str) -> Callable[[str], list[tuple[str, int]]]:
    def find(key: str) -> list[tuple[str, int]]:
        match = _ROW.fullmatch(key)
        if match and not match[1] and data.task.source == "own":
            raise ValueError(
                f"{path}: id {key!r}: rows of your own file were cut into splits; "
                "give the text itself, or the ids that `kdnb teachers rows` writes (train:0, ...)"
            )
        split, number = (match[1] or "train", int(match[2])) if match else ("train", -1)
        return [(split, number)] if 0 <= number < len(data.splits[split]) else []

    return find


def _by_text(splits: dict[str, Split]) -> Callable[[str], list[tuple[str, int]]]:
    places: dict[str, list[tuple[str, int]]] = {}
    for name, split in splits.items():
        for row, key in enumerate(_texts_of(split)):
            places.setdefault(key, []).append((name, row))
    return lambda key: places.get(key, [])


def _texts_of(split: Split) -> list[str]:
    """The texts of a split, as they are compared."""
    return [_one_form(*both) for both in zip(split.text, split.text2 or [""] * len(split.text), strict=True)]


def _check_texts(keys: list[str], where: list[list[tuple[str, int]]], data: TaskData, path: str) -> None:
    """Raise ValueError unless the text beside an id is the text of the row that it names."""
    texts = {name: _texts_of(split) for name, split in data.splits.items()}
    for number, (key, places) in enumerate(zip(keys, where, strict=True), 1):
        for split, row in places:
            if key.strip("\0") and key != texts[split][row]:
                raise ValueError(
                    f"{path}: row {number}: its text is not that of row {split}:{row} of {data.task.name} "
                    f"({texts[split][row][:40]!r}): the ids are of other data, or of another cut of it"
                )


def _placed(logits: np.ndarray, where: list[list[tuple[str, int]]], data: TaskData, path: str) -> dict[str, np.ndarray]:
    """The logits in the order of the data's rows; nan in a row that the file says nothing on."""
    placed = {
        name: np.full((len(split), data.task.num_classes), np.nan, np.float32) for name, split in data.splits.items()
    }
    first: dict[tuple[str, int], int] = {}
    for number, places in enumerate(where):
        if np.isnan(logits[number]).any():
            continue
        for split, row in places:
            before = first.setdefault((split, row), number)
            if not np.allclose(logits[before], logits[number], atol=1e-6):
                raise ValueError(
                    f"{path}: rows {before + 1} and {number + 1} say different things on {split}:{row} "
                    f"of {data.task.name}"
                )
            placed[split][row] = logits[number]
    if np.isnan(placed["train"]).any(axis=1).all():
        raise ValueError(f"{path}: it has no answer on any train row of {data.task.name}")
    return placed
