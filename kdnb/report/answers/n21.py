"""The exercises of notebook 21: judges of a selection, luck of the best, epochs of two schedules."""

from collections.abc import Mapping, Sequence

from kdnb.report.exercises import Exercise, number, parts, word
from kdnb.studies.label_smoothing import paper


def moved(choices: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Pairs of run ids, of accuracy and of NLL, where the two judges select different runs."""
    return [pair for pair in zip(choices["accuracy"], choices["nll"], strict=True) if pair[0] != pair[1]]


def side(choices: Mapping[str, Sequence[str]], entropy: Mapping[str, float]) -> str:
    """Whether the mean test entropy of what moves rises, falls or stays from accuracy to NLL."""
    change = sum(entropy[after] - entropy[before] for before, after in moved(choices))
    return "rises" if change > 0 else "falls" if change < 0 else "stays"


def luck(settings: int, examples: int, truth: float = 0.8) -> float:
    """Expected excess of the best of equal settings over the truth [points], each on examples of its own.

    E max of m binomials = sum over k of 1 - F(k)^m   (exact)
    """
    import numpy as np
    from scipy.stats import binom

    below = binom.cdf(np.arange(examples), examples, truth) ** settings
    return float(100 * ((1 - below).sum() / examples - truth))


def epochs_ratio() -> float:
    """Epochs of Table 1 trained with a linear schedule over those with a constant one, per learning rate and alpha."""
    epochs = paper.grids()["table1"]["epochs"]
    return sum(epochs) / max(epochs)


EXERCISES = {
    "21.1": Exercise(
        amiss=parts(
            choices_that_move=number(lambda choices, entropy: len(moved(choices))),
            entropy=word(side, ("rises", "falls", "stays")),
        ),
        hint="Run the cell with both metrics and compare the lists line by line; with no move the entropy stays.",
        reason="Accuracy sees ties where the NLL, which punishes being sure and wrong, does not. Where choices move at "
        "equal accuracy, the reported entropy hangs on the rule of selection: say which one was used.",
    ),
    "21.2": Exercise(
        amiss=number(lambda examples: luck(630, examples), within=0.3),
        hint="Set `settings` to 630 and run the cell: the largest of many noisy numbers lies above their mean.",
        reason=lambda examples: (
            f"{luck(630, examples):.1f} points by luck alone, on {examples} examples; it grows like sqrt(2 ln m) "
            "standard errors (from below) and falls like 1 / sqrt(n). Real settings share examples: an upper end."
        ),
    ),
    "21.3": Exercise(
        amiss=number(epochs_ratio, within=0.01, seen={10.0: "The shorter ones are shorter: add the epochs up."}),
        hint="Epochs 1 to 10: with a constant learning rate, what is still missing once the longest has been trained?",
        reason="1 + 2 + ... + 10 = 55 epochs, against the 10 of the longest, on whose way all the others lie.",
    ),
}
