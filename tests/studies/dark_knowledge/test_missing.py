"""A class left out: no row of it reaches the student, the biases do what they say, nothing left out changes nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import special

from kdnb.analysis import ledger
from kdnb.core import store as run_store
from kdnb.core.config import RunConfig
from kdnb.data.splits import load
from kdnb.studies.dark_knowledge import claims_missing, missing, networks

K = 10


def random_logits(scale, rows=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(K, size=rows)
    return scale * (rng.normal(size=(rows, K)) + np.eye(K)[labels]), labels


@pytest.fixture(scope="module")
def identity():
    return next(missing.configs("digits", "toy", load("digits", "toy").fingerprint))


# The transfer set (T10.1, T10.3)


@pytest.mark.parametrize("omitted", [(), (3,), missing.SEVENS_AND_EIGHTS])
def test_the_loop_gets_the_very_rows_that_are_not_left_out(identity, omitted, store, monkeypatch):
    """By ids: each train image is marked with its row number, and the loop is watched."""
    seen = {}

    def watch(config, model, inputs, labels, soft_targets):
        seen.update(images=inputs["train"].images, labels=labels, soft=soft_targets)

    train = load("digits", "toy").splits["train"]
    ids = {image.tobytes(): row for row, image in enumerate(train.images)}
    assert len(ids) == len(train)
    monkeypatch.setattr(networks, "fit", watch)
    teacher = np.arange(len(train) * K, dtype=np.float32).reshape(-1, K)
    monkeypatch.setattr(missing, "obtain", lambda *_: missing.Made(arrays={"train": teacher}, metrics={}))
    missing.student_logits(identity, omitted)
    rows = [ids[image.tobytes()] for image in seen["images"]]
    assert rows == [row for row, label in enumerate(train.labels) if label not in omitted]
    assert seen["labels"].tolist() == train.labels[rows].tolist()
    assert (seen["soft"] == teacher[rows]).all()  # the teacher's logits of the same rows


def test_with_nothing_left_out_it_is_plain_distillation(identity, store):
    ours = missing.student_logits(identity, ())
    teacher = missing.obtain(identity.teacher, lambda: missing.make_teacher(identity.teacher)).arrays["train"]
    seed = identity.seed + missing.STUDENT_SEED
    how = {"method": "kd", "alpha": 1.0, "tau": identity.tau, "teacher_run": identity.teacher.run_id()}
    config = networks.config_of(identity, seed, **how)
    data = load("digits", "toy")
    plain = networks.trained_logits(config, identity.width, data, None, teacher)
    assert all((ours[split] == plain[split]).all() for split in ours)
    assert (ours["test"] + np.zeros(K) == plain["test"]).all()
    assert isinstance(config, RunConfig)
    assert (config.alpha, config.weight_decay, config.schedule) == (1.0, 0.0, "constant")
    other = missing.student_logits(replace(identity, method="hard", tau=1.0), ())
    assert not (other["test"] == plain["test"]).all()
    smoothed = missing.student_logits(replace(identity, method="ls", tau=1.0), ())
    by_hand = networks.config_of(identity, seed, method="ls", alpha=missing.SMOOTHING)
    assert (smoothed["test"] == networks.trained_logits(by_hand, identity.width, data)["test"]).all()


# The bias (T10.2)


@pytest.mark.parametrize("omitted", [(3,), missing.SEVENS_AND_EIGHTS])
def test_a_bias_leaves_the_order_of_the_other_classes(omitted):
    logits, labels = random_logits(3.0)
    others = [k for k in range(K) if k not in omitted]
    bias = missing.biases(logits, logits, {"test": labels, "validation": labels}, omitted)
    for rule, one in zip(missing.RULES, bias, strict=True):
        if rule != "prior_match_all":
            assert (one[others] == 0).all()
            assert ((logits + one)[:, others].argsort(axis=1) == logits[:, others].argsort(axis=1)).all()
    assert (bias[0] == 0).all()
    assert len({*bias[1][list(omitted)]}) == 1


@pytest.mark.parametrize("free", [[3], [0, 1, 2, 3, 4, 5, 6, 9], list(range(K))], ids=["one", "eight", "all"])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_prior_matching_is_exact(free, scale):
    logits, _ = random_logits(scale)
    logits[:, free[0]] -= 4 * scale  # unseen: far below
    prior = np.random.default_rng(1).dirichlet(np.full(K, 5.0))
    bias = missing.prior_bias(logits, prior, free)
    mean = special.softmax(logits + bias, axis=1).mean(axis=0)
    assert np.abs(mean - prior)[free].max() < 1e-10
    assert (np.delete(bias, free) == 0).all()
    if len(free) == K:
        assert abs(bias.mean()) < 1e-12


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_prior_that_no_bias_was_found_for_is_no_silent_zero():
    """A posterior of exp(-800) is 0: neither step moves it."""
    with pytest.raises(ArithmeticError, match="no bias that matches the prior in 500 steps"):
        missing.prior_bias(np.array([[0.0, -800.0, -800.0]] * 10), np.full(3, 1 / 3), [2])


def test_prior_matching_finds_a_bias_that_was_taken_away():
    logits, _ = random_logits(2.0)
    prior = special.softmax(logits, axis=1).mean(axis=0)
    gone = np.random.default_rng(2).normal(size=K) * 5
    found = missing.prior_bias(logits - gone, prior, range(K))
    np.testing.assert_allclose(found, gone - gone.mean(), atol=1e-9)


@pytest.mark.parametrize("omitted", [(3,), (0, 5)])
@pytest.mark.parametrize("seed", range(5))
def test_no_bias_has_fewer_errors_than_the_best(omitted, seed):
    logits, labels = random_logits(2.0, rows=60, seed=seed)
    one = np.isin(np.arange(K), omitted)
    logits[:, one] -= 5

    def errors(bias):
        return ((logits + bias * one).argmax(axis=1) != labels).sum()

    best = missing.best_bias(logits, labels, omitted)
    assert errors(best) == min(errors(bias) for bias in np.linspace(-30, 30, 6001))
    assert errors(best) == errors(best + 1e-6) == errors(best - 1e-6)  # inside an interval


def test_what_is_judged():
    logits = np.eye(K)[[3, 3, 1, 0]] * 2.0
    assert missing.judged(logits, np.array([3, 3, 3, 0]), (3,)) == (pytest.approx(2 / 3), pytest.approx(1 / 4))
    assert np.isnan(missing.judged(logits, np.array([1, 1, 1, 0]), (3,))[0])
    assert missing.separation(logits, np.array([3, 3, 1, 0]), (3,)) == 1
    assert missing.separation(logits, np.array([1, 0, 3, 3]), (3,)) == 0
    assert missing.separation(np.zeros((4, K)), np.array([3, 3, 1, 0]), (3,)) == 0.5


def test_a_class_that_has_become_rare_has_the_share_that_is_said():
    labels = np.arange(1000) % K
    rows = missing.shifted_rows(labels, 3)
    assert (labels[rows] == 3).mean() == pytest.approx(0.03, abs=5e-4)
    assert (labels[rows] != 3).sum() == 900
    logits, _ = random_logits(3.0, rows=1000)
    wrong, right = missing.shift(logits, labels, 3)
    assert wrong[0] > right[0]  # a prior that is too large takes too large a bias


# Records and claims


@pytest.mark.slow
def test_a_record_is_whole_and_read_without_training(store, monkeypatch):
    table = missing.study("digits", "toy")
    setup = missing.SETUPS["digits", "toy"]
    students = len(setup.arms) * len(setup.omitted) + len(setup.widths) * len(missing.WIDTH_TAUS)
    assert len(table) == len(setup.seeds) * students * len(missing.RULES)
    monkeypatch.setattr(missing, "make", lambda *_: pytest.fail("made again"))
    again = missing.study("digits", "toy")
    assert again.equals(table)
    (record,) = set(table[(table.seed == 0) & (table.method == "hard")].run_id)
    arrays = run_store.read(record).arrays
    labels = load("digits", "toy").splits["test"].labels
    rule = list(missing.RULES).index("prior_match")
    kept = arrays["test"].astype(np.float32) + arrays["bias"][0, rule]
    assert arrays["recall"][0, rule] == pytest.approx(missing.judged(kept, labels, (3,))[0], nan_ok=True)


def test_the_claims_read_what_is_stored_and_no_more(store):
    (row,) = ledger.ledger(
        [ledger.Chapter(claims=claims_missing.CLAIMS, runless=claims_missing.RUNLESS)], {"simulation": None}, ("H10.1",)
    ).itertuples()
    assert row.verdict == "no runs"
    assert load("digits", "cpu").fingerprint == claims_missing.DATA


def test_a_claim_has_no_value_where_a_student_of_it_is_missing():
    """Some arms of a seed stored and others not: nan in the table, or no such column at all."""
    columns = [("kd", tau, rule) for tau in (1.0, 4.0, 20.0) for rule in ("none", "prior_match")]
    columns += [("hard", 1.0, "test_optimal"), ("ls", 1.0, "test_optimal")]
    frame = pd.DataFrame(dict.fromkeys(columns, np.array([0.3, 0.4])))
    used = {
        "unseen recognised": [("kd", 20.0, "prior_match")],
        "control under the bar": [("hard", 1.0, "test_optimal")],
        "label-free over control": [("kd", 20.0, "prior_match"), ("hard", 1.0, "test_optimal")],
        "label-free over LS": [("kd", 20.0, "prior_match"), ("ls", 1.0, "test_optimal")],
        "temperature order": [("kd", tau, "none") for tau in (1.0, 4.0, 20.0)],
    }
    for column in columns:
        partly = frame.copy()
        partly.loc[1, column] = np.nan
        for name in claims_missing.RUNLESS:
            needed = column in used[name]
            assert len(claims_missing._effect(name, frame.drop(columns=[column]))) == (0 if needed else 2)
            assert len(claims_missing._effect(name, partly)) == (1 if needed else 2)


def test_each_claim_is_tested_in_its_direction():
    """H10.1, H10.2a, H10.2b, H10.3, H10.4."""
    keys = [("kd", tau, rule) for tau in (1.0, 4.0, 20.0) for rule in ("none", "prior_match")]
    recall = {key: np.array([0.3, 0.3]) for key in keys}
    recall |= {("kd", 4.0, "none"): np.array([0.5, 0.4]), ("kd", 20.0, "none"): np.array([0.6, 0.9])}
    recall |= {("kd", 20.0, "prior_match"): np.array([0.97, 0.98]), ("hard", 1.0, "test_optimal"): np.array([0.4, 0.5])}
    recall |= {("ls", 1.0, "test_optimal"): np.array([0.1, 0.6])}
    frame = pd.DataFrame(recall)
    assert claims_missing._effect("label-free over LS", frame.drop(columns=[("ls", 1.0, "test_optimal")])).empty
    effects = {name: claims_missing._effect(name, frame).round(6).tolist() for name in claims_missing.RUNLESS}
    assert effects == {
        "unseen recognised": [0.02, 0.03],
        "control under the bar": [-0.55, -0.45],
        "label-free over control": [0.57, 0.48],
        "label-free over LS": [0.87, 0.38],
        "temperature order": [0.1, 0.1],
    }
