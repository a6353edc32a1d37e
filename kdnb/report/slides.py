"""Decks and handouts of executed notebooks, by the slide types of their cells; reveal.js lies beside them.

A cell's slide type (JupyterLab's property inspector) says where it stands. Of a long text a slide shows the headings,
what is displayed and the first paragraph; the rest becomes the speaker's notes. A handout has it all, on paper.
`python -m kdnb.report.slides [DECK ...]` builds them in outputs/slides/; nothing there needs a network.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from kdnb import files, paths
from kdnb.data import assets
from kdnb.errors import nearest
from kdnb.report import notebooks as runner
from kdnb.report.formulas import mathml


@dataclass(frozen=True)
class Deck:
    """An evening's slides: a title, and the notebooks that they are made of."""

    title: str
    notebooks: tuple[str, ...]


DECKS = {
    "two_things": Deck(
        "Is distillation label smoothing?",
        ("10_entropy_of_targets", "30_kd_vs_ls", "42_two_things_in_one_loss"),
    ),
    "deviations": Deck(
        "Where does a student leave its teacher?",
        ("50_deviations", "51_switching_losses", "52_eigendirections", "53_gradient_denoising"),
    ),
    "language_models": Deck(
        "How is a language model distilled?",
        ("70_word_and_sequence_kd", "71_sparse_targets", "72_speculative_decoding"),
    ),
}
SERVED = ("dist/reset.css", "dist/reveal.css", "dist/reveal.js", "plugin/notes/notes.js", "LICENSE")  # of reveal.js
STARTS = ("slide", "subslide", "fragment")
LEADER = "<details><summary>For the one who leads"


def build(names: Sequence[str] = ()) -> list[Path]:
    """Execute what is not current with its defaults, and write decks and handouts into outputs/slides/.

    Args:
        names: keys of DECKS, () for all.
    Returns:
        The files written, a deck and its handout each.
    Raises:
        ValueError: an unknown deck.
        NotebookFailed: a cell failed.
        MissingAsset: reveal.js is not here and the package index does not answer.
    """
    for name in names:
        if name not in DECKS:
            raise ValueError(f"unknown deck {name!r}{nearest(name, DECKS)}")
    written = []
    serve()
    for name in names or DECKS:
        deck = DECKS[name]
        executed = runner.run_steps([runner.Step(notebook) for notebook in deck.notebooks])
        read = [nbformat.read(path, as_version=4) for path in executed]
        for path, page in ((f"{name}.html", slides(deck.title, read)), (f"{name}_handout.html", handout(deck, read))):
            files.write_atomically(paths.SLIDES / path, page.encode())
            written.append(paths.SLIDES / path)
    return written


def serve() -> Path:
    """Put reveal.js beside the decks; returns its folder."""
    source, target = assets.asset("reveal.js"), paths.SLIDES / "reveal.js"
    for name in SERVED:
        files.write_atomically(target / name, (source / name).read_bytes())
    return target


def slides(title: str, notebooks: Sequence[NotebookNode]) -> str:
    """Executed notebooks as one page of reveal.js."""
    from nbconvert import SlidesExporter

    cells = [part for one in notebooks for part in _slides_of(one)]
    return _exported(SlidesExporter, title, cells, template_file="slides.html", reveal_url_prefix="reveal.js")


def handout(deck: Deck, notebooks: Sequence[NotebookNode]) -> str:
    """The same cells to be read and printed: every text whole, no box of the leader's, no code."""
    from nbconvert import HTMLExporter

    cells = [
        cell
        for notebook in notebooks
        for cell in _without_widgets(notebook)
        if slide_type(cell) != "skip" and not cell.source.startswith(LEADER)
    ]
    return _exported(HTMLExporter, deck.title, cells, template_file="handout.html")


def slide_type(cell: NotebookNode) -> str:
    """Where a cell stands in a deck: slide, subslide, fragment, notes, skip, or "-" (where the one before it does)."""
    return cell.metadata.get("slideshow", {}).get("slide_type", "-") or "-"


