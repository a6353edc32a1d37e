"""The exercises of notebook 73: what a decay forgets, a head that looks up, which layer to keep."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kdnb.report.exercises import Exercise, called, number

FORGOTTEN = next(n for n in range(1, 1000) if 0.9**n < 0.01)


def looks_up(answer: Callable, told: Sequence[int], asked: Sequence[int]) -> str:
    """A function (told, asked) -> b (4, N), c (4, N) whose products are 1 where the key asked for was told, else 0."""
    for keys, wants in ((told, asked), (asked, told)):
        write, read = (np.asarray(one, dtype=float) for one in called(answer, np.asarray(keys), np.asarray(wants)))
        wanted = (np.asarray(wants)[:, None] == np.asarray(keys)[None]).astype(float)
        if write.ndim != 2 or write.shape != read.shape or len(write) != len(wanted):
            return f"Two arrays of {len(wanted)} rows and one width are wanted, got {write.shape} and {read.shape}."
        if not np.allclose(read @ write.T, wanted):
            return f"For told {list(map(int, keys))}, row by row, your matrix is {(read @ write.T).round(2).tolist()}."
    return ""


def finds_the_layer(answer: Callable, blocks: Mapping[int, Sequence[float]]) -> str:
    """A rule (errors of layers 1 and 2) -> 1 or 2; blocks: the errors by seed."""
    for seed, errors in blocks.items():
        for given in (np.asarray(errors), np.asarray(errors)[::-1]):
            if int(called(answer, given)) != int(np.argmax(given)) + 1:
                return f"Seed {seed}, errors {given.round(3).tolist()}: layer {int(answer(given))} is not the one."
    return ""


EXERCISES = {
    "73.1": Exercise(
        amiss=number(FORGOTTEN, seen={FORGOTTEN - 1: "One token before, a little more than 1 % is left."}),
        hint="0.9 to the power of n is what is left after n tokens.",
        reason="What has to last for a whole page needs a decay much nearer to 1.",
    ),
    "73.2": Exercise(
        amiss=looks_up,
        hint="The wanted matrix is a permutation. Of which rank, and so how small can N be?",
        reason="One-hot vectors of the key do it with N = 4, and no smaller N can: the matrix has rank 4.",
    ),
    "73.3": Exercise(
        amiss=finds_the_layer,
        hint="Stage 1 tells where a state can do what attention does. Keep attention where it cannot.",
        reason="The layer with the larger error, whichever place it has.",
    ),
}
