"""The profiles: four sizes of the same study, with their models, rows and fixed hyper-parameters. Plain data."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Images:
    """What a profile has for images instead: models, rows and fixed hyper-parameters."""

    large: str  # key of kdnb.checkpoints.SOURCES
    small: str  # key of kdnb.checkpoints.SOURCES
    train_rows: int  # at most, 0 = all
    lr: float
    epochs: int
    dropout: float = 0.0  # before the classifier, 0..1 [-]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One size of the same study: models, rows and the fixed hyper-parameters of its arms."""

    large: str  # key of kdnb.checkpoints.SOURCES
    small: str  # key of kdnb.checkpoints.SOURCES
    train_rows: int  # at most, 0 = all
    validation_rows: int  # at most, 0 = all
    test_rows: int  # at most, 0 = all
    lr: float
    epochs: int
    ls_alpha: float
    kd_alpha: float
    seeds: tuple[int, ...]
    images: Images  # of the image tasks: what is named there stands in for the fields above and below
    history_rows: int = 64
    max_length: int = 128
    tasks: tuple[str, ...] = ("rt",)  # what `kdnb study` trains and reads


# fmt: off
PROFILES = {
    "toy": Profile(
        large="tiny-large", small="tiny-small", train_rows=64, validation_rows=32, test_rows=32, lr=1e-2, epochs=8,
        ls_alpha=0.4, kd_alpha=0.7, seeds=(0, 1), history_rows=16, max_length=32,
        images=Images(large="cnn", small="mlp-small", train_rows=64, lr=5e-3, epochs=20),
    ),
    "demo": Profile(
        large="minilm-6", small="minilm-3", train_rows=1000, validation_rows=200, test_rows=800, lr=2e-4, epochs=2,
        ls_alpha=0.4, kd_alpha=0.9, seeds=(0, 1, 2), history_rows=32,
        images=Images(large="cnn", small="mlp-small", train_rows=1000, lr=2e-3, epochs=15),
    ),
    "cpu": Profile(
        large="minilm-6", small="minilm-3", train_rows=2000, validation_rows=500, test_rows=1000, lr=1e-4, epochs=3,
        ls_alpha=0.4, kd_alpha=0.9, seeds=(0, 1, 2, 3, 4), history_rows=64,
        tasks=("rt", "headline", "passage", "relation"),
        images=Images(large="resnet", small="mlp-small", train_rows=5000, lr=2e-3, epochs=8),
    ),
    "paper": Profile(
        large="bert-base", small="distilbert-base", train_rows=0, validation_rows=0, test_rows=0, lr=3e-5, epochs=3,
        ls_alpha=0.4, kd_alpha=0.7, seeds=(0, 1, 2, 3, 4), history_rows=2000,
        tasks=("mrpc", "qnli", "sst2", "mnli"),
        images=Images(large="resnet-56", small="resnet-20", train_rows=0, lr=1e-3, epochs=30),
    ),
}
# fmt: on


def model_of(profile: str, size: str, images: bool = False) -> str:
    """The key of SOURCES behind a size in a profile: "large", "small", or a key of SOURCES itself.

    Args:
        images: whether the task's examples are images, for which a profile has other models than for texts.
    """
    has = PROFILES[profile].images if images else PROFILES[profile]
    return {"large": has.large, "small": has.small}.get(size, size)
