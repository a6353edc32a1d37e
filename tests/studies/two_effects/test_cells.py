"""Stored runs as cells: who belongs where, the effects, doses and placebos, and which of them the claims read.

The runs are planted: their logits have the entropies that the test asks for, nobody trained them.
(H18.1, H18.2, H18.3, H18.4a, H18.4b, H18.5, H18.7-H18.11, H20.1, H20.2)
"""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

from kdnb.core import metrics
from kdnb.core.config import RunConfig
from kdnb.core.store import Run
from kdnb.errors import NoRuns
from kdnb.experiment import tables
from kdnb.experiment.arms import arm_config
from kdnb.studies import registry
from kdnb.studies.two_effects import cells, runs
from kdnb.studies.two_effects.cells import (
    HUMAN_HARD,
    HUMAN_SOFT,
    LS,
    OTHER_SEED,
    OWN_SEED,
    STANDARD,
    TEACHER_HARD,
    TEACHER_SOFT,
)
from kdnb.studies.two_effects.claims import CLAIMS

registry.methods()
SIZES = {"train": 40, "validation": 10, "test": 20}
WHOLE = {"ERM": 0.30, "LS": 0.55, "kd": 0.32, "hard": 0.25, "swap": 0.36}  # test entropies of one seed [nats]


def binary_entropy(margin: float) -> float:
    """Of softmax((-margin, 0)) [nats]."""
    p = 1 / (1 + math.exp(margin))
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def logits_of(labels: np.ndarray, entropy: float, wrong: int = 0) -> np.ndarray:
    """Two logits a row, of one entropy; the first `wrong` rows name the other class."""
    margin = brentq(lambda m: binary_entropy(m) - entropy, 1e-6, 40)
    named = labels.copy()
    named[:wrong] = 1 - named[:wrong]
    return np.stack([(named == 0) * margin, (named == 1) * margin], axis=1).astype(np.float32)


def planted(config: RunConfig, test: float, train: float, wrong: int = 0) -> Run:
    """A run with mean entropies [nats] on test and train, some of its train rows wrong."""
    labels = {split: np.arange(size) % 2 for split, size in SIZES.items()}
    logits = {name: logits_of(labels[name], train if name == "train" else test) for name in SIZES}
    logits["train"] = logits_of(labels["train"], train, wrong)
    values = {name: metrics.summary(logits[name], labels[name]) for name in SIZES}
    return Run(config, logits, labels, {**values, "cost": {"seconds": 1.0, "device": "cpu"}}, [])


def erm(size: str, seed: int, **changes) -> RunConfig:
    fixed = {"task": "rt", "profile": "cpu", "data": "0" * 16, "seed": seed}
    return arm_config(f"erm_{size}", **fixed).changed(**changes)


def ls(seed: int, **changes) -> RunConfig:
    return arm_config("ls_small", task="rt", profile="cpu", data="0" * 16, seed=seed).changed(**changes)


def taught(seed: int, teacher: RunConfig, **fields) -> RunConfig:
    return erm("small", seed).changed(teacher_run=teacher.run_id(), **{"method": "kd", "alpha": 1.0, **fields})


def study_of(made: list[Run]) -> tables.Study:
    return tables.Study("rt", "cpu", tables.tidy(made), {run.run_id: run for run in made})


def one_seed(seed: int, values: dict[str, float] = WHOLE, wrong: int = 4, **budget) -> list[Run]:
    """The whole two by two of a seed, LS and the teacher."""
    teacher = erm("large", seed, **budget)
    transformed = {"method": "transformed", **budget}
    configs = {
        "ERM": erm("small", seed, **budget),
        "LS": ls(seed, **budget),
        "kd": taught(seed, teacher, **budget),
        "hard": taught(seed, teacher, transform="hard", **transformed),
        "swap": taught(seed, teacher, transform="swap", **transformed),
    }
    made = [planted(teacher, 0.20, 0.15, wrong)]
    return made + [planted(configs[name], entropy, 0.28) for name, entropy in values.items()]


def moved(by: float) -> dict[str, float]:
    return {name: entropy + by for name, entropy in WHOLE.items()}


def ledger_of(grid: str, study: tables.Study) -> pd.DataFrame:
    return registry.ledger(None, ("H18",), dict.fromkeys(runs.KINDS) | {grid: study}).set_index("id")


# The two by two


