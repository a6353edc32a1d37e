"""Text classifiers by name: a BERT-family encoder with a new classification head, and its tokenizer."""

import copy
import functools
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from kdnb.catalog import AS_IT_IS, SOURCES, Source, Task, model_behind, source_of
from kdnb.core.batches import Inputs
from kdnb.core.config import RunConfig
from kdnb.core.optimizer import FastPath
from kdnb.data import checkpoints, download, hub
from kdnb.data.assets import asset
from kdnb.data.hub import Part
from kdnb.data.onnx_weights import bert_folder
from kdnb.data.splits import Split, TaskData
from kdnb.data.tokens import Tokens, take_for_text, tokenize
from kdnb.errors import KdnbError, ModelUnavailable, first_line, one_line
from kdnb.models import whole
from kdnb.models.dropout import Dropout
from kdnb.models.encoder import ROBERTAS, Encoder
from kdnb.models.whole import Whole, check_whole
from kdnb.plain import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast  # seconds to import

TINY_POSITIONS = 64
FAST = ("bert", "distilbert", *ROBERTAS)  # kinds that `kdnb.models.encoder` computes


class Classifier(nn.Module):
    """Encoder, then dense - activation - dropout - linear on the first token; the head runs in float32.

    As transformers' own classifiers: DistilBERT's activation is ReLU, RoBERTa has dropout before the dense layer too.
    """

    def __init__(self, pretrained: nn.Module, dense: nn.Linear, num_classes: int, dropout: float, seed: int):
        super().__init__()
        self.kind, self.config = pretrained.config.model_type, pretrained.config
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
            hidden = self.dense(self.dropout(hidden.float()) if self.kind in ROBERTAS else hidden.float())
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


def tells_texts_apart(name: str, tokenizer: "PreTrainedTokenizerFast") -> bool:
    """Whether a model's inputs say which text a token is from.

    A model of the user's own is given what its tokenizer gives by itself, as transformers' own pipelines do.
    """
    return name in SOURCES or "token_type_ids" in tokenizer.model_input_names


def _draw(layers: list[nn.Linear], seed: int) -> None:
    """New weights of a head's layers, one after the other."""
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.02, generator=generator)
        nn.init.zeros_(layer.bias)


def build(config: RunConfig, data: TaskData) -> "Classifier | Pretrained | Whole":
    """The untrained text classifier of a run: the encoder pretrained (not in `toy`), the head from the seed.

    A finished classifier, which is asked as it is, keeps its head.

    Raises:
        ValueError: the student does not read texts, or the classes of a finished classifier are not the task's.
        MissingAsset: the weights come in a package, which is neither on this machine nor to be fetched.
        ModelUnavailable: the same of weights from the hub, or of a folder that is gone, changed or unreadable.
    """
    name = model_behind(config)
    source = source_of(name)
    if source.as_it_is or (name not in SOURCES and not _runs_fast(name)):
        return _whole(name, config, data.task)
    pretrained, dense = _pretrained(name)
    if dense is None:  # the checkpoint has none
        dense = nn.Linear(pretrained.config.hidden_size, pretrained.config.hidden_size)
        source = replace(source, pooled=False)
    dense = copy.deepcopy(dense)
    if source.kind == "tiny":
        pretrained = copy.deepcopy(pretrained)
        _randomise(pretrained, dense, config.seed)
    if pretrained.config.model_type not in FAST:
        return Pretrained(pretrained, dense, data.task.num_classes, config.dropout, config.seed)
    model = Classifier(pretrained, dense, data.task.num_classes, config.dropout, config.seed)
    if not source.pooled:
        _draw([model.classifier, model.dense], config.seed)
    return model


def encode(name: str, data: TaskData, max_length: int) -> dict[str, Inputs]:
    """Token ids of all splits for a model, a name of `source_of`.

    Raises:
        ModelUnavailable: its tokenizer cannot be had.
        ValueError: a text, cut to max_length, is longer than what a model of ours reads.
    """
    tokenizer = load_tokenizer(name, data)
    tokens = {split: tokenize(part, tokenizer, max_length) for split, part in data.splits.items()}
    if name in SOURCES:
        longest, most = max(int(part.lengths.max()) for part in tokens.values()), positions(name)
        if longest > most:
            raise ValueError(f"{name} reads at most {most} tokens of a text, one has {longest}: lower --max-length")
    if tells_texts_apart(name, tokenizer):
        return dict(tokens)
    return {split: replace(part, second=part.lengths) for split, part in tokens.items()}


