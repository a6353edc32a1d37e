"""What exists by name, as data: modalities, tasks, models, and the profiles at which both are used."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

from kdnb.errors import nearest


@dataclass(frozen=True, kw_only=True)
class Modality:
    """What a task's examples are, in the words of messages and captions, and what reads them.

    A third one is an entry in MODALITIES, its `Defaults` in each profile, and what generates, encodes and builds it
    in kdnb.data.splits.TOYS and kdnb.models.classifiers.PARTS.
    """

    examples: str  # "texts"
    field: str  # what the generated examples of the toy profile say nothing about
    kinds: tuple[str, ...]  # of the sources whose models read them, see Source


MODALITIES = {
    "text": Modality(examples="texts", field="language", kinds=("asset", "hub", "folder", "tiny")),
    "image": Modality(examples="images", field="vision", kinds=("image",)),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One classification task. Sizes are (train, validation, test); GLUE's first four are those of Table 6."""

    name: str
    title: str
    question: str
    labels: tuple[str, ...]  # in label order 0..K-1
    source: str  # "glue", "embedded", "package" (examples as a package has them), "files" (IDX), "hub" or "own"
    modality: str = "text"  # a key of MODALITIES
    pair: bool = False  # two texts per example
    stands_in_for: str = ""  # the GLUE task of the same shape
    glue_folder: str = ""  # GLUE's own folder name
    hub_name: str = ""  # config of nyu-mll/glue
    columns: tuple[str, ...] = ()  # GLUE only: text columns on the hub and in its own files, where they agree
    sizes: tuple[int, ...] = field(default=())
    shape: tuple[int, ...] = ()  # images only: channels, height, width [pixels]
    label_noise: float = 0.0  # share of the train labels drawn anew from all classes, 0..1 [-]; see `task_named`

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.labels)

    @property
    def caption(self) -> str:
        """What every figure says of the task."""
        named = f"{self.title} (stand-in for {self.stands_in_for})" if self.stands_in_for else self.title
        return f"{named}, {100 * self.label_noise:g} % of the train labels drawn anew" if self.label_noise else named


