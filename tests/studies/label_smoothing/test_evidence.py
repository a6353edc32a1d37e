"""Evidence beyond the fixed arms: which stored runs belong to it, and selection that never reads the test split."""

import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from kdnb.cli import runs as runs_commands
from kdnb.core import metrics
from kdnb.core import store as runs
from kdnb.experiment import tables
from kdnb.experiment.arms import ARMS, arm_config
from kdnb.studies import registry
from kdnb.studies.label_smoothing import claims, evidence
from kdnb.studies.two_effects.claims import CHAPTER
from kdnb.sweeps import grids, select

TAUS = (1.0, 4.0, 16.0)
SIZES = dict(zip(runs.SPLITS, (8, 20, 12), strict=True))


def config(arm, seed=0, teacher=None, **changes):
    """The arm's toy config, taught by the default teacher of the seed unless another is given."""
    base = {"task": "rt", "profile": "toy", "data": "d" * 16, "seed": seed}
    of = ARMS[arm].teacher
    return arm_config(arm, **base, teacher_run=(teacher or config(of, seed)).run_id() if of else "", **changes)


def store_run(config, gap=2.0, right=None):
    """A run with logits (gap, 0) on the predicted class; right: split -> examples that are predicted rightly."""
    labels = {split: np.arange(n) % 2 for split, n in SIZES.items()}
    logits = {}
    for split, label in labels.items():
        hits = np.arange(len(label)) < (right or {}).get(split, len(label) - 2)
        logits[split] = (gap * np.eye(2)[np.where(hits, label, 1 - label)]).astype(np.float32)
    values = {s: metrics.summary(logits[s], labels[s]) for s in runs.SPLITS}
    run = runs.Run(config, logits, labels, {**values, "cost": {"seconds": 1.0}}, [])
    runs.save(run)
    return run


@pytest.fixture
def grid(store):
    """ERM, LS, three alphas of LS, standard and self-KD at tau 1, 4, 16, alpha .5 and 1; two seeds. tau -> gap."""
    ids = set()
    for seed in (0, 1):
        for arm in ("erm_large", "erm_small", "ls_small"):
            ids.add(store_run(config(arm, seed), gap=2 + seed / 10).run_id)
        ids |= {store_run(config("ls_small", seed, alpha=a), gap=1.0).run_id for a in (0.1, 0.9)}
        for arm, tau, alpha in ((a, t, w) for a in ("kd_standard", "kd_self") for t in TAUS for w in (0.5, 1.0)):
            made = config(arm, seed, tau=tau, alpha=alpha)
            ids.add(store_run(made, gap=2 + tau / 4 + alpha / 10 + seed / 10).run_id)
            off = replace(made, tau2_scaling=False) if tau > 1 and arm == "kd_standard" else None
            ids |= {store_run(off, gap=0.1).run_id} if off else set()
    return ids


@pytest.mark.slow
def test_the_temperature_grid_is_the_runs_of_its_setting(grid):
    store_run(config("erm_small", lr=1e-4))  # another learning rate
    store_run(config("kd_standard", epochs=1))  # other epochs, and no other tau there
    store_run(replace(config("erm_small"), data="e" * 16))  # other data
    store_run(config("tfkd_small"))
    store_run(config("erm_small", student="minilm-3"))
    found = registry.evidence(tables.study("rt", "toy"))["temperature"]
    assert set(found.table.run_id) == grid
    assert set(found.table.tau) == set(TAUS)


@pytest.mark.slow
def test_a_searched_learning_rate_belongs_to_the_grid(grid):
    more = [config("kd_standard", lr=2e-3, tau=8.0), config("erm_small", lr=2e-3)]
    ids = {store_run(made).run_id for made in more}
    found = registry.evidence(tables.study("rt", "toy"))["temperature"]
    assert set(found.table.run_id) == grid | ids


@pytest.mark.slow
def test_an_arm_or_a_seed_with_one_tau_was_not_searched(grid):
    for arm in ("erm_large", "erm_small", "ls_small", "kd_standard"):
        store_run(config(arm, seed=2))  # a seed without any other tau
    store_run(config("kd_reverse", seed=0))  # an arm without any other tau
    found = registry.evidence(tables.study("rt", "toy"))["temperature"]
    assert set(found.table.run_id) == grid


