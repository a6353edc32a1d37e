"""Students that learn from a teacher without data: noise, generators (DAFL, DFAD), inverted teachers.

DAFL: Chen et al. 2019 (arXiv 1904.01186). DFAD: Fang et al. 2019 (arXiv 1912.11006). DeepInversion: Yin et al. 2020
(arXiv 1912.08795), written from the paper's formulas. Images lie in [0, 1]; what normalises them belongs to the
teacher. `distil` is given a teacher, an arm, settings and a seed, and no image; who looks at test images is `make`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdnb.catalog import SOURCES
from kdnb.core.config import RunConfig
from kdnb.core.device import deterministic, device
from kdnb.core.entropy import kl_divergence
from kdnb.core.loop import fit
from kdnb.data import splits
from kdnb.data.pixels import normalized
from kdnb.experiment.records import Made
from kdnb.models import vision
from kdnb.studies.dark_knowledge import data_free as arms
from kdnb.studies.dark_knowledge.data_free import DataFree, Settings

SAMPLES = 10  # pictures kept of an arm
Draw = Callable[[nn.Module], Tensor]  # student -> a batch (B, C, H, W) in [0, 1]; trains what makes it on the way


class Scaled(nn.Module):
    """An image classifier together with what normalises its images: it reads pixels in [0, 1].

    shape: (C, H, W). num_classes: K. mean, std: (C, 1, 1), of pixels in [0, 1].
    """

    def __init__(self, model: vision.ImageClassifier, mean: Tensor, std: Tensor, shape: tuple[int, int, int]):
        super().__init__()
        self.model, self.shape = model, shape
        self.num_classes = model.classifier.out_features
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) from images (N, C, H, W) in [0, 1]."""
        return self.model((images - self.mean) / self.std)

    def reading(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) of a teacher, and the features (N, width) that they are read from: f_T(x) of DAFL."""
        features = self.model.body((images - self.mean) / self.std).float()
        return self.model.classifier(features), features

    def beside(self, model: vision.ImageClassifier) -> Scaled:
        """Another classifier of the same images, normalised alike."""
        return Scaled(model, self.mean, self.std, self.shape).to(device())

    def frozen(self) -> Scaled:
        """Itself as a teacher: eval mode, no gradient to its weights."""
        return self.eval().requires_grad_(False)

    def digest(self) -> str:
        """sha256 of all parameters and buffers, BatchNorm's running moments among them."""
        content = hashlib.sha256()
        for name, part in self.state_dict().items():
            content.update(name.encode())
            content.update(part.detach().cpu().contiguous().numpy().tobytes())
        return content.hexdigest()


def information(posterior: Tensor) -> Tensor:
    """DAFL's information term sum_k pbar_k ln pbar_k, pbar the batch's mean posterior [nats].

    Minimising it makes the classes equally frequent. The released code takes log10: this is ln 10 times theirs.

    Args:
        posterior: (B, K).
    Returns:
        A scalar in [-ln K, 0]: -ln K where all classes are equally frequent, 0 where there is one.
    """
    mean = posterior.mean(dim=0)
    return torch.xlogy(mean, mean).sum()


def dafl_loss(logits: Tensor, features: Tensor, how: Settings) -> Tensor:
    """What DAFL's generator minimises (Chen et al. 2019): one-hot, information and activation term.

    oh H(argmax z, p) + ie sum_k pbar_k ln pbar_k - act mean |f|

    Args:
        logits: (B, K) of the teacher on generated images.
        features: (B, width) of the teacher.
        how: the weights of the three.
    """
    one_hot = F.cross_entropy(logits, logits.argmax(dim=-1))
    return (
        how.one_hot * one_hot
        + how.information * information(logits.softmax(dim=-1))
        - how.activation * features.abs().mean()
    )


