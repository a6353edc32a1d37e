"""Records of the little-data experiments: rows that nest, a share that is met, claims by hand, reading without data."""

import numpy as np
import pandas as pd
import pytest

from kdnb import paths
from kdnb.core import store
from kdnb.data import splits
from kdnb.errors import NoRuns
from kdnb.experiment import records
from kdnb.studies.dark_knowledge import claims_features, little_data, little_trainings


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "OUTPUTS", tmp_path)
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "REFERENCE", tmp_path / "none")
    little_trainings._teacher.cache_clear()
    return tmp_path


def by_hand():
    """Two seeds on 50 and 1,000 rows with accuracies that are easy to subtract."""
    accuracy = {
        (50, 0): (0.70, 0.76, 0.72, 0.78),
        (1000, 0): (0.90, 0.91, 0.93, 0.89),
        (50, 1): (0.60, 0.60, 0.61, 0.60),
        (1000, 1): (0.90, 0.94, 0.94, 0.92),
    }
    arms = ("ERM", "hidden, uniform", "hidden, learned", "RKD")
    rows = [
        {"task": "digits", "student": "s", "rows": rows, "seed": seed, "arm": arm, "accuracy": value}
        for (rows, seed), values in accuracy.items()
        for arm, value in zip(arms, values, strict=True)
    ]
    return pd.DataFrame(rows)


def test_the_values_of_the_claims_by_hand():
    table = by_hand()
    assert claims_features.little_data(table).tolist() == pytest.approx([0.07 - 0.0, 0.0 - 0.03])
    assert claims_features.learned(table).tolist() == pytest.approx([0.01 - 0.01, 0.01 + 0.005])
    assert claims_features.relations(table).tolist() == pytest.approx([0.08, 0.0])
    assert {claim.test for claim in claims_features.CLAIMS.values()} == set(claims_features.RUNLESS)


def test_attention_is_what_tinybert_has_beside_hidden_states():
    table = by_hand().replace({"arm": {"RKD": "TinyBERT"}})
    assert claims_features.attention(table).tolist() == pytest.approx([0.0, -0.01])


def test_students_of_a_plan_of_equal_steps_take_as_many():
    for name in little_data.PLANS:
        taken = {little_data.steps(vars(one)) for one in little_data.identities(name)}
        assert (len(taken) == 1) == (little_data.EQUAL in name or name == "ladder"), name
    assert little_data.steps({"rows": 50, "epochs": 3}) == 6
    assert little_data.steps({"rows": 64, "epochs": 3}) == 6
    many = [one for one in little_data.identities("digits") if one.rows == 1000]
    equal = [one for one in little_data.identities(f"digits, {little_data.EQUAL}") if one.rows == 1000]
    assert [one.run_id() for one in many] == [one.run_id() for one in equal]  # the same records


def test_gains_are_paired_by_seed_and_rows():
    gains = little_data.gains(by_hand()).set_index(["rows", "seed", "arm"]).gain
    assert gains[50, 0, "RKD"] == pytest.approx(8)
    assert gains[1000, 1, "hidden, learned"] == pytest.approx(4)
    assert little_data.told(gains.groupby(["arm", "rows"]).mean()).endswith("hidden, uniform 1000 +2.5")


def test_without_records_claims_have_no_effect(elsewhere):
    with pytest.raises(NoRuns, match="no record little-digits-32x32-50-s0 of the experiment digits"):
        little_data.stored("digits")
    assert {claims_features.RUNLESS[c.test](c).n for c in claims_features.CLAIMS.values()} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"mnist5k, {little_data.EQUAL}", f"rt, {little_data.EQUAL}"])
def test_convolutions_and_attention_are_weighed_too(elsewhere, name):
    data = splits.load(little_data.PLANS[name]["fixed"]["task"], "toy")
    made = little_trainings.obtain(little_data.identities(name, "toy", data.fingerprint)[0])
    table = little_data.table([made]).set_index("arm")
    assert set(table.index) == set(little_data.PLANS[name]["arms"])
    weighed = table.drop(["ERM", "KD"]).weight
    assert (weighed > 0).all()
    assert weighed.nunique() == len(weighed)  # none is another under its name


