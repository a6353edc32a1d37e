"""Exercises and predictions: each untouched, with wrong answers and with its solution, and in its notebook."""

import ast
import importlib
import json
import pkgutil
import re
from collections import namedtuple
from functools import cache

import numpy as np
import pandas as pd
import pytest

from kdnb import paths
from kdnb.report import answers
from kdnb.report.exercises import (
    AS_GUESSED,
    NO_GUESS,
    NOT_TRIED,
    NOT_YET,
    OTHERWISE,
    RIGHT,
    UNDECIDED,
    exercise,
    guess,
    reveal,
    untried,
)

Case = namedtuple("Case", "right wrong facts", defaults=({},))
NINE = np.corrcoef(  # teachers and students of Tables 2 and 4 without MNLI, as printed
    [0.0678, 0.1218, 0.0124, 0.1123, 0.1419, 0.1101, 0.1123, 0.1419, 0.1101],
    [0.0548, 0.1210, 0.0594, 0.0738, 0.1341, 0.0977, 0.0954, 0.0834, 0.0954],
)[0, 1]
KEPT = {"mean entropy": True, "entropy of each example": False, "share that names the label": True}
TRENDS = {"nll": (0.01, 0.02), "ece": (0.01, 0.005)}
POSTERIOR = [0.6, 0.25, 0.1, 0.05]
WORDS = ("exaggeration", "less sure of everything", "nothing beyond the control")
SCORES = np.array([[0, 1, 0], [0, 2, 0], [0, 3, 0], [0, 1, 0], [0, 2.5, 0], [0, 0, 5], [0, 0, 6.0]])
SPLITS = {"train": 0.1, "validation": 0.2, "test": 0.3}
CASES = {
    "00.1": Case("train", ("test", "trian"), {"entropies": SPLITS}),
    "00.2": Case((0.6897, 0.6931), ((1.4355, 0.6931), (0.6897, 1.0))),
    "00.3": Case(["LS", "Standard KD"], (["LS"], ["LS", "Standard KD", "Self-KD"])),
    "10.1": Case(0.15, (0.1, 0.2)),
    "10.2": Case((0.96, 0.03, 0.01), ((1 / 3, 1 / 3, 1 / 3), (0.98, 0.02, 0.0))),
    "10.3": Case(0.66, (0.9, 0.7)),
    "11.1": Case(0.1, (0.9, 0.5)),
    "11.2": Case((0.7, 4.8), ((0.7, 0.3), (1.0, 4.8)), {"alpha": 0.3, "tau": 4.0}),
    "11.3": Case((2.155, "yes"), ((20.0, "yes"), (2.155, "no"))),
    "12.1": Case(
        ([0.47, 0.52, 0.01], [0.85, 0.075, 0.075]),
        (([0.6, 0.3, 0.1], [0.4, 0.3, 0.3]), ([0.49, 0.49, 0.02], [0.8, 0.1, 0.1])),
    ),
    "12.2": Case(4, (2, 8)),
    "12.3": Case("rises, then falls", ("rises", "falls")),
    "20.1": Case(7, (6, 8)),
    "20.2": Case(["seed", "data", "lr", "alpha"], (["alpha"], ["alpha", "lr", "data", "seed", "machine"])),
    "21.1": Case(
        (1, "falls"),
        ((0, "stays"), (1, "rises")),
        {"choices": {"accuracy": ["a", "b"], "nll": ["a", "c"]}, "entropy": {"a": 0.3, "b": 0.5, "c": 0.4}},
    ),
    "21.2": Case(6.1, (0.0, 3.0), {"examples": 408}),  # about 3.1 standard errors of 1.98 points
    "21.3": Case(5.5, (10, 3290)),
    "30.1": Case(
        ["ls_small"], (["kd_self"], ["ls_small", "kd_self"]), {"gaps": {"ls_small": (0.1, 0.02), "kd_self": (0.0, 0.1)}}
    ),
    "31.1": Case("yes", ("no", 1), {"gaps": {"Standard KD": -0.5, "own seed": -0.4, "another seed": -0.2}}),
    "31.2": Case((0.1, "rises"), ((0.9, "rises"), (0.1, "falls")), {"errs": 0.1, "by_label": 0.2, "by_class": -0.3}),
    "32.1": Case(8, (4, 64), {"errors": {2: 0.6, 4: 0.2, 8: 0.06, 64: 0.001}}),
    "32.2": Case(0.9412, (0.5, 0.8)),
    "32.3": Case(("undecided", "rises"), (("falls", "rises"), ("undecided", "falls")), {"trends": TRENDS}),
    "33.1": Case("b", ("a", "z"), {"splits": {"a": (5, 5), "b": (3, 5)}}),
    "33.2": Case(
        ("stays", "narrower"), (("changes", "narrower"), ("stays", "not narrower")), {"halves": [0.1, 0.3, 0.2]}
    ),
    "33.3": Case(2, (4, 16)),
    "34.1": Case(1, (15, 200)),
    "34.2": Case(0.394, (0.9, 0.197)),
    "34.3": Case(0.002, (0.0, 0.01), {"after": {"validation": 0.502, "test": 0.5}.get}),
    "35.1": Case(0.4, (0.8, 0.1)),
    "35.2": Case(NINE, (0.915, 0.62)),
    "35.3": Case((3, 1), ((1, 1), (3, 2)), {"ties": 3, "unequal": 1}),
    "40.1": Case("train", ("test", "both"), {"gaps": {"train": -0.2, "test": 0.1}}),
    "40.2": Case((0.65, 0.89), ((0.9, 0.89), (0.65, 0.915))),  # of the printed tables, by hand
    "40.3": Case(("stronger", "no"), (("weaker", "no"), ("stronger", "yes"))),
    "41.1": Case("yes", ("no", 1.0), {"slopes": {"train": 0.9, "test": 0.5}}),
    "41.2": Case((0.5, 0.0), ((0.0, 0.0), (0.5, 0.5))),
    "41.3": Case(
        (2, "the teacher's"), ((1, "the teacher's"), (2, "log K")), {"ends": [(0.1, 0.2), (0.3, 0.2), (0.1, 0.4)]}
    ),
    "42.1": Case([0.2, 0.3, 0.5], ([0.5, 0.3, 0.2], [0.3, 0.2, 0.5])),
    "42.2": Case((1, 1), ((0.5, 0.5), (1, 0)), {"softness": [0.1, 0.2], "labels": [-0.3, -0.1], "total": [-0.2, 0.1]}),
    "42.3": Case(-0.21, (0.0, -0.3), {"floor": -0.2101}),
    "43.1": Case(0.18, (0.9, 0.09)),
    "43.2": Case(KEPT, (dict(KEPT, **{"mean entropy": False}), dict(KEPT, **{"entropy of each example": True}))),
    "43.3": Case("class means", ("shuffled", "equal"), {"gap": 0.1}),
    "50.1": Case("to the diagonal", ("further below it", "away")),
    "50.2": Case("the start", ("the order", "both"), {"alike": {"own": 0.6, "shared": 0.95}}),
    "50.3": Case("no", ("yes", "perhaps"), {"verdict_at": lambda share: "beyond" if share < 0.4 else "within"}),
    "51.1": Case(0.5, (0.25, 0.75)),
    "51.2": Case(17, (16, 4), {"scatter": 2.0}),
    "51.3": Case("yes", ("no", 3), {"brought": {1: -2.0, 3: -0.5}.get}),
    "52.1": Case(
        lambda k, t: (1 - np.exp(-k * t)) * (1 - np.exp(-k * 3.0)) * (1 - np.exp(-k * 2.0)),
        (lambda k, t: (1 - np.exp(-k * t)) * (1 - np.exp(-k * 3.0)), lambda k, t: t),
        {"first_time": 3.0, "second_time": 2.0},
    ),
    "52.2": Case((1, 1.6), ((4, 1.6), (1, -0.6))),
    "52.3": Case("yes", ("no", 0.9), {"below": {"student": 0.9, "control": 0.4}}),
    "53.1": Case(("no", 0.5), (("yes", 0.5), ("no", -0.5))),
    "53.2": Case(2, (5, 0), {"leads": {2: 3.0, 5: 1.0, 0: -1.0}}),
    "53.3": Case(4, (1, 16), {"shares": {1: 0.0, 2: 0.4, 4: 0.6, 8: 0.9, 16: 1.0}}),
    "54.1": Case(("smaller", "no"), (("larger", "no"), ("smaller", "yes")), {"dose": 0.3, "lead": (-1.0, 0.5)}),
    "54.2": Case("undecided", ("yes", "no"), {"lead": (0.5, 0.6)}),
    "54.3": Case("no", ("yes", "undecided"), {"gain_at": {0.0: (-0.5, 0.2), 0.4: (2.0, 0.5)}.get}),
    "55.1": Case(0, (-0.5, 1)),
    "55.2": Case(1, (4, 2), {"depth": {1.0: -0.5, 4.0: -0.2}}),
    "55.3": Case(WORDS, ((WORDS[0], WORDS[0], WORDS[2]), (WORDS[1], WORDS[0], WORDS[2]))),
    "60.1": Case(100 / 101, (0.5, 50 / 101)),
    "60.2": Case(16, (8, 32), {"error": lambda tau: 0.6 / tau}),
    "60.3": Case(4, (2, 3), {"overall": pd.Series({1.0: 0.5, 2.0: 0.4, 4.0: 0.3})}),
    "61.1": Case(2.0, (0.0, 3.0), {"mean_at": lambda bias: 0.05 * bias}),
    "61.2": Case(0.5, (0.95, 0.0), {"logits": SCORES, "labels": np.array([0, 0, 0, 1, 1, 2, 2]), "digit": 0}),
    "61.3": Case(
        lambda bias, mean, prior: bias + np.log(prior / mean),
        (lambda bias, mean, prior: bias, lambda bias, mean, prior: prior),
        {"logits": 3 * np.eye(4) + np.array([1.0, 0.0, -1.0, 0.0]), "exact": np.array([-1.0, 0.0, 1.0, 0.0])},
    ),
    "62.1": Case(6, (5, 7)),
    "62.2": Case([0.6, 0.05, 0.25, 0.1], (POSTERIOR, [0.25, 0.6, 0.1, 0.05]), {"posterior": POSTERIOR}),
    "62.3": Case(0.1, (0.5, 0.05)),
    "63.1": Case([5, 9, 14, 18], ([4, 9, 13, 18], [5, 9, 14])),
    "63.2": Case(6.667, (5.0, 0.25)),
    "63.3": Case([[0, 3], [3, 0]], ([[2, 0], [0, 2]], [[2, 0], [0, 1]])),
    "64.1": Case(8.6859, (20.0, 46.05)),
    "64.2": Case(("last", 1.25), (("best", 1.25), ("last", 0.0)), {"leak": 1.23}),
    "64.3": Case(lambda a, k: (a - 1 / k) / (1 - 1 / k), (lambda a, k: a, lambda a, k: a - 1 / k)),
    "70.1": Case((0, 0.673), ((0.673, 0.673), (0, 0.971))),
    "70.2": Case(("interp_jsd", 0), (("gjsd", 0), ("interp_jsd", 0.5))),
    "70.3": Case(50, (99, 2)),
    "71.1": Case((0.714, 0.598), ((0.5, 0.598), (0.714, 1.333))),
    "71.2": Case(227, (224, 448)),
    "71.3": Case(
        lambda law, draws, keep, times, rng: tidied(law, draws, keep, times, rng),
        (lambda *given: 0.5, lambda law, draws, keep, times, rng: tidied(law, draws, 1, times, rng)),
    ),
    "72.1": Case(lambda p, q: np.maximum(0, p - q) / np.maximum(0, p - q).sum(), (lambda p, q: p, lambda p, q: q)),
    "72.2": Case(4, (0, 3)),
    "72.3": Case(
        lambda draft: [np.eye(2)[law.argmax(-1)] for law in draft],
        (lambda draft: draft, lambda draft: [np.full_like(law, 0.5) for law in draft]),
        {"target": [np.array([0.7, 0.3]), np.full((2, 2), 0.5)], "draft": [np.array([0.6, 0.4])]},
    ),
    "73.1": Case(44, (43, 10)),
    "73.2": Case(
        lambda told, asked: (np.eye(4)[told], np.eye(4)[asked]),
        (
            lambda told, asked: (np.ones((4, 1)), np.ones((4, 1))),
            lambda told, asked: (np.eye(4)[asked], np.eye(4)[told]),
        ),
        {"told": np.array([2, 0, 3, 1]), "asked": np.array([1, 3, 2, 0])},
    ),
    "73.3": Case(
        lambda errors: 1 if errors[0] > errors[1] else 2,
        (lambda errors: 1, lambda errors: 2),
        {"blocks": {0: np.array([0.4, 0.1]), 1: np.array([0.3, 0.2])}},
    ),
    "74.1": Case(3.0, (11 / 3, 9.0), {"teacher": 6e9, "student": 1e9}),
    "74.2": Case(82, (83, 64)),
    "74.3": Case(
        lambda t, s, d, e, n, speed: (2 * t * d + 6 * s * d * e * n) / speed / 3600,
        (lambda t, s, d, e, n, speed: (2 * t * d + 6 * s * d) / speed / 3600, lambda *given: 0.0),
    ),
}
FUNCTIONS = {
    "52.1",
    "61.3",
    "64.3",
    "71.3",
    "72.1",
    "72.3",
    "73.2",
    "73.3",
    "74.3",
}  # answered by a function: the notebook's returns None


