"""A local folder laid out as the hub lays it out, small, and a server that speaks as the hub does."""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pandas as pd


def parquet_mirror(root, labels=(0, 1)):
    folder = root / "nyu-mll" / "glue" / "mrpc"
    folder.mkdir(parents=True)
    for split, rows in {"train": 10, "validation": 4, "test": 6}.items():
        marks = [labels[i % 2] if split == "test" else i % 2 for i in range(rows)]
        frame = pd.DataFrame(
            {
                "sentence1": [f"{split} first {i}" for i in range(rows)],
                "sentence2": [f"second {i}" for i in range(rows)],
                "label": marks,
                "idx": range(rows),
            }
        )
        frame.to_parquet(folder / f"{split}-00000-of-00001.parquet", index=False)


def topics_mirror(root, rows=(12, 6), label="label", first=0):
    """A small AG News: labels 0, 1, 2, 3, 0, ... in a column of a name, the first of each file as given."""
    folder = root / "fancyzhx" / "ag_news" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in zip(("train", "test"), rows, strict=True):
        marks = [first, *(i % 4 for i in range(1, count))]
        frame = pd.DataFrame({"text": [f"{split} {i}" for i in range(count)], label: marks})
        frame.to_parquet(folder / f"{split}-00000-of-00001.parquet", index=False)


ODD = "[CLS] a [SEP] b [MASK] [PAD] </s> <s>"  # a text that holds special tokens


def special_tokens(what):
    """How often each special token but [UNK] stands in what a model reads of each split, for an example."""
    from kdnb.models import text

    words = text.load_tokenizer("tiny-small", what)
    names = [name for name in words.all_special_tokens if name != words.unk_token]
    return {
        split: {name: (part.ids == words.convert_tokens_to_ids(name)).sum() / len(part) for name in names}
        for split, part in text.encode("tiny-small", what, 64).items()
    }


def tiny_bert(root, kind="bert"):
    """A random BERT or DistilBERT and its tokenizer, saved the way the hub stores them."""
    from transformers import BertConfig, BertModel, BertTokenizerFast, DistilBertConfig, DistilBertModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "train", "test", "first", "second", *map(str, range(10))]
    if kind == "bert":
        config = BertConfig(
            vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
        )
        encoder, folder = BertModel(config), root / "google-bert" / "bert-base-uncased"
    else:
        config = DistilBertConfig(vocab_size=32, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
        encoder, folder = DistilBertModel(config), root / "distilbert" / "distilbert-base-uncased"
    encoder.save_pretrained(folder)
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    return encoder, folder


def whole_hub(root):
    """What the paper profile needs for MRPC, and beside it what must never be fetched."""
    parquet_mirror(root)
    for kind in ("bert", "distilbert"):
        _, folder = tiny_bert(root, kind)
        for name in ("pytorch_model.bin", "tf_model.h5", "README.md", "onnx/model.onnx"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"\x80\x04N.")
    other = root / "nyu-mll" / "glue" / "cola" / "train-00000-of-00001.parquet"
    other.parent.mkdir()
    other.write_bytes(b"another task")


class HubServer(ThreadingHTTPServer):
    """Serves a folder over loopback as the hub does: listings with git's and LFS's hashes, pinned files, ranges.

    asked: (method, path, Range header) of every request. cut: path -> how many of its bytes the next GET sends
    before the connection breaks. spoil: paths whose content is not what the listing says.
    """

    def __init__(self, root, commits):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.commits, self.asked, self.cut, self.spoil = root, commits, [], {}, set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.asked.append((self.command, path, self.headers.get("Range")))
        found = re.fullmatch(r"(?:api/)?(?:datasets/|models/)?([^/]+/[^/]+)/(tree|resolve)/([^/]+)/?(.*)", path)
        if not found or self.server.commits.get(found[1]) != found[3]:
            return self.reply(404, {"X-Error-Code": "RevisionNotFound"}, b"", body)
        if found[2] == "tree":
            listing = json.dumps([self.entry(found[1], file) for file in self.files(found[1])]).encode()
            return self.reply(200, {"Content-Type": "application/json"}, listing, body)
        return self.send_file(found[1], found[3], found[4], body)

    def files(self, repo):
        return [file for file in sorted((self.server.root / repo).rglob("*")) if file.is_file()]

    def entry(self, repo, file):
        content = file.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry = {"type": "file", "path": file.relative_to(self.server.root / repo).as_posix(), "size": len(content)}
        if file.suffix in (".safetensors", ".parquet"):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return {**entry, "oid": blob}

    def send_file(self, repo, commit, name, body):
        file = self.server.root / repo / name
        if not file.is_file():
            return self.reply(404, {"X-Error-Code": "EntryNotFound"}, b"", body)
        entry, content = self.entry(repo, file), file.read_bytes()
        if name in self.server.spoil:
            content = content[:-1] + bytes([content[-1] ^ 1])
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if wanted := re.match(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self.reply(206, headers, content[start:], body)
        return self.reply(200, headers, content, body, self.server.cut.pop(name, None) if body else None)

    def reply(self, status, headers, content, body, stop=None):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if body:
            self.wfile.write(content[:stop])
        self.close_connection = True
