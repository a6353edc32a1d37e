"""A corpus that is no good, or whose stream ends in the middle: one line, nothing of a shard that is not whole, and the
bytes of an undisturbed fetch when it is begun again."""

import gzip
import itertools
import json
import os
import random
import zlib

import pandas as pd
import pyarrow
import pytest
import refusals

from kdnb import paths
from kdnb.errors import DamagedFetch, HubUnreachable
from kdnb.studies.language_models import corpora

pytestmark = pytest.mark.faults
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SPEC = f"some/corpus@{COMMIT}"
CORPUS = corpora.Corpus("some/corpus", COMMIT)
ROWS = [None if i % 7 == 0 else "" if i % 5 == 0 else f"document {i} äöü\n" * (i % 3 + 1) for i in range(90)]
TEXTS = [row for row in ROWS if row]
SHARD = 10


@pytest.fixture(autouse=True)
def row(request, record_property):
    with refusals.counting(request, record_property, "Input", request.node.originalname[5:].replace("_", " ")):
        yield


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "DATA_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def lm_fetch(kdnb):
    """lm_fetch(*words): exit code and the last line of stderr."""

    def call(*words):
        code, _, err = kdnb("lm", "fetch", SPEC, "--shard", SHARD, *words)
        return code, err.splitlines()[-1] if err else ""

    return call


def stream_of(monkeypatch, rows):
    monkeypatch.setattr(corpora, "_stream", lambda corpus, skip: itertools.islice(rows(), skip, None))


def told_rows(count=None):
    return ({"text": row, "id": 1} for row in ROWS[:count])


def kept(cache):
    """Files that a fetch left, but for its lock."""
    return {path.name: path.read_bytes() for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"}


def refused(answer, *words):
    code, line = answer
    assert code == 2, line
    assert line.startswith("kdnb: some/corpus"), line
    assert len(line) <= refusals.LONGEST
    assert all(word in line for word in words), line
    refusals.seen()


class Odd(Exception):
    """An error of some library of the reader's."""


ODD_ROWS = {  # a row -> words of the line
    "no row: text": ("text alone", "a row is str"),
    "no row: a list": (["text"], "a row is list"),
    "no row: nothing": (None, "a row is NoneType"),
    "another column": ({"txet": "a"}, "no column 'text'; did you mean 'txet'"),
    "no column": ({}, "no column 'text'"),
    "a number": ({"text": 3}, "column 'text' holds int"),
    "no number": ({"text": float("nan")}, "column 'text' holds float"),
    "bytes": ({"text": b"a"}, "column 'text' holds bytes"),
    "texts": ({"text": ["a", "b"]}, "column 'text' holds list"),
    "a struct": ({"text": {"text": "a"}}, "column 'text' holds dict"),
    "half a character": ({"text": "a\ud800"}, "a text is no Unicode"),
    "a terminal's escapes in a name": ({"\x1b]0;mine\x07": "a"}, "no column 'text'"),
}


@pytest.mark.parametrize("place", [0, 5, 25])
@pytest.mark.parametrize("name", ODD_ROWS)
def test_a_row_that_is_none(cache, monkeypatch, lm_fetch, name, place):
    """In the first shard nothing is kept; behind whole ones they are, and are those of an undisturbed fetch."""
    odd, words = ODD_ROWS[name]
    stream_of(monkeypatch, lambda: [*itertools.islice(told_rows(), place), odd, *told_rows()])
    refused(lm_fetch("--documents", 0), words)
    whole = len([row for row in ROWS[:place] if row]) // SHARD
    assert sorted(kept(cache)) == (["manifest.json"] if whole else []) + [
        f"shard-{i:05d}.parquet" for i in range(whole)
    ]
    if whole:
        assert corpora.read(CORPUS) == TEXTS[: whole * SHARD]


@pytest.mark.parametrize("rows", [[], [{"text": None}] * 30, [{"text": " \n"}] * 30, [{"text": ""}]], ids=len)
def test_a_set_without_text(cache, monkeypatch, lm_fetch, rows):
    stream_of(monkeypatch, lambda: rows)
    refused(lm_fetch("--documents", 0), "no text in column 'text'")
    refused(lm_fetch("--documents", 5), "no text in column 'text'")  # nor is it taken for fetched
    assert not kept(cache)


def test_a_row_that_is_gigantic(cache, monkeypatch, lm_fetch):
    """One text of more than a shard may have, or many that have it together."""
    monkeypatch.setattr(corpora, "LARGEST", 2**20)
    stream_of(monkeypatch, lambda: [*told_rows(20), {"text": "a" * 2**21}, *told_rows()])
    refused(lm_fetch("--documents", 0), "GiB of text in", "take a smaller --shard")
    assert corpora.read(CORPUS) == TEXTS[:SHARD]
    stream_of(monkeypatch, lambda: ({"text": "ä" * 2**16} for _ in range(SHARD)))
    monkeypatch.setattr(paths, "DATA_CACHE", cache / "other")
    refused(lm_fetch("--documents", 0), "in 9 documents")  # two bytes each
    assert not kept(cache / "other")


@pytest.mark.parametrize("words", [("--shard", 0), ("--shard", -3), ("--documents", -1)], ids=str)
def test_a_number_that_is_none(cache, monkeypatch, kdnb, words):
    stream_of(monkeypatch, told_rows)
    code, _, err = kdnb("lm", "fetch", SPEC, *words)
    assert code == 2
    assert err.startswith("kdnb: expected documents >= 0 in shards of at least 1")
    assert not kept(cache)
    refusals.seen()


def test_a_set_that_ends_early(cache, monkeypatch, kdnb):
    """What there is is fetched, and said to be all; asked again nothing is streamed."""
    stream_of(monkeypatch, told_rows)
    code, out, _ = kdnb("lm", "fetch", SPEC, "--shard", SHARD, "--documents", 10_000)
    assert code == 0
    assert "some/corpus has no more" in out
    assert corpora.read(CORPUS) == TEXTS
    monkeypatch.setattr(corpora, "_stream", None)
    assert kdnb("lm", "fetch", SPEC, "--shard", SHARD, "--documents", 10_000)[0] == 0
    refusals.seen()


BREAKS = [
    OSError("connection reset"),
    ValueError("bad footer"),
    RuntimeError("no more"),
    KeyError("text"),
    TypeError("cast"),
    EOFError("ended"),
    zlib.error("incorrect header"),
    pyarrow.ArrowInvalid("not a parquet file\nsecond line"),
    Odd("of another library"),
    AttributeError("'NoneType' object has no attribute 'read'"),
    RecursionError("deep"),
]


class Broken:
    """What datasets gives, ending with an error after some rows."""

    def __init__(self, rows, after, error, first=0):
        self.rows, self.after, self.error, self.first = rows, after, error, first

    def skip(self, number):
        return Broken(self.rows, self.after, self.error, number)

    def __iter__(self):
        for i, row in enumerate(self.rows):
            if i == self.after:
                raise self.error
            if i >= self.first:
                yield {"text": row}


def load_as(monkeypatch, after, error):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Broken(ROWS, after, error))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The files of a fetch of the whole set."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "DATA_CACHE", folder)
        stream_of(patch, told_rows)
        corpora.fetch(CORPUS, shard=SHARD, say=lambda _: None)
    return kept(folder)


