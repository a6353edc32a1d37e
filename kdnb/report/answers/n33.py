"""The exercises of notebook 33: the closest call, broken pairs, how much of a test split."""

from collections.abc import Mapping

from kdnb.report.exercises import Exercise, number, parts, word


def closest(answer: str, splits: Mapping[str, tuple[int, int]]) -> str:
    """A claim whose seeds disagree most evenly; splits: claim -> (seeds with the claimed sign, seeds)."""
    if answer not in splits:
        return f"Write one of {', '.join(splits)}."
    evenness = {name: abs(agree - n / 2) for name, (agree, n) in splits.items()}
    if evenness[answer] == min(evenness.values()):
        return ""
    agree, n = splits[answer]
    return f"{agree} of {n} seeds agree there; another claim splits more evenly."


EXERCISES = {
    "33.1": Exercise(
        amiss=closest,
        hint="Half of the seeds on either side is the closest call there is.",
        reason=lambda splits: (
            f"{min(abs(agree - n / 2) for agree, n in splits.values()):g} from even. Claims like that are those that "
            "one printed number cannot carry."
        ),
    ),
    "33.2": Exercise(
        amiss=parts(
            mean=word("stays", ("stays", "changes"), {"changes": "A mean of differences is a difference of means."}),
            half_width=word(
                lambda halves: "narrower" if halves[0] < min(halves[1:]) else "not narrower",
                ("narrower", "not narrower"),
            ),
        ),
        hint="Try every shift: the variance of a difference is s_a^2 + s_b^2 - 2 r s_a s_b.",
        reason=lambda halves: (
            f"Half-widths by shift: {', '.join(f'{half:.4f}' for half in halves)}. Pairing pays by the correlation of "
            "the two arms over seeds; where that is small, any pairing does."
        ),
    ),
    "33.3": Exercise(
        amiss=number(2.0, within=0.05, seen={4.0: "The width goes with 1 / sqrt(N).", 16.0: "With 1 / sqrt(N)."}),
        hint="Change `part_of` from 1 to 1/4 to 1/16 and divide the widths.",
        reason="A quarter of the examples, twice the width. More test texts narrow this interval without limit, and "
        "leave the seeds' interval where it is.",
    ),
}
