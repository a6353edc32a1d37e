"""The encoder of BERT, RoBERTa and DistilBERT, computing only what a classifier of the first token needs."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from kdnb.core.optimizer import FastPath
from kdnb.models.dropout import Dropout

ROBERTAS = ("roberta", "xlm-roberta", "camembert")  # positions begin behind the padding token's, two texts are one type
PARTS = ("out", "norm1", "up", "down", "norm2")  # of a layer, beside queries, keys and values


class Encoder(nn.Module):
    """A pretrained encoder's own weights behind a faster forward pass; the same function up to rounding.

    Three things are not computed as transformers does: queries, keys and values come from one product;
    the last layer is evaluated at the first token only, the one the classifier reads; dropout is kdnb's.
    The rows of the word table that training can change may be set apart (`restrict`).
    """

    def __init__(self, pretrained: nn.Module, dropout: Dropout):
        """An encoder with the weights of a pretrained one, which are copied.

        Args:
            pretrained: a transformers BertModel, RobertaModel or DistilBertModel.
            dropout: what drops, everywhere in it.
        Raises:
            ValueError: its activation is not gelu.
        """
        super().__init__()
        self.names = names = _DISTILBERT if pretrained.config.model_type == "distilbert" else _BERT
        embeddings, config = pretrained.embeddings, pretrained.config
        if getattr(config, names["activation"]) != "gelu":
            raise ValueError(f"activation must be gelu, got {getattr(config, names['activation'])!r}")
        self.width, self.dropout = config.hidden_size, dropout
        self.words = nn.Parameter(embeddings.word_embeddings.weight.detach().clone())
        self.positions = nn.Parameter(embeddings.position_embeddings.weight.detach().clone())
        self.first = config.pad_token_id + 1 if config.model_type in ROBERTAS else 0  # position of the first token
        self.types = None  # DistilBERT does not tell the two texts apart
        if hasattr(embeddings, "token_type_embeddings"):
            self.types = nn.Parameter(embeddings.token_type_embeddings.weight.detach().clone())
        self.norm = copy.deepcopy(embeddings.LayerNorm)
        layers = pretrained.get_submodule(names["layers"])
        self.layers = nn.ModuleList(Layer(layer, names, config.num_attention_heads, dropout) for layer in layers)
        self.table: Tensor | None = None  # all words, the trainable ones first, see `restrict`
        self.row: Tensor | None = None  # where the table holds each word
        self.word_gradient: list[tuple[Tensor, Tensor]] = []  # (ids, their rows of the gradient), see `fast_path`

    def fast_path(self) -> FastPath:
        """What the loop may do to go faster, exact up to rounding; of the weights as they are now.

        The linear layers may hold bf16 weights while they train. The gradient of the word table is kept from step to
        step, and `word_gradient` has the rows that were written, (n,) distinct row numbers and their (n, width)
        gradient for each batch since `forget_word_gradient`. All layers but the last may be compiled: that one is
        evaluated at the first token, by a method of its own. On a GPU the word table is a weight as any other: finding
        the batch's distinct words would wait for the card.
        """
        return FastPath(
            halves=[part for part in self.layers.modules() if isinstance(part, nn.Linear)],
            words=[] if self.words.is_cuda else [self.words],
            word_gradient=lambda: self.word_gradient,
            forget_word_gradient=self.forget_word_gradient,
            compiled=list(self.layers[:-1]),
        )

    def pretrained_state(self) -> dict[str, Tensor]:
        """All weights, float32, by the names and in the order of words that transformers' own encoder has."""
        words = self.words if self.table is None or self.row is None else self.table[self.row]
        state = {"word_embeddings.weight": words, "position_embeddings.weight": self.positions}
        if self.types is not None:
            state["token_type_embeddings.weight"] = self.types
        state |= {f"LayerNorm.{name}": value for name, value in self.norm.state_dict().items()}
        state = {f"embeddings.{name}": value for name, value in state.items()}
        for i, layer in enumerate(self.layers):
            for name, value in layer.pretrained_state(self.names).items():
                state[f"{self.names['layers']}.{i}.{name}"] = value
        return {name: value.detach().float().cpu().clone() for name, value in state.items()}

    def restrict(self, vocabulary: Tensor) -> None:
        """Make only the words of a vocabulary trainable, the others constants.

        Exact where no other word occurs in training and there is no weight decay: AdamW leaves a row whose
        gradient is always zero as it is. Spares the gradient and the moments of all other rows.

        Args:
            vocabulary: (n,) distinct token ids, all that occur in training, padding included.
        """
        size = len(self.words)
        rest = torch.ones(size, dtype=torch.bool, device=vocabulary.device).index_fill_(0, vocabulary, False)
        order = torch.cat([vocabulary, rest.nonzero()[:, 0]])
        self.row = torch.empty_like(order).scatter_(0, order, torch.arange(size, device=order.device))
        table = self.words.detach()[order]  # the trainable rows first, and in the same memory:
        self.words = nn.Parameter(table[: len(vocabulary)])  # what training changes, the table holds
        self.table = table

    def _look_up(self, ids: Tensor) -> Tensor:
        """Word vectors (N, L, width); on a CPU their gradient goes straight into the table's rows, no dense copy."""
        trained = self.training and torch.is_grad_enabled()
        if not trained or ids.is_cuda:
            return nn.functional.embedding(ids, self.words if trained or self.table is None else self.table)
        vectors = nn.functional.embedding(ids, self.words.detach()).requires_grad_()
        vectors.register_hook(lambda gradient: self._add_word_gradient(ids, gradient))
        return vectors

    def _add_word_gradient(self, ids: Tensor, gradient: Tensor) -> None:
        if self.words.grad is None:
            self.words.grad = torch.zeros_like(self.words)
        seen, place = ids.unique(return_inverse=True)
        rows = torch.ops.aten.embedding_dense_backward(gradient, place, len(seen), -1, False)
        self.words.grad[seen] += rows
        self.word_gradient.append((seen, rows))

    def forget_word_gradient(self) -> None:
        """Zero the word table's gradient where the last batches wrote to it."""
        for seen, _ in self.word_gradient:
            self.words.grad[seen] = 0
        self.word_gradient.clear()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Hidden state (N, width) of the first token, from (N, L) token ids, mask and types."""
        ids = input_ids if self.row is None else self.row[input_ids]
        hidden = self._look_up(ids) + self.positions[self.first : self.first + ids.shape[1]]
        if self.types is not None and len(self.types) == 1:  # RoBERTa tells two texts apart by its separators alone
            hidden = hidden + self.types[0]
        elif self.types is not None:
            hidden = hidden + nn.functional.embedding(token_type_ids, self.types)
        hidden = self.dropout(self.norm(hidden))
        bias = torch.zeros_like(attention_mask, dtype=hidden.dtype).masked_fill_(attention_mask == 0, -torch.inf)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, bias)
        return self.layers[-1].first_token(hidden, bias)


class Layer(nn.Module):
    """One transformer layer with the normalisation after each residual sum, as in BERT."""

    def __init__(self, layer: nn.Module, names: dict[str, Any], heads: int, dropout: Dropout):
        super().__init__()
        parts = {name: layer.get_submodule(names[name]) for name in PARTS}
        for name, part in parts.items():
            setattr(self, name, copy.deepcopy(part))
        qkv = [layer.get_submodule(names[name]) for name in ("query", "key", "value")]
        self.qkv = nn.Linear(qkv[0].in_features, 3 * qkv[0].out_features, device="meta")  # filled at once
        self.qkv.weight = nn.Parameter(torch.cat([part.weight.detach() for part in qkv]))
        self.qkv.bias = nn.Parameter(torch.cat([part.bias.detach() for part in qkv]))
        self.heads, self.dropout, self.attention_output_dropout = heads, dropout, names["attention_output_dropout"]
        self.scale = (qkv[0].out_features // heads) ** -0.5

    def pretrained_state(self, names: dict[str, Any]) -> dict[str, Tensor]:
        """Its weights by transformers' names; queries, keys and values apart again."""
        state = {}
        for part in PARTS:
            for name, value in getattr(self, part).state_dict().items():
                state[f"{names[part]}.{name}"] = value
        for name, value in self.qkv.state_dict().items():
            for part, own in zip(("query", "key", "value"), value.chunk(3), strict=True):
                state[f"{names[part]}.{name}"] = own
        return state

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """All tokens: hidden (N, L, width) to the same shape; bias (N, L), 0 or -inf for padding."""
        n, length, width = hidden.shape
        qkv = self.qkv(hidden).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.reshape(3, n * self.heads, length, -1)
        weights = self._attend(query, key, bias.repeat_interleave(self.heads, dim=0))
        context = torch.bmm(weights, value).view(n, self.heads, length, -1).transpose(1, 2).reshape(n, length, width)
        return self._rest(hidden, context)

    def first_token(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """The first token alone, (N, width): what forward(hidden, bias)[:, 0] is.

        One query per head makes keys and values of all tokens needless: q . (K x) = (K^T q) . x, and
        sum_l a_l V x_l = V (sum_l a_l x_l). The key bias adds the same to all scores and drops out.
        """
        n, _, width = hidden.shape
        query, key, value = self.qkv.weight.view(3, self.heads, -1, width)
        query_bias, _, value_bias = self.qkv.bias.view(3, self.heads, 1, -1)
        first = hidden[:, 0]
        query = torch.baddbmm(query_bias, first.expand(self.heads, n, width), query.transpose(1, 2))  # (heads, N, d)
        folded = torch.bmm(query, key).transpose(0, 1)  # (N, heads, width)
        weights = self._attend(folded, hidden, bias)
        context = torch.bmm(weights, hidden).transpose(0, 1)  # (heads, N, width)
        total = weights.sum(dim=-1).t()[..., None]  # not 1 where dropout took weights away
        context = torch.bmm(context, value.transpose(1, 2)) + total * value_bias
        return self._rest(first, context.transpose(0, 1).reshape(n, width))

    def _attend(self, query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
        """Attention weights (M, Q, L) after dropout, from (M, Q, d), (M, L, d) and the bias (M, L) of the scores."""
        bias = bias.to(query.dtype)[:, None].expand(-1, query.shape[1], -1)  # cast first: autocast would copy all Q
        scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=self.scale)
        with torch.autocast(scores.device.type, enabled=False):  # the kernel computes in float32 and rounds once
            return self.dropout(scores.softmax(dim=-1))

    def _rest(self, hidden: Tensor, context: Tensor) -> Tensor:
        """The layer after attention: output product, residual, feed-forward; (..., width) each."""
        out = self.out(context)
        hidden = self.norm1(self.dropout.add(hidden, out) if self.attention_output_dropout else hidden + out)
        inner = nn.functional.gelu(self.up(hidden))
        return self.norm2(self.dropout.add(hidden, self.down(inner)))


_BERT: dict[str, Any] = {  # where transformers keeps what
    "layers": "encoder.layer", "activation": "hidden_act", "attention_output_dropout": True,
    "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
    "out": "attention.output.dense", "norm1": "attention.output.LayerNorm",
    "up": "intermediate.dense", "down": "output.dense", "norm2": "output.LayerNorm",
}  # fmt: skip
_DISTILBERT: dict[str, Any] = {
    "layers": "transformer.layer", "activation": "activation", "attention_output_dropout": False,  # as DistilBERT's own
    "query": "attention.q_lin", "key": "attention.k_lin", "value": "attention.v_lin",
    "out": "attention.out_lin", "norm1": "sa_layer_norm",
    "up": "ffn.lin1", "down": "ffn.lin2", "norm2": "output_layer_norm",
}  # fmt: skip