@pytest.mark.parametrize("error", BREAKS, ids=lambda error: type(error).__name__)
def test_a_stream_that_breaks_in_the_middle(cache, monkeypatch, lm_fetch, undisturbed, error):
    """Again and again, at random rows, then no more: the bytes of one that was never broken."""
    rng, done = random.Random(0), -1
    for after in sorted(rng.sample(range(len(ROWS)), 4)):
        load_as(monkeypatch, after, error)
        refused(lm_fetch("--documents", 0), f"nothing from the hub ({(str(error) or 'x').splitlines()[0]}")
        found = kept(cache)
        assert all(undisturbed[name] == raw for name, raw in found.items() if name != "manifest.json")
        assert len(found) >= done
        done = len(found)
    load_as(monkeypatch, -1, error)
    assert lm_fetch("--documents", 0)[0] == 0
    assert kept(cache) == undisturbed


@pytest.mark.parametrize("after", [3, 30, 70])
def test_a_fetch_that_is_interrupted(cache, monkeypatch, kdnb, undisturbed, after):
    load_as(monkeypatch, after, KeyboardInterrupt())
    code, _, err = kdnb("lm", "fetch", SPEC, "--shard", SHARD, "--documents", 0)
    assert code == 130
    assert err.splitlines()[-1].startswith("kdnb: stopped")
    assert all(undisturbed[name] == raw for name, raw in kept(cache).items() if name != "manifest.json")
    load_as(monkeypatch, -1, None)
    assert kdnb("lm", "fetch", SPEC, "--shard", SHARD, "--documents", 0)[0] == 0
    assert kept(cache) == undisturbed
    refusals.seen()