def tidied(law, draws, keep, times, rng):
    """Mean target of the first word by simulation: draw, keep the most frequent, divide by their sum."""
    counts = rng.multinomial(draws, law, size=times) + 1e-6 * rng.random((times, len(law)))  # ties at random
    least = np.sort(counts, axis=1)[:, -keep]
    kept = np.where(counts >= least[:, None], counts, 0.0)
    return (kept[:, 0] / kept.sum(axis=1)).mean()


def known():
    """Every exercise that has an answer, by name."""
    modules = [
        importlib.import_module(f"{answers.__name__}.{one.name}") for one in pkgutil.iter_modules(answers.__path__)
    ]
    return {name: one for module in modules for name, one in module.EXERCISES.items()}


def test_every_exercise_is_tried_here():
    assert set(CASES) == set(known())


@pytest.mark.parametrize("name", CASES)
def test_an_exercise_goes_through_its_three_states(name):
    right, wrong, facts = CASES[name]
    untouched = (lambda *_: None) if name in FUNCTIONS else None
    assert exercise(name, untouched, **facts).state == NOT_TRIED
    assert len(wrong) == 2
    for answer in wrong:
        said = exercise(name, answer, **facts)
        assert said.state == NOT_YET
        assert said.text
        assert "could not be read" not in said.text, said
        assert said.hint in repr(said)
    said = exercise(name, right, **facts)
    assert said.state == RIGHT, said
    assert len(said.text) > 20, "a reason"


