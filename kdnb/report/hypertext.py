"""What a page of the report gets once its words stand: hovers for terms, links to runs and notebooks, scrolling.

A page is read and written once, tag by tag; what is not touched stays as it is, byte for byte.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

from kdnb.report import glossary
from kdnb.report.executed import Executed, Place

_RUN = re.compile(r"[A-Za-z][\w.+@-]*-[0-9a-f]{12}(?![\w-])")  # what may be a run's name
_NO_LINKS = frozenset(("a", "h1", "style", "title"))
_NO_TERMS = _NO_LINKS | frozenset(
    ("abbr", "caption", "code", "dt", "h2", "h3", "h4", "math", "nav", "pre", "summary", "svg", "th")
)
_WIDE = ("arms", "claims", "matrix")  # tables of ours that may be wider than the text
_SCROLLS = '<div class="{}" role="group" tabindex="0" aria-label="{}">'


@dataclass(frozen=True)
class Targets:
    """Where the links of a page lead.

    Attributes:
        runs: run_id -> address; other names of runs stay text.
        files: what notebooks link to, by its name such as 10_entropy_of_targets.ipynb -> address; a link to a file
            that is not among them becomes text.
        glossary: the address of its page, to which a term is a link; "" for hovers alone.
    """

    runs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    glossary: str = ""


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """What the templates link to, in the one file or from a page of the site.

    Attributes:
        of_one_file: everything lies on one page.
        up: from a page of the site to its folder, such as "../".
    """

    of_one_file: bool = False
    up: str = ""

    def run(self, run_id: str) -> str:
        """A run's record."""
        return f"#{run_id}" if self.of_one_file else f"{self.up}runs/{run_id}.html"

    def notebook(self, page: Executed) -> str:
        """An executed notebook."""
        return f"#{page.name}" if self.of_one_file else f"{self.up}notebooks/{page.name}.html"

    def cell(self, place: Place) -> str:
        """A cell of one."""
        return f"#{place.anchor}" if self.of_one_file else f"{self.notebook(place.page)}#{place.anchor}"

    def task(self, task: str, claim: str = "") -> str:
        """A task's page of the site, or a claim on it."""
        return f"{self.up}tasks/{task}.html" + (f"#{task}-{claim}" if claim else "")


def finished(page: str, targets: Targets) -> str:
    """A page with hovers, links, and wide things that scroll by themselves.

    Args:
        page: HTML.
        targets: where its links lead.
    """
    reader = _Page(targets)
    reader.feed(page)
    reader.close()
    return "".join(reader.written)


def _picture(tag: str, given: Mapping[str, str | None]) -> str:
    """An image's tag in a box that scrolls where the screen is narrower than the picture can be read."""
    described = tag if given.get("alt") else tag.replace("<img", '<img alt="a picture that nobody described"', 1)
    return f"{_SCROLLS.format('scroll figure', 'figure')}{described}</div>"


class _Page(HTMLParser):
    def __init__(self, targets: Targets) -> None:
        super().__init__(convert_charrefs=False)
        self.targets = targets
        self.written: list[str] = []
        self.inside: list[str] = []  # the open tags in which some text is left alone
        self.mentioned: set[str] = set()
        self.formula = False  # whether one on a line of its own is open
        self.unlinked = 0  # anchors that became text and are still open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        text, given = self.get_starttag_text() or "", dict(attrs)
        if tag in _NO_TERMS:
            self.inside.append(tag)
        if tag == "a":
            text = self._link(text, given.get("href") or "")
        elif tag == "table":
            text = _SCROLLS.format("scroll wide" if given.get("class") in _WIDE else "scroll", "table") + text
        elif tag == "pre" and "tabindex" not in given:
            text = text.replace("<pre", '<pre tabindex="0"', 1)
        elif tag == "math" and given.get("display") == "block":
            text = f'<span class="scroll formula" role="group" tabindex="0" aria-label="formula">{text}'
            self.formula = True
        elif tag == "img":
            text = _picture(text, given)
        self.written.append(text)

    def _link(self, text: str, address: str) -> str:
        """An anchor's tag: to where a notebook's page lies, or none if the file is not in the report."""
        file = address.partition("#")[0]
        if not file or re.match(r"[a-z]+:", file):
            return text
        if (name := file.rpartition("/")[2]) in self.targets.files:
            return text.replace(html.escape(address), html.escape(self.targets.files[name]), 1)
        if file.endswith((".ipynb", ".md")):
            self.unlinked += 1
            return '<span title="not in this report">'
        return text

    def handle_endtag(self, tag: str) -> None:
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()
        if tag == "a" and self.unlinked:
            self.unlinked -= 1
            self.written.append("</span>")
        else:
            formula = tag == "math" and self.formula
            self.formula &= not formula
            self.written.append(f"</{tag}>" + "</div>" * (tag == "table") + "</span>" * formula)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        text = self.get_starttag_text() or ""
        self.written.append(_picture(text, dict(attrs)) if tag == "img" else text)

    def handle_data(self, data: str) -> None:
        if not _NO_TERMS & set(self.inside):
            data = self._with_terms(data)
        elif not _NO_LINKS & set(self.inside):
            data = _RUN.sub(self._run, data)
        self.written.append(data)

    def _run(self, match: re.Match) -> str:
        address = self.targets.runs.get(match[0])
        return f'<a href="{html.escape(address)}">{match[0]}</a>' if address else match[0]

    def _with_terms(self, text: str) -> str:
        """A text with links to runs, and with the first mention of each term marked."""
        parts, end = [], 0
        for start, stop, term in glossary.mentions(text):
            if term.term in self.mentioned:
                continue
            self.mentioned.add(term.term)
            parts += [_RUN.sub(self._run, text[end:start]), self._hover(text[start:stop], term)]
            end = stop
        return "".join([*parts, _RUN.sub(self._run, text[end:])])

    def _hover(self, words: str, term: glossary.Term) -> str:
        title = html.escape(f"{term.term}: {term.meaning}")
        hover = f'<abbr title="{title}">{words}</abbr>'
        return (
            f'<a class="term" href="{self.targets.glossary}#{term.anchor}">{hover}</a>'
            if self.targets.glossary
            else hover
        )

    def handle_entityref(self, name: str) -> None:
        self.written.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.written.append(f"&#{name};")

    def handle_comment(self, data: str) -> None:
        self.written.append(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        self.written.append(f"<!{decl}>")
