"""What every notebook keeps to, as functions of its path that fail where it does not."""

import ast
import re

import nbformat

HEADINGS = ["predict first", "reading", "try it yourself"]


def read(path):
    return nbformat.read(path, as_version=4)


def tagged(notebook, tag):
    return [i for i, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", [])]


def is_valid_and_clean(path):
    """Valid, and without outputs or attachments."""
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
        assert not cell.get("attachments")
    assert "widgets" not in notebook.metadata
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def has_one_cell_of_literal_parameters(path):
    """One cell of parameters, plain literals, before any other code."""
    notebook = read(path)
    (place,) = tagged(notebook, "parameters")
    cell = notebook.cells[place]
    assert cell.cell_type == "code"
    assert all(other.cell_type == "markdown" for other in notebook.cells[:place])
    names = []
    for statement, line in zip(ast.parse(cell.source).body, filter(None, cell.source.splitlines()), strict=True):
        target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
        names.append(target.id)
        ast.literal_eval(statement.value)
        assert line.count("=") == 1, "papermill's parser skips a line with a second equals sign"
        assert "|" not in line.split("=")[0], "papermill's parser cannot read a union"
    assert "profile" in names


def shows_papermill_its_parameters(path):
    """Papermill's own parser sees every parameter."""
    import papermill

    notebook = read(path)
    source = notebook.cells[tagged(notebook, "parameters")[0]].source
    assert set(papermill.inspect_notebook(str(path))) == set(re.findall(r"^(\w+)", source, re.MULTILINE))


def keeps_the_skeleton(path):
    """Question and time first, the headings in order, solutions last."""
    notebook = read(path)
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    opening = " ".join(cell.source for cell in notebook.cells[: tagged(notebook, "parameters")[0]])
    assert "question" in opening.lower()
    assert re.search(r"second|minute", opening.lower()), "time needed"
    found = [
        line.lstrip("#").strip().lower()
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("#")
    ]
    places = [next((i for i, heading in enumerate(found) if heading.startswith(name)), -1) for name in HEADINGS]
    assert -1 not in places, dict(zip(HEADINGS, places, strict=True))
    assert places == sorted(places)
    solutions = tagged(notebook, "solution")
    assert any(notebook.cells[i].cell_type == "code" for i in solutions)
    exercises = next(
        i
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "markdown" and re.match(r"#+ try it yourself", cell.source.lower())
    )
    assert min(solutions) > exercises


def has_short_cells(path):
    """15 lines a cell beside its imports; one exception is enough."""
    sources = [cell.source.splitlines() for cell in read(path).cells if cell.cell_type == "code"]
    assert max(map(len, sources)) <= 25
    lengths = [sum(not line.startswith(("import ", "from ")) for line in lines) for lines in sources]
    assert sum(length > 15 for length in lengths) <= 1, "15 lines a cell; one exception is enough"


def spells_no_path_and_fetches_nothing(path):
    """No path, no download, no shell."""
    for cell in read(path).cells:
        if cell.cell_type == "code":
            for word in ("getcwd", "open(", "../", "requests.", "urlopen", "pip install", "!", "%cd"):
                assert not re.search(rf"(^|[^=\w]){re.escape(word)}(?!=)", cell.source, re.MULTILINE), word


def links_to_notebooks_that_are_there(path):
    """Every link to a notebook beside it names one."""
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for name in re.findall(r"\]\(([\w./-]+\.ipynb)\)", cell.source):
                assert (path.parent / name).exists(), name


CHECKS = (
    is_valid_and_clean,
    has_one_cell_of_literal_parameters,
    shows_papermill_its_parameters,
    keeps_the_skeleton,
    has_short_cells,
    spells_no_path_and_fetches_nothing,
    links_to_notebooks_that_are_there,
)
