"""Where each encoder comes from, by name: data only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where an encoder comes from: a packaged asset, the hub at a commit, or a config ("tiny")."""

    kind: str  # "asset", "hub" or "tiny"
    where: str = ""  # asset name, or hub repository
    revision: str = ""  # 40-hex commit, hub only
    layers: tuple[int, ...] = ()  # encoder layers kept, () = all


SOURCES = {
    "tiny-large": Source("tiny", layers=(0, 1)),
    "tiny-small": Source("tiny", layers=(0,)),
    "minilm-6": Source("asset", "minilm"),
    "minilm-3": Source("asset", "minilm", layers=(0, 2, 5)),  # cut as DistilBERT is from BERT
    "bert-base": Source("hub", "google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594"),
    "distilbert-base": Source("hub", "distilbert/distilbert-base-uncased", "12040accade4e8a0f71eabdb258fecc2e7e948be"),
}