def _exported(kind, title: str, cells: Sequence[NotebookNode], **settings: str) -> str:
    """What a kind of exporter makes of some cells, without code, formulas as MathML."""
    from jinja2 import PackageLoader

    shown: dict[str, Any] = dict.fromkeys(("exclude_input", "exclude_output_prompt", "exclude_anchor_links"), True)
    exporter = kind(extra_loaders=[PackageLoader("kdnb", "report/pages")], **shown, **settings)
    book = nbformat.v4.new_notebook(metadata={"title": title})
    for number, cell in enumerate(cells):
        one = nbformat.from_dict({**cell, "id": f"cell-{number}"})
        one.source = _unlinked(mathml(cell.source)) if cell.cell_type == "markdown" else cell.source
        book.cells.append(one)
    page, _ = exporter.from_notebook_node(book)
    return page


def _unlinked(markdown: str) -> str:
    """Links to notebooks as their words alone: a deck does not lie beside them."""
    return re.sub(r"\[([^\]]+)\]\(\d\d_\w+\.ipynb\)", r"\1", markdown)


def _without_widgets(notebook: NotebookNode) -> Iterator[NotebookNode]:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if not any("widget" in kind for kind in one.get("data", {}))]
        yield cell


def _slides_of(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """The cells of a deck in order, each with its type; texts shortened, with notes for the rest of them."""
    for cell in _without_widgets(notebook):
        kind = slide_type(cell)
        if kind == "skip" or (cell.cell_type == "code" and not cell.outputs):
            continue
        if cell.cell_type == "code":
            yield _answers(cell, kind) or cell
        elif kind == "notes":
            yield _markdown(_opened(cell.source), "notes")
        else:
            shown, said = shortened(cell.source)
            yield _markdown(shown, kind)
            if said:
                yield _markdown(said, "notes")


def _answers(cell: NotebookNode, kind: str) -> NotebookNode | None:
    """What `reveal` says as a list, since nobody has guessed in a batch; None of a cell that reveals nothing."""
    texts = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in cell.outputs]
    found = re.findall(r"^Guess (.+?): (?:no guess yet|undecided)\. Here: (.+)$", "\n".join(texts), re.MULTILINE)
    lines = [f"- **{question}:** {answer}" for question, answer in found]
    return _markdown("\n".join(["### The guesses, answered", "", *lines]), kind) if lines else None


def _markdown(source: str, kind: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source, metadata={"slideshow": {"slide_type": kind}})


def _opened(markdown: str) -> str:
    """Without the fold of a leader's box."""
    return re.sub(r"</?details>|<summary>(.*?)</summary>", r"\1", markdown).strip()


def shortened(markdown: str, words: int = 45) -> tuple[str, str]:
    """What a slide shows of a text, and what is said to it.

    Args:
        markdown: of a cell.
        words: after which a paragraph ends with its sentence.
    Returns:
        Headings, lists, displayed formulas, quotations, tables (but that of a title), the first paragraph's beginning
        and the first sentence of each paragraph that begins in bold; the paragraphs that are not shown whole.
    """
    title = markdown.startswith("# ")
    shown, said, prose = [], [], False
    for block in re.split(r"\n\s*\n", markdown.strip()):
        table = block.startswith("|")
        if block.startswith("#") or (table and not title) or re.match(r"\$\$|>|[-*] |\d\. ", block):
            shown.append(block)
            continue
        bold = block.startswith("**")
        if not table and (bold or not prose):
            shown.append(_beginning(block, words if not prose else 1))
        if table or not shown or shown[-1] != block:
            said.append(block)
        prose = prose or not table
    return "\n\n".join(shown), "\n\n".join(said)


def _beginning(paragraph: str, words: int) -> str:
    """Its sentences until there are so many words; a bold lead is no sentence."""
    kept = ""
    for sentence in re.split(r"(?<=[.?!*])\s+(?=[A-Z(*$\"])", paragraph):
        kept = f"{kept} {sentence}".strip()
        if len(kept.split()) >= words and not re.fullmatch(r"\*\*[^*]+\*\*", kept):
            break
    return kept


if __name__ == "__main__":
    try:
        for made in build(sys.argv[1:]):
            print(made)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"on a projector: python -m http.server --bind 127.0.0.1 --directory {paths.SLIDES}; S opens the notes")
