"""Claims, verdicts and the tidy table, on studies whose signs are known beforehand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kdnb import paths
from kdnb.analysis import ledger as machinery
from kdnb.analysis.ledger import against_erm, over_tasks
from kdnb.analysis.statistics import Effect, verdict
from kdnb.experiment import tables
from kdnb.experiment.arms import ARMS, arm_config
from kdnb.experiment.points import Point
from kdnb.studies import registry
from kdnb.studies.label_smoothing import claims
from kdnb.studies.label_smoothing.claims import CLAIMS

# Mean entropy and accuracy of each arm such that every claim of the paper is true.
AS_PUBLISHED = {
    "erm_large": (0.10, 0.86), "erm_small": (0.20, 0.82), "ls_small": (0.60, 0.80), "kd_standard": (0.12, 0.84),
    "kd_self": (0.15, 0.85), "ls_large": (0.55, 0.85), "kd_reverse": (0.14, 0.88), "tfkd_small": (0.40, 0.83),
}  # fmt: skip
NO_SIDES = ["H1.1", "H3.7", "H3.7b", "H3.7c", "H3.8a", "H3.8b"]  # no difference between arms that may lie on a side
NOISE = [-0.0002, 0.0, 0.0003]


def study(values=AS_PUBLISHED, seeds=(0, 1, 2), arms=tuple(ARMS)):
    """A study by hand: no runs behind it, small differences between the seeds."""
    rows = []
    for i, arm in enumerate(arms):
        entropy, accuracy = values[arm]
        for seed in seeds:
            noise = NOISE[(seed + i) % 3]
            teacher = f"{ARMS[arm].teacher}-{seed}" if ARMS[arm].teacher else ""
            rows.append(
                {
                    "run_id": f"{arm}-{seed}",
                    "arm": arm,
                    "name": ARMS[arm].name,
                    "seed": seed,
                    "teacher": teacher,
                    "entropy": entropy + noise,
                    "accuracy": accuracy + noise,
                    "curve_entropy": entropy + 0.1 + noise,
                    "train_curve_entropy": entropy + 0.05 + noise,
                    "early_entropy": entropy + 0.2 + noise,
                    "train_entropy": entropy - 0.05 + noise,
                    "nll": 1 - accuracy + noise,
                    "degenerate": False,
                    "overconfidence": (1 - entropy) - accuracy + noise,
                }
            )
    return tables.Study("rt", "demo", pd.DataFrame(rows), {})


def ledger(*args, **kwargs):
    return registry.ledger(study(*args, **kwargs)).set_index("id")


@pytest.mark.parametrize(
    ("low", "high", "sign", "word"),
    [
        (0.1, 0.2, 1, "holds"), (-0.2, -0.1, 1, "fails"), (-0.1, 0.2, 1, "undecided"), (0.0, 0.2, 1, "undecided"),
        (-0.2, -0.1, -1, "holds"), (0.1, 0.2, -1, "fails"), (-0.1, 0.2, -1, "undecided"), (-0.2, 0.0, -1, "undecided"),
        (-math.inf, math.inf, 1, "undecided"), (math.nan, math.nan, -1, "undecided"),
    ],
)  # fmt: skip
def test_a_verdict_is_where_the_interval_lies(low, high, sign, word):
    assert verdict(low, high, sign) == word


@pytest.mark.slow
def test_every_claim_holds_where_all_signs_are_the_papers():
    found = ledger()
    assert set(found.verdict.drop("H3.7")) == {"holds"}
    assert found.verdict["H3.7"] == "descriptive"
    assert list(found.index) == [name for name, claim in CLAIMS.items() if claim.evidence == "study"]


@pytest.mark.slow
def test_every_claim_fails_where_all_signs_are_turned():
    turned = {arm: (1 - entropy, 1 - accuracy) for arm, (entropy, accuracy) in AS_PUBLISHED.items()}
    found = ledger(turned).drop(["H4.6", "H15.1a", *NO_SIDES])
    assert set(found.verdict) == {"fails"}


@pytest.mark.slow
def test_one_seed_decides_nothing():
    found = ledger(seeds=(0,)).drop(NO_SIDES)
    assert set(found.verdict) == {"undecided"}
    assert set(found.n) == {1}


@pytest.mark.slow
def test_equal_arms_decide_nothing():
    found = ledger(dict.fromkeys(ARMS, (0.3, 0.8)))
    assert set(found.drop(["H4.6", "H15.1a", *NO_SIDES]).verdict) == {"undecided"}
    assert found.verdict["H4.6"] != "holds"


@pytest.mark.slow
def test_the_effect_is_the_paired_difference_and_its_t_interval():
    row = ledger().loc["H3.1"]
    each = [(0.60 + NOISE[(s + 2) % 3]) - (0.20 + NOISE[(s + 1) % 3]) for s in range(3)]
    half = 4.303 * np.std(each, ddof=1) / math.sqrt(3)
    assert row.effect == pytest.approx(np.mean(each))
    assert row.high - row.effect == pytest.approx(half, rel=1e-3)
    assert row.effect - row.low == pytest.approx(half, rel=1e-3)
    assert row.n == 3


@pytest.mark.slow
def test_a_missing_arm_is_a_gap_and_never_a_zero():
    found = ledger(arms=("erm_small", "ls_small"))
    assert found.verdict["H3.1"] == "holds"
    rest = found.drop(["H1.1", "H3.1", "H3.5c", "H15.1a"])
    assert set(rest.verdict) == {"no runs"}
    assert set(rest.n) == {0}
    assert rest.effect.isna().all()


@pytest.mark.slow
def test_seeds_that_one_side_lacks_are_left_out():
    whole = study()
    table = whole.table[~((whole.table.arm == "ls_small") & (whole.table.seed == 2))]
    row = registry.ledger(tables.Study("rt", "demo", table, {})).set_index("id").loc["H3.1"]
    assert row.n == 2


@pytest.mark.slow
@pytest.mark.parametrize(("entropy", "word"), [(0.15, "holds"), (0.25, "fails"), (0.05, "fails")])
def test_the_bracket_has_two_ends(entropy, word):
    """ERM large .10, its teacher ERM small .20: reverse KD lies between, above, below."""
    assert ledger({**AS_PUBLISHED, "kd_reverse": (entropy, 0.9)}).verdict["H4.6"] == word


@pytest.mark.slow
@pytest.mark.parametrize(("entropy", "word"), [(0.30, "holds"), (0.33, "fails"), (0.325, "undecided")])
def test_far_greater_is_more_than_twice(entropy, word):
    """H4.8: LS adds .45 to ERM large's .10; reverse KD adds .20, .23, .225 (twice that is .45)."""
    noisy = {"ls_large": 0.55, "kd_reverse": entropy}
    found = ledger({**AS_PUBLISHED, **{arm: (value, 0.85) for arm, value in noisy.items()}})
    assert found.effect["H4.8"] == pytest.approx(0.45 - 2 * (entropy - 0.1), abs=2e-3)
    assert found.verdict["H4.8"] == word