def test_each_run_lies_in_its_cell():
    table = cells.two_by_two(study_of(one_seed(10)))
    assert list(table.index) == [10]
    wanted = {HUMAN_HARD: "ERM", HUMAN_SOFT: "swap", TEACHER_HARD: "hard", TEACHER_SOFT: "kd", LS: "LS"}
    for cell, name in wanted.items():
        assert table[cell][10] == pytest.approx(WHOLE[name], abs=1e-4), cell


def test_other_weights_temperatures_and_sizes_lie_in_none():
    teacher = erm("large", 10)
    aside = [
        taught(10, teacher, alpha=0.9),
        taught(10, teacher, tau=4.0),
        taught(10, teacher, method="transformed", transform="hard", alpha=0.9),
        taught(10, teacher, method="transformed", transform="scale", sharpness=4.0),
        taught(10, teacher, method="transformed", transform="uniform"),
        taught(10, erm("small", 10)).changed(student="large"),
    ]
    table = tables.tidy([planted(config, 0.6, 0.6) for config in aside])
    assert [cells.cell_of(row) for row in table.itertuples()] == [""] * len(aside)
    whole = cells.two_by_two(study_of(one_seed(10) + [planted(config, 0.6, 0.6) for config in aside]))
    assert whole[TEACHER_SOFT][10] == pytest.approx(WHOLE["kd"], abs=1e-4)


def test_a_seed_without_a_cell_is_left_out_and_one_without_ls_is_not():
    lame = {name: entropy for name, entropy in WHOLE.items() if name != "swap"}
    bare = {name: entropy for name, entropy in WHOLE.items() if name != "LS"}
    table = cells.two_by_two(study_of(one_seed(10) + one_seed(11, lame) + one_seed(12, bare)))
    assert list(table.index) == [10, 12]
    assert np.isnan(table[LS][12])


def test_a_budget_has_its_own_cells():
    study = study_of(one_seed(10, epochs=1) + one_seed(10, moved(-0.1), epochs=6))
    for epochs, by in ((1, 0.0), (6, -0.1)):
        assert cells.two_by_two(study, "entropy", epochs)[HUMAN_SOFT][10] == pytest.approx(WHOLE["swap"] + by, abs=1e-4)


def test_effects_are_those_of_pencil_and_paper():
    table = pd.DataFrame({HUMAN_HARD: [1.0], HUMAN_SOFT: [4.0], TEACHER_HARD: [0.0], TEACHER_SOFT: [7.0], LS: [9.0]})
    assert cells.softness_effect(table)[0] == (3 + 7) / 2
    assert cells.labels_effect(table)[0] == (-1 + 3) / 2
    assert cells.interaction(table)[0] == 7 - 3
    assert cells.kd_minus_erm(table)[0] == 6
    assert cells.ls_minus_erm(table)[0] == 8


def test_the_main_effects_add_up_to_kd_minus_erm():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(6, 4)), columns=list(cells.TWO_BY_TWO))
    total = cells.softness_effect(table) + cells.labels_effect(table)
    pd.testing.assert_series_equal(total, cells.kd_minus_erm(table))


def test_an_effect_has_the_interval_of_its_seeds():
    table = pd.DataFrame({HUMAN_HARD: [0.0] * 5, HUMAN_SOFT: [1.0, 2.0, 3.0, 4.0, 5.0]})
    table[TEACHER_HARD], table[TEACHER_SOFT], table[LS] = 0.0, table[HUMAN_SOFT], [1.0, 1.0, 1.0, np.nan, np.nan]
    rows = cells.effects(table).set_index("of")
    softness = rows.loc["softness"]
    assert (softness.effect, softness.n) == (3.0, 5)
    assert softness.high - softness.effect == pytest.approx(1.963, abs=5e-4)  # T15.3
    assert rows.loc["LS minus ERM"].n == 3


def test_nll_and_accuracy_and_what_learnt_nothing_stand_beside_an_entropy():
    study = study_of(one_seed(10) + one_seed(11, moved(0.1)))
    table = study.table.assign(degenerate=(study.table.seed == 10) & (study.table.student == "small"), nll=1.0)
    changed = tables.Study("rt", "cpu", table.assign(accuracy=table.entropy), study.runs)
    rows = cells.measured(changed).set_index(["of", "metric"])
    assert rows.effect["LS minus ERM", "entropy"] == pytest.approx(0.25, abs=1e-4)
    assert rows.effect["LS minus ERM", "accuracy"] == pytest.approx(0.25, abs=1e-4)
    assert rows.effect["LS minus ERM", "nll"] == 0
    assert set(rows.degenerate) == {5}  # the four cells and LS of seed 10; no teacher