@pytest.mark.slow
def test_a_record_is_made_once_and_read_back_without_its_data(elsewhere, capsys):
    data = splits.load("digits", "toy")
    made = [little_trainings.obtain(one) for one in little_data.identities("digits", "toy", data.fingerprint)]
    assert [one.metrics for one in little_data.stored("digits", "toy")] == [one.metrics for one in made]
    _damage_and_hear_of_it(elsewhere, capsys)
    table = little_data.table(made)
    assert list(dict.fromkeys(table.arm)) == list(little_data.WIDE)
    assert table[table.arm.isin(("ERM", "KD"))].weight.isna().all()
    weighed = table[~table.arm.isin(("ERM", "KD"))]
    assert (weighed.weight > 0).all()
    projected = table.dropna(subset=["trained"])
    assert set(projected.arm) == {"hidden, uniform", "hidden, last", "KD + hidden"}
    assert (projected.least_squares <= projected.trained).all()
    first = made[0]
    test_labels = data.splits["test"].labels
    assert first.arrays["right"].shape == (len(little_data.WIDE), len(test_labels))
    for right, arm in zip(first.arrays["right"], first.config["arms"], strict=True):
        assert right.mean() == pytest.approx(first.metrics["arms"][arm]["accuracy"])
    learned = np.array(first.metrics["arms"]["hidden, learned"]["map"])
    np.testing.assert_allclose(learned.sum(axis=1), 1, atol=1e-3)


def _damage_and_hear_of_it(elsewhere, capsys):
    """A damaged record is told, and missing."""
    path = next((elsewhere / "runs").glob("little-digits-*")) / "metrics.json"
    content = path.read_bytes()
    path.write_bytes(b"{}")
    with pytest.raises(NoRuns, match="no record little-digits"):
        little_data.stored("digits", "toy")
    assert path.parent.name in capsys.readouterr().err
    path.write_bytes(content)


def test_a_students_rows_are_among_its_teachers_and_nest():
    few, many = little_data.identities("digits", "toy")[:2]
    assert (few.rows, many.rows) == (16, 48)
    teacher = little_trainings._rows(few, 64)
    assert np.array_equal(teacher, little_trainings._rows(many, 64))
    assert len(set(teacher)) == few.teacher_rows
    assert not np.array_equal(teacher, little_trainings._rows(little_data.identities("digits", "toy")[2], 64))
    with pytest.raises(ValueError, match="rows must rise"):
        little_trainings._rows(few, 40)


@pytest.mark.slow
def test_committed_records_are_whole_small_and_decide_the_claims(elsewhere, monkeypatch):
    reference = paths.ROOT / "outputs" / "reference" / "runs"
    monkeypatch.setattr(paths, "REFERENCE", reference)
    assert len(little_data.stored("digits")) == 20
    size = sum(path.stat().st_size for path in reference.glob("little-*/*"))
    assert size < 1_000_000
    seeds = {c.id: claims_features.RUNLESS[c.test](c).n for c in claims_features.CLAIMS.values()}
    of_images, of_sentences = "H12.1a H12.1c H12.1e H12.2a H12.3a", "H12.1b H12.1d H12.2b H12.3b H12.4"
    assert seeds == dict.fromkeys(of_images.split(), 5) | dict.fromkeys(of_sentences.split(), 3)


def test_the_record_store_knows_them_as_no_runs(elsewhere):
    identity = little_data.identities("digits", "toy")[0]
    made = records.Made(arrays={"right": np.zeros((1, 2), np.uint8)}, metrics={"arms": {}})
    records.obtain(identity, lambda: made)
    assert store.kind_of(identity.run_id()).startswith("little-digits")