@pytest.mark.slow
def test_on_train_as_on_test_within_a_tenth_of_smoothing():
    """H3.8a, H3.8b: LS adds .4, so .04 is the bound; standard KD's change on train lies .03 above that on test."""
    some = study()
    moved = (some.table.arm == "kd_standard") * 0.03 + (some.table.arm == "kd_self") * 0.05
    table = some.table.assign(train_entropy=some.table.train_entropy + moved)
    found = registry.ledger(some.only(table)).set_index("id")
    assert found.effect["H3.8a"] == pytest.approx(0.03)
    assert found.bound["H3.8a"] == pytest.approx(0.04, abs=1e-4)
    assert (found.verdict["H3.8a"], found.verdict["H3.8b"]) == ("holds", "fails")


def test_nll_and_accuracy_stand_beside_every_difference_of_entropy():
    whole = study()
    found = registry.ledger(whole, ("H3.1", "H3.5a", "H4.6")).set_index("id")
    for metric in ("nll", "accuracy"):
        change = whole.difference("ls_small", "erm_small", metric)
        assert found[metric]["H3.1"] == pytest.approx(change.mean())
        half = 4.303 * change.std(ddof=1) / math.sqrt(3)
        assert found[f"{metric}_high"]["H3.1"] == pytest.approx(change.mean() + half, rel=1e-3)
    assert np.isnan(found.nll["H3.5a"])  # a difference of accuracy
    assert found.nll["H4.6"] == pytest.approx(whole.difference("kd_reverse", "erm_large", "nll").mean())


