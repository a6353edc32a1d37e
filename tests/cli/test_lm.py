"""`kdnb lm` on a folder with a model and a file of text: check, cache, train, export, and what it refuses."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import typer
from command import forked_process, last_json, process
from fakes import WORDS
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from kdnb import paths
from kdnb.cli import lm as lm_commands
from kdnb.studies.language_models import checks
from kdnb.studies.language_models import models as language_models
from kdnb.studies.language_models.text import documents


def tokenizer(words=WORDS):
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<eos>", ".", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>")


def folder(path, rows, words=WORDS, seed=0):
    """A model of some rows in its head, with its tokenizer."""
    values = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
    one = language_models.from_config(values, rows, seed, tokenizer(words))
    one.model.save_pretrained(path)
    one.tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A file of 60 documents."""
    path = tmp_path_factory.mktemp("text") / "mine.jsonl"
    draws = torch.randint(len(WORDS), (60, 80), generator=torch.Generator().manual_seed(0)).tolist()
    lines = [json.dumps({"text": " ".join(WORDS[i] for i in row) + " ."}) for row in draws]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("models") / "teacher", rows=32)


@pytest.fixture
def lm(kdnb, monkeypatch, tmp_path):
    """lm(*words): kdnb lm in this process."""
    from kdnb.studies.language_models import export, runs, target_cache

    for module in (runs, export):
        monkeypatch.setattr(module, "MODELS", tmp_path / "lm")
    monkeypatch.setattr(target_cache, "FOLDER", tmp_path / "targets")
    return lambda *words: kdnb("lm", *words)


@pytest.mark.slow
def test_a_pair_that_fits(lm, teacher, text, tmp_path):
    student = folder(tmp_path / "student", rows=40, seed=1)
    code, out, err = lm("check", teacher, student, "--data", text, "--length", 16, "--json")
    assert code == 0, err
    found = {one["what"]: one for one in last_json(out)["findings"]}
    assert "the law of the first 32 is learned" in found["vocabulary"]["why"]
    assert "perplexity" in found["teacher's likelihood"]["why"]
    assert all(one["fits"] is not False for one in found.values())


@pytest.mark.slow
def test_another_tokenizer_is_refused_with_its_reason(lm, teacher, tmp_path):
    other = folder(tmp_path / "other", rows=32, words=WORDS[::-1])
    code, out, err = lm("check", teacher, other)
    assert code == 2
    assert "tokens have another id or none" in err
    assert "GOLD" in err
    assert "DOES NOT FIT" in out
    small = folder(tmp_path / "small", rows=10)
    code, _, err = lm("check", teacher, small)
    assert code == 2
    assert "vocabulary" in err


@pytest.mark.parametrize(
    ("card", "config", "told"),
    [
        (b"---\nlicense: mit\n---\n# A card", {"license": "bsd"}, "mit"),
        (b"---\nlicense: other\nlicense_name: llama3.2\n---\n", {}, "llama3.2"),
        (b"---\nlicense: [mit, apache-2.0]\n---\n", {}, "mit, apache-2.0"),
        (b"license: in a sentence", {}, ""),
        (b"---\nlicense: [mit\n---\n", {"license": "bsd\x1b"}, "bsd\\x1b"),
        (b"\xff\xfe", {}, ""),
        (None, {"license": "apache-2.0"}, "apache-2.0"),
        (None, None, ""),
    ],
)
def test_a_licence_is_the_cards_else_the_configs(tmp_path, card, config, told):
    if card is not None:
        (tmp_path / "README.md").write_bytes(card)
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert language_models.licence(tmp_path) == told


def test_both_licences_are_told_or_that_none_is(lm, teacher, tmp_path):
    """A cut has its teacher's; they are to be known, and stand in no way."""
    licensed = shutil.copytree(teacher, tmp_path / "licensed")
    (licensed / "README.md").write_text("---\nlicense: mit\n---\n")
    for student, told in (("cut-1", "licensed cut to 1 layers: mit"), (teacher, "teacher: none is told")):
        code, out, err = lm("check", licensed, student)
        assert code == 0, err
        assert f"note         licence: licensed: mit, {told}\n" in out


