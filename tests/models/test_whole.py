"""Any encoder or classifier of transformers as student and teacher: its logits are transformers' own."""

import json

import numpy as np
import own_models
import pytest
import torch

from kdnb.catalog import AS_IT_IS, source_of
from kdnb.core import store as runs
from kdnb.data import checkpoints, splits
from kdnb.errors import ModelUnavailable
from kdnb.experiment import obtain, weights
from kdnb.experiment.arms import arm_config
from kdnb.experiment.training import encode
from kdnb.models import exported, finished, text
from kdnb.models.text import Classifier, Pretrained
from kdnb.models.whole import Whole

FAST = ("bert", "distilbert", "roberta", "xlm-roberta")
pytestmark = pytest.mark.slow


@pytest.fixture
def own(store, tmp_path):
    """own(kind, **changes): the config of a run of a tiny model of that kind, in its own store."""

    def config(kind, task="mrpc", arm="erm_small", **changes):
        folder = tmp_path / kind
        if not folder.exists():
            own_models.save(folder, kind)
        fields = {"precision": "fp32", "epochs": 1, "history_points": 0, "max_length": 32, **changes}
        what = splits.load(task, "toy")
        fields.setdefault("model", checkpoints.name_of(str(folder)))
        return arm_config(arm, task=task, profile="toy", data=what.fingerprint, seed=0, **fields), what

    return config


@pytest.mark.parametrize("kind", own_models.KINDS)
def test_logits_are_those_of_transformers_own_classifier_on_its_own_inputs(kind, own, tmp_path):
    """Pairs of unequal length: ids, types, mask and positions from transformers' tokenizer, not from ours."""
    from transformers import AutoModelForSequenceClassification

    config, what = own(kind)
    model = text.build(config, what).eval()
    assert isinstance(model, Classifier if kind in FAST else Whole)
    exported.as_transformers(model, what.task.labels).save_pretrained(tmp_path / "theirs")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "theirs").eval()
    part, words = what.splits["train"], own_models.tokenizer(kind)
    given = words(part.text, part.text2, padding=True, return_tensors="pt")
    if kind == "distilbert":
        given.pop("token_type_ids", None)
    tokens = encode(config.model, what, 32)["train"]
    with torch.inference_mode():
        wanted, found = theirs(**given).logits, model(**tokens.batch(np.arange(len(tokens))))
    assert wanted.std(dim=0).min() > 1e-4  # texts are told apart at all
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    encoder = own_models.save(tmp_path / "again", kind).state_dict()
    base = theirs.base_model.state_dict()
    assert all(torch.equal(base[name], encoder[name]) for name in base if name in encoder and "pooler" not in name)


def test_a_packaged_mpnet_goes_home_as_mpnets_own_classifier(tmp_path):
    """Our head on its encoder is transformers' head: the same logits."""
    from transformers import AutoModel

    own_models.save(tmp_path / "mpnet", "mpnet")
    encoder = AutoModel.from_pretrained(tmp_path / "mpnet")
    encoder.pooler = None
    model = Pretrained(encoder, torch.nn.Linear(16, 16), 3, 0.1, seed=0).eval()
    torch.nn.init.normal_(model.classifier.weight)
    theirs = exported.as_transformers(model, ("a", "b", "c"))
    assert type(theirs).__name__ == "MPNetForSequenceClassification"
    ids = torch.tensor([[0, 9, 8, 2, 1], [0, 7, 6, 5, 2]])
    batch = {"input_ids": ids, "attention_mask": (ids != 1).long()}
    with torch.inference_mode():
        ours = model(**batch, token_type_ids=torch.zeros_like(ids))
        torch.testing.assert_close(theirs(**batch).logits, ours, rtol=0, atol=1e-5)
    assert theirs.config.id2label == {0: "a", 1: "b", 2: "c"}


@pytest.mark.parametrize("kind", ["mpnet", "deberta-v2", "electra", "albert", "modernbert", "xlm-roberta"])
def test_it_trains_resumes_and_reads_back(kind, own):
    config, what = own(kind)
    ((run, trained),) = obtain.ensure_all([config], what).values()
    assert trained
    ((again, trained),) = obtain.ensure_all([config], what).values()
    assert not trained
    assert np.array_equal(runs.load(config.run_id()).logits["test"], run.logits["test"])
    kept = weights.ensure(again, what)  # trained once more
    assert kept.difference == 0
    assert kept.written < 1e-5


