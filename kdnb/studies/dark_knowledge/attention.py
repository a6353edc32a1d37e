"""Attention scores: how they are read of kdnb's encoder, kept of a teacher, and matched as TinyBERT does.

Jiao et al. 2020, by their released code: the squared difference of q . k / sqrt(d) *before* the softmax, head by head.
Theirs is a mean over a padded batch, with the padding's entries as zeros, and is summed over layers; here each text
counts alike, whatever its length or its company, and layers are averaged. The encoder computes of its last layer the
first token alone, so the scores of all tokens are made here, from the states that the layer reads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from kdnb.core.batches import Inputs, sorted_batches
from kdnb.core.device import autocast, on_device
from kdnb.core.predict import MAX_TOKENS
from kdnb.data.splits import TaskData
from kdnb.models.encoder import Layer
from kdnb.models.text import Classifier
from kdnb.studies.dark_knowledge.features import Depth, FeatureLoss, States, read_again, sites

if TYPE_CHECKING:
    from kdnb.studies.dark_knowledge.methods import FeatureKD


@dataclass(frozen=True)
class Scores:
    """Attention scores of N texts at one depth, text after text and without padding.

    flat: (sum of heads L^2 over texts,) float16.
    lengths: (N,) tokens L of each text.
    heads: of the layer.
    """

    flat: np.ndarray
    lengths: np.ndarray
    heads: int

    def first(self, count: int) -> Scores:
        """Those of the first texts."""
        lengths = self.lengths[:count]
        return Scores(self.flat[: self.heads * int((lengths**2).sum())], lengths, self.heads)

    def padded(self, rows: np.ndarray) -> Tensor:
        """(B, heads, L, L) float32 of some texts, 0 where there is padding."""
        longest = int(self.lengths[rows].max())
        starts = np.concatenate([[0], np.cumsum(self.heads * self.lengths**2)])
        made = np.zeros((len(rows), self.heads, longest, longest), dtype=np.float32)
        for place, row in enumerate(rows):
            length = self.lengths[row]
            part = self.flat[starts[row] : starts[row + 1]]
            made[place, :, :length, :length] = part.reshape(self.heads, length, length)
        return torch.from_numpy(made)


class Read(NamedTuple):
    """What is read of a teacher: hidden states (N, width) and attention scores, both by depth."""

    states: States
    scores: Mapping[Depth, Scores]


@dataclass(frozen=True)
class Seen:
    """What a forward pass left behind: scores (B, heads, L, L) by depth, and the texts' lengths (B,)."""

    scores: dict[Depth, Tensor] = field(default_factory=dict)
    lengths: list[Tensor] = field(default_factory=list)  # of the last pass, alone


