"""Large corpora of the hub: streamed once, by `kdnb lm fetch`, into shards that never change; training reads those.

No stream is ever shuffled or resumed in a training: a shuffle buffer that goes on loses rows, or gives some twice. A
fetch that was cut off goes on behind its last whole shard, in the order of the files at their commit.
"""

import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from kdnb import files, paths
from kdnb.catalog import HUB_REPO
from kdnb.data import hub
from kdnb.errors import DamagedFetch, HubUnreachable, first_line, nearest

SHARD = 10_000  # documents
LARGEST = 2**30  # bytes of text in a shard, which is held in memory
AT_ONCE = 100  # rows
LONGEST = 600.0  # seconds in which the next rows have to come: a group of a Parquet file, on a slow line
_SPEC = re.compile(rf"(?P<repo>{HUB_REPO})@(?P<revision>[0-9a-f]{{40}})(?::(?P<config>\w[\w.-]*))?")
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Corpus:
    """The text of a data set of the hub at a commit: a column of its train split.

    repo: owner/name.
    revision: the commit, 40 digits.
    config: as `datasets.load_dataset` calls it, "" for the only one.
    column: with the text.
    """

    repo: str
    revision: str
    config: str = ""
    column: str = "text"

    @property
    def folder(self) -> Path:
        """Where its shards lie."""
        name = f"{self.revision[:12]}-{self.config or 'default'}-{self.column}"
        return paths.inside(paths.DATA_CACHE / "corpora" / self.repo, name)


def named(spec: str, column: str = "text") -> Corpus | None:
    """The corpus that id@commit or id@commit:config means; None if it is spelled as none."""
    match = _SPEC.fullmatch(spec)
    return Corpus(match["repo"], match["revision"], match["config"] or "", column) if match else None


def fetch(corpus: Corpus, documents: int = 0, *, shard: int = SHARD, say: Callable[[str], None] = print) -> Path:
    """Have the first documents of a corpus on this machine, as shards of equal size; what is whole is kept.

    Args:
        corpus: what is streamed.
        documents: how many at least, full shards of them; 0 is all there are.
        shard: documents of each but the last.
        say: hears a line per shard.
    Returns:
        The folder: `shard-00000.parquet` and so on, and manifest.json with sha256, rows and documents of each.
    Raises:
        HubUnreachable: the hub does not answer, or has no such set, commit or config.
        ValueError: the set has no such column, or no text in it, or too much for a shard; a number is out of range,
            or another shard size was begun with.
    """
    if shard < 1 or documents < 0:
        raise ValueError(f"expected documents >= 0 in shards of at least 1, got {documents} in shards of {shard}")
    folder = corpus.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        manifest = _begun(corpus, shard)
        shards = manifest["shards"]
        if manifest["all"] or (documents and _count(shards) >= documents):
            say(f"{corpus.repo} at {corpus.revision[:12]}: {_count(shards):,} documents here")
            return folder
        for rows, texts in _shards(_stream(corpus, skip=sum(one["rows"] for one in shards)), corpus, shard):
            _write(folder, manifest, rows, texts)
            say(f"shard {len(shards)}: {_count(shards):,} documents")
            if documents and _count(shards) >= documents:
                return folder
        if not shards:
            raise ValueError(f"{corpus.repo}: no text in column {corpus.column!r}")
        if documents:
            say(f"{corpus.repo} has no more")
        files.write_json(folder / _MANIFEST, {**manifest, "all": True}, durable=True)
    return folder


def read(corpus: Corpus) -> list[str]:
    """The documents that were fetched, in their order, every shard checked.

    Raises:
        HubUnreachable: none was.
        DamagedFetch: a shard is not what was written.
    """
    shards = _manifest(corpus).get("shards", [])
    if not shards:
        config = f":{corpus.config}" if corpus.config else ""
        raise HubUnreachable(
            f"nothing of {corpus.repo} at {corpus.revision[:12]} here; bring it with "
            f"kdnb lm fetch {corpus.repo}@{corpus.revision}{config} --column {corpus.column}"
        )
    found: list[str] = []
    for one in shards:
        path = corpus.folder / one["name"]
        if not path.is_file() or files.sha256(path) != one["sha256"]:
            raise DamagedFetch(f"{path} is not what was fetched; delete {corpus.folder} and fetch again")
        found += pq.read_table(path, columns=["text"]).column("text").to_pylist()
    return found


def _names(corpus: Corpus) -> dict[str, str]:
    return {"repo": corpus.repo, "revision": corpus.revision, "config": corpus.config, "column": corpus.column}


def _manifest(corpus: Corpus) -> dict[str, Any]:
    """What a fetch said of its shards; {} where none did, or what is there is no manifest of this corpus."""
    manifest = files.read_json(corpus.folder / _MANIFEST)
    shards = manifest.get("shards")
    good = isinstance(shards, list) and shards and all(_is_entry(one, number) for number, one in enumerate(shards))
    return manifest if good and manifest.items() >= _names(corpus).items() else {}