def test_its_head_is_the_seeds_and_its_dropout_the_runs(own):
    for kind in ("electra", "modernbert", "xlm-roberta"):
        config, what = own(kind, dropout=0.5)
        models = [text.build(config.changed(seed=seed), what) for seed in (0, 0, 1)]
        heads = [[p for n, p in m.named_parameters() if "classifier" in n and p.ndim > 1] for m in models]
        assert all(torch.equal(a, b) for a, b in zip(heads[0], heads[1], strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(heads[0], heads[2], strict=True))
        rates = {part.p for part in models[0].modules() if isinstance(part, torch.nn.Dropout)}
        assert rates <= {0.5, 0.0}, kind


def test_a_name_stands_for_what_is_in_the_folder(own, tmp_path):
    config, _ = own("electra")
    assert source_of(config.model).revision == checkpoints.fingerprint(tmp_path / "electra")
    assert config.run_id().startswith("mrpc-erm-small-s0-")
    own_models.save(tmp_path / "electra", "electra", seed=1)
    other = checkpoints.name_of(str(tmp_path / "electra"))
    assert other != config.model
    with pytest.raises(ModelUnavailable, match="holds another one now"):
        checkpoints.folder_of(config.model)


def test_a_finished_classifier_is_asked_as_it_is_in_our_order_of_classes(own, tmp_path):
    from transformers import AutoModelForSequenceClassification

    folder, what = tmp_path / "finished", splits.load("mrpc", "toy")
    own_models.save(folder, "electra", labels=("Equivalent", "not equivalent"))
    name = checkpoints.name_of(str(folder), teacher=True)
    assert name.startswith(AS_IT_IS)
    config, _ = own("electra", arm="erm_large", model=name)
    ((run, _),) = obtain.ensure_all([config], what).values()
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    part = what.splits["test"]
    given = own_models.tokenizer("electra")(part.text, part.text2, padding=True, return_tensors="pt")
    with torch.inference_mode():
        wanted = theirs(**given).logits.numpy()[:, [1, 0]]
    np.testing.assert_allclose(run.logits["test"], wanted, rtol=0, atol=1e-5)
    assert run.history == []
    student = arm_config(
        "kd_standard", task="mrpc", profile="toy", data=what.fingerprint, seed=0, teacher_run=run.run_id, epochs=1
    )
    ((taught, _),) = obtain.ensure_all([student], what).values()
    assert 0 <= taught.metrics["test"]["agreement"] <= 1


def test_a_classifier_of_single_texts_teaches_no_pairs(own, tmp_path):
    folder, what = tmp_path / "finished", splits.load("mrpc", "toy")
    own_models.save(folder, "electra", labels=what.task.labels)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), checkpoints.TEXT_PAIRS: False}))
    config, _ = own("electra", arm="erm_large", model=checkpoints.name_of(str(folder), teacher=True))
    with pytest.raises(ValueError, match=r"^teacher .* was trained on single texts, not on pairs of texts$"):
        obtain.ensure_all([config], what)


@pytest.mark.parametrize("labels", [("LABEL_0", "LABEL_1"), ("equivalent", "other"), ("a", "b", "c")])
def test_classes_that_cannot_be_matched_are_refused(labels, own, tmp_path):
    folder, what = tmp_path / "finished", splits.load("mrpc", "toy")
    own_models.save(folder, "bert", labels=labels)
    config, _ = own("electra", arm="erm_large", model=checkpoints.name_of(str(folder), teacher=True))
    with pytest.raises(ValueError, match=f"has the classes {labels[0]}, .*the data not_equivalent, equivalent"):
        obtain.ensure_all([config], what)
    assert runs.stored_ids() == []


@pytest.mark.parametrize("types", [False, True])
def test_a_classifier_at_the_end_of_a_text_is_refused(types, tmp_path):
    """XLNet pads in front, reads the last place and has three types of tokens."""
    words, model = own_models.xlnet(tmp_path / "xlnet", types)
    with pytest.raises(ModelUnavailable, match=r"^x: xlnet pads in front of a text and classifies at its end, "):
        checkpoints.check_kind("x", model.config.to_dict())
    with pytest.raises(ModelUnavailable, match="xlnet pads in front"):
        finished.read(tmp_path / "xlnet")
    with pytest.raises(ValueError, match=r"^x: it classifies a text padded behind, as kdnb pads, otherwise than"):
        text.check_batches("x", model, words)
    if types:
        with pytest.raises(ValueError, match="token types must be 0 and then 1"):
            text.check_tokenizer("x", words)


@pytest.mark.parametrize("kind", ["gpt2", "xlm"])
def test_models_without_a_table_of_types_are_given_none(kind):
    """GPT-2 and XLM would look a type up among their words, and add that word's vector to every token's."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    words = own_models.tokenizer("roberta")
    sizes = {"gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2}, "xlm": {"emb_dim": 16, "n_layers": 2, "n_heads": 2}}
    pads = {"pad_token_id": words.pad_token_id, "pad_index": words.pad_token_id}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(words), **pads, **sizes[kind])
    text.check_batches(kind, AutoModelForSequenceClassification.from_config(config).eval(), words)


def test_an_exported_tokenizer_takes_special_tokens_for_text(own, tmp_path):
    """Also where the tokenizer's class makes it anew from its pieces, as XLM-R's does."""
    from transformers import AutoTokenizer, XLMRobertaTokenizer

    own_models.save(tmp_path / "xlm-roberta", "xlm-roberta")
    special = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    pieces = [*special, ("▁", -3.0), *((sign, -6.0) for sign in "abdegikmnoprstuw<>/")]
    XLMRobertaTokenizer(vocab=pieces).save_pretrained(tmp_path / "xlm-roberta")
    config, what = own("xlm-roberta", "rt")
    words = text.load_tokenizer(config.model, what)
    theirs = exported.as_transformers(text.build(config, what), what.task.labels)
    exported.save(theirs, words, config, tmp_path / "home")
    read, odd = AutoTokenizer.from_pretrained(tmp_path / "home"), "a <s> b</s> <mask><pad>"
    ids = read(odd)["input_ids"]
    assert [ids.count(read.convert_tokens_to_ids(name)) for name, _ in special] == [1, 0, 1, 0, 0]
    assert ids == words(odd)["input_ids"]
    assert read.model_input_names == words.model_input_names