@pytest.mark.parametrize("alone", ["erm_small", "erm_large"])  # the second part's other side, the first part's
def test_a_claim_of_parts_of_which_one_has_a_single_seed_is_undecided(alone):
    table = study().table
    lacking = tables.Study("rt", "demo", table[~((table.arm == alone) & (table.seed > 0))], {})
    row = registry.ledger(lacking, ("H4.6",)).set_index("id").loc["H4.6"]
    assert (row.n, row.verdict) == (1, "undecided")


def test_a_claim_of_parts_fails_by_the_p_of_the_part_that_fails():
    """H4.6: surely above its upper end by little, and below its lower end by more, but unsurely."""
    parts = [Effect(effect=-0.001, low=-0.002, high=-0.0005, n=3, p=0.001)]
    parts += [
        Effect(effect=-0.01, low=-0.05, high=0.03, n=3, p=0.6),
        Effect(effect=0.2, low=0.1, high=0.3, n=3, p=1e-5),
    ]
    assert machinery._worst(parts).p == 0.001
    assert machinery._worst(parts[1:]).p == 0.6
    assert machinery._worst(parts[2:]).p == 1e-5


def with_curves(values, rows, seeds=(0, 1, 2)):
    """Runs of arms with a curve each, sampled on so many rows: arm -> test entropies at steps 0, 1, 5, 10."""
    made = []
    for seed in seeds:
        arms = configs(seed, history_rows=rows)
        for arm, entropies in values.items():
            run = stored_run(arms[arm])
            told = {"test_entropy": 0.0, "train_entropy": 0.0, "running_entropy": 0.0, "loss": 0.0}
            curve = zip((0, 1, 5, 10), entropies, strict=True)
            history = [
                {**told, "step": s, "epoch": s / 10, "test_entropy": e + NOISE[(seed + len(arm)) % 3]} for s, e in curve
            ]
            labels = {split: np.resize(label, 600) for split, label in run.labels.items()}
            logits = {split: np.resize(z, (600, 2)) for split, z in run.logits.items()}
            made.append(replace(run, history=history, labels=labels, logits=logits))
    return tables.Study("rt", "toy", tables.tidy(made), {run.run_id: run for run in made})


CURVES = {"erm_small": (0.7, 0.4, 0.30, 0.20), "ls_small": (0.7, 0.6, 0.55, 0.50), "erm_large": (0.7, 0.2, 0.2, 0.2)}


@pytest.mark.parametrize(
    ("curve", "rows", "word"),
    [
        ((0.7, 0.9, 0.29, 0.18), 600, "holds"),  # the first tenth is not asked
        ((0.7, 0.3, 0.29, 0.22), 600, "fails"),  # above at the end
        ((0.7, 0.3, 0.29, 0.18), 64, "no runs"),  # too few rows a sample
    ],
)
def test_throughout_is_at_every_sample(store, curve, rows, word):
    """H3.6i: standard KD below ERM and LS after the first tenth; self-KD (H3.6j) is not there."""
    sampled = with_curves({**CURVES, "kd_standard": curve}, rows)
    found = registry.ledger(None, ("H3.6",), {"curves": sampled}).set_index("id")
    assert found.verdict["H3.6i"] == word
    assert found.verdict["H3.6j"] == "no runs"


@pytest.mark.slow
def test_inheritance_is_the_correlation_over_all_kd_runs():
    some = study()
    cells = claims.inheritance(some)
    assert len(cells) == 9
    assert set(cells.arm) == {"kd_standard", "kd_self", "kd_reverse"}
    entropy = some.table.set_index("run_id").entropy
    for cell in cells.itertuples():
        assert cell.teacher_entropy == entropy[f"{ARMS[cell.arm].teacher}-{cell.seed}"]
        assert cell.student_entropy == entropy[cell.run_id]
    found = registry.ledger(some).set_index("id")
    row = found.loc["H3.7"]
    assert row.effect == pytest.approx(np.corrcoef(cells.teacher_entropy, cells.student_entropy)[0, 1])
    assert (row.verdict, math.isnan(row.p)) == ("descriptive", True)  # mirrored points test nothing
    tested = found.p[found.index.str.startswith("H3.")].dropna()
    assert found.p_holm[tested.idxmin()] == pytest.approx(min(1, tested.min() * len(tested)))


