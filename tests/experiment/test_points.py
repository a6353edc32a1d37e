"""Seeds and runs that are asked for twice are made once."""

import pytest
from command import last_json

from kdnb.cli.options import integers
from kdnb.experiment import obtain
from kdnb.experiment.points import Point, compare_points, trainings
from kdnb.sweeps.grids import stages


def test_a_repeated_seed_is_one_seed():
    assert integers("seeds", "0,1,0") == [0, 1]
    assert compare_points("rt", "toy", "data", (0, 1, 0)) == compare_points("rt", "toy", "data", (0, 1))
    twice, once = (stages("search", "rt", "toy", "data", seeds=seeds) for seeds in ((1, 0, 1), (1, 0)))
    assert twice.points == once.points


def test_a_repeated_run_is_one_training(quick):
    point = Point("erm_small", quick("erm_small"))
    assert trainings([point, point]) == [[point]]


@pytest.mark.slow
def test_a_repeated_run_is_made_and_counted_once(store, toy, quick):
    point, said = Point("erm_small", quick("erm_small")), []
    assert list(obtain.run_points([point, point], toy, said.append)) == [point.config.run_id()]
    (line,) = said
    assert line.startswith("[1/1] ")


@pytest.mark.slow
def test_compare_with_a_repeated_seed(kdnb):
    words = ["--profile", "toy", "--arms", "erm_small", "--epochs", "1", "--json"]
    code, out, err = kdnb("compare", "rt", *words, "--seeds", "0,1,0")
    assert (code, err) == (0, "")
    assert [entry["seed"] for entry in last_json(out)["arms"]] == [0, 1]
