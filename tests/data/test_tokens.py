"""Token ids and batches: every row once, padding where it belongs, the same logits in any batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdnb.core.batches import BUCKET, plan_batches, sorted_batches
from kdnb.core.predict import predict
from kdnb.data import splits
from kdnb.data.tokens import Tokens, take_for_text, takes_for_tokens, tokenize
from kdnb.models import text

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=200).map(np.array)


def tokens_of(examples, second=None, pad_id=0):
    ids = np.concatenate([np.array(example, dtype=np.int32) for example in examples])
    lengths = [len(example) for example in examples]
    return Tokens(ids, np.concatenate([[0], np.cumsum(lengths)]), np.array(second or lengths), pad_id)


def unigram():
    """A tokenizer of XLM-R's kind with a piece for each sign of its special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = [*((name, 0.0) for name in names), ("▁", -3.0), *((sign, -6.0) for sign in "ab<>/spdmkun")]
    backend = Tokenizer(models.Unigram(pieces, 3, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    roles = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=backend, **dict(zip(roles, names, strict=True)))


@pytest.mark.slow
@given(LENGTHS, st.integers(1, 40), st.integers(0, 99))
def test_an_epoch_has_every_row_once(lengths, batch_size, seed):
    batches = plan_batches(lengths, batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    sizes = sorted(map(len, batches))
    assert all(size == batch_size for size in sizes[1:])
    assert 0 < sizes[0] <= batch_size


def test_an_epoch_is_drawn_by_its_generator():
    lengths = np.random.default_rng(0).integers(5, 50, 300)

    def order(seed):
        return np.concatenate(plan_batches(lengths, 8, np.random.default_rng(seed))).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_batches_of_like_lengths_pad_little():
    lengths = np.random.default_rng(0).integers(5, 100, 16 * BUCKET)
    batches = plan_batches(lengths, 16, np.random.default_rng(1))
    padded = sum(len(rows) * lengths[rows].max() for rows in batches)
    assert padded < 1.1 * lengths.sum()
    at_random = np.random.default_rng(1).permutation(len(lengths)).reshape(-1, 16)
    assert sum(16 * lengths[rows].max() for rows in at_random) > 1.5 * lengths.sum()


@given(LENGTHS, st.integers(60, 500))
def test_evaluation_batches_cover_every_row_within_the_budget(lengths, most):
    batches = sorted_batches(lengths, most)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert all(len(rows) * lengths[rows].max() <= most for rows in batches)


def test_an_example_longer_than_the_budget_is_a_batch_of_its_own():
    batches = sorted_batches(np.array([5, 900, 7]), 100)
    assert [sorted(rows) for rows in batches] == [[0, 2], [1]]


def test_a_batch_is_padded_to_the_longest_of_the_batch():
    tokens = tokens_of([[1, 2, 3, 4, 5], [6, 7], [8, 9, 10]], second=[3, 2, 2], pad_id=99)
    batch = tokens.batch(np.array([2, 1]))
    assert batch["input_ids"].tolist() == [[8, 9, 10], [6, 7, 99]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert {part.dtype for part in batch.values()} == {torch.int64}
    assert tokens.batch(np.array([0]))["token_type_ids"].tolist() == [[0, 0, 0, 1, 1]]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=10), st.data())
def test_a_batch_returns_what_was_put_in(examples, draw):
    rows = np.array(draw.draw(st.lists(st.integers(0, len(examples) - 1), min_size=1, max_size=6)))
    batch = tokens_of(examples, pad_id=-1).batch(rows)
    for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
        assert ids[mask.bool()].tolist() == examples[row]
        assert (ids[~mask.bool()] == -1).all()


def test_taken_rows_stand_in_the_order_asked_for():
    tokens = tokens_of([[1, 2, 3], [4], [5, 6]], second=[1, 1, 2], pad_id=7).take(np.array([2, 0]))
    assert tokens.ids.tolist() == [5, 6, 1, 2, 3]
    assert tokens.lengths.tolist() == [2, 3]
    assert tokens.second.tolist() == [2, 1]
    assert tokens.pad_id == 7


@pytest.mark.parametrize("task", ["rt", "mrpc"])
@pytest.mark.parametrize("max_length", [8, 32])
def test_tokens_are_the_tokenizers_own(task, max_length):
    what = splits.load(task, "toy")
    tokenizer, split = text.load_tokenizer("tiny-small", what), what.splits["test"]
    tokens = tokenize(split, tokenizer, max_length)
    wanted = tokenizer(
        split.text,
        split.text2,
        truncation=True,
        max_length=max_length,
        padding=True,
        return_tensors="pt",
        return_token_type_ids=True,
        return_attention_mask=True,
    )
    batch = tokens.batch(np.arange(len(split)))
    for name, part in batch.items():
        assert torch.equal(part, wanted[name]), name
    assert tokens.lengths.max() <= max_length
    assert len(tokens) == len(split)


@pytest.mark.parametrize("pair", [False, True])
def test_what_a_text_holds_is_text(pair):
    what = splits.load("mrpc" if pair else "rt", "toy")
    tokenizer, split = text.load_tokenizer("tiny-small", what), what.splits["test"]
    odd = splits.Split(["[CLS] a [SEP] b [MASK] [PAD] [UNK] </s> <s>"], ["[SEP] [SEP]"] if pair else None, split.labels)
    ids = tokenize(odd, tokenizer, 64).ids.tolist()
    assert ids.count(tokenizer.cls_token_id) == 1
    assert ids.count(tokenizer.sep_token_id) == 1 + pair
    assert not {tokenizer.mask_token_id, tokenizer.pad_token_id} & set(ids)


def test_a_special_token_among_a_unigram_models_pieces_is_no_token_in_a_text():
    """XLM-R's has them there, at the best score: to split its special tokens is not enough."""
    words = unigram()
    plain = ["a b a", "ba  ab", "b"]
    before = words(plain)["input_ids"]
    odd = splits.Split(["<s>a</s> b <pad>", "a<mask>", "<unk>"], ["</s>", "<s> <s>", "a </s>a"], np.zeros(3, dtype=int))
    special = [words.convert_tokens_to_ids(name) for name in ("<s>", "</s>", "<pad>", "<mask>")]
    assert takes_for_tokens(words)
    assert (tokenize(odd, words, 64).ids == special[0]).sum() > 3
    take_for_text(words)
    assert not takes_for_tokens(words)
    ids = tokenize(odd, words, 64).ids
    assert [(ids == one).sum() for one in special] == [3, 9, 0, 0]
    assert not (ids == words.unk_token_id).any()
    assert words(plain)["input_ids"] == before


def test_texts_that_are_cut_are_known_and_so_are_unknown_words():
    what = splits.load("rt", "toy")
    tokenizer, known = text.load_tokenizer("tiny-small", what), what.splits["train"].text[0].split()[0]
    texts = [" ".join([known] * count) for count in (1, 6, 7, 20)] + [f"{known} zebra"]
    tokens = tokenize(splits.Split(texts, None, np.zeros(5, dtype=int)), tokenizer, 8)
    assert tokens.cut.tolist() == [False, False, True, True, False]
    assert (tokens.ids == tokens.unknown_id).sum() == 1
    assert tokens.take(np.array([3, 0])).cut.tolist() == [True, False]


def test_chunks_leave_no_seam(monkeypatch):
    from kdnb.data import tokens as module

    what = splits.load("mrpc", "toy")
    tokenizer = text.load_tokenizer("tiny-small", what)
    whole = tokenize(what.splits["train"], tokenizer, 32)
    monkeypatch.setattr(module, "CHUNK", 7)
    pieces = tokenize(what.splits["train"], tokenizer, 32)
    for part in ("ids", "starts", "second"):
        np.testing.assert_array_equal(getattr(pieces, part), getattr(whole, part))


@pytest.mark.slow
def test_logits_come_in_the_splits_order_whatever_the_batches(toy, quick, monkeypatch):
    from kdnb.core import predict as module

    config = quick("erm_small", dropout=0.5)
    model, tokenizer = text.build(config, toy), text.load_tokenizer("tiny-small", toy)
    tokens = tokenize(toy.splits["test"], tokenizer, 32)
    model.train()
    together = predict(model, tokens, "fp32")
    assert model.training
    monkeypatch.setattr(module, "MAX_TOKENS", 1)
    alone = predict(model, tokens, "fp32")
    model.eval()
    with torch.inference_mode():
        by_hand = [model(**tokens.batch(np.array([i])))[0] for i in range(len(tokens))]
    torch.testing.assert_close(alone, torch.stack(by_hand).clone(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert together.dtype == torch.float32
    assert together.std(dim=0).min() > 1e-4  # the order would not show on equal rows


@pytest.mark.slow
def test_half_precision_logits_are_float32(toy, quick):
    tokenizer = text.load_tokenizer("tiny-small", toy)
    tokens = tokenize(toy.splits["test"], tokenizer, 32)
    model = text.build(quick("erm_small"), toy)
    exact, half = (predict(model, tokens, kind) for kind in ("fp32", "bf16"))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, atol=0.05, rtol=0.05)
    assert not torch.equal(half, half.bfloat16().float())  # the head runs in float32: its last bits are there
