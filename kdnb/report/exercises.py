"""Exercises and predictions that answer: not tried, not yet with a hint, right with the reason; nothing here raises."""

from __future__ import annotations

import html
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

NOT_TRIED, NOT_YET, RIGHT = "not tried yet", "not yet", "right"
AS_GUESSED, OTHERWISE, UNDECIDED, NO_GUESS = "as you guessed", "otherwise", "undecided", "no guess yet"
_SIGNS = {
    NOT_TRIED: "○",
    NOT_YET: "◐",
    RIGHT: "●",
    NO_GUESS: "○",
    OTHERWISE: "◐",
    AS_GUESSED: "●",
    UNDECIDED: "◌",
}
Amiss = Callable[..., str]


class Untried(Exception):
    """An answer that is a function, and still the notebook's own: it returns None."""


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """How one exercise is judged.

    Attributes:
        amiss: called with the answer and the facts that the cell hands over; what is wrong, in a sentence that
            helps, "" if nothing is.
        hint: what may be unfolded before and after the first try.
        reason: why the right answer is right; a function of the facts where the page's runs decide.
    """

    amiss: Amiss
    hint: str
    reason: str | Callable[..., str]


@dataclass(frozen=True)
class Feedback:
    """What is said to an answer: text in a terminal, HTML with a folded hint in a notebook.

    Attributes:
        title: which exercise or prediction.
        state: one of the module's states.
        text: a sentence.
        hint: what is folded away, "" for nothing.
    """

    title: str
    state: str
    text: str = ""
    hint: str = ""

    def __repr__(self) -> str:
        told = f"{self.title}: {self.state}" + (f". {self.text}" if self.text else "")
        return told + (f"\n  hint: {self.hint}" if self.hint and self.state == NOT_YET else "")

    def _repr_html_(self) -> str:
        folded = f"<details><summary>a hint</summary>{html.escape(self.hint)}</details>" if self.hint else ""
        told = f" {html.escape(self.text)}" if self.text else ""
        head = f"{_SIGNS[self.state]} <strong>{html.escape(self.title)}: {self.state}.</strong>"
        return f"<div>{head}{told}{folded}</div>"


def exercise(name: str, answer: Any, **facts: Any) -> Feedback:
    """What is said to an answer; the last line of an exercise's cell.

    Args:
        name: notebook and number, such as "11.2".
        answer: the reader's; None, "", "?" and what holds nothing else are untried.
        **facts: what the page has computed and the answer hangs on, such as alpha or a table of runs.
    Returns:
        not tried yet, not yet (what is amiss, and a hint) or right (the reason). An answer that cannot be read, an
        unknown name or facts that are missing give "not yet" and say so.
    """
    title, hint = f"Exercise {name}", ""
    try:
        module = importlib.import_module(f"kdnb.report.answers.n{name.partition('.')[0]}")
        judged: Exercise = module.EXERCISES[name]
        hint = judged.hint
        if untried(answer):
            return Feedback(title, NOT_TRIED, hint=hint)
        amiss = _open_parts(answer) or judged.amiss(answer, **facts)
        if amiss:
            return Feedback(title, NOT_YET, amiss, hint)
        return Feedback(title, RIGHT, judged.reason(**facts) if callable(judged.reason) else judged.reason)
    except Untried:
        return Feedback(title, NOT_TRIED, hint=hint)
    except Exception as error:
        return Feedback(title, NOT_YET, f"This answer could not be read ({type(error).__name__}: {error}).", hint)


def untried(answer: Any) -> bool:
    """Whether an answer is still empty: None, "", "?", or a container of nothing else."""
    if isinstance(answer, str):
        return answer.strip() in ("", "?")
    if isinstance(answer, Mapping):
        return all(untried(part) for part in answer.values())
    if isinstance(answer, list | tuple):
        return all(untried(part) for part in answer)
    return answer is None


def _open_parts(answer: Any) -> str:
    parts = list(answer.values() if isinstance(answer, Mapping) else answer if isinstance(answer, list | tuple) else ())
    left = sum(untried(part) for part in parts)
    return f"{left} of {len(parts)} parts are still open." if left else ""


def called(function: Callable, *arguments: Any) -> Any:
    """What a reader's function returns.

    Args:
        function: the reader's.
        *arguments: what it is given.
    Raises:
        Untried: it returns None, as the notebook leaves it.
    """
    value = function(*arguments)
    if value is None:
        raise Untried
    return value


def _of(wanted: Any, facts: Mapping[str, Any]) -> Any:
    return wanted(**facts) if callable(wanted) else wanted


def number(wanted: Any, *, within: float = 1e-9, seen: Mapping[float, str] | None = None) -> Amiss:
    """A judge of a number.

    Args:
        wanted: the right one, or a function of the facts.
        within: how far from it an answer may lie.
        seen: what is said to numbers that are easily taken for it.
    """

    def amiss(answer: Any, **facts: Any) -> str:
        if isinstance(answer, bool) or not isinstance(answer, Real):
            return f"A number is wanted, got {answer!r}."
        value, right = float(answer), float(_of(wanted, facts))
        if abs(value - right) <= within:
            return ""
        for known, said in (seen or {}).items():
            if math.isclose(value, known, rel_tol=1e-3):
                return said
        return f"{value:g} is too {'large' if value > right else 'small'}."

    return amiss


