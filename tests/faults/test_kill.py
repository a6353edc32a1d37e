"""Processes killed at random moments: what was finished stays, nothing is done twice, the end is the same."""

import hashlib
import importlib.util
import json
import random
import re
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import stores
from fakes import WORDS
from victim import LONGEST, Moments, Victim, code_of, trainings_of

from kdnb.data import hub

pytestmark = pytest.mark.faults
TOY = ["--profile", "toy"]
COMPARE = ["compare", "rt", *TOY, "--arms", "erm_small,ls_small,erm_large", "--seeds", "0"]
SEARCH = ["sweep", "search", "--task", "rt", *TOY, "--threads", "1"]  # 16 runs in 8 trainings
THREE = """
from kdnb.studies import registry
every = registry.notebooks
registry.notebooks = lambda profile: [step for step in every(profile) if step[0][:2] in ("20", "30")]
from kdnb.cli.main import main; main()
"""
OFTEN = """
from kdnb.studies.language_models import runs
runs.ensure.__kwdefaults__["save_every"] = 0.0
from kdnb.cli.main import main; main()
"""


def torment(make, undisturbed, kills, seconds, rng, also=lambda victim: 0):
    """Kill a command at random moments so many times, with fresh stores as often as it ends; what came of it.

    Args:
        make: (name) -> a Victim on a new store.
        undisturbed: the content of the store that nothing disturbed; a store that ended must have the same.
        kills: how many.
        seconds: that the undisturbed one took.
        rng: of the moments.
        also: (victim) -> number of corrupted things that are no runs, looked for after each kill.
    Returns:
        injected, lost, repeated, corrupted, for the table.
    """
    counts = {"injected": 0, "lost": 0, "repeated": 0, "corrupted": 0}
    trainings, rounds, moments = undisturbed["trainings"], 0, Moments(rng, seconds)
    while counts["injected"] < kills:
        rounds += 1
        victim, before, ended = make(f"round-{rounds}"), {}, False
        while not ended:
            begun, whole = len(victim.begun()), victim.wholly_stored(trainings)
            running = [victim.start(words) for words in victim.commands]
            alive = moments.reached(running) if counts["injected"] < kills else []
            if alive:
                rng.choice(alive).kill()
                counts["injected"] += 1
            for process in running:
                process.wait(LONGEST)
            ended = all(process.returncode == 0 for process in running)
            assert {process.returncode for process in running} <= {0, -signal.SIGKILL}, victim.said()
            assert not stores.orphans(victim.outputs), "a process outlived the one that started it"
            assert not stores.held(victim.outputs)
            counts["repeated"] += len(whole.intersection(victim.begun()[begun:]))
            counts["corrupted"] += len(stores.verified(victim.outputs)) + also(victim)
            now = stores.marks(victim.outputs)
            counts["lost"] += len(before.keys() - now.keys())
            counts["repeated"] += sum(now[name] != mark for name, mark in before.items() if name in now)
            before = now
        found = stores.content(victim.outputs)
        counts["lost"] += len(undisturbed["content"].keys() - found.keys())
        counts["corrupted"] += sum(found.get(name, raw) != raw for name, raw in undisturbed["content"].items())
        shutil.rmtree(victim.folder)
    return counts


def undisturbed(victim):
    """Content and trainings of a store after one pass without a fault, and the seconds that took."""
    seconds = victim.run()
    assert not stores.verified(victim.outputs)
    return {"content": stores.content(victim.outputs), "trainings": trainings_of(victim.outputs)}, seconds


def campaign(tmp_path, kills, *commands, also=None, seed=0, **options):
    """An undisturbed pass and the kills; counts for the table."""

    def make(name):
        return Victim(tmp_path / name, *commands, **options)

    plain, seconds = undisturbed(make("undisturbed"))
    return torment(make, plain, kills, seconds, random.Random(seed), also or (lambda victim: 0))


