"""What a run minimises at each of its steps, and how fast: the loss of its method or of both sides of a switch."""

from collections.abc import Callable

from torch import Tensor

from kdnb.core.config import RunConfig
from kdnb.core.losses import erm_loss, kd_loss, ls_loss, tfkd_released_loss, virtual_teacher_logits


def batch_loss(
    config: RunConfig,
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor | Callable[[], Tensor] | None = None,
    step: int = 0,
    total: int = 1,
) -> Tensor:
    """The run's mean loss on a batch at step 0..total-1 [nats].

    Args:
        logits: (B, K). labels: (B,).
        teacher_logits: (B, K), or what gives them: called by KD alone, at steps where it has a weight.
    """
    parts = [(name, weight) for name, weight in losses_at(config, step, total) if weight]
    losses = [_loss(config, name, logits, labels, teacher_logits) for name, _ in parts]
    if len(losses) == 1:
        return losses[0]
    return sum(weight * loss for (_, weight), loss in zip(parts, losses, strict=True))


def losses_at(config: RunConfig, step: int, total: int) -> list[tuple[str, float]]:
    """The methods of a run, each with the weight of its loss at step 0..total-1; the weights sum to 1.

    A switch at 0 is `after` from the first step on, one at 1 `before` to the last: the pure methods, bit for bit.
    """
    if config.method != "switch":
        return [(config.method, 1.0)]
    share = share_after(step, round(config.switch_at * total), round(config.ramp * total))
    return [(config.before, 1 - share), (config.after, share)]


def learning_rate(config: RunConfig, step: int, total: int) -> float:
    """Learning rate of step 0..total-1: warm-up, then linear decay to 0 or constant."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return config.lr * step / warmup
    return config.lr if config.schedule == "constant" else config.lr * (total - step) / max(1, total - warmup)


def _loss(config: RunConfig, method: str, logits: Tensor, labels: Tensor, teacher_logits) -> Tensor:
    if method == "erm":
        return erm_loss(logits, labels)
    if method == "ls":
        return ls_loss(logits, labels, config.alpha)
    if method == "tfkd" and config.tfkd_form == "released":
        return tfkd_released_loss(logits, labels, config.alpha, config.confidence, config.tau, config.multiplier)
    if method == "tfkd":
        teacher_logits = virtual_teacher_logits(labels, logits.shape[1], config.confidence)
    soft = teacher_logits() if callable(teacher_logits) else teacher_logits
    return kd_loss(logits, labels, soft, config.alpha, config.tau, config.tau2_scaling)


def share_after(step: float, switch: float, ramp: float = 0) -> float:
    """Weight clip((t - s) / ramp, 0, 1) of the loss after the switch, in [0, 1].

    Args:
        step: t, counted from 0. switch: s, the first step of the ramp; 0 or less is no switch, the later loss
            from the first step on. ramp: steps from 0 to 1, >= 0; 0 is a hard switch, 1 at s itself.
    Raises:
        ValueError: ramp is negative.
    """
    if ramp < 0:
        raise ValueError(f"ramp must be >= 0 steps, got {ramp}")
    if switch <= 0 or (ramp == 0 and step >= switch):
        return 1.0
    return min(max((step - switch) / ramp, 0.0), 1.0) if ramp else 0.0


def switched(before: float, after: float, switch: float, ramp: float = 0) -> Callable[[int], float]:
    """alpha(t), the weight of the soft target at step t, that goes from `before` to `after` at `switch`.

    One-hot -> KD is `switched(0, alpha, s)`, KD -> one-hot `switched(alpha, 0, s)`. Both ends are exact, so a
    switch at 0 and one after the last step give the pure methods, bit by bit.
    """

    def alpha(step: int) -> float:
        share = share_after(step, switch, ramp)
        return (1 - share) * before + share * after

    return alpha
