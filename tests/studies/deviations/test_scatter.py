"""The teacher-student scatter of arXiv 2301.12923 (docs/experiments.md, T6.1-T6.4)."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from batches import logits_batches, random_batch
from hypothesis import given
from hypothesis import strategies as st

from kdnb.studies.deviations.figures import MANY, confidence_scatter, deviation_panel
from kdnb.studies.deviations.scatter import teacher_class_pair


def line(x, y):
    """Slope and intercept of the least-squares line, by numpy."""
    return np.polyfit(x, y, 1)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_a_student_equal_to_its_teacher_lies_on_the_diagonal(num_classes):
    z = random_batch(num_classes, rows=50)[0].numpy()
    x, y = teacher_class_pair(z, z)
    np.testing.assert_array_equal(x, y)
    np.testing.assert_allclose(line(x, y), [1, 0], atol=1e-12)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_two_classes_and_scaled_logits_give_the_factor_as_slope(factor):
    z = random_batch(2, rows=50)[0].numpy()
    np.testing.assert_allclose(line(*teacher_class_pair(z, factor * z)), [factor, 0], atol=1e-10)


def test_log_odds_of_a_half_and_of_nine_tenths():
    z = np.log([[0.5, 0.5], [0.9, 0.1]])
    x, _ = teacher_class_pair(z, z)
    assert x[0] == pytest.approx(0, abs=1e-12)
    assert x[1] == pytest.approx(2.197225, abs=1e-6)


@pytest.mark.slow
@given(logits_batches(size=6), st.integers(0, 99))
def test_the_logit_form_equals_the_probability_form(teacher, seed):
    student = torch.randn(teacher.shape, generator=torch.Generator().manual_seed(seed)).double()
    exact = teacher_class_pair(teacher.numpy(), student.numpy())
    shares = teacher_class_pair(teacher.numpy(), student.numpy(), transform=False)
    for phi, u in zip(exact, shares, strict=True):
        np.testing.assert_allclose(phi, np.log(u / (1 - u)), atol=1e-6)


def test_the_class_is_the_teachers_own():
    """Teacher: class 0. Label: 1. Student: class 2."""
    teacher, student = np.log([[0.5, 0.3, 0.2]]), np.log([[0.25, 0.15, 0.6]])
    x, y = teacher_class_pair(teacher, student, transform=False)
    assert x[0] == pytest.approx(0.5)
    assert y[0] == pytest.approx(0.25)
    _, phi = teacher_class_pair(teacher, student)
    assert phi[0] == pytest.approx(math.log(0.25 / 0.75))


def test_certain_models_do_not_saturate():
    x, y = teacher_class_pair(np.array([[500.0, 0.0]]), np.array([[900.0, 0.0]], dtype=np.float32))
    assert (x[0], y[0]) == (500.0, 900.0)


def test_the_figure_is_square_and_shows_every_example():
    teacher, student = random_batch(3, rows=40)[0].numpy(), random_batch(3, rows=40, seed=1)[0].numpy()
    for transform in (True, False):
        figure, ax = plt.subplots()
        confidence_scatter(teacher, student, ax, "kd_standard", transform)
        points = np.asarray(ax.collections[0].get_offsets())
        np.testing.assert_allclose(points.T, teacher_class_pair(teacher, student, transform))
        assert ax.get_xlim() == ax.get_ylim()
        low, high = ax.get_xlim()
        assert low <= points.min()
        assert points.max() <= high
        plt.close(figure)


@pytest.mark.parametrize("rows", [MANY, MANY + 1])
def test_many_points_become_a_density_that_counts_them_all(rows):
    x, y = np.random.default_rng(0).normal(size=(2, rows))
    figure, ax = plt.subplots()
    deviation_panel((x, y), ax, "kd_self", (-5, 5), share=0.25)
    (drawn,) = ax.collections
    if rows > MANY:
        assert drawn.get_array().sum() == rows
    else:
        np.testing.assert_allclose(np.asarray(drawn.get_offsets()), np.stack([x, y], axis=1))
    assert ax.get_xlim() == ax.get_ylim() == (-5, 5)
    edges = sorted(line.get_xdata()[0] for line in ax.lines[:2])
    np.testing.assert_allclose(edges, np.quantile(x, [0.25, 0.75]))
    plt.close(figure)
