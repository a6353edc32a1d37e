"""The claim ledger as data: every hypothesis, where it comes from and how it is tested. No numbers stand here.

What the paper's own tables say of a claim is computed in `kdnb.studies.label_smoothing.verdicts` from
`kdnb.studies.label_smoothing.paper`, what our runs say from the run store.
A new claim is a new line; a new kind of test is a new entry of `verdicts.TESTS`.
"""

from dataclasses import dataclass

import numpy as np

from kdnb.catalog import TASKS
from kdnb.experiment.arms import ARMS
from kdnb.studies.label_smoothing import paper

METRICS = {  # column of results.tidy -> (in words, unit); "points" are shares times 100
    "entropy": ("entropy", "nats"),
    "accuracy": ("accuracy", "points"),
    "nll": ("NLL", "nats"),
    "overconfidence": ("confidence minus accuracy", "points"),
    "curve_entropy": ("entropy throughout training", "nats"),
    "train_curve_entropy": ("entropy on train throughout training", "nats"),
}

LARGE_ALPHA = 0.7  # from here on label smoothing counts as large
EVIDENCE = {
    "study": "the arms at the profile's fixed hyper-parameters",
    "temperature": "a grid with tau as an axis",
    "smoothing": f"LS at alpha {LARGE_ALPHA:g} or more",
    "deviations": "KD at alpha 1, tau 1 and 4",
    "switching": "losses switched in mid-training",
    "simulation": "simulations, drawn anew for each seed",
}


@dataclass(frozen=True)
class Part:
    """metric(arm) minus metric(than) is positive (sign +1) or negative (-1); than "" compares with 0."""

    metric: str  # a key of METRICS
    arm: str  # a key of ARMS
    sign: int
    than: str = ""

    @property
    def words(self) -> str:
        """The test in words."""
        name = METRICS[self.metric][0]
        less = f" minus {ARMS[self.than].name}'s" if self.than else ""
        return f"{ARMS[self.arm].name}'s {name}{less} {'>' if self.sign > 0 else '<'} 0"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One hypothesis.

    A claim of several parts holds if all of them hold and fails if one of them fails.
    """

    id: str
    statement: str
    source: str
    parts: tuple[Part, ...] = ()
    test: str = "difference"  # a key of verdicts.TESTS
    evidence: str = "study"  # the runs that decide it: a key of EVIDENCE
    published: str = ""  # where the tables have no number to count: why
    unit: str = "r"  # of the effect, where no part has one
    side: int = 1  # where no part has a sign: +1, -1, or 0 for a claim that there is no effect
    told: str = ""  # the test in words, where no part has any

    @property
    def family(self) -> str:
        """The claims tested together, for Holm's correction: the section, "H3"."""
        return self.id.split(".")[0]

    @property
    def metric(self) -> str:
        """The metrics of its parts."""
        return " and ".join(dict.fromkeys(part.metric for part in self.parts)) or self.test

    @property
    def sign(self) -> int:
        """+1 if a positive effect bears the claim out, -1 if a negative one, 0 if none can."""
        return self.parts[0].sign if len(self.parts) == 1 else self.side

    @property
    def words(self) -> str:
        """The test in words."""
        return self.told or "; ".join(part.words for part in self.parts)


def _claim(id: str, metric: str, arm: str, sign: str, than: str, source: str, statement: str = "", **more) -> Claim:
    """A claim of one part; its statement is built from the part if none is given."""
    part = Part(metric, arm, 1 if sign == ">" else -1, than)
    side = "higher" if part.sign > 0 else "lower"
    told = f"{ARMS[arm].name} has {side} {METRICS[metric][0]} than {ARMS[than].name if than else 'nothing'}"
    return Claim(id=id, statement=statement or told, source=source, parts=(part,), **more)


def _searched(id: str, metric: str, arm: str, sign: str, than: str, source: str) -> Claim:
    """A claim on the models selected on validation from a grid that has tau as an axis (A.3)."""
    told = _claim(id, metric, arm, sign, than, source).statement
    return _claim(id, metric, arm, sign, than, source, f"With tau searched, {told}", evidence="temperature")


