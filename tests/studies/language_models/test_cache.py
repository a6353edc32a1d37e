"""The cache of targets: self-describing, bit for bit the same however it was made, refusing what does not match."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import forked
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save

from kdnb import files
from kdnb.studies.language_models import caching, models, target_cache
from kdnb.studies.language_models.caching import Wanted
from kdnb.studies.language_models.source import MarkovSource
from kdnb.studies.language_models.target_cache import CacheMismatch, Reader

ROWS, LENGTH = 20, 12
FP32 = {"precision": "fp32"}  # what these tests compare with, on every machine


@pytest.fixture(scope="module")
def teacher():
    return models.from_config(models.CONFIGS["llama-1x32"], 64, seed=0)


@pytest.fixture(scope="module")
def blocks():
    return MarkovSource().blocks(ROWS, LENGTH, 0)


@pytest.fixture
def made(teacher, blocks, tmp_path):
    """made(**wanted): a whole cache, its folder."""

    def make(**wanted):
        manifest = caching.manifest_of(teacher, blocks, Wanted(**FP32, **{"kept": 4, "shard_rows": 8, **wanted}))
        folder = target_cache.begin(manifest, blocks, tmp_path / manifest.run_id())
        caching.make_here(folder, lambda: teacher, range(manifest.shards), lambda _: None)
        return folder

    return make


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def laws(teacher, blocks):
    """The teacher's own logits (N, T - 1, V), by its own forward pass."""
    with torch.no_grad():
        return teacher.logits(torch.from_numpy(blocks.ids.astype(np.int64)))[:, :-1]


def test_top_k_targets_are_the_teachers_of_the_example_asked_for(made, teacher, blocks):
    rows = np.array([17, 0, 9])
    target, wanted = Reader(made()).take(rows), laws(teacher, blocks)[rows].reshape(-1, 64).softmax(-1)
    weights, ids = wanted.topk(4)
    assert (target.ids == ids).float().mean() > 0.99  # equal probabilities may swap
    torch.testing.assert_close(target.weights, weights, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(target.tail, 1 - weights.sum(-1), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(target.entropy, torch.special.entr(wanted).sum(-1), atol=5e-3, rtol=1e-3)


def test_hidden_states_give_the_whole_law(made, teacher, blocks):
    rows = np.array([3, 12])
    states = Reader(made(storage="hidden")).states(rows)
    torch.testing.assert_close(teacher.head(states), laws(teacher, blocks)[rows].reshape(-1, 64), atol=5e-3, rtol=5e-3)


def test_draws_depend_on_seed_and_example_alone(made):
    one, other = (Reader(made(storage="sampled", shard_rows=rows)) for rows in (8, 5))
    rows = np.arange(ROWS)
    for name in ("ids", "weights"):
        torch.testing.assert_close(getattr(one.take(rows), name), getattr(other.take(rows), name))
    assert (Reader(made(storage="sampled", seed=1)).take(rows).ids != one.take(rows).ids).any()


@pytest.mark.parametrize("storage", target_cache.STORAGES)
def test_a_shard_is_made_again_bit_for_bit(made, teacher, storage):
    folder = made(storage=storage)
    before = content(folder)
    for name in ("shard-00001.safetensors", "shard-00001.json", "shard-00002.json"):
        (folder / name).unlink()
    assert target_cache.verify(folder).missing == [1, 2]
    with pytest.raises(CacheMismatch, match=r"2 of 3 shards are missing, the first is 1"):
        Reader(folder)
    caching.make_here(folder, lambda: teacher, range(3), lambda _: None)
    assert content(folder) == before
    assert target_cache.verify(folder).whole


def test_verify_names_what_is_corrupt_and_what_is_foreign(made):
    folder = made()
    path = folder / "shard-00000.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    (folder / "notes.txt").write_text("mine")
    reader = Reader(folder)
    with pytest.raises(CacheMismatch, match=r"shard-00000\.safetensors is not what was written"):
        reader.take(np.array([3]))
    assert len(reader.take(np.array([9])).weights) == LENGTH - 1  # another shard's
    found = target_cache.verify(folder)
    assert (found.missing, found.corrupt, found.foreign) == ([], [0], ["notes.txt"])
    (folder / "tokens.safetensors").write_bytes(b"no tokens")
    with pytest.raises(CacheMismatch, match=r"tokens\.safetensors"):
        target_cache.verify(folder)


@pytest.mark.slow
def test_what_a_cache_leaves_out_is_told(made, teacher, blocks):
    law = laws(teacher, blocks).double().softmax(-1)
    outside = 1 - law.topk(4, dim=-1).values.sum(-1)
    told = target_cache.left_out(made())
    assert told["mass_outside"] == pytest.approx(outside.mean().item(), abs=1e-3)
    for bound in (0.1, 0.5):
        assert told[f"over_{bound}"] == pytest.approx((outside > bound).double().mean().item(), abs=0.02)
    assert told["padding_ids"] == 0
    assert target_cache.left_out(made(storage="sampled")) == {"padding_ids": 0}
    assert target_cache.left_out(made(storage="hidden", kept=1)) == {}


def test_entries_of_padding_are_counted(made, blocks):
    folder = made()
    values = json.loads((folder / "manifest.json").read_text())
    small = dataclasses.replace(blocks, vocabulary=60, ids=blocks.ids % 60)
    ids = Reader(folder).take(np.arange(ROWS)).ids
    target_cache.begin(
        target_cache.Manifest(
            **{k: v for k, v in values.items() if k != "kind"} | {"tokenizer_size": 60, "data": small.fingerprint}
        ),
        small,
        folder.with_name("small"),
    )
    for path in folder.glob("shard-*"):
        (folder.with_name("small") / path.name).write_bytes(path.read_bytes())
    assert target_cache.left_out(folder.with_name("small"))["padding_ids"] == (ids >= 60).sum() > 0


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(target_cache.Manifest)])
def test_a_reader_refuses_what_does_not_match_and_says_which_field(made, field):
    folder = made()
    value = getattr(target_cache.read_manifest(folder), field)
    Reader(folder, {field: value})
    with pytest.raises(CacheMismatch, match=rf"^{field}: "):
        Reader(folder, {field: value + 1 if isinstance(value, int | float) else f"not {value}"})


