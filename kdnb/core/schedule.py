"""When a loss takes over from another in mid-training: the weight of the second one, step by step.

The switch points and the ramp of arXiv 2301.12923 could not be read; these are our reconstruction.
"""

from collections.abc import Callable


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
