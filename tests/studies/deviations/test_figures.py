"""What the pictures of deviations say in words and numbers, on clouds whose answers are known."""

import numpy as np
import pandas as pd

from kdnb.studies.deviations import claims, figures

X = np.linspace(-3, 6, 200)


def test_tenths_are_means_of_equal_parts_from_the_least_sure():
    at, gap = figures.tenths(X[::-1], 2 * X[::-1])
    assert np.allclose(at, X.reshape(10, 20).mean(axis=1))
    assert np.allclose(gap, at)  # Y - X is X


def test_a_cloud_in_words_has_its_slope_and_its_low_end():
    points = pd.concat(
        [
            pd.DataFrame({"panel": "twice", "x": X, "y": 2 * X}),
            pd.DataFrame({"panel": "above", "x": X, "y": X + 1}),
        ]
    )
    words = figures.clouds_in_words(points, 0.25)
    assert "twice: slope 2.00, 100% below the diagonal" in words
    assert "above: slope 1.00, 0% below the diagonal" in words


def test_a_claim_on_students_is_judged_over_seeds():
    below = pd.DataFrame(
        {
            "arm": "kd_self",
            "tau": 4.0,
            "split": "train",
            "seed": range(4),
            "low_gap": [-1.0, -1.1, -0.9, -1.0],
            "low_beyond": [-0.5, -0.6, -0.4, -0.5],
        }
    )
    effect, word = claims.on_students("H6.1", below)
    assert (effect.n, word) == (4, "holds")
    assert np.isclose(effect.effect, -0.5)  # the larger of the two is tested
    assert claims.in_words("H6.1", below.iloc[:0]) == "H6.1: no runs"