def test_a_star_says_that_the_interval_leaves_out_0():
    rows = pd.DataFrame(
        [
            ("LS minus ERM", 0.25, 0.2, 0.3, "entropy"),
            ("LS minus ERM", -0.01, -0.03, 0.01, "nll"),
            ("LS minus ERM", -0.025, -0.03, -0.02, "accuracy"),
            ("softness", 0.1, 0.0, 0.2, "entropy"),
        ],
        columns=["of", "effect", "low", "high", "metric"],
    ).assign(at="one place", degenerate=2)
    assert cells.starred(rows, ("LS minus ERM",)).loc["one place"].tolist() == ["+0.250*", "-0.010", "-2.5*", "2"]
    assert cells.starred(rows, ("softness",)).loc["one place"].tolist() == ["+0.100", "–", "–", "2"]


def test_the_teachers_are_the_large_models_of_plain_labels():
    study = study_of(one_seed(10, wrong=4) + one_seed(11, wrong=0))
    table = cells.teachers(study)
    assert table.train_accuracy.to_dict() == {10: 0.9, 11: 1.0}
    assert table.train_entropy[10] == pytest.approx(0.15, abs=1e-4)


# Doses

DOSES = {0.25: 0.50, 1.0: 0.32, 4.0: 0.26, np.inf: 0.25}  # of the teacher's logits -> the student's test entropy


def dosed(seed: int, alpha: float = 1.0) -> list[Run]:
    teacher = erm("large", seed)
    made = [planted(teacher, 0.20, 0.15), planted(erm("small", seed), 0.30, 0.28), planted(ls(seed), 0.55, 0.5)]
    for dose, entropy in DOSES.items():
        how = {"transform": "hard"} if np.isinf(dose) else {"transform": "scale", "sharpness": dose}
        fields = {"method": "kd"} if dose == 1 else {"method": "transformed", **how}
        made.append(planted(taught(seed, teacher, alpha=alpha, **fields), entropy, 0.28))
    return made


def test_a_dose_has_the_changed_teachers_distance_on_train():
    margin = brentq(lambda m: binary_entropy(m) - 0.15, 1e-6, 40)
    rows = cells.dose_response(study_of(dosed(10))).set_index("dose")
    assert list(rows.index) == sorted(DOSES)
    for dose in (0.25, 1.0, 4.0):
        assert rows.x[dose] == pytest.approx(binary_entropy(dose * margin) - 0.28, abs=1e-4)
    assert rows.x[np.inf] == pytest.approx(-0.28, abs=1e-4)
    for dose, entropy in DOSES.items():
        assert rows.change[dose] == pytest.approx(entropy - 0.30, abs=1e-4)


def test_a_dose_is_of_one_weight_and_needs_its_teacher_and_erm():
    study = study_of(dosed(10) + dosed(11, alpha=0.9))
    assert set(cells.dose_response(study).seed) == {10}
    assert set(cells.dose_response(study, 0.9).seed) == {11}
    orphan = [run for run in dosed(10) if run.config.student != "large"]
    assert cells.dose_response(study_of(orphan)).empty
    alone = [run for run in dosed(10) if run.config.run_id() != erm("small", 10).run_id()]
    assert cells.dose_response(study_of(alone)).empty


def test_a_slope_goes_through_the_origin_and_needs_two_doses_of_doubt():
    doses = pd.DataFrame(
        [
            (10, 0.25, 0.4, 0.4),
            (10, 0.5, 0.2, 0.1),
            (10, 1.0, -0.1, 5.0),  # surer than ERM
            (10, np.inf, 0.3, 5.0),  # no dose
            (11, 0.25, 0.4, 0.4),  # alone
        ],
        columns=["seed", "dose", "x", "change"],
    )
    assert cells.slopes(doses).to_dict() == {10: pytest.approx((0.4 * 0.4 + 0.2 * 0.1) / (0.4**2 + 0.2**2))}
    assert cells.slopes(cells.dose_response(study_of([planted(erm("small", 10), 0.3, 0.3)]))).empty


# Placebos


