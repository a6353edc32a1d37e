"""RoBERTa in the same loop: its own positions, no types, its own head, from a local folder laid out as the hub."""

import pytest
import torch
from hub_folder import parquet_mirror

from kdnb import paths
from kdnb.catalog import SOURCES
from kdnb.core.config import RunConfig
from kdnb.data import splits
from kdnb.experiment.training import encode
from kdnb.experiment.training import train as fit
from kdnb.models import text
from kdnb.studies.label_smoothing.grids import ladder_sizes

pytestmark = pytest.mark.slow

WORDS = ["train", "test", "validation", "first", "second", *map(str, range(10))]


@pytest.fixture
def roberta(tmp_path, monkeypatch):
    """A random RoBERTa of two layers as distilroberta-base: saved as the hub stores it, a masked language model."""
    from transformers import RobertaConfig, RobertaForMaskedLM, RobertaTokenizerFast

    torch.manual_seed(0)
    letters = sorted({letter for word in WORDS for letter in word} | {"Ġ"})
    vocab = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters])}
    config = RobertaConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        initializer_range=0.3,
    )
    folder = tmp_path / "hub" / "distilbert" / "distilroberta-base"
    saved = RobertaForMaskedLM(config).eval()
    saved.save_pretrained(folder)
    RobertaTokenizerFast(vocab=vocab, merges=[]).save_pretrained(folder)
    parquet_mirror(tmp_path / "hub")
    monkeypatch.setattr(paths, "GLUE", tmp_path / "no-glue")
    monkeypatch.setattr(paths, "HUB", tmp_path / "nothing-fetched")
    monkeypatch.setenv("KDNB_HUB", str(tmp_path / "hub"))
    for cached in (text._pretrained, splits.load, encode):
        cached.cache_clear()
    yield saved
    for cached in (text._pretrained, splits.load, encode):
        cached.cache_clear()


def config_of(what, **changes):
    return RunConfig(
        **{
            "task": "mrpc",
            "profile": "paper",
            "data": what.fingerprint,
            "method": "erm",
            "epochs": 1,
            "student": "distilroberta-base",
            "precision": "fp32",
            "history_points": 0,
            **changes,
        }
    )


def test_logits_are_those_of_transformers_own_classifier(roberta):
    """The saved encoder under RobertaForSequenceClassification with our new head, padding and all."""
    from transformers import RobertaForSequenceClassification

    what = splits.load("mrpc", "paper")
    ours = text.build(config_of(what), what).eval()
    theirs = RobertaForSequenceClassification(roberta.config).eval()
    theirs.roberta.load_state_dict(roberta.roberta.state_dict())
    for own, other in ((ours.dense, theirs.classifier.dense), (ours.classifier, theirs.classifier.out_proj)):
        other.load_state_dict(own.state_dict())
    tokens = encode("distilroberta-base", what, 64)["train"]
    batch = tokens.batch(torch.arange(len(tokens)).numpy())
    assert set(batch["input_ids"][batch["attention_mask"] == 0].tolist()) <= {1}
    with torch.inference_mode():
        wanted = theirs(batch["input_ids"], batch["attention_mask"]).logits
        torch.testing.assert_close(ours(**batch), wanted, rtol=0, atol=1e-5)


def test_two_texts_are_told_apart_by_separators_alone(roberta):
    what = splits.load("mrpc", "paper")
    tokens = encode("distilroberta-base", what, 64)["train"]
    batch = tokens.batch(torch.arange(3).numpy())
    model = text.build(config_of(what), what).eval()
    with torch.inference_mode():
        changed = {**batch, "token_type_ids": 1 - batch["token_type_ids"]}
        assert torch.equal(model(**batch), model(**changed))
    assert (batch["input_ids"][0] == 2).sum() == 3  # <s> text </s></s> text2 </s>


def test_its_head_is_new_and_its_dropout_twofold(roberta):
    """Before the dense layer and before the output, as RobertaClassificationHead has it; a BERT has one."""
    what = splits.load("mrpc", "paper")
    models_of = [text.build(config_of(what, seed=seed, dropout=0.5), what) for seed in (0, 0, 1)]
    assert torch.equal(models_of[0].dense.weight, models_of[1].dense.weight)
    assert not torch.equal(models_of[0].dense.weight, models_of[2].dense.weight)
    seen = []
    models_of[0].encoder.forward = lambda *_: torch.ones(4, 16)
    models_of[0].dropout.register_forward_hook(lambda _module, given, _out: seen.append(given[0].shape))
    models_of[0].train()(*(torch.zeros(4, 3, dtype=torch.long),) * 3)
    assert len(seen) == 2


def test_a_roberta_teaches_and_learns(roberta):
    what = splits.load("mrpc", "paper")
    teacher = fit(config_of(what), what)
    student = config_of(what, method="kd", teacher_run=teacher.run_id, alpha=0.5, seed=1)
    run = fit(student, what, teacher)
    assert run.logits["test"].shape == teacher.logits["test"].shape
    assert 0 <= run.metrics["test"]["agreement"] <= 1


def test_berts_ladder_has_no_roberta():
    assert not [name for name in ladder_sizes("paper") if "roberta" in name]
    pinned = [source for name, source in SOURCES.items() if "roberta" in name]
    assert all(len(source.revision) == 40 for source in pinned)
    assert len(pinned) == 4


def test_a_model_reads_as_many_tokens_as_it_has_positions(roberta, monkeypatch):
    """Two of RoBERTa's positions are the padding token's and the one before."""
    what = splits.load("mrpc", "paper")
    assert text.positions("distilroberta-base") == 512
    monkeypatch.setattr(text, "positions", lambda _name: 10)
    with pytest.raises(ValueError, match="distilroberta-base reads at most 10 tokens of a text, one has 11"):
        text.encode("distilroberta-base", what, 11)