def torment_files(make, words, there, kills, at_least):
    """The same of a command that makes files and no runs.

    Args:
        make: (name) -> a Victim in a new folder.
        words: the command.
        there: (victim) -> {name: (mark, bytes)} of the files that count as there.
        kills: how many.
        at_least: number of files that an undisturbed pass makes.
    Returns:
        injected, lost, repeated, corrupted, for the table.
    """
    counts, rng = {"injected": 0, "lost": 0, "repeated": 0, "corrupted": 0}, random.Random(0)
    plain = make("undisturbed")
    moments = Moments(rng, plain.run())
    wanted = {name: raw for name, (_, raw) in there(plain).items()}
    assert len(wanted) >= at_least
    assert b"corrupt" not in wanted.values()
    while counts["injected"] < kills:
        victim, before, ended = make(f"round-{counts['injected']}"), {}, False
        while not ended:
            process = victim.start(words)
            if counts["injected"] < kills and moments.reached([process]):
                process.kill()
                counts["injected"] += 1
            process.wait(LONGEST)
            assert process.returncode in (0, -signal.SIGKILL), victim.said()
            ended = process.returncode == 0
            now = there(victim)
            counts["lost"] += len(before.keys() - now.keys())
            counts["repeated"] += sum(now[name][0] != mark for name, (mark, _) in before.items() if name in now)
            counts["corrupted"] += sum(raw != wanted.get(name) for name, (_, raw) in now.items())
            before = now
        counts["lost"] += len(wanted.keys() - now.keys())
        shutil.rmtree(victim.folder)
    return counts


TRAIN = ["train", "rt", *TOY, "--method", "kd", "--teacher", "large"]


def test_train(tmp_path, share, told):
    told("Kill", "SIGKILL in `kdnb train`", **campaign(tmp_path, share(20), TRAIN))


def test_train_keeping_weights(tmp_path, share, told):
    """Weights are no part of a run; those that are there are whole."""

    def broken(victim):
        folder, count = victim.outputs / "weights", 0
        for manifest in folder.glob("[!.]*/kept.json"):
            for name, digest in json.loads(manifest.read_text())["files"].items():
                count += hashlib.sha256((manifest.parent / name).read_bytes()).hexdigest() != digest
        return count + sum(not (one / "kept.json").exists() for one in folder.glob("[!.]*"))

    words = ["train", "rt", *TOY, "--keep-weights"]
    told("Kill", "SIGKILL in `kdnb train --keep-weights`", **campaign(tmp_path, share(15), words, also=broken))


def test_sweep(tmp_path, share, told):
    told("Kill", "SIGKILL in `kdnb sweep`, inline", **campaign(tmp_path, share(40), SEARCH))


def test_shards(tmp_path, share, told):
    """One of two shards on one store is killed, the other goes on; started again they share the rest."""
    shards = [[*SEARCH, "--engine", "shard", "--shard", f"{i}/2"] for i in (1, 2)]
    told("Kill", "SIGKILL in one of two shards", **campaign(tmp_path, share(30), *shards))


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed (extra [cluster])")
def test_ray(tmp_path, share, told):
    """The driver is killed; what it started ends with it."""
    words = [*SEARCH, "--engine", "ray", "--workers", "1"]
    counts = campaign(tmp_path, share(4), words, real=True)
    for left in Path("/tmp").glob("kdnb-ray-*"):
        if not Path("/proc", left.name.split("-")[2]).exists():  # of a driver that is gone
            shutil.rmtree(left, ignore_errors=True)
    told("Kill", "SIGKILL in the driver of a sweep on Ray", **counts)


def test_workers(tmp_path, share, told):
    """Worker processes end with the one that started them, however that ended."""
    words = [*COMPARE, "--workers", "2"]
    told("Kill", "SIGKILL in `kdnb compare --workers 2`", **campaign(tmp_path, share(6), words, real=True))


def test_study(tmp_path, share, told):
    """Two notebooks, of which one trains, and the report; kernels end with the process that started them."""

    def broken(victim):
        count = 0
        for path in (victim.outputs / "executed").glob("[!.]*.ipynb"):
            count += "cells" not in json.loads(path.read_text())
        report = victim.outputs / "report.html"
        return count + (report.exists() and not report.read_text().rstrip().endswith("</html>"))

    counts = campaign(tmp_path, share(10), ["study", *TOY], begin=code_of(THREE), also=broken)
    told("Kill", "SIGKILL in `kdnb study` (two notebooks and the report)", **counts)


