"""Trains the students of `kdnb.studies.language_models.sparse_targets` and measures the gradients of each variant."""

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from kdnb.core.device import device
from kdnb.experiment.records import Made
from kdnb.studies.language_models import evaluation, losses, sizes, sparse, target_cache, training
from kdnb.studies.language_models.divergences import log_law
from kdnb.studies.language_models.losses import Objective
from kdnb.studies.language_models.models import Language, weights_hash
from kdnb.studies.language_models.prefix_trainings import config_of, student_of, teacher_of, text_of
from kdnb.studies.language_models.sparse import Sparse
from kdnb.studies.language_models.sparse_targets import ERM, GRADIENT, MEASURES, WHOLE, SparseTargets
from kdnb.studies.language_models.text import Blocks
from kdnb.studies.language_models.training import NoTargets, Online, Targets, Told


@dataclass(frozen=True)
class Kept:
    """Some entries of the teacher's law on each batch, as a cache would have stored them: the draws of an example come
    from its number, so that they are the same whenever it comes up."""

    laws: Tensor  # logits (N, T - 1, V) of the teacher on the train text
    variant: str
    kept: int
    seed: int

    def __call__(self, rows: np.ndarray, ids: Tensor, told: Tensor | None) -> Sparse:
        """See `training.Targets`."""
        parts = [entries(self.laws[row], self.variant, self.kept, (self.seed, int(row))) for row in rows]
        return Sparse(
            *(torch.cat([getattr(part, name) for part in parts]) for name in ("ids", "weights", "tail", "entropy"))
        )


def entries(logits: Tensor, variant: str, kept: int, key: tuple[int, ...]) -> Sparse:
    """What is kept of laws (n, V), rounded as the cache rounds."""
    if variant == "sampled":
        target = sparse.sample(logits, kept, sparse.generator(*key, device=logits.device))
    else:
        target = sparse.top_k(logits, kept)
    return Sparse(target.ids, target.weights.half().float(), target.tail.half().float(), target.entropy)


def make(one: SparseTargets) -> Made:
    """Train all arms; see `sparse_targets.obtain`."""
    _, _, text, held = text_of(one)
    teacher = teacher_of(one)
    weights, laws = weights_hash(teacher.model), Told(teacher, text).logits
    online = Online(teacher, "fp32", one.vocabulary)
    measured, anchor = [], student_of(one)
    for variant, kept in one.arms:
        student, changes = student_of(one), {}
        targets: Targets = NoTargets()
        if variant != ERM:
            changes = {"alpha": 1.0, "targets": "online", "teacher": "teacher", "teacher_weights": weights}
            targets = online if variant == WHOLE else Kept(laws, variant, kept, one.seed)
            changes |= {} if variant == WHOLE else {"variant": variant}
        training.fit(config_of(one, student, text, held, **changes), student, text, targets)
        summary = evaluation.summary(evaluation.judge(student, held, lambda rows, ids: online(rows, ids, None)))
        if variant == ERM:
            anchor = student
        row = {"teacher_kl": summary.kl, **{name: getattr(summary, name) for name in MEASURES if name != "teacher_kl"}}
        measured.append(row | gradient(one, anchor, teacher, held, (variant, kept)))
    own = asdict(evaluation.summary(evaluation.judge(teacher, held)))
    arrays = {name: np.array([row[name] for row in measured], dtype=np.float64) for name in (*MEASURES, *GRADIENT)}
    return Made(arrays=arrays, metrics={f"teacher_{name}": own[name] for name in ("nll", "entropy", "ece")})


def gradient(
    one: SparseTargets, student: Language, teacher: Language, held: Blocks, arm: tuple[str, int]
) -> dict[str, float]:
    """GRADIENT of a variant at a student: how far its gradient is from the whole law's, on 1,000 tokens or so."""
    variant, kept = arm
    ids = torch.from_numpy(held.ids[:16].astype(np.int64)).to(device())
    with torch.no_grad():
        hidden, labels = losses.shifted(student.hidden(ids), ids)
        logits, taught = student.head(hidden), teacher.logits(ids)[:, :-1].reshape(-1, one.vocabulary)
    if variant in (ERM, WHOLE):
        stored = 2 * one.vocabulary if variant == WHOLE else 0
        away = torch.zeros(()) if variant == WHOLE else _relative(_hard(logits, labels), logits, taught)
        return dict(zip(GRADIENT, (float(away), 0.0, 0.0, float(stored), float(variant == WHOLE)), strict=True))
    learned = Objective(alpha=1.0, variant=variant)
    drawn = [
        entries(taught, variant, kept, (one.seed, draw)) for draw in range(one.draws if variant == "sampled" else 1)
    ]
    found = torch.stack([learned.part(logits.clone(), labels, target)[1] for target in drawn])
    size = _whole(logits, taught).norm()
    variance = found.var(0).sum() if len(drawn) > 1 else torch.zeros(())
    off = ((found.mean(0) - _whole(logits, taught)) ** 2).sum() - variance / len(drawn)  # without the draws' own noise
    target = drawn[0]
    lost = math.inf  # what was never drawn has no mass
    if variant != "sampled":
        lost = float(target_cache.reconstruction(taught, target).mean())
    stored = sizes.bytes_per_token(kept, one.vocabulary, sampled=variant == "sampled")
    mass = float(taught.softmax(-1).gather(-1, target.ids).where(target.weights > 0, 0.0).sum(-1).mean())
    values = (float(off.clamp(min=0).sqrt() / size), float(variance.sqrt() / size), lost, float(stored), mass)
    return dict(zip(GRADIENT, values, strict=True))


def _whole(logits: Tensor, taught: Tensor) -> Tensor:
    """Gradient of the forward KL in the student's logits: p - q."""
    return log_law(logits).exp() - log_law(taught).exp()


def _hard(logits: Tensor, labels: Tensor) -> Tensor:
    return Objective().part(logits.clone(), labels, None)[1]


def _relative(found: Tensor, logits: Tensor, taught: Tensor) -> Tensor:
    whole = _whole(logits, taught)
    return (found - whole).norm() / whole.norm()
