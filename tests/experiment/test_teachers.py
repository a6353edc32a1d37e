"""Teachers that no training gives: what they teach where they say nothing, ensembles, and their place in the store."""

import shutil
from dataclasses import replace

import fakes
import numpy as np
import pytest

from kdnb.core import metrics
from kdnb.core import store as runs
from kdnb.data.teacher_table import TeacherTable
from kdnb.errors import DamagedRun
from kdnb.experiment import compact, obtain, tables, teachers
from kdnb.experiment.arms import ALL, ARMS, SHARPNESS, arm_config
from kdnb.experiment.points import compare_points, with_teachers
from kdnb.experiment.training import train


def table(data, posteriors, known=None, test=None):
    """A table of posteriors (N, K) for the train rows that are known, and for all test rows if given."""
    logits = {name: np.full((len(split), 2), np.nan, np.float32) for name, split in data.splits.items()}
    with np.errstate(divide="ignore"):
        logits["train"] = np.maximum(np.log(posteriors), -1e4).astype(np.float32)
        if known is not None:
            logits["train"][~known] = np.nan
        if test is not None:
            logits["test"] = np.log(test).astype(np.float32)
    facts = {"path": "t.csv", "form": "probabilities", "by": "id", "rows": 1, "blank": 0, "unknown": 0, "rescaled": 0}
    return TeacherTable(**facts, ignored=(), logits=logits)


def labels_of(data):
    return np.eye(2)[data.splits["train"].labels]


def taught(quick, toy, made, **changes):
    """The student of a written teacher."""
    return train(quick("kd_small_from_table", teacher_run=made.store(), **changes), toy, teachers.load(made.run_id))


@pytest.mark.slow
def test_where_the_table_is_silent_the_label_alone_is_trained_on(store, toy, quick):
    """A table that names the label on some rows and nothing on the others is the labels: plain training."""
    known = np.arange(len(toy.splits["train"])) % 3 > 0
    student = taught(quick, toy, teachers.of_table(table(toy, labels_of(toy), known), toy), alpha=0.7)
    erm = train(quick("erm_small"), toy)
    for split in runs.SPLITS:
        np.testing.assert_allclose(student.logits[split], erm.logits[split], atol=2e-4)


@pytest.mark.slow
def test_a_uniform_table_is_label_smoothing(store, toy, quick):
    uniform = np.full((len(toy.splits["train"]), 2), 0.5)
    student = taught(quick, toy, teachers.of_table(table(toy, uniform), toy), alpha=0.3)
    smoothed = train(quick("ls_small", alpha=0.3), toy)
    for split in runs.SPLITS:
        np.testing.assert_allclose(student.logits[split], smoothed.logits[split], atol=2e-4)


@pytest.mark.slow
def test_a_student_is_compared_with_its_teacher_where_that_says_something(store, toy, quick):
    known = np.arange(len(toy.splits["train"])) % 3 > 0
    posteriors = np.random.default_rng(0).dirichlet((2, 2), len(known))
    student = taught(quick, toy, teachers.of_table(table(toy, posteriors, known), toy))
    theirs = np.log(posteriors[known])
    assert student.metrics["train"]["agreement"] == metrics.agreement(student.logits["train"][known], theirs)
    found = student.metrics["train"]["kl_to_teacher"]
    assert found == pytest.approx(metrics.kl_to_teacher(student.logits["train"][known], theirs), abs=1e-6)
    assert "agreement" not in student.metrics["test"]
    runs.save(student)
    assert len(tables.tidy([student])) == 1
    assert tables.arm_of(student.config) == "kd_small_from_table"
    assert tables.arm_of(student.config) not in ARMS
    assert not tables.is_default(student.config)


