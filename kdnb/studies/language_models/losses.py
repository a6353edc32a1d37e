"""What a language model is trained on: the loss of each token, and its sum over all of them in chunks.

The logits of B x T tokens over a vocabulary of 50,000 and more do not fit where the model does. So a loss takes hidden
states and the head's weights, not logits; it walks over the tokens in chunks, and gives with each chunk's loss its
gradient, so that no chunk's logits outlive it and none is computed twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdnb.core.device import autocast
from kdnb.studies.language_models import divergences, sparse
from kdnb.studies.language_models.divergences import log_law
from kdnb.studies.language_models.sparse import Linear, Sparse

CHUNK = 512  # tokens whose logits are there at a time
Teacher = Callable[[slice], Tensor]  # tokens -> the teacher's logits on them (n, V)


@dataclass(frozen=True)
class FromStates:
    """A teacher's law from its last hidden states: its head is applied to a chunk of tokens at a time.

    head: the teacher's.
    states: (N, d) of the told tokens.
    kind: precision of the products.
    vocabulary: entries of the law; rows of the head beyond are cut off.
    """

    head: nn.Linear
    states: Tensor
    kind: str
    vocabulary: int

    def __call__(self, rows: slice) -> Tensor:
        """Logits (n, V) float32 of some tokens; no gradient flows into them."""
        with torch.no_grad(), autocast(self.kind):
            return self.head(self.states[rows])[:, : self.vocabulary].float()


Part = tuple[Tensor, Tensor]  # losses (n,) [nats], and their gradient in the logits (n, V)


@dataclass(frozen=True)
class Objective:
    """(1 - alpha) label term + alpha soft term, of each token.

    alpha: weight of the soft term; 0 is ERM.
    divergence: a key of `divergences.DIVERGENCES`; "uniform" is label smoothing: the soft target is 1 / V.
    beta: of the divergences that have one; None is their default.
    tau: temperature of both laws in the soft term.
    variant: with sparse targets, one of `sparse.VARIANTS`.
    """

    alpha: float = 0.0
    divergence: str = "forward_kl"
    beta: float | None = None
    tau: float = 1.0
    variant: str = "tail_bucket"

    def __post_init__(self):
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {self.alpha}")
        if self.divergence != "uniform":
            divergences.check(self.divergence, self.beta, self.tau)
        if self.variant not in sparse.VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(sparse.VARIANTS)}, got {self.variant!r}")

    def check_sparse(self, storage: str, tau: float) -> None:
        """Raise ValueError where sparse targets cannot serve this objective.

        Args:
            storage: "top_k" or "sampled".
            tau: the temperature that the law was taken at.
        """
        if (self.variant == "sampled") != (storage == "sampled"):
            raise ValueError(f"variant sampled goes with storage sampled alone, got {self.variant} with {storage}")
        if self.tau != tau:
            raise ValueError(f"tau must be {tau:g}, at which the cached law was taken, got {self.tau:g}")
        if self.divergence != "forward_kl" and self.variant != "tail_bucket":
            raise ValueError(
                f"{self.divergence} of sparse targets needs variant tail_bucket, which has both laws whole, "
                f"got {self.variant!r}"
            )

    def part(self, logits: Tensor, labels: Tensor, soft: Sparse | Tensor | None) -> Part:
        """Losses and gradient of some tokens. The logits' memory is used up.

        Args:
            logits: (n, V) float32 of the student.
            labels: (n,) int64.
            soft: sparse targets, or the teacher's logits (n, V); None where alpha is 0 or divergence "uniform".
        """
        if self.alpha == 0 or self.divergence == "uniform":
            share = self.alpha / logits.shape[-1]
            return _closed(logits, _labels(labels, 1 - self.alpha, share), spread=share != 0)
        if soft is None:
            raise ValueError("a teacher's targets are needed where alpha is not 0")
        if isinstance(soft, Sparse):
            if self.divergence == "forward_kl" and self.tau == 1 and self.variant in sparse.LINEAR:
                wanted = sparse.linear(self.variant, soft, logits.shape[-1])
                mixed = _mixed(_labels(labels, 1 - self.alpha, 0.0), wanted, self.alpha)
                return _closed(logits, mixed, spread=self.variant == "uniform_tail")
            return _differentiated(logits, lambda z: self._sparse(z, labels, soft))
        if self.divergence == "forward_kl" and self.tau == 1:
            return _dense(logits, labels, soft, self.alpha)
        return _differentiated(logits, lambda z: self._whole(z, labels, soft))

    def losses(self, logits: Tensor, labels: Tensor, soft: Sparse | Tensor | None = None) -> Tensor:
        """The same losses (n,) by autograd alone: slower, and what `part` is held to."""
        if self.alpha == 0:
            return _nll(logits, labels)
        if self.divergence == "uniform":
            return (1 - self.alpha) * _nll(logits, labels) - self.alpha * log_law(logits).mean(dim=-1)
        if soft is None:
            raise ValueError("a teacher's targets are needed where alpha is not 0")
        rule = self._sparse if isinstance(soft, Sparse) else self._whole
        return rule(logits, labels, soft)  # type: ignore[arg-type]

    def _whole(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> Tensor:
        soft = divergences.divergence(self.divergence, teacher_logits, logits, beta=self.beta, tau=self.tau)
        return self.alpha * soft + ((1 - self.alpha) * _nll(logits, labels) if self.alpha < 1 else 0.0)

    def _sparse(self, logits: Tensor, labels: Tensor, target: Sparse) -> Tensor:
        scaled = logits / self.tau
        if self.divergence == "forward_kl":
            soft = sparse.sparse_divergence(self.variant, target, scaled)
        else:
            soft = divergences.between(self.divergence, *sparse.coarse(target, log_law(scaled)), beta=self.beta)
        soft = soft * self.tau**2
        return self.alpha * soft + ((1 - self.alpha) * _nll(logits, labels) if self.alpha < 1 else 0.0)


def _nll(logits: Tensor, labels: Tensor) -> Tensor:
    return -log_law(logits).gather(-1, labels[:, None])[:, 0]


def _labels(labels: Tensor, weight: float, rest: float) -> Linear:
    """Targets of the labels: a weight on each, and a share for every entry of the vocabulary."""
    like = torch.full((len(labels), 1), weight, device=labels.device)
    return Linear(labels[:, None], like, torch.full_like(like[:, 0], rest), torch.zeros_like(like[:, 0]))


def _mixed(hard: Linear, soft: Linear, alpha: float) -> Linear:
    """Label targets and alpha times soft targets as one."""
    ids = torch.cat([hard.ids, soft.ids], dim=-1)
    weights = torch.cat([hard.weights, alpha * soft.weights], dim=-1)
    return Linear(ids, weights, hard.rest + alpha * soft.rest, alpha * soft.constant)


def _closed(logits: Tensor, target: Linear, *, spread: bool) -> Part:
    """Of targets t: loss mass lse(z) - t z - constant, gradient mass softmax(z) - t; three passes over the logits.

    spread: whether `rest` is anything but 0; said, not looked at, which would wait for a GPU in each chunk.
    """
    vocabulary = logits.shape[-1]
    mass = target.weights.sum(dim=-1) + vocabulary * target.rest
    largest = logits.amax(dim=-1, keepdim=True)
    hit = (target.weights * logits.gather(-1, target.ids)).sum(dim=-1)
    if spread:
        hit += target.rest * logits.sum(dim=-1)
    gradient = logits.sub_(largest).exp_()
    total = gradient.sum(dim=-1, keepdim=True)
    losses = mass * (largest + total.log())[:, 0] - hit - target.constant
    gradient.mul_(mass[:, None] / total)
    if spread:
        gradient.sub_(target.rest[:, None])
    return losses, gradient.scatter_add_(-1, target.ids, -target.weights)


def _dense(logits: Tensor, labels: Tensor, teacher_logits: Tensor, alpha: float) -> Part:
    """The same of the teacher's whole law, forward KL at tau 1."""
    log_q = log_law(teacher_logits)
    q = log_q.exp()
    log_p = logits.log_softmax(dim=-1)
    losses = alpha * torch.einsum("nv,nv->n", q, log_q - log_p) - (1 - alpha) * log_p.gather(-1, labels[:, None])[:, 0]
    gradient = log_p.exp_().sub_(q, alpha=alpha)
    return losses, gradient.scatter_add_(-1, labels[:, None], torch.full_like(losses, alpha - 1)[:, None])


