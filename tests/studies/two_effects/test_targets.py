"""Changed teachers: what each change keeps of a posterior, what it takes away, and that the loss sees it."""

import numpy as np
import pytest
import torch

from kdnb.core.config import RunConfig
from kdnb.core.entropy import posterior_entropy
from kdnb.core.losses import ls_loss
from kdnb.core.methods import METHODS, batch_loss
from kdnb.studies import registry
from kdnb.studies.two_effects.targets import TRANSFORMS, transformed

registry.methods()
ROWS, CLASSES = 60, 4


def teacher(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (3 * rng.standard_normal((ROWS, CLASSES))).astype(np.float32), rng.integers(CLASSES, size=ROWS)


def entropies(logits: np.ndarray) -> np.ndarray:
    return posterior_entropy(torch.from_numpy(logits)).numpy()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_change_keeps_shape_and_dtype_and_leaves_the_teacher_alone(transform):
    logits, labels = teacher()
    before = logits.copy()
    changed = transformed(logits, labels, transform, 2.0 if transform == "scale" else 1.0, 0)
    assert changed.shape == logits.shape
    assert changed.dtype == logits.dtype
    assert np.isfinite(changed).all()
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize(("sharpness", "softer"), [(0.25, True), (4.0, False)])
def test_scaling_moves_the_entropy_and_no_prediction(sharpness, softer):
    logits, labels = teacher()
    changed = transformed(logits, labels, "scale", sharpness, 0)
    np.testing.assert_array_equal(changed.argmax(1), logits.argmax(1))
    assert (entropies(changed) > entropies(logits)).all() == softer
    assert (entropies(changed) < entropies(logits)).all() != softer


def test_hard_is_the_argmax_without_any_softness():
    logits, labels = teacher()
    posterior = torch.from_numpy(transformed(logits, labels, "hard", 1.0, 0)).softmax(-1).numpy()
    np.testing.assert_array_equal(posterior, np.eye(CLASSES, dtype=np.float32)[logits.argmax(1)])


def test_swapping_names_the_label_and_keeps_every_entropy():
    logits, labels = teacher()
    changed = transformed(logits, labels, "swap", 1.0, 0)
    np.testing.assert_array_equal(changed.argmax(1), labels)
    np.testing.assert_allclose(entropies(changed), entropies(logits), rtol=1e-6)
    np.testing.assert_array_equal(np.sort(changed, axis=1), np.sort(logits, axis=1))
    right = logits.argmax(1) == labels
    np.testing.assert_array_equal(changed[right], logits[right])
    assert (changed[~right] != logits[~right]).any(axis=1).all()


def test_shuffling_stays_in_the_class_and_follows_the_seed():
    logits, labels = teacher()
    changed = transformed(logits, labels, "shuffle", 1.0, 7)
    for label in range(CLASSES):
        rows = labels == label
        np.testing.assert_array_equal(np.sort(changed[rows], axis=0), np.sort(logits[rows], axis=0))
    assert (changed != logits).any(axis=1).mean() > 0.5
    np.testing.assert_array_equal(changed, transformed(logits, labels, "shuffle", 1.0, 7))
    assert (changed != transformed(logits, labels, "shuffle", 1.0, 8)).any()


def test_class_means_are_the_mean_posteriors():
    logits, labels = teacher()
    changed = torch.from_numpy(transformed(logits, labels, "class_mean", 1.0, 0)).softmax(-1).numpy()
    posteriors = torch.from_numpy(logits).softmax(-1).numpy()
    for label in range(CLASSES):
        rows = labels == label
        np.testing.assert_allclose(changed[rows], np.tile(posteriors[rows].mean(0), (rows.sum(), 1)), atol=1e-6)


def config(**fields) -> RunConfig:
    base = {"task": "rt", "profile": "cpu", "data": "0" * 16, "student": "small", "method": "transformed"}
    return RunConfig.of({**base, "teacher_run": "some-run", "alpha": 0.9, **fields})


def test_kd_from_a_uniform_teacher_is_label_smoothing():
    logits, labels = teacher()
    method = METHODS["transformed"].of(config(transform="uniform"))
    student = torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(1))
    truth = torch.from_numpy(labels)
    told = torch.from_numpy(method.taught(logits, labels, 0))
    torch.testing.assert_close(batch_loss(method, student, truth, told), ls_loss(student, truth, 0.9))


def test_a_changed_teacher_is_part_of_the_name():
    names = {config(transform=transform).run_id() for transform in TRANSFORMS}
    names |= {config(sharpness=sharpness).run_id() for sharpness in (0.5, 2.0)}
    assert len(names) == len(TRANSFORMS) + 2


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"transform": "melt"}, "transform must be one of scale, hard"),
        ({"transform": "hard", "sharpness": 2.0}, "sharpness must be 1 unless"),
        ({"sharpness": 0.0}, "sharpness must be > 0"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, told):
    with pytest.raises(ValueError, match=told):
        config(**fields)
