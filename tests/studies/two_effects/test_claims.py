"""Every run whose numbers make a claim's effect, or decide whether it is asked, stands among the runs behind it.

Which runs these are is found by changing them: an effect that moves was made of that run.
"""

from dataclasses import replace

import numpy as np
import pytest

from kdnb.analysis import statistics
from kdnb.core import metrics
from kdnb.core.config import RunConfig
from kdnb.core.store import Run
from kdnb.experiment import tables
from kdnb.experiment.arms import arm_config
from kdnb.studies import registry
from kdnb.studies.two_effects.claims import CHAPTER, CLAIMS

registry.methods()
SEEDS = (10, 11)
ROWS = {"train": 40, "validation": 10, "test": 30}


def config_of(arm: str, seed: int, **changes) -> RunConfig:
    return arm_config(arm, task="rt", profile="cpu", data="0" * 16, seed=seed).changed(**changes)


def taught(seed: int, teacher: RunConfig, **fields) -> RunConfig:
    return config_of("erm_small", seed).changed(
        teacher_run=teacher.run_id(), **{"method": "kd", "alpha": 1.0, **fields}
    )


def planted(config: RunConfig, sharpness: float, wrong: int = 0) -> Run:
    """A run that nobody trained: logits of some sharpness, noisy, of which the first train rows name another class."""
    rng = np.random.default_rng(int.from_bytes(config.run_id().encode()[-4:]))
    labels = {split: np.arange(rows) % 3 for split, rows in ROWS.items()}
    named = labels | {"train": np.where(np.arange(ROWS["train"]) < wrong, (labels["train"] + 1) % 3, labels["train"])}
    logits = {split: sharpness * (np.eye(3)[name] + 0.2 * rng.random((len(name), 3))) for split, name in named.items()}
    return with_logits(config, labels, logits)


def with_logits(config: RunConfig, labels: dict, logits: dict) -> Run:
    logits = {split: values.astype(np.float32) for split, values in logits.items()}
    values = {split: metrics.summary(logits[split], labels[split]) for split in labels}
    return Run(config, logits, labels, {**values, "cost": {"seconds": 1.0, "device": "cpu"}}, [])


def two_by_two(seed: int, wrong: int) -> list[Run]:
    teacher = config_of("erm_large", seed)
    students = {
        config_of("erm_small", seed): 3.0,
        config_of("ls_small", seed): 1.5,
        taught(seed, teacher): 2.8,
        taught(seed, teacher, method="transformed", transform="hard"): 3.2,
        taught(seed, teacher, method="transformed", transform="swap"): 2.6,
    }
    return [planted(teacher, 3.5, wrong), *(planted(config, sharpness) for config, sharpness in students.items())]


def doses(seed: int) -> list[Run]:
    """Teachers less sure on train than ERM at two doses, and surer at the others."""
    teacher = config_of("erm_large", seed)
    sharpness = {0.25: 1.8, 0.5: 2.2, 4.0: 3.3}
    students = {
        config_of("erm_small", seed): 3.0,
        config_of("ls_small", seed): 1.5,
        taught(seed, teacher): 2.9,
        taught(seed, teacher, method="transformed", transform="hard"): 3.2,
    }
    for dose, sharp in sharpness.items():
        students[taught(seed, teacher, method="transformed", transform="scale", sharpness=dose)] = sharp
    return [planted(teacher, 3.5), *(planted(config, sharp) for config, sharp in students.items())]


def placebos(seed: int) -> list[Run]:
    large, small = config_of("erm_large", seed), config_of("erm_small", seed)
    other = config_of("erm_small", seed + 100, order_seed=seed + 100)
    made = {large: 3.5, small: 3.0, other: 2.9, config_of("ls_small", seed): 1.5}
    for place, transform in enumerate(("uniform", "class_mean", "shuffle")):
        made[taught(seed, large, method="transformed", transform=transform, alpha=0.9)] = 1.6 + place / 5
    for place, teacher in enumerate((large, small, other)):
        made[taught(seed, teacher, alpha=0.9)] = 2.6 + place / 5
    return [planted(config, sharpness) for config, sharpness in made.items()]


def budgets(seed: int) -> list[Run]:
    made = []
    for epochs in (1, 2, 3):
        budget = {"epochs": epochs, "history_points": 0}
        teacher = config_of("erm_large", seed, **budget)
        students = {
            config_of("erm_small", seed, **budget): 2.0 * epochs,
            taught(seed, teacher, **budget): 2.2 + epochs,
            config_of("ls_small", seed, **budget): 2.1 + epochs / 2,
        }
        made += [planted(teacher, 3.5), *(planted(config, sharpness) for config, sharpness in students.items())]
    return made


GRIDS = {"softness": lambda seed: two_by_two(seed, 4), "dose": doses, "placebo": placebos, "seeds": placebos}
GRIDS["budgets"] = budgets
ASKED = [claim for claim in CLAIMS.values() if claim.evidence in GRIDS]


def study_of(runs: list[Run]) -> tables.Study:
    return tables.Study("rt", "cpu", tables.tidy(runs), {run.run_id: run for run in runs})


