"""Your own data: files of texts and labels become a task, its examples are cut and what was done is told."""

import ast
import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdnb.catalog import PROFILES, Task, defaults
from kdnb.core.config import SPLITS
from kdnb.data.splits import AS_PROFILE, Rows, TaskData, make
from kdnb.data.table_files import TextTable, check_filled, open_table
from kdnb.errors import closest, printable

LONGEST = 180  # characters of a file's name in its runs' names, which are names of folders
HOLDOUT_SEED = 42
HOLDOUT_SHARE = 0.15  # of the rows, for each of validation and test, where no file is given
SUBSET_SEED = 42
RARE = 2  # rows of a class that may be another's name misspelt
MOST_SLIPS = 20  # classes as rare as that, where they may be slips: more are how the data are
Key = Decimal | str  # what all spellings of a class have in common
_QUOTES = ('""', "''", "``", "“”", "‘’", "„“", "«»")
_DIGITS = re.compile(r"\d+")
_JOINTS = re.compile(r"[,;|/&+]")  # between labels that are several
_ARRAY = re.compile(r"\[[\s\d.eE+-]+\]")  # as numpy writes one
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,4})?|[+-]?\.\d+([eE][+-]?\d{1,4})?")


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """The user's own files and their columns; all "" for none."""

    path: str = ""
    text: str = ""
    text2: str = ""  # the second text of pairs
    label: str = ""
    validation: str = ""  # "" cuts it from path
    test: str = ""
    columns: tuple[str, ...] = ()  # names of all columns, where the files have no header

    @property
    def files(self) -> dict[str, str]:
        """Split -> its file, of those that are given."""
        files = {"train": self.path, "validation": self.validation, "test": self.test}
        return {split: path for split, path in files.items() if path}

    @property
    def task(self) -> str:
        """Name of the task that they make."""
        return f"own:{Path(self.path).stem[:LONGEST]}"

    def whole(self) -> "OwnData":
        """The same with whole paths, which mean the same wherever a process was started."""
        paths = (self.path, self.validation, self.test)
        path, validation, test = (str(Path(one).resolve()) if one else "" for one in paths)
        return replace(self, path=path, validation=validation, test=test)


@dataclass(frozen=True, eq=False)
class Examples:
    """A task made of the user's files.

    task: its labels in order: numbers by size, names by letters.
    table: columns split, text, text2, label (0..K-1) and row, the data row of the split's own file, from 1.
    notes: what there is to tell of the files, a line each.
    """

    task: Task
    table: pd.DataFrame
    notes: tuple[str, ...]


def load(own: OwnData, profile: str, rows: Rows = AS_PROFILE) -> TaskData:
    """The splits of the user's files at a profile's size; files given for validation or test are taken whole.

    Args:
        own: the files.
        profile: a key of PROFILES.
        rows: at most so many, instead of the profile's; of as many as there are classes, every class keeps a row.
    Raises:
        ValueError: as `read`, and for fewer train rows than classes.
    """
    examples, size = read(own), PROFILES[profile]
    caps = {
        "train": defaults(profile).train_rows,
        "validation": 0 if own.validation else size.validation_rows,
        "test": 0 if own.test else size.test_rows,
    }
    caps |= {split: count for split, count in vars(rows).items() if count is not None}
    whole = {split: examples.table[examples.table.split == split] for split in SPLITS}
    if 0 < caps["train"] < examples.task.num_classes:
        raise ValueError(
            f"{own.path}: {caps['train']} train rows are fewer than its {examples.task.num_classes} classes"
        )
    table = pd.concat([capped(part, caps[split]) for split, part in whole.items()], ignore_index=True)
    data = make(examples.task, table, profile, Rows(train=0, validation=0, test=0))
    available = {split: len(part) for split, part in whole.items()}
    return replace(data, available=available, notes=examples.notes)


def read(own: OwnData) -> Examples:
    """The task and its examples from the user's files.

    Raises:
        ValueError: one line naming file, column or row, and what was expected.
    """
    if own.label in (own.text, own.text2):
        raise ValueError(f"{own.path}: column {own.label!r} cannot be both text and label")
    notes, parts = [], {}
    wanted = tuple(filter(None, (own.text, own.text2, own.label)))
    for split, path in own.files.items():
        table = open_table(path, wanted, own.label, own.columns)
        parts[split] = _columns(table, own)
        notes.append(f"{printable(Path(path).name)}: {table.form}, {table.rows:,} rows")
        notes += _in_quotes(parts[split], own)
    classes, merged = _classes(parts["train"].label, own)
    merged += _joined(parts["train"].label, classes)
    for split, path in own.files.items():
        parts[split]["label"] = _numbers(parts[split].label, classes, path, own.label)
    notes += [*merged, *_misspelt(parts["train"].label, classes), *_repeated(parts["train"], own), *_shared(parts)]
    notes += _cut(parts, classes, own.path)
    task = Task(
        name=own.task,
        title=Path(own.path).stem,
        question=f"Which {own.label}?",
        labels=tuple(classes.values()),
        source="own",
        pair=bool(own.text2),
    )
    table = pd.concat([parts[split].assign(split=split) for split in SPLITS]).drop(columns="alike")
    return Examples(task, table.reset_index(drop=True), tuple(notes))


