"""The exercises of notebook 74: real shapes, a small disk, hours of a plan."""

from collections.abc import Callable

from kdnb.report.exercises import Exercise, called, number
from kdnb.studies.language_models import cost


def factor(answer: float, teacher: float, student: float) -> str:
    """What online KD costs over ERM with these numbers of weights that a token is multiplied with."""
    wanted = cost.training_cost_ratio(teacher, student)
    round_numbers = {11 / 3: "That takes 8 and 1 for the sizes.", 9.0: "A teacher only goes forward: a third."}
    return number(wanted, within=2e-3 * wanted, seen=round_numbers)(answer)


def largest() -> int:
    """The largest k whose entries of 1.2 billion tokens fit on 500 GB, vocabulary 151,936."""
    sizes = {k: cost.bytes_per_token(151_936, 4096, kept=k)[f"top-{k}, kdnb"] for k in range(1, 512)}
    return max(k for k, size in sizes.items() if 1.2e9 * size <= 500e9)


def hours(answer: Callable) -> str:
    """A function (teacher, student, tokens, epochs, students, speed) -> hours with a sparse cache.

    (2 N_t D + 6 N_s D E S) / speed / 3600
    """
    for epochs, students in ((3, 1), (1, 1), (2, 5)):
        wanted = (2 * 8e9 * 1e9 + 6 * 1e9 * 1e9 * epochs * students) / 4e14 / 3600
        got = float(called(answer, 8e9, 1e9, 1e9, epochs, students, 4e14))
        if abs(got / wanted - 1) > 1e-6:
            return f"{epochs} epochs, {students} students: yours are {got:.2f} hours, wanted {wanted:.2f}."
    return ""


EXERCISES = {
    "74.1": Exercise(
        amiss=factor,
        hint="1 + N_t / (3 N_s), with `llama8.multiplied` and `llama1.multiplied`: without tables that are looked up.",
        reason=lambda teacher, student: (
            f"{cost.training_cost_ratio(teacher, student):.3f}, where the round numbers say {11 / 3:.3f}: they "
            "overstate the teacher and understate the student."
        ),
    ),
    "74.2": Exercise(
        amiss=number(
            largest, seen={83.0: "Four bytes a token go to tail and entropy.", 64.0: "That fits; so do more."}
        ),
        hint="500 GB over 1.2 billion tokens are how many bytes a token? Take off four, and divide by five.",
        reason="416 bytes a token, less 4, in fives.",
    ),
    "74.3": Exercise(
        amiss=hours,
        hint="2 FLOPs a weight and token to read, 6 to train. Who reads once, and who trains how often?",
        reason="The teacher reads once, whoever learns from it, and however often.",
    ),
}
