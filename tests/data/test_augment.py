"""Flips and crops of train images: what they do, when they are drawn, and who never sees them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kdnb.data import pixels
from kdnb.data import splits as data
from kdnb.experiment import training
from kdnb.experiment.arms import arm_config


def made(count=400, side=8, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (count, 2, side, side), dtype=np.uint8)  # no black within


def crops(image, pad):
    """Every image that a flip and a shift can make of one, by hand: nine or more at each orientation."""
    channels, height, width = image.shape
    for one in (image, image[:, :, ::-1]):
        for down in range(2 * pad + 1):
            for across in range(2 * pad + 1):
                canvas = np.zeros((channels, height + 2 * pad, width + 2 * pad), np.uint8)
                canvas[:, pad : pad + height, pad : pad + width] = one
                yield canvas[:, down : down + height, across : across + width].tobytes()


@pytest.mark.parametrize(("side", "pad"), [(8, 1), (16, 2), (28, 4), (32, 4), (64, 4), (2, 1)])
def test_padding_is_four_pixels_and_less_for_tiny_images(side, pad):
    assert pixels.padding(side) == pad


def test_each_image_is_a_flip_and_a_crop_of_itself_and_all_of_them_occur():
    image = made(1)
    images = np.repeat(image, 2000, axis=0)
    drawn = [one.tobytes() for one in pixels.flipped_and_cropped(images, np.random.default_rng(0))]
    possible = set(crops(image[0], 1))
    assert len(possible) == 18
    assert set(drawn) == possible


def test_rows_stay_in_their_place_and_are_drawn_apart():
    images = made()
    drawn = pixels.flipped_and_cropped(images, np.random.default_rng(0))
    assert drawn.shape == images.shape
    assert drawn.dtype == np.uint8
    for one, image in zip(drawn[:50], images, strict=False):
        assert one.tobytes() in set(crops(image, 1))
    same = (drawn == images).all(axis=(1, 2, 3)).mean()
    assert 0 < same < 0.15  # one in eighteen


def test_draws_come_from_the_order_seed_and_are_new_in_each_batch():
    plain = pixels.Pixels(made(), *(np.full((2, 1, 1), value, np.float32) for value in (3, 2)))
    one, again, other = (pixels.augmented(plain, seed) for seed in (1, 1, 2))
    rows = np.arange(64)
    first = one.batch(rows)["pixel_values"]
    torch.testing.assert_close(first, again.batch(rows)["pixel_values"])
    assert not torch.equal(first, one.batch(rows)["pixel_values"])
    assert not torch.equal(first, other.batch(rows)["pixel_values"])
    assert type(one.take(rows)) is pixels.Pixels
    torch.testing.assert_close(one.take(rows).batch(rows), plain.batch(rows))  # samples of the curves


@pytest.fixture(scope="module")
def toy():
    return data.load("digits", "toy")


@pytest.fixture
def config(toy):
    base = arm_config("erm_small", task="digits", profile="toy", data=toy.fingerprint, seed=0)
    return replace(base, epochs=3, history_points=2, precision="fp32")


@pytest.mark.slow
def test_training_sees_augmented_images_and_nothing_else_does(toy, config, monkeypatch):
    seen = []
    real = pixels.Augmented.batch
    monkeypatch.setattr(pixels.Augmented, "batch", lambda self, rows: seen.append(len(rows)) or real(self, rows))
    augmented = training.train(replace(config, augment="flip-crop"), toy)
    assert sum(seen) == 3 * 64  # the train batches of three epochs: no logits, no samples
    again = training.train(replace(config, augment="flip-crop"), toy)
    plain = training.train(config, toy)
    np.testing.assert_array_equal(augmented.logits["test"], again.logits["test"])
    assert not np.array_equal(augmented.logits["test"], plain.logits["test"])
    assert augmented.history[0]["train_entropy"] == plain.history[0]["train_entropy"]  # before the first step


def test_who_may_not_augment_is_told_why(config):
    taught = config.changed(method="kd", teacher_run="x", alpha=0.5)
    with pytest.raises(ValueError, match="augment must be none with a teacher, whose logits are of images as they are"):
        replace(taught, augment="flip-crop")
    with pytest.raises(ValueError, match=r"augment must be none for texts \(rt\), got 'flip-crop'"):
        replace(config, task="rt", augment="flip-crop")
    with pytest.raises(ValueError, match="augment must be one of none, flip-crop, got 'cutout'"):
        replace(config, augment="cutout")
