"""A trained text classifier as transformers' own: the same function under the names that others load."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from kdnb import files
from kdnb.catalog import model_behind
from kdnb.core.config import RunConfig
from kdnb.core.device import precision
from kdnb.core.predict import predict
from kdnb.data.splits import Split
from kdnb.data.tokens import takes_for_tokens, tokenize
from kdnb.models import finished
from kdnb.models.text import Classifier, Pretrained, tells_texts_apart
from kdnb.models.whole import Whole, takes_types
from kdnb.plain import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_ROBERTA_HEAD = {"dense": "classifier.dense", "classifier": "classifier.out_proj"}
HEADS = {  # where transformers keeps the two layers of our head, by the kind of model; {base} is its encoder
    "bert": {"dense": "{base}.pooler.dense", "classifier": "classifier"},
    "distilbert": {"dense": "pre_classifier", "classifier": "classifier"},
    "roberta": _ROBERTA_HEAD,
    "xlm-roberta": _ROBERTA_HEAD,
    "camembert": _ROBERTA_HEAD,
    "mpnet": _ROBERTA_HEAD,
}


def as_transformers(model: nn.Module, labels: tuple[str, ...]) -> "PreTrainedModel":
    """The classifier of transformers that computes what a trained one of ours does, in eval mode; float32, on the CPU.

    Args:
        model: as `kdnb.models.text.build` makes it.
        labels: names in label order.
    Raises:
        ValueError: transformers has no classifier of this form.
    """
    from transformers import AutoModelForSequenceClassification

    if isinstance(model, Whole):
        theirs = copy.deepcopy(model.model).float().cpu()
        _name(theirs.config, labels)
        return theirs.eval()
    if not isinstance(model, Classifier | Pretrained):
        raise ValueError(f"only classifiers of texts are exported, got {type(model).__name__}")
    config = copy.deepcopy(model.config if isinstance(model, Classifier) else model.encoder.config)
    if config.model_type not in HEADS:
        raise ValueError(f"transformers' classifier of a {config.model_type} has another head than kdnb's")
    _name(config, labels)
    theirs = AutoModelForSequenceClassification.from_config(config)
    encoder = model.encoder.pretrained_state() if isinstance(model, Classifier) else model.encoder.state_dict()
    state: dict[str, Tensor] = {f"{theirs.base_model_prefix}.{name}": value for name, value in encoder.items()}
    for own, place in HEADS[config.model_type].items():
        layer = getattr(model, own)
        for name, value in layer.state_dict().items():
            state[f"{place.format(base=theirs.base_model_prefix)}.{name}"] = value
    theirs.load_state_dict({name: value.detach().float().cpu() for name, value in state.items()})
    return theirs.eval()


def save(theirs: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", config: RunConfig, folder: Path) -> None:
    """Write model.safetensors, config.json and the tokenizer, which is told what the model reads of a text.

    Args:
        theirs: of `as_transformers`.
        tokenizer: the one it was trained with.
        config: of its run; longer texts are cut to its max_length where truncation is asked for.
        folder: it goes to.
    """
    from transformers import AutoTokenizer

    name = model_behind(config)
    types = tells_texts_apart(name, tokenizer) and takes_types(theirs)
    tokenizer.model_max_length = config.max_length
    tokenizer.init_kwargs["split_special_tokens"] = tokenizer.split_special_tokens = True  # a "[SEP]" in a text is text
    names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    tokenizer.model_input_names = [*names, "token_type_ids"] if types else names
    if tokenizer.model_input_names != list(type(tokenizer).model_input_names):
        tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names
    with quiet("transformers"):
        theirs.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if takes_for_tokens(
            AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        ):  # its class makes it anew, and not as it was saved
            path, names = folder / "tokenizer_config.json", tokenizer.model_input_names
            as_saved = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names}
            files.write_json(path, {**files.read_json(path), **as_saved})


def distance(folder: Path, model: nn.Module, split: Split, config: RunConfig) -> float:
    """The largest difference of the logits that transformers computes from a folder, in float32, to the model's own.

    Args:
        folder: of `save`.
        model: it was made of.
        split: examples.
        config: of its run.
    """
    name, read = model_behind(config), finished.read(folder, config.max_length)
    tokens = tokenize(split, read.tokenizer, config.max_length)
    if not tells_texts_apart(name, read.tokenizer):
        tokens = replace(tokens, second=tokens.lengths)
    ours = predict(model, tokens, precision(config.precision)).numpy()
    return float(np.abs(read.logits(read.tokens(split.text, split.text2)) - ours).max())


def _name(config: Any, labels: tuple[str, ...]) -> None:
    """Say the classes' names, and that one of them is right."""
    config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