def test_a_teacher_whose_law_lies_in_rows_that_are_cut_off_is_refused():
    """A head of 40 rows beside one of 32, the rows beyond either dead, as padding is, or likely."""
    values = {"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
    student = language_models.from_config(values, 32, 0, tokenizer())
    for push, fits in ((-50.0, True), (50.0, False)):
        teacher = language_models.from_config(values, 40, 1, tokenizer())
        head = torch.nn.Linear(16, 40)
        head.weight.data.zero_()
        head.bias.data.copy_(torch.arange(40) // 32 * push)
        teacher.model.set_output_embeddings(head)
        found = {one.what: one for one in checks.check(teacher, student)}
        assert found["mass cut off"].fits is fits
        assert f"at most {1 / (1 + 4 * torch.tensor(-push).exp()):.1e}" in found["mass cut off"].why


def test_capped_logits_are_refused(teacher):
    one = language_models.load(teacher)

    class Capped(torch.nn.Module):
        def forward(self, **inputs):
            out = one.model(**inputs)
            out.logits = 2 * torch.tanh(5 * out.logits)
            return out

    capped = Capped()
    capped.base_model, capped.get_output_embeddings = one.model.base_model, one.model.get_output_embeddings
    with pytest.raises(ValueError, match="are not its head applied"):
        language_models.check_head(dataclasses.replace(one, model=capped))


TRAIN = ("--student", "cut-1", "--length", "16", "--tokens", "1200", "--batch-size", "4", "--kept", "8")


@pytest.mark.slow
def test_train_export_and_load(lm, teacher, text, tmp_path):
    words = ("train", "--teacher", teacher, "--data", text, *TRAIN, "--alpha", "0.9", "--targets", "cache", "--json")
    code, out, err = lm(*words)
    assert code == 0, err
    assert "kl where the teacher has" in out
    assert re.findall(r"kl after (\d+) to (\d+) tokens", out) == [("1", "1"), ("2", "3"), ("4", "7"), ("8", "15")]
    result = last_json(out)
    assert {"perplexity", "entropy", "kl", "acceptance", "ece", "agreement"} <= set(result)
    again = last_json(lm(*words)[1])
    assert again == result
    target = tmp_path / "mine"
    assert lm("export", result["run_id"], target)[0] == 0
    student = AutoModelForCausalLM.from_pretrained(target)
    assert len(student.model.layers) == 1
    card = (target / "README.md").read_text()
    assert "tau squared" in card
    assert f"{result['perplexity']:.4g}" in card
    main, words = AutoModelForCausalLM.from_pretrained(teacher), AutoTokenizer.from_pretrained(target)
    ids = words("the sun shines", return_tensors="pt").input_ids
    draft = {"assistant_model": student, "do_sample": False, "max_new_tokens": 8, "pad_token_id": 0}
    plain = main.generate(ids, do_sample=False, max_new_tokens=8, pad_token_id=0)
    assert (main.generate(ids, **draft) == plain).all()
    code, _, err = lm("export", result["run_id"], target)
    assert code == 2
    assert "expected a new or an empty folder" in err


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--alpha", "0.1", "--divergence", "uniform")], ids=["erm", "ls"])
def test_students_without_a_teachers_law(lm, teacher, text, more):
    result = last_json(lm("train", "--teacher", teacher, "--data", text, *TRAIN, *more, "--json")[1])
    assert result["run_id"].startswith("lm-ls" if more else "lm-erm")


@pytest.mark.slow
def test_on_its_own_words_its_length_is_told_beside_its_teachers(lm, teacher, text):
    words = ("--alpha", "1", "--targets", "on_policy", "--prompt", "4", "--divergence", "reverse_kl", "--json")
    code, out, err = lm("train", "--teacher", teacher, "--data", text, *TRAIN, *words)
    assert code == 0, err
    told = last_json(out)
    for name in ("length_ratio", "sampled_length_ratio"):
        assert (f"ALARM, {name}" in out) == (not 0.5 <= told[name] <= 2)


def make(lm, teacher, text, *more):
    return lm("cache", "make", "--teacher", teacher, "--data", text, "--length", "16", "--kept", "8", *more, "--json")


@pytest.mark.parametrize("storage", ["top_k", "hidden"])
@pytest.mark.parametrize("words", [("--exponent", "0.5"), ("--seed", "3")])
def test_settings_of_draws_are_refused_where_none_are_made(lm, teacher, text, storage, words):
    code, _, err = make(lm, teacher, text, "--storage", storage, *words)
    assert (code, err) == (2, f"kdnb: {words[0]} is of draws: --storage sampled, got {storage}\n")


@pytest.mark.slow
def test_the_cache_of_a_command(lm, teacher, text, tmp_path):
    code, out, err = make(lm, teacher, text, "--shard-rows", "32")
    assert code == 0, err
    told = last_json(out)
    before = {name: (tmp_path / "targets" / told["folder"] / name).read_bytes() for name in os.listdir(told["folder"])}
    assert lm("cache", "verify", told["folder"])[0] == 0
    for shard in (0, 1):
        (tmp_path / "targets" / told["folder"] / f"shard-{shard:05d}.json").unlink()
    code, out, err = lm("cache", "verify", told["folder"])
    assert code == 2
    assert "2 shards missing" in err
    for i in (2, 1):
        assert make(lm, teacher, text, "--shard-rows", "32", "--engine", "shard", "--shard", f"{i}/2")[0] == 0
    after = {name: (tmp_path / "targets" / told["folder"] / name).read_bytes() for name in os.listdir(told["folder"])}
    assert after == before
    moved = tmp_path / "moved"
    shutil.copytree(told["folder"], moved)
    shutil.rmtree(told["folder"])
    words = ("train", "--teacher", teacher, "--data", text, *TRAIN, "--alpha", "1", "--cache", moved, "--json")
    trained = last_json(lm(*words)[1])
    assert trained["run_id"].startswith("lm-kd")
    assert not Path(told["folder"]).exists()  # the teacher did not read the text anew
    code, _, err = lm(*words, "--targets", "online")
    assert code == 2
    assert "a cache is for targets cache, got targets online" in err
    shutil.copytree(moved, told["folder"])
    broken = tmp_path / "targets" / told["folder"] / "shard-00000.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1] + b"\x07")
    code, out, err = lm("cache", "verify", told["folder"])
    assert code == 2
    assert "corrupt: 0" in out


@pytest.mark.slow
def test_ray_makes_the_same_cache(teacher, text, tmp_path):
    pytest.importorskip("ray")
    words = ["lm", "cache", "make", "--teacher", teacher, "--data", text, "--length", "16", "--kept", "8", "--json"]
    found = {}
    for engine in (["--engine", "inline", "--threads", "1"], ["--engine", "ray", "--workers", "1", "--threads", "1"]):
        begin = process if "ray" in engine else forked_process
        done = begin(*words, *engine, "--shard-rows", "100", outputs=tmp_path / engine[1])
        assert done.returncode == 0, done.stderr
        where = last_json(done.stdout)["folder"]
        found[engine[1]] = {path.name: path.read_bytes() for path in sorted(Path(where).iterdir())}
    assert found["inline"] == found["ray"]


def test_the_commands_of_the_page_are_commands():
    """Each word of docs/language_models.md that begins with `kdnb lm` and each option it names is there."""
    page = (paths.ROOT / "docs" / "language_models.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    kdnb lm ([^#\n]*)", page, re.MULTILINE)
    root, seen = typer.main.get_command(lm_commands.app), set()
    for line in lines:
        command, words = root, line.split()
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        options = {name for one in command.params for name in one.opts}
        assert {word for word in words if word.startswith("--")} <= options, line
        seen.add(command.name)
    assert seen == {"fetch", "check", "plan", "make", "verify", "train", "export"}
    train = {name for one in root.commands["train"].params for name in one.opts}
    assert set(re.findall(r"`(--[a-z-]+)", page)) <= train | {"--engine"}
    for other in ("TRL", "NVIDIA Model Optimizer", "speculators", "DistillKit", "lm-evaluation-harness"):
        assert other in page.split("## What is left out")[1]


def test_what_a_cache_takes(lm):
    words = ("--tokens", "1000000000", "--vocabulary", "32000", "--width", "4096", "--length", "1000001")
    told = last_json(lm("cache", "plan", *words, "--json")[1])
    assert told["top_k"]["bytes_per_token"] == 260
    assert told["hidden"]["bytes_per_token"] == 8192
    assert told["top_k"]["dense_bytes"] == pytest.approx(64e12, rel=1e-2)


def test_what_a_distillation_costs(lm):
    words = ("plan", "--teacher", "70e9", "--student", "7e9", "--tokens", "1e9", "--vocabulary", "32000", "--json")
    code, out, err = lm(*words)
    assert code == 0, err
    told = last_json(out)
    assert told["flops"]["online"] / told["flops"]["ERM"] == pytest.approx(13 / 3)
    assert told["disk"]["whole law, float16"] == 64_000
    assert "64,000.0 GB on disk" in out
    code, _, err = lm(*words[:-1], "--device", "H10")
    assert code == 2
    assert "device must be one of H100, H200, A100, got 'H10'" in err


MISTAKES = {
    "no such file": (("--data", "nowhere.txt"), "no such file or folder"),
    "no such column": (("--column", "body"), "no column 'body'"),
    "too short": (("--length", "100000"), "fewer than one sequence"),
    "storage": (("--alpha", "1", "--targets", "cache", "--storage", "all"), "storage must be one of"),
    "divergence": (("--alpha", "1", "--divergence", "kl"), "divergence must be one of"),
    "variant": (
        ("--alpha", "1", "--targets", "cache", "--divergence", "reverse_kl", "--variant", "renorm"), "tail_bucket",
    ),
    "sampled": (("--alpha", "1", "--targets", "cache", "--variant", "sampled"), "goes with storage sampled alone"),
    "no weight": (("--divergence", "reverse_kl"), "whose weight alpha is 0"),
    "kernel": (("--kernel", "liger", "--alpha", "1", "--divergence", "tv"), "kernel liger"),
    "layers": (("--student", "cut-9"), "a cut keeps 1 to 2 layers"),
    "student": (("--student", "cut6"), "no such folder"),
    "teacher": (("--teacher", "org/model"), "named with its commit"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(lm, teacher, text, tmp_path, name):
    more, words = MISTAKES[name]
    given = {
        "--teacher": teacher,
        "--data": text,
        "--student": "cut-1",
        "--length": "16",
        "--tokens": "1200",
        "--kept": "8",
    }
    given |= dict(zip(more[::2], more[1::2], strict=True))
    code, _, err = lm("train", *(word for pair in given.items() for word in pair))
    assert not (tmp_path / "targets").exists()  # the teacher has not read the text for nothing
    assert code == 2
    assert words in err
    assert err.startswith("kdnb: ")
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "values",
    [{}, {"hidden_size": "wide"}, {"hidden_size": 16, "num_attention_heads": 3}],
    ids=["none", "word", "heads"],
)
def test_a_config_that_makes_no_model_is_one_line(lm, teacher, tmp_path, values):
    (tmp_path / "student.json").write_text(json.dumps({"model_type": "llama", **values}))
    code, _, err = lm("check", teacher, tmp_path / "student.json")
    assert code == 2
    assert "no configuration of a language model" in err
    assert len(err.strip().splitlines()) == 1


def test_parts_of_one_file_are_documents(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("one\ntwo\n\nthree\n \n\nfour\n")
    assert documents(str(path)) == ["one\ntwo", "three", "four\n"]


def test_an_unknown_run_is_not_exported(lm, tmp_path):
    code, _, err = lm("export", "lm-kd-s0-000000000000", tmp_path / "out")
    assert code == 2
    assert "no run" in err


@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
def test_what_is_no_file_in_a_folder_of_texts_is_told_and_not_waited_for(tmp_path, what):
    (tmp_path / "a.txt").write_text("a text")
    odd = tmp_path / "b.txt"
    {"pipe": lambda: os.mkfifo(odd), "device": lambda: odd.symlink_to("/dev/zero"), "folder": odd.mkdir}[what]()
    with pytest.raises(ValueError, match=r"b\.txt: (no ordinary file|a folder), expected a file"):
        documents(str(tmp_path))


def test_line_ends_of_a_text_are_one_sign(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\r")
    assert documents(str(tmp_path / "a.txt")) == ["one\ntwo", "three\n"]