@pytest.mark.slow
def test_a_teacher_from_another_setting_comes_along(grid):
    teacher = store_run(config("erm_large", lr=3e-3), gap=5.0)
    student = store_run(config("kd_standard", teacher=teacher.config, tau=2.0))
    found = registry.evidence(tables.study("rt", "toy"))["temperature"]
    assert {teacher.run_id, student.run_id} <= set(found.runs)
    cells = claims.inheritance(found).set_index("run_id")
    assert cells.teacher_entropy[student.run_id] == pytest.approx(teacher.metrics["test"]["entropy"])


@pytest.mark.slow
def test_without_a_second_tau_there_is_no_temperature_evidence(store):
    store_run(config("erm_small"))
    study = tables.study("rt", "toy")
    assert registry.evidence(study) == dict.fromkeys(
        (
            "temperature",
            "smoothing",
            "curves",
            *evidence.ANEW,
            *CHAPTER.evidence,
            "deviations",
            "switching",
            "generations",
        )
    )
    found = registry.ledger(study, others=registry.evidence(study)).set_index("id")
    assert found.verdict["H5.1a"] == found.verdict["H15.1b"] == "no runs"
    assert "H5.1a" not in set(registry.ledger(study).id)


@pytest.mark.slow
def test_large_alpha_is_the_smoothing_evidence(grid):
    study = tables.study("rt", "toy")
    found = registry.evidence(study)["smoothing"]
    assert set(found.table.alpha) == {0.9}
    row = registry.ledger(study, others={"smoothing": found}).set_index("id").loc["H15.1b"]
    confidence = 1 / (1 + np.exp(-1.0))
    assert row.effect == pytest.approx(confidence - 10 / 12, abs=1e-6)
    assert row.verdict == "holds"


def test_selection_is_by_validation_and_the_test_split_has_no_say(store):
    for seed in (0, 1):
        store_run(config("erm_large", seed))
        store_run(config("erm_small", seed))
        store_run(config("kd_standard", seed, tau=2.0), right={"validation": 15, "test": 12})
        store_run(config("kd_standard", seed, tau=4.0), right={"validation": 17, "test": 2})
    found = registry.evidence(tables.study("rt", "toy"))["temperature"]
    chosen = evidence.selected(found).table
    assert set(chosen[chosen.arm == "kd_standard"].tau) == {4}
    shuffled = found.table.assign(accuracy=found.table.accuracy[::-1].to_numpy(), entropy=0.0, nll=9.0)
    assert set(evidence.selected(found.only(shuffled)).table.run_id) == set(chosen.run_id)


def test_ties_go_to_fewer_epochs_then_smaller_rates_then_smaller_alpha(store):
    store_run(config("erm_small"))
    store_run(config("erm_large"))
    wanted = config("kd_standard", epochs=2, lr=1e-3, alpha=0.5, tau=2.0)
    for changes in ({}, {"epochs": 3, "alpha": 0.1}, {"lr": 2e-3, "alpha": 0.1}, {"alpha": 0.9}, {"tau": 4.0}):
        store_run(replace(wanted, **changes))
    chosen = evidence.selected(registry.evidence(tables.study("rt", "toy"))["temperature"]).table
    assert chosen.set_index("arm").run_id["kd_standard"] == wanted.run_id()


def test_two_taus_are_no_search(store):
    for arm in ("erm_large", "erm_small"):
        store_run(config(arm))
    for tau in (1.0, 4.0):
        store_run(config("kd_standard", tau=tau))
    found = _ledger()
    assert found.verdict["H5.1a"] == "no runs"
    assert found.n["H5.5"] == 1  # a slope has two points


def store_search(seed, soft=True, missing=0):
    """The toy grid `search` of the three small arms, its best on validation the last in the order of its points."""
    fixed = {"grid": "search", "task": "rt", "profile": "toy", "data": "d" * 16, "seeds": (seed,)}
    erm = grids.stages(**fixed)
    for place, point in enumerate(erm.erm):
        store_run(point.config, gap=2 + seed / 10, right={"validation": 10 + place, "test": 12 - place})
    points = grids.stages(**fixed, teachers=select.teachers(erm)).soft
    for place, point in enumerate(points[missing:] if soft else ()):
        store_run(point.config, gap=3 + seed / 10, right={"validation": 12 + place, "test": 9})
    return points