def test_report(tmp_path, share, told):
    """The page is the one before or the new one, never a part."""
    runs = Victim(tmp_path / "runs", ["compare", "rt", *TOY, "--seeds", "0"])
    runs.run()
    words, pages = ["report", *TOY], []

    def make(name):
        victim = Victim(tmp_path / name, words)
        shutil.copytree(runs.outputs / "runs", victim.outputs / "runs")
        shutil.copytree(runs.outputs / "labels", victim.outputs / "labels")
        return victim

    plain = make("undisturbed")
    content, seconds = undisturbed(plain)
    pages.append((plain.outputs / "report.html").read_bytes())

    def broken(victim):
        page = victim.outputs / "report.html"
        return page.exists() and page.read_bytes() != pages[0]

    told("Kill", "SIGKILL in `kdnb report`", **torment(make, content, share(15), seconds, random.Random(0), broken))


def test_fetch(tmp_path, share, told):
    """What is in the data cache is what the manifest says, or not there; a file that is whole is fetched once."""
    from hub_folder import whole_hub

    whole_hub(tmp_path / "hub")
    words = ["fetch", "--profile", "paper", "--tasks", "mrpc"]

    def make(name):
        cache = {"KDNB_HUB": str(tmp_path / "hub"), "KDNB_DATA_CACHE": str(tmp_path / name / "cache")}
        return Victim(tmp_path / name, words, environment=cache)

    def lying(victim):
        """File -> its mark and bytes, of those that a manifest vouches for and that are as it says."""
        found = {}
        for manifest in (victim.folder / "cache").rglob(hub.MANIFEST):
            for name, entry in json.loads(manifest.read_text())["files"].items():
                path = manifest.parent / name
                if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]:
                    found[str(path.relative_to(victim.folder))] = (path.stat().st_ino, path.read_bytes())
        return found

    counts = torment_files(make, words, lying, share(20), at_least=9)
    told("Kill", "SIGKILL in `kdnb fetch`", **counts)


def test_corpus(tmp_path, share, told):
    """Every shard that a manifest has is whole, is written once, and is what the undisturbed pass wrote."""
    corpus = tmp_path / "hub" / "some" / "corpus"
    corpus.mkdir(parents=True)
    for name in ("first", "second"):
        pd.DataFrame({"text": [f"{name} {i}" for i in range(150)]}).to_parquet(corpus / f"{name}.parquet", index=False)
    words = ["lm", "fetch", f"some/corpus@{'0' * 40}", "--documents", "0", "--shard", "10"]

    def make(name):
        cache = {"KDNB_HUB": str(tmp_path / "hub"), "KDNB_DATA_CACHE": str(tmp_path / name / "cache")}
        return Victim(tmp_path / name, words, environment=cache)

    def shards(victim):
        """Name -> mark and bytes of the shards that count as there."""
        found = {}
        for manifest in (victim.folder / "cache").rglob("manifest.json"):
            for one in json.loads(manifest.read_text())["shards"]:
                path = manifest.parent / one["name"]
                good = hashlib.sha256(path.read_bytes()).hexdigest() == one["sha256"]
                found[path.name] = (path.stat().st_ino, path.read_bytes() if good else b"corrupt")
        return found

    told("Kill", "SIGKILL in `kdnb lm fetch`", **torment_files(make, words, shards, share(10), at_least=30))


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """A folder with a tiny teacher and a file of text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from kdnb.studies.language_models import models as language_models

    root = tmp_path_factory.mktemp("language")
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<unk>", "<eos>", ".", *WORDS])}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>")
    values = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
    one = language_models.from_config(values, 32, 0, tokenizer)
    one.model.save_pretrained(root / "teacher")
    tokenizer.save_pretrained(root / "teacher")
    rng = random.Random(0)
    lines = [json.dumps({"text": " ".join(rng.choices(WORDS, k=80)) + " ."}) for _ in range(60)]
    (root / "mine.jsonl").write_text("\n".join(lines) + "\n")
    return ["--teacher", str(root / "teacher"), "--data", str(root / "mine.jsonl"), "--length", "32"]


def test_cache(tmp_path, share, told, language):
    """Every shard that is there is whole, is made once, and is what the undisturbed pass made."""
    words = ["lm", "cache", "make", *language, "--kept", "8", "--shard-rows", "4"]

    def shards(victim):
        """Name -> mark and bytes of the shards that count as there."""
        found = {}
        for told in (victim.outputs / "targets").glob("targets-*/shard-*.json"):
            shard = told.with_suffix(".safetensors")
            good = hashlib.sha256(shard.read_bytes()).hexdigest() == json.loads(told.read_text())["sha256"]
            found[shard.name] = (shard.stat().st_ino, shard.read_bytes() if good else b"corrupt")
        return found

    counts = torment_files(lambda name: Victim(tmp_path / name, words), words, shards, share(15), at_least=6)
    told("Kill", "SIGKILL in `kdnb lm cache make`", **counts)


def student(language):
    return ["lm", "train", "--student", "cut-1", *language, "--tokens", "12000", "--batch-size", "4", "--alpha", "0.5"]


def test_language_model(tmp_path, share, told, language):
    """It goes on from its last state, and the student's weights at the end are the undisturbed ones."""
    counts = campaign(tmp_path, share(15), student(language), begin=code_of(OFTEN))
    told("Kill", "SIGKILL in `kdnb lm train`", **counts)


