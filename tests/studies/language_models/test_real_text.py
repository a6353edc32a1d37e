"""The real teacher: its tokenizer out of a GGUF, and the students of it that are committed."""

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from kdnb import paths
from kdnb.core import store as core_store
from kdnb.data import assets
from kdnb.studies.language_models import drafting, drafts, gguf_tokenizer, models, real_drafts, real_text, runs
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.runs import Material
from kdnb.studies.language_models.source import MarkovSource

# What llama.cpp's llama-tokenize (build b8585) gives of a SmolLM2 GGUF, as the tests of OpenTail.Stingray quote it
LLAMA_CPP = {
    "Sum 1234567890 and 42.": [13764, 216, 33, 34, 35, 36, 37, 38, 39, 40, 41, 32, 284, 216, 36, 34, 30],
    "    X": [333, 2273],
    "        X": [415, 2273],
}
MERGES = ["Ġ a", "1 2", "Ċ Ċ", "Ġ Ġ", "t h", "th e", "Ġ the"]


def written(path, split="smollm", model="gpt2"):
    """A GGUF of a Llama without layers, with the vocabulary of a byte-level BPE: two special tokens, GPT-2's 256 bytes,
    some merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|end|>", "<|start|>", *letters, *(merge.replace(" ", "") for merge in MERGES)]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(MERGES)
    for name, number in (("bos", 1), ("eos", 0), ("unk", 0), ("pad", 0)):
        getattr(writer, f"add_{name}_token_id")(number)
    writer.add_chat_template("{{ messages }}")
    writer.add_license("apache-2.0")
    for name, value in {"block_count": 0, "head_count": 2, "head_count_kv": 2, "context_length": 8}.items():
        getattr(writer, f"add_{name}")(value)
    for name in ("embedding_length", "feed_forward_length"):
        getattr(writer, f"add_{name}")(16)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    writer.add_tensor("token_embd.weight", np.ones((len(tokens), 16), np.float32))
    writer.add_tensor("output_norm.weight", np.ones(16, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_tokenizer_splits_each_digit_off_and_keeps_its_special_tokens(tmp_path):
    tokenizer = gguf_tokenizer.read(written(tmp_path / "one.gguf"))
    told = {text: tokenizer.tokenize(text) for text in ("12", "\n\n2", "  1", "the the<|end|>", " a")}
    assert told["12"] == ["1", "2"]  # the merge is never used: no piece holds two digits
    assert told["\n\n2"] == ["ĊĊ", "2"]  # GPT-2's rule alone splits one line end off, which goes with nothing
    assert told["  1"] == ["ĠĠ", "1"]
    assert told["the the<|end|>"] == ["the", "Ġthe", "<|end|>"]
    assert told[" a"] == ["Ġa"]
    assert [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.chat_template] == [1, 0, "{{ messages }}"]


def test_it_is_the_same_when_transformers_has_written_and_read_it(tmp_path):
    tokenizer = gguf_tokenizer.read(written(tmp_path / "one.gguf"))
    tokenizer.save_pretrained(tmp_path / "folder")
    again = AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert models.tokenizer_hash(again) == models.tokenizer_hash(tokenizer)
    text = "It's 2003:\n\n12.5 % é½<|start|>"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.decode(again(text)["input_ids"]) == text


@pytest.mark.parametrize("kind", [{"split": "qwen2"}, {"model": "llama"}])
def test_another_kind_of_tokenizer_is_refused(tmp_path, kind):
    with pytest.raises(ValueError, match="expected a tokenizer gpt2, split as smollm, got"):
        gguf_tokenizer.read(written(tmp_path / "one.gguf", **kind))


def test_the_packaged_teacher_comes_with_its_licence(tmp_path, monkeypatch):
    (tmp_path / "asset").mkdir()
    written(tmp_path / "asset" / "one.gguf")
    monkeypatch.setattr(assets, "asset", lambda _: tmp_path / "asset")
    monkeypatch.setattr(paths, "DATA_CACHE", tmp_path)
    assert models.load("smollm2").licence == "apache-2.0"


@pytest.mark.slow
def test_smollm2_gives_the_ids_that_llama_cpp_gives():
    folder = paths.DATA_CACHE / "built" / f"smollm2-{models._BUILD}"
    if not (folder / "whole").exists():
        pytest.skip("SmolLM2 was not asked for on this machine")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in LLAMA_CPP} == LLAMA_CPP


@pytest.mark.slow
def test_the_committed_students_are_found_whole_and_none_is_trained_again(reference, monkeypatch):
    found = real_text.stored()
    assert set(found) == {(arm, seed) for arm in real_text.ARMS for seed in real_text.SEEDS}
    assert len({(record.config["data"], record.config["held_out"]) for record in found.values()}) == 1
    monkeypatch.setattr(real_text, "stored", lambda: found)
    monkeypatch.setattr(real_text, "material", lambda: pytest.fail("a teacher was loaded"))
    real_text.make()
    table = real_text.table(found).set_index(["arm", "seed"])
    for key, record in found.items():
        nll = record.arrays["nll"].mean(dtype=np.float64)
        assert table.loc[key, "nll"] == pytest.approx(nll, abs=1e-3)
        assert table.loc[key, "perplexity"] == pytest.approx(np.exp(nll), rel=1e-3)


def test_students_of_another_text_are_another_comparison(store):
    same = {"student": "cut-6", "student_weights": "w", "vocabulary": 5, **real_text.BUDGET}
    for data, seeds in (("mine", (0,)), ("theirs", (0, 1))):
        for seed in seeds:
            core_store.write(LMConfig(**same, data=data, held_out="h", seed=seed), {"nll": np.zeros(1)}, {})
    found = real_text.stored()
    assert {key: record.config["data"] for key, record in found.items()} == {("ERM", 0): "theirs", ("ERM", 1): "theirs"}


def test_what_a_cache_loses_is_stored_and_less_where_more_is_kept(reference):
    told = real_text.kept_table().set_index("kept")
    assert list(told.index) == [8, 64]
    assert list(told["bytes a token"]) == [36, 260]
    assert (told.diff().loc[64, ["KL lost", "mass outside", "over a tenth"]] < 0).all()
    assert (told > 0).all().all()


@pytest.mark.slow
def test_what_a_cache_loses_is_the_kl_to_what_it_gives_back(store, monkeypatch):
    """Of a small teacher, from its own logits, by numpy: its largest entries and an even tail, in half precision."""
    teacher = models.from_config(models.CONFIGS["llama-1x32"], 512, seed=1)
    teacher.model.get_output_embeddings().weight.data *= 20
    held = MarkovSource().blocks(3, 16, 1)
    monkeypatch.setattr(real_text, "material", lambda: Material(held, held, teacher))
    found = real_text.measure_kept()
    with torch.no_grad():
        law = (
            teacher.logits(torch.from_numpy(held.ids.astype(np.int64)))[:, :-1]
            .double()
            .softmax(-1)
            .numpy()
            .reshape(45, -1)
        )
    for kept, kl, tail in zip((8, 64), found.arrays["kl"], found.arrays["tail"], strict=True):
        largest = np.argsort(-law, axis=1)[:, :kept]
        inside = np.take_along_axis(law, largest, axis=1)
        back = np.repeat((1 - inside.sum(axis=1, keepdims=True)) / (512 - kept), 512, axis=1)
        np.put_along_axis(back, largest, inside, axis=1)
        np.testing.assert_allclose(kl, (law * np.log(law / back)).sum(axis=1), atol=2e-3)
        np.testing.assert_allclose(tail, 1 - inside.sum(axis=1), atol=1e-3)


@pytest.mark.slow
def test_a_real_target_is_decoded_with_the_drafts_that_were_trained_for_it(store, monkeypatch):
    """Of a small teacher: trained once, found again, and the tables of drafts take the record as any other."""
    values = {**models.CONFIGS["llama-1x32"], "num_hidden_layers": 6}
    teacher = models.from_config(values, 64, seed=1)
    teacher.model.get_output_embeddings().weight.data *= 20
    teacher.model.generation_config.eos_token_id = 3
    text = MarkovSource().blocks(16, 16, 1)
    monkeypatch.setattr(runs, "MODELS", store.parent / "lm")
    monkeypatch.setattr(real_text, "material", lambda: Material(text, text, teacher))
    monkeypatch.setattr(real_drafts, "TOKENS", 240)
    small = {"length": 16, "prompt": 4, "gammas": (1, 2), "streams": 8, "assisted": 2, "gamma": 2}
    made = real_drafts.make(**small)
    with monkeypatch.context() as patch:
        patch.setattr(drafting, "judged", lambda *_: pytest.fail("decoded again"))
        patch.setattr(runs.training, "fit", lambda *_: pytest.fail("trained again"))
        assert real_drafts.make(**small).metrics == made.metrics
    found = real_drafts.stored()
    ((one, record),) = found.items()
    assert set(one.students) <= set(core_store.stored_ids())
    rows = drafts.table(found)
    assert list(rows.arm) == [drafts.START, drafts.BASE, drafts.KD]
    assert len(set(rows.acceptance)) == 3
    calls = drafts.calls(found)
    assert (calls.calls >= 8 * (16 - 4 - 2) / (calls.gamma + 1)).all()  # no text ends before its length
    assert (calls.measured <= calls.gamma + 1).all()
    assert record.metrics["greedy_equal"]
    assert drafts.speed(found).c.item() > 0
