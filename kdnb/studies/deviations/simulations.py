"""The second paper's claims on data small enough to draw anew: one effect per seed, kept in one small file.

Networks on digits (`kdnb.studies.deviations.eigendirections`) and the model of similar classes
(`kdnb.studies.deviations.similar_classes`). Every rule here is our reconstruction; no number
of arXiv 2301.12923 is reproduced.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kdnb import files, paths
from kdnb.core.device import surroundings
from kdnb.errors import nearest
from kdnb.studies.deviations import eigendirections
from kdnb.studies.deviations import similar_classes as alignment
from kdnb.studies.deviations.similar_classes import RunningSimilarity, similar_classes
from kdnb.studies.deviations.switched_toys import labels_last_by_teacher
from kdnb.studies.deviations.trainers import fit_linear

NOISE = 0.4  # share of the noisy digits' train labels that are redrawn
EARLY, LATE = 5, 50  # steps after which the teacher of similar classes stops
LR = 2.0  # of full-batch descent on similar classes


@dataclass(frozen=True)
class Simulation:
    """What is drawn and trained for a claim: its setting in words, and seeds -> an effect for each."""

    setting: str
    effects: Callable[[Sequence[int]], np.ndarray]


def _more_below(seeds: Sequence[int]) -> np.ndarray:
    """H8.2: share of common top progress at which the student lies below its teacher, less the control's.

    Of the four settings the one that is third largest in the mean: the claim asks for three of four.
    """
    found = []
    for network in eigendirections.NETWORKS:
        for noise in (0.0, NOISE):
            trained = eigendirections.network_curves(network, noise, seeds)
            student, control = (eigendirections.shares_below(trained, role) for role in ("student", "control"))
            found.append([student[seed] - control[seed] for seed in seeds])
    return np.array(sorted(found, key=np.mean)[1])


def _noisy_gain(seeds: Sequence[int]) -> np.ndarray:
    """H8.3: the student's test accuracy less the control's on noisy digits, less the same on clean ones; MLP."""
    gains = []
    for noise in (NOISE, 0.0):
        trained = eigendirections.network_curves("MLP", noise, seeds)
        last = {(curve.role, curve.seed): curve.accuracy[-1] for curve in trained}
        gains.append([last["student", seed] - last["control", seed] for seed in seeds])
    return np.subtract(*gains)


def _measures(seeds: Sequence[int], steps: int, rows: int) -> list[dict[str, float]]:
    """`alignment.measures` of a teacher stopped after some steps, a seed each."""
    simulations = [similar_classes(seed, rows=rows, test_rows=1) for seed in seeds]
    return [alignment.measures(one, fit_linear(one.toy, steps, LR)) for one in simulations]


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
    found = []
    for seed in seeds:
        toy = similar_classes(seed, rows=1000, group=2).toy
        ends = [fit_linear(toy, LATE, LR, mask=mask) for mask in (RunningSimilarity(1), None)]
        right = [(toy.test_inputs @ end).argmax(1).eq(toy.test_labels).double().mean() for end in ends]
        found.append(float(right[0] - right[1]))
    return np.array(found)


SIMULATIONS = {
    "H7.4": Simulation("MLP on noisy and on clean digits, labels in the last quarter", labels_last_by_teacher),
    "H8.2": Simulation("MLP and CNN on clean and noisy digits, 600 rows", _more_below),
    "H8.3": Simulation("MLP on noisy and on clean digits, 600 rows", _noisy_gain),
    "H9.1": Simulation(f"similar classes, 400 rows, teachers of {EARLY} and of {LATE} steps", _early_flips),
    "H9.2": Simulation(f"similar classes, 1,000 rows, a teacher of {EARLY} steps", _order),
    "H9.3": Simulation(f"classes similar in pairs, 1,000 rows, {LATE} steps", _zeroing),
}


def simulate(seeds: Sequence[int], only: Sequence[str] = (), say: Callable[[str], None] = print) -> dict[str, dict]:
    """Run simulations; each one's effects are kept in outputs/simulations/ as soon as it is done, or loaded.

    Args:
        seeds: of data, start and order; each is one draw of the whole. only: ids, () for all.
    Returns:
        id -> setting, seeds, effects (one per seed), and cost.
    Raises:
        ValueError: an unknown id, or no seed.
    """
    for name in only:
        if name not in SIMULATIONS:
            raise ValueError(f"unknown simulation {name!r}{nearest(name, SIMULATIONS)}")
    if not seeds:
        raise ValueError("at least one seed is needed, got none")
    found = {}
    for name in only or SIMULATIONS:
        what, kept, started = (
            SIMULATIONS[name],
            files.read_json(paths.inside(paths.SIMULATIONS, f"{name}.json")),
            time.perf_counter(),
        )
        if trained := (kept.get("seeds"), kept.get("setting")) != (list(seeds), what.setting):
            effects = [float(effect) for effect in what.effects(seeds)]
            cost = {"seconds": round(time.perf_counter() - started, 1), **surroundings("fp32")}
            kept = {"id": name, "setting": what.setting, "seeds": list(seeds), "effects": effects, "cost": cost}
            files.write_json(paths.inside(paths.SIMULATIONS, f"{name}.json"), kept)
        done = f"{kept['cost']['seconds']:.0f} s" if trained else "loaded"
        say(f"{name}: {what.setting}: mean {np.mean(kept['effects']):+.3f} over {len(seeds)} seeds, {done}")
        found[name] = kept
    return found