def test_a_table_is_named_by_what_it_says_of_the_rows(store, toy):
    posteriors = np.random.default_rng(0).dirichlet((2, 2), len(toy.splits["train"]))
    one, same = (teachers.of_table(table(toy, posteriors), toy) for _ in range(2))
    other = teachers.of_table(table(toy, posteriors[:, ::-1]), toy)
    assert one.run_id == same.run_id != other.run_id
    assert not store.exists()
    assert one.store() == same.store() == one.run_id
    loaded = teachers.load(one.run_id)
    np.testing.assert_array_equal(loaded.logits["train"], one.logits["train"])
    assert (loaded.task, loaded.data) == ("rt", toy.fingerprint)
    assert teachers.origin_of(one.run_id) == "table"
    stored = runs.read(one.run_id).metrics["train"]
    assert stored["known"] == len(posteriors)
    assert stored["entropy"] == pytest.approx(-(posteriors * np.log(posteriors)).sum(axis=1).mean(), abs=1e-6)
    assert tables.load_runs() == []


def test_silent_rows_hold_the_label(store, toy):
    known = np.arange(len(toy.splits["train"])) % 2 > 0
    made = teachers.of_table(table(toy, 1 - labels_of(toy), known), toy)
    loaded = teachers.load(made.store())
    right = loaded.logits["train"].argmax(axis=1) == toy.splits["train"].labels
    np.testing.assert_array_equal(right, ~known)
    np.testing.assert_array_equal(loaded.known["train"], known)
    assert metrics.entropies(loaded.logits["train"][~known]).max() == 0


def test_a_damaged_teacher_is_noticed(store, toy):
    name = teachers.of_table(table(toy, labels_of(toy)), toy).store()
    path = store / name / "arrays.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedRun):
        teachers.load(name)


def runs_of(seeds, data="0" * 16):
    """Stored runs that nobody trained, of other logits each."""
    made = []
    for seed in seeds:
        run = fakes.made_run(replace(fakes.CONFIG, seed=seed, data=data))
        rng = np.random.default_rng(seed)
        logits = {s: rng.normal(size=z.shape).astype(np.float32) * 3 for s, z in run.logits.items()}
        values = {s: metrics.summary(logits[s], run.labels[s]) for s in logits}
        run = replace(run, logits=logits, metrics=run.metrics | values)
        runs.save(run)
        made.append(run)
    return made


def test_an_ensemble_is_the_mean_posterior(store):
    members = runs_of((0, 1, 2))
    name = teachers.average([run.run_id for run in members]).store()
    loaded = teachers.load(name)
    for split in runs.SPLITS:
        mean = np.mean([metrics.posterior(run.logits[split]) for run in members], axis=0)
        np.testing.assert_allclose(metrics.posterior(loaded.logits[split]), mean, atol=1e-6)
    record = runs.read(name)
    assert record.metrics["runs"] == [run.run_id for run in members]
    assert name.startswith("teacher-average-")
    assert teachers.average([run.run_id for run in reversed(members)]).run_id == name
    student = replace(fakes.CONFIG, method="kd", alpha=0.5, teacher_run=name)
    assert tables.arm_of(student) == "kd_small_from_average"


def test_an_ensemble_says_nothing_where_a_member_does_not(store, toy):
    half = np.arange(len(toy.splits["train"])) % 2 > 0
    posteriors = np.random.default_rng(0).dirichlet((2, 2), len(half))
    names = [teachers.of_table(table(toy, posteriors, known), toy).store() for known in (half, np.ones_like(half))]
    np.testing.assert_array_equal(teachers.load(teachers.average(names).store()).known["train"], half)
    other = teachers.of_table(table(toy, posteriors, ~half), toy).store()
    with pytest.raises(ValueError, match="no train row"):
        teachers.average([names[0], other])


def test_an_ensemble_needs_two_runs_on_one_data(store):
    (one,), (other,) = runs_of((0,)), runs_of((0,), data="1" * 16)
    with pytest.raises(ValueError, match="two different runs or more"):
        teachers.average([one.run_id, one.run_id])
    with pytest.raises(ValueError, match="must be the same"):
        teachers.average([one.run_id, other.run_id])
    with pytest.raises(FileNotFoundError):
        teachers.average([one.run_id, "rt-erm-small-s9-000000000000"])