NO_NUMBER = "no number"
FIGURE = "figure only"
INHERITED = "correlation of teacher and student entropy over all KD runs > 0"
CHANGED = "the same without self-KD, both minus the ERM student's entropy > 0"
_FIXED = [
    Claim(
        id="H1.1", statement="Teacher-free KD as released is LS, up to a constant and O(confidence / tau)",
        source="Yuan et al. 2020, released code", test="closed form", published=NO_NUMBER, unit="mass over bound",
        side=-1, told="total variation between the targets, minus its bound < 0; no run needed",
    ),
    _claim("H1.2", "entropy", "tfkd_small", ">", "erm_small", "section 4, on teacher-free KD", published=NO_NUMBER),
    _claim("H3.1", "entropy", "ls_small", ">", "erm_small", "Table 2"),
    _claim("H3.2", "entropy", "kd_standard", "<", "erm_small", "Table 2"),
    _claim("H3.3", "entropy", "kd_self", "<", "erm_small", "Table 2"),
    _claim("H3.4", "entropy", "kd_standard", "<", "kd_self", "Table 2"),
    _claim("H3.5a", "accuracy", "kd_standard", ">", "erm_small", "Table 3"),
    _claim("H3.5b", "accuracy", "kd_self", ">", "erm_small", "Table 3"),
    _claim("H3.5c", "accuracy", "ls_small", "<", "erm_small", "Table 3"),
    _claim("H3.5d", "accuracy", "kd_standard", ">", "ls_small", "Table 3"),
    _claim("H3.5e", "accuracy", "kd_self", ">", "ls_small", "Table 3"),
    _claim("H3.5f", "accuracy", "kd_self", ">", "kd_standard", "Table 3"),
    _claim("H3.6a", "curve_entropy", "kd_standard", "<", "erm_small", "Figure 1", published=FIGURE),
    _claim("H3.6b", "curve_entropy", "kd_self", "<", "erm_small", "Figure 1", published=FIGURE),
    _claim("H3.6c", "curve_entropy", "kd_standard", "<", "ls_small", "Figure 1", published=FIGURE),
    _claim("H3.6d", "curve_entropy", "kd_self", "<", "ls_small", "Figure 1", published=FIGURE),
    _claim("H3.6e", "train_curve_entropy", "kd_standard", "<", "erm_small", "Figure 1", published=FIGURE),
    _claim("H3.6f", "train_curve_entropy", "kd_self", "<", "erm_small", "Figure 1", published=FIGURE),
    Claim(
        id="H3.7", statement="A student's entropy follows its teacher's (correlation over all KD runs)",
        source="Tables 2 and 4, derived", test="inheritance", told=INHERITED,
    ),
    Claim(
        id="H3.7b", statement="A student's change of entropy follows its teacher's, self-KD left out",
        source="Tables 2 and 4, derived", test="inherited change", told=CHANGED,
    ),
    _claim("H4.1", "entropy", "ls_large", ">", "erm_large", "Table 4"),
    _claim("H4.2", "entropy", "kd_reverse", ">", "erm_large", "Table 4"),
    _claim("H4.3", "entropy", "kd_reverse", "<", "ls_large", "Table 4"),
    _claim("H4.4", "entropy", "erm_large", "<", "erm_small", "Tables 2 and 4"),
    _claim("H4.5a", "accuracy", "kd_reverse", ">", "erm_small", "Tables 3 and 5", "Reverse KD beats its own teacher"),
    _claim("H4.5b", "accuracy", "kd_reverse", ">", "erm_large", "Table 5"),
    Claim(
        id="H4.6", statement="Reverse KD's entropy lies between the ERM student's and the teacher's",
        source="Tables 2 and 4",
        parts=(Part("entropy", "kd_reverse", 1, "erm_large"), Part("entropy", "kd_reverse", -1, "erm_small")),
    ),
]  # fmt: skip
_TEMPERATURE = [
    _searched("H5.1a", "entropy", "kd_standard", "<", "erm_small", "Table 8"),
    _searched("H5.1b", "entropy", "kd_self", "<", "erm_small", "Table 8"),
    _searched("H5.2", "entropy", "kd_standard", "<", "kd_self", "Table 8"),
    _searched("H5.3a", "entropy", "kd_reverse", ">", "erm_large", "Table 10"),
    _searched("H5.3b", "entropy", "ls_large", ">", "kd_reverse", "Table 10"),
    _searched("H5.4a", "accuracy", "kd_standard", ">", "erm_small", "Table 9"),
    _searched("H5.4b", "accuracy", "kd_standard", ">", "ls_small", "Table 9"),
    _searched("H5.4c", "accuracy", "kd_self", ">", "ls_small", "Table 9"),
    _searched("H5.4d", "accuracy", "kd_reverse", ">", "erm_large", "Table 11"),
    _searched("H5.4e", "accuracy", "kd_reverse", ">", "ls_large", "Table 11"),
    Claim(
        id="H5.5", statement="At fixed alpha, Standard KD's entropy at tau 1 falls as the tau of training rises",
        source="Zheng & Yang 2024, App. A.1", test="trend", evidence="temperature", published=NO_NUMBER, side=-1,
        unit="nats per e-fold", told="slope of entropy in ln tau, mean over alpha < 0",
    ),
    Claim(
        id="H5.6", statement="With tau searched, a student's entropy follows its teacher's",
        source="Tables 8 and 10, derived", test="inheritance", told=INHERITED, evidence="temperature",
    ),
    Claim(
        id="H5.6b", source="Tables 8 and 10, derived", test="inherited change", told=CHANGED, evidence="temperature",
        statement="With tau searched, a student's change of entropy follows its teacher's, self-KD left out",
    ),
]  # fmt: skip
_CALIBRATION = [
    _claim(
        "H15.1a", "overconfidence", "ls_small", "<", "", "Tables 3 and 7, derived",
        "LS small is under-confident: mean confidence below accuracy",
    ),
    _claim(
        "H15.1b", "overconfidence", "ls_small", "<", "", "Tables 3 and 7, derived",
        "LS at a large alpha is under-confident: mean confidence below accuracy", evidence="smoothing",
    ),
    Claim(
        id="H15.2a", statement="Standard KD lowers entropy without raising NLL", source="not in the paper",
        published=NO_NUMBER,
        parts=(Part("entropy", "kd_standard", -1, "erm_small"), Part("nll", "kd_standard", -1, "erm_small")),
    ),
    Claim(
        id="H15.2b", statement="Self-KD lowers entropy without raising NLL", source="not in the paper",
        published=NO_NUMBER,
        parts=(Part("entropy", "kd_self", -1, "erm_small"), Part("nll", "kd_self", -1, "erm_small")),
    ),
]  # fmt: skip
CLAIMS = {claim.id: claim for claim in [*_FIXED, *_TEMPERATURE, *_CALIBRATION]}