def positions(name: str) -> int:
    """How many tokens of a text a model can read, a key of SOURCES."""
    from transformers import AutoConfig

    if SOURCES[name].kind == "tiny":
        return TINY_POSITIONS
    where, pin = location(name)
    config = AutoConfig.from_pretrained(where, trust_remote_code=False, **pin)
    behind = config.model_type in ("roberta", "mpnet")  # positions are counted from the padding token's on
    return config.max_position_embeddings - (config.pad_token_id + 1) * behind


@functools.lru_cache(maxsize=8)
def _pretrained(name: str) -> tuple[nn.Module, nn.Linear | None]:
    """Encoder and dense layer as the checkpoint has them, None where it lacks one; callers copy before they train."""
    from transformers import AutoConfig, AutoModel, BertConfig, BertModel

    source = source_of(name)
    if source.kind == "tiny":
        config = BertConfig(
            vocab_size=256,
            hidden_size=32,
            num_hidden_layers=len(source.layers),
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=TINY_POSITIONS,
        )
        encoder, missing = BertModel(config, add_pooling_layer=True), set()
    else:
        where, pin = location(name)
        try:
            config = AutoConfig.from_pretrained(where, trust_remote_code=False, **pin)
            without = config.model_type in ROBERTAS or not source.pooled  # its checkpoint has none
            more = {"add_pooling_layer": False} if without else {}
            with quiet("transformers"):
                encoder, told = AutoModel.from_pretrained(
                    where,
                    config=config,
                    use_safetensors=True,
                    output_loading_info=True,
                    trust_remote_code=False,
                    **more,
                    **pin,
                )
            missing = set(told["missing_keys"])
        except Exception as error:  # transformers, and what it reads with, raise classes of many kinds
            raise _unavailable(source, "weights", error) from None
    if name not in SOURCES:
        check_whole(name, missing - {"pooler.dense.weight", "pooler.dense.bias"})
    if source.layers and source.kind != "tiny":
        encoder.encoder.layer = nn.ModuleList([encoder.encoder.layer[i] for i in source.layers])
        encoder.config.num_hidden_layers = len(source.layers)
    if encoder.config.model_type in ("distilbert", *ROBERTAS) or not source.pooled:
        return encoder, nn.Linear(encoder.config.hidden_size, encoder.config.hidden_size)
    dense, encoder.pooler = encoder.pooler.dense, None
    return encoder, None if name not in SOURCES and "pooler.dense.weight" in missing else dense


def _runs_fast(name: str) -> bool:
    """Whether `kdnb.models.encoder` computes a model of the user's own."""
    own = _own_config(name)
    activation = getattr(own, "activation" if own.model_type == "distilbert" else "hidden_act", "")
    plain = getattr(own, "position_embedding_type", "absolute") in ("absolute", None)
    return own.model_type in FAST and activation == "gelu" and plain and not getattr(own, "is_decoder", False)


def _own_config(name: str) -> Any:
    """transformers' configuration of a model of the user's own; nothing of its own code is run.

    Raises:
        ModelUnavailable: it cannot be read, or the model needs code of its own.
    """
    from transformers import AutoConfig, PretrainedConfig

    source, (where, pin) = source_of(name), location(name)
    try:
        with quiet("transformers"):
            values, _ = PretrainedConfig.get_config_dict(where, **pin)
            checkpoints.check_kind(name, values)
            return AutoConfig.from_pretrained(where, trust_remote_code=False, **pin)
    except KdnbError:
        raise
    except Exception as error:
        raise _unavailable(source, "configuration", error) from None


def _whole(name: str, config: RunConfig, task: Task) -> Whole:
    """A model of the user's own in transformers' own classifier: finished as it is, or with a head from the seed."""
    source, own, (where, pin) = source_of(name), _own_config(name), location(name)
    if getattr(own, "pad_token_id", None) is None:
        own.pad_token_id = load_tokenizer(name, None).pad_token_id
    checkpoint = whole.Checkpoint(name.removeprefix(AS_IT_IS), where, pin, own)
    try:
        if source.as_it_is:
            pairs = getattr(own, checkpoints.TEXT_PAIRS, None)
            checkpoints.check_pairs(f"teacher {name.removeprefix(AS_IT_IS)}", pairs, task.pair)
            order = checkpoints.class_order(name.removeprefix(AS_IT_IS), own.id2label, task)
            model = whole.finished(checkpoint, order)
        else:
            model = whole.with_new_head(checkpoint, task.num_classes, config)
    except (KdnbError, ValueError):
        raise
    except Exception as error:
        raise _unavailable(source, "classifier", error) from None
    check_batches(name.removeprefix(AS_IT_IS), model.model, load_tokenizer(name, None))
    return model