@pytest.mark.slow
def test_the_sides_of_inheritance_stand_apart():
    """Standard KD's teacher is surer than ERM small, reverse KD's less sure than ERM large; self-KD is on neither."""
    follows = {**AS_PUBLISHED, "kd_standard": (0.13, 0.84), "kd_reverse": (0.16, 0.88), "kd_self": (0.7, 0.8)}
    found = ledger(follows)
    table = study(follows).table.pivot(index="seed", columns="arm", values="entropy")
    x, y = table.erm_large - table.erm_small, table.kd_standard - table.erm_small
    assert found.effect["H3.7b"] == pytest.approx((y / x).mean())
    assert found.effect["H3.7c"] == pytest.approx(((table.kd_reverse - table.erm_large) / -x).mean())
    assert found.n["H3.7b"] == found.n["H3.7c"] == 3  # seeds
    assert set(found.verdict[["H3.7b", "H3.7c"]]) == {"holds"}
    against = ledger({**follows, "kd_reverse": (0.05, 0.88)}).verdict
    assert against["H3.7b"] == "holds"  # what one side says does not carry the other
    assert against["H3.7c"] == "fails"


@pytest.mark.slow
@pytest.mark.parametrize("only", [("H3.7",), ("H3.1", "H4"), ("H3",)])
def test_what_is_shown_of_a_section_does_not_change_its_correction(only):
    whole, part = ledger(), registry.ledger(study(), only).set_index("id")
    assert set(part.index) == {name for name in whole.index if name.startswith(only)}
    np.testing.assert_array_equal(part.p_holm, whole.p_holm[part.index])


def test_what_nobody_had_stated_is_exploratory():
    explored = {name for name, claim in registry.claims().items() if claim.exploratory}
    assert {"H3.7", "H3.7b", "H3.7c", "H4.6", "H5.6", "H15.1a", "H15.2a", "H6.3", "H11.5"} <= explored
    assert not explored & {
        "H1.1",
        "H1.2",
        "H3.1",
        "H3.6i",
        "H3.8a",
        "H4.7a",
        "H5.5",
        "H6.1",
        "H10.1",
        "H14.1a",
        *ids("H18"),
    }


def ids(section):
    return [name for name in registry.claims() if name.startswith(section)]


@pytest.mark.slow
def test_the_task_is_a_unit():
    """LS minus ERM of the small student on three tasks: .4, .5 and .3; a fourth learnt nothing."""
    at = {"one": 0.6, "two": 0.7, "three": 0.5, "four": 5.0}
    ledgers = {name: registry.ledger(study({**AS_PUBLISHED, "ls_small": (ls, 0.8)})) for name, ls in at.items()}
    nothing = ledgers["four"].id == "H3.1"
    ledgers["four"].loc[nothing, "degenerate"] = 1
    found = over_tasks(ledgers).set_index("id")
    row = found.loc["H3.1"]
    assert (row.n, row.left_out) == (3, "four")
    effects = [float(ledgers[name].set_index("id").effect["H3.1"]) for name in ("one", "two", "three")]
    assert row.effect == pytest.approx(np.mean(effects))
    assert row.effect - row.low == pytest.approx(4.302653 * np.std(effects, ddof=1) / np.sqrt(3), rel=1e-6)
    assert found.n["H3.2"] == 4
    assert "H18.5" not in found.index  # no runs, and a bound of its own on each task
    assert (found.p_holm >= found.p).all()
    alone = over_tasks({"one": ledgers["one"]})
    assert set(alone.verdict) == {"undecided"}  # one task is no sample


def test_no_task_has_no_rows():
    """As where the runs of one's own file alone are stored."""
    none = over_tasks({})
    assert len(none) == 0
    assert {"id", "statement", "n", "left_out", "p_holm", "verdict"} <= set(none.columns)


