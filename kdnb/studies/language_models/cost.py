"""What a distillation of language models costs before it is begun: FLOPs, hours, disk and memory. No torch here.

A weight that a token is multiplied with costs 2 FLOPs forward and 4 backward, so with N_t and N_s such weights

    ERM        6 N_s a token and epoch
    online     6 N_s + 2 N_t: the teacher reads every token in every epoch
    cache      6 N_s, and 2 N_t once; from stored hidden states the teacher's head is applied anew, 2 V d
    on-policy  6 N_s + 2 N_t + 2 N_s: the student first writes what is read, token after token, and nothing can be kept

Left out: attention scores (`Transformer.forward` has them), norms, the optimiser, activations kept for the backward.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import pandas as pd

from kdnb.studies.language_models import sizes

ERM, ONLINE, SPARSE, HIDDEN, ON_POLICY = "ERM", "online", "cache, sparse", "cache, hidden states", "on-policy"
STATES = "hidden states, float16"
FORWARD, BACKWARD = 2, 4  # FLOPs for a token and a weight
DENSE, TAUGHT, KEPT = "dense loss", "chunked loss, teacher online", "chunked loss, sparse targets"
TENSORS = {DENSE: 7, TAUGHT: 7, KEPT: 2}  # float32 (tokens, V) alive at the peak; `cost_measured.peak` counts them
MOST = 1e30  # of anything in a plan, so that products of it are finite
DISTILLKIT = {"recommended": (128, 16, 6), "budget": (50, 1, 3)}  # README: k, exact values bf16, terms float32


@dataclass(frozen=True)
class Device:
    """What a machine is said to do at best.

    flops: dense matrix products in bfloat16 [FLOP/s].
    bandwidth: of its memory [bytes/s].
    """

    flops: float
    bandwidth: float


DEVICES = {  # vendor's data sheets, SXM, without sparsity
    "H100": Device(989e12, 3.35e12),
    "H200": Device(989e12, 4.8e12),
    "A100": Device(312e12, 2.039e12),
}


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """Shape of a decoder with gated feed-forward layers and no biases, as Llama's, Qwen's and Mistral's."""

    layers: int
    width: int  # d
    feed_forward: int
    vocabulary: int  # V
    heads: int
    kv_heads: int = 0  # 0: as many as heads
    head_width: int = 0  # 0: width / heads
    tied: bool = False  # embedding and head are one table

    @property
    def weights(self) -> dict[str, int]:
        """Entries of the matrices: of all layers, of the head, and of an embedding table of its own."""
        queries = self.heads * self._head_width
        keys = (self.kv_heads or self.heads) * self._head_width
        layer = self.width * (2 * queries + 2 * keys + 3 * self.feed_forward)
        table = self.vocabulary * self.width
        return {"layers": self.layers * layer, "head": table, "embedding": 0 if self.tied else table}

    @property
    def multiplied(self) -> int:
        """N: weights that a token is multiplied with. The embedding is looked up."""
        return self.weights["layers"] + self.weights["head"]

    @property
    def _head_width(self) -> int:
        return self.head_width or self.width // self.heads

    def forward(self, length: int) -> dict[str, int]:
        """FLOPs for a token of a sequence, forward; three times that with the backward.

        Args:
            length: tokens of the sequence: scores and their mixture are 4 T d a layer where all T x T are computed,
                as the eager implementation does; a causal kernel does half.
        """
        scores = 2 * FORWARD * length * self.heads * self._head_width * self.layers
        own = {name: FORWARD * self.weights[name] for name in ("layers", "head")}
        return {**own, "attention": scores, "embedding": 0}


def training_cost_ratio(teacher: float, student: float, epochs: float = 1) -> float:
    """FLOPs of distilling over those of ERM: 1 + N_t / (3 N_s E), the teacher run once for all E epochs.

    Args:
        teacher: N_t.
        student: N_s.
        epochs: E over which the teacher's pass is shared; 1 where it runs online.
    """
    return 1 + FORWARD * teacher / ((FORWARD + BACKWARD) * student * epochs)


