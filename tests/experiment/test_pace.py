"""The time left of a comparison is what its trainings took, model by model."""

import pytest

from kdnb.experiment import pace
from kdnb.experiment.points import compare_points, trainings


def groups(toy, seeds=(0, 1, 2)):
    return trainings(compare_points("rt", "toy", toy.fingerprint, seeds, ("erm_small", "kd_standard")))


def test_the_time_left_is_told_once_each_model_was_trained(store, toy):
    """Of three seeds of a large model that takes 100 s, and two small ones of 10 s each."""
    left = groups(toy)
    clock, seconds = pace.Pace(left), {"large": 100.0, "small": 10.0}
    told = [clock.after(group, seconds[group[0].config.student]) for group in left]
    assert [group[0].config.student for group in left] == ["large", "small", "small"] * 3
    assert told[:4] == ["", "; about 4 min to go", "; about 4 min to go", "; about 2 min to go"]  # 250, 240, 140 s
    assert told[7:] == ["; about 10 s to go", ""]
    slow = pace.Pace(left)
    said = [slow.after(group, 100.0) for group in left[:3]]
    assert said[2] == "; about 10 min to go"
    assert slow.after(left[3], 40.0) == "; about 7 min to go"  # 40 + 4 x 100 s: as the last one of its model


def test_what_is_stored_takes_no_time(store, toy):
    left = groups(toy, (0,))
    (store / left[0][0].config.run_id()).mkdir(parents=True)  # its teacher
    clock = pace.Pace(left)
    assert [clock.after(group, 10.0) for group in left] == ["", "; about 10 s to go", ""]
    with_weights = pace.Pace(left, keep=True)
    assert len(with_weights.left) == 3, "for its weights it is trained once more"


@pytest.mark.parametrize(("workers", "told"), [(1, "; about 80 s to go"), (2, "; about 40 s to go")])
def test_several_at_a_time(store, toy, workers, told):
    left = [group for group in groups(toy, range(5)) if group[0].config.student == "small"][:9]
    assert pace.Pace(left, workers=workers).after(left[0], 10.0) == told
