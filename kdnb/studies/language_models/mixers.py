"""A state-space mixer in attention's place: its matrix, its recurrence, and what brings it near an attention layer.

Of each head y_i = sum_j M_ij v_j with M_ij = (prod_{l=j+1..i} a_l) c_i . b_j for j <= i, and 0 above the diagonal: a
scalar decay a in (0, 1), a vector c that reads and a vector b that writes, all of the token alone. This is Mamba-2's
structured state-space duality (arXiv 2405.21060) without its convolution and gate, as the stages of MOHAWK (arXiv
2408.10189) compare it with softmax attention. The same y comes from a state of N x P numbers that is carried along.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOW, _FAST = 0.98, 0.5  # decays of the first and the last head before training


def matrix(log_decay: Tensor, write: Tensor, read: Tensor) -> Tensor:
    """The materialised mixer M (B, H, T, T), lower triangular; M_ij = exp(sum_{l=j+1..i} log a_l) c_i . b_j.

    The sums are taken within each column, not as differences of one long sum, which cancel in half precision.

    Args:
        log_decay: log a (B, T, H), each <= 0.
        write: b (B, T, H, N).
        read: c (B, T, H, N).
    """
    length = log_decay.shape[1]
    below = torch.ones(length, length, dtype=torch.bool, device=log_decay.device).tril(-1)
    sums = log_decay.transpose(1, 2)[..., None].expand(-1, -1, -1, length).masked_fill(~below, 0).cumsum(dim=-2)
    decays = sums.masked_fill(below.T, -torch.inf).exp()
    return torch.einsum("bihn,bjhn->bhij", read, write) * decays


def recurrence(log_decay: Tensor, write: Tensor, read: Tensor, values: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The same outputs token by token: h_i = a_i h_{i-1} + b_i v_i^T, y_i = h_i^T c_i.

    Args:
        log_decay: log a (B, T, H).
        write: b (B, T, H, N).
        read: c (B, T, H, N).
        values: v (B, T, H, P).
        state: h before the first token (B, H, N, P); zeros at the beginning of a text.
    Returns:
        y (B, T, H, P), and the state after the last token.
    """
    outputs = []
    for i in range(values.shape[1]):
        state = log_decay[:, i, :, None, None].exp() * state + write[:, i, :, :, None] * values[:, i, :, None, :]
        outputs.append(torch.einsum("bhnp,bhn->bhp", state, read[:, i]))
    return torch.stack(outputs, dim=1), state


class StateSpaceMixer(nn.Module):
    """Takes the place of a Llama layer's `self_attn`; values and output have attention's names and shapes.

    width: d of the hidden states.
    heads: H.
    head_dim: P, values of a head.
    state: N, so that a head remembers N x P numbers.
    """

    def __init__(self, width: int, heads: int, head_dim: int, state: int):
        super().__init__()
        self.heads, self.head_dim, self.state = heads, head_dim, state
        self.read = nn.Linear(width, heads * state, bias=False)
        self.write = nn.Linear(width, heads * state, bias=False)
        self.decay = nn.Linear(width, heads)
        self.v_proj = nn.Linear(width, heads * head_dim, bias=False)
        self.o_proj = nn.Linear(heads * head_dim, width, bias=False)
        with torch.no_grad():
            self.read.weight.mul_(state**-0.5)
            self.decay.weight.zero_()
            self.decay.bias.copy_(-torch.linspace(_SLOW, _FAST, heads).logit())

    def parts(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log a (B, T, H), b and c (B, T, H, N) of hidden states (B, T, d)."""
        heads = (*hidden.shape[:2], self.heads, self.state)
        return -F.softplus(self.decay(hidden)), self.write(hidden).view(heads), self.read(hidden).view(heads)

    def matrix(self, hidden: Tensor) -> Tensor:
        """M (B, H, T, T) on hidden states (B, T, d)."""
        return matrix(*self.parts(hidden))

    def values(self, hidden: Tensor) -> Tensor:
        """v (B, T, H, P)."""
        return self.v_proj(hidden).view(*hidden.shape[:2], self.heads, self.head_dim)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_) -> tuple[Tensor, Tensor]:
        """Output (B, T, d) and the matrix (B, H, T, T), as eager attention gives output and weights.

        Raises:
            ValueError: padding on the left, which would enter the state before the text does. On the right it is
                harmless: no token reads what comes after it.
        """
        if attention_mask is not None:
            seen = attention_mask[..., -1, 0]  # whether the last token may read the first
            if not bool((seen if seen.dtype == torch.bool else seen == 0).all()):
                raise ValueError("a state-space mixer reads padding on the left into its state: pad on the right")
        mixer = self.matrix(hidden_states)
        mixed = torch.einsum("bhij,bjhp->bihp", mixer, self.values(hidden_states))
        return self.o_proj(mixed.flatten(2)), mixer


def matrix_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Stage 1: ||M - A||_F of each head and text, and their mean; a scalar.

    Args:
        student: M (B, H, T, T).
        teacher: A (B, H, T, T), attention's weights or another mixer's matrix, on the same inputs.
    """
    return torch.linalg.matrix_norm(student - teacher).mean()


def block_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Stage 2: ||h - h'||_2 of each token, and their mean; a scalar, of outputs (B, T, d) of one layer on one input."""
    return (student - teacher).norm(dim=-1).mean()


def relative_error(student: Tensor, teacher: Tensor) -> float:
    """||M - A||_F / ||A||_F over all texts and heads together: 0 where they agree, 1 for M = 0."""
    return float((student - teacher).norm() / teacher.norm())