@pytest.mark.parametrize("answer", ["seven", object(), float("nan"), [1, 2, 3, 4, 5], {"a": 1}, ValueError, b"7"])
@pytest.mark.parametrize("name", CASES)
def test_no_answer_raises(name, answer):
    assert exercise(name, answer, **CASES[name].facts).state == NOT_YET
    assert exercise(name, answer).state == NOT_YET  # facts forgotten


@pytest.mark.parametrize("name", ["99.1", "11.9", "", "11", "__init__"])
def test_an_unknown_exercise_says_so(name):
    assert "could not be read" in exercise(name, 1).text


@pytest.mark.parametrize("empty", [None, "", " ? ", (), [], (None, ""), {"a": None, "b": "?"}])
def test_what_is_empty_is_untried(empty):
    assert untried(empty)
    assert exercise("20.1", empty).state == NOT_TRIED


@pytest.mark.parametrize("given", [0, 0.0, False, (0, None), "no", np.zeros(2)])
def test_a_zero_is_an_answer(given):
    assert not untried(given)


def test_half_an_answer_is_asked_for_the_other_half():
    assert exercise("53.1", ("no", None)).text == "1 of 2 parts are still open."


def test_hints_are_folded_away_and_escaped():
    said = exercise("11.1", "<b>")
    page = said._repr_html_()
    assert "<details><summary>a hint</summary>" in page
    assert "<b>" not in page
    assert "<details>" not in exercise("11.1", 0.1)._repr_html_()
    assert exercise("11.1", None).hint not in repr(exercise("11.1", None))