def effect_of(claim, runs: list[Run]):
    return CHAPTER.tests[claim.test](claim, study_of(runs))


def runs_for(claim) -> list[Run]:
    """A grid's runs at some seeds; the teachers of H18.3 know all of their labels."""
    make = (lambda seed: two_by_two(seed, 0)) if claim.id == "H18.3" else GRIDS[claim.evidence]
    return [run for seed in SEEDS for run in make(seed)]


def blunted(run: Run) -> Run:
    """Less sure, and its first two classes exchanged: entropy, NLL and accuracy change on every split."""
    return with_logits(run.config, run.labels, {split: 0.9 * z[:, [1, 0, 2]] for split, z in run.logits.items()})


def movers(claim, runs: list[Run]) -> set[str]:
    """The runs that an effect, its bound, or whether there is one, depends on."""
    effect, found = effect_of(claim, runs), set()
    for place, run in enumerate(runs):
        other = effect_of(claim, [*runs[:place], blunted(run), *runs[place + 1 :]])
        if not np.allclose([other.effect, other.bound], [effect.effect, effect.bound], 0, 1e-9, equal_nan=True):
            found.add(run.run_id)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("claim", ASKED, ids=lambda claim: claim.id)
def test_every_run_that_an_effect_is_made_of_stands_behind_it(claim):
    runs = runs_for(claim)
    effect = effect_of(claim, runs)
    assert effect.n == len(SEEDS)
    assert len(set(effect.run_ids)) == len(effect.run_ids)
    assert movers(claim, runs) <= set(effect.run_ids)


ERM, LS, TEACHER = ("erm", "small"), ("ls", "small"), ("erm", "large")
CHANGED, KD = ("transformed", "small"), ("kd", "small")


@pytest.mark.parametrize(
    ("claim", "kinds", "count"),
    [
        ("H18.1", {ERM, KD, CHANGED}, 4),
        ("H18.2", {ERM, KD, CHANGED, TEACHER}, 5),
        ("H18.3", {ERM, KD, CHANGED, TEACHER, LS}, 6),
        ("H18.4a", {CHANGED, ERM, TEACHER}, 4),
        ("H18.4b", {CHANGED, ERM, TEACHER}, 4),
        ("H18.5", {CHANGED, ERM, LS}, 4),
        ("H18.9", {CHANGED, ERM, LS}, 4),
        ("H18.11", {KD, ERM, LS}, 3),
    ],
)
def test_baselines_teachers_and_smoothing_stand_behind_a_claim(claim, kinds, count):
    """So many runs a seed."""
    runs = {run.run_id: run.config for run in runs_for(CLAIMS[claim])}
    behind = effect_of(CLAIMS[claim], runs_for(CLAIMS[claim])).run_ids
    assert {(runs[name].method, runs[name].student) for name in behind} == kinds
    assert len(behind) == len(set(behind)) == count * len(SEEDS)


def test_a_teacher_that_learnt_nothing_is_counted_in_a_claim_on_doubt():
    runs = runs_for(CLAIMS["H18.4a"])
    nothing = [replace(run, logits={s: 0 * z for s, z in run.logits.items()}) for run in runs]
    mixed = [one if run.config.student == "large" else run for run, one in zip(runs, nothing, strict=True)]
    found = registry.ledger(None, ("H18.4", "H18.5"), {"dose": study_of(mixed)}).set_index("id")
    assert found.degenerate[["H18.4a", "H18.4b", "H18.5"]].tolist() == [len(SEEDS), len(SEEDS), 0]


def test_a_difference_of_accuracy_has_chance_over_seeds_and_examples():
    """H18.8: KD is right on every row, its placebo wrong on two classes of three at the first seed alone."""
    runs = runs_for(CLAIMS["H18.8"])
    placebo = [getattr(run.config, "transform", "") == "shuffle" and run.config.seed == SEEDS[0] for run in runs]
    runs = [blunted(run) if here else run for run, here in zip(runs, placebo, strict=True)]
    effect = effect_of(CLAIMS["H18.8"], runs)
    apart = np.stack([np.arange(ROWS["test"]) % 3 < 2, np.zeros(ROWS["test"])])
    assert effect.effect == pytest.approx(apart.mean())
    assert effect.examples == statistics.paired_bootstrap(apart, 0 * apart)
    assert effect.examples.method == "seeds and examples"


def test_the_ends_of_a_dose_stand_where_a_seed_has_both():
    """H18.5: one seed lacks its hard labels, so its four times the logits are compared with nothing."""
    runs = [run for run in runs_for(CLAIMS["H18.5"]) if run.config.seed != SEEDS[0] or not is_hard(run.config)]
    effect = effect_of(CLAIMS["H18.5"], runs)
    assert effect.n == len(SEEDS) - 1
    assert {run.config.seed for run in runs if run.run_id in effect.run_ids} == set(SEEDS[1:])


def is_hard(config: RunConfig) -> bool:
    return getattr(config, "transform", "") == "hard"
