"""The tasks: what each asks, its labels, its texts, its official sizes. Data only."""

import difflib
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Task:
    """One classification task. Sizes are (train, validation, test); GLUE's are those of Table 6."""

    name: str
    title: str
    question: str
    labels: tuple[str, ...]  # in label order 0..K-1
    source: str  # "glue", "embedded" or "own"
    pair: bool = False  # two texts per example
    stands_in_for: str = ""  # the GLUE task of the same shape
    glue_folder: str = ""  # GLUE's own folder name
    hub_name: str = ""  # config of nyu-mll/glue
    columns: tuple[str, ...] = ()  # text columns on the hub and in GLUE's files, where they agree
    sizes: tuple[int, ...] = field(default=())

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.labels)

    @property
    def caption(self) -> str:
        """What every figure says of the task."""
        return f"{self.title} (stand-in for {self.stands_in_for})" if self.stands_in_for else self.title


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
    Task(
        name="section", title="BBC section", question="Which section does the headline come from?", source="embedded",
        labels=("business", "entertainment", "politics", "sport", "tech"),
    ),
]  # fmt: skip
TASKS = {task.name: task for task in _EMBEDDED + _GLUE}


def nearest(name: str, known) -> str:
    """The end of an error message: the known name closest to a wrong one, then all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    told = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    return (f"; did you mean {close[0]!r}?" if close else "") + f" (known: {told or 'none'})"


def task_named(name: str) -> Task:
    """The task of a name; ValueError with the nearest name otherwise."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}{nearest(name, TASKS)}")
    return TASKS[name]