def _is_entry(one: Any, number: int) -> bool:
    """Whether a manifest's entry is one of its shard."""
    return (
        isinstance(one, dict)
        and one.get("name") == _name(number)
        and isinstance(one.get("sha256"), str)
        and all(type(one.get(count)) is int and one[count] > 0 for count in ("rows", "documents"))
    )


def _name(number: int) -> str:
    return f"shard-{number:05d}.parquet"


def _begun(corpus: Corpus, shard: int) -> dict[str, Any]:
    """The manifest of what is there, with its whole shards from the first to the last in one go; else a new one."""
    manifest = _manifest(corpus)
    if manifest and manifest.get("shard") != shard:
        raise ValueError(f"{corpus.folder}: begun with shards of {manifest.get('shard')} documents, got {shard}")
    there = manifest.get("shards", [])
    whole = [
        path.is_file() and files.sha256(path) == one["sha256"]
        for one in there
        for path in [corpus.folder / one["name"]]
    ]
    kept = list(itertools.takewhile(bool, whole))
    return {
        **_names(corpus),
        "shard": shard,
        "all": bool(manifest.get("all")) and len(kept) == len(there),
        "shards": there[: len(kept)],
    }


def _write(folder: Path, manifest: dict[str, Any], rows: int, texts: list[str]) -> None:
    """A shard, then the manifest that has it: killed between the two, the shard is written again."""
    name = _name(len(manifest["shards"]))
    content = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), content, compression="zstd")
    files.write_atomically(folder / name, content.getvalue(), durable=True)
    digest = files.sha256(folder / name)
    manifest["shards"].append({"name": name, "sha256": digest, "rows": rows, "documents": len(texts)})
    files.write_json(folder / _MANIFEST, manifest, durable=True)


def _count(shards: list[dict]) -> int:
    return sum(one["documents"] for one in shards)


def _shards(rows: Iterable[dict], corpus: Corpus, shard: int) -> Iterator[tuple[int, list[str]]]:
    """(rows of the set, their texts) of each shard; rows without text are counted and left out."""
    count, size, texts = 0, 0, []
    for row in rows:
        text = _text(row, corpus)
        count += 1
        if text.strip():
            size += _bytes(text, corpus)
            texts.append(text)
        if size > LARGEST:
            most = f"at most {LARGEST / 2**30:g} GiB are held in memory; take a smaller --shard"
            raise ValueError(f"{corpus.repo}: {size / 2**30:,.1f} GiB of text in {len(texts):,} documents, {most}")
        if len(texts) == shard:
            yield count, texts
            count, size, texts = 0, 0, []
    if texts:
        yield count, texts


def _text(row: Any, corpus: Corpus) -> str:
    """The text of a row, "" where it has none; ValueError for a row that is none, or another column."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{corpus.repo}: a row is {type(row).__name__}, expected named columns")
    if corpus.column not in row:
        raise ValueError(f"{corpus.repo}: no column {corpus.column!r}{nearest(corpus.column, tuple(map(str, row)))}")
    text = row[corpus.column]
    if not isinstance(text, str | None):
        raise ValueError(f"{corpus.repo}: column {corpus.column!r} holds {type(text).__name__}, expected text")
    return text or ""


def _bytes(text: str, corpus: Corpus) -> int:
    """Of a text in UTF-8; ValueError if it cannot be written so."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{corpus.repo}: a text is no Unicode: {text[:40]!a}") from None


def _stream(corpus: Corpus, skip: int) -> Iterator[dict]:
    """The rows of the train split from one on, in the files' order."""
    hub.prepare_process()
    from datasets import load_dataset

    local = hub.mirror(corpus.repo)
    where = {"path": str(local)} if local else {"path": corpus.repo, "revision": corpus.revision}
    try:
        load = partial(load_dataset, **where, name=corpus.config or None, split="train", streaming=True)
        stream = hub.within(LONGEST, load)
        yield from _in_time(iter(stream.skip(skip) if skip else stream))
    except Exception as error:  # whatever the library and its readers make of a stranger's files
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in hub.LOCAL_ERRORS):
            raise
        told = f"nothing from the hub ({first_line(error)})"
        raise HubUnreachable(f"{corpus.repo} at {corpus.revision[:12]}: {told}") from None


def _in_time(stream: Iterator[dict]) -> Iterator[dict]:
    """The rows of a stream, some at a time; TimeoutError where the next do not come: its client would try for long."""
    errors = []

    def some() -> list[dict]:
        found = []
        try:
            for row in itertools.islice(stream, AT_ONCE):
                found.append(row)
        except Exception as error:  # behind rows that are good
            errors.append(error)
        return found

    while (rows := hub.within(LONGEST, some)) and not errors:
        yield from rows
    yield from rows
    if errors:
        raise errors[0]
