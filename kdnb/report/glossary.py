"""docs/glossary.md as data: its terms, and in which words a page may mention one."""

import functools
import re
from dataclasses import dataclass

from kdnb import paths
from kdnb.core.config import slug

_ROW = re.compile(r"^\| ([^|]+) \| ((?:[^|\\]|\\.)*)\| (.+) \| \[\d\d\]\(\S*?(\w+)\.ipynb\) \|$", re.MULTILINE)
_ALSO_VERBS = ("cut", "draft", "label", "run")  # mentioned only where an article or the like says that they are nouns
_ARTICLE = re.compile(r"\b(?:an?|the|each|every|one|stored|its|their|of|per|by|this|that) $", re.IGNORECASE)


@dataclass(frozen=True)
class Term:
    """A row of the glossary: term, symbol ("" for none), meaning, and the notebook where it is met."""

    term: str
    symbol: str
    meaning: str
    notebook: str

    @property
    def anchor(self) -> str:
        """Its id on the glossary's page."""
        return f"term-{slug(self.term.lower())}"

    @property
    def words(self) -> tuple[str, ...]:
        """How it is mentioned: by itself, and by its symbol where that is an abbreviation."""
        short = (self.symbol,) if re.fullmatch(r"\w*[A-Z][A-Z-]*[A-Z]\w*|alpha|tau|Tf-KD", self.symbol) else ()
        return (self.term, *short) if "," not in self.term else short


@functools.cache
def terms() -> tuple[Term, ...]:
    """The glossary's rows, in its order."""
    rows = _ROW.findall(paths.GLOSSARY.read_text(encoding="utf-8"))
    return tuple(Term(*(re.sub(r"\\(.)|`", r"\1", cell).strip() for cell in row)) for row in rows)


@functools.cache
def _mentions() -> tuple[re.Pattern[str], dict[str, Term]]:
    of = {word: term for term in terms() for word in term.words}
    longest = sorted(of, key=len, reverse=True)
    spelled = "|".join(re.escape(word) if word != word.lower() else f"(?i:{re.escape(word)})" for word in longest)
    return re.compile(rf"(?<![\w.-])({spelled})(s?)(?![\w-])"), of | {word.lower(): term for word, term in of.items()}


def mentions(text: str) -> list[tuple[int, int, Term]]:
    """Where a text mentions terms: begin, end, term, in order.

    Args:
        text: plain.
    """
    pattern, of = _mentions()
    found = []
    for match in pattern.finditer(text):
        word = match[1]
        before = text[: match.start()]
        if (word.lower() in _ALSO_VERBS and not _ARTICLE.search(before)) or before.endswith("standard "):
            continue  # nor is a standard deviation one of the glossary's
        found.append((match.start(), match.end(), of[word] if word in of else of[word.lower()]))
    return found
