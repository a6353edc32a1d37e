"""Where each encoder comes from, by name: data only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where an encoder comes from: a packaged asset, the hub at a commit, or a config ("tiny")."""

    kind: str  # "asset", "hub" or "tiny"
    where: str = ""  # asset name, or hub repository
    revision: str = ""  # 40-hex commit, hub only
    layers: tuple[int, ...] = ()  # encoder layers kept, () = all


_BERT = ("hub", "google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594")

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
}
