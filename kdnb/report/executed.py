"""Executed notebooks as HTML that is read without running anything: formulas are MathML, code is folded, no script."""

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import nbformat

from kdnb.report.formulas import mathml
from kdnb.report.notebooks import Step


@dataclass(frozen=True, kw_only=True)
class Executed:
    """An executed notebook as HTML.

    Attributes:
        name: of the executed copy, without its ending.
        notebook: which notebook it is of.
        parameters: it was executed with.
        title: its first heading.
        seconds: it took; None if that is not known.
        body: its cells; each is the target of a link to `anchor`.
        shows: cell id -> what its outputs say, as plain text.
    """

    name: str
    notebook: str
    parameters: dict[str, Any]
    title: str
    seconds: float | None
    body: str
    shows: dict[str, str]

    def anchor(self, cell: str) -> str:
        """The id of a cell on a page; of no other notebook's."""
        return f"{self.name}-{cell}"


@dataclass(frozen=True)
class Place:
    """A cell of an executed notebook."""

    page: Executed
    cell: str

    @property
    def anchor(self) -> str:
        """Its id on a page."""
        return self.page.anchor(self.cell)


def read(steps: Iterable[Step]) -> list[Executed]:
    """The notebooks of some steps that have been executed, in their order."""
    there = [step for step in steps if step.output.exists()]
    exporter = _exporter() if there else None
    return [_read(step, exporter) for step in there]


def _exporter():
    """nbconvert's of HTML, without its second reading of every page, which takes twice as long as all else."""
    from jinja2 import PackageLoader
    from nbconvert import HTMLExporter
    from nbconvert.exporters import TemplateExporter
    from nbconvert.filters import Highlight2HTML

    class Once(HTMLExporter):
        def from_notebook_node(self, nb, resources=None, **kw):
            return TemplateExporter.from_notebook_node(self, nb, resources, **kw)

    exporter = Once(
        extra_loaders=[PackageLoader("kdnb", "report/pages")],
        template_file="notebook.html",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    exporter.register_filter("highlight_code", Highlight2HTML(pygments_lexer="python", parent=exporter))
    return exporter


def _read(step: Step, exporter) -> Executed:
    notebook, name = nbformat.read(step.output, as_version=4), step.output.stem
    notebook.metadata.pop("widgets", None)
    title = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            title = title or "".join(re.findall(r"\A# (.+)", cell.source))
            cell.source = mathml(cell.source)
        elif cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_widget(output)]
    _fold_solutions(notebook.cells)
    body, _ = exporter.from_notebook_node(notebook)
    return Executed(
        name=name,
        notebook=step.notebook,
        parameters=step.parameters,
        title=re.sub(r"[*`]|^\d\d · ", "", title) or name,
        seconds=notebook.metadata.get("kdnb", {}).get("seconds"),
        body=body.replace('id="cell-id=', f'id="{html.escape(name)}-'),
        shows={cell.id: _said(cell) for cell in notebook.cells if cell.get("outputs")},
    )


def _is_widget(output) -> bool:
    return any("widget" in kind for kind in output.get("data", {}))


def _fold_solutions(cells: Sequence) -> None:
    """Mark where solutions that follow one another begin and end, for the template; one fold about them is enough."""
    solved = [False, *("solution" in cell.metadata.get("tags", []) for cell in cells), False]
    for place, cell in enumerate(cells, 1):
        cell.metadata["opens"] = solved[place] and not solved[place - 1]
        cell.metadata["closes"] = solved[place] and not solved[place + 1]
        if solved[place] and cell.cell_type == "markdown":
            cell.source = re.sub(r"</?details>|<summary>.*?</summary>", "", cell.source)


def _said(cell) -> str:
    """What a cell's outputs say, as plain text."""
    said = []
    for output in cell.outputs:
        data = output.get("data", {})
        if "text/html" in data:
            said.append(html.unescape(re.sub(r"<style.*?</style>|<[^>]*>", " ", data["text/html"], flags=re.DOTALL)))
        else:
            said.append(data.get("text/plain", output.get("text", "")))
    return "\n".join(said)


def naming(pages: Sequence[Executed], words: str, task: str = "") -> Place | None:
    """The first cell whose outputs have some words, of notebooks on a task before others; None if none has.

    Args:
        pages: where to look.
        words: such as a claim's id.
        task: a key of TASKS, "" for any.
    """
    pattern = re.compile(rf"(?<![\w.]){re.escape(words)}(?![\w.]\w|\w)")
    for page in _of_task_first(pages, task):
        for cell, text in page.shows.items():
            if pattern.search(text):
                return Place(page, cell)
    return None


def printing(pages: Sequence[Executed], numbers: Iterable[str], task: str = "") -> Place | None:
    """The cell whose outputs have most of some numbers as printed; None if none has half of them.

    Args:
        pages: where to look.
        numbers: such as "0.312".
        task: a key of TASKS, "" for any; its notebooks come first.
    """
    wanted, best, most = set(numbers), None, 0
    for page in _of_task_first(pages, task):
        for cell, text in page.shows.items():
            count = len(wanted & set(re.findall(r"\d+\.\d+", text)))
            if count > most:
                best, most = Place(page, cell), count
    return best if best and 2 * most >= len(wanted) else None


def _of_task_first(pages: Sequence[Executed], task: str) -> list[Executed]:
    """Those on a task alone, then those on none in particular."""
    of = [page for page in pages if page.parameters.get("task") == task]
    return of + [page for page in pages if "task" not in page.parameters]