_GLUE = [
    Task(
        name="mrpc", title="MRPC", question="Are the two sentences paraphrases?", source="glue", pair=True,
        labels=("not_equivalent", "equivalent"), glue_folder="MRPC", hub_name="mrpc",
        columns=("sentence1", "sentence2"), sizes=(3668, 408, 1725),
    ),
    Task(
        name="qnli", title="QNLI", question="Does the sentence answer the question?", source="glue", pair=True,
        labels=("entailment", "not_entailment"), glue_folder="QNLI", hub_name="qnli",
        columns=("question", "sentence"), sizes=(99743, 5000, 5463),
    ),
    Task(
        name="sst2", title="SST-2", question="Is the sentence positive?", source="glue",
        labels=("negative", "positive"), glue_folder="SST-2", hub_name="sst2",
        columns=("sentence",), sizes=(65549, 872, 1800),
    ),
    Task(
        name="mnli", title="MNLI", question="Does the premise entail the hypothesis?", source="glue", pair=True,
        labels=("entailment", "neutral", "contradiction"), glue_folder="MNLI", hub_name="mnli",
        columns=("premise", "hypothesis"), sizes=(382887, 9815, 9815),
    ),
    Task(
        name="qqp", title="QQP", question="Do the two questions ask the same?", source="glue", pair=True,
        labels=("not_duplicate", "duplicate"), glue_folder="QQP", hub_name="qqp",
        columns=("question1", "question2"), sizes=(353846, 10000, 40430),
    ),
]  # fmt: skip
_EMBEDDED = [
    Task(
        name="rt", title="Rotten Tomatoes", question="Is the review sentence positive?", source="embedded",
        labels=("negative", "positive"), stands_in_for="SST-2",
    ),
    Task(
        name="headline", title="BBC headline–lead", question="Does the headline belong to the lead?",
        source="embedded", pair=True, labels=("other_article", "same_article"), stands_in_for="MRPC",
    ),
    Task(
        name="passage", title="BBC headline–passage", question="Is the passage from the article under the headline?",
        source="embedded", pair=True, labels=("other_article", "same_article"), stands_in_for="QNLI",
    ),
    Task(
        name="relation", title="BBC passage relation", question="Same article, same section, or neither?",
        source="embedded", pair=True, labels=("same_article", "same_section", "other_section"), stands_in_for="MNLI",
    ),
    Task(  # most reviews are longer than the 128 tokens that a model reads of them: it judges by their openings
        name="imdb", title="IMDB openings", question="Is the review positive, by its first 128 tokens?",
        source="embedded", labels=("negative", "positive"),
    ),
    Task(
        name="section", title="BBC section", question="Which section does the headline come from?", source="embedded",
        labels=("business", "entertainment", "politics", "sport", "tech"),
    ),
]  # fmt: skip
_HUB = [
    Task(
        name="agnews", title="AG News", question="What is the news about?", source="hub",
        labels=("World", "Sports", "Business", "Sci/Tech"), sizes=(115000, 5000, 7600),
    ),
]  # fmt: skip
_DIGITS, _DIGIT = tuple("0123456789"), "Which digit is it?"
_FASHION = (
    "t-shirt_top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot",
)  # fmt: skip
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""
_IMAGES = [
    Task(
        name="digits", title="Digits", question=_DIGIT, modality="image", source="package",
        labels=_DIGITS, shape=(1, 8, 8), sizes=(1000, 200, 597),
    ),
    Task(
        name="mnist5k", title="MNIST, 5,000 images", question=_DIGIT, modality="image", source="package",
        labels=_DIGITS, shape=(1, 28, 28), sizes=(3500, 500, 1000),
    ),
    Task(
        name="mnist", title="MNIST", question=_DIGIT, modality="image", source="hub",
        labels=_DIGITS, shape=(1, 28, 28), sizes=(55000, 5000, 10000),
    ),
    Task(
        name="fashion", title="Fashion-MNIST", question="What is to be worn?", modality="image", source="files",
        labels=_FASHION, shape=(1, 28, 28), sizes=(55000, 5000, 10000),
    ),
    Task(
        name="cifar10", title="CIFAR-10", question="What is in the picture?", modality="image", source="hub",
        labels=_CIFAR10, shape=(3, 32, 32), sizes=(45000, 5000, 10000),
    ),
    Task(
        name="cifar100", title="CIFAR-100", question="What is in the picture?", modality="image", source="hub",
        labels=tuple(_CIFAR100.split()), shape=(3, 32, 32), sizes=(45000, 5000, 10000),
    ),
    Task(
        name="tinyimagenet", title="Tiny ImageNet", question="What is in the picture?", modality="image", source="hub",
        labels=tuple(map(str, range(200))), shape=(3, 64, 64), sizes=(90000, 10000, 10000),
    ),
]  # fmt: skip
TASKS = {task.name: task for task in _EMBEDDED + _GLUE + _HUB + _IMAGES}


def check_name(name: str) -> None:
    """Raise ValueError, as `task_named` does, for a name that is no task's; "own:..." is the user's own."""
    if not name.startswith("own:"):
        task_named(name)


def task_named(name: str) -> Task:
    """The task of a name, or, for "digits@0.2", that task with 20 % of its train labels drawn anew from all classes.

    Raises ValueError, with the nearest name, if there is none, and for a share that is not in (0, 1].
    """
    base, at, share = name.partition("@")
    if base.startswith("own:"):
        raise ValueError(
            f"{name} is of your own file: kdnb compare and kdnb sweep take --data FILE --text COLUMN --label COLUMN"
        )
    if base not in TASKS:
        raise ValueError(f"unknown task {name!r}{nearest(base, TASKS)}")
    if not at:
        return TASKS[base]
    try:
        noise = float(share)
    except ValueError:
        noise = 0.0
    if not 0 < noise <= 1:
        raise ValueError(f"{name}: label noise must be a share in (0, 1], as in {base}@0.2, got {share!r}")
    if share != f"{noise:g}":
        raise ValueError(f"{name}: one amount of label noise has one name, write {base}@{noise:g}")
    return replace(TASKS[base], name=name, label_noise=noise, stands_in_for="")


