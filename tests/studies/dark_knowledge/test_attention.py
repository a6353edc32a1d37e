"""Attention scores against transformers' own, the loss on them against a sum by hand, and what it refuses."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from kdnb.data.tokens import Tokens
from kdnb.models.text import Classifier
from kdnb.studies.dark_knowledge.attention import AttentionLoss, Read, read_scores, scored
from kdnb.studies.dark_knowledge.features import Depth, FeatureLoss, read_states
from kdnb.studies.dark_knowledge.methods import FeatureKD

LENGTHS = np.array([5, 9, 3, 9, 4, 6])


def texts(lengths=LENGTHS):
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.random.default_rng(0).integers(1, 50, size=starts[-1]).astype(np.int32)
    return Tokens(ids, starts, np.array(lengths), pad_id=0)


def bert(layers=3, heads=4, width=16, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=50,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=32,
            max_position_embeddings=16,
            attn_implementation="eager",
            initializer_range=0.5,
        )
        return BertModel(config).eval()


@functools.cache
def classifier(**size):
    """One of each size and seed for all tests, which train none."""
    made = bert(**size)
    return Classifier(made, nn.Linear(made.config.hidden_size, 8), 2, 0.0, 0).eval()


def how(**more):
    return FeatureKD(teacher_run="t", feature_loss="attention", **more)


def given(model, tokens):
    """States, scores and widths of a model, as a loss is given them."""
    states = read_states(model, tokens, "fp32")
    return states, read_scores(model, tokens, "fp32"), {depth: state.shape[1] for depth, state in states.items()}


def test_scores_are_those_that_transformers_softmaxes():
    tokens, model = texts(), classifier()
    batch = tokens.batch(np.arange(len(tokens)))
    wanted = bert()(**batch, output_attentions=True).attentions
    with torch.no_grad(), scored(model, [Depth(1), Depth(2), Depth(3)]) as seen:
        model(**batch)
    assert len(wanted) == len(seen.scores) == 3
    for depth, scores in seen.scores.items():
        masked = scores.masked_fill(batch["attention_mask"][:, None, None] == 0, -torch.inf)
        torch.testing.assert_close(masked.softmax(-1), wanted[depth.attention], rtol=1e-4, atol=1e-5)
    assert not [hook for part in model.modules() for hook in (*part._forward_hooks, *part._forward_pre_hooks)]


def test_scores_are_kept_text_by_text_and_padded_again():
    tokens, model = texts(), classifier()
    kept = read_scores(model, tokens, "fp32")[Depth(2)]
    assert kept.flat.size == 4 * (LENGTHS**2).sum()
    rows = np.array([2, 0])
    with torch.no_grad(), scored(model, [Depth(2)]) as seen:
        model(**tokens.batch(rows))
    padded, direct = kept.padded(rows), seen.scores[Depth(2)]
    torch.testing.assert_close(padded[1], direct[1], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(padded[0, :, :3, :3], direct[0, :, :3, :3], rtol=1e-3, atol=1e-2)
    assert padded[0, :, 3:].abs().sum() == padded[0, :, :, 3:].abs().sum() == 0
    assert np.array_equal(kept.first(4).padded(np.array([2, 0])), padded)


def test_the_loss_by_hand():
    """Texts count alike, whatever their lengths; one alone has the loss that it has beside longer ones."""
    tokens, student, teacher = texts(), classifier(layers=2, seed=1), classifier(layers=4)
    states, scores, _ = given(teacher, tokens)
    _, own, widths = given(student, tokens)
    by_hand = []
    for row, length in enumerate(LENGTHS):
        pairs = ((own[Depth(m)], scores[Depth(2 * m)]) for m in (1, 2))
        squares = [(a.padded(np.array([row])) - b.padded(np.array([row]))).square().sum() for a, b in pairs]
        by_hand.append(float(sum(squares)) / 2 / (4 * length**2))
    with torch.no_grad(), AttentionLoss(how(), student, Read(states, scores), widths) as beside:
        for rows in (np.arange(6), np.array([2]), np.array([1, 2])):
            student(**tokens.batch(rows))
            assert float(beside(torch.from_numpy(rows))) == pytest.approx(np.mean([by_hand[r] for r in rows]), rel=1e-2)


def test_a_student_that_is_its_teacher_costs_nothing_and_other_rows_do():
    tokens, model = texts([6] * 4), classifier()
    states, scores, widths = given(model, tokens)
    with torch.no_grad(), AttentionLoss(how(), model, Read(states, scores), widths) as beside:
        model(**tokens.batch(np.arange(4)))
        assert float(beside(torch.arange(4))) < 1e-4  # half precision
        assert float(beside(torch.arange(3, -1, -1))) > 0.1


@pytest.mark.parametrize("feature_loss", ["attention", "tinybert"])
def test_the_gradient_reaches_what_attends_and_projections_only_beside_states(feature_loss):
    tokens, student, teacher = texts(), classifier(layers=2, seed=1), classifier(layers=4, width=24)
    states, scores, _ = given(teacher, tokens)
    _, _, widths = given(student, tokens)
    method = FeatureKD(teacher_run="t", feature_loss=feature_loss, layer_map="tinybert")
    student.zero_grad()
    with AttentionLoss(method, student, Read(states, scores), widths) as beside:
        student(**tokens.batch(np.arange(6)))
        beside(torch.arange(6)).backward()
    layers = student.encoder.layers
    assert all(layer.qkv.weight.grad[:32].abs().sum() > 0 for layer in layers)
    of_output = layers[1].down.weight.grad
    assert (of_output is None) == (feature_loss == "attention")  # nothing attends to the last layer's output
    assert len(list(beside.parameters())) == {"attention": 0, "tinybert": 3}[feature_loss]
    assert all(p.grad.abs().sum() > 0 for p in beside.parameters())


def test_tinyberts_loss_is_the_sum_of_both():
    tokens, student, teacher = texts(), classifier(layers=2, seed=1), classifier(layers=4)
    states, scores, _ = given(teacher, tokens)
    _, _, widths = given(student, tokens)
    losses = {}
    for name in ("mse", "attention", "tinybert"):
        method = FeatureKD(teacher_run="t", feature_loss=name, layer_map="tinybert")
        kind, told = (FeatureLoss, states) if name == "mse" else (AttentionLoss, Read(states, scores))
        with torch.no_grad(), kind(method, student, told, widths) as beside:
            student(**tokens.batch(np.arange(6)))
            losses[name] = float(beside(torch.arange(6)))
    assert losses["tinybert"] == pytest.approx(losses["mse"] + losses["attention"])


def test_what_cannot_be_compared_is_refused():
    tokens, student = texts(), classifier(layers=2, seed=1)
    states, scores, _ = given(classifier(layers=4), tokens)
    _, _, widths = given(student, tokens)
    few = read_scores(classifier(layers=4, heads=2), tokens, "fp32")
    with pytest.raises(ValueError, match="attention of 4 heads cannot be compared with that of 2"):
        AttentionLoss(how(), student, Read(states, few), widths)
    with pytest.raises(ValueError, match="a learned map mixes hidden states and no attention"):
        AttentionLoss(how(layer_map="learned"), student, Read(states, scores), widths)
    with pytest.raises(ValueError, match="read of kdnb's own encoder, got Linear"), scored(nn.Linear(2, 2), []):
        pass
    longer = texts(LENGTHS + 1)
    with torch.no_grad(), AttentionLoss(how(), student, Read(states, scores), widths) as beside:
        student(**longer.batch(np.arange(6)))
        with pytest.raises(ValueError, match="a text of 6 tokens is one of 5 to the teacher"):
            beside(torch.arange(6))