def location(name: str) -> tuple[str, dict[str, str | bool]]:
    """Where from_pretrained finds a model, and what else to pass it: on this machine, fetched first if need be.

    Where the hub does not answer, the cache of its own client alone, at the pinned commit.

    Raises:
        ModelUnavailable: a folder of the user's is gone, or its content is not what it was.
        HubUnreachable, DamagedFetch: as `kdnb.data.download.obtain`.
    """
    source = source_of(name)
    if source.kind == "folder":
        return str(checkpoints.folder_of(name.removeprefix(AS_IT_IS))), {}
    if source.kind == "asset":
        packaged = asset(source.where)
        graphs = sorted(packaged.glob("*.onnx"))
        return str(bert_folder(source.where, graphs[0], asset("minilm")) if graphs else packaged), {}
    if folder := download.obtain(Part(source.where, "model", source.revision, hub.MODEL_FILES)):
        return str(folder), {}
    return source.where, {"revision": source.revision, "local_files_only": True}


def load_tokenizer(name: str, data: TaskData | None) -> "PreTrainedTokenizerFast":
    """The fast tokenizer of a model; `tiny` models get one whose words are the train split's.

    Raises:
        ModelUnavailable: it cannot be had.
        ValueError: it is none that kdnb can pad and tell the texts of a pair apart with.
    """
    from transformers import AutoTokenizer, BertTokenizerFast

    source = source_of(name)
    if source.kind == "tiny":
        assert data is not None, "a tiny model's words are its data's"
        texts = data.splits["train"].text + (data.splits["train"].text2 or [])
        words = sorted({word for text in texts for word in text.lower().split()})[:250]
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        return BertTokenizerFast(vocab={word: i for i, word in enumerate(special + words)})
    if name not in SOURCES:
        _own_config(name)  # raises for what is not to be opened
    where, pin = location(name)
    try:
        with quiet("transformers"):
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **pin)
    except Exception as error:
        raise _unavailable(source, "tokenizer", error) from None
    if name not in SOURCES:
        check_tokenizer(name, tokenizer)
        take_for_text(tokenizer)
    return tokenizer


def check_tokenizer(name: str, tokenizer: Any) -> None:
    """Raise ValueError for a tokenizer whose ids kdnb cannot make batches of."""
    try:
        _ = tokenizer("a", "b"), tokenizer.pad_token_id, tokenizer.unk_token_id
    except Exception as error:  # its settings contradict one another, and its library raises what it meets
        raise ValueError(f"{name}: its tokenizer cannot be used ({one_line(error)[:200]})") from None
    if not tokenizer.is_fast:
        raise ValueError(f"{name}: expected a fast tokenizer (tokenizer.json), got {type(tokenizer).__name__}")
    if tokenizer.pad_token_id is None:
        raise ValueError(f"{name}: its tokenizer has no padding token, which batches need")
    if "token_type_ids" in tokenizer.model_input_names:
        types = tokenizer("a", "b")["token_type_ids"]
        second = types.index(1) if 1 in types else len(types)
        if types != [int(i >= second) for i in range(len(types))]:
            raise ValueError(f"{name}: token types must be 0 and then 1, got {types} for a pair of texts")


def check_batches(name: str, model: nn.Module, tokenizer: Any) -> None:
    """Raise ValueError for a classifier of transformers that says something else of our batches than of its own.

    Its own hold one pair of texts, or two that its tokenizer has padded: what one gives, some models do not with the
    other, and one of them has to be ours.
    """
    pairs = Split(["a", "a a a"], ["a a a a a", "a"], np.zeros(2, dtype=np.int64))
    tokens = tokenize(pairs, tokenizer, 32)
    if not tells_texts_apart(name, tokenizer):
        tokens = replace(tokens, second=tokens.lengths)

    def asked(*texts: Any) -> Tensor:
        given = tokenizer(*texts, padding=True, return_tensors="pt")
        read = inspect.signature(model.forward).parameters
        return model(**{name: part for name, part in given.items() if name in read}).logits

    with torch.inference_mode():
        ours = whole.Whole(model).eval()(**tokens.batch(np.arange(2)))
        alone = torch.cat([asked([text], [text2]) for text, text2 in zip(pairs.text, pairs.text2 or [], strict=True)])
        if not any(
            torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5) for theirs in (alone, asked(pairs.text, pairs.text2))
        ):
            raise ValueError(f"{name}: it classifies a text padded behind, as kdnb pads, otherwise than the text alone")


def _unavailable(source: Source, what: str, error: Exception) -> ModelUnavailable:
    origin = f"no {what} here and none from the hub" if source.kind == "hub" else f"no {what} that can be loaded"
    return ModelUnavailable(f"{source.where}: {origin} ({first_line(error)})")


def _randomise(encoder: nn.Module, dense: nn.Linear, seed: int) -> None:
    """New random weights for a `tiny` model, from the seed alone."""
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    for parameter in [*encoder.parameters(), *dense.parameters()]:
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1, generator=generator)