def layer_scores(layer: Layer, hidden: Tensor) -> Tensor:
    """q . k / sqrt(d) of all tokens, padding among them and before any mask: (B, heads, L, L), at least float32.

    Args:
        layer: of kdnb's encoder.
        hidden: (B, L, width) that it reads.
    """
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    weight, bias = (part[: 2 * len(part) // 3].to(hidden.dtype) for part in (layer.qkv.weight, layer.qkv.bias))
    with torch.autocast(hidden.device.type, enabled=False):
        both = nn.functional.linear(hidden, weight, bias).unflatten(-1, (2, layer.heads, -1))
        query, key = both.permute(2, 0, 3, 1, 4)
        return layer.scale * query @ key.transpose(-1, -2)


@contextlib.contextmanager
def scored(model: nn.Module, depths: Iterable[Depth]) -> Iterator[Seen]:
    """The scores of a model's last forward pass at some depths; its hooks go with the block.

    Those of layer 1 are of the embeddings before dropout.

    Raises:
        ValueError: the model is none of kdnb's own encoders.
    """
    if not isinstance(model, Classifier):
        raise ValueError(f"attention is read of kdnb's own encoder, got {type(getattr(model, 'body', model)).__name__}")
    seen, below, layers = Seen(), sites(model), model.encoder.layers

    def keep(depth: Depth):
        layer = layers[depth.attention]
        assert isinstance(layer, Layer)

        def hook(_module, _inputs, output: Tensor) -> None:
            seen.scores[depth] = layer_scores(layer, output)

        return hook

    def note(_module, inputs: tuple[Tensor, ...]) -> None:
        seen.lengths[:] = [inputs[1].sum(dim=1)]

    handles = [below[Depth(depth.attention)].register_forward_hook(keep(depth)) for depth in depths]
    handles.append(model.encoder.register_forward_pre_hook(note))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def read_scores(model: nn.Module, inputs: Inputs, kind: str) -> dict[Depth, Scores]:
    """Attention scores of every text and layer, in the split's order, in eval mode.

    They take 2 heads L^2 bytes a text and layer: 17 kB for 27 tokens and 12 heads.

    Args:
        model: a classifier of kdnb's own encoder; its training mode is restored afterwards.
        inputs: what it reads of N texts.
        kind: "bf16" or "fp32".
    """
    was_training, parts = model.training, {}
    layers = model.encoder.layers if isinstance(model, Classifier) else ()
    depths = [Depth(number) for number in range(1, len(layers) + 1)]
    model.eval()
    with torch.no_grad(), autocast(kind), scored(model, depths) as seen:
        for rows in sorted_batches(inputs.lengths, MAX_TOKENS):
            model(**on_device(inputs.batch(rows)))
            of_batch = {depth: scores.half().cpu().numpy() for depth, scores in seen.scores.items()}
            for place, row in enumerate(rows):
                length = inputs.lengths[row]
                parts[int(row)] = [one[place, :, :length, :length].ravel() for one in of_batch.values()]
    model.train(was_training)
    return {
        depth: Scores(np.concatenate([parts[row][i] for row in range(len(parts))]), inputs.lengths, layers[i].heads)
        for i, depth in enumerate(depths)
    }


def teacher_scores(run_id: str, data: TaskData) -> dict[Depth, Scores]:
    """Attention scores of a stored run's model on its train rows: trained again once, then kept in outputs/features.

    Raises what `features.read_again` does, and ValueError for a model that none are read of.
    """

    def read(model: nn.Module, inputs: Inputs, kind: str) -> dict[str, np.ndarray]:
        found = read_scores(model, inputs, kind)
        heads = np.array([scores.heads for scores in found.values()])
        flat = {str(depth.number): scores.flat for depth, scores in found.items()}
        return {"lengths": inputs.lengths, "heads": heads, **flat}

    arrays = read_again(run_id, data, "-attention", read)
    return {
        Depth(number): Scores(arrays[str(number)], arrays["lengths"], int(heads))
        for number, heads in enumerate(arrays["heads"], 1)
    }


class AttentionLoss(FeatureLoss):
    """Mean over pairs of layers of the squared difference of attention scores; as "tinybert" beside hidden states'."""

    def __init__(self, how: FeatureKD, model: nn.Module, teacher: Read, widths: Mapping[Depth, int], seed: int = 0):
        """The loss of a student on its teacher's scores.

        Args:
            how: its settings, feature_loss "attention" or "tinybert".
            model: the student, a classifier of kdnb's own encoder.
            teacher: what was read of it, on the train rows.
            widths: of the student's states.
            seed: of projections.
        Raises:
            ValueError: as `FeatureLoss`; a learned map, which mixes states; or models that cannot be compared, of
                different numbers of heads or not of kdnb's own encoder.
        """
        super().__init__(how, model, teacher.states, widths, seed)
        if how.layer_map == "learned":
            raise ValueError("a learned map mixes hidden states and no attention: expected another layer_map")
        self.attention, self.seen = teacher.scores, Seen()
        self.attended = [pair for pair in self.pairs if pair.student.number]
        self._scored = lambda: scored(model, [pair.student for pair in self.attended])
        with self._scored():  # refuses a model that has none
            own = {layer.heads for layer in model.encoder.layers}  # type: ignore[union-attr]
        others = {self.attention[pair.teacher].heads for pair in self.attended}
        if own != others:
            raise ValueError(f"attention of {min(own)} heads cannot be compared with that of {min(others)}")

    def __enter__(self) -> Self:
        super().__enter__()
        self.seen = self._block.enter_context(self._scored())
        return self

    def loss(self, rows: Tensor) -> Tensor:
        """See `Beside.loss`; ValueError where both models do not cut a text into as many tokens."""
        numbers, (lengths,) = rows.cpu().numpy(), self.seen.lengths
        terms = []
        for pair in self.attended:
            scores = self.attention[pair.teacher]
            if (off := lengths.cpu().numpy() != scores.lengths[numbers]).any():
                mine, other = int(lengths[off.argmax()]), scores.lengths[numbers][off.argmax()]
                raise ValueError(f"a text of {mine} tokens is one of {other} to the teacher: no attention to compare")
            terms.append(_distance(self.seen.scores[pair.student], scores.padded(numbers).to(rows.device), lengths))
        attention = torch.stack(terms).mean()
        return attention if self.how.feature_loss == "attention" else attention + super().loss(rows)


def _distance(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Mean over texts of the mean squared difference over heads and pairs of real tokens.

    Args:
        student: (B, heads, L, L), anything where there is padding.
        teacher: (B, heads, L, L).
        lengths: (B,) real tokens.
    """
    real = torch.arange(student.shape[-1], device=student.device) < lengths[:, None]
    both = (real[:, :, None] & real[:, None])[:, None]
    squares = torch.where(both, student - teacher, 0).square().sum(dim=(1, 2, 3))
    return (squares / (student.shape[1] * lengths.square())).mean()
