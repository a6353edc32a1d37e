"""Simulations: effects drawn anew for each seed, kept in one small file per claim."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdnb import files, paths
from kdnb.errors import nearest


@dataclass(frozen=True)
class Simulation:
    """What is drawn and trained for a claim: its setting in words, and seeds -> an effect for each."""

    setting: str
    effects: Callable[[Sequence[int]], np.ndarray]


def stored(claim_id: str) -> dict:
    """What `kdnb simulate` kept for a claim, in the store or among the committed ones; {} if neither has it."""
    for folder in (paths.SIMULATIONS, paths.SIMULATIONS_REFERENCE):
        if content := files.read_json(folder / f"{claim_id}.json"):
            return content
    return {}


def simulate(
    simulations: Mapping[str, Simulation],
    seeds: Sequence[int],
    only: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, dict]:
    """Run simulations; each one's effects are kept in outputs/simulations/ as soon as it is done, or loaded.

    Args:
        simulations: by the id of the claim they decide.
        seeds: of data, start and order; each is one draw of the whole.
        only: ids, () for all.
        say: hears a line per simulation.
    Returns:
        id -> setting, seeds, effects (one per seed), and cost.
    Raises:
        ValueError: an unknown id, or no seed.
    """
    for claim_id in only:
        if claim_id not in simulations:
            raise ValueError(f"unknown simulation {claim_id!r}{nearest(claim_id, simulations)}")
    if not seeds:
        raise ValueError("at least one seed is needed, got none")
    results = {}
    for claim_id in only or simulations:
        simulation, path = simulations[claim_id], paths.inside(paths.SIMULATIONS, f"{claim_id}.json")
        content = files.read_json(path)
        if (content.get("seeds"), content.get("setting")) == (list(seeds), simulation.setting):
            ending = "loaded"
        else:
            content = _run(claim_id, simulation, seeds)
            files.write_json(path, content)
            ending = f"{content['cost']['seconds']:.0f} s"
        mean = np.mean(content["effects"])
        say(f"{claim_id}: {simulation.setting}: mean {mean:+.3f} over {len(seeds)} seeds, {ending}")
        results[claim_id] = content
    return results


def _run(claim_id: str, simulation: Simulation, seeds: Sequence[int]) -> dict:
    """Draw one simulation for every seed: what its file holds."""
    from kdnb.experiment.surroundings import fresh_peak, surroundings  # torch, which stored effects need not wait for

    fresh_peak()
    started = time.perf_counter()
    effects = [float(effect) for effect in simulation.effects(seeds)]
    cost = {"seconds": round(time.perf_counter() - started, 1), **surroundings("fp32")}
    return {"id": claim_id, "setting": simulation.setting, "seeds": list(seeds), "effects": effects, "cost": cost}