def capped(part: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows of a split, at random, always the same ones, the classes' shares as they were.

    Args:
        part: with a column label.
        most: rows, 0 for all.
    """
    if not 0 < most < len(part):
        return part
    rng, of_class = np.random.default_rng(SUBSET_SEED), [*part.groupby("label").indices.values()]
    shares = _allotted(np.array([*map(len, of_class)]), most, least=int(most >= len(of_class)))
    chosen = [rng.permutation(rows)[:share] for rows, share in zip(of_class, shares, strict=True)]
    return part.iloc[np.sort(np.concatenate(chosen))]


def _columns(table: TextTable, own: OwnData) -> pd.DataFrame:
    """Columns text, text2, label, alike and row of a file, each text and label checked; alike as `_alike`."""
    if not table.rows:
        raise ValueError(f"{table.path}: no rows")
    columns = {"text": texts_of(table, own.text)}
    columns["text2"] = texts_of(table, own.text2) if own.text2 else [""] * table.rows
    labels = table.column(own.label)
    check_filled(table.path, labels, f"with nothing in column {own.label!r}")
    columns["label"] = [_label(table, own.label, *one) for one in enumerate(labels, 1)]
    columns["alike"] = list(map(_alike, columns["text"], columns["text2"]))
    return pd.DataFrame({**columns, "row": np.arange(1, table.rows + 1)})


def texts_of(table: TextTable, column: str) -> list[str]:
    """A column's texts, one a row; ValueError, with the row, for an empty one or a list."""
    values = table.column(column)
    check_filled(table.path, values, f"with nothing in column {column!r}")
    for row, value in enumerate(values, 1):
        if problem := _nested(value):
            raise ValueError(f"{table.path}: column {column!r}, data row {row}: expected one text a row, got {problem}")
    return [str(value) for value in values]


def _in_quotes(part: pd.DataFrame, own: OwnData) -> Iterator[str]:
    """What to tell of columns whose values each stand in quotes of their own."""
    for column, name in {"text": own.text, "text2": own.text2, "label": own.label}.items():
        ends = {(value.strip()[:1], value.strip()[1:][-1:]) for value in part[column]}
        if len(ends) == 1 and (pair := "".join(*ends)) in _QUOTES:
            yield f"column {printable(name)!r}: every value stands in quotes, {pair}, which are read as part of it"


def _nested(value: Any) -> str:
    """What a value is that is not one but several, in words."""
    what = _kind(value)
    return f"{what} ({printable(str(value))[:60]})" if what else ""


def _kind(value: Any) -> str:
    """The word for a value that holds several; "" for another."""
    kinds = {list: "a list", tuple: "a list", set: "a list", np.ndarray: "a list", dict: "an object"}
    return next((word for kind, word in kinds.items() if isinstance(value, kind)), "")


def _label(table: TextTable, column: str, row: int, value: Any) -> str:
    if what := _nested(value):
        raise ValueError(f"{table.path}: column {column!r}, data row {row}: expected one label a row, got {what}")
    return str(value)


def _key(label: str) -> Key:
    """What two spellings of one class have in common: the number; else the letters, not their case or blanks."""
    seen = _seen(label).strip()
    return Decimal(seen) if _NUMBER.fullmatch(seen) else _plain(seen)


def _seen(text: str) -> str:
    """A text without the signs that are not seen: a zero-width space, a soft hyphen."""
    return text if text.isprintable() else "".join(sign for sign in text if sign.isprintable() or sign.isspace())


def _plain(text: str) -> str:
    """All of a text but case, blanks and the form of its letters (a full-width one, an accent of its own)."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold().split())


def _classes(labels: pd.Series, own: OwnData) -> tuple[dict[Key, str], list[str]]:
    """Key -> name of each class, in label order, and a line for each that has several spellings.

    A class is called as most of its rows spell it.
    """
    spellings: dict[Key, Counter[str]] = {}
    for label, count in Counter(labels).items():
        spellings.setdefault(_key(label), Counter())[label] += count
    where = f"{own.path}: column {own.label!r}"
    if len(spellings) < 2:
        raise ValueError(f"{where} has one class only ({labels.iloc[0].strip()!r}), expected two or more")
    if len(spellings) > len(labels) / 2:
        raise ValueError(
            f"{where} has {len(spellings)} classes in {len(labels)} rows; is it the label? If so, more rows are needed"
        )
    for row, label in enumerate(labels, 1):
        if what := _several(label):
            raise ValueError(f"{where}, data row {row}: expected one label a row, got {what} ({printable(label)[:60]})")
    names = {key: counts.most_common(1)[0][0].strip() for key, counts in spellings.items()}
    if all(isinstance(key, Decimal) for key in names):
        order = sorted(names, key=lambda key: Decimal(key))
    else:
        order = sorted(names, key=names.__getitem__)
    merged = [
        f"one class, {names[key]!r}: "
        + ", ".join(f"{label!r} in {_rows(count)}" for label, count in counts.most_common())
        for key, counts in spellings.items()
        if len(counts) > 1
    ]
    return {key: names[key] for key in order}, merged


@functools.lru_cache(maxsize=1024)  # a label stands in many rows
def _several(label: str) -> str:
    """What a label is, in words, if it is several written as text, as in "['joy', 'anger']"; else ""."""
    text = label.strip()
    if _ARRAY.fullmatch(text):
        return "a list"
    if text[:1] + text[-1:] not in ("[]", "()", "{}"):
        return ""
    try:
        return _kind(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""


def _joined(labels: pd.Series, classes: dict[Key, str]) -> Iterator[str]:
    """What to tell of classes that look like several others in one, as in "anger, joy"."""
    joined = {}
    for label, count in Counter(labels).items():
        keys = [_key(part) for part in _JOINTS.split(label) if part.strip()]
        if len(keys) > 1 and all(key in classes for key in keys):
            joined[label] = count
    if joined:
        first = next(iter(joined))
        yield (
            f"{sum(joined.values()):,} rows have several classes in their label, as in {first!r}, which is read as one "
            "class of its own"
        )


def _numbers(labels: pd.Series, classes: dict[Key, str], where: str, column: str) -> pd.Series:
    """0..K-1 of each label, whatever its spelling."""
    places = {key: place for place, key in enumerate(classes)}
    by_label = {label: places.get(_key(label), -1) for label in set(labels)}
    numbers = labels.map(by_label)
    if (numbers < 0).any():
        row = int((numbers < 0).to_numpy().argmax())
        known = ", ".join([*classes.values()][:20]) + (" ..." if len(classes) > 20 else "")
        raise ValueError(
            f"{where}: column {column!r}, data row {row + 1}: label {labels.iloc[row]!r} is none of the train rows' "
            f"({printable(known)})"
        )
    return numbers.astype(int)


def _misspelt(labels: pd.Series, classes: dict[Key, str]) -> Iterator[str]:
    """What to ask of a class that has hardly a row and is called almost as a commoner one, but for a number.

    Args:
        labels: 0..K-1 of every row.
        classes: key -> name of each class, in label order.
    """
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    rows_of = {
        name: count for (key, name), count in zip(classes.items(), counts, strict=True) if not isinstance(key, Decimal)
    }
    rare = [name for name, count in rows_of.items() if count <= RARE]
    common = [name for name, count in rows_of.items() if count > RARE]
    for name in rare if len(rare) <= MOST_SLIPS else ():
        others = [one for one in common if _DIGITS.sub("", one) != _DIGITS.sub("", name)]
        if meant := closest(name, others):
            near = printable(meant)[:60]
            yield f"class {printable(name)[:60]!r} has {_rows(rows_of[name])}: a misspelling of {near!r}?"


def _rows(count: int) -> str:
    """So many rows, in words."""
    return f"{count:,} row{'s' * (count != 1)}"


def _alike(text: str, text2: str) -> str:
    """What equal texts, or pairs of texts, have in common: all but what is not seen, case and blanks."""
    return "\0".join(_plain(_seen(one)) for one in (text, text2))


def _repeated(part: pd.DataFrame, own: OwnData) -> list[str]:
    """What to tell of equal texts in the file that is cut."""
    labels = part.label.groupby(part.alike)
    different, lines = labels.ngroups, []
    if different < len(part):
        kept = "" if own.validation and own.test else "; equal texts stay in one split"
        lines.append(f"{len(part) - different:,} of {len(part):,} rows repeat an earlier row's text{kept}")
    if torn := int((labels.nunique() > 1).sum()):
        lines.append(f"{torn:,} different texts have more than one label")
    return lines


def _shared(parts: dict[str, pd.DataFrame]) -> list[str]:
    """What to tell of texts of a validation or test file that are in train as well."""
    lines, train = [], set(parts["train"].alike)
    for split in ("validation", "test"):
        if split in parts and (count := int(parts[split].alike.isin(train).sum())):
            lines.append(f"{count:,} of {len(parts[split]):,} {split} texts are in train as well")
    return lines


def _cut(parts: dict[str, pd.DataFrame], classes: dict[Key, str], where: str) -> list[str]:
    """Take the splits that no file gives out of the train rows, at random, always the same ones; what to tell of it.

    Every class that has enough different texts is in each split, in its share of the rows; the others train alone.
    """
    lacking = [split for split in ("validation", "test") if split not in parts]
    if not lacking:
        return []
    whole, rng = parts["train"], np.random.default_rng(HOLDOUT_SEED)
    groups = _groups(whole, len(classes), rng)
    enough = [place for place, texts in enumerate(groups) if len(texts) > len(lacking)]
    small = [place for place, texts in enumerate(groups) if 0 < len(texts) <= len(lacking)]
    if not enough:
        raise ValueError(
            f"{where}: no class has {len(lacking) + 1} different texts, so that none can be held out for "
            f"{' and '.join(lacking)}; give more rows"
        )
    counts = np.array([sum(map(len, groups[place])) for place in enough])
    wanted = _allotted(counts, max(len(enough), int(HOLDOUT_SHARE * len(whole))), least=1)
    held: dict[str, list[np.ndarray]] = {split: [] for split in lacking}
    for place, rows in zip(enough, wanted, strict=True):
        left = groups[place]
        for later, split in enumerate(reversed(lacking)):
            chosen = _chosen(left, rows, spare=len(lacking) - later)
            held[split] += [left[i] for i in chosen]
            left = [texts for i, texts in enumerate(left) if i not in chosen]
    for split in lacking:
        parts[split] = whole.iloc[np.sort(np.concatenate(held[split]))]
    taken = np.concatenate([rows for split in lacking for rows in held[split]])
    parts["train"] = whole.iloc[np.setdiff1d(np.arange(len(whole)), taken)]
    if not small:
        return []
    names = [*classes.values()]
    listed = ", ".join(f"{printable(names[place])} ({_rows(sum(map(len, groups[place])))})" for place in small[:20])
    more = f" and {len(small) - 20} more" if len(small) > 20 else ""
    return [f"in train alone, for want of {len(lacking) + 1} different texts: {listed}{more}"]


def _groups(part: pd.DataFrame, num_classes: int, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """For each class the row numbers of each of its different texts, in random order.

    A text with several labels counts for the one most of its rows have.
    """
    of_class: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    labels = part.label.to_numpy()
    codes = pd.factorize(part.alike)[0]
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        several, counts = np.unique(labels[rows], return_counts=True) if len(rows) > 1 else (labels[rows], [1])
        of_class[int(several[np.argmax(counts)])].append(rows)
    return [[texts[i] for i in rng.permutation(len(texts))] for texts in of_class]


def _chosen(texts: Sequence[np.ndarray], rows: int, spare: int) -> set[int]:
    """Which texts of a class to hold out.

    Args:
        texts: the rows of each.
        rows: how many to hold out, at most, but one text in any case.
        spare: texts to leave.
    """
    chosen: set[int] = set()
    taken = 0
    for place, of_text in enumerate(texts):
        if len(texts) - len(chosen) > spare and taken + len(of_text) <= rows:
            chosen.add(place)
            taken += len(of_text)
    return chosen or {min(range(len(texts)), key=lambda place: len(texts[place]))}


def _allotted(counts: np.ndarray, total: int, least: int) -> np.ndarray:
    """A total in shares of some counts, in whole numbers: largest remainders, `least` of each at any rate.

    Args:
        counts: (K,), > 0.
        total: to be shared out, at least K least and at most the sum of the counts.
        least: of each.
    """
    exact = total * counts / counts.sum()
    shares = np.maximum(np.floor(exact).astype(int), least)
    while shares.sum() != total:
        if shares.sum() < total:
            shares[np.argmax(np.where(shares < counts, exact - shares, -np.inf))] += 1
        else:
            shares[np.argmax(np.where(shares > least, shares - exact, -np.inf))] -= 1
    return shares
