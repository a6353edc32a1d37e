"""What a student says on text it was not trained on, token by token: likelihood, doubt, calibration, its teacher."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdnb.core.device import set_up
from kdnb.core.metrics import ece
from kdnb.studies.language_models import losses
from kdnb.studies.language_models.divergences import log_law
from kdnb.studies.language_models.losses import Teacher
from kdnb.studies.language_models.models import Language
from kdnb.studies.language_models.text import Blocks

BATCH = 8  # sequences at a time
ENTROPY_BINS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, math.inf)  # of the teacher's entropy [nats]


def judge(
    student: Language,
    blocks: Blocks,
    teacher: Callable[[np.ndarray, Tensor], Teacher] | None = None,
    vocabulary: int | None = None,
) -> dict[str, np.ndarray]:
    """Every told token of some sequences, from the student's whole law and, where given, the teacher's.

    Args:
        student: in eval mode.
        blocks: sequences it was not trained on.
        teacher: row numbers and ids (B, T) to what gives the teacher's logits on their told tokens.
        vocabulary: entries of the law; None is all of the student's head.
    Returns:
        Arrays (N, T - 1) float32: nll, entropy, confidence [nats, nats, share], correct (0 or 1); with a teacher also
        teacher_nll, teacher_entropy, kl (teacher to student), overlap (sum of min(p, q): the chance that speculative
        decoding accepts a draft of the student's), agreement (both have one likeliest token); with a teacher and
        sequences that have a separator also end and teacher_end, what either gives to the end of the text [share], and
        ended, where it ended (0 or 1).
    """
    set_up("fp32")  # whatever the training left
    device, found, end = student.head.weight.device, [], blocks.separator
    for start in range(0, len(blocks), BATCH):
        rows = np.arange(start, min(len(blocks), start + BATCH))
        ids = torch.from_numpy(blocks.ids[rows].astype(np.int64)).to(device)
        with torch.no_grad():
            states, labels = losses.shifted(student.hidden(ids), ids)
            taught = teacher(rows, ids) if teacher else None
            parts = [
                _judged(student.head(states[part])[:, :vocabulary], labels[part], taught(part) if taught else None, end)
                for part in (slice(i, i + losses.CHUNK) for i in range(0, len(states), losses.CHUNK))
            ]
        found.append({name: torch.cat([p[name] for p in parts]).view(len(rows), -1).cpu().numpy() for name in parts[0]})
    return {name: np.concatenate([part[name] for part in found]).astype(np.float32) for name in found[0]}


def _judged(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None, end: int) -> dict[str, Tensor]:
    """The same of some tokens: (n,) each."""
    log_p = log_law(logits)
    p = log_p.exp()
    best = log_p.max(dim=-1)
    told = {
        "nll": -log_p.gather(-1, labels[:, None])[:, 0],
        "entropy": -(p * log_p).sum(dim=-1),
        "confidence": best.values.exp(),
        "correct": (best.indices == labels).float(),
    }
    if teacher_logits is None:
        return told
    log_q = log_law(teacher_logits)
    q = log_q.exp()
    if end >= 0:
        told |= {"end": p[:, end], "teacher_end": q[:, end], "ended": (labels == end).float()}
    return told | {
        "teacher_nll": -log_q.gather(-1, labels[:, None])[:, 0],
        "teacher_entropy": -(q * log_q).sum(dim=-1),
        "kl": (q * (log_q - log_p)).sum(dim=-1),
        "overlap": torch.minimum(p, q).sum(dim=-1),
        "agreement": (log_q.argmax(dim=-1) == best.indices).float(),
    }


@dataclass(frozen=True)
class Summary:
    """Means over all told tokens; what needs a teacher is NaN without one.

    length_ratio: length of the student's texts over its teacher's, from the chance of an end at each held-out token: a
        text that ends with a chance p is 1 / p tokens long. NaN without a separator.
    end: what the student gave to the end of the text where it did end; NaN where it never does.
    teacher_end: what the teacher gave to it there.
    """

    tokens: int
    nll: float
    perplexity: float
    entropy: float
    accuracy: float
    ece: float
    teacher_perplexity: float
    teacher_entropy: float
    entropy_ratio: float
    kl: float
    acceptance: float
    agreement: float
    length_ratio: float = math.nan
    end: float = math.nan
    teacher_end: float = math.nan


def summary(judged: dict[str, np.ndarray]) -> Summary:
    """The means of what `judge` gives. ECE is that of the likeliest token in 15 equal bins of confidence."""

    def mean(name: str) -> float:
        return float(judged[name].mean(dtype=np.float64)) if name in judged else math.nan

    return Summary(
        tokens=judged["nll"].size,
        nll=mean("nll"),
        perplexity=math.exp(mean("nll")),
        entropy=mean("entropy"),
        accuracy=mean("correct"),
        ece=ece(judged["confidence"].ravel(), judged["correct"].ravel()),
        teacher_perplexity=math.exp(mean("teacher_nll")),
        teacher_entropy=mean("teacher_entropy"),
        entropy_ratio=mean("entropy") / mean("teacher_entropy"),
        kl=mean("kl"),
        acceptance=mean("overlap"),
        agreement=mean("agreement"),
        **_ends(judged),
    )


def _ends(judged: dict[str, np.ndarray]) -> dict[str, float]:
    """What `Summary` says of the end of texts."""
    if "ended" not in judged:
        return {}
    chance = {name: judged[name].astype(np.float64) for name in ("end", "teacher_end")}
    told = {"length_ratio": float(chance["teacher_end"].mean() / max(1e-12, chance["end"].mean()))}
    if (ended := judged["ended"] == 1).any():
        told |= {name: float(values[ended].mean()) for name, values in chance.items()}
    return told


def by_teacher_entropy(judged: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """Mean KL [nats] in bins of the teacher's entropy: where a student falls short of its teacher.

    Returns:
        Rows from, to [nats], share of the tokens, mean; bins without a token are left out.
    """
    place = np.digitize(judged["teacher_entropy"].ravel(), ENTROPY_BINS[1:-1])
    values, rows = judged["kl"].ravel(), []
    for number, (low, high) in enumerate(itertools.pairwise(ENTROPY_BINS)):
        inside = values[place == number]
        if inside.size:
            share = inside.size / values.size
            rows.append({"from": low, "to": high, "share": share, "mean": float(inside.mean(dtype=np.float64))})
    return rows


def by_position(judged: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """Mean KL [nats] by how many tokens of its sequence a student had read: 1, 2 to 3, 4 to 7 and so on.

    Returns:
        Rows from, to [tokens], mean.
    """
    values = judged["kl"]
    ends = [(2**i, min(2 ** (i + 1) - 1, values.shape[1])) for i in range(values.shape[1].bit_length())]
    return [{"from": a, "to": b, "mean": float(values[:, a - 1 : b].mean(dtype=np.float64))} for a, b in ends]


def lengths(ids: np.ndarray, separator: int) -> np.ndarray:
    """Tokens (N,) of sampled texts (N, T) up to and with their first separator; T where there is none."""
    ends = ids == separator
    return np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, ids.shape[1])


def length_ratio(student: np.ndarray, teacher: np.ndarray) -> float:
    """Mean length of a student's samples over its teacher's.

    Args:
        student: (N,) tokens of each sample up to its end.
        teacher: (M,) the same.
    """
    return float(np.mean(student) / max(1e-9, np.mean(teacher)))


def alarming(ratio: float) -> bool:
    """Whether a student's texts are not half to twice as long as its teacher's: it stops elsewhere, or not at all."""
    return not 0.5 <= ratio <= 2