# SIGINT and SIGTERM: one line, a state to go on from, and nobody left behind

STOPPED = "kdnb: stopped; finished runs are kept, start again to go on"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
STOPS = {  # name -> the words, and how a process of it begins
    "train": (TRAIN, {}),
    "sweep": (SEARCH, {}),
    "ray": ([*SEARCH, "--engine", "ray", "--workers", "1"], {"real": True}),
    "workers": ([*COMPARE, "--workers", "2"], {"real": True}),
    "notebook": (["run", "20_finetune", "-p", "profile=toy"], {}),
    "cache": (None, {}),
    "language model": (None, {}),
}


@pytest.mark.parametrize("name", STOPS)
@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_stop(tmp_path, share, told, language, name, number):
    """At a random moment after the first sign of work."""
    words, options = STOPS[name]
    if name == "ray" and not importlib.util.find_spec("ray"):
        pytest.skip("Ray is not installed (extra [cluster])")
    if name == "cache":
        words = ["lm", "cache", "make", *language, "--kept", "8", "--shard-rows", "4"]
    if name == "language model":
        words = student(language)
    rng, lost, unclear, kills = random.Random(0), 0, 0, share(2 if options or name == "notebook" else 6)
    plain = Victim(tmp_path / "undisturbed", words, **options)
    moments, stopped, rounds = Moments(rng, plain.run() / 2), 0, 0
    while stopped < kills and rounds < 10 * kills:
        rounds += 1
        victim = Victim(tmp_path / f"round-{rounds}", words, **options)
        process = victim.start(words)
        until = time.monotonic() + LONGEST
        while not victim.at_work() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)  # before, it may be reading its first import
        if not moments.reached([process]):
            process.wait(LONGEST)
            continue
        before = stores.marks(victim.outputs)
        process.send_signal(number)
        asked = time.monotonic()
        process.wait(LONGEST)
        if process.returncode == 0:  # it had just ended
            continue
        stopped += 1
        assert process.returncode == CODES[number], victim.said()
        assert time.monotonic() - asked < 30, "it went on"
        said = [line for line in victim.told.read_text().splitlines() if line.strip()]
        unclear += said[-1] != STOPPED or said.count(STOPPED) != 1 or "Traceback" in victim.told.read_text()
        assert not unclear, victim.told.read_text()
        assert not stores.orphans(victim.outputs)
        assert not stores.held(victim.outputs)
        assert not stores.verified(victim.outputs)
        lost += len(before.keys() - stores.marks(victim.outputs).keys())
        if name == "language model":
            states = list((victim.outputs / "lm").glob("*/state.safetensors"))
            assert states or not re.search(r"step", victim.said())
        victim.run()
        lost += stores.content(victim.outputs) != stores.content(plain.outputs)
        shutil.rmtree(victim.folder)
    told("Kill", f"{number.name} in: {name}", stopped, lost=lost, unclear=unclear)