@pytest.mark.parametrize("name", ["manifest.json", "tokens.safetensors", "shard-00000.safetensors"])
def test_a_pipe_in_a_cache_is_told_and_not_waited_for(made, name):
    folder = made()
    (folder / name).unlink()
    os.mkfifo(folder / name)
    if name.startswith("shard"):
        assert target_cache.verify(folder).corrupt == [0]
    else:
        with pytest.raises(CacheMismatch, match=f"{name}.*no ordinary file"):
            target_cache.verify(folder)


def test_another_manifest_or_other_tokens_are_refused(made, teacher, blocks):
    folder = made()
    other = caching.manifest_of(teacher, blocks, Wanted(**FP32, kept=5, shard_rows=8))
    with pytest.raises(CacheMismatch, match="kept: "):
        target_cache.begin(other, blocks, folder)
    with pytest.raises(CacheMismatch, match="data: "):
        target_cache.begin(other, MarkovSource().blocks(ROWS, LENGTH, 1), folder)
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "colour": "red"}))
    with pytest.raises(CacheMismatch, match="no manifest of this format"):
        Reader(folder)
    with pytest.raises(CacheMismatch, match=r"no manifest\.json"):
        Reader(folder / "nowhere")
    with pytest.raises(ValueError, match="tokenizer"):
        caching.manifest_of(dataclasses.replace(teacher, tokenizer=_OtherTokenizer()), blocks, Wanted())


class _OtherTokenizer:
    chat_template = None

    def get_vocab(self):
        return {"a": 0}


@pytest.mark.parametrize(("vocabulary", "size"), [(64, 2), (65_536, 2), (65_537, 3), (151_936, 3)])
def test_ids_take_two_or_three_bytes(vocabulary, size):
    ids = np.array([[0, 1, 255, 256, 65_535, vocabulary - 1]]).clip(max=vocabulary - 1)
    packed = target_cache._packed_ids(ids, vocabulary)
    assert packed.nbytes == ids.size * size
    assert (target_cache._unpacked_ids(packed) == ids).all()


