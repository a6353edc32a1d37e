"""Methods of this study: what is left of a teacher when its classes are shuffled, or only its confidence is kept.

Furlanello et al. 2018 (born-again networks) for CWTM and DKPP; Zhang and Sabuncu 2020 for smoothing by instance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdnb.core.methods import ALPHA, TEACHER_RUN, Method, Setting, SoftTargets

if TYPE_CHECKING:
    from torch import Tensor

MATCHES = ("mean", "instance")
MATCHED = Setting(choices=MATCHES, axis=True, help="whose entropy each smoothed label has: the batch's mean, its own")


@dataclass(frozen=True, kw_only=True)
class CWTM(Method):
    """sum_s w_s H(q_s, p_s), w_s = max p^t_s / sum_b max p^t_b over the batch: confidence-weighted labels.

    Of the teacher only its confidence is used: which examples weigh more, and nothing of its classes.
    """

    name, title, needs_teacher = "cwtm", "CWTM", True
    teacher_run: str = TEACHER_RUN.field("")

    def loss(self, logits: Tensor, labels: Tensor, soft_targets: SoftTargets = None) -> Tensor:
        from kdnb.studies.dark_knowledge.targets import confidence_weights

        weights = confidence_weights(_given(soft_targets))
        log_p = logits.to(weights.dtype).log_softmax(dim=-1)
        return -(weights * log_p.gather(1, labels[:, None]).squeeze(1)).sum()


@dataclass(frozen=True, kw_only=True)
class DKPP(Method):
    """(1 - alpha) H(q, p) + alpha H(pi(p^t), p): the teacher's posterior with its non-argmax entries permuted.

    Drawn anew for each example each time it is seen. At K = 2 there is nothing to permute: plain KD at tau 1.
    """

    name, title, needs_teacher = "dkpp", "DKPP", True
    teacher_run: str = TEACHER_RUN.field("")
    alpha: float = ALPHA.field(1.0)

    def loss(self, logits: Tensor, labels: Tensor, soft_targets: SoftTargets = None) -> Tensor:
        from kdnb.core.losses import kd_loss
        from kdnb.studies.dark_knowledge.targets import permuted

        return kd_loss(logits, labels, permuted(_given(soft_targets)), self.alpha)


@dataclass(frozen=True, kw_only=True)
class MatchedSmoothing(Method):
    """H(q_a, p), q_a = (1 - a) q + a u with a such that H(q_a) is the teacher's entropy: LS as soft as a teacher.

    `matched` "mean": one a for the batch, its mean entropy; "instance": an a for each example, its own entropy.
    """

    name, title, needs_teacher = "matched_ls", "matched LS", True
    teacher_run: str = TEACHER_RUN.field("")
    matched: str = MATCHED.field("mean")

    def loss(self, logits: Tensor, labels: Tensor, soft_targets: SoftTargets = None) -> Tensor:
        from kdnb.studies.dark_knowledge.targets import matched_targets

        targets = matched_targets(_given(soft_targets), labels, by_instance=self.matched == "instance")
        return -(targets * logits.to(targets.dtype).log_softmax(dim=-1)).sum(dim=-1).mean()


def _given(soft_targets: SoftTargets) -> Tensor:
    """The teacher's logits (B, K), without gradient, at least in float32."""
    import torch

    logits = soft_targets() if callable(soft_targets) else soft_targets
    if logits is None:
        raise ValueError("this method needs the teacher's logits, got none")
    return logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
