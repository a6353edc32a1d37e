"""Files are whole or not there, whoever else writes them and whatever goes wrong."""

import dataclasses
import hashlib
import os
import threading

import numpy as np
import pandas as pd
import pytest

from kdnb import files


def test_readers_see_whole_files_only(tmp_path):
    path = tmp_path / "some" / "file.json"
    assert files.read_json(path) == {}
    files.write_json(path, {"a": 1})
    assert files.read_json(path) == {"a": 1}
    assert os.listdir(path.parent) == ["file.json"]
    for odd in ("", "[1]", "{", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")):
        path.write_text(odd, encoding="latin-1")
        assert files.read_json(path) == {}
    assert files.names(tmp_path / "none") == set()
    assert files.names(path.parent) == {"file"}


@pytest.mark.parametrize("durable", [False, True])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path, durable):
    path = tmp_path / "table.csv"
    files.write_atomically(path, b"old", durable=durable)

    def half(file):
        file.write(b"ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(path, half, durable=durable)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["table.csv"]
    files.write_atomically(path, lambda file: file.write(b"new"), durable=durable)
    assert path.read_bytes() == b"new"


def test_many_writers_of_one_file_leave_one_of_theirs(tmp_path):
    path = tmp_path / "shared"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    writers = [threading.Thread(target=files.write_atomically, args=(path, content)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["shared"]


def test_what_is_durable_is_synced_before_it_is_put_in_place(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: done.append("sync") or sync(number))
    monkeypatch.setattr(os, "replace", lambda old, new: done.append("replace") or replace(old, new))
    files.write_json(tmp_path / "a.json", {})
    assert done == ["replace"]
    done.clear()
    files.write_json(tmp_path / "b.json", {}, durable=True)
    assert done == ["sync", "replace", "sync"]  # the content, and afterwards the folder's entry


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(256)))
    assert files.sha256(path) == hashlib.sha256(bytes(range(256))).hexdigest()


@pytest.mark.parametrize(
    "text", ["=1+1", "+49 30", "-ish", "@SUM(A1)", "\t=1", "\r=1", "＝1", "=", "-1-1", '=HYPERLINK("x")']
)
def test_a_text_that_begins_like_a_formula_stays_a_text(text):
    assert files.csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-1", "+0.5", "-1e-3", "-inf", "a=b", "", "'=1", "5 - 3", -1, 0.5, None, True])
def test_numbers_and_other_texts_are_left_alone(value):
    assert files.csv_cell(value) is value


def test_a_table_as_csv_is_pandas_own_but_for_formulas():
    table = pd.DataFrame(
        {
            "text": ["=1+1", "plain", None, 'say "no", please'],
            "mixed": [1, 0.5, "-x", None],
            "number": [-1.0, 2.5, np.nan, 0.0],
            "kind": pd.Categorical(["-a", "b", "b", None]),
        }
    )
    written = files.csv_bytes(table.rename(columns={"number": "-number"})).decode()
    expected = table.assign(
        text=["'=1+1", *table.text[1:]], mixed=[1, 0.5, "'-x", None], kind=["'-a", "b", "b", None]
    ).rename(columns={"number": "'-number"})
    assert written == expected.to_csv(index=False)
    safe = table.iloc[1:2]
    assert files.csv_bytes(safe) == safe.to_csv(index=False).encode()


@dataclasses.dataclass
class Card:
    """What JSON is made into."""

    name: str
    sizes: tuple[int, ...] = ()
    share: float = 0.5
    of: dict[str, list[tuple[str, int]]] | None = None


@pytest.mark.parametrize(
    "values",
    [
        {"name": "a"},
        {"name": "a", "sizes": [1, 2], "share": 1},
        {"name": "a", "of": {"x": [["y", 1]]}},
        {"name": "a", "of": None},
    ],
)
def test_what_fits_a_class_is_made_one(values):
    made = files.made(Card, values)
    assert made.sizes == tuple(values.get("sizes", ()))
    assert made.share == values.get("share", 0.5)


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"name": 1},
        {"name": "a", "more": 1},
        {"name": "a", "sizes": "12"},
        {"name": "a", "sizes": [True]},
        {"name": "a", "sizes": [2**63]},
        {"name": "a", "share": float("nan")},
        {"name": "a", "share": True},
        {"name": "a", "share": 10**400},
        {"name": "a", "of": {"x": [["y"]]}},
        {"name": "a", "of": {"x": [["y", "1"]]}},
        {"name": "a", "of": [1]},
    ],
)
def test_what_does_not_fit_a_class_is_refused(values):
    with pytest.raises(ValueError, match=r"is |expected an object|missing"):
        files.made(Card, values)


@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_a_flipped_bit_in_kept_arrays_is_no_traceback(tmp_path, pack):
    """Whatever zipfile, zlib, numpy and tokenize raise; where arrays are read, all are there and as written."""
    path, rng = tmp_path / "kept.npz", np.random.default_rng(0)
    written = {"labels": np.arange(40) % 3, "states": rng.normal(size=1100)}
    pack(path, **written)
    content = path.read_bytes()
    inside = content.find(b"states.npy")  # the header of an array that no reader takes in at once
    damaged = 0
    for place in (*range(120), *range(inside - 30, inside + 160), *range(len(content) - 150, len(content))):
        for bit in range(8):
            spoiled = bytearray(content)
            spoiled[place] ^= 1 << bit
            path.write_bytes(spoiled)
            arrays = files.kept_arrays(path)
            assert arrays is None or files.same_arrays(arrays, written)
            damaged += arrays is None
    assert damaged > 1000