def placebo_runs(seed: int) -> list[Run]:
    large, small, other = erm("large", seed), erm("small", seed), erm("small", seed + 1, order_seed=seed + 1)
    made = {large: 0.2, small: 0.30, other: 0.31, ls(seed): 0.55}
    for place, transform in enumerate(("uniform", "class_mean", "shuffle")):
        made[taught(seed, large, method="transformed", transform=transform, alpha=0.9)] = 0.6 - place / 20
    made |= {
        taught(seed, large, alpha=0.9): 0.32,
        taught(seed, small, alpha=0.9): 0.33,
        taught(seed, other, alpha=0.9): 0.34,
    }
    return [planted(config, entropy, 0.28) for config, entropy in made.items()]


def test_placebos_are_told_by_what_taught_them():
    table = cells.placebos(study_of(placebo_runs(10)))
    wanted = {
        "ERM": 0.30,
        "LS": 0.55,
        "uniform": 0.60,
        "class_mean": 0.55,
        "shuffle": 0.50,
        STANDARD: 0.32,
        OWN_SEED: 0.33,
        OTHER_SEED: 0.34,
    }
    assert set(table) == set(wanted)
    assert table.loc[10].to_dict() == pytest.approx(wanted, abs=1e-4)
    assert table.loc[11, "ERM"] == pytest.approx(0.31, abs=1e-4)  # the other seed's model is a student of its own


def test_own_and_another_seed_trade_places_with_the_student():
    own, other = erm("small", 10), erm("small", 11, order_seed=11)
    study = study_of([planted(own, 0.3, 0.3), planted(other, 0.3, 0.3), planted(taught(11, other), 0.4, 0.3)])
    assert OWN_SEED in cells.placebos(study)
    study = study_of([planted(own, 0.3, 0.3), planted(other, 0.3, 0.3), planted(taught(11, own), 0.4, 0.3)])
    assert OTHER_SEED in cells.placebos(study)


@pytest.fixture(scope="module")
def budgets():
    """Three seeds at three budgets, where entropy on test is a line in the log of the NLL on train, plus what is added.

    The NLL of a planted run comes of the entropy it has on train, all rows right: learnt more, surer.
    """
    made = []
    for seed in (10, 11, 12):
        for epochs, learnt in ((1, 0.6), (2, 0.4), (3, 0.2)):
            budget = {"epochs": epochs, "history_points": 0}
            teacher = erm("large", seed, **budget)
            for config, more, added in (
                (erm("small", seed, **budget), 0.0, 0.0),
                (taught(seed, teacher, **budget), -0.01, 0.0),
                (ls(seed, **budget), 0.05, 0.03 + seed / 10_000),
            ):
                run = planted(config, 0.5, learnt + more)
                nll = float(metrics.per_example("nll", run.logits["train"], run.labels["train"]).mean())
                made.append(planted(config, 0.4 + 0.05 * math.log(nll) + added, learnt + more))
    return study_of(made)


def test_at_equal_progress_what_is_on_erms_line_moves_nothing(budgets):
    table = cells.at_equal_progress(budgets)
    assert list(table.index) == [10, 11, 12]
    assert table[TEACHER_SOFT].to_numpy() == pytest.approx(0, abs=1e-5)
    assert table[LS].to_numpy() == pytest.approx([0.0310, 0.0311, 0.0312], abs=1e-5)
    rows = registry.ledger(None, ("H20",), dict.fromkeys(runs.KINDS) | {"budgets": budgets}).set_index("id")
    assert rows.effect.to_dict() == pytest.approx({"H20.1": 0, "H20.2": 0.0311}, abs=1e-5)
    assert list(rows.verdict) == ["holds", "holds"]
    assert rows.exploratory.all()


def test_a_budget_that_erm_never_passed_is_left_out(budgets):
    learnt_less = budgets.table[budgets.table.epochs > 1]
    table = cells.at_equal_progress(budgets.only(learnt_less[learnt_less.method != "ls"]))
    assert table[LS].isna().all()
    longest = budgets.table[(budgets.table.epochs == 3) & (budgets.table.method == "erm")]
    assert len(cells.at_equal_progress(budgets.only(longest))) == 0


# What the claims make of them


def test_softness_and_labels_are_judged_each_by_its_own_effect():
    seeds = [run for seed in range(10, 14) for run in one_seed(seed, moved(seed / 1000))]
    rows = ledger_of("softness", study_of(seeds))
    assert rows.effect["H18.1"] == pytest.approx((0.36 - 0.30 + 0.32 - 0.25) / 2, abs=2e-4)
    assert rows.effect["H18.2"] == pytest.approx((0.25 - 0.30 + 0.32 - 0.36) / 2, abs=2e-4)
    assert rows.verdict["H18.1"] == rows.verdict["H18.2"] == "holds"
    assert rows.verdict["H18.3"] == "no runs"  # its teachers are wrong on a tenth of the train rows
    behind = {(run.config.method, run.config.student) for run in seeds if run.run_id in rows.run_ids["H18.1"]}
    assert behind == {("erm", "small"), ("kd", "small"), ("transformed", "small")}  # neither LS nor a teacher
    assert len(rows.run_ids["H18.1"]) == 16