def _differentiated(logits: Tensor, rule: Callable[[Tensor], Tensor]) -> Part:
    """The same of any rule, by autograd."""
    with torch.enable_grad():
        logits = logits.detach().requires_grad_()
        losses = rule(logits)
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
    return losses.detach(), gradient


class _Walk(torch.autograd.Function):
    """Sum of the losses of all tokens from hidden states and the head's weights, chunk by chunk.

    The gradient is made beside the loss: a chunk's logits are computed once and gone before the next one's are made.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, bias: Tensor | None, told: tuple[Callable, int]) -> Tensor:
        part, chunk = told
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], bias is not None and ctx.needs_input_grad[2]]
        gradients = [torch.zeros_like(t) if w else None for t, w in zip((hidden, weight, bias), wanted, strict=True)]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        with torch.no_grad():
            for start in range(0, len(hidden), chunk):
                rows = slice(start, start + chunk)
                states = hidden[rows]
                logits = states @ weight.to(states.dtype).T
                logits = (logits if bias is None else logits + bias).float()
                losses, gradient = part(rows, logits)
                total += losses.sum()
                _gather(gradients, rows, gradient, states, weight)
        ctx.save_for_backward(*(g for g in gradients if g is not None))
        ctx.given = [g is not None for g in gradients]
        return total

    @staticmethod
    def backward(ctx, *outer: Tensor):
        saved = iter(ctx.saved_tensors)
        return *(next(saved) * outer[0] if given else None for given in ctx.given), None


def _gather(gradients: list[Tensor | None], rows: slice, gradient: Tensor, states: Tensor, weight: Tensor) -> None:
    """Add a chunk's gradient in its logits to those of hidden states, weight and bias."""
    in_states, in_weight, in_bias = gradients
    small = gradient.to(states.dtype)
    if in_states is not None:
        torch.mm(small, weight.to(states.dtype), out=in_states[rows])
    if in_weight is not None and in_weight.dtype == small.dtype:
        in_weight.addmm_(small.T, states)
    elif in_weight is not None:
        in_weight += small.T @ states
    if in_bias is not None:
        in_bias += gradient.sum(dim=0)