def discrepancy(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """mean |z^t - z^s| (Fang et al. 2019): DFAD's student minimises it, its generator maximises it."""
    return (teacher_logits - student_logits).abs().mean()


def imitation(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(p^t || p^s), sum over classes, mean over the batch [nats]: what every other student minimises."""
    return kl_divergence(teacher_logits.softmax(dim=-1), student_logits).mean()


def total_variation(images: Tensor) -> Tensor:
    """Mean over images (B, C, H, W) of the summed squared differences of neighbouring pixels."""
    down, across = images.diff(dim=2).square(), images.diff(dim=3).square()
    return (down.sum(dim=(1, 2, 3)) + across.sum(dim=(1, 2, 3))).mean()


@contextmanager
def moments(teacher: nn.Module) -> Iterator[list[Tensor]]:
    """Collects sum_l |mu_l(x) - mu_l| + |var_l(x) - var_l| of DeepInversion, an entry a BatchNorm layer and pass.

    mu_l(x), var_l(x): of a batch, per channel; mu_l, var_l: the layer's running moments, read and never updated. The
    hooks go when the context ends.

    Raises:
        ValueError: the teacher has no BatchNorm.
    """
    norms = [part for part in teacher.modules() if isinstance(part, nn.BatchNorm2d)]
    if not norms:
        raise ValueError(f"{arms.INVERSION} reads BatchNorm's moments, got a teacher without BatchNorm")
    terms: list[Tensor] = []

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean = inputs[0].mean(dim=(0, 2, 3))
        variance = inputs[0].var(dim=(0, 2, 3), unbiased=False)
        terms.append((mean - norm.running_mean).norm() + (variance - norm.running_var).norm())

    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        yield terms
    finally:
        for hook in hooks:
            hook.remove()


def invert(teacher: Scaled, how: Settings, generator: torch.Generator) -> Tensor:
    """Images that a teacher takes for given classes, in turn 0..K-1 (Yin et al. 2020, without their competition term).

    min_x H(y, p) + tv TV(x) + l2 mean |x|^2 + moments sum_l (|mu_l(x) - mu_l| + |var_l(x) - var_l|)

    Returns:
        (how.pool, C, H, W) in [0, 1].
    """
    done = []
    for start in range(0, how.pool, 2 * how.batch):
        rows = min(2 * how.batch, how.pool - start)
        labels = torch.arange(start, start + rows, device=device()) % teacher.num_classes
        images = torch.rand(rows, *teacher.shape, generator=generator).to(device()).requires_grad_()
        adam = torch.optim.Adam([images], lr=how.pool_lr)
        with moments(teacher) as terms:
            for _ in range(how.pool_steps):
                terms.clear()
                loss = F.cross_entropy(teacher(images), labels) + how.moments * torch.stack(terms).sum()
                loss = loss + how.tv * total_variation(images) + how.l2 * images.square().sum(dim=(1, 2, 3)).mean()
                (images.grad,) = torch.autograd.grad(loss, [images])
                adam.step()
                images.data.clamp_(0, 1)
        done.append(images.detach())
    return torch.cat(done)


class Generator(nn.Module):
    """Images (B, C, H, W) in [0, 1] of vectors (B, latent).

    Small images by one hidden layer; those of 16 pixels or more by DAFL's convolutions from a fourth of their size.
    """

    def __init__(self, how: Settings, shape: tuple[int, int, int]):
        super().__init__()
        self.shape, (channels, height, width), units = shape, shape, how.hidden
        if height < 16:
            hidden = [nn.Linear(how.latent, units), nn.ReLU(), nn.Linear(units, channels * height * width)]
            self.layers = nn.Sequential(*hidden, nn.Unflatten(1, self.shape), nn.Sigmoid())
            return
        small = (units, height // 4, width // 4)
        self.layers = nn.Sequential(
            nn.Linear(how.latent, units * small[1] * small[2]),
            nn.Unflatten(1, small),
            nn.BatchNorm2d(units),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(units, units, 3, padding=1),
            nn.BatchNorm2d(units),
            nn.LeakyReLU(0.2),
            nn.Upsample(size=(height, width)),
            nn.Conv2d(units, channels, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1]."""
        return self.layers(vectors)


class _Generated:
    """A generator, its optimizer and its draws; how it is trained is for DAFL and DFAD to say."""

    def __init__(self, teacher: Scaled, how: Settings, generator: torch.Generator):
        self.teacher, self.how, self.random = teacher, how, generator
        self.network = Generator(how, teacher.shape).to(device())
        self.adam = torch.optim.Adam(self.network.parameters(), lr=how.generator_lr, fused=True)

    def draw(self) -> Tensor:
        """A batch with its gradient to the generator."""
        return self.network(torch.randn(self.how.batch, self.how.latent, generator=self.random).to(device()))

    def descend(self, loss: Tensor) -> None:
        """One step of the generator on a loss."""
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()


class Dafl(_Generated):
    """A generator that pleases the teacher; the student sees the images of the step that trained it."""

    def __call__(self, student: nn.Module) -> Tensor:
        images = self.draw()
        self.descend(dafl_loss(*self.teacher.reading(images), self.how))
        return images.detach()


class Dfad(_Generated):
    """A generator that looks for what teacher and student disagree on, a step for every `turns` of the student's."""

    def __init__(self, teacher: Scaled, how: Settings, generator: torch.Generator):
        super().__init__(teacher, how, generator)
        self.taken = 0

    def __call__(self, student: nn.Module) -> Tensor:
        self.taken += 1
        if self.taken % self.how.turns == 0:
            self.oppose(student, self.draw())
        with torch.no_grad():
            return self.draw()

    def oppose(self, student: nn.Module, images: Tensor) -> None:
        """One step of the generator on L_G = -L_S of a batch; the student's gradients are thrown away."""
        self.descend(-discrepancy(self.teacher(images), student(images)))
        student.zero_grad()


def _maker(teacher: Scaled, arm: str, how: Settings, random: torch.Generator) -> Draw:
    """What an arm shows the student."""
    if arm == arms.INVERSION:
        pool = invert(teacher, how, random)
        return lambda _: pool[torch.randint(len(pool), (how.batch,), generator=random)]
    if arm == arms.NOISE:
        return lambda _: torch.rand(how.batch, *teacher.shape, generator=random).to(device())
    if arm in (arms.DAFL, arms.NO_INFORMATION):
        return Dafl(teacher, how if arm == arms.DAFL else replace(how, information=0.0), random)
    if arm in (arms.DFAD, arms.NO_ADVERSARY):  # without its adversary the generator stays as it was drawn
        return Dfad(teacher, how if arm == arms.DFAD else replace(how, turns=how.steps + 1), random)
    raise ValueError(f"arm must be one of {', '.join(arms.FREE)}, got {arm!r}")


@dataclass(frozen=True)
class Look:
    """A student after so many steps, and what it was shown since the last look.

    student: as it is now, still in training.
    histogram: (K,) shares of the classes that the teacher saw.
    information: mean of DAFL's term over the batches [nats].
    images: (SAMPLES, C, H, W) in [0, 1], of the last batch.
    """

    student: Scaled
    histogram: np.ndarray
    information: float
    images: Tensor


def distil(teacher: Scaled, arm: str, how: Settings, seed: int) -> Iterator[Look]:
    """Train a student of a teacher with no image of the data anywhere: all it can reach is in its arguments.

    Args:
        teacher: frozen; see `Scaled`.
        arm: one of `data_free.FREE`.
        how: settings.
        seed: of student, generator and draws.
    Returns:
        A look for every how.every steps, as the training goes on.
    Raises:
        ValueError: an unknown arm, or DeepInversion of a teacher without BatchNorm.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        draw = _maker(teacher, arm, how, torch.Generator().manual_seed(seed))
    loss = discrepancy if arm in (arms.DFAD, arms.NO_ADVERSARY) else imitation
    return _train(teacher, how, seed, draw, loss)


def distil_with(teacher: Scaled, how: Settings, seed: int, draw: Draw) -> Iterator[Look]:
    """The same training on images from elsewhere: the controls with data, and with a moment of the data."""
    return _train(teacher, how, seed, draw, imitation)


def _train(teacher: Scaled, how: Settings, seed: int, draw: Draw, loss: Callable) -> Iterator[Look]:
    """The student's steps, whatever it is shown."""
    size = SOURCES[how.student]
    student = teacher.beside(vision.untrained(size, teacher.shape, teacher.num_classes, 0.0, seed + 1000))
    adam = torch.optim.Adam(student.parameters(), lr=how.student_lr, fused=True)
    counts, terms = torch.zeros(teacher.num_classes), []
    for step in range(1, how.steps + 1):
        student.train()
        images = draw(student)
        with torch.no_grad():
            told = teacher(images)
        adam.zero_grad()
        loss(told, student(images)).backward()
        adam.step()
        counts += told.argmax(dim=-1).cpu().bincount(minlength=teacher.num_classes)
        terms.append(information(told.softmax(dim=-1)))
        if step % how.every == 0:
            yield Look(
                student, (counts / counts.sum()).numpy(), float(torch.stack(terms).mean()), images[:SAMPLES].cpu()
            )
            counts, terms = torch.zeros(teacher.num_classes), []


@dataclass(frozen=True)
class Real:
    """The images that the controls learn from and the judge looks at: (N, C, H, W) in [0, 1], labels (N,)."""

    train: Tensor
    test: Tensor
    labels: Tensor

    def drawn(self, how: Settings, random: torch.Generator) -> Draw:
        """Batches of the train images, drawn with replacement."""
        return lambda _: self.train[torch.randint(len(self.train), (how.batch,), generator=random)]

    def matched(self, how: Settings, random: torch.Generator) -> Draw:
        """Noise u^((1 - m) / m), u uniform: in [0, 1], each pixel with the mean m that it has in the train images."""
        mean = self.train.mean(dim=0).clamp(1e-3, 1 - 1e-3)
        power = ((1 - mean) / mean).cpu()
        return lambda _: (torch.rand(how.batch, *power.shape, generator=random) ** power).to(device())

    def accuracy(self, model: nn.Module) -> float:
        """Test accuracy [share]; the model's mode is restored."""
        training = model.training
        with torch.no_grad():
            logits = torch.cat([model.eval()(part) for part in self.test.split(256)])
        model.train(training)
        return float((logits.argmax(dim=-1) == self.labels).double().mean())


def taught(experiment: DataFree) -> tuple[Scaled, Real]:
    """The teacher of an experiment, trained on the labels of its classes, and the images."""
    data = splits.load(experiment.task, experiment.profile)
    if data.fingerprint != experiment.data:
        raise ValueError(f"the experiment is for data {experiment.data}, got {data.fingerprint} ({experiment.task})")
    parts = {name: split.take(np.flatnonzero(split.labels < experiment.classes)) for name, split in data.splits.items()}
    inputs = normalized(parts)
    config = RunConfig(
        task=experiment.task,
        profile=experiment.profile,
        data=data.fingerprint,
        method="erm",
        student=experiment.teacher,
        lr=experiment.teacher_lr,
        epochs=experiment.teacher_epochs,
        dropout=0.0,
        history_points=0,
        precision="fp32",
        seed=experiment.seed,
        order_seed=experiment.seed,
    )
    pictures = {name: split.images for name, split in parts.items() if split.images is not None}
    channels, height, width = pictures["train"].shape[1:]
    shape = channels, height, width
    model = vision.untrained(SOURCES[experiment.teacher], shape, experiment.classes, 0.0, experiment.seed)
    fit(config, model.to(device()), dict(inputs), parts["train"].labels)
    high = float(pictures["train"].max())
    mean, std = (torch.from_numpy(moment / high) for moment in (inputs["train"].mean, inputs["train"].std))
    teacher = Scaled(model, mean, std, shape).to(device()).frozen()
    images = {name: torch.from_numpy(pictures[name] / np.float32(high)).to(device()) for name in ("train", "test")}
    return teacher, Real(images["train"], images["test"], torch.from_numpy(parts["test"].labels).to(device()))


def make(experiment: DataFree) -> Made:
    """All arms of an experiment; what its record holds, see `data_free.obtain`."""
    with deterministic():
        teacher, real = taught(experiment)
        before, random, found = teacher.digest(), torch.Generator().manual_seed(experiment.seed), []
        for arm in experiment.arms:
            if arm in (arms.REAL, arms.MATCHED):
                draw = (real.drawn if arm == arms.REAL else real.matched)(experiment, random)
                looks = distil_with(teacher, experiment, experiment.seed, draw)
            else:
                looks = distil(teacher, arm, experiment, experiment.seed)
            found.append([(real.accuracy(look.student), look) for look in looks])
    arrays = {
        "accuracy": np.array([[value for value, _ in one] for one in found], dtype=np.float32),
        "histogram": np.array([[look.histogram for _, look in one] for one in found], dtype=np.float32),
        "information": np.array([[look.information for _, look in one] for one in found], dtype=np.float32),
        "samples": np.stack([(255 * one[-1][1].images).round().to(torch.uint8).numpy() for one in found]),
    }
    return Made(
        arrays=arrays,
        metrics={"teacher": real.accuracy(teacher), "teacher_before": before, "teacher_after": teacher.digest()},
    )
