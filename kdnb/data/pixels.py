"""Images of a split, and the batches made of them: what `kdnb.data.tokens` is for texts."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdnb.data.splits import Split

PATCH = 16  # pixels that count as one token where an evaluation batch is filled


@dataclass(frozen=True)
class Pixels:
    """N images of one size, kept as bytes and normalised batch by batch.

    images: (N, C, H, W) uint8.
    mean: (C, 1, 1) float32, of the train split's channels.
    std: (C, 1, 1) float32, the same.
    """

    images: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) patches per image, all the same: batches of images are shuffled and never sorted."""
        return np.full(len(self), max(1, self.images[0, 0].size // PATCH))

    def take(self, rows: np.ndarray) -> "Pixels":
        """The images of some rows, in their order."""
        return Pixels(self.images[rows], self.mean, self.std)

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """The model's inputs for some rows: (B, C, H, W) float32, each channel less its mean, over its std."""
        return {"pixel_values": torch.from_numpy((self.images[rows] - self.mean) / self.std)}


@dataclass(frozen=True)
class Augmented(Pixels):
    """Images that look a little different each time a batch is made of them; `take` gives them as they are.

    generator: of the flips and shifts, drawn batch by batch.
    """

    generator: np.random.Generator

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """The model's inputs for some rows, each image mirrored or not and shifted."""
        return Pixels(flipped_and_cropped(self.images[rows], self.generator), self.mean, self.std).batch(
            np.arange(len(rows))
        )


def padding(side: int) -> int:
    """Pixels of black around an image before it is cropped: 4 at 28 and more, an eighth of a smaller one's side."""
    return min(4, max(1, round(side / 8)))


def flipped_and_cropped(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each image mirrored left to right with probability 1/2, then a crop of its size from within its padding.

    Args:
        images: (B, C, H, W).
        generator: of the draws: B flips, then B shifts down, then B across.
    """
    count, _, height, width = images.shape
    pad = padding(min(height, width))
    mirrored = np.where(generator.random(count)[:, None, None, None] < 0.5, images[..., ::-1], images)
    padded = np.pad(mirrored, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    down, across = generator.integers(0, 2 * pad + 1, (2, count))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    return windows[np.arange(count), :, down, across]


def augmented(pixels: Pixels, order_seed: int) -> Pixels:
    """Images to train on, augmented; the draws have a generator of their own, apart from that of the batches' order."""
    return Augmented(pixels.images, pixels.mean, pixels.std, np.random.default_rng([order_seed, 1]))


def normalized(splits: dict[str, Split]) -> dict[str, Pixels]:
    """The images of all splits, to be normalised by the train split's mean and standard deviation per channel."""
    images = {name: split.images for name, split in splits.items() if split.images is not None}
    channels = images["train"].swapaxes(0, 1)
    levels = np.arange(256)
    counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in channels])
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0))
    std[std == 0] = 1  # a channel without contrast says nothing, and stays at 0
    mean, std = (moment.astype(np.float32)[:, None, None] for moment in (mean, std))
    return {name: Pixels(pixels, mean, std) for name, pixels in images.items()}