@pytest.mark.parametrize("number", [1, 3, 6])
def test_a_disk_that_is_full_in_the_middle(cache, monkeypatch, lm_fetch, undisturbed, number):
    stream_of(monkeypatch, told_rows)
    real, count = os.fsync, [0]

    def fsync(descriptor):
        count[0] += 1
        if count[0] == number:
            raise OSError(28, os.strerror(28))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    code, line = lm_fetch("--documents", 0)
    assert code == 2
    assert "No space left on device" in line
    assert not [name for name in kept(cache) if name.startswith(".")]
    assert lm_fetch("--documents", 0)[0] == 0
    assert kept(cache) == undisturbed
    refusals.seen()


MANIFESTS = {
    "no JSON": "{",
    "a list": "[]",
    "shards that are none": {"shards": "all"},
    "an entry that is none": {"shards": [1]},
    "an entry without a hash": {"shards": [{"name": "shard-00000.parquet", "rows": 1, "documents": 1}]},
    "a file elsewhere": {"shards": [{"name": "../../../x", "sha256": "0" * 64, "rows": 1, "documents": 1}]},
    "rows below none": {"shards": [{"name": "shard-00000.parquet", "sha256": "", "rows": -5, "documents": 1}]},
    "rows that are text": {"shards": [{"name": "shard-00000.parquet", "sha256": "", "rows": "5", "documents": 1}]},
    "all of nothing": {"all": True, "shards": []},
    "another column's": {"column": "other"},
    "another commit's": {"revision": "f" * 40},
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_is_none(cache, monkeypatch, lm_fetch, undisturbed, name):
    """Never read as if it were; what it says is fetched anew."""
    stream_of(monkeypatch, told_rows)
    assert lm_fetch("--documents", 0)[0] == 0
    path = CORPUS.folder / "manifest.json"
    harm = MANIFESTS[name]
    path.write_text(harm if isinstance(harm, str) else json.dumps({**json.loads(path.read_text()), **harm}))
    with pytest.raises((HubUnreachable, DamagedFetch)):
        corpora.read(CORPUS)
    assert lm_fetch("--documents", 0)[0] == 0
    assert kept(cache) == undisturbed
    refusals.seen()


# Files as they lie on a hub, through the library that streams them


def parquet(frame):
    return lambda path: frame.to_parquet(path, index=False)


def text_of(content):
    return lambda path: path.write_text(content, encoding="utf-8")


LINES = "".join(json.dumps({"text": row}) + "\n" for row in TEXTS)
FILES = {  # name -> the file's name, what writes it
    "an empty file": ("train.parquet", lambda path: path.touch()),
    "Parquet that is cut off": (
        "train.parquet",
        lambda path: (parquet(pd.DataFrame({"text": TEXTS}))(path), os.truncate(path, path.stat().st_size // 2)),
    ),
    "numbers": ("train.parquet", parquet(pd.DataFrame({"text": range(30)}))),
    "lists": ("train.parquet", parquet(pd.DataFrame({"text": [["a", "b"]] * 30}))),
    "structs": ("train.parquet", parquet(pd.DataFrame({"text": [{"text": "a"}] * 30}))),
    "bytes": ("train.parquet", parquet(pd.DataFrame({"text": [b"a\xff"] * 30}))),
    "another column": ("train.parquet", parquet(pd.DataFrame({"body": TEXTS}))),
    "nothing but None": ("train.parquet", parquet(pd.DataFrame({"text": [None] * 30}))),
    "no JSON": ("train.jsonl", text_of(LINES + "{")),
    "JSON of another shape": ("train.jsonl", text_of('{"text": "a"}\n' * 9 + '{"text": {"b": 1}}\n')),
    "gzip that is cut off": ("train.jsonl.gz", lambda path: path.write_bytes(gzip.compress(LINES.encode())[:-40])),
    "no gzip": ("train.jsonl.gz", lambda path: path.write_bytes(b"PK\x03\x04" * 100)),
    "another split": ("test.parquet", parquet(pd.DataFrame({"text": TEXTS}))),
    "no data": ("README.md", text_of("nothing")),
    "a script": ("corpus.py", text_of("raise SystemExit('it ran')")),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_hub_that_is_none(cache, tmp_path, monkeypatch, lm_fetch, name):
    folder = tmp_path / "hub" / "some" / "corpus"
    folder.mkdir(parents=True)
    file, write = FILES[name]
    write(folder / file)
    monkeypatch.setenv("KDNB_HUB", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(lm_fetch("--documents", 0))
    assert all(path == "manifest.json" or path.startswith("shard-") for path in kept(cache))
    there = corpora.read(CORPUS) if kept(cache) else []
    assert there == TEXTS[: len(there)]
    assert len(there) % SHARD == 0
