"""The exercise of notebook 30: what is left of an arm's gap to ERM once both speak at the same volume."""

from collections.abc import Mapping

from kdnb.report.exercises import Exercise, these

ARMS = ("ls_small", "kd_standard", "kd_self", "tfkd_small")
Gaps = Mapping[str, tuple[float, float]]


def apart(gaps: Gaps) -> list[str]:
    """The arms whose interval (mean, half-width) of the scaled difference to ERM leaves out 0."""
    return [arm for arm, (mean, half) in gaps.items() if abs(mean) > half]


EXERCISES = {
    "30.1": Exercise(
        amiss=these(apart, ARMS),
        hint="Set `arm` to each of the four: an interval that includes 0 is no difference that we could show.",
        reason=lambda gaps: (
            "; ".join(f"{arm} {mean:+.3f} ± {half:.3f} nats" for arm, (mean, half) in gaps.items())
            + ". What remains after scaling is not a matter of scale."
        ),
    ),
}
