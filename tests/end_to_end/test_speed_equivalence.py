"""The fast encoder, its dropout and the training loop compute what transformers' and torch's own do."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from kdnb.catalog import model_of
from kdnb.core import device, loop
from kdnb.core.optimizer import Optimizer
from kdnb.data import splits as data
from kdnb.experiment import training
from kdnb.experiment.arms import arm_config
from kdnb.models import text
from kdnb.models.dropout import Dropout
from kdnb.models.encoder import Encoder

KEY_BIAS = "a key bias shifts all scores of a query alike: its gradient is rounding noise, which AdamW enlarges"


def pretrained(kind: str) -> nn.Module:
    """A small BERT, RoBERTa or DistilBERT with random weights and no dropout."""
    from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

    torch.manual_seed(0)
    if kind in ("bert", "roberta"):
        types = {} if kind == "bert" else {"type_vocab_size": 1, "pad_token_id": 1}
        config = (BertConfig if kind == "bert" else RobertaConfig)(
            vocab_size=97,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=96,
            max_position_embeddings=40,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.2,
            **types,
        )
        return (BertModel if kind == "bert" else RobertaModel)(config, add_pooling_layer=False)
    config = DistilBertConfig(
        vocab_size=97,
        dim=48,
        n_layers=3,
        n_heads=4,
        hidden_dim=96,
        max_position_embeddings=40,
        dropout=0.0,
        attention_dropout=0.0,
        initializer_range=0.2,
    )
    return DistilBertModel(config)


def inputs(lengths: list[int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(1, 97, mask.shape, generator=generator) * mask
    types = (torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None] // 2).long() * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("lengths", [[9, 9, 9], [17, 5, 1, 12]], ids=["full", "padded"])
def test_the_encoder_agrees_with_transformers_in_values_and_gradients(kind, lengths):
    theirs, batch = pretrained(kind), inputs(lengths)
    ours = Encoder(theirs, Dropout(0.0, seed=0))
    if kind == "roberta":  # pads are 1, and no word is: positions count the others
        batch["input_ids"] = torch.where(batch["attention_mask"] == 1, batch["input_ids"].clamp(min=2), 1)
    mine = ours(**batch)
    if kind != "bert":  # these two see no types
        batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
    reference = theirs(**batch).last_hidden_state[:, 0]
    torch.testing.assert_close(mine, reference, rtol=0, atol=1e-5)
    weights = torch.randn(mine.shape, generator=torch.Generator().manual_seed(2))
    (mine * weights).sum().backward()
    (reference * weights).sum().backward()
    pairs = shared(ours, theirs)
    assert len(pairs) == len(list(theirs.parameters()))
    for name, (a, b) in pairs.items():
        b.grad = torch.zeros_like(b) if b.grad is None else b.grad
        scale = max(1.0, float(b.grad.abs().max()))
        message = lambda m, name=name: f"{name}: {m}"  # noqa: E731
        torch.testing.assert_close(a(lambda p: p.grad), b.grad, rtol=0, atol=5e-6 * scale, msg=message)


def shared(ours: Encoder, theirs: nn.Module) -> dict:
    """transformers' parameters by name, each with a function that reads ours."""
    embeddings, pairs = theirs.embeddings, {}
    same = {"words": embeddings.word_embeddings, "positions": embeddings.position_embeddings}
    if ours.types is not None:
        same["types"] = embeddings.token_type_embeddings
    for name, part in same.items():
        pairs[name] = (lambda of, name=name: of(getattr(ours, name)), part.weight)
    modules = [("norm", ours.norm, embeddings.LayerNorm)]
    bert = theirs.config.model_type != "distilbert"
    for i, layer in enumerate(theirs.encoder.layer if bert else theirs.transformer.layer):
        mine = ours.layers[i]
        names = "attention.output.dense attention.output.LayerNorm intermediate.dense output.dense output.LayerNorm"
        names = names if bert else "attention.out_lin sa_layer_norm ffn.lin1 ffn.lin2 output_layer_norm"
        for own, other in zip(("out", "norm1", "up", "down", "norm2"), names.split(), strict=True):
            modules.append((f"{i}.{own}", getattr(mine, own), layer.get_submodule(other)))
        names = ["self.query", "self.key", "self.value"] if bert else ["q_lin", "k_lin", "v_lin"]
        for part, other in enumerate(names):
            for kind in ("weight", "bias"):
                other_weight = getattr(layer.get_submodule(f"attention.{other}"), kind)
                pairs[f"{i}.{other}.{kind}"] = (
                    lambda of, m=mine.qkv, k=kind, part=part: of(getattr(m, k)).chunk(3)[part],
                    other_weight,
                )
    for name, mine, other in modules:
        for kind in ("weight", "bias"):
            pairs[f"{name}.{kind}"] = (lambda of, m=mine, k=kind: of(getattr(m, k)), getattr(other, kind))
    return pairs