def forward_ratio(teacher: float, student: float) -> float:
    """(N_t + N_s) / N_s: forward passes alone, the student's backward forgotten."""
    return (teacher + student) / student


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What somebody means to do. Raises ValueError, naming the field, for a value that makes no sense."""

    teacher: float  # N_t, see `Transformer.multiplied`
    student: float  # N_s
    tokens: float  # of the text, read once in an epoch
    epochs: int = 1
    students: int = 1  # that learn from one teacher, one after the other; costs are those of all
    teacher_tokens: float = 0.0  # the teacher has yet to be trained on; 0: it exists
    vocabulary: int = 128_256
    teacher_width: int = 4096  # d of its hidden states
    student_width: int = 2048
    sequences: int = 8  # of a forward pass
    length: int = 2048
    chunk: int = 512  # tokens of the chunked loss at a time
    kept: int = 64  # of a top-k cache
    draws: int = 12  # of a sampled one
    generated: float = 1.0  # on-policy: share of the tokens that the student writes
    decoded: int = 64  # sequences decoded side by side
    device: Device = DEVICES["H100"]
    utilization: float = 0.4  # share of `device.flops` that is reached
    disk_rate: float = 2e9  # [bytes/s]

    def __post_init__(self):
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name not in ("device", "teacher_tokens", "generated") and not 0 < value < MOST:
                raise ValueError(f"{one.name} must be positive and below {MOST:g}, got {value}")
        if not 0 <= self.teacher_tokens < MOST:
            raise ValueError(f"teacher_tokens must be >= 0 and below {MOST:g}, got {self.teacher_tokens}")
        for name in ("utilization", "generated"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

    @property
    def read(self) -> float:
        """Tokens that all students read in all epochs."""
        return self.tokens * self.epochs * self.students


@dataclass(frozen=True)
class Cost:
    """What a plan costs, for all its students together.

    flops: by way; what the teacher's own training takes is in all but ERM.
    hours: the same on the plan's device.
    disk: bytes a token, by what is stored.
    break_even: passes over the text after which storing takes less time than running the teacher again, by what is
        stored; inf: the disk is slower than the teacher.
    memory: bytes, by what takes them.
    """

    flops: Mapping[str, float]
    hours: Mapping[str, float]
    disk: Mapping[str, int]
    break_even: Mapping[str, float]
    memory: Mapping[str, float]

    def ratio(self, way: str) -> float:
        """FLOPs over those of ERM."""
        return self.flops[way] / self.flops[ERM]

    def table(self) -> pd.DataFrame:
        """A row for each way: FLOPs, over ERM, hours."""
        rows = [(way, flops, self.ratio(way), self.hours[way]) for way, flops in self.flops.items()]
        return pd.DataFrame(rows, columns=["way", "FLOPs", "over ERM", "hours"])

    def text(self, tokens: float) -> str:
        """All of it in lines: the table, then disk and memory.

        Args:
            tokens: of the text, for the disk.
        """
        looks = {"FLOPs": "{:.2e}".format, "over ERM": "{:.3f}".format, "hours": "{:,.1f}".format}
        lines = [self.table().to_string(index=False, formatters=looks)]
        for name, size in self.disk.items():
            even = f"pays off after {self.break_even[name]:.2f} passes over the text"
            even = even if math.isfinite(self.break_even[name]) else "never pays off: the disk is slower"
            lines.append(f"{name:<38}{size * tokens / 1e9:>12,.1f} GB on disk, {even}")
        lines += [f"{name:<38}{size / 1e9:>12,.1f} GB of memory" for name, size in self.memory.items()]
        return "\n".join(lines)


def cost(plan: Plan) -> Cost:
    """What a plan costs."""
    flops, speed = _flops(plan), plan.device.flops * plan.utilization
    hours = {way: value / speed / 3600 for way, value in flops.items()}
    hours[ON_POLICY] += _waiting(plan, speed) / 3600
    disk = bytes_per_token(plan.vocabulary, plan.teacher_width, plan.kept, plan.draws)
    teacher = FORWARD * plan.teacher / speed  # seconds a token
    again = {STATES: FORWARD * plan.vocabulary * plan.teacher_width / speed}  # the head
    even = {name: _break_even(teacher, size / plan.disk_rate, again.get(name, 0.0)) for name, size in disk.items()}
    return Cost(flops, hours, disk, even, _memory(plan))


def _flops(plan: Plan) -> dict[str, float]:
    learning = (FORWARD + BACKWARD) * plan.student * plan.read
    trained = (FORWARD + BACKWARD) * plan.teacher * plan.teacher_tokens
    once, always = FORWARD * plan.teacher * plan.tokens, FORWARD * plan.teacher * plan.read
    head = FORWARD * plan.vocabulary * plan.teacher_width * plan.read
    return {
        ERM: learning,
        ONLINE: trained + learning + always,
        SPARSE: trained + learning + once,
        HIDDEN: trained + learning + once + head,
        ON_POLICY: trained + learning + always + FORWARD * plan.student * plan.generated * plan.read,
    }


def _waiting(plan: Plan, speed: float) -> float:
    """Seconds that decoding takes beyond its FLOPs: each step reads the student's weights once, 2 bytes each, and
    gives one token of each sequence. The cache of keys and values, read too, is left out."""
    step = max(FORWARD * plan.student * plan.decoded / speed, 2 * plan.student / plan.device.bandwidth)
    written = plan.generated * plan.read
    return written / plan.decoded * step - FORWARD * plan.student * written / speed


def _break_even(teacher: float, disk: float, head: float) -> float:
    """Passes E at which teacher + disk (written once) + E (disk + head) = E teacher [seconds a token]."""
    return (teacher + disk) / (teacher - disk - head) if disk + head < teacher else math.inf


def bytes_per_token(vocabulary: int, width: int, kept: int = 64, draws: int = 12) -> dict[str, int]:
    """Bytes a token of the teacher's law on disk, by what is stored.

    Args:
        vocabulary: V.
        width: d of the teacher's hidden states.
        kept: k.
        draws: of a sampled law; 17-bit ids and 7-bit weights are what Anshumann et al. 2025 (2503.16870) count.
    """
    return {
        "whole law, float16": 2 * vocabulary,
        STATES: 2 * width,
        f"top-{kept}, float16 and int32": 6 * kept,
        f"top-{kept}, kdnb": sizes.bytes_per_token(kept, vocabulary),
        **{f"DistillKit, {name}": _distillkit(vocabulary, *how) for name, how in DISTILLKIT.items()},
        f"{draws} draws, kdnb": sizes.bytes_per_token(draws, vocabulary, sampled=True),
        f"{draws} draws, 17 + 7 bits": 3 * draws,
    }


def _distillkit(vocabulary: int, kept: int, exact: int, terms: int) -> int:
    """Ids of just enough bits, exact values in two bytes, coefficients of a curve in four."""
    return -(-kept * (vocabulary - 1).bit_length() // 8) + 2 * exact + 4 * terms


def loss_memory(how: str, tokens: int, vocabulary: int, width: int) -> float:
    """Bytes at the peak of a loss, its backward included: tensors the size of logits, and the head's gradient.

    Args:
        how: a key of TENSORS. Dense is a KL written down plainly, student's and teacher's logits whole; it peaks before
            the head's gradient is there.
        tokens: of the batch, or of a chunk.
        vocabulary: V.
        width: d of the student.
    """
    return 4.0 * vocabulary * (TENSORS[how] * tokens + (0 if how == DENSE else width))


def _memory(plan: Plan) -> dict[str, float]:
    tokens = plan.sequences * plan.length
    at_a_time = {DENSE: tokens, TAUGHT: min(plan.chunk, tokens), KEPT: min(plan.chunk, tokens)}
    return {
        "teacher, bfloat16": 2 * plan.teacher,
        "teacher, float32, as kdnb loads it": 4 * plan.teacher,
        "student, gradient and AdamW, float32": 16 * plan.student,
        "logits, one float32 tensor": 4.0 * tokens * plan.vocabulary,
        **{how: loss_memory(how, n, plan.vocabulary, plan.student_width) for how, n in at_a_time.items()},
    }