def modality_of(task: str) -> str:
    """The key of MODALITIES that a task's examples are; "text" for the user's own."""
    name = task.partition("@")[0]
    return TASKS[name].modality if name in TASKS else "text"


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a packaged asset, the hub at a commit, a folder of the user's, or a config."""

    kind: str  # "asset", "hub", "folder", "tiny" or "image"
    where: str = ""  # asset name, hub repository, name of a folder, or a key of kdnb.models.vision.BODIES
    revision: str = ""  # 40-hex commit of the hub; 16-hex fingerprint of a folder
    layers: tuple[int, ...] = ()  # encoder layers kept, () = all; of an image model, its size
    pooled: bool = True  # whether a BERT comes with a pretrained dense layer on its first token
    as_it_is: bool = False  # a finished classifier that is asked and never trained

    @property
    def modality(self) -> str:
        """The key of MODALITIES that it reads."""
        return next(name for name, modality in MODALITIES.items() if self.kind in modality.kinds)


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
    "minilm-l3": Source("asset", "minilm-l3", pooled=False),  # trained with three layers, not cut
    "mpnet-12": Source("asset", "mpnet"),  # 12 layers of 768
    "mpnet-6": Source("asset", "mpnet", layers=(0, 2, 4, 7, 9, 11)),
    "mpnet-3": Source("asset", "mpnet", layers=(0, 6, 11)),
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
    "resnet-50": Source("image", "bottleneck", layers=(3, 4, 6, 3)),
    "mobilenetv2": Source("image", "mobilenetv2", layers=(35,)),  # percent of its channels
    "vit": Source("image", "vit", layers=(4, 64)),  # layers, width
}


AS_IT_IS = "as-it-is:"  # stands before the name of a finished classifier
HUB_REPO = r"\w[\w.-]*/\w[\w.-]*"  # owner/name, neither of which is a way out of a folder
_HUB_NAME, _FOLDER_NAME = re.compile(rf"({HUB_REPO})@([0-9a-f]{{40}})"), re.compile(r"([\w.-]+)@([0-9a-f]{16})")


def source_of(name: str) -> Source:
    """Where a model of a name comes from.

    Args:
        name: a key of SOURCES, id@commit of the hub, or name@fingerprint of a folder; AS_IT_IS before the last two
            for a finished classifier.
    Raises:
        ValueError: it is none of these.
    """
    if name in SOURCES:
        return SOURCES[name]
    bare, finished = name.removeprefix(AS_IT_IS), name.startswith(AS_IT_IS)
    if named := _HUB_NAME.fullmatch(bare):
        return Source("hub", named[1], named[2], as_it_is=finished)
    if named := _FOLDER_NAME.fullmatch(bare):
        return Source("folder", named[1], named[2], as_it_is=finished)
    raise ValueError(f"unknown model {name!r}{nearest(name, SOURCES)}")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a profile trains on the examples of one modality: models, rows and fixed hyper-parameters."""

    large: str  # key of SOURCES
    small: str  # key of SOURCES
    train_rows: int  # at most, 0 = all
    lr: float
    epochs: int
    dropout: float = 0.0  # 0..1 [-]; of image models before the classifier alone


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One size of the same study: what it trains for each modality, rows, and the fixed weights of its arms."""

    defaults: dict[str, Defaults]  # by key of MODALITIES
    validation_rows: int  # at most, 0 = all
    test_rows: int  # at most, 0 = all
    ls_alpha: float
    kd_alpha: float
    seeds: tuple[int, ...]
    history_rows: int = 64
    max_length: int = 128
    tasks: tuple[str, ...] = ("rt",)  # what `kdnb study` trains and reads


