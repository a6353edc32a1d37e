"""The tasks: what each asks, its labels, its texts, its official sizes. Data only."""

import difflib
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, kw_only=True)
class Task:
    """One classification task. Sizes are (train, validation, test); GLUE's first four are those of Table 6."""

    name: str
    title: str
    question: str
    labels: tuple[str, ...]  # in label order 0..K-1
    source: str  # "glue", "embedded", "hub" (other texts from there), "image" or "own"
    pair: bool = False  # two texts per example
    stands_in_for: str = ""  # the GLUE task of the same shape
    glue_folder: str = ""  # GLUE's own folder name
    hub_name: str = ""  # config of nyu-mll/glue
    columns: tuple[str, ...] = ()  # text columns on the hub and in GLUE's files, where they agree
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
        told = f"{self.title} (stand-in for {self.stands_in_for})" if self.stands_in_for else self.title
        return f"{told}, {100 * self.label_noise:g} % of the train labels drawn anew" if self.label_noise else told


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
        labels=("World", "Sports", "Business", "Sci/Tech"), columns=("text",), sizes=(115000, 5000, 7600),
    ),
]  # fmt: skip
_DIGITS, _DIGIT = tuple("0123456789"), "Which digit is it?"
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
_IMAGES = [  # the first two need no hub; where they come from is in kdnb.images
    Task(
        name="digits", title="Digits", question=_DIGIT, source="image", labels=_DIGITS, shape=(1, 8, 8),
        sizes=(1000, 200, 597),
    ),
    Task(
        name="mnist5k", title="MNIST, 5,000 images", question=_DIGIT, source="image", labels=_DIGITS,
        shape=(1, 28, 28), sizes=(3500, 500, 1000),
    ),
    Task(
        name="mnist", title="MNIST", question=_DIGIT, source="image", labels=_DIGITS, shape=(1, 28, 28),
        sizes=(55000, 5000, 10000),
    ),
    Task(
        name="cifar10", title="CIFAR-10", question="What is in the picture?", source="image", labels=_CIFAR10,
        shape=(3, 32, 32), sizes=(45000, 5000, 10000),
    ),
    Task(
        name="cifar100", title="CIFAR-100", question="What is in the picture?", source="image",
        labels=tuple(_CIFAR100.split()), shape=(3, 32, 32), sizes=(45000, 5000, 10000),
    ),
    Task(
        name="tinyimagenet", title="Tiny ImageNet", question="What is in the picture?", source="image",
        labels=tuple(map(str, range(200))), shape=(3, 64, 64), sizes=(90000, 10000, 10000),
    ),
]  # fmt: skip
TASKS = {task.name: task for task in _EMBEDDED + _GLUE + _HUB + _IMAGES}


def nearest(name: str, known) -> str:
    """The end of an error message: the known name closest to a wrong one, then all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    told = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    return (f"; did you mean {close[0]!r}?" if close else "") + f" (known: {told or 'none'})"


def task_named(name: str) -> Task:
    """The task of a name, or, for "digits@0.2", that task with 20 % of its train labels drawn anew from all classes.

    Raises ValueError, with the nearest name, if there is none, and for a share that is not in (0, 1].
    """
    base, at, share = name.partition("@")
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


def check_name(name: str) -> None:
    """Raise ValueError, as `task_named` does, for a name that is no task's; "own:..." is the user's own."""
    if not name.startswith("own:"):
        task_named(name)


def is_image(name: str) -> bool:
    """Whether a task's examples are images; False for the user's own, which are texts."""
    base = name.partition("@")[0]
    return base in TASKS and bool(TASKS[base].shape)