@dataclass(frozen=True)
class Head:
    """What makes logits of hidden states, a chunk of tokens at a time.

    weight: (V, d).
    bias: (V,), where it has one.
    chunk: tokens whose logits are there at a time, the peak of memory.
    """

    weight: Tensor
    bias: Tensor | None = None
    chunk: int = CHUNK


def from_hidden(
    objective: Objective, hidden: Tensor, head: Head, labels: Tensor, soft: Sparse | Teacher | None = None
) -> Tensor:
    """Sum over tokens of an objective's losses [nats]; a scalar that gradients flow from.

    Divide once by the number of all tokens of an optimiser step: a mean of means weighs short sequences too much.

    Args:
        objective: what is learned.
        hidden: (N, d) the student's last hidden states, padding left out.
        head: the student's.
        labels: (N,) the tokens that came next.
        soft: sparse targets of the N tokens, or what gives the teacher's logits of some of them.
    """

    def part(rows: slice, logits: Tensor) -> Part:
        taught = soft(rows) if callable(soft) else None if soft is None else soft[rows]
        return objective.part(logits, labels[rows], taught)

    return _Walk.apply(hidden, head.weight, head.bias, (part, head.chunk))


def shifted(hidden: Tensor, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Hidden states and the tokens that came next: position i is to tell token i + 1.

    Args:
        hidden: (B, T, d), or logits (B, T, V).
        ids: (B, T) int64.
        mask: (B, T) bool, which tokens are to be told; None is all but the first of each sequence.
    Returns:
        (N, d) and (N,), of the tokens that are to be told.
    """
    states, labels = hidden[:, :-1], ids[:, 1:]
    if mask is None:
        return states.reshape(-1, hidden.shape[-1]), labels.reshape(-1)
    told = mask[:, 1:]
    return states[told], labels[told]