def test_a_whole_search_judges_the_claims_at_fixed_settings(store):
    """One per arm and seed, selected on validation, teachers too; arms and seeds that are not whole are left out."""
    registry.grids()
    points = [store_search(0), store_search(1, missing=1)]
    found = evidence.protocol("search", tables.study("rt", "toy", lambda _: True))
    assert sorted(zip(found.table.arm, found.table.seed, strict=True)) == [
        ("erm_large", 0),
        ("erm_large", 1),
        ("erm_small", 0),
        ("erm_small", 1),
        ("kd_standard", 0),
    ]
    best = found.table.set_index(["arm", "seed"])
    assert best.run_id["kd_standard", 0] == points[0][-1].config.run_id()
    assert best.teacher["kd_standard", 0] == best.run_id["erm_large", 0]
    row = registry.ledger(found, ("H3",)).set_index("id").loc["H3.2"]
    assert (row.n, row.verdict, row.candidates) == (1, "undecided", "ERM small 4, Standard KD 8")
    assert row.effect < 0


def test_students_selected_by_nll_have_the_teacher_that_the_sweep_gave_them(store):
    """Which is the ERM model of the best accuracy, here a confident one whose NLL is the worst."""
    registry.grids()
    points = store_search(0)
    gave = points[0].config.teacher_run
    confident = runs.load(gave).config
    shutil.rmtree(store / gave)
    store_run(confident, gap=9.0, right={"validation": 13, "test": 9})
    found = evidence.protocol("search", tables.study("rt", "toy", lambda _: True), "nll").table.set_index("arm")
    assert found.run_id["erm_large"] != gave
    assert (found.teacher["kd_standard"], found.candidates["kd_standard"]) == (gave, len(points))


def test_a_selected_run_whose_config_alone_is_damaged_is_a_gap(store, capsys):
    registry.grids()
    best = store_search(0)[-1].config.run_id()
    (store / best / "config.json").write_bytes(b"{}")
    found = evidence.protocol("search", tables.study("rt", "toy", lambda _: True))
    assert set(found.table.arm) == {"erm_large", "erm_small"}
    assert best in capsys.readouterr().err


def store_longer(seed, epochs, **changes):
    """ERM on both models and a student of each kind at so many epochs; they differ from each other in confidence."""
    large = store_run(config("erm_large", seed, epochs=epochs, **changes), gap=3.0)
    teaches = {"teacher": large.config, "epochs": epochs, **changes}
    return [
        large,
        store_run(config("erm_small", seed, epochs=epochs, **changes), gap=2.0 + seed / 10),
        store_run(config("kd_standard", seed, **teaches), gap=4.0 + seed),
    ]


def test_the_claims_are_judged_anew_by_longer_runs(store):
    """Those of all numbers of epochs above the fixed one that most runs have; a teacher of fewer is none of theirs."""
    store_run(config("erm_large")), store_run(config("erm_small"))
    ours = [run.run_id for seed in (0, 1) for run in store_longer(seed, 11)]
    store_longer(0, 12)
    store_run(config("kd_standard", 1, epochs=11))  # by a teacher of the fixed number of epochs
    store_longer(1, 11, lr=3e-3)
    fixed = tables.study("rt", "toy")
    found = evidence.longer(fixed)
    assert set(found.table.run_id) == set(ours)
    row = registry.ledger(found, ("H3",)).set_index("id").loc["H3.2"]
    assert (row.n, row.verdict, row.effect < 0) == (2, "undecided", True)
    assert set(registry.evidence(fixed)[evidence.LONGER].table.run_id) == set(ours)


def test_longer_erm_alone_judges_nothing(store):
    for epochs in (1, 11):
        store_run(config("erm_small", epochs=epochs))
    store_run(config("erm_small"))
    assert evidence.longer(tables.study("rt", "toy")) is None


def test_erm_alone_is_no_search(store):
    registry.grids()
    store_search(0, soft=False)
    assert evidence.protocol("search", tables.study("rt", "toy", lambda _: True)) is None
    assert evidence.protocol("published7", tables.study("rt", "toy", lambda _: True)) is None


