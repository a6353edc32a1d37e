"""Where each model comes from, by name: data only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a packaged asset, the hub at a commit, or a config ("tiny"; "image" for those that
    read images)."""

    kind: str  # "asset", "hub", "tiny" or "image"
    where: str = ""  # asset name, hub repository, or a key of kdnb.models.vision.BODIES
    revision: str = ""  # 40-hex commit, hub only
    layers: tuple[int, ...] = ()  # encoder layers kept, () = all; of an image model, its size


_BERT = ("hub", "google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594")
_ROBERTA = ("hub", "FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b")

# Cut as DistilBERT is from BERT: n layers of L at equal steps, the first and the last among them.
SOURCES = {
    "tiny-large": Source("tiny", layers=(0, 1)),
    "tiny-small": Source("tiny", layers=(0,)),
    "tiny-3": Source("tiny", layers=(0, 1, 2)),
    "minilm-6": Source("asset", "minilm"),
    "minilm-4": Source("asset", "minilm", layers=(0, 2, 3, 5)),
    "minilm-3": Source("asset", "minilm", layers=(0, 2, 5)),
    "minilm-2": Source("asset", "minilm", layers=(0, 5)),
    "minilm-1": Source("asset", "minilm", layers=(0,)),
    "bert-base": Source(*_BERT),
    "distilbert-base": Source("hub", "distilbert/distilbert-base-uncased", "12040accade4e8a0f71eabdb258fecc2e7e948be"),
    "bert-8": Source(*_BERT, layers=(0, 2, 3, 5, 6, 8, 9, 11)),
    "bert-4": Source(*_BERT, layers=(0, 4, 7, 11)),
    "bert-2": Source(*_BERT, layers=(0, 11)),
    "roberta-base": Source(*_ROBERTA),
    "distilroberta-base": Source("hub", "distilbert/distilroberta-base", "fb53ab8802853c8e4fbdbcd0529f21fc6f459b2b"),
    "roberta-8": Source(*_ROBERTA, layers=(0, 2, 3, 5, 6, 8, 9, 11)),
    "roberta-4": Source(*_ROBERTA, layers=(0, 4, 7, 11)),
    "mlp": Source("image", "mlp", layers=(256,)),  # hidden widths
    "mlp-small": Source("image", "mlp", layers=(32,)),
    "cnn": Source("image", "cnn", layers=(16, 32, 64)),  # channels, halving the image after each
    "resnet": Source("image", "resnet", layers=(1, 1, 1)),  # blocks per stage: a ResNet-8
    "resnet-20": Source("image", "resnet", layers=(3, 3, 3)),  # as He et al. 2016 have it for CIFAR
    "resnet-56": Source("image", "resnet", layers=(9, 9, 9)),
    "resnet-18": Source("image", "resnet", layers=(2, 2, 2, 2)),
    "mobilenetv2": Source("image", "mobilenetv2", layers=(35,)),  # percent of its channels
    "vit": Source("image", "vit", layers=(4, 64)),  # layers, width
}