# fmt: off
PROFILES = {
    "toy": Profile(
        validation_rows=32, test_rows=32, ls_alpha=0.4, kd_alpha=0.7, seeds=(0, 1), history_rows=16, max_length=32,
        defaults={
            "text": Defaults(
                large="tiny-large", small="tiny-small", train_rows=64, lr=1e-2, epochs=8, dropout=0.1),
            "image": Defaults(large="cnn", small="mlp-small", train_rows=64, lr=5e-3, epochs=20),
        },
    ),
    "demo": Profile(
        validation_rows=200, test_rows=800, ls_alpha=0.4, kd_alpha=0.9, seeds=(0, 1, 2), history_rows=32,
        defaults={
            "text": Defaults(
                large="minilm-6", small="minilm-3", train_rows=1000, lr=2e-4, epochs=2, dropout=0.1),
            "image": Defaults(large="cnn", small="mlp-small", train_rows=1000, lr=2e-3, epochs=15),
        },
    ),
    "cpu": Profile(
        validation_rows=500, test_rows=1000, ls_alpha=0.4, kd_alpha=0.9, seeds=(0, 1, 2, 3, 4), history_rows=64,
        tasks=("rt", "headline", "passage", "relation"),
        defaults={
            "text": Defaults(
                large="minilm-6", small="minilm-3", train_rows=2000, lr=1e-4, epochs=3, dropout=0.1),
            "image": Defaults(large="resnet", small="mlp-small", train_rows=5000, lr=2e-3, epochs=8),
        },
    ),
    "base": Profile(  # the size of the paper's models, from a package: BERT-base's layers and width
        validation_rows=0, test_rows=0, ls_alpha=0.4, kd_alpha=0.7, seeds=(0, 1, 2), history_rows=64,
        tasks=("mrpc", "rt"),
        defaults={
            "text": Defaults(
                large="mpnet-12", small="mpnet-6", train_rows=3668, lr=3e-5, epochs=3, dropout=0.1),
            "image": Defaults(large="resnet-20", small="resnet", train_rows=5000, lr=1e-3, epochs=30),
        },
    ),
    "paper": Profile(
        validation_rows=0, test_rows=0, ls_alpha=0.4, kd_alpha=0.7, seeds=(0, 1, 2, 3, 4), history_rows=2000,
        tasks=("mrpc", "qnli", "sst2", "mnli"),
        defaults={
            "text": Defaults(
                large="bert-base", small="distilbert-base", train_rows=0, lr=3e-5, epochs=3, dropout=0.1),
            "image": Defaults(large="resnet-56", small="resnet-20", train_rows=0, lr=1e-3, epochs=30),
        },
    ),
}
# fmt: on


def defaults(profile: str, task: str = "") -> Defaults:
    """What a profile trains on a task's examples; on any task of texts for ""."""
    return PROFILES[profile].defaults[modality_of(task)]


def model_of(profile: str, size: str, task: str = "") -> str:
    """The model behind a student or teacher of a task, a name as `source_of` reads it; of any task of texts for "".

    Args:
        profile: a key of PROFILES.
        size: "large", "small", or a name that `source_of` knows.
        task: what it is to read.
    Raises:
        ValueError: it does not read what the task is made of, or there is no such model.
    """
    modality, own = modality_of(task), defaults(profile, task)
    name = {"large": own.large, "small": own.small}.get(size, size)
    reads = source_of(name).modality
    if reads != modality:
        fit = ", ".join(key for key, source in SOURCES.items() if source.modality == modality)
        raise ValueError(
            f"model {name} reads {MODALITIES[reads].examples}, {task or 'the task'} is made of "
            f"{MODALITIES[modality].examples}: expected large, small, {fit}"
        )
    return name


def model_behind(config: Any) -> str:
    """The model that a run's config names, as `source_of` reads it; raises as `model_of`."""
    return model_of(config.profile, config.model or config.student, config.task)