TAUGHT = [  # arm of the same pair of models with an ERM teacher, teacher
    ("kd_standard", "ls_large"), ("kd_self", "ls_small"), ("kd_reverse", "ls_small"), ("kd_standard", "kd_reverse")
]  # fmt: skip


@pytest.mark.slow
def test_students_of_other_teachers_than_erms_change_no_verdict(grid, capsys):
    """KD by LS and by KD models, with tau searched, at the grid's setting and at another, on both of its seeds."""
    teachers = {"ls_large": 9.0, "ls_small": 8.0, "kd_reverse": 7.0}
    places = [(seed, changes) for seed in (0, 1) for changes in ({}, {"lr": 2e-3})]
    for seed, changes in places:
        store_run(config("erm_small", seed, **changes), gap=2.0)  # what a search at another setting is held against
    before = _ledger()
    for seed, changes in places:
        for name, gap in teachers.items():
            store_run(config(name, seed, **changes), gap=gap)
    plain = _ledger()
    planted = []
    for (seed, changes), (arm, teacher), tau in product(places, TAUGHT, (1.0, 4.0)):
        of = config(teacher, seed, **changes)
        planted.append(store_run(config(arm, seed, teacher=of, tau=tau, **changes), gap=5.0, right={"validation": 20}))
    assert before.high["H5.1a"] < 0
    assert _ledger().to_csv() == plain.to_csv()
    assert {tables.arm_of(run.config) for run in planted} == {
        "kd_small_from_ls_large",
        "kd_small_from_ls_small",
        "kd_large_from_ls_small",
        "kd_small_from_kd_large",
    }
    table = tables.tidy(planted)
    names = {"KD from an LS teacher (large to small)", "KD from a KD teacher (large to small)"}
    assert names < set(table.name)
    assert set(tables.spread(table, "entropy").n) == {8}  # two seeds, two settings, two taus: an arm of its own
    runs_commands.list_runs("rt")
    assert capsys.readouterr().out.count("KD from an LS teacher (large to small)") == 8


@pytest.mark.slow
def test_no_seed_counts_twice_where_an_arm_has_two_teachers(grid):
    """Standard KD of seed 0 by a second large ERM model: one of the two students is selected."""
    second = store_run(config("erm_large", lr=3e-3)).config
    store_run(config("kd_standard", teacher=second, tau=4.0), gap=4.0, right={"validation": 20})
    row = _ledger().loc["H5.1a"]
    assert (row.n, row.signs) == (2, "2/2")
    assert len(row.run_ids) == 4


def _ledger():
    study = tables.study("rt", "toy")
    return registry.ledger(study, others=registry.evidence(study)).set_index("id")


@pytest.mark.slow
def test_entropy_falls_with_tau_in_this_grid(grid):
    study = tables.study("rt", "toy")
    found = registry.ledger(study, others=registry.evidence(study)).set_index("id")

    def entropy(gap):
        p = 1 / (1 + np.exp(-gap))
        return -(p * np.log(p) + (1 - p) * np.log(1 - p))

    places = [(a, s) for s in (0, 0.1) for a in (0.05, 0.1)]
    slopes = [np.polyfit(np.log(TAUS), [entropy(2 + t / 4 + a + s) for t in TAUS], 1)[0] for a, s in places]
    row = found.loc["H5.5"]
    assert row.effect == pytest.approx(np.mean(slopes), abs=1e-6)
    assert row.n == 2
    assert row.signs == "2/2"
    assert len(row.run_ids) == 12  # with tau squared on only
    assert found.candidates["H5.1a"] == "ERM small 1, Standard KD 6"
    assert found.high["H5.1a"] < 0  # two seeds decide nothing after the correction
    assert found.n["H5.6"] == 4  # one selected run per arm and seed


@pytest.mark.slow
def test_reading_configs_loads_no_logits(grid, monkeypatch):
    monkeypatch.setattr(runs, "load", lambda run_id: pytest.fail(f"loaded {run_id}"))
    assert set(tables.stored_configs("rt", "toy")) == grid
    assert tables.load_runs("rt-", lambda config: False) == []
