"""What a model offers to the loop: half-precision layers, gradients by rows, layers to compile, or nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from kdnb.catalog import SOURCES
from kdnb.core.optimizer import FastPath, Optimizer
from kdnb.data import splits as data
from kdnb.experiment.arms import arm_config
from kdnb.models import text, vision


@pytest.fixture
def classifier():
    """A text classifier without dropout, its config and the train split's tokens."""
    splits = data.load("mrpc", "toy")
    config = arm_config("erm_large", task="mrpc", profile="toy", data=splits.fingerprint, seed=0, dropout=0.0)
    return text.build(config, splits), config


def batch(rows=6, length=9):
    ids = torch.randint(1, 60, (rows, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}


def test_a_text_classifier_offers_the_linear_layers_of_its_encoder_alone(classifier):
    model, _ = classifier
    fast = model.fast_path()
    linear = {name for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    offered = {name for name, part in model.named_modules() if any(part is half for half in fast.halves)}
    assert offered == linear - {"dense", "classifier"}  # the head runs in float32
    assert [part is layer for part, layer in zip(fast.compiled, model.encoder.layers, strict=False)] == [True]
    assert len(fast.compiled) == len(model.encoder.layers) - 1


def test_the_gradient_by_rows_is_the_tables_gradient(classifier):
    """Against autograd through a plain look-up in the whole table."""
    model, _ = classifier
    fast, inputs = model.fast_path(), batch()
    (words,) = fast.words
    model.train()
    for _ in range(2):  # two batches before a step add up
        model(**inputs).square().sum().backward()
    table = words.detach().clone().requires_grad_()
    model.encoder._look_up = lambda ids: nn.functional.embedding(ids, table)
    model(**inputs).square().sum().backward()
    torch.testing.assert_close(words.grad, 2 * table.grad, rtol=1e-4, atol=1e-6)
    by_rows = torch.zeros_like(words)
    for rows, gradient in fast.word_gradient():
        assert rows.unique().tolist() == sorted(inputs["input_ids"].unique().tolist())
        by_rows[rows] += gradient
    torch.testing.assert_close(by_rows, words.grad)
    fast.forget_word_gradient()
    assert not words.grad.any()
    assert fast.word_gradient() == []


def test_a_restricted_classifier_offers_the_words_that_are_left(classifier):
    model, _ = classifier

    class Tokens:
        ids, pad_id = np.array([7, 5, 7, 9]), 0

    model.restrict_to(Tokens)
    (words,) = model.fast_path().words
    assert words is model.encoder.words
    assert len(words) == 4  # 0, 5, 7, 9
    assert any(words is parameter for parameter in model.parameters())


@pytest.mark.parametrize("name", ["mlp-small", "resnet"])
def test_an_image_classifier_offers_nothing_and_is_trained_all_the_same(name, classifier):
    model, config = vision.untrained(SOURCES[name], (1, 8, 8), 10, 0.0, 0), classifier[1]
    assert not hasattr(model, "fast_path")
    assert not hasattr(model, "restrict_to")
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = Optimizer(model, config, "bf16")
    assert optimizer.halves == []
    model(torch.randn(4, 1, 8, 8)).logsumexp(-1).sum().backward()
    optimizer.step(1e-2)
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_any_module_may_offer_its_layers(classifier):
    """What it offers, and not what it is, decides: bf16 weights beside float32 masters."""

    class Offering(nn.Sequential):
        def fast_path(self):
            return FastPath(halves=[self[0]])

    model = Offering(nn.Linear(4, 8), nn.Linear(8, 3))
    optimizer = Optimizer(model, classifier[1], "bf16")
    assert [p.dtype for p in model.parameters()] == [torch.bfloat16] * 2 + [torch.float32] * 2
    start = [master.clone() for master in optimizer.masters]
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(torch.randn(16, 4)).float().square().mean()
    loss.backward()
    optimizer.step(1e-2)
    for half, master, old in zip(optimizer.halves, optimizer.masters, start, strict=True):
        assert not torch.equal(master, old)
        assert torch.equal(half, master.bfloat16())
