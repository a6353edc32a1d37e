"""The second paper's claims on data small enough to draw anew: one effect per seed.

Networks on digits (`kdnb.studies.deviations.eigendirections`) and the model of similar classes
(`kdnb.studies.deviations.similar_classes`). Every rule here is our reconstruction; no number
of arXiv 2301.12923 is reproduced.
"""

from collections.abc import Sequence

import numpy as np

from kdnb.analysis.simulations import Simulation
from kdnb.core.metrics import accuracy
from kdnb.studies.deviations import eigendirections
from kdnb.studies.deviations.similar_classes import Resemblance, RunningSimilarity, measures, similar_classes
from kdnb.studies.deviations.switched_toys import labels_last_by_teacher
from kdnb.studies.deviations.trainers import Teaching, fit_linear

NOISE = 0.4  # share of the noisy digits' train labels that are redrawn
EARLY, LATE = 5, 50  # steps after which the teacher of similar classes stops
LR = 2.0  # of full-batch descent on similar classes


def _more_below(seeds: Sequence[int]) -> np.ndarray:
    """H8.2: share of common top progress at which the student lies below its teacher, less the control's.

    Of the four settings the one that is third largest in the mean: the claim asks for three of four.
    """
    settings = []
    for network in eigendirections.NETWORKS:
        for noise in (0.0, NOISE):
            curves = eigendirections.network_curves(network, noise, seeds)
            student, control = (eigendirections.shares_below(curves, role) for role in ("student", "control"))
            settings.append([student[seed] - control[seed] for seed in seeds])
    return np.array(sorted(settings, key=np.mean)[1])


def _noisy_gain(seeds: Sequence[int]) -> np.ndarray:
    """H8.3: the student's test accuracy less the control's on noisy digits, less the same on clean ones; MLP."""
    gains = []
    for noise in (NOISE, 0.0):
        curves = eigendirections.network_curves("MLP", noise, seeds)
        last = {(curve.role, curve.seed): curve.accuracy[-1] for curve in curves}
        gains.append([last["student", seed] - last["control", seed] for seed in seeds])
    return np.subtract(*gains)


def _measures(seeds: Sequence[int], steps: int, rows: int) -> list[dict[str, float]]:
    """`similar_classes.measures` of a teacher stopped after some steps, a seed each."""
    simulations = [similar_classes(seed, rows, test_rows=1) for seed in seeds]
    return [measures(one, fit_linear(one.toy, steps, LR)) for one in simulations]


def _early_flips(seeds: Sequence[int]) -> np.ndarray:
    """H9.1: share of examples an early teacher turns, over 1/2; or the late one's under 1/2, where that is less."""
    early, late = (_measures(seeds, steps, rows=400) for steps in (EARLY, LATE))
    return np.array([min(a["flipped"] - 0.5, 0.5 - b["flipped"]) for a, b in zip(early, late, strict=True)])


def _order(seeds: Sequence[int]) -> np.ndarray:
    """H9.2: cosine to the truth of KD's gradient over the labels', or the labels' over the teacher's weights."""
    names = [f"cosine {name}" for name in ("KD", "one-hot", "teacher")]
    values = np.array([[one[name] for name in names] for one in _measures(seeds, EARLY, rows=1000)])
    return -np.diff(values, axis=1).max(axis=1)


def _zeroing(seeds: Sequence[int]) -> np.ndarray:
    """H9.3: test accuracy with the most similar class's gradient taken out, less ERM's; classes similar in pairs."""
    gains = []
    for seed in seeds:
        toy = similar_classes(seed, 1000, Resemblance(group=2)).toy
        ends = [fit_linear(toy, LATE, LR, Teaching(mask=mask)) for mask in (RunningSimilarity(1), None)]
        zeroed, plain = (accuracy((toy.test_inputs @ end).numpy(), toy.test_labels.numpy()) for end in ends)
        gains.append(zeroed - plain)
    return np.array(gains)


SIMULATIONS = {
    "H7.4": Simulation("MLP on noisy and on clean digits, labels in the last quarter", labels_last_by_teacher),
    "H8.2": Simulation("MLP and CNN on clean and noisy digits, 600 rows", _more_below),
    "H8.3": Simulation("MLP on noisy and on clean digits, 600 rows", _noisy_gain),
    "H9.1": Simulation(f"similar classes, 400 rows, teachers of {EARLY} and of {LATE} steps", _early_flips),
    "H9.2": Simulation(f"similar classes, 1,000 rows, a teacher of {EARLY} steps", _order),
    "H9.3": Simulation(f"classes similar in pairs, 1,000 rows, {LATE} steps", _zeroing),
}