def test_bytes_per_token_are_those_on_disk(made):
    for wanted in ({}, {"storage": "sampled"}, {"storage": "hidden"}):
        folder = made(**wanted)
        shard = folder / "shard-00000.safetensors"
        header = int.from_bytes(shard.read_bytes()[:8], "little") + 8
        tokens = 8 * (LENGTH - 1)
        assert (shard.stat().st_size - header) / tokens == target_cache.read_manifest(folder).bytes_per_token


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"storage": "all"}, "storage must be one of"),
        ({"kept": 64}, "kept must be in"),
        ({"kept": 0}, "kept must be in"),
        ({"shard_rows": 0}, "shard_rows must be >= 1"),
        ({"tau": 0.0}, "tau must be > 0"),
        ({"storage": "hidden", "tau": 2.0}, "tau must be 1"),
    ],
)
def test_mistakes_are_named(teacher, blocks, wanted, words):
    with pytest.raises(ValueError, match=words):
        caching.manifest_of(teacher, blocks, Wanted(**{"kept": 4, **wanted}))


MAKER = """
import sys
from pathlib import Path
from kdnb.studies.language_models import caching, models, target_cache
from kdnb.studies.language_models.source import MarkovSource
teacher, blocks = models.from_config(models.CONFIGS["llama-1x32"], 64, seed=0), MarkovSource().blocks(400, 32, 0)
manifest = caching.manifest_of(teacher, blocks, caching.Wanted(storage="sampled", kept=8, shard_rows=4))
folder = target_cache.begin(manifest, blocks, Path(sys.argv[1]))
caching.make_here(folder, lambda: teacher, range(manifest.shards), lambda line: print(line, flush=True))
print("whole", flush=True)
"""


@pytest.mark.slow
def test_killed_at_random_ten_times_it_ends_with_the_same_bytes(tmp_path):
    def start(folder):
        return forked.Popen([sys.executable, "-c", MAKER, str(folder)], stdout=subprocess.PIPE)

    undisturbed = start(tmp_path / "undisturbed")
    assert undisturbed.communicate()[0].endswith("whole\n")
    rng, kills = np.random.default_rng(), 0
    for _ in range(40):
        process = start(tmp_path / "killed")
        line = process.stdout.readline()  # it is at work
        time.sleep(rng.uniform(0, 0.05))
        if kills < 10 and process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += line.startswith("shard")
        if process.communicate()[0].endswith("whole\n") or line == "whole\n":
            break
    assert kills >= 5
    assert content(tmp_path / "killed").keys() >= content(tmp_path / "undisturbed").keys()
    for name, raw in content(tmp_path / "undisturbed").items():
        assert (tmp_path / "killed" / name).read_bytes() == raw, name
    found = target_cache.verify(tmp_path / "killed")
    assert found.whole


FORGED = {
    "not finite": lambda a: {"weights": a["weights"] * np.float16(np.nan)},
    "below 0": lambda a: {"weights": -a["weights"]},
    "above 1": lambda a: {"weights": a["weights"] * 0 + 5},
    "a tail of 7": lambda a: {"tail": a["tail"] * 0 + 7},
    "ids below 0": lambda a: {"ids": a["ids"].astype(np.int64) * 0 - 1},
    "ids beyond the vocabulary": lambda a: {"ids": a["ids"] * 0 + 64},
    "fewer entries": lambda a: {"ids": a["ids"][..., :2].copy()},
    "fewer sequences": lambda a: {"ids": a["ids"][:2].copy()},
    "an entropy that is none": lambda a: {"entropy": a["entropy"] * np.float16(np.inf)},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_shard_with_its_hash_right_is_found(made, name):
    folder = made()
    path = folder / "shard-00001.safetensors"
    arrays = load_file(path)
    path.write_bytes(save({**arrays, **FORGED[name](arrays)}))
    files.write_json(folder / "shard-00001.json", {"rows": [8, 16], "sha256": files.sha256(path)})
    assert target_cache.verify(folder).corrupt == [1]
    with pytest.raises(CacheMismatch, match=r"shard-00001\.safetensors holds no targets of this cache"):
        Reader(folder).take(np.array([9]))
    assert len(Reader(folder).take(np.array([0])).ids)  # of a shard that is whole