def test_guesses_are_revealed_beside_what_came_out():
    mine = guess({"1 sign": "Lower", "2 size": 0.52, "3 order": ["a", "b"], "4 open": "", "5 runs": "up"})
    assert reveal(mine, "1", "lower").state == AS_GUESSED
    assert reveal(mine, "2 size", 0.5, "nats, n = 5").state == AS_GUESSED  # within a tenth
    assert reveal(mine, "2 size", 0.5, within=0.01).state == OTHERWISE
    assert reveal(mine, "3", ["b", "a"]).state == OTHERWISE
    assert reveal(mine, "4", "yes").state == NO_GUESS
    assert reveal(mine, "5", "undecided").state == UNDECIDED
    assert "0.5 (nats, n = 5)" in reveal(mine, "2", 0.5, "nats, n = 5").text
    assert reveal(mine).text == "2 of 5 came out so, 1 had no guess, 1 are not decided."


@pytest.mark.parametrize(("value", "answer"), [("many", 3), (object(), 3), ([1], 2.0), (np.ones(2), "x"), (3, None)])
def test_no_guess_raises(value, answer):
    said = reveal(guess({"1 all": value}), "1", answer)
    assert said.state in (OTHERWISE, UNDECIDED)
    assert said._repr_html_()
    assert reveal(guess({}), "never asked", 1).state == NO_GUESS
    assert reveal({"1 all": 3}, "1", 3).state == AS_GUESSED  # no guess() around it
    assert reveal(None, "1", float("nan")).state == UNDECIDED


