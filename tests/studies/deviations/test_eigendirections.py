"""The network version of the eigendirection claim: its mechanics, and its sizes on two seeds of noisy digits."""

import numpy as np
import pytest

from kdnb.studies.deviations import eigendirections

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def noisy():
    return eigendirections.network_curves("MLP", 0.4, (0, 1), eigendirections.Setup(300, 30))


def test_three_trainings_a_seed_from_one_start(noisy):
    assert [(curve.role, curve.seed) for curve in noisy] == [
        (role, seed) for role in ("teacher", "student", "control") for seed in (0, 1)
    ]
    for curve in noisy:
        assert curve.step.tolist() == list(range(10, 301, 10))
        assert curve.top.shape == curve.bottom.shape == curve.accuracy.shape == (30,)
        assert curve.accuracy[-1] > 0.6
        assert curve.top[-1] > curve.top[0] > curve.bottom[0] > 0


def test_the_student_lies_below_its_teacher_on_noisy_digits(noisy):
    assert min(eigendirections.shares_below(noisy, "student").values()) >= eigendirections.ENOUGH
    assert set(eigendirections.shares_below(noisy, "control")) == {0, 1}


def test_the_student_is_taught_by_its_teacher_alone(noisy):
    """With the same order of batches and one-hot targets it would be the control; it fits the noise less."""
    fitted = {role: np.mean([c.train_accuracy for c in noisy if c.role == role]) for role in ("student", "control")}
    assert fitted["student"] < fitted["control"]


def test_a_start_of_its_own_changes_student_and_control_but_no_teacher():
    shared, own = (
        eigendirections.network_curves("CNN", 0.0, (3,), eigendirections.Setup(60, 2, every=1, shared_start=start))
        for start in (True, False)
    )
    same = [np.array_equal(a.bottom, b.bottom) for a, b in zip(shared, own, strict=True)]
    assert same == [True, False, False]


def test_an_unknown_network_is_told():
    with pytest.raises(ValueError, match=r"network must be one of MLP, CNN, got 'RNN'"):
        eigendirections.network_curves("RNN", 0.0, seeds=(0,))
