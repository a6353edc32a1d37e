"""A corpus of the hub: streamed once, in order, into shards; cut off and begun again it gives the same bytes."""

import itertools

import pandas as pd
import pytest

from kdnb import paths
from kdnb.errors import DamagedFetch, HubUnreachable
from kdnb.studies.language_models import corpora, text

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CORPUS = corpora.Corpus("some/corpus", COMMIT)
ROWS = [f"document {i}" if i % 5 else "" for i in range(40)]  # 32 with text
TEXTS = [row for row in ROWS if row]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "DATA_CACHE", tmp_path)
    return tmp_path


@pytest.fixture
def streamed(cache, monkeypatch):
    """How many rows were streamed, and after how many the connection breaks."""
    seen = {"rows": 0, "breaks": 10**9, "skipped": []}

    def stream(corpus, skip):
        seen["skipped"].append(skip)
        for row in itertools.islice(ROWS, skip, None):
            if seen["rows"] == seen["breaks"]:
                raise HubUnreachable("gone")
            seen["rows"] += 1
            yield {"text": row, "id": 1}

    monkeypatch.setattr(corpora, "_stream", stream)
    return seen


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def fetch(documents=0, corpus=CORPUS):
    return corpora.fetch(corpus, documents, shard=10, say=lambda _: None)


@pytest.mark.slow
def test_a_fetch_that_was_cut_off_goes_on_behind_its_last_whole_shard(streamed):
    whole = bytes_of(fetch())
    assert corpora.read(CORPUS) == TEXTS
    assert len(whole) == 5  # 10, 10, 10 and 2 documents, and the manifest
    for path in CORPUS.folder.iterdir():
        path.unlink()
    streamed |= {"rows": 0, "breaks": 20, "skipped": []}
    with pytest.raises(HubUnreachable):
        fetch()
    assert corpora.read(CORPUS) == TEXTS[:10]
    streamed["breaks"] = 10**9
    assert bytes_of(fetch()) == whole
    assert streamed["skipped"] == [0, 13]  # ten documents lie in thirteen rows
    fetch()
    assert len(streamed["skipped"]) == 2  # all of it is here: nothing is asked for


def test_more_documents_leave_the_first_ones_as_they_are(streamed):
    first = bytes_of(fetch(12))
    assert corpora.read(CORPUS) == TEXTS[:20]  # whole shards
    again = bytes_of(fetch(25))
    assert {name: again[name] for name in first if name != "manifest.json"} == {
        name: content for name, content in first.items() if name != "manifest.json"
    }
    assert corpora.read(CORPUS) == TEXTS[:30]


def test_a_shard_that_was_altered_is_refused_and_fetched_again(streamed):
    folder = fetch()
    whole = bytes_of(folder)
    (folder / "shard-00001.parquet").write_bytes(b"other")
    with pytest.raises(DamagedFetch, match="shard-00001"):
        corpora.read(CORPUS)
    assert bytes_of(fetch()) == whole


def test_mistakes_are_named(streamed):
    with pytest.raises(HubUnreachable, match=f"kdnb lm fetch some/corpus@{COMMIT} --column text"):
        text.documents(f"some/corpus@{COMMIT}")
    with pytest.raises(ValueError, match=r"no column 'txet'; did you mean .*text"):
        fetch(corpus=corpora.Corpus("some/corpus", COMMIT, column="txet"))
    fetch(10)
    with pytest.raises(ValueError, match="begun with shards of 10 documents, got 7"):
        corpora.fetch(CORPUS, 20, shard=7)
    assert corpora.named("some/corpus@main") is None
    assert corpora.named(f"some/corpus@{COMMIT}:en").config == "en"


@pytest.mark.parametrize("limit", [0, 1, 3, 100])
@pytest.mark.parametrize("separator", [-1, 9])
def test_documents_are_packed_one_behind_the_other(limit, separator):
    documents = [[1, 2, 3], [4], [], [5, 6, 7, 8, 1, 2]]
    stream = [token for one in documents for token in (*one, *([separator] if separator >= 0 else []))]
    rows = [stream[i : i + 3] for i in range(0, len(stream) - 2, 3)]
    packed = text.pack(documents, 3, separator, limit=limit, dtype="<u2")
    assert packed.tolist() == rows[: limit or len(rows)]
    with pytest.raises(ValueError, match="fewer than one sequence of 99"):
        text.pack(documents, 99, separator)


@pytest.mark.slow
def test_datasets_streams_a_mirror_in_the_order_of_its_files(cache, kdnb, monkeypatch):
    data = cache / "hub" / "some" / "corpus" / "data"
    data.mkdir(parents=True)
    for i, some in enumerate((ROWS[:25], ROWS[25:])):
        pd.DataFrame({"text": some}).to_parquet(data / f"train-0000{i}-of-00002.parquet", index=False)
    monkeypatch.setenv("KDNB_HUB", str(cache / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert kdnb("lm", "fetch", f"some/corpus@{COMMIT}", "--documents", 12, "--shard", 10)[0] == 0
    assert text.documents(f"some/corpus@{COMMIT}") == TEXTS[:20]
    assert kdnb("lm", "fetch", f"some/corpus@{COMMIT}", "--documents", 0, "--shard", 10)[0] == 0
    assert text.documents(f"some/corpus@{COMMIT}") == TEXTS