@pytest.mark.slow
def test_a_copy_in_half_precision_keeps_what_it_says_of_a_written_teacher(store, toy, quick, tmp_path):
    known = np.arange(len(toy.splits["train"])) % 3 > 0
    made = teachers.of_table(table(toy, labels_of(toy) * 0.8 + 0.1, known), toy)
    student = taught(quick, toy, made)
    runs.save(student)
    assert compact.compact(student.run_id, tmp_path / "copy" / "runs")


def test_arms_by_name_are_no_part_of_a_comparison_s_own():
    """LS-trained and tempered teachers are arms that are asked for, with their teachers before them."""
    named = ["kd_small_from_ls_large", "kd_small_from_tempered_large"]
    assert with_teachers(named) == ["erm_large", "ls_large", *named]
    assert not set(named) & set(with_teachers(ARMS))
    points = {p.arm: p.config for p in compare_points("rt", "toy", "0" * 16, (0,), named)}
    assert points[named[0]].teacher_run == points["ls_large"].run_id()
    tempered = points[named[1]]
    assert (tempered.method, tempered.transform, tempered.sharpness) == ("transformed", "scale", SHARPNESS)
    assert tempered.teacher_run == points["erm_large"].run_id()
    assert tempered.tau == 1
    assert len(set(ALL)) == len(ALL)
    with pytest.raises(ValueError, match="kd_small_from_table needs --teacher-table"):
        compare_points("rt", "toy", "0" * 16, (0,), ["kd_small_from_table"])


@pytest.mark.slow
def test_a_tempered_teacher_s_student_is_that_of_scaled_logits(store, toy, quick, teacher):
    """The teacher alone is tempered: the student's own logits stay at temperature 1."""
    runs.save(teacher)
    base = arm_config(
        "kd_small_from_tempered_small",
        task="rt",
        profile="toy",
        data=toy.fingerprint,
        seed=0,
        teacher_run=teacher.run_id,
        sharpness=0.25,
        precision="fp32",
        history_points=0,
        epochs=1,
    )
    tempered, _ = obtain.ensure(base, toy)
    written = {split: teacher.logits[split] * np.float32(0.25) for split in runs.SPLITS}
    posteriors = metrics.posterior(written["train"])
    by_table = taught(quick, toy, teachers.of_table(table(toy, posteriors), toy), alpha=base.alpha)
    np.testing.assert_allclose(tempered.logits["test"], by_table.logits["test"], atol=2e-4)


def logits_changed(arrays, metrics):
    arrays["train"][0] += 1


def logits_infinite(arrays, metrics):
    arrays["test"][:] = np.inf


def split_missing(arrays, metrics):
    del arrays["validation"]


def better_than_it_is(arrays, metrics):
    metrics["train"]["accuracy"] = 1.5


def without_metrics(arrays, metrics):
    del metrics["train"]


@pytest.mark.parametrize(
    "harm",
    [logits_changed, logits_infinite, split_missing, better_than_it_is, without_metrics],
    ids=lambda f: f.__name__,
)
def test_a_written_teacher_is_held_to_its_name_and_its_logits(store, toy, kdnb, harm):
    """Hashes right: its name has the hash of its logits."""
    made = teachers.of_table(table(toy, labels_of(toy)), toy)
    made.store()
    record = runs.read(made.run_id)
    arrays, values = dict(record.arrays), dict(record.metrics)
    harm(arrays, values)
    shutil.rmtree(runs.folder(made.run_id))
    runs.write(made.identity, arrays, values, labels=(toy.fingerprint, made.labels))
    with pytest.raises(DamagedRun, match=made.run_id):
        teachers.load(made.run_id)
    code, out, err = kdnb("teachers", "list")
    assert (code, out.strip()) == (0, "0 teachers")
    assert f"run {made.run_id}: " in err
    code, out, _ = kdnb("runs", "verify")
    assert (code, "1 damaged" in out) == (1, True)