def word(wanted: Any, among: Sequence[str], seen: Mapping[str, str] | None = None) -> Amiss:
    """A judge of one word out of a few.

    Args:
        wanted: the right one, or a function of the facts.
        among: those that may be written.
        seen: what is said to a wrong one.
    """

    def amiss(answer: Any, **facts: Any) -> str:
        if answer not in among:
            return f"Write one of {', '.join(map(repr, among))}; got {answer!r}."
        return "" if answer == _of(wanted, facts) else (seen or {}).get(answer, f"It is not {answer!r}.")

    return amiss


def these(wanted: Any, among: Sequence[str]) -> Amiss:
    """A judge of a list of words: which of a few, in any order.

    Args:
        wanted: the right ones, or a function of the facts.
        among: those that may be written.
    """

    def amiss(answer: Any, **facts: Any) -> str:
        mine = {answer} if isinstance(answer, str) else set(answer)
        if mine - set(among):
            return f"Choose among {', '.join(map(repr, among))}; got {', '.join(map(repr, mine - set(among)))}."
        right = set(_of(wanted, facts))
        wrong, missing = len(mine - right), len(right - mine)
        return f"{wrong} of yours do not belong, {missing} are missing." if wrong or missing else ""

    return amiss


def parts(**judges: Amiss) -> Amiss:
    """A judge of several answers at once, a tuple in the order of the names or a mapping by them.

    Args:
        **judges: name of a part (underscores for blanks) and its judge.
    """
    named = {name.replace("_", " "): judge for name, judge in judges.items()}

    def amiss(answer: Any, **facts: Any) -> str:
        values = list(answer.values() if isinstance(answer, Mapping) else answer)
        if len(values) != len(named):
            return f"{len(named)} answers are wanted ({', '.join(named)}), got {len(values)}."
        said = {name: judge(value, **facts) for (name, judge), value in zip(named.items(), values, strict=True)}
        return " ".join(f"{name}: {text}" for name, text in said.items() if text)

    return amiss


class Guesses(dict):
    """A reader's predictions by question; `answers` has what came out, once it is revealed."""

    def __init__(self, guesses: Mapping[str, Any]) -> None:
        super().__init__(guesses)
        self.answers: dict[str, str] = {}


def guess(guesses: Mapping[str, Any]) -> Guesses:
    """A reader's predictions, to be answered by `reveal`.

    Args:
        guesses: question and guess; None, "" and "?" for none.
    """
    return Guesses(guesses)


def reveal(
    guesses: Guesses, question: str = "", answer: Any = None, because: str = "", within: float = 0.0
) -> Feedback:
    """What came out beside what was guessed; without a question the tally of all that was revealed.

    Args:
        guesses: of `guess`.
        question: a question, or how it begins.
        answer: what came out, a word or a number; None, nan or "undecided" where the runs do not decide.
        because: what it rests on, with its unit and interval.
        within: how far off a guessed number may be; 0 for a tenth of the answer.
    """
    if not isinstance(guesses, Guesses):
        guesses = Guesses(guesses if isinstance(guesses, Mapping) else {})
    if not question:
        return _tally(guesses)
    if isinstance(answer, Real) and math.isnan(answer):
        answer = None
    name = next((one for one in guesses if str(one).startswith(question)), question)
    mine, told = guesses.get(name), f"{answer:.4g}" if isinstance(answer, Real) else _words(answer)
    if answer is None or told == UNDECIDED:
        state, told = UNDECIDED, told if answer else "nothing that decides it"
    elif untried(mine):
        state = NO_GUESS
    else:
        state = AS_GUESSED if _same(mine, answer, within) else OTHERWISE
    guesses.answers[name] = NO_GUESS if untried(mine) else state
    told += f" ({because})" if because else ""
    return Feedback(f"Guess {name}", state, f"{'Here' if untried(mine) else f'You: {_words(mine)}; here'}: {told}.")


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _same(mine: Any, answer: Any, within: float) -> bool:
    if isinstance(answer, Real) and not isinstance(answer, bool):
        try:
            return abs(float(mine) - float(answer)) <= (within or abs(float(answer)) / 10)
        except (TypeError, ValueError):
            return False
    return _words(mine).strip().casefold() == _words(answer).strip().casefold()


def _tally(guesses: Guesses) -> Feedback:
    """How many of the predictions came out, for a show of hands."""
    states = [guesses.answers.get(name, NO_GUESS) for name in guesses]
    right, left, undecided = (states.count(state) for state in (AS_GUESSED, NO_GUESS, UNDECIDED))
    told = f"{right} of {len(states)} came out so"
    told += f", {left} had no guess" if left else ""
    told += f", {undecided} are not decided" if undecided else ""
    every = right > 0 and right == len(states) - undecided
    state = NO_GUESS if left == len(states) else AS_GUESSED if every else OTHERWISE
    return Feedback("Your guesses", state, told + ".")
