"""Methods of this study: what is left of a teacher when its classes are shuffled, or only its confidence is kept.

Furlanello et al. 2018 (born-again networks) for CWTM and DKPP; Zhang and Sabuncu 2020 for smoothing by instance.
Beside KD's loss on posteriors, those on hidden states (TinyBERT's, PKD's) and on the relations between examples (RKD).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdnb.core.methods import ALPHA, KD, TEACHER_RUN, Method, Setting, SoftTargets, setting

if TYPE_CHECKING:
    from torch import Tensor, nn

MATCHES = ("mean", "instance", "drawn")
LAYER_MAPS = ("uniform", "skip", "last", "learned", "tinybert")
FEATURE_LOSSES = ("mse", "pkd", "attention", "tinybert")
ATTENTIVE = ("attention", "tinybert")  # losses that read attention scores
MATCHED = Setting(
    choices=MATCHES, axis=True, help="how soft each label is: as the batch's mean, as its own posterior, or as drawn"
)


@dataclass(frozen=True, kw_only=True)
class CWTM(Method):
    """sum_s w_s H(q_s, p_s), w_s = max p^t_s / sum_b max p^t_b over the batch: confidence-weighted labels.

    Of the teacher only its confidence is used: which examples weigh more, and nothing of its classes.
    """

    name, title, needs_teacher = "cwtm", "CWTM", True
    over_examples = "sum, weighted by the teacher's confidence"
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

    `matched` "mean": one a for the batch, its mean entropy; "instance": an a for each example, its own entropy;
    "drawn": an a for each example from a Beta law as wide as the teacher's confidences, whichever example it is.
    """

    name, title, needs_teacher = "matched_ls", "matched LS", True
    teacher_run: str = TEACHER_RUN.field("")
    matched: str = MATCHED.field("mean")

    def loss(self, logits: Tensor, labels: Tensor, soft_targets: SoftTargets = None) -> Tensor:
        from kdnb.studies.dark_knowledge.targets import drawn_targets, matched_targets

        taught = _given(soft_targets)
        if self.matched == "drawn":
            targets = drawn_targets(taught, labels)
        else:
            targets = matched_targets(taught, labels, by_instance=self.matched == "instance")
        return -(targets * logits.to(targets.dtype).log_softmax(dim=-1)).sum(dim=-1).mean()


@dataclass(frozen=True, kw_only=True)
class FeatureKD(KD):
    """KD's loss + w times a loss on hidden states; alpha 0 is labels and hidden states.

    What projects them trains beside the student and is no part of it.
    """

    name, title, needs_teacher = "features", "Feature KD", True
    layer_map: str = setting("uniform", choices=LAYER_MAPS, axis=True, help="which layer learns from which")
    feature_loss: str = setting(
        "mse", choices=FEATURE_LOSSES, axis=True, help="of projected states, directions, attention, or TinyBERT's two"
    )
    feature_weight: float = setting(1.0, low=0, axis=True, help="weight of the loss on hidden states")
    projection: str = setting("per_pair", choices=("share", "per_pair"), axis=True, help="one W, or one a pair")
    map_temperature: float = setting(0.01, low=0, without_low=True, axis=True, help="of a learned map's softmax")

    def beside(self, model: nn.Module, config: Any, data: Any) -> nn.Module:
        from kdnb.experiment.training import encoded
        from kdnb.studies.dark_knowledge.features import FeatureLoss, teacher_states, widths_of

        states, widths = teacher_states(self.teacher_run, data), widths_of(model, encoded(config, data)["train"])
        if self.feature_loss in ATTENTIVE:
            from kdnb.studies.dark_knowledge.attention import AttentionLoss, Read, teacher_scores

            return AttentionLoss(self, model, Read(states, teacher_scores(self.teacher_run, data)), widths, config.seed)
        return FeatureLoss(self, model, states, widths, config.seed)


@dataclass(frozen=True, kw_only=True)
class RelationKD(KD):
    """KD's loss + w (w_D RKD-D + w_A RKD-A): distances and angles between a batch's last hidden states."""

    name, title, needs_teacher = "rkd", "RKD", True
    relation_weight: float = setting(1.0, low=0, axis=True, help="weight of the loss on relations")
    distance_weight: float = setting(1.0, low=0, axis=True, help="weight of distances in it")
    angle_weight: float = setting(2.0, low=0, axis=True, help="weight of angles in it")

    def beside(self, model: nn.Module, config: Any, data: Any) -> nn.Module:
        from kdnb.studies.dark_knowledge.features import RelationLoss, teacher_states

        return RelationLoss(self, model, teacher_states(self.teacher_run, data))


def _given(soft_targets: SoftTargets) -> Tensor:
    """The teacher's logits (B, K), without gradient, at least in float32."""
    import torch

    logits = soft_targets() if callable(soft_targets) else soft_targets
    if logits is None:
        raise ValueError("this method needs the teacher's logits, got none")
    return logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
