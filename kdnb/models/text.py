"""Text classifiers by name: a BERT-family encoder with a new classification head, and its tokenizer."""

import copy
import functools
import inspect
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from kdnb import plain
from kdnb.catalog import SOURCES, model_of
from kdnb.core.batches import Inputs
from kdnb.core.config import RunConfig
from kdnb.core.optimizer import FastPath
from kdnb.data import hub
from kdnb.data.assets import asset
from kdnb.data.onnx_weights import bert_folder
from kdnb.data.splits import TaskData
from kdnb.data.tokens import Tokens, tokenize
from kdnb.errors import ModelUnavailable
from kdnb.models.dropout import Dropout
from kdnb.models.encoder import Encoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast  # seconds to import

FAST = ("bert", "distilbert", "roberta")  # kinds that `kdnb.models.encoder` computes


class Classifier(nn.Module):
    """Encoder, then dense - activation - dropout - linear on the first token; the head runs in float32.

    As transformers' own classifiers: DistilBERT's activation is ReLU, RoBERTa has dropout before the dense layer too.
    """

    def __init__(self, pretrained: nn.Module, dense: nn.Linear, num_classes: int, dropout: float, seed: int):
        super().__init__()
        self.kind = pretrained.config.model_type
        self.dropout = Dropout(dropout, seed)
        self.encoder, self.dense = Encoder(pretrained, self.dropout), dense
        self.classifier = nn.Linear(dense.out_features, num_classes)
        # BERT alone comes with a pretrained pooler: elsewhere the dense layer is new as well
        _draw([self.classifier] if self.kind == "bert" else [self.classifier, dense], seed)

    def fast_path(self) -> FastPath:
        """What the loop may do to go faster: see `Encoder.fast_path`. After `restrict_to`, if that is called."""
        return self.encoder.fast_path()

    def restrict_to(self, tokens: Tokens) -> None:
        """Train only the word vectors that occur in some tokens; exact where there is no weight decay."""
        vocabulary = torch.from_numpy(np.union1d(tokens.ids, tokens.pad_id)).long()
        self.encoder.restrict(vocabulary.to(self.classifier.weight.device))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Logits (N, K) float32 from (N, L) token ids, mask and types."""
        hidden = self.encoder(input_ids, attention_mask, token_type_ids)
        with torch.autocast(hidden.device.type, enabled=False):  # bf16 logits would have 8 bits
            hidden = self.dense(self.dropout(hidden.float()) if self.kind == "roberta" else hidden.float())
            hidden = torch.relu(hidden) if self.kind == "distilbert" else torch.tanh(hidden)
            return self.classifier(self.dropout(hidden))


class Pretrained(nn.Module):
    """Any other encoder of transformers in its own forward pass, with the same head: slower, and nothing is skipped.

    First token, dense - tanh - dropout - linear, in float32. Dropout is torch's own, seeded with the run.
    """

    def __init__(self, pretrained: nn.Module, dense: nn.Linear, num_classes: int, dropout: float, seed: int):
        super().__init__()
        self.encoder, self.dense = copy.deepcopy(pretrained), dense
        self.dropout, self.classifier = nn.Dropout(dropout), nn.Linear(dense.out_features, num_classes)
        for part in self.encoder.modules():
            if isinstance(part, nn.Dropout):
                part.p = dropout
        _draw([self.classifier, dense], seed)
        self.takes_types = "token_type_ids" in inspect.signature(self.encoder.forward).parameters

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Logits (N, K) float32 from (N, L) token ids, mask and types, which not every model has."""
        types = {"token_type_ids": token_type_ids} if self.takes_types else {}
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state[:, 0]
        with torch.autocast(hidden.device.type, enabled=False):  # bf16 logits would have 8 bits
            return self.classifier(self.dropout(torch.tanh(self.dense(hidden.float()))))


def _draw(layers: list[nn.Linear], seed: int) -> None:
    """New weights of a head's layers, one after the other."""
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.02, generator=generator)
        nn.init.zeros_(layer.bias)