# In the notebooks


@cache
def cells_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def sources(path, tag=""):
    """The code of a notebook's cells, of its solutions or of all others."""
    code = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
    return ["".join(c["source"]) for c in code if ("solution" in c["metadata"].get("tags", [])) == (tag != "")]


def calls(source, function):
    """The calls of a function in a cell."""
    nodes = ast.walk(ast.parse(source)) if f"{function}(" in source else ()
    return [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") == function]


def asked(path, tag=""):
    """Name of each exercise, its cell, and how it is called."""
    return {call.args[0].value: (cell, call) for cell in sources(path, tag) for call in calls(cell, "exercise")}


NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
CONVERTED = [path for path in NOTEBOOKS if asked(path)]
each = pytest.mark.parametrize("path", CONVERTED, ids=lambda path: path.stem)


def test_a_new_notebook_has_exercises_that_answer():
    assert CONVERTED == NOTEBOOKS, "cells end in exercise(...)"


@each
def test_every_answer_is_asked_for_in_its_notebook(path):
    assert set(asked(path)) == {name for name in CASES if name.startswith(path.stem[:2] + ".")}


@each
def test_an_exercise_s_cell_ends_in_its_answer_untouched(path):
    for name, (cell, call) in asked(path).items():
        assert name.startswith(path.stem[:2] + ".")
        body = ast.parse(cell).body
        assert ast.dump(body[-1].value) == ast.dump(call), f"{name}: the cell's last line"
        assert {keyword.arg for keyword in call.keywords} == set(CASES[name].facts)
        mine = call.args[1].id
        assert mine.startswith("my_")
        if name in FUNCTIONS:
            (function,) = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == mine)
            assert ast.literal_eval(function.body[-1].value) is None
            continue
        values = {}
        for node in (node for node in body if isinstance(node, ast.Assign)):
            ends = [node.targets[0]] if not isinstance(node.targets[0], ast.Tuple) else node.targets[0].elts
            parts = [node.value] if len(ends) == 1 else node.value.elts if isinstance(node.value, ast.Tuple) else []
            values |= dict(zip((getattr(end, "id", "") for end in ends), parts, strict=bool(parts)))
        assert untried(ast.literal_eval(values[mine])), f"{name}: {mine} is answered already"


@each
def test_a_solution_goes_through_the_same_check(path):
    assert set(asked(path, "solution")) == set(asked(path))


@each
def test_every_prediction_is_revealed(path):
    cells = sources(path)
    (asking,) = (call for cell in cells for call in calls(cell, "guess"))
    questions = [key.value for key in asking.args[0].keys]
    assert all(untried(ast.literal_eval(value)) for value in asking.args[0].values)
    later = "\n".join(cell for cell in cells if calls(cell, "reveal"))
    assert calls(later, "reveal")[0].args, "something is revealed"
    assert "reveal(my_guess)" in later, "the tally"
    assert len(set(questions)) == len(questions)


@each
def test_solutions_are_folded_with_their_output(path):
    """Texts by themselves: JupyterLab's Run All opens a text that is hidden by its metadata."""
    for cell in cells_of(path):
        if "solution" not in cell["metadata"].get("tags", []):
            continue
        if cell["cell_type"] == "code":
            assert cell["metadata"]["jupyter"] == {"source_hidden": True, "outputs_hidden": True}
        else:
            seen = re.sub(r"<details>.*?</details>", "", "".join(cell["source"]), flags=re.DOTALL)
            assert "jupyter" not in cell["metadata"]
            assert not re.search(r"\d|\$", seen), "an answer"