GLUE = ("mrpc", "qnli", "sst2", "mnli")
TABLES = {  # by a claim's evidence: (student, metric) -> the printed table it is counted in
    "study": paper.RESULT_TABLES,
    "smoothing": paper.RESULT_TABLES,
    "temperature": {
        ("small", "entropy"): 8, ("small", "accuracy"): 9, ("large", "entropy"): 10, ("large", "accuracy"): 11,
    },
}  # fmt: skip


def published_count(claim: Claim, tasks: tuple[str, ...] = GLUE) -> str:
    """On how many of the paper's tasks its own tables bear the claim out, "3/4"; or why there is no count.

    Claims of inheritance have a correlation over the printed KD cells instead, "r = 0.915 (n = 12)".
    """
    if claim.published:
        return claim.published
    if not claim.parts:
        cells = paper.teacher_student_entropies((8, 10) if claim.evidence == "temperature" else (2, 4))
        x, y, slope = cells.teacher_entropy, cells.student_entropy, ""
        if claim.test == "inherited change":
            cells = cells[cells.row != "Self-KD"]
            x, y = cells.teacher_entropy - cells.erm_entropy, cells.student_entropy - cells.erm_entropy
            slope = f", slope {np.polyfit(x, y, 1)[0]:.2f}"
        return f"r = {np.corrcoef(x, y)[0, 1]:.3f}{slope} (n = {len(x)})"
    if claim.evidence == "smoothing":
        tasks = [task for task in tasks if _alpha(claim.parts[0].arm, task) >= LARGE_ALPHA]
    true = sum(all(part.sign * _printed(part, claim.evidence, task) > 0 for part in claim.parts) for task in tasks)
    return f"{true}/{len(tasks)}"


def smoothed_confidence(alpha: float, num_classes: int) -> float:
    """Confidence at the optimum of LS where the label is certain: 1 - alpha + alpha / K."""
    return 1 - alpha + alpha / num_classes


def _printed(part: Part, evidence: str, task: str) -> float:
    """metric(arm) - metric(than) as printed; for overconfidence the optimum's confidence minus printed accuracy."""
    tables = TABLES[evidence]

    def value(arm: str, metric: str) -> float:
        return paper.value(tables[(ARMS[arm].student, metric)], ARMS[arm].paper_row, task)

    if part.metric == "overconfidence":
        confidence = smoothed_confidence(_alpha(part.arm, task), TASKS[task].num_classes)
        return confidence - value(part.arm, "accuracy") / 100
    return value(part.arm, part.metric) - value(part.than, part.metric)


def _alpha(arm: str, task: str) -> float:
    """The alpha of Table 7."""
    return paper.optima(7)[ARMS[arm].student][ARMS[arm].paper_row][task]["alpha"]