def build(config: RunConfig, data: TaskData) -> "Classifier | Pretrained":
    """The untrained text classifier of a run: the encoder pretrained (not in `toy`), the head from the seed.

    Raises:
        ValueError: the student does not read texts.
        MissingAsset: the weights come in a package, which is neither on this machine nor to be fetched.
        ModelUnavailable: the same of weights from the hub.
    """
    name = model_of(config.profile, config.student, config.task)
    pretrained, dense = _pretrained(name)
    dense = copy.deepcopy(dense)
    if SOURCES[name].kind == "tiny":
        pretrained = copy.deepcopy(pretrained)
        _randomise(pretrained, dense, config.seed)
    if pretrained.config.model_type not in FAST:
        return Pretrained(pretrained, dense, data.task.num_classes, config.dropout, config.seed)
    model = Classifier(pretrained, dense, data.task.num_classes, config.dropout, config.seed)
    if not SOURCES[name].pooled:
        _draw([model.classifier, model.dense], config.seed)
    return model


def encode(name: str, data: TaskData, max_length: int) -> dict[str, Inputs]:
    """Token ids of all splits for a model, a key of SOURCES; ModelUnavailable if its tokenizer cannot be had."""
    tokenizer = load_tokenizer(name, data)
    return {split: tokenize(part, tokenizer, max_length) for split, part in data.splits.items()}


@functools.lru_cache(maxsize=8)
def _pretrained(name: str) -> tuple[nn.Module, nn.Linear]:
    """Encoder and dense layer as the checkpoint has them; callers copy before they train."""
    from transformers import AutoConfig, AutoModel, BertConfig, BertModel

    plain.no_bars("transformers")
    source = SOURCES[name]
    if source.kind == "tiny":
        config = BertConfig(
            vocab_size=256,
            hidden_size=32,
            num_hidden_layers=len(source.layers),
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
        encoder = BertModel(config, add_pooling_layer=True)
    else:
        where, pin = location(name)
        try:
            config = AutoConfig.from_pretrained(where, **pin)
            without = config.model_type == "roberta" or not source.pooled  # its checkpoint has none
            more = {"add_pooling_layer": False} if without else {}
            encoder = AutoModel.from_pretrained(where, config=config, use_safetensors=True, **more, **pin)
        except (OSError, ValueError) as error:
            reason = f"no weights here and none from the hub ({_first_line(error)})"
            raise ModelUnavailable(f"{source.where}: {reason}") from None
    if source.layers and source.kind != "tiny":
        encoder.encoder.layer = nn.ModuleList([encoder.encoder.layer[i] for i in source.layers])
        encoder.config.num_hidden_layers = len(source.layers)
    if encoder.config.model_type in ("distilbert", "roberta") or not source.pooled:
        return encoder, nn.Linear(encoder.config.hidden_size, encoder.config.hidden_size)
    dense, encoder.pooler = encoder.pooler.dense, None
    return encoder, dense


def location(name: str) -> tuple[str, dict[str, str | bool]]:
    """Where from_pretrained finds a model, and what else to pass it: fetched, else mirrored, else the hub.

    Of the hub, the pinned commit; where it does not answer, its own cache alone, without a minute of retries.
    """
    source = SOURCES[name]
    if source.kind == "asset":
        packaged = asset(source.where)
        graphs = sorted(packaged.glob("*.onnx"))
        return str(bert_folder(source.where, graphs[0], asset("minilm")) if graphs else packaged), {}
    if folder := hub.local(source.where, source.revision, hub.MODEL_FILES):
        return str(folder), {}
    return source.where, {"revision": source.revision, "local_files_only": hub.state() != "reachable"}


def load_tokenizer(name: str, data: TaskData) -> "PreTrainedTokenizerFast":
    """The fast tokenizer of a model; `tiny` models get one whose words are the train split's."""
    from transformers import AutoTokenizer, BertTokenizerFast

    if SOURCES[name].kind == "tiny":
        texts = data.splits["train"].text + (data.splits["train"].text2 or [])
        words = sorted({word for text in texts for word in text.lower().split()})[:250]
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        return BertTokenizerFast(vocab={word: i for i, word in enumerate(special + words)})
    where, pin = location(name)
    try:
        return AutoTokenizer.from_pretrained(where, **pin)
    except (OSError, ValueError) as error:
        reason = f"no tokenizer here and none from the hub ({_first_line(error)})"
        raise ModelUnavailable(f"{SOURCES[name].where}: {reason}") from None


def _randomise(encoder: nn.Module, dense: nn.Linear, seed: int) -> None:
    """New random weights for a `tiny` model, from the seed alone."""
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    for parameter in [*encoder.parameters(), *dense.parameters()]:
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1, generator=generator)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