def test_spread_is_mean_and_sd_over_the_seeds():
    row = tables.spread(study().table, "entropy").set_index("arm").loc["erm_large"]
    assert row["mean"] == pytest.approx(0.10 + np.mean(NOISE))
    assert row.sd == pytest.approx(np.std(NOISE, ddof=1))
    assert row.n == 3
    assert row.run_ids == ["erm_large-0", "erm_large-1", "erm_large-2"]


def test_every_soft_arm_stands_beside_erm_on_its_own_model():
    whole = study()
    found = against_erm(whole).set_index(["arm", "metric"])
    assert set(found.index.get_level_values("arm")) == {arm for arm in ARMS if ARMS[arm].method != "erm"}
    for (arm, metric), row in found.iterrows():
        change = whole.difference(arm, f"erm_{ARMS[arm].student}", metric)
        assert row.effect == pytest.approx(change.mean())
        assert row.high - row.effect == pytest.approx(4.303 * change.std(ddof=1) / math.sqrt(3), rel=1e-3)
        assert row.n == 3
    without = against_erm(study(arms=("erm_small", "ls_small", "ls_large")))
    assert set(without.arm) == {"ls_small"}


def configs(seed=0, **changes):
    """The default config of every arm, teachers named rightly."""
    made, base = {}, {"task": "rt", "profile": "toy", "data": "d" * 16, "seed": seed}
    for arm in sorted(ARMS, key=lambda a: bool(ARMS[a].teacher)):
        teacher = made[ARMS[arm].teacher].run_id() if ARMS[arm].teacher else ""
        made[arm] = arm_config(arm, **base, teacher_run=teacher, **changes)
    return made


def test_an_arm_is_read_off_its_config():
    for arm, config in configs().items():
        assert tables.arm_of(config) == arm
        assert tables.is_default(config)


def stored_config(config, where):
    """A folder with a run's config and nothing else; the config."""
    (where / config.run_id()).mkdir(parents=True)
    (where / config.run_id() / "config.json").write_text(config.to_json())
    return config


TEACHERS = {
    "erm_large": "Standard KD",
    "erm_small": "Self-KD",
    "ls_large": "KD from an LS teacher (large to small)",
    "ls_small": "KD from an LS teacher (small to small)",
    "kd_reverse": "KD from a KD teacher (large to small)",
    "kd_standard": "KD from a KD teacher (small to small)",
    "tfkd_small": "KD from a teacher-free KD teacher (small to small)",
}


@pytest.mark.parametrize("stored", ["RUNS", "REFERENCE"])
@pytest.mark.parametrize("teacher", TEACHERS)
def test_an_arm_asks_how_its_teacher_was_trained(store, stored, teacher):
    """By the teacher's own config, in the store or among the reference runs, whatever its hyper-parameters."""
    for changes in ({}, {"lr": 3e-3}):
        of = stored_config(configs(**changes)[teacher], getattr(paths, stored))
        student = replace(configs()["kd_standard"], teacher_run=of.run_id())
        assert Point(tables.arm_of(student), student).title == TEACHERS[teacher]
        assert tables.is_default(student) == (teacher.startswith("erm") and not changes)


def test_a_switched_teachers_students_are_an_arm_of_their_own(store):
    switch = {"method": "switch", "before": "erm", "after": "kd", "switch_at": 0.5}
    of = stored_config(replace(configs()["kd_standard"], **switch), store)
    student = replace(configs()["kd_standard"], teacher_run=of.run_id())
    assert tables.arm_of(student) == "kd_small_from_switch_small"


def test_students_of_a_teacher_that_is_not_stored_are_said_to_be_so(store):
    """Its name says "erm-large", which is no proof; where it is stored but altered it is no more known."""
    of = configs(lr=3e-3)["erm_large"]
    student = replace(configs()["kd_standard"], teacher_run=of.run_id())
    assert tables.arm_of(student) == "kd_small_from_unknown"
    assert list(tables.tidy([stored_run(student)]).name) == ["KD from a teacher that is not stored (small)"]
    stored_config(of, store)
    path = store / of.run_id() / "config.json"
    path.write_text(path.read_text().replace('"erm"', '"ls"'))
    assert tables.arm_of(student) == "kd_small_from_unknown"
    path.write_text(of.to_json())
    assert tables.arm_of(student) == "kd_standard"