@pytest.mark.slow
def test_labels_of_a_teacher_that_knows_its_own_are_another_claim():
    same = WHOLE | {"hard": WHOLE["ERM"], "swap": WHOLE["kd"]}
    rows = ledger_of("softness", study_of([run for seed in (10, 11, 12) for run in one_seed(seed, same, wrong=0)]))
    assert rows.verdict["H18.2"] == "no runs"
    assert rows.verdict["H18.3"] == "holds"
    assert rows.bound["H18.3"] == pytest.approx(0.025, abs=1e-4)  # a tenth of .55 - .30
    rows = ledger_of("softness", study_of([run for seed in (10, 11, 12) for run in one_seed(seed, wrong=0)]))
    assert rows.verdict["H18.3"] == "fails"


def test_doses_are_judged_on_the_side_of_doubt_and_beyond_the_labels():
    rows = ledger_of("dose", study_of([run for seed in (10, 11, 12) for run in dosed(seed)]))
    assert rows.effect["H18.4a"] == pytest.approx(0.20, abs=1e-3)
    assert rows.effect["H18.5"] == pytest.approx(0.01, abs=1e-3)
    assert rows.verdict["H18.5"] == "holds"  # .01 within .025
    assert rows.verdict["H18.4b"] == "no runs"  # a slope needs two doses on the side of doubt


@pytest.mark.parametrize(
    ("claim", "arm", "than"),
    [
        ("H18.7", "shuffle", STANDARD),
        ("H18.9", "shuffle", "class_mean"),
        ("H18.10", OWN_SEED, OTHER_SEED),
    ],
)
def test_a_placebo_claim_compares_what_it_says(claim, arm, than):
    study = study_of(placebo_runs(10) + placebo_runs(20) + placebo_runs(30))
    table = cells.placebos(study)
    rows = ledger_of("placebo", study)
    assert rows.effect[claim] == pytest.approx((table[arm] - table[than]).mean())
    assert rows.n[claim] == 3


def test_self_kd_is_judged_by_the_grid_of_seeds_alone():
    study = study_of(placebo_runs(10) + placebo_runs(20) + placebo_runs(30))
    assert ledger_of("placebo", study).verdict["H18.11"] == "no runs"
    assert ledger_of("seeds", study).effect["H18.11"] == pytest.approx(0.04, abs=1e-4)


def test_accuracy_is_what_h18_8_compares():
    assert CLAIMS["H18.8"].unit == "points"
    study = study_of(placebo_runs(10) + placebo_runs(20))
    row = ledger_of("placebo", study).loc["H18.8"]
    assert (row.effect, row.verdict) == (0.0, "undecided")  # every planted student is right on every test row


# What the notebooks read


def test_a_claim_on_other_teachers_is_not_asked_and_one_without_runs_has_none():
    kinds = dict.fromkeys(runs.KINDS) | {"softness": study_of(one_seed(10) + one_seed(11))}
    rows = runs.asked(registry.ledger(None, ("H18",), kinds), kinds).set_index("id").verdict
    assert rows["H18.3"] == "not asked"
    assert rows["H18.2"] not in ("not asked", "no runs")
    assert rows["H18.5"] == "no runs"
    gone = dict.fromkeys(runs.KINDS)
    assert set(runs.asked(registry.ledger(None, ("H18",), gone), gone).verdict) == {"no runs"}


def test_a_gap_says_which_command_fills_it():
    with pytest.raises(NoRuns, match="`kdnb sweep softness --task rt --profile demo` makes it"):
        runs.needed(None, True, "softness", "rt", "demo")
    study = study_of(one_seed(10))
    with pytest.raises(NoRuns, match="no whole grid dose of rt at profile cpu"):
        runs.needed(study, False, "dose", "rt", "cpu")
    assert runs.needed(study, True, "softness", "rt", "cpu") is study


def test_an_empty_store_has_no_two_by_two(store):
    assert runs.two_by_two("rt", "demo") is None
    assert runs.evidence("rt", "demo") == dict.fromkeys(runs.KINDS)