def test_the_first_token_alone_is_the_full_layers_first_token():
    encoder = Encoder(pretrained("bert"), Dropout(0.0, seed=0))
    hidden = torch.randn(3, 7, 48)
    bias = torch.zeros(3, 7)
    bias[1, 4:] = -torch.inf
    for layer in encoder.layers:
        torch.testing.assert_close(layer.first_token(hidden, bias), layer(hidden, bias)[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_has_the_rate_mean_and_variance_of_bernoulli_draws(p):
    dropout, count = Dropout(p, seed=3), 1_000_000
    y = dropout(torch.ones(count))
    kept = (y > 0).float().mean()
    error = (p * (1 - p) / count) ** 0.5  # of the share kept
    assert abs(kept - (1 - p)) < 4 * error
    assert abs(y.mean() - 1) < 4 * error / (1 - p)
    assert abs(y.var() - p / (1 - p)) < 0.01
    assert y[y > 0].unique().tolist() == pytest.approx([1 / (1 - p)], rel=2**-15)


def test_dropout_masks_are_independent_over_places_and_steps():
    dropout, count = Dropout(0.3, seed=4), 400_000
    first, second = (dropout.mask((count,), torch.ones(1)) - 0.7 for _ in range(2))
    bound = 4 * 0.21 / count**0.5
    assert abs((first * second).mean()) < bound
    for lag in (1, 2, 3, 4, 8, 384):  # 4 numbers come from one draw
        assert abs((first[:-lag] * first[lag:]).mean()) < bound * 1.1


def test_dropout_depends_on_its_own_seed_only():
    def draw(seed):
        torch.rand(5)  # another user of the global generator
        return Dropout(0.1, seed)(torch.ones(1000))

    before = torch.get_rng_state()
    dropped = Dropout(0.1, 0)(torch.ones(1000))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(draw(0), dropped)
    assert not torch.equal(draw(1), dropped)


def test_dropout_is_the_identity_at_rate_zero_and_in_eval_mode():
    x = torch.randn(10)
    assert Dropout(0.0, 0)(x) is x
    assert Dropout(0.9, 0).eval()(x) is x


def test_dropout_of_a_sum_scales_only_the_dropped_part():
    x, residual = torch.randn(4, 50), torch.randn(4, 50)
    added = Dropout(0.4, 5).add(residual, x)
    torch.testing.assert_close(added, residual + Dropout(0.4, 5)(x))


def toy(arm: str = "erm_large", **changes):
    splits = data.load("mrpc", "toy")
    return arm_config(arm, task="mrpc", profile="toy", data=splits.fingerprint, seed=0, **changes), splits


def trained(config, splits, epochs, restrict: bool = True):
    """A classifier after the given batches, and the one it started from."""
    tokens = training.encode(model_of(config.profile, config.student), splits, config.max_length)
    model = text.build(config, splits)
    start = copy.deepcopy(model)
    if not restrict:
        model.encoder.restrict = lambda vocabulary: None
    loop.fit(config, model, tokens, splits.splits["train"].labels, plan=epochs)
    return model, start, tokens["train"]


@pytest.mark.slow
def test_three_steps_are_those_of_transformers_and_torch():
    from transformers import BertConfig, BertForSequenceClassification

    config, splits = toy(dropout=0.0, precision="fp32", history_points=0, lr=1e-3)
    rows = np.random.default_rng(0).permutation(64)
    batches = [rows[:16], rows[16:32], rows[32:48]]
    model, start, tokens = trained(config, splits, [batches])
    reference = BertForSequenceClassification(
        BertConfig(
            vocab_size=256,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=2,
        )
    )
    heads = {"dense": reference.bert.pooler.dense, "classifier": reference.classifier}
    with torch.no_grad():
        for a, b in shared(start.encoder, reference.bert).values():
            b.copy_(a(lambda p: p))
        for name, part in heads.items():
            part.load_state_dict(getattr(start, name).state_dict())
    optimizer = torch.optim.AdamW(reference.parameters(), lr=config.lr, weight_decay=0.0)
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = config.lr * (3 - step) / 3
        labels = torch.from_numpy(splits.splits["train"].labels[batch])
        optimizer.zero_grad()
        reference(**tokens.batch(batch), labels=labels).loss.backward()
        nn.utils.clip_grad_norm_(reference.parameters(), config.clip)
        optimizer.step()
    model.encoder.words = nn.Parameter(model.encoder.table[model.encoder.row])  # in the order of the token ids
    pairs = shared(model.encoder, reference.bert)
    moved = 0.0
    for name, (a, b) in pairs.items():
        if name.endswith("key.bias"):
            continue  # see KEY_BIAS
        torch.testing.assert_close(a(lambda p: p), b, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    for name, part in heads.items():
        torch.testing.assert_close(getattr(model, name).weight, part.weight, rtol=0, atol=1e-5)
        moved = max(moved, float((getattr(start, name).weight - part.weight).detach().abs().max()))
    assert moved > 1e-4, "nothing was trained"


@pytest.mark.slow
def test_leaving_out_words_that_never_occur_changes_nothing():
    config, splits = toy(precision="fp32")
    epochs = [[np.arange(start, start + 16) for start in (0, 16, 32, 48)]]
    compact, start, tokens = trained(config, splits, epochs)
    full, *_ = trained(config, splits, epochs, restrict=False)
    table = compact.encoder.table[compact.encoder.row]
    assert len(compact.encoder.words) < len(table)
    torch.testing.assert_close(table, full.encoder.words.detach(), rtol=0, atol=1e-5)
    unseen = np.setdiff1d(np.arange(256), np.append(tokens.ids, tokens.pad_id))
    for words in (table, full.encoder.words):
        assert torch.equal(words[unseen], start.encoder.words[unseen])
    batch = tokens.batch(np.arange(8))
    with torch.no_grad():
        compact.train(), full.train()
        compact.dropout.p = full.dropout.p = 0.0
        in_training = compact(**batch)
        torch.testing.assert_close(compact.eval()(**batch), in_training)  # one memory: what training changed
        torch.testing.assert_close(full.eval()(**batch), in_training, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_equal_seeds_give_identical_logits_whatever_the_global_generator_does(precision):
    config, splits = toy(precision=precision)
    first = training.train(config, splits)
    torch.rand(7)
    again = training.train(config, splits)
    other = training.train(replace(config, seed=1), splits)
    for split, logits in first.logits.items():
        np.testing.assert_array_equal(logits, again.logits[split])
        assert not np.array_equal(logits, other.logits[split])
    assert all(np.isfinite(row["train_entropy"]) for row in first.history)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_alpha_zero_is_erm_to_the_bit(precision):
    config, splits = toy(precision=precision)
    erm = training.train(config, splits)
    ls = training.train(toy("ls_large", precision=precision, alpha=0.0)[0], splits)
    kd_config = toy("kd_reverse", precision=precision, alpha=0.0, teacher_run=erm.run_id)[0]
    kd = training.train(kd_config, splits, erm)
    for split, logits in erm.logits.items():
        np.testing.assert_array_equal(logits, ls.logits[split])
        np.testing.assert_array_equal(logits, kd.logits[split])


@pytest.mark.slow
def test_nothing_is_compiled_on_a_cpu_and_the_run_says_why():
    config, splits = toy(epochs=1)
    if torch.cuda.is_available():
        pytest.skip("about CPUs")
    assert training.train(config, splits).metrics["cost"]["compiled"].startswith("no: on a CPU")


def test_long_trainings_on_a_gpu_are_compiled(monkeypatch):
    monkeypatch.setattr(device, "device", lambda: torch.device("cuda"))
    assert device.whether_to_compile(device.COMPILE_STEPS)[0]
    assert not device.whether_to_compile(device.COMPILE_STEPS - 1)[0]


@pytest.mark.slow
def test_compiled_layers_compute_the_same(monkeypatch):
    """The graphs that a GPU would compile, traced and run here without code generation."""
    monkeypatch.setattr(device, "whether_to_compile", lambda steps: (True, "yes"))
    config, splits = toy(dropout=0.0)
    tokens = training.encode("tiny-large", splits, config.max_length)["train"]
    plain, traced = text.build(config, splits), text.build(config, splits)
    device.compile_layers(traced.fast_path().compiled, 1, backend="aot_eager")
    for rows in (np.arange(8), np.arange(20, 33)):
        losses = [model(**tokens.batch(rows)).logsumexp(-1).sum() for model in (plain, traced)]
        torch.testing.assert_close(*losses)
        for loss in losses:
            loss.backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), traced.named_parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_equal_logits_for_equal_seeds():
    config, splits = toy(precision="bf16")
    first, again = training.train(config, splits), training.train(config, splits)
    np.testing.assert_array_equal(first.logits["test"], again.logits["test"])


@pytest.mark.slow
def test_masters_give_the_weights_of_a_step_in_which_autocast_casts():
    """bf16 weights copied from float32 masters against torch's AdamW on float32 weights under autocast."""
    config, splits = toy(precision="bf16", dropout=0.0, lr=1e-3)
    tokens = training.encode("tiny-large", splits, config.max_length)["train"]
    ours, theirs = text.build(config, splits), text.build(config, splits)
    optimizer = Optimizer(ours, config, "bf16")
    assert ours.encoder.layers[0].up.weight.dtype == torch.bfloat16
    reference = torch.optim.AdamW(theirs.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    labels = torch.from_numpy(splits.splits["train"].labels)
    for step in range(3):
        rows = np.arange(16) + 16 * step
        for model in (ours, theirs):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(**tokens.batch(rows))
            nn.functional.cross_entropy(logits, labels[rows]).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), config.clip)
        reference.step()
        reference.zero_grad()
        optimizer.step(1e-3)
    moved = dict(text.build(config, splits).named_parameters())
    masters = {id(p): master for p, master in zip(optimizer.halves, optimizer.masters, strict=True)}
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        mine = masters.get(id(a), a).detach()
        most = (b - moved[name]).detach().abs().max()
        assert (mine - b).detach().abs().max() < 0.2 * max(1e-3, float(most)), name
    assert all(p.grad is None for p in optimizer.halves)
    assert not ours.encoder.words.grad.any()