def test_a_study_keeps_the_students_of_a_default_teacher_that_is_gone(store):
    """The hash in their teacher's name is that of the ERM arm at fixed hyper-parameters: nothing is guessed."""
    made = configs()
    for arm in ("kd_standard", "kd_self", "kd_reverse"):
        stored_run(made[arm])
    assert list(tables.study("rt", "toy").table.arm) == ["kd_standard", "kd_self", "kd_reverse"]


def test_a_teachers_config_is_read_once_for_all_its_students(store, monkeypatch):
    of = stored_config(configs(lr=3e-3)["ls_large"], store)
    read, opened = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path) or read(path))
    students = [replace(configs()["kd_standard"], teacher_run=of.run_id(), lr=1e-6 * i) for i in range(1, 200)]
    assert {tables.arm_of(student) for student in students} == {"kd_small_from_ls_large"}
    assert len(opened) == 1


def test_other_hyper_parameters_are_no_default_runs():
    for config in configs(lr=1e-3).values():
        assert not tables.is_default(config)


@pytest.mark.parametrize("other", ["seed", "lr", "method"])
def test_a_student_of_another_teacher_is_no_default_run(other):
    """Its arm and its own fields are the default ones; its teacher is of another seed, lr or method."""
    teachers = {
        "seed": configs(seed=7)["erm_large"],
        "lr": configs(lr=1e-3)["erm_large"],
        "method": configs()["ls_large"],
    }
    student = arm_config(
        "kd_standard", task="rt", profile="toy", data="d" * 16, seed=0, teacher_run=teachers[other].run_id()
    )
    assert not tables.is_default(student)


def stored_run(config, entropy_scale=1.0):
    """A run without training, in the store."""
    from kdnb.core import metrics
    from kdnb.core import store as runs

    rng = np.random.default_rng(config.seed)
    labels = {split: np.arange(n) % 2 for split, n in zip(runs.SPLITS, (8, 4, 6), strict=True)}
    logits = {s: (entropy_scale * rng.normal(size=(len(y), 2))).astype(np.float32) for s, y in labels.items()}
    values = {s: metrics.summary(logits[s], labels[s]) for s in runs.SPLITS}
    run = runs.Run(config, logits, labels, {**values, "cost": {"seconds": 1.0}}, [dict.fromkeys(runs.CURVES, 0.5)])
    runs.save(run)
    return run


def test_a_study_is_the_default_runs_of_one_cut_of_the_data(store):
    wanted = [stored_run(config) for config in configs().values()] + [stored_run(configs(seed=1)["erm_small"])]
    stored_run(configs(lr=1e-3)["erm_small"])
    stored_run(replace(configs()["erm_small"], data="e" * 16))
    found = tables.study("rt", "toy")
    assert set(found.table.run_id) == {run.run_id for run in wanted}
    assert found.num_classes == 2
    assert found.seeds("erm_small", "erm_large") == [0]
    assert found.run("erm_small", 1).config.seed == 1
    assert "TOY PROFILE" in found.caption
    assert list(found.table.arm) == sorted(found.table.arm, key=list(ARMS).index)
    for row in found.table.itertuples():
        assert row.entropy == found.runs[row.run_id].metrics["test"]["entropy"]
    with pytest.raises(tables.NoRuns, match="ls_small with seed 5"):
        found.run("ls_small", 5)


def test_a_damaged_run_is_left_out_and_told(store, capsys):
    kept, lost = (stored_run(configs(seed=seed)["erm_small"]) for seed in (0, 1))
    (store / lost.run_id / "arrays.npz").write_bytes(b"nothing")
    found = tables.study("rt", "toy")
    assert list(found.table.run_id) == [kept.run_id]
    assert lost.run_id in capsys.readouterr().err


def test_an_empty_store_says_what_to_run(store):
    with pytest.raises(tables.NoRuns, match="kdnb compare rt --profile toy"):
        tables.study("rt", "toy")
    with pytest.raises(tables.NoRuns, match="unknown profile 'tiny'"):
        tables.study("rt", "tiny")
